//! An upstream that is away, breaks off or keeps silent.

use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use socket2::{Domain, Socket, Type};
use usher::authority::Kind;

use crate::support::{Recorder, World};

const DEPLOY: Kind = Kind::Deploy {
    org: 2001,
    app: 3001,
};

/// An address at which nobody listens, nor will while the socket is kept.
fn nobody() -> (Socket, SocketAddr) {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    socket.bind(&any.into()).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    (socket, address)
}

#[test]
fn an_upstream_that_is_away_leaves_the_request_free_to_be_repeated() {
    let (_socket, nobody) = nobody();
    let usher = World::before(nobody).start();
    let token = usher.credential(&DEPLOY);
    let ask = || usher.ask("POST /v1/apps/web/machines", Some(&token));
    let answer = ask();
    assert_eq!((answer.status, &*answer.code()), (502, "upstream-connect"));
    assert_eq!(answer.line("retry-after"), None);
    // A request that comes late finds that the server is asked once more.
    let mut answers = (0..100).map(|_| ask());
    let answer = answers.find(|answer| answer.status != 502).unwrap();
    assert_eq!(
        (answer.status, &*answer.code()),
        (503, "upstream-unavailable")
    );
    assert_eq!(answer.line("retry-after"), Some("1"));
    // Who may not ask does not learn that it is away.
    let answer = usher.ask("POST /v1/apps/api/machines", Some(&token));
    assert_eq!((answer.status, &*answer.code()), (403, "prohibited"));
}

/// flyctl waits a random time, up to 100, 200 and 400 ms, before its three repetitions.
#[test]
fn an_upstream_that_comes_back_is_found_before_clients_give_up() {
    let (socket, address) = nobody();
    let usher = World::before(address).start();
    let token = usher.credential(&DEPLOY);
    let ask = || usher.ask("POST /v1/apps/web/machines", Some(&token));
    assert_eq!(ask().status, 502);
    let upstream = Recorder::answering_at(socket, |_| {
        b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n".to_vec()
    });
    let mut patience = [50, 100, 200].map(Duration::from_millis).into_iter();
    let answer = patience.find_map(|pause| {
        thread::park_timeout(pause);
        Some(ask()).filter(|answer| answer.status != 503)
    });
    assert_eq!(answer.expect("it came back").status, 200);
    assert_eq!(upstream.requests().len(), 1, "it was sent once");
}

#[test]
fn one_server_of_several_that_is_away_is_not_noticed() {
    let upstream = Recorder::ok();
    let (_socket, nobody) = nobody();
    let usher = World::before(upstream.address)
        .with("urls: [ ", format_args!("urls: [ \"http://{nobody}\", "))
        .start();
    let token = usher.credential(&DEPLOY);
    for _ in 0..4 {
        let answer = usher.ask("POST /v1/apps/web/machines", Some(&token));
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    assert_eq!(upstream.requests().len(), 4);
}

#[test]
fn a_request_that_may_have_been_acted_on_is_not_for_repeating() {
    let upstream = Recorder::script(|exchange| {
        // Read, and never answered.
        exchange.request();
    });
    let usher = World::before(upstream.address).start();
    let token = usher.credential(&DEPLOY);
    for request in ["GET /v1/apps/web", "POST /v1/apps/web/machines"] {
        let answer = usher.ask(request, Some(&token));
        assert_eq!((answer.status, &*answer.code()), (500, "upstream-failed"));
        assert_eq!(answer.line("retry-after"), None);
    }
    assert_eq!(upstream.requests().len(), 2, "each was sent once");
}

#[test]
fn an_upstream_that_keeps_silent_is_not_waited_for() {
    let upstream = Recorder::script(|exchange| {
        exchange.request();
        // Until usher has had enough.
        exchange.peer.rest();
    });
    let usher = World::before(upstream.address)
        .and("timeouts: { response_head: 100ms }")
        .start();
    let token = usher.credential(&DEPLOY);
    let answer = usher.ask("POST /v1/apps/web/machines", Some(&token));
    assert_eq!((answer.status, &*answer.code()), (504, "upstream-timeout"));
    assert_eq!(upstream.requests().len(), 1);
}
