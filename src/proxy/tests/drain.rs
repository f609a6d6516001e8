use std::sync::mpsc;
use std::time::Duration;

use super::support::*;

const GET: &str = "GET /a HTTP/1.1\r\nhost: a\r\n\r\n";

/// An upstream that answers when the test says so.
fn waiting() -> (Script, mpsc::Receiver<()>, mpsc::Sender<()>) {
    let (arrived, arrivals) = mpsc::channel();
    let (go, gone) = mpsc::channel();
    let gone = std::sync::Mutex::new(gone);
    let script = Script::new(move |_, mut peer| {
        while peer.head().is_some() {
            arrived.send(()).unwrap();
            if gone.lock().unwrap().recv().is_err() {
                return;
            }
            peer.send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
        }
    });
    (script, arrivals, go)
}

#[test]
fn a_drain_closes_idle_connections_and_finishes_busy_ones() {
    let (upstream, arrivals, go) = waiting();
    let mut edge = Edge::before(upstream.address);
    let (mut fresh, mut idle, mut busy) = (edge.connect(), edge.connect(), edge.connect());
    idle.send(GET);
    arrivals.recv().unwrap();
    go.send(()).unwrap();
    assert_eq!(status(&idle.head().unwrap()), 200);
    busy.send(GET);
    arrivals.recv().unwrap();

    edge.shutdown.drain.cancel();
    assert_eq!(idle.rest(), "ok");
    assert_eq!(fresh.rest(), "");
    go.send(()).unwrap();
    let head = busy.head().unwrap();
    assert_eq!(status(&head), 200);
    assert_eq!(line(&head, "connection"), Some("close"));
    assert_eq!(busy.rest(), "ok");
    edge.join();
    assert!(std::net::TcpStream::connect(edge.address).is_err());
    assert_eq!(edge.metric("usher_drain_aborted_total"), 0);
}

#[test]
fn what_outlasts_the_drain_is_cut_and_counted() {
    let (upstream, arrivals, _go) = waiting();
    let mut timeouts = timeouts();
    timeouts.drain = Duration::from_millis(100);
    let mut edge = Edge::with(upstream.address, timeouts, limits());
    let mut busy = edge.connect();
    busy.send(GET);
    arrivals.recv().unwrap();
    edge.shutdown.drain.cancel();
    assert_eq!(busy.rest(), "");
    edge.join();
    assert_eq!(edge.metric("usher_drain_aborted_total"), 1);
}

#[test]
fn a_second_signal_does_not_wait() {
    let (upstream, arrivals, _go) = waiting();
    let mut edge = Edge::before(upstream.address);
    let mut busy = edge.connect();
    busy.send(GET);
    arrivals.recv().unwrap();
    edge.shutdown.drain.cancel();
    edge.shutdown.cut.cancel();
    assert_eq!(busy.rest(), "");
    edge.join();
    assert_eq!(edge.metric("usher_drain_aborted_total"), 1);
}
