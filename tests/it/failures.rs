//! An upstream that is away, breaks off or keeps silent.

use std::net::SocketAddr;

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
    for (status, code, retry) in [
        (502, "upstream-connect", None),
        (503, "upstream-unavailable", Some("1")),
    ] {
        let answer = usher.ask("POST /v1/apps/web/machines", Some(&token));
        assert_eq!((answer.status, &*answer.code()), (status, code));
        assert_eq!(answer.line("retry-after"), retry);
    }
    // Who may not ask does not learn that it is away.
    let answer = usher.ask("POST /v1/apps/api/machines", Some(&token));
    assert_eq!((answer.status, &*answer.code()), (403, "prohibited"));
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
