use std::sync::mpsc;
use std::time::Duration;

use super::support::*;

const GET: &str = "GET /a?b=%20 HTTP/1.1\r\nhost: api.example\r\n\r\n";

/// A script whose first connection hands what it reads to the test.
fn recording(answer: &'static str) -> (Script, mpsc::Receiver<String>) {
    let (seen, heads) = mpsc::channel();
    let script = Script::new(move |_, mut peer| {
        while let Some(head) = peer.head() {
            seen.send(head).unwrap();
            peer.send(answer);
        }
    });
    (script, heads)
}

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

#[test]
fn a_permitted_request_arrives_with_its_target_and_without_its_credentials() {
    let (upstream, heads) = recording(OK);
    let edge = Edge::before(upstream.address);
    let mut client = edge.connect();
    client.send(
        "GET /a?b=%20 HTTP/1.1\r\nhost: api.example\r\nauthorization: Bearer fm2_x\r\n\
         x-usher-org: 1\r\nx-forwarded-for: 1.2.3.4\r\nconnection: keep-alive\r\naccept: a/b\r\n\r\n",
    );
    let response = client.head().unwrap();
    assert_eq!(status(&response), 200);
    assert_eq!(client.exactly(2), "ok");
    let head = heads.recv().unwrap();
    assert!(head.starts_with("GET /a?b=%20 HTTP/1.1\r\n"), "{head}");
    let host = upstream.address.to_string();
    for (name, value) in [
        ("host", host.as_str()),
        ("accept", "a/b"),
        ("x-usher-token-id", "00000000-0000-0000-0000-000000000007"),
        ("x-usher-org", "2001"),
        ("x-usher-app", "3001"),
        ("x-forwarded-for", "127.0.0.1"),
        ("x-forwarded-proto", "http"),
        ("x-forwarded-host", "api.example"),
    ] {
        assert_eq!(line(&head, name), Some(value), "{head}");
    }
    assert!(line(&head, "x-usher-decision").is_some(), "{head}");
    assert!(!head.contains("fm2_x"), "{head}");
    assert!(!head.contains("1.2.3.4"), "{head}");
    assert_eq!(line(&head, "connection"), None, "{head}");
}

#[test]
fn connections_are_kept_on_both_sides() {
    let upstream = Script::ok();
    let edge = Edge::before(upstream.address);
    let mut client = edge.connect();
    for _ in 0..5 {
        client.send(GET);
        assert_eq!(status(&client.head().unwrap()), 200);
        assert_eq!(client.exactly(2), "ok");
    }
    let mut other = edge.connect();
    other.send(GET);
    assert_eq!(status(&other.head().unwrap()), 200);
    assert_eq!(upstream.connections(), 1);
    assert_eq!(
        edge.metric(r#"usher_upstream_connections_total{upstream="one",origin="reused"}"#),
        5
    );
}

#[test]
fn a_denied_request_reaches_nothing() {
    let upstream = Script::ok();
    let edge = Edge::before(upstream.address);
    let mut client = edge.connect();
    client.send(
        "POST /denied HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 5\r\n\r\n",
    );
    let head = client.head().unwrap();
    assert_eq!(upstream.connections(), 0);
    assert_eq!(status(&head), 403, "no 100 Continue before the verdict");
    // Whether the five bytes are still to come is for the client to know.
    assert_eq!(line(&head, "connection"), Some("close"));
    let length = line(&head, "content-length").unwrap().parse().unwrap();
    assert!(client.exactly(length).contains(r#""code":"prohibited""#));
}

#[test]
fn a_refused_upload_learns_why() {
    let upstream = Script::ok();
    let edge = Edge::before(upstream.address);
    let mut client = edge.connect();
    client.send("POST /denied HTTP/1.1\r\nhost: a\r\ncontent-length: 1000000\r\n\r\n");
    client.send("x".repeat(1_000_000));
    let head = client.head().unwrap();
    assert_eq!(upstream.connections(), 0);
    assert_eq!(status(&head), 403);
    assert_eq!(line(&head, "connection"), Some("close"));
}

#[test]
fn a_body_is_asked_for_once_it_is_permitted() {
    let upstream = Script::new(|_, mut peer| {
        let head = peer.head().unwrap();
        assert_eq!(line(&head, "expect"), None);
        assert_eq!(line(&head, "content-length"), Some("5"));
        assert_eq!(peer.exactly(5), "hello");
        peer.send(OK);
    });
    let edge = Edge::before(upstream.address);
    let mut client = edge.connect();
    client.send("POST /a HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 5\r\n\r\n");
    assert_eq!(status(&client.head().unwrap()), 100);
    client.send("hello");
    assert_eq!(status(&client.head().unwrap()), 200);
}

#[test]
fn bodies_stream_both_ways_with_their_trailers() {
    let upstream = Script::new(|_, mut peer| {
        let head = peer.head().unwrap();
        assert_eq!(line(&head, "transfer-encoding"), Some("chunked"));
        assert_eq!(peer.until("\r\none\r\n").unwrap(), "3");
        // The first part of the response leaves before the request is complete.
        peer.send(
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: x-sum\r\n\r\n3\r\nuno\r\n",
        );
        let rest = peer.until("\r\n\r\n").unwrap();
        assert_eq!(rest, "3\r\ntwo\r\n0\r\nx-sum: 9");
        peer.send("3\r\ndos\r\n0\r\nx-sum: 8\r\nx-usher-org: 1\r\n\r\n");
    });
    let edge = Edge::before(upstream.address);
    let mut client = edge.connect();
    client.send(
        "POST /a HTTP/1.1\r\nhost: a\r\nte: trailers\r\ntrailer: x-sum, authorization\r\n\
         transfer-encoding: chunked\r\n\r\n3\r\none\r\n",
    );
    assert_eq!(status(&client.head().unwrap()), 200);
    assert_eq!(client.until("\r\nuno\r\n").unwrap(), "3");
    client.send("3\r\ntwo\r\n0\r\nx-sum: 9\r\nauthorization: Bearer fm2_x\r\n\r\n");
    let rest = client.until("\r\n\r\n").unwrap();
    assert_eq!(rest, "3\r\ndos\r\n0\r\nx-sum: 8");
    // Nothing that follows request trailers is taken for a request.
    client.try_send(GET.as_bytes());
    assert_eq!(client.rest(), "");
}

/// Many times what any buffer on the way holds, so that every wait on it is met.
#[test]
fn large_bodies_pass_both_ways_on_many_connections() {
    const SIZE: usize = 4 * 1024 * 1024;
    let upstream = Script::new(|_, mut peer| {
        while peer.head().is_some() {
            let body = peer.exactly(SIZE);
            peer.send(format!("HTTP/1.1 200 OK\r\ncontent-length: {SIZE}\r\n\r\n"));
            peer.send(body);
        }
    });
    let edge = Edge::before(upstream.address);
    let upload = |number: usize| {
        let mut client = edge.connect();
        let body: String = (0..SIZE)
            .map(|at| char::from(b'a' + ((at / 7 + number) % 26) as u8))
            .collect();
        for _ in 0..3 {
            client.send(format!(
                "PUT /a HTTP/1.1\r\nhost: a\r\ncontent-length: {SIZE}\r\n\r\n"
            ));
            client.send(&body);
            assert_eq!(status(&client.head().unwrap()), 200);
            assert!(client.exactly(SIZE) == body);
        }
    };
    std::thread::scope(|scope| {
        for number in 0..4 {
            let upload = &upload;
            scope.spawn(move || upload(number));
        }
    });
    assert!(upstream.connections() <= 4, "they are kept");
}

#[test]
fn an_early_response_ends_both_connections() {
    let (ended, end) = mpsc::channel();
    let upstream = Script::new(move |_, mut peer| {
        peer.head().unwrap();
        peer.send("HTTP/1.1 413 Too Large\r\ncontent-length: 2\r\n\r\nno");
        peer.rest();
        ended.send(()).unwrap();
    });
    let edge = Edge::before(upstream.address);
    let mut client = edge.connect();
    client.send("POST /a HTTP/1.1\r\nhost: a\r\ncontent-length: 1000000\r\n\r\nbegin");
    let head = client.head().unwrap();
    assert_eq!(status(&head), 413);
    assert_eq!(line(&head, "connection"), Some("close"));
    assert_eq!(client.rest(), "no");
    end.recv_timeout(Duration::from_secs(20)).unwrap();
}

#[test]
fn a_client_that_leaves_takes_its_request_along() {
    let (seen, head) = mpsc::channel();
    let (ended, end) = mpsc::channel();
    let upstream = Script::new(move |_, mut peer| {
        seen.send(peer.head().unwrap()).unwrap();
        assert_eq!(peer.rest(), "");
        ended.send(()).unwrap();
    });
    let edge = Edge::before(upstream.address);
    let mut client = edge.connect();
    client.send(GET);
    head.recv().unwrap();
    drop(client);
    end.recv_timeout(Duration::from_secs(20)).unwrap();
}

#[test]
fn a_response_that_breaks_off_does_not_end_cleanly() {
    let (read, go) = mpsc::channel();
    let go = std::sync::Mutex::new(go);
    let upstream = Script::new(move |_, mut peer| {
        peer.head().unwrap();
        peer.send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nuno\r\n");
        go.lock().unwrap().recv().unwrap();
    });
    let edge = Edge::before(upstream.address);
    let mut client = edge.connect();
    client.send(GET);
    assert_eq!(status(&client.head().unwrap()), 200);
    assert_eq!(client.exactly(8), "3\r\nuno\r\n");
    read.send(()).unwrap();
    assert_eq!(client.rest(), "", "no last chunk");
}

#[test]
fn a_parked_connection_that_died_is_replaced_for_any_method() {
    let (closed, close) = mpsc::channel();
    let upstream = Script::new(move |number, mut peer| {
        peer.head().unwrap();
        peer.send(OK);
        if number == 0 {
            drop(peer);
            closed.send(()).unwrap();
        }
    });
    let edge = Edge::before(upstream.address);
    let mut client = edge.connect();
    client.send(GET);
    assert_eq!(status(&client.head().unwrap()), 200);
    client.exactly(2);
    close.recv().unwrap();
    client.send("POST /a HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n");
    assert_eq!(status(&client.head().unwrap()), 200);
    assert_eq!(upstream.connections(), 2);
}

#[test]
fn what_follows_a_response_is_not_the_answer_to_another_request() {
    for first in [
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        "HTTP/1.1 204 No Content\r\n\r\n",
    ] {
        let upstream = Script::new(move |number, mut peer| {
            while peer.head().is_some() {
                match number {
                    0 => peer.send(format!("{first}HTTP/1.1 418 Surplus\r\n\r\n")),
                    _ => peer.send(OK),
                }
            }
        });
        let edge = Edge::before(upstream.address);
        let mut client = edge.connect();
        client.send(GET);
        let head = client.head().unwrap();
        if status(&head) == 200 {
            client.until("\r\n0\r\n\r\n").unwrap();
        }
        client.send(GET);
        assert_eq!(status(&client.head().unwrap()), 200, "{first}");
        assert_eq!(client.exactly(2), "ok");
        assert_eq!(upstream.connections(), 2, "{first}");
    }
}

#[test]
fn a_request_that_may_have_been_read_is_not_repeated() {
    let upstream = Script::new(|_, mut peer| {
        peer.head().unwrap();
    });
    let edge = Edge::before(upstream.address);
    let mut client = edge.connect();
    client.send(GET);
    assert_eq!(status(&client.head().unwrap()), 500);
    assert_eq!(upstream.connections(), 1);
}

#[test]
fn an_upstream_that_is_away_is_a_502_and_then_a_503() {
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = gone.local_addr().unwrap();
    drop(gone);
    let edge = Edge::before(address);
    let mut client = edge.connect();
    let mut ask = || {
        client.send(GET);
        let head = client.head().unwrap();
        let length = line(&head, "content-length").unwrap().parse().unwrap();
        let body = client.exactly(length);
        let status = status(&head);
        let code = match status {
            502 => "upstream-connect",
            503 => "upstream-unavailable",
            _ => panic!("{head}"),
        };
        assert!(body.contains(code), "{body}");
        status
    };
    assert_eq!(ask(), 502);
    // A request that comes late finds that the server is asked once more.
    let next = (0..100).map(|_| ask()).find(|status| *status != 502);
    assert_eq!(next, Some(503));
}

#[test]
fn responses_framed_in_two_ways_are_not_passed_on() {
    for answer in [
        "HTTP/1.1 200 OK\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n",
    ] {
        let (upstream, _heads) = recording(answer);
        let edge = Edge::before(upstream.address);
        let mut client = edge.connect();
        client.send(GET);
        assert_eq!(status(&client.head().unwrap()), 500, "{answer}");
    }
}

#[test]
fn bytes_that_nobody_asked_for_end_a_connection() {
    let (upstream, _heads) =
        recording("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nokHTTP/1.1 200 OK\r\n\r\n");
    let edge = Edge::before(upstream.address);
    let mut client = edge.connect();
    for _ in 0..2 {
        client.send(GET);
        assert_eq!(status(&client.head().unwrap()), 200);
        client.exactly(2);
    }
    assert_eq!(upstream.connections(), 2);
}

#[test]
fn a_slow_upstream_is_a_504_and_a_slow_client_a_408() {
    let upstream = Script::new(|_, mut peer| {
        peer.head().unwrap();
        peer.rest();
    });
    let short = Duration::from_millis(100);
    let mut timeouts = timeouts();
    timeouts.response_head = short;
    timeouts.idle = short;
    let edge = Edge::with(upstream.address, timeouts, limits());
    let mut client = edge.connect();
    client.send(GET);
    assert_eq!(status(&client.head().unwrap()), 504);
    let mut client = edge.connect();
    client.send("POST /a HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\nslow");
    assert_eq!(status(&client.head().unwrap()), 408);
}

#[test]
fn a_response_that_falls_silent_is_cut() {
    let upstream = Script::new(|_, mut peer| {
        peer.head().unwrap();
        peer.send("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf");
        peer.rest();
    });
    let mut timeouts = timeouts();
    timeouts.idle = Duration::from_millis(100);
    let edge = Edge::with(upstream.address, timeouts, limits());
    let mut client = edge.connect();
    client.send(GET);
    assert_eq!(status(&client.head().unwrap()), 200);
    assert_eq!(client.rest(), "half");
}

#[test]
fn a_client_that_does_not_read_is_cut() {
    let (ended, end) = mpsc::channel();
    let upstream = Script::new(move |_, mut peer| {
        peer.head().unwrap();
        peer.send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n");
        let chunk = format!("10000\r\n{}\r\n", "x".repeat(0x10000));
        while peer.try_send(chunk.as_bytes()) {}
        ended.send(()).unwrap();
    });
    let mut timeouts = timeouts();
    timeouts.idle = Duration::from_millis(200);
    let edge = Edge::with(upstream.address, timeouts, limits());
    let mut client = edge.connect();
    client.send(GET);
    assert_eq!(status(&client.head().unwrap()), 200);
    end.recv_timeout(Duration::from_secs(20)).unwrap();
}

#[test]
fn heads_that_do_not_come_are_not_waited_for() {
    let upstream = Script::ok();
    let mut timeouts = timeouts();
    timeouts.request_head = Duration::from_millis(100);
    let edge = Edge::with(upstream.address, timeouts, limits());
    for begin in ["", "GET / HT", "PRI * HTTP/2.0\r\n"] {
        let mut client = edge.connect();
        client.send(begin);
        assert_eq!(client.rest(), "", "{begin}");
    }
    let mut idle = edge.connect();
    idle.send(GET);
    assert_eq!(status(&idle.head().unwrap()), 200);
    assert_eq!(idle.rest(), "ok");
}

#[test]
fn responses_without_a_body_keep_their_headers_and_the_connection() {
    let upstream = Script::new(|_, mut peer| {
        while let Some(head) = peer.head() {
            peer.send(if head.starts_with("HEAD") {
                "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n"
            } else if head.starts_with("DELETE") {
                "HTTP/1.1 204 No Content\r\n\r\n"
            } else {
                "HTTP/1.1 304 Not Modified\r\netag: \"1\"\r\n\r\n"
            });
        }
    });
    let edge = Edge::before(upstream.address);
    let mut client = edge.connect();
    for (method, expected, name, value) in [
        ("HEAD", 200, "content-length", Some("2")),
        ("DELETE", 204, "content-length", None),
        ("GET", 304, "etag", Some("\"1\"")),
    ] {
        client.send(format!("{method} /a HTTP/1.1\r\nhost: a\r\n\r\n"));
        let head = client.head().unwrap();
        assert_eq!(status(&head), expected, "{method}");
        assert_eq!(line(&head, name), value, "{method}");
    }
    assert_eq!(upstream.connections(), 1);
}

#[test]
fn ambiguous_requests_end_the_connection_and_reach_nothing() {
    let upstream = Script::ok();
    let edge = Edge::before(upstream.address);
    for (request, expected) in [
        ("GET /a HTTP/1.1\r\n\r\n", 400),
        ("GET /a HTTP/1.1\r\nhost: a\r\nhost: a\r\n\r\n", 400),
        ("GET http://b/a HTTP/1.1\r\nhost: a\r\n\r\n", 400),
        ("GET /a HTTP/1.1\r\nhost: a\r\nx_usher_org: 1\r\n\r\n", 400),
        (
            "GET /a HTTP/1.1\r\nhost: a\r\nconnection: x-usher-org\r\n\r\n",
            400,
        ),
        (
            "POST /a HTTP/1.1\r\nhost: a\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
            400,
        ),
        ("GET /a HTTP/1.0\r\nhost: a\r\n\r\n", 505),
        ("TRACE /a HTTP/1.1\r\nhost: a\r\n\r\n", 405),
        ("CONNECT a:1 HTTP/1.1\r\nhost: a:1\r\n\r\n", 405),
    ] {
        let mut client = edge.connect();
        client.send(request);
        let head = client.head().unwrap();
        assert_eq!(upstream.connections(), 0, "{request}");
        assert_eq!(status(&head), expected, "{request}");
        assert!(client.rest().contains(r#""code":"#), "{request}");
    }
}

#[test]
fn a_panic_ends_its_own_connection_only() {
    let upstream = Script::ok();
    let edge = Edge::before(upstream.address);
    let mut healthy = edge.connect();
    healthy.send(GET);
    assert_eq!(status(&healthy.head().unwrap()), 200);
    healthy.exactly(2);
    let mut client = edge.connect();
    client.send("GET /panic HTTP/1.1\r\nhost: a\r\n\r\n");
    assert_eq!(client.rest(), "");
    healthy.send(GET);
    assert_eq!(status(&healthy.head().unwrap()), 200);
    assert_eq!(edge.metric("usher_connections_open"), 1);
}

#[test]
fn connections_over_the_limit_are_closed() {
    let upstream = Script::ok();
    let mut limits = limits();
    limits.connections_per_address = 1;
    let edge = Edge::with(upstream.address, timeouts(), limits);
    let mut first = edge.connect();
    first.send(GET);
    assert_eq!(status(&first.head().unwrap()), 200);
    assert_eq!(edge.connect().rest(), "");
    assert_eq!(
        edge.metric(r#"usher_connections_refused_total{limit="address"}"#),
        1
    );
}
