//! An edge in this process, and both of its neighbours as raw sockets.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use smallvec::SmallVec;
use uuid::Uuid;

use crate::authz::{Decision, Denial, Head, Identity, Permit};
use crate::config::{
    ConnectionLimits, Listener, ListenerTls, Oddity, Protocol, Timeouts, Upstream, UpstreamUrl,
};
use crate::metrics::Metrics;
use crate::proxy::decide::Decider;
use crate::proxy::{Plan, RoutePlan, Running, Server};
use crate::shutdown::Shutdown;

pub(in crate::proxy) fn limits() -> ConnectionLimits {
    ConnectionLimits {
        connections: 100,
        connections_per_address: 100,
        head_bytes: 16 * 1024,
        headers: 64,
        target_bytes: 2048,
        streams: 100,
        resets: 100,
        idle_frames: 100,
        idle_upstream: 8,
        upstream_connections: 100,
        odd_header_names: Oddity::Refuse,
        chunk_extensions: Oddity::Refuse,
        judged_bodies: 1024 * 1024,
    }
}

/// Long enough that a test which waits for one of them fails by its own deadline.
pub(in crate::proxy) fn timeouts() -> Timeouts {
    let long = Duration::from_secs(60);
    Timeouts {
        tls_handshake: long,
        request_head: long,
        judged_body: long,
        connect: long,
        response_head: long,
        idle: long,
        stream_idle: long,
        drain: long,
    }
}

/// `/denied` is denied, `/panic` panics, `/h2` goes to the second upstream, all else to the first.
fn decide<'a>(head: &Head<'a>) -> Decision<'a> {
    let path = head.target;
    let identity = Identity {
        token: Some(Uuid::from_u128(7)),
        orgs: [2001].into(),
        app: Some(3001),
        user: None,
        cluster: None,
    };
    assert!(!path.starts_with("/panic"), "a request asked for it");
    Decision {
        route: Some(0),
        accesses: SmallVec::new(),
        token: None,
        reason: None,
        verdict: if path.starts_with("/denied") {
            Err(Denial::Prohibited("caveat 1 of token 1".into()))
        } else {
            let route = usize::from(path.starts_with("/h2"));
            Ok(Permit::for_test(route, identity))
        },
    }
}

/// A running edge with one worker; it is cut when dropped.
pub(super) struct Edge {
    pub(super) address: SocketAddr,
    pub(super) shutdown: Shutdown,
    pub(super) metrics: Arc<Metrics>,
    running: Option<Running>,
}

impl Edge {
    pub(super) fn before(upstream: SocketAddr) -> Self {
        Self::with(upstream, timeouts(), limits())
    }

    pub(super) fn with(upstream: SocketAddr, timeouts: Timeouts, limits: ConnectionLimits) -> Self {
        let url = UpstreamUrl {
            tls: false,
            host: upstream.ip().to_string(),
            port: upstream.port(),
        };
        Self::start(None, &url, None, timeouts, limits)
    }

    /// With TLS on both sides: to the upstream under the name `host`, with `ca` as its root.
    pub(super) fn secured(
        listener: ListenerTls,
        upstream: SocketAddr,
        host: &str,
        ca: PathBuf,
    ) -> Self {
        let url = UpstreamUrl {
            tls: true,
            host: host.to_owned(),
            port: upstream.port(),
        };
        Self::start(Some(listener), &url, Some(ca), timeouts(), limits())
    }

    fn start(
        tls: Option<ListenerTls>,
        url: &UpstreamUrl,
        ca: Option<PathBuf>,
        timeouts: Timeouts,
        limits: ConnectionLimits,
    ) -> Self {
        let address = "127.0.0.1:0".parse().unwrap();
        let listeners = [Listener { address, tls }];
        let to = |name: &str, protocol| Upstream {
            name: name.to_owned(),
            urls: vec![url.clone()],
            tcp: Vec::new(),
            credential: None,
            sign: None,
            ca: ca.clone(),
            identity: None,
            protocol,
        };
        let upstreams = [to("one", Protocol::Http1), to("two", Protocol::Http2)];
        let plan = Plan {
            listeners: &listeners,
            admin: None,
            upstreams: &upstreams,
            routes: [("first", 0), ("second", 1)]
                .map(|(name, upstream)| RoutePlan {
                    name,
                    upstream,
                    stream: false,
                    basic: false,
                    websocket: name == "first",
                    tunnel: false,
                    connects: false,
                    reads: Vec::new(),
                })
                .into(),
            limits,
            trusted_proxies: &[],
            timeouts,
            threads: std::num::NonZeroUsize::new(1),
        };
        let metrics = Arc::new(Metrics::new());
        let server = Server::bind(&plan, Decider::Test(decide), Arc::clone(&metrics)).unwrap();
        let address = server.addresses()[0];
        let shutdown = Shutdown::default();
        let running = server.start(shutdown.clone()).unwrap();
        Self {
            address,
            shutdown,
            metrics,
            running: Some(running),
        }
    }

    pub(super) fn connect(&self) -> Peer {
        Peer::new(TcpStream::connect(self.address).unwrap())
    }

    pub(super) fn join(&mut self) {
        self.running.take().unwrap().join().unwrap();
    }

    /// The value of a metric, by the beginning of its line.
    pub(super) fn metric(&self, line: &str) -> u64 {
        let mut text = String::new();
        self.metrics.write(&mut text).unwrap();
        let found = text.lines().find_map(|l| l.strip_prefix(line));
        found.map_or(0, |value| value.trim().parse().unwrap())
    }
}

impl Drop for Edge {
    fn drop(&mut self) {
        self.shutdown.drain.cancel();
        self.shutdown.cut.cancel();
        if let Some(running) = self.running.take()
            && !thread::panicking()
        {
            running.join().unwrap();
        }
    }
}

/// A server that follows a script for each connection, which it is given with its number.
pub(super) struct Script {
    pub(super) address: SocketAddr,
    connections: Arc<AtomicUsize>,
}

impl Script {
    pub(super) fn new(script: impl Fn(usize, Peer) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let connections = Arc::new(AtomicUsize::new(0));
        let (count, script) = (Arc::clone(&connections), Arc::new(script));
        thread::spawn(move || {
            for stream in listener.incoming() {
                let number = count.fetch_add(1, Ordering::SeqCst);
                let script = Arc::clone(&script);
                thread::spawn(move || script(number, Peer::new(stream.unwrap())));
            }
        });
        Self {
            address,
            connections,
        }
    }

    /// Answers every request on every connection with 200 and `ok`.
    pub(super) fn ok() -> Self {
        Self::new(|_, mut peer| {
            while peer.head().is_some() {
                peer.send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
            }
        })
    }

    pub(super) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

/// One end of a raw connection.
pub(super) struct Peer {
    stream: TcpStream,
    unread: Vec<u8>,
}

impl Peer {
    fn new(stream: TcpStream) -> Self {
        // Bounds a test that waits in vain.
        stream
            .set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        stream.set_nodelay(true).unwrap();
        Self {
            stream,
            unread: Vec::new(),
        }
    }

    pub(super) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).unwrap();
    }

    /// Sends as much as is taken.
    pub(super) fn try_send(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).is_ok()
    }

    /// The next head, without its empty line; `None` if the connection ended before it.
    pub(super) fn head(&mut self) -> Option<String> {
        self.until("\r\n\r\n")
    }

    /// Everything up to `end`, which is consumed.
    pub(super) fn until(&mut self, end: &str) -> Option<String> {
        loop {
            let at = self
                .unread
                .windows(end.len())
                .position(|w| w == end.as_bytes());
            if let Some(at) = at {
                let rest = self.unread.split_off(at + end.len());
                let mut found = std::mem::replace(&mut self.unread, rest);
                found.truncate(at);
                return Some(String::from_utf8(found).unwrap());
            }
            if !self.fill() {
                return None;
            }
        }
    }

    pub(super) fn exactly(&mut self, len: usize) -> String {
        while self.unread.len() < len {
            assert!(self.fill(), "the connection ended");
        }
        let rest = self.unread.split_off(len);
        String::from_utf8(std::mem::replace(&mut self.unread, rest)).unwrap()
    }

    /// Everything until the connection ends, in whatever way.
    pub(super) fn rest(&mut self) -> String {
        while self.fill() {}
        String::from_utf8(std::mem::take(&mut self.unread)).unwrap()
    }

    fn fill(&mut self) -> bool {
        let mut buffer = [0; 4096];
        match self.stream.read(&mut buffer) {
            Ok(0) => false,
            Ok(n) => {
                self.unread.extend_from_slice(&buffer[..n]);
                true
            }
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => false,
            Err(error) => panic!("waited in vain: {error}"),
        }
    }
}

/// Status and header lines of a response head.
pub(super) fn status(head: &str) -> u16 {
    head.split(' ').nth(1).unwrap().parse().unwrap()
}

pub(super) fn line<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().skip(1).find_map(|line| {
        let (n, value) = line.split_once(':')?;
        n.eq_ignore_ascii_case(name).then(|| value.trim())
    })
}
