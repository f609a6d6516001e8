//! Two hundred log streams at a time through a running usher, whose tokens expire, are revoked or
//! are let go of at random. Once all have ended nothing may be left of them: no connection, no
//! descriptor, no memory.
//!
//! A few seconds as a test among others; `USHER_SOAK_MINUTES=10` makes it that long.
#![cfg(target_os = "linux")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test stops at what it does not expect"
)]
#![expect(
    clippy::print_stdout,
    reason = "whoever soaks for minutes wants to see how it goes"
)]

#[path = "support/canary.rs"]
mod canary;
#[path = "support/keys.rs"]
mod keys;

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream as StdTcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use usher::authority::{Authority, Kind, Request as TokenRequest, Revocation, Window};
use usher::clock::unix_now;
use usher::config;
use usher::macaroon::{Bundle, Caveat, Limits, Token};

use self::canary::Place;

/// Streams at a time, each by a client of its own.
const CLIENTS: u64 = 200;

/// How long the clients go on opening streams in one round, and how many rounds there are.
#[derive(Clone, Copy)]
struct Plan {
    round: Duration,
    rounds: usize,
}

impl Plan {
    fn read() -> Self {
        match std::env::var("USHER_SOAK_MINUTES") {
            Err(_) => Self {
                round: Duration::from_secs(2),
                rounds: 2,
            },
            Ok(minutes) => Self {
                round: Duration::from_secs(30),
                rounds: 2 * minutes.parse::<usize>().expect("a number of minutes"),
            },
        }
    }

    /// The round after which all caches are as full as they get.
    fn warm(self) -> usize {
        self.rounds / 4
    }
}

#[test]
fn nothing_is_left_of_streams_that_have_ended() {
    let plan = Plan::read();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let folder = tempfile::tempdir().unwrap();
        let upstream = Upstream::start().await;
        let usher = Process::start(folder.path(), upstream.address);
        let issuer = Arc::new(Issuer::beside(folder.path()));
        let (mut first, mut resident, mut all) = (None, Vec::new(), Seen::default());
        for round in 0..plan.rounds {
            let mut clients = JoinSet::new();
            for client in 0..CLIENTS {
                let seed = u64::try_from(round).unwrap() * CLIENTS + client + 1;
                let client = Client {
                    random: Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15)),
                    issuer: Arc::clone(&issuer),
                    usher: usher.address,
                    http2: client % 2 == 1,
                };
                clients.spawn(client.run(Instant::now() + plan.round));
            }
            for seen in clients.join_all().await {
                all.add(&seen);
            }
            let now = usher.rest(&upstream, first).await;
            println!("round {round}: {now:?}, {all:?}");
            first = first.or(Some(now));
            resident.push(now.resident);
        }
        let (warm, end) = (resident[plan.warm()], resident[plan.rounds - 1]);
        assert!(end <= warm + SLACK, "{warm} bytes have become {end}");
        assert_eq!(usher.leases_ended(), all.expired + all.revoked);
        for (what, count) in [
            ("expired", all.expired),
            ("revoked", all.revoked),
            ("left", all.left),
            ("told why", all.told),
            ("cut", all.cut),
        ] {
            assert!(count > 0, "no stream was {what}: {all:?}");
        }
        assert!(all.latest < LATEST, "{all:?}");
        usher.stop();
        canary::assert_hidden();
    });
}

/// What a client does with one stream.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// Its token expires.
    Expires,
    /// Its token is revoked, by another process than usher's.
    Revoked,
    /// The client goes away.
    Left,
}

/// What became of streams.
#[derive(Debug, Default)]
struct Seen {
    expired: u64,
    revoked: u64,
    left: u64,
    /// Event streams that were told why they end.
    told: u64,
    /// Streams that broke off.
    cut: u64,
    /// The longest time from the end of a token to the end of its stream.
    latest: Duration,
}

impl Seen {
    fn add(&mut self, other: &Self) {
        self.expired += other.expired;
        self.revoked += other.revoked;
        self.left += other.left;
        self.told += other.told;
        self.cut += other.cut;
        self.latest = self.latest.max(other.latest);
    }
}

struct Client {
    random: Random,
    issuer: Arc<Issuer>,
    usher: SocketAddr,
    http2: bool,
}

impl Client {
    async fn run(mut self, until: Instant) -> Seen {
        let mut seen = Seen::default();
        let mut shared = match self.http2 {
            true => Some(self.connect_http2().await),
            false => None,
        };
        while Instant::now() < until {
            self.stream(shared.as_mut(), &mut seen).await;
        }
        seen
    }

    /// One stream from its request to its end.
    async fn stream(&mut self, shared: Option<&mut Http2>, seen: &mut Seen) {
        // Revocations are few, since they are all kept, and read back whenever there is one more.
        let fate = match self.random.below(24) {
            0 => Fate::Revoked,
            1..5 => Fate::Left,
            _ => Fate::Expires,
        };
        let seconds = match fate {
            // The second that has begun counts as one.
            Fate::Expires => 1 + self.random.below(3),
            Fate::Revoked | Fate::Left => 3600,
        };
        let events = self.random.below(2) == 0;
        let last = unix_now() + i64::try_from(seconds).unwrap();
        let token = self.issuer.attenuate(last);
        let request = match self.http2 {
            true => Request::get("http://usher.test/logs"),
            false => Request::get("/logs").header("host", "usher.test"),
        };
        let request = request
            .header("authorization", header(&token))
            .header("accept", if events { EVENTS } else { NDJSON })
            .body(Empty::new())
            .unwrap();
        let response = match shared {
            Some(shared) => shared.send_request(request).await.unwrap(),
            None => self.ask_http1(request).await,
        };
        assert_eq!(
            response.status(),
            StatusCode::OK,
            "{last} at {}",
            unix_now()
        );
        let mut body = response.into_body();
        let mut data = body.frame().await.unwrap().unwrap().into_data().unwrap();
        let mut due = UNIX_EPOCH + Duration::from_secs(u64::try_from(last + 1).unwrap());
        match fate {
            Fate::Expires => {}
            Fate::Revoked => {
                let issuer = Arc::clone(&self.issuer);
                // It writes to a disk, which must not make the other clients late.
                let revoke = tokio::task::spawn_blocking(move || issuer.revoke(&token));
                revoke.await.unwrap();
                due = UNIX_EPOCH + UNIX_EPOCH.elapsed().unwrap();
            }
            Fate::Left => {
                for _ in 0..self.random.below(8) {
                    body.frame().await.unwrap().unwrap();
                }
                seen.left += 1;
                return;
            }
        }
        let whole = loop {
            match body.frame().await {
                Some(Ok(frame)) => data = frame.into_data().unwrap(),
                Some(Err(_)) => break false,
                None => break true,
            }
        };
        let late = due.elapsed().expect("it ended before its token");
        seen.latest = seen.latest.max(late);
        let code = match fate {
            Fate::Expires => {
                seen.expired += 1;
                "lease-expired"
            }
            Fate::Revoked | Fate::Left => {
                seen.revoked += 1;
                "lease-revoked"
            }
        };
        if whole {
            canary::look(Place::Answer, &data);
            let text = std::str::from_utf8(&data).unwrap();
            let told = format!("event: usher\ndata: {{\"code\":\"{code}\"");
            assert!(events && text.starts_with(&told), "{text}");
            seen.told += 1;
        } else {
            seen.cut += 1;
        }
    }

    async fn ask_http1(&self, request: Request<Empty<Bytes>>) -> Response<Incoming> {
        let tcp = TcpStream::connect(self.usher).await.unwrap();
        let (mut sender, connection) = http1::handshake(TokioIo::new(tcp)).await.unwrap();
        // It ends with the response, in whatever way.
        tokio::spawn(async move { connection.await.is_ok() });
        sender.send_request(request).await.unwrap()
    }

    async fn connect_http2(&self) -> Http2 {
        let tcp = TcpStream::connect(self.usher).await.unwrap();
        let io = TokioIo::new(tcp);
        let (sender, connection) = http2::handshake(TokioExecutor::new(), io).await.unwrap();
        // It ends when nobody can send on it any more.
        tokio::spawn(async move { connection.await.is_ok() });
        sender
    }
}

type Http2 = http2::SendRequest<Empty<Bytes>>;

/// Whoever makes tokens and revokes them, with the store of a running usher open beside it.
struct Issuer {
    authority: Authority,
    token: Token,
    made: AtomicI64,
}

impl Issuer {
    fn beside(folder: &Path) -> Self {
        let path = folder.join("usher.yaml");
        let text = fs::read_to_string(&path).unwrap();
        let Ok((config, _)) = config::parse(&text, &path) else {
            panic!("the configuration is good");
        };
        let authority = Authority::open(&config.authority, unix_now()).unwrap();
        let window = Window {
            not_before: unix_now() - 60,
            not_after: unix_now() + 1_000_000,
        };
        let token = authority
            .issue(
                &TokenRequest {
                    kind: "readonly",
                    name: None,
                    org: None,
                    app: None,
                    caveats: &Kind::Readonly { org: 2001 }.caveats(window)[0],
                    issuer: None,
                },
                unix_now(),
            )
            .unwrap();
        Self {
            authority,
            token,
            made: AtomicI64::new(0),
        }
    }

    /// A token of its own for each stream: they differ in when they began to be good.
    fn attenuate(&self, last: i64) -> Token {
        let made = self.made.fetch_add(1, Ordering::Relaxed);
        let window = Caveat::ValidityWindow {
            not_before: made,
            not_after: last,
        };
        let token = self.token.attenuate(&[window], &Limits::DEFAULT).unwrap();
        if made < WATCHED {
            canary::hide_tokens(&header(&token));
        }
        token
    }

    fn revoke(&self, token: &Token) {
        let tail = Revocation::Tail(token.uuid(), token.tail_digest().unwrap());
        self.authority.revoke(tail, unix_now()).unwrap();
    }
}

fn header(token: &Token) -> String {
    Bundle {
        tokens: vec![token.clone()],
        ..Bundle::default()
    }
    .to_header()
}

/// Tokens that are looked for wherever usher writes; what hours would take does not fit into memory.
const WATCHED: i64 = 1_000;

/// An API that streams a log, to each as long as it is listened to.
struct Upstream {
    address: SocketAddr,
    listeners: Arc<AtomicUsize>,
}

impl Upstream {
    async fn start() -> Self {
        let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        let listeners = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&listeners);
        tokio::spawn(async move {
            loop {
                let (tcp, _) = socket.accept().await.unwrap();
                counted.fetch_add(1, Ordering::Relaxed);
                let counted = Arc::clone(&counted);
                tokio::spawn(async move {
                    write_log(tcp).await;
                    counted.fetch_sub(1, Ordering::Relaxed);
                });
            }
        });
        Self { address, listeners }
    }
}

/// Writes lines until nobody reads them. usher keeps no connection whose response was not whole.
async fn write_log(mut tcp: TcpStream) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if tcp.read_buf(&mut head).await.unwrap_or(0) == 0 {
            return;
        }
    }
    canary::look(Place::Upstream, &head);
    let head = String::from_utf8(head).unwrap();
    let (kind, line) = match head.contains(&format!("accept: {EVENTS}\r\n")) {
        true => (EVENTS, "data: {\"message\":\"a line of the log\"}\n\n"),
        false => (NDJSON, "{\"message\":\"a line of the log\"}\n"),
    };
    let opening =
        format!("HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ntransfer-encoding: chunked\r\n\r\n");
    let chunk = format!("{:x}\r\n{line}\r\n", line.len());
    if tcp.write_all(opening.as_bytes()).await.is_err() {
        return;
    }
    let mut ticks = tokio::time::interval(PACE);
    let mut end = [0];
    loop {
        tokio::select! {
            _ = ticks.tick() => if tcp.write_all(chunk.as_bytes()).await.is_err() {
                return;
            },
            _ = tcp.read(&mut end) => return,
        }
    }
}

/// `usher serve`, looked at from outside.
struct Process {
    child: Child,
    address: SocketAddr,
    admin: SocketAddr,
    log: Option<JoinHandle<Vec<String>>>,
}

/// What a process holds.
#[derive(Clone, Copy, Debug)]
struct Footprint {
    descriptors: usize,
    threads: usize,
    /// Bytes.
    resident: u64,
}

impl Process {
    fn start(folder: &Path, upstream: SocketAddr) -> Self {
        let config = folder.join("usher.yaml");
        fs::write(folder.join("seal.key"), STANDARD.encode(SEAL_KEY)).unwrap();
        fs::write(&config, CONFIG.replace("@UPSTREAM@", &upstream.to_string())).unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_usher"))
            .env("USHER_LOG", "trace")
            .args(["serve", "--config"])
            .arg(config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut listening = || {
            let found = lines.find_map(|line| {
                let event: Value = serde_json::from_str(&line.unwrap()).ok()?;
                event["address"].as_str()?.parse().ok()
            });
            found.expect("it listens")
        };
        let (address, admin) = (listening(), listening());
        keys::hide_keys(folder);
        // Only what does not belong to one stream is kept.
        let log = thread::spawn(move || {
            let lines = lines.map(|line| {
                let line = line.unwrap();
                canary::look(Place::Log, line.as_bytes());
                line
            });
            lines
                .filter(|line| !PER_STREAM.iter().any(|event| line.contains(event)))
                .collect()
        });
        Self {
            child,
            address,
            admin,
            log: Some(log),
        }
    }

    fn footprint(&self) -> Footprint {
        let process = Path::new("/proc").join(self.child.id().to_string());
        let count = |folder: &str| fs::read_dir(process.join(folder)).unwrap().count();
        let status = fs::read_to_string(process.join("status")).unwrap();
        let resident = status.lines().find_map(|line| {
            let kilobytes = line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB")?;
            kilobytes.parse::<u64>().ok()
        });
        Footprint {
            descriptors: count("fd"),
            threads: count("task"),
            resident: resident.unwrap() * 1024,
        }
    }

    /// Waits until every connection is over, and nothing more is held than when that was so for
    /// the first time. Before any connection usher may still be starting its threads.
    async fn rest(&self, upstream: &Upstream, first: Option<Footprint>) -> Footprint {
        let deadline = Instant::now() + DEADLINE;
        let mut looks = tokio::time::interval(Duration::from_millis(50));
        let mut before = None;
        loop {
            looks.tick().await;
            let listeners = upstream.listeners.load(Ordering::Relaxed);
            let open = self.metric("usher_connections_open");
            let now = self.footprint();
            let held = (now.descriptors, now.threads);
            let enough = match first {
                Some(first) => held.0 <= first.descriptors && held.1 <= first.threads,
                // What has just ended may still be closing.
                None => before == Some(held),
            };
            if (listeners, open) == (0, 0) && enough {
                return now;
            }
            before = Some(held);
            assert!(
                Instant::now() < deadline,
                "{listeners} upstream and {open} downstream connections are left, {now:?}"
            );
        }
    }

    /// The sum of the lines of a metric.
    fn metric(&self, name: &str) -> u64 {
        let mut admin = StdTcpStream::connect(self.admin).unwrap();
        admin.set_read_timeout(Some(DEADLINE)).unwrap();
        let request = "GET /metrics HTTP/1.1\r\nhost: admin\r\nconnection: close\r\n\r\n";
        admin.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        admin.read_to_string(&mut answer).unwrap();
        let lines = answer.lines().filter(|line| line.starts_with(name));
        lines
            .map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap())
            .sum()
    }

    fn leases_ended(&self) -> u64 {
        self.metric("usher_leases_ended_total")
    }

    /// Ends it in an orderly way, in which nothing is left to be cut.
    fn stop(mut self) {
        let pid = self.child.id().to_string();
        let sent = Command::new("kill").args(["-s", "TERM", &pid]).status();
        assert!(sent.unwrap().success());
        assert_eq!(self.child.wait().unwrap().code(), Some(0));
        let log = self.log.take().unwrap().join().unwrap();
        let drained = log.iter().find(|line| line.contains("drained")).unwrap();
        let event: Value = serde_json::from_str(drained).unwrap();
        assert_eq!(event["aborted"], 0, "{log:#?}");
    }
}

/// However a test ends, the process ends with it.
impl Drop for Process {
    fn drop(&mut self) {
        if self.child.kill().is_ok() {
            let _reaped = self.child.wait();
        }
    }
}

/// Numbers that look random and are the same in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

const SEAL_KEY: [u8; 32] = *b"a seal key is of thirty-two byte";

/// Events of which there is one for each stream at least.
const PER_STREAM: [&str; 3] = ["request decided", "lease ended", "\"level\":\"DEBUG\""];

/// The cache is small, so that it is full after a moment and what grows later is a leak.
const CONFIG: &str = r#"
listeners:
  - address: 127.0.0.1:0
admin: { address: 127.0.0.1:0 }
authority:
  location: https://api.fly.io/v1
  store: sqlite:usher.db
  seal_key: { file: seal.key }
directory:
  public_names: true
  orgs: [ { slug: acme, id: 2001 } ]
upstreams:
  - { name: logs, urls: [ "http://@UPSTREAM@" ] }
threads: 2
cache: { bytes: 256KiB }
routes:
  - { name: logs, method: GET, path: /logs, access: { action: r, org: acme }, upstream: logs, stream: true }
"#;

const EVENTS: &str = "text/event-stream";
const NDJSON: &str = "application/x-ndjson";

/// How often a line is written to each stream.
const PACE: Duration = Duration::from_millis(100);

/// How much the memory of a process at rest may differ, in bytes: what an allocator keeps is not
/// to be told exactly, and revocations are kept for ever, about a hundred bytes each.
const SLACK: u64 = 8 * 1024 * 1024;

/// How late a stream may end. Half a second is promised; the rest is for a busy machine.
const LATEST: Duration = Duration::from_secs(2);

/// How long anything is waited for. Never reached by a test that passes.
const DEADLINE: Duration = Duration::from_secs(20);
