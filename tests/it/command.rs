//! usher as a process: started, asked, told to end; and its commands beside it.

use std::net::TcpStream;
use std::path::Path;
use std::sync::{Mutex, mpsc};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::support::{
    Answer, DEADLINE, Peer, Process, Recorder, World, distinct, run_usher, until,
};

/// Runs a command on a configuration; its standard output.
#[track_caller]
fn usher(config: &Path, arguments: &[&str]) -> String {
    let arguments = [arguments, &["--config", config.to_str().unwrap()]].concat();
    let ended = run_usher(&arguments);
    assert_eq!(ended.code, Some(0), "{arguments:?}: {}", ended.stderr);
    ended.stdout.trim().to_owned()
}

fn ask(peer: &mut Peer, request: &str, credential: &str) -> Answer {
    peer.send(format!(
        "{request} HTTP/1.1\r\nhost: usher.test\r\nauthorization: {credential}\r\n\r\n"
    ));
    peer.answer()
}

#[test]
fn tokens_made_by_the_command_line_work_and_can_be_revoked_beside_the_server() {
    let upstream = Recorder::ok();
    let world = World::before(upstream.address);
    let config = world.write();
    let server = Process::serve(&config);
    let org = usher(&config, &["token", "create", "org", "--org", "acme"]);
    let readonly = usher(&config, &["token", "create", "readonly", "--org", "acme"]);
    let (show, delete) = ("GET /v1/apps/web", "DELETE /v1/apps/web");
    let mut peer = server.connect();
    let refused = ask(&mut peer, delete, &readonly);
    upstream.saw_nothing();
    assert_eq!((refused.status, &*refused.code()), (403, "prohibited"));
    for (request, token) in [(show, &readonly), (show, &org), (delete, &org)] {
        assert_eq!(ask(&mut peer, request, token).status, 200);
    }

    usher(&config, &["token", "revoke", &org]);
    let refused = until("the revocation", || {
        let answer = ask(&mut peer, show, &org);
        (answer.status != 200).then_some(answer)
    });
    assert_eq!((refused.status, &*refused.code()), (401, "token-revoked"));
    let seen = upstream.requests().len();
    assert_eq!(ask(&mut peer, delete, &org).status, 401);
    assert_eq!(upstream.requests().len(), seen);
    assert_eq!(ask(&mut peer, show, &readonly).status, 200);

    // A key that the server has not seen yet signs the next one.
    usher(&config, &["key", "rotate"]);
    let next = usher(&config, &["token", "create", "deploy", "--app", "web"]);
    until("the new key", || {
        (ask(&mut peer, show, &next).status == 200).then_some(())
    });
    assert_eq!(ask(&mut peer, show, &readonly).status, 200);
    assert_eq!(ask(&mut peer, show, &org).status, 401);
    server.signal("TERM");
    assert_eq!(server.wait().0, Some(0));
}

#[test]
fn a_terminated_server_finishes_what_it_has_begun() {
    let (go, going) = mpsc::channel::<()>();
    let going = Mutex::new(going);
    let upstream = Recorder::script(move |exchange| {
        exchange.request().unwrap();
        exchange
            .peer
            .send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nfirst\r\n");
        going.lock().unwrap().recv_timeout(DEADLINE).unwrap();
        exchange.peer.send("4\r\nlast\r\n0\r\n\r\n");
    });
    let world = World::before(upstream.address);
    let config = world.write();
    let server = Process::serve(&config);
    let token = usher(&config, &["token", "create", "readonly", "--org", "acme"]);
    let ready = |admin| {
        let mut peer = Peer::connect(admin);
        peer.send("GET /readyz HTTP/1.1\r\nhost: admin\r\n\r\n");
        peer.answer().status
    };
    assert_eq!(ready(server.admin), 200);
    let mut idle = server.connect();
    assert_eq!(ask(&mut idle, "GET /nowhere", &token).status, 404);
    let mut busy = server.connect();
    busy.send(format!(
        "GET /api/v1/apps/web/logs/stream HTTP/1.1\r\nhost: usher.test\r\n\
         authorization: {token}\r\n\r\n"
    ));
    assert!(busy.head().unwrap().starts_with("HTTP/1.1 200 "));
    assert_eq!(busy.until(b"first\r\n").unwrap(), b"5\r\n");

    server.signal("TERM");
    assert!(idle.rest().is_empty(), "an idle connection is closed");
    until("the listener to close", || {
        TcpStream::connect(server.address).err()
    });
    assert_eq!(ready(server.admin), 503);
    go.send(()).unwrap();
    assert_eq!(busy.chunked(), (b"last".to_vec(), String::new()));
    assert!(busy.rest().is_empty());
    let (code, log) = server.wait();
    assert_eq!(code, Some(0));
    let drained = log
        .lines()
        .find(|line| line.contains("\"drained\""))
        .unwrap();
    assert!(drained.contains("\"aborted\":0"), "{drained}");
}

#[test]
fn checking_a_bad_configuration_reports_every_mistake_with_its_place() {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/configs/bad/five-mistakes.yaml"
    );
    for command in ["check", "serve"] {
        let ended = run_usher(&[command, "--config", path]);
        assert_eq!(ended.code, Some(78), "{command}");
        assert_eq!(ended.stdout, "", "{command}");
        let place = regex_lite::Regex::new(r"five-mistakes\.yaml:\d+:\d+: ").unwrap();
        let reported = ended.stderr.lines().filter(|line| place.is_match(line));
        assert_eq!(reported.count(), 5, "{command}: {}", ended.stderr);
    }
}

#[test]
fn checking_a_good_configuration_prints_its_routes() {
    let upstream = Recorder::ok();
    let world = World::before(upstream.address);
    let routes = usher(&world.write(), &["check"]);
    upstream.saw_nothing();
    for route in ["machines.list", "logs.stream", "/v1/apps/{app}/machines"] {
        assert!(routes.contains(route), "{routes}");
    }
}

#[test]
fn a_document_is_compared_with_the_routes() {
    let upstream = Recorder::ok();
    let document = |path: &str| {
        format!("openapi: 3.0.3\npaths: {{ /v1/apps: {{ get: {{}} }}, {path}: {{ get: {{}} }} }}")
    };
    let world = World::before(upstream.address)
        .file("covered.yaml", document("\"/v1/apps/{name}/machines\""))
        .file("more.yaml", document("/v1/more"))
        .file("none.yaml", "openapi: 3.0.3");
    let config = world.write();
    for (name, arguments, code, said) in [
        ("covered.yaml", &[][..], 0, "2 of 2 operations have a route"),
        ("more.yaml", &[], 1, "GET  /v1/more    no such route"),
        ("more.yaml", &["--json"], 1, "\"path\": \"/v1/more\""),
        ("more.yaml", &["--host", "any.test"], 1, "1 of 2 operations"),
        ("none.yaml", &[], 78, "none.yaml: #: there is no `paths`"),
        ("missing.yaml", &[], 78, "missing.yaml"),
    ] {
        let document = world.folder().join(name);
        let (config, document) = (config.to_str().unwrap(), document.to_str().unwrap());
        let fixed = ["check", "--config", config, "--openapi", document];
        let ended = run_usher(&[&fixed, arguments].concat());
        assert_eq!(ended.code, Some(code), "{name}: {}", ended.stderr);
        let out = ended.stdout + &ended.stderr;
        assert!(out.contains(said), "{name}: {out}");
    }
    upstream.saw_nothing();
}

#[test]
fn what_cannot_be_understood_is_a_usage_error() {
    for arguments in [
        &[][..],
        &["unknown"],
        &["serve"],
        &["serve", "--config"],
        &["check", "--config", "c", "--json"],
        &["token", "create", "org"],
        &["token", "create", "unknown", "--config", "c"],
    ] {
        let ended = run_usher(arguments);
        assert_eq!(ended.code, Some(2), "{arguments:?}");
        assert!(ended.stderr.contains("--help"), "{}", ended.stderr);
    }
}

#[test]
fn a_server_without_its_secrets_does_not_start() {
    let upstream = Recorder::ok();
    let without_key = World::before(upstream.address).with("seal.key", "missing.key");
    let other_key = World::before(upstream.address);
    drop(other_key.authority());
    let other_key = other_key.file("seal.key", STANDARD.encode(distinct::<32>(5)));
    let no_secret = World::before(upstream.address).with(
        "- { name: machines, ",
        "- { name: machines, credential: { header: X-Api-Key, value: { file: missing.secret } }, ",
    );
    for (world, code, said) in [
        (without_key, 78, "missing.key"),
        (other_key, 1, "was sealed with another key"),
        (no_secret, 78, "missing.secret"),
    ] {
        let ended = run_usher(&["serve", "--config", world.write().to_str().unwrap()]);
        upstream.saw_nothing();
        assert_eq!(ended.code, Some(code), "{}", ended.stderr);
        assert!(ended.stderr.contains(said), "{}", ended.stderr);
    }
}
