//! Upstreams that answer in ways that could be read as something else, or as the answer to another
//! request. None of their connections is used again.

use std::sync::mpsc;

use usher::authority::Kind;

use crate::support::{Answer, DEADLINE, Peer, Recorder, Usher, World};

const DEPLOY: Kind = Kind::Deploy {
    org: 2001,
    app: 3001,
};

/// Answers each request of every connection with the same bytes.
fn always(answer: &'static str) -> Recorder {
    Recorder::script(
        move |exchange| {
            while exchange.request().is_some() && exchange.peer.try_send(answer) {}
        },
    )
}

/// Sends a request on a connection that stays open.
fn ask(peer: &mut Peer, request: &str, token: &str) {
    peer.send(format!(
        "{request} HTTP/1.1\r\nhost: usher.test\r\nauthorization: {token}\r\n\r\n"
    ));
}

/// Asks twice, and says what came. Each time the upstream has to be connected to anew.
fn twice(answer: &'static str) -> Vec<Answer> {
    let upstream = always(answer);
    let usher = World::before(upstream.address).start();
    let token = usher.credential(&DEPLOY);
    let answers = (1..=2).map(|times| {
        let answer = usher.ask("POST /v1/apps/web/machines", Some(&token));
        assert_eq!(
            upstream.connections(),
            times,
            "{:?} was used again",
            answer.head
        );
        assert_eq!(
            upstream.requests().len(),
            times,
            "it was sent once each time"
        );
        answer
    });
    answers.collect()
}

#[test]
fn a_response_that_can_be_framed_in_two_ways_is_not_passed_on() {
    for lines in [
        "content-length: 5\r\ntransfer-encoding: chunked",
        "transfer-encoding: chunked\r\ncontent-length: 5",
        "content-length: 5\r\ncontent-length: 6",
        "content-length: 5, 6",
        "content-length: +5",
        "content-length: 0x5",
        "content-length: -1",
        "content-length:",
        "content-length: 99999999999999999999",
        "transfer-encoding: gzip, chunked",
        "transfer-encoding: chunked, gzip",
        "transfer-encoding: gzip",
        "transfer-encoding: identity",
        "transfer-encoding: chunked\r\ntransfer-encoding: chunked",
        "transfer-encoding: chunked, chunked",
        "transfer-encoding: xchunked",
        "transfer-encoding : chunked",
        "x-a: b\0",
        "x a: b\r\ncontent-length: 0",
        " folded: yes",
    ] {
        let answer: &'static str =
            format!("HTTP/1.1 200 OK\r\n{lines}\r\n\r\n0\r\n\r\nHTTP/1.1 200 OK\r\n\r\n").leak();
        for answer in twice(answer) {
            assert_eq!(answer.status, 500, "{lines}: {}", answer.head);
            let code = answer.code();
            let known = ["upstream-failed", "upstream-bad-response"];
            assert!(known.contains(&&*code), "{lines}: {code}");
        }
    }
}

#[test]
fn what_is_no_response_is_not_passed_on() {
    for answer in [
        "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n",
        "HTTP/2.0 200 OK\r\n\r\n",
        "HTTP/1.1 2000 OK\r\n\r\n",
        "HTTP/1.1 99 Low\r\n\r\n",
        "HTTP/0.9 200 OK\r\n\r\n",
        "200 OK\r\n\r\n",
        "<html>hello</html>\r\n\r\n",
        "\0\0\0\0\r\n\r\n",
    ] {
        for got in twice(answer) {
            assert_eq!(got.status, 500, "{answer:?}: {}", got.head);
            assert!(got.code().starts_with("upstream-"), "{answer:?}");
        }
    }
}

#[test]
fn a_response_head_has_a_bound() {
    for (length, expected) in [(60_000, 200), (200_000, 500)] {
        let upstream = Recorder::answering(move |_| {
            let line = "x".repeat(length);
            format!("HTTP/1.1 200 OK\r\nx-long: {line}\r\ncontent-length: 0\r\n\r\n").into_bytes()
        });
        let usher = World::before(upstream.address).start();
        let token = usher.credential(&DEPLOY);
        let answer = usher.ask("POST /v1/apps/web/machines", Some(&token));
        assert_eq!(answer.status, expected, "{length}");
        assert_eq!(upstream.requests().len(), 1);
    }
}

#[test]
fn interim_responses_come_to_an_end() {
    let upstream = Recorder::script(|exchange| {
        exchange.request();
        while exchange
            .peer
            .try_send("HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n")
        {}
    });
    let usher = World::before(upstream.address).start();
    let token = usher.credential(&DEPLOY);
    let answer = usher.ask("POST /v1/apps/web/machines", Some(&token));
    assert_eq!((answer.status, &*answer.code()), (500, "upstream-failed"));
    assert_eq!((upstream.connections(), upstream.requests().len()), (1, 1));
}

#[test]
fn an_interim_response_does_not_put_off_the_deadline() {
    let upstream = Recorder::script(|exchange| {
        exchange.request();
        exchange.peer.send("HTTP/1.1 102 Processing\r\n\r\n");
        exchange.peer.rest();
    });
    let usher = World::before(upstream.address)
        .and("timeouts: { response_head: 300ms }")
        .start();
    let token = usher.credential(&DEPLOY);
    let answer = usher.ask("POST /v1/apps/web/machines", Some(&token));
    assert_eq!((answer.status, &*answer.code()), (504, "upstream-timeout"));
    assert_eq!((upstream.connections(), upstream.requests().len()), (1, 1));
}

#[test]
fn a_few_interim_responses_are_skipped() {
    let upstream = always(
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n\
         HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok",
    );
    let usher = World::before(upstream.address).start();
    let answer = usher.ask("GET /v1/apps/web", Some(&usher.credential(&DEPLOY)));
    assert_eq!((answer.status, answer.text()), (200, "ok"));
    assert_eq!(answer.line("link"), None);
}

/// Asks for what is answered well.
fn ask_well(usher: &Usher) {
    let token = usher.credential(&DEPLOY);
    let mut peer = usher.connect();
    ask(&mut peer, "GET /v1/apps/web", &token);
    assert!(peer.head().unwrap().starts_with("HTTP/1.1 200"));
    assert_eq!(peer.exactly(2), b"ok");
}

#[test]
fn what_comes_after_a_response_belongs_to_nobody() {
    for (answer, expected) in [
        ("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok", 1),
        ("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok!", 2),
        (
            "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nokHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nno",
            2,
        ),
        (
            "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nokHTTP/1.1 100 Continue\r\n\r\n",
            2,
        ),
        (
            "HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok",
            2,
        ),
        ("HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nok", 2),
    ] {
        let upstream = always(answer);
        let usher = World::before(upstream.address).start();
        ask_well(&usher);
        ask_well(&usher);
        assert_eq!(upstream.connections(), expected, "{answer:?}");
    }
}

#[test]
fn what_comes_after_a_long_response_belongs_to_nobody_either() {
    for (extra, expected) in [
        ("", 1),
        ("!", 2),
        ("HTTP/1.1 200 OK\r\ncontent-length: 40\r\n\r\n", 2),
    ] {
        let body = "x".repeat(20_000);
        let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: 20000\r\n\r\n{body}{extra}");
        let upstream = always(answer.leak());
        let usher = World::before(upstream.address).start();
        let token = usher.credential(&DEPLOY);
        for _ in 0..2 {
            let answer = usher.ask("GET /v1/apps/web", Some(&token));
            assert_eq!((answer.status, answer.body.len()), (200, 20_000));
        }
        assert_eq!(upstream.connections(), expected, "{extra:?}");
    }
}

#[test]
fn what_comes_while_nobody_asks_is_nobodys_answer() {
    let (sent, unasked) = mpsc::channel();
    let upstream = Recorder::script(move |exchange| {
        exchange.request();
        exchange
            .peer
            .send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
        exchange
            .peer
            .send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nno");
        sent.send(()).unwrap();
        // usher closes it: at the next request, or when it looks after what is parked.
        exchange.peer.rest();
    });
    let usher = World::before(upstream.address).start();
    ask_well(&usher);
    unasked.recv_timeout(DEADLINE).unwrap();
    ask_well(&usher);
    assert_eq!((upstream.connections(), upstream.requests().len()), (2, 2));
}

#[test]
fn a_body_without_a_length_ends_with_its_connection() {
    for version in ["1.0", "1.1"] {
        let upstream = Recorder::script(move |exchange| {
            exchange.request();
            exchange
                .peer
                .send(format!("HTTP/{version} 200 OK\r\n\r\nok"));
        });
        let usher = World::before(upstream.address).start();
        let token = usher.credential(&DEPLOY);
        for times in 1..=2 {
            let answer = usher.ask("GET /v1/apps/web", Some(&token));
            assert_eq!((answer.status, answer.text()), (200, "ok"), "{version}");
            assert_eq!(answer.line("transfer-encoding"), Some("chunked"));
            assert_eq!(upstream.connections(), times);
        }
    }
}

#[test]
fn an_answer_before_the_end_of_the_request_ends_the_connection() {
    let upstream = Recorder::script(|exchange| {
        exchange.peer.head();
        exchange
            .peer
            .send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
        exchange.peer.rest();
    });
    let usher = World::before(upstream.address).start();
    let token = usher.credential(&DEPLOY);
    for times in 1..=2 {
        let mut peer = usher.connect();
        peer.send(format!(
            "POST /v1/apps/web/machines HTTP/1.1\r\nhost: usher.test\r\n\
             authorization: {token}\r\ncontent-length: 100\r\n\r\nbegin"
        ));
        let answer = peer.answer();
        assert_eq!((answer.status, answer.text()), (200, "ok"));
        assert_eq!(answer.line("connection"), Some("close"));
        assert!(peer.rest().is_empty());
        assert_eq!(upstream.connections(), times);
    }
    let begun = upstream.bytes();
    assert!(
        begun.windows(5).any(|part| part == b"begin"),
        "it was asked"
    );
}

#[test]
fn the_head_of_a_response_has_a_bound() {
    let many = "x-a: b\r\n".repeat(200);
    let long = format!("x-a: {}\r\n", "b".repeat(1_000_000));
    for lines in [many, long] {
        let answer: &'static str =
            format!("HTTP/1.1 200 OK\r\n{lines}content-length: 2\r\n\r\nok").leak();
        for answer in twice(answer) {
            assert_eq!((answer.status, &*answer.code()), (500, "upstream-failed"));
        }
    }
}
