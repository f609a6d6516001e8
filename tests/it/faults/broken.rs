//! usher with one part that breaks, and is mended.

use std::cell::Cell;
use std::fmt;
use std::fs;
use std::io::{Cursor, Write as _};
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use rusqlite::Connection;
use socket2::{Domain, Socket, Type};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use usher::authority::{Kind as TokenKind, Revocation};
use usher::clock::unix_now;
use usher::macaroon::Token;

use super::kinds::{self, Kind, Outcome, ROUTES, RULES};
use super::{Fault, Part};
use crate::support::{Peer, Received, Recorder, Usher, World, distinct, header, hour, until};

/// What a server does with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Manner {
    Answers,
    /// Reads it, and says nothing.
    Silent,
    /// Says what is no HTTP.
    Garbage,
    /// Answers, and closes the connection without having said so.
    Closes,
}

/// A server that changes its manner, or is not there yet.
struct Server {
    address: SocketAddr,
    manner: Arc<Mutex<Manner>>,
    /// Connections that were closed in that manner.
    closed: Arc<AtomicUsize>,
    answer: fn(&Received) -> Vec<u8>,
    recorder: Option<Recorder>,
    /// Bound, and not listened on.
    absent: Option<Socket>,
}

impl Server {
    fn new(answer: fn(&Received) -> Vec<u8>) -> Self {
        let mut server = Self::absent(answer);
        server.arrive();
        server
    }

    /// One that nobody listens at, nor will before it arrives.
    fn absent(answer: fn(&Received) -> Vec<u8>) -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        socket.bind(&any.into()).unwrap();
        Self {
            address: socket.local_addr().unwrap().as_socket().unwrap(),
            manner: Arc::new(Mutex::new(Manner::Answers)),
            closed: Arc::default(),
            answer,
            recorder: None,
            absent: Some(socket),
        }
    }

    fn arrive(&mut self) {
        let (manner, closed) = (Arc::clone(&self.manner), Arc::clone(&self.closed));
        let answer = self.answer;
        let bound = self.absent.take().unwrap();
        self.recorder = Some(Recorder::script_at(bound, move |exchange| {
            while let Some(received) = exchange.request() {
                let manner = *manner.lock().unwrap();
                let said = match manner {
                    Manner::Answers | Manner::Closes => answer(&received),
                    Manner::Silent => Vec::new(),
                    Manner::Garbage => b"\x00\x01 garbage\r\n\r\n".to_vec(),
                };
                if !exchange.peer.try_send(said) {
                    return;
                }
                let whole = received.line("upgrade").is_none() && !is_stream(&received);
                match manner {
                    Manner::Answers if whole => {}
                    Manner::Closes if whole => {
                        exchange.peer = Peer::new(Cursor::new(Vec::new()));
                        closed.fetch_add(1, Ordering::SeqCst);
                        return;
                    }
                    Manner::Garbage => return,
                    // Until usher has had enough.
                    Manner::Answers | Manner::Closes | Manner::Silent => {
                        exchange.peer.rest();
                        return;
                    }
                }
            }
        }));
    }

    fn becomes(&self, manner: Manner) {
        *self.manner.lock().unwrap() = manner;
    }

    /// Connections and bytes so far.
    fn seen(&self) -> (usize, usize) {
        let seen = self.recorder.as_ref();
        seen.map_or((0, 0), |seen| (seen.connections(), seen.bytes().len()))
    }
}

/// As an upstream answers every kind of request.
fn serve(received: &Received) -> Vec<u8> {
    if let Some(key) = received.line("sec-websocket-key") {
        let accept = derive_accept_key(key.as_bytes());
        return format!(
            "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
             sec-websocket-accept: {accept}\r\n\r\n"
        )
        .into_bytes();
    }
    if is_stream(received) {
        return b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\none\r\n".to_vec();
    }
    b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok".to_vec()
}

fn is_stream(received: &Received) -> bool {
    received.request_line().contains("/logs/stream")
}

/// As the platform describes an app: every app there is belongs to acme.
fn describe(received: &Received) -> Vec<u8> {
    let target = received.request_line().split(' ').nth(1).unwrap();
    let name = target.strip_prefix("/v1/apps/").unwrap();
    let body = format!(r#"{{"name":"{name}","id":3009,"org":2001}}"#);
    let length = body.len();
    format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{body}").into_bytes()
}

const ACME: TokenKind = TokenKind::Org { org: 2001 };
const BETA: TokenKind = TokenKind::Org { org: 2002 };

/// What it takes to mend it.
type Mend = Box<dyn FnOnce(&mut Broken)>;

pub(super) struct Broken {
    part: Part,
    fault: Fault,
    usher: Usher,
    upstream: Server,
    directory: Server,
    token: Token,
    stranger: String,
    /// Tells the apps of one phase from those of another, of which nothing is known yet.
    phase: Cell<&'static str>,
    mend: Option<Mend>,
}

impl fmt::Debug for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {:?} {}", self.part, self.fault, self.phase.get())
    }
}

impl Broken {
    /// usher before the part is at fault, unless that is how it has to begin.
    pub(super) fn new(part: Part, fault: Fault) -> Self {
        let server = |of, answer| match (part, fault) {
            (part, Fault::Down) if part == of => Server::absent(answer),
            _ => Server::new(answer),
        };
        let upstream = server(Part::Upstream, serve);
        let directory = server(Part::Directory, describe);
        let platform = format!(
            "public_names: true\n  http:\n    ttl: 2s\n    deadline: 1s\n    apps: {{ url: \
             \"http://{}/v1/apps/{{name}}\", id: /id, org: /org, name: /name }}",
            directory.address
        );
        let world = World::before(upstream.address)
            .with("public_names: true", platform)
            .with("routes:", "timeouts: { response_head: 1s }\nroutes:")
            .file("rules.yaml", RULES)
            .and(ROUTES);
        if matches!(
            (part, fault),
            (Part::Store | Part::Authority, Fault::Slow | Fault::Garbage)
        ) {
            without_log(&world);
        }
        let usher = world.start();
        let mend: Option<Mend> = match (part, fault) {
            (Part::Upstream, Fault::Down) => Some(Box::new(|broken| broken.upstream.arrive())),
            (Part::Directory, Fault::Down) => Some(Box::new(|broken| broken.directory.arrive())),
            _ => None,
        };
        Self {
            part,
            fault,
            token: usher.token(&ACME, hour()),
            stranger: usher.credential(&BETA),
            usher,
            upstream,
            directory,
            phase: Cell::new(if mend.is_some() { "during" } else { "before" }),
            mend,
        }
    }

    pub(super) fn is_broken(&self) -> bool {
        self.mend.is_some()
    }

    /// What the upstream has seen so far: connections and bytes.
    pub(super) fn seen(&self) -> (usize, usize) {
        self.upstream.seen()
    }

    pub(super) fn ask(&self, kind: Kind) -> Outcome {
        let token = header(&[&self.token]);
        self.ask_with(kind, Some(&token))
    }

    /// The same by somebody of another organization, or, where every token will do, by nobody.
    pub(super) fn ask_unpermitted(&self, kind: Kind) -> Outcome {
        match kind {
            Kind::Authenticated => self.ask_with(kind, None),
            Kind::Public
            | Kind::Path
            | Kind::Body
            | Kind::GraphQl
            | Kind::Basic
            | Kind::Stream
            | Kind::WebSocket
            | Kind::Tunnel => self.ask_with(kind, Some(&self.stranger)),
        }
    }

    fn ask_with(&self, kind: Kind, token: Option<&str>) -> Outcome {
        let app = format!("{}-{kind:?}", self.phase.get());
        let port = self.upstream.address.port();
        kinds::ask(&self.usher, kind, &app, token, port)
    }

    /// Asks while the part is at fault; and what the upstream had seen before.
    pub(super) fn during(&self, kind: Kind) -> ((usize, usize), Outcome) {
        let ask = || (self.seen(), self.ask(kind));
        let names = !matches!(kind, Kind::Public | Kind::Authenticated);
        match (self.part, self.fault) {
            // What was known is believed for as long as its time is not over.
            (Part::Directory, Fault::Stale) if names => until("an answer that is too old", || {
                let (before, outcome) = ask();
                (!outcome.is_served(kind)).then_some((before, outcome))
            }),
            (Part::Upstream, Fault::Stale) => {
                let recorder = self.upstream.recorder.as_ref().unwrap();
                let sent = recorder.requests().len();
                let closed = || self.upstream.closed.load(Ordering::SeqCst);
                let closed_before = closed();
                let asked = ask();
                if kind != Kind::Tunnel {
                    assert_eq!(
                        recorder.requests().len(),
                        sent + 1,
                        "{kind:?}: not sent once"
                    );
                }
                // What goes on keeps its connection.
                if !matches!(kind, Kind::Tunnel | Kind::WebSocket | Kind::Stream) {
                    until("the connection to be closed", || {
                        (closed() == closed_before + 1).then_some(())
                    });
                }
                asked
            }
            _ => ask(),
        }
    }

    /// Breaks the part, and waits until usher cannot but have noticed.
    pub(super) fn break_it(&mut self) {
        let store = self.usher.folder().join("usher.db");
        let mend: Mend = match (self.part, self.fault) {
            (Part::Store, Fault::Down) => {
                let away = store.with_extension("away");
                fs::rename(&store, &away).unwrap();
                Box::new(move |_| fs::rename(&away, &store).unwrap())
            }
            (Part::Store, Fault::Slow) => {
                let db = Connection::open(&store).unwrap();
                db.execute_batch("BEGIN EXCLUSIVE").unwrap();
                Box::new(move |_| db.execute_batch("COMMIT").unwrap())
            }
            (Part::Store, Fault::Garbage) => {
                let bytes = fs::read(&store).unwrap();
                overwrite(&store, &vec![0xa5; bytes.len()]);
                Box::new(move |_| overwrite(&store, &bytes))
            }
            // A copy that somebody put back: what is revoked from now on is not in it.
            (Part::Store, Fault::Stale) => {
                let (copy, away) = (store.with_extension("copy"), store.with_extension("away"));
                fs::copy(&store, &copy).unwrap();
                fs::hard_link(&store, &away).unwrap();
                fs::rename(&copy, &store).unwrap();
                Box::new(move |_| fs::rename(&away, &store).unwrap())
            }
            (Part::Authority, Fault::Down) => {
                let db = Connection::open(&store).unwrap();
                db.execute_batch("ALTER TABLE signing_key RENAME TO away")
                    .unwrap();
                Box::new(move |_| {
                    db.execute_batch("ALTER TABLE away RENAME TO signing_key")
                        .unwrap();
                })
            }
            // Somebody is writing a revocation, and does not come to an end.
            (Part::Authority, Fault::Slow) => {
                let db = Connection::open(&store).unwrap();
                db.execute_batch("BEGIN EXCLUSIVE").unwrap();
                let uuid = self.token.uuid();
                db.execute(
                    "INSERT INTO revocation (uuid, tail, revoked_at) VALUES (?1, x'', 1)",
                    [uuid.as_bytes().as_slice()],
                )
                .unwrap();
                Box::new(move |broken| {
                    db.execute_batch("COMMIT").unwrap();
                    broken.is_told("token-revoked");
                    broken.token = broken.usher.token(&ACME, hour());
                })
            }
            // Of one key that does not open nobody can say what it was for.
            (Part::Authority, Fault::Garbage) => {
                self.usher.import(b"spare", distinct(8));
                let db = Connection::open(&store).unwrap();
                let query = "SELECT sealed FROM signing_key WHERE id = CAST('spare' AS BLOB)";
                let sealed: Vec<u8> = db.query_row(query, [], |row| row.get(0)).unwrap();
                let put = |db: &Connection, bytes: &[u8]| {
                    let update =
                        "UPDATE signing_key SET sealed = ?1 WHERE id = CAST('spare' AS BLOB)";
                    assert_eq!(db.execute(update, [bytes]).unwrap(), 1);
                };
                put(&db, &vec![0xa5; sealed.len()]);
                Box::new(move |_| put(&db, &sealed))
            }
            (Part::Authority, Fault::Stale) => {
                let lineage = Revocation::Lineage(self.token.uuid());
                let elsewhere = self.usher.elsewhere();
                assert!(elsewhere.revoke(lineage, unix_now()).unwrap());
                Box::new(|broken| broken.token = broken.usher.token(&ACME, hour()))
            }
            (Part::Directory | Part::Upstream, fault) => {
                let server = match self.part {
                    Part::Directory => &self.directory,
                    Part::Upstream | Part::Store | Part::Authority | Part::Reload => &self.upstream,
                };
                server.becomes(match (self.part, fault) {
                    (_, Fault::Garbage) => Manner::Garbage,
                    (Part::Upstream, Fault::Stale) => Manner::Closes,
                    (_, Fault::Down | Fault::Slow | Fault::Stale) => Manner::Silent,
                });
                Box::new(|broken| {
                    broken.directory.becomes(Manner::Answers);
                    broken.upstream.becomes(Manner::Answers);
                })
            }
            (Part::Reload, fault) => self.break_configuration(fault),
        };
        self.mend = Some(mend);
        match (self.part, self.fault) {
            (Part::Authority, Fault::Stale) => self.is_told("token-revoked"),
            (Part::Store | Part::Authority, _) => self.is_told("unavailable"),
            (Part::Directory | Part::Upstream | Part::Reload, _) => {}
        }
        // What is known of a name is the fault there, and elsewhere none of its business.
        if (self.part, self.fault) != (Part::Directory, Fault::Stale) {
            self.phase.set("during");
        }
    }

    fn break_configuration(&self, fault: Fault) -> Mend {
        let path = self.usher.folder().join("usher.yaml");
        let text = fs::read(&path).unwrap();
        match fault {
            Fault::Down => fs::remove_file(&path).unwrap(),
            Fault::Garbage => fs::write(&path, b"\xff\x00: [ garbage").unwrap(),
            // Newer than what can be put into use without a restart.
            Fault::Stale => {
                let text = String::from_utf8(text.clone()).unwrap();
                fs::write(&path, text.replace("threads: 1", "threads: 2")).unwrap();
            }
            Fault::Slow => {
                fs::remove_file(&path).unwrap();
                assert!(
                    Command::new("mkfifo")
                        .arg(&path)
                        .status()
                        .unwrap()
                        .success()
                );
            }
        }
        self.usher.read_again();
        if fault != Fault::Slow {
            self.is_stale("1");
            return Box::new(move |broken| {
                replace(&path, &text);
                broken.usher.read_again();
                broken.is_stale("0");
            });
        }
        // Opens once somebody reads at the other end, who waits for what is written.
        let mut pipe = until("the slow reading", || {
            let mut options = fs::OpenOptions::new();
            options.write(true).custom_flags(NONBLOCK).open(&path).ok()
        });
        Box::new(move |broken| {
            replace(&path, &text);
            pipe.write_all(&text).unwrap();
            drop(pipe);
            broken.has("usher_config_reloads_total{outcome=\"loaded\"} 1");
        })
    }

    /// Waits until the gauge of the configuration says so.
    fn is_stale(&self, value: &str) {
        self.has(&format!("usher_config_stale {value}"));
    }

    /// Waits for a line of the metrics.
    fn has(&self, line: &str) {
        until(line, || {
            let metrics = self.usher.metrics();
            metrics.lines().any(|found| found == line).then_some(())
        });
    }

    /// Waits until a token is refused for this reason.
    fn is_told(&self, code: &str) {
        until(code, || {
            (self.ask(Kind::Authenticated).code == code).then_some(())
        });
    }

    /// Mends the part, and waits until that is known.
    pub(super) fn mend(&mut self) {
        let mend = self.mend.take().unwrap();
        mend(self);
        self.phase.set("after");
        for kind in [Kind::Public, Kind::Authenticated, Kind::Path] {
            until("it to be mended", || {
                self.ask(kind).is_served(kind).then_some(())
            });
        }
    }
}

/// Puts a file in the place of another in one step.
fn replace(path: &Path, text: &[u8]) {
    let next = path.with_extension("next");
    fs::write(&next, text).unwrap();
    fs::rename(&next, path).unwrap();
}

/// Makes the store one without a write-ahead log, in which whoever writes keeps readers waiting,
/// and whose readers look into the file itself.
fn without_log(world: &World) {
    drop(world.authority());
    let db = Connection::open(world.folder().join("usher.db")).unwrap();
    let mode: String = db
        .query_row("PRAGMA journal_mode = DELETE", [], |row| row.get(0))
        .unwrap();
    assert_eq!(mode, "delete");
}

/// `O_NONBLOCK` of Linux.
const NONBLOCK: i32 = 0o4000;

/// In place: it stays the same file.
fn overwrite(path: &Path, bytes: &[u8]) {
    let mut file = fs::OpenOptions::new().write(true).open(path).unwrap();
    file.write_all(bytes).unwrap();
    file.sync_all().unwrap();
}
