//! usher at work, between a client that sends any bytes and an upstream that keeps every byte.

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{self, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Duration;

use usher::authority::{Authority, Kind, Request, Window};
use usher::authz::Authorizer;
use usher::clock::unix_now;
use usher::config::{self, ConnectionLimits, Oddity};
use usher::directory::Directory;
use usher::macaroon::Bundle;
use usher::metrics::Metrics;
use usher::proxy::Server;
use usher::shutdown::Shutdown;

use super::both::{self, Read};

/// A running usher with its upstream. It goes on until the process ends.
pub(crate) struct Edge {
    address: SocketAddr,
    limits: ConnectionLimits,
    upstream: Arc<Upstream>,
    /// A header value that permits everything on the app `web`, and nothing on another.
    pub(crate) credential: String,
    _folder: tempfile::TempDir,
}

/// What stands for the credential in the bytes of a client.
pub(crate) const CREDENTIAL: &str = "@@";

/// The preface of HTTP/2, whose frames the two readers of HTTP/1.1 cannot follow.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// What is given up after this time has failed.
const DEADLINE: Duration = Duration::from_secs(60);

const WORLD: &str = r#"
listeners: [ { address: "127.0.0.1:0" } ]
authority: { location: "https://api.fly.io/v1", store: "sqlite:usher.db", seal_key: { file: seal.key } }
directory:
  public_names: true
  orgs: [ { slug: acme, id: 2001 }, { slug: beta, id: 2002 } ]
  apps: [ { name: web, id: 3001, org: acme }, { name: shop, id: 3101, org: beta } ]
upstreams: [ { name: all, urls: [ "http://@UPSTREAM@" ] } ]
threads: 1
limits: { odd_header_names: @ODD@, chunk_extensions: @ODD@ }
routes:
  - { name: health, method: GET, path: /healthz, access: public, upstream: all }
  - { name: list, method: GET, path: /v1/apps, access: { action: r, org: { query: org_slug }, app: zero }, upstream: all }
  - { name: show, method: GET, path: "/v1/apps/{app}", query: [ "metadata.*" ], access: { action: r, app: "{app}" }, upstream: all }
  - { name: deploy, method: [ POST, PUT ], path: "/v1/apps/{app}/deploys", access: { action: w, app: "{app}" }, upstream: all }
  - { name: move, method: POST, path: "/v1/apps/{app}/move", access: [ { action: r, app: "{app}" }, { when: { body: /to }, action: w, app: { body: /to } } ], upstream: all }
"#;

impl Edge {
    /// One that refuses what is odd about a request, or one that drops it.
    pub(crate) fn start(odd: Oddity) -> Self {
        let upstream = Upstream::start();
        let folder = tempfile::tempdir().unwrap();
        // 32 times the byte 9, in base64.
        let seal = "CQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQk=";
        std::fs::write(folder.path().join("seal.key"), seal).unwrap();
        let word = match odd {
            Oddity::Refuse => "refuse",
            Oddity::Drop => "drop",
        };
        let yaml = WORLD
            .replace("@UPSTREAM@", &upstream.address.to_string())
            .replace("@ODD@", word);
        let config = config::parse(&yaml, &folder.path().join("usher.yaml"));
        let config = Arc::new(config.map_err(|problems| problems.to_string()).unwrap().0);
        let mut authority = Authority::open(&config.authority, unix_now()).unwrap();
        authority.follow().unwrap();
        let kind = Kind::Deploy {
            org: 2001,
            app: 3001,
        };
        let credential = credential(&authority, &kind);
        let metrics = Arc::new(Metrics::new());
        let directory = Directory::open(&config.directory, &metrics).unwrap();
        let authorizer = Authorizer::new(
            Arc::clone(&config),
            Arc::new(authority),
            Arc::new(directory),
            Arc::clone(&metrics),
        );
        let server = Server::open(&config, Arc::new(authorizer), metrics).unwrap();
        let address = server.addresses()[0];
        drop(server.start(Shutdown::default()).unwrap());
        Self {
            address,
            limits: config.limits,
            upstream,
            credential,
            _folder: folder,
        }
    }

    /// Sends the bytes over a connection of their own. Returns what the upstream got: a complete
    /// request, or `None` for one that broke off.
    pub(crate) fn check(&self, bytes: &[u8]) -> Vec<Option<Read>> {
        let bytes = replaced(bytes, CREDENTIAL.as_bytes(), self.credential.as_bytes());
        // One that has only begun is nobody's yet.
        let frames = bytes.starts_with(PREFACE) || PREFACE.starts_with(&bytes);
        let answers = if frames { 0 } else { self.answers(&bytes) };
        self.exchange(&bytes, answers);
        let taken = self.upstream.take();
        let forwarded: Vec<_> = taken.iter().map(|bytes| alike(bytes)).collect();
        for read in forwarded.iter().flatten() {
            self.permitted(read);
        }
        if !frames {
            self.as_sent(&bytes, forwarded.iter().flatten());
        }
        forwarded
    }

    /// How many answers there will be before the client has to end the connection; `usize::MAX`
    /// where usher ends it.
    fn answers(&self, bytes: &[u8]) -> usize {
        match both::gated(&self.limits, bytes, bytes.len().max(1)) {
            (_, Some(_), _) => usize::MAX,
            (passed, None, _) => both::hyper(&bytes[..passed]).0.len(),
        }
    }

    /// Sends the bytes, and leaves once there were so many answers: whoever leaves earlier takes
    /// requests along that are under way.
    fn exchange(&self, bytes: &[u8], answers: usize) {
        let mut tcp = TcpStream::connect(self.address).unwrap();
        tcp.set_read_timeout(Some(DEADLINE)).unwrap();
        tcp.set_write_timeout(Some(DEADLINE)).unwrap();
        tcp.set_nodelay(true).unwrap();
        // usher may have had enough before all is sent.
        let gone = |error: io::Error| {
            use ErrorKind::{BrokenPipe, ConnectionReset, NotConnected};
            let known = matches!(error.kind(), BrokenPipe | ConnectionReset | NotConnected);
            assert!(known, "{error}: {}", bytes.escape_ascii());
            0
        };
        tcp.write_all(bytes).map_or_else(gone, |()| 0);
        let (mut read, mut part) = (Vec::new(), [0; 16 * 1024]);
        while final_answers(&read) < answers {
            match tcp.read(&mut part).unwrap_or_else(gone) {
                0 => return,
                length => read.extend_from_slice(&part[..length]),
            }
        }
        tcp.shutdown(net::Shutdown::Write).map_or_else(gone, |()| 0);
        tcp.read_to_end(&mut read).unwrap_or_else(gone);
    }

    /// Whatever was sent, only what the token or nobody's token is needed for has passed.
    fn permitted(&self, read: &Read) {
        let (path, query) = read.target.split_once('?').unwrap_or((&read.target, ""));
        let get = matches!(&*read.method, "GET" | "HEAD");
        let mut keys = query.split('&').filter(|_| !query.is_empty());
        let metadata = keys.all(|key| key.starts_with("metadata."));
        match path {
            "/healthz" => assert!(get && query.is_empty(), "{read:?}"),
            "/v1/apps/web" => assert!(get && metadata, "{read:?}"),
            "/v1/apps/web/deploys" => {
                let changes = matches!(&*read.method, "POST" | "PUT");
                assert!(changes && query.is_empty(), "{read:?}");
            }
            "/v1/apps/web/move" => {
                assert!(read.method == "POST" && query.is_empty(), "{read:?}");
                let body: serde_json::Value = match &read.body[..] {
                    [] => serde_json::Value::Null,
                    body => serde_json::from_slice(body).expect("a body that was judged"),
                };
                let to = body.get("to").and_then(serde_json::Value::as_str);
                assert!(to.is_none_or(|to| to == "web" || to.is_empty()), "{read:?}");
            }
            _ => panic!("forwarded: {read:?}"),
        }
        for (name, _) in &read.lines {
            let letter = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
            assert!(
                name.chars().all(letter) && !GONE.contains(&&**name),
                "{name}: {read:?}"
            );
        }
        let line = |name: &str| {
            let mut lines = read.lines.iter().filter(|(known, _)| known == name);
            let first = lines.next().map(|(_, value)| &value[..]);
            assert!(lines.next().is_none(), "{name} twice: {read:?}");
            first
        };
        assert_eq!(read.host, Some(self.upstream.address.to_string()));
        assert_eq!(line("x-forwarded-for"), Some(&b"127.0.0.1"[..]));
        assert_eq!(line("x-forwarded-proto"), Some(&b"http"[..]));
        for single in [
            "content-length",
            "content-type",
            "transfer-encoding",
            "cookie",
        ] {
            line(single);
        }
    }

    /// What was forwarded is what was sent, in its order: a reader of the client's bytes finds the
    /// same requests, each with the credential that it takes.
    fn as_sent<'r>(&self, bytes: &[u8], forwarded: impl Iterator<Item = &'r Read>) {
        let token = self.credential.as_bytes();
        let has_token = |(name, value): &(String, Vec<u8>)| {
            name == "authorization" && value.windows(token.len()).any(|part| part == token)
        };
        let (sent, _) = both::hyper(bytes);
        let mut sent = sent.into_iter();
        for read in forwarded {
            let same = |sent: &Read| {
                let of = |read: &Read, name: &str| -> Vec<Vec<u8>> {
                    let lines = read.lines.iter().filter(|(known, _)| known == name);
                    lines.map(|(_, value)| value.clone()).collect()
                };
                let own = |name: &str| OWN.iter().any(|own| name.starts_with(own));
                (read.target == "/healthz" || sent.lines.iter().any(has_token))
                    && sent.method == read.method
                    && origin_form(&sent.target) == read.target
                    && sent.body == read.body
                    && KEPT.iter().all(|name| of(sent, name) == of(read, name))
                    && read
                        .lines
                        .iter()
                        .all(|l| own(&l.0) || sent.lines.contains(l))
                    && read
                        .trailers
                        .iter()
                        .all(|line| sent.trailers.contains(line))
            };
            assert!(sent.any(|sent| same(&sent)), "nobody sent {read:?}");
        }
    }
}

/// Lines that concern the client's connection, or hold its credential.
const GONE: [&str; 8] = [
    "authorization",
    "expect",
    "http2-settings",
    "keep-alive",
    "proxy-authorization",
    "proxy-connection",
    "upgrade",
    "proxy",
];

/// Lines that say what the rest of a request means, and reach the upstream as they came.
const KEPT: [&str; 4] = ["accept", "content-encoding", "content-type", "cookie"];

/// Lines of usher's own.
const OWN: [&str; 6] = [
    "x-usher-",
    "x-forwarded-",
    "connection",
    "te",
    "content-length",
    "transfer-encoding",
];

/// Status lines of answers that are not provisional. No body has what looks like one.
fn final_answers(read: &[u8]) -> usize {
    let is_final = |part: &&[u8]| part.starts_with(b"HTTP/1.1 ") && matches!(part[9], b'2'..=b'5');
    read.windows(10).filter(is_final).count()
}

/// What the upstream got on one connection: two readers find the same in it, and one request at
/// most; none where it broke off.
fn alike(bytes: &[u8]) -> Option<Read> {
    let shown = bytes.escape_ascii();
    let (mut one, offended) = both::hyper(bytes);
    assert!(!offended, "hyper refuses {shown}");
    let (two, offended) = both::kawa(bytes);
    // It refuses more, here and there; what it accepts it must read alike.
    assert!(one == two || (offended && two.is_empty()), "{shown}");
    assert!(one.len() <= 1, "two requests: {shown}");
    one.pop()
}

/// Path and query of a target in absolute form.
fn origin_form(target: &str) -> &str {
    match target.split_once("://") {
        Some((_, rest)) if !target.starts_with('/') => {
            rest.split_at(rest.find('/').unwrap_or(rest.len())).1
        }
        Some(_) | None => target,
    }
}

fn replaced(bytes: &[u8], piece: &[u8], instead: &[u8]) -> Vec<u8> {
    let (mut out, mut rest) = (Vec::new(), bytes);
    while let Some(at) = rest.windows(piece.len()).position(|part| part == piece) {
        out.extend_from_slice(&rest[..at]);
        out.extend_from_slice(instead);
        rest = &rest[at + piece.len()..];
    }
    out.extend_from_slice(rest);
    out
}

fn credential(authority: &Authority, kind: &Kind) -> String {
    let now = unix_now();
    let window = Window {
        not_before: now - 3600,
        not_after: now + 1_000_000,
    };
    let request = Request {
        kind: kind.name(),
        name: None,
        org: None,
        app: None,
        caveats: &kind.caveats(window)[0],
        issuer: None,
    };
    let bundle = Bundle {
        tokens: vec![authority.issue(&request, now).unwrap()],
        ..Bundle::default()
    };
    bundle.to_header()
}

/// Keeps what it reads, and answers what is complete.
struct Upstream {
    address: SocketAddr,
    seen: Mutex<Seen>,
    changed: Condvar,
}

#[derive(Default)]
struct Seen {
    /// Who connected, in order.
    peers: Vec<SocketAddr>,
    /// Connections that have not ended.
    open: usize,
    /// By the place of the peer.
    bytes: Vec<(usize, Vec<u8>)>,
}

impl Upstream {
    fn start() -> Arc<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let upstream = Arc::new(Self {
            address: listener.local_addr().unwrap(),
            seen: Mutex::default(),
            changed: Condvar::new(),
        });
        let accepting = Arc::clone(&upstream);
        thread::spawn(move || {
            loop {
                let (tcp, peer) = listener.accept().unwrap();
                let place = accepting.add(|seen| {
                    seen.peers.push(peer);
                    seen.open += 1;
                    seen.peers.len() - 1
                });
                let upstream = Arc::clone(&accepting);
                thread::spawn(move || {
                    let bytes = answered(tcp);
                    upstream.add(|seen| {
                        seen.open -= 1;
                        seen.bytes.push((place, bytes));
                    });
                });
            }
        });
        upstream
    }

    fn add<T>(&self, change: impl FnOnce(&mut Seen) -> T) -> T {
        let value = change(&mut self.seen.lock().unwrap());
        self.changed.notify_all();
        value
    }

    /// What came on each connection, once all of them have ended.
    ///
    /// Connections are accepted in the order in which they were made, so once one of its own is
    /// accepted, no earlier one is still on its way.
    fn take(&self) -> Vec<Vec<u8>> {
        let probe = TcpStream::connect(self.address).unwrap();
        let own = probe.local_addr().unwrap();
        drop(probe);
        let seen = self.seen.lock().unwrap();
        let waits = |seen: &mut Seen| seen.open > 0 || !seen.peers.contains(&own);
        let (mut seen, late) = self
            .changed
            .wait_timeout_while(seen, DEADLINE, waits)
            .unwrap();
        assert!(
            !late.timed_out(),
            "a connection to the upstream does not end"
        );
        let mut seen = std::mem::take(&mut *seen);
        seen.bytes.sort_unstable();
        let own = seen.peers.iter().position(|peer| *peer == own);
        let others = seen
            .bytes
            .into_iter()
            .filter(|(place, _)| Some(*place) != own);
        others.map(|(_, bytes)| bytes).collect()
    }
}

/// All that comes on a connection, which is answered once there is a complete request.
fn answered(mut tcp: TcpStream) -> Vec<u8> {
    tcp.set_read_timeout(Some(DEADLINE)).unwrap();
    tcp.set_nodelay(true).unwrap();
    let (mut bytes, mut part, mut open) = (Vec::new(), [0; 16 * 1024], true);
    loop {
        match tcp.read(&mut part) {
            Ok(0) => return bytes,
            Ok(length) => bytes.extend_from_slice(&part[..length]),
            Err(error) if error.kind() == ErrorKind::ConnectionReset => return bytes,
            Err(error) => panic!("{error}"),
        }
        if open && !both::hyper(&bytes).0.is_empty() {
            open = false;
            // Its client may have left, which is seen at the next read.
            drop(tcp.write_all(OK));
        }
    }
}

const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
