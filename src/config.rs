//! Configuration: one YAML file, compiled once into [`Config`].
//!
//! The text becomes a tree that fits anything (`file`), the tree becomes a [`Config`] or all of
//! its [`Problem`]s at once (`compile`). Nothing is read but the one file, and files of rules that
//! it names: secrets and certificates stay names until the process opens them.

mod change;
mod compile;
mod describe;
mod directory;
mod file;
mod files;
mod network;
mod owned;
mod problem;
mod scalar;
mod section;
mod tls;

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::macaroon::Limits;
use crate::policy::{NameTable, QueryKeys, Rule};
use crate::route::{Captures, Destination, Endpoint, HostPattern, RouteTable, Shadow};

pub use describe::describe;
pub use directory::{Directory, HttpDirectory, LookupTemplate, OwnerAt};
pub(crate) use file::to_json as yaml_to_json;
pub use files::{Content, Files};
pub use network::Network;
pub(crate) use owned::is_owned;
pub use problem::{ConfigError, Problem};
pub(crate) use problem::{distance, is_near};
pub use tls::{ClientCertificates, ListenerTls, TlsIdentity};

/// Reads and compiles a file. The second part of the answer are warnings.
pub fn load(path: &Path) -> Result<(Config, Vec<Problem>), ConfigError> {
    load_noting(path, &mut Files::default())
}

/// The same, and takes note of all files that were read, or that would have been. What was made of
/// them may have to be made again when there is something else in them.
pub fn load_noting(path: &Path, files: &mut Files) -> Result<(Config, Vec<Problem>), ConfigError> {
    let text = files.read(path).map_err(|source| ConfigError::Read {
        path: path.to_owned(),
        source,
    })?;
    compile::compile(&text, path, files)
}

/// Compiles the text of a configuration. Relative paths in it are relative to the folder of
/// `path`, which also names it in problems. Files of rules that it names are read from there, and
/// nothing else.
pub fn parse(text: &str, path: &Path) -> Result<(Config, Vec<Problem>), ConfigError> {
    compile::compile(text, path, &mut Files::default())
}

/// Compiles a document of names with ids, in the words of the section `directory`; JSON will do,
/// as it is YAML. Its names may belong to what is in the configuration (`fixed`), which they must
/// not contradict, and to what is in the store (`stored`).
pub fn parse_names(
    text: &str,
    path: &Path,
    fixed: &NameTable,
    stored: Option<&NameTable>,
) -> Result<NameTable, ConfigError> {
    let fixed = Some(fixed);
    compile::compile_names(text, path, &compile::Others { fixed, stored })
}

/// A compiled configuration: nothing in it is left to parse, look up or default.
#[derive(Debug)]
pub struct Config {
    /// Where usher listens; at least one.
    pub listeners: Vec<Listener>,
    /// The admin listener, if any.
    pub admin: Option<SocketAddr>,
    /// Where keys, issued tokens and revocations are kept.
    pub authority: Authority,
    /// Where names come by their ids.
    pub directory: Directory,
    /// Where permitted requests go; indexed by [`Route::upstream`].
    pub upstreams: Vec<Upstream>,
    /// Peers whose `X-Forwarded-For` and `X-Forwarded-Proto` are believed; others' are replaced.
    pub trusted_proxies: Vec<Network>,
    /// How much a denial tells its bearer.
    pub denials: Denials,
    /// Patterns to indices into `routes`.
    pub table: RouteTable,
    /// What each route asks for and where it leads.
    pub routes: Vec<Route>,
    /// Bounds on tokens.
    pub token_limits: Limits,
    /// Bounds on connections and request heads.
    pub limits: ConnectionLimits,
    /// Deadlines.
    pub timeouts: Timeouts,
    /// Bounds of the verification cache.
    pub cache: Cache,
    /// Worker threads, each with its own listener sockets; `None` is one per core.
    pub threads: Option<NonZeroUsize>,
}

/// What a 403 says. The log says all of it either way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denials {
    /// Which caveat of which token prohibits, and what would satisfy it. The bearer can read the
    /// caveats of its token anyway.
    Full,
    /// That it is denied.
    Terse,
}

/// One address to listen on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// Address and port; port 0 lets the system choose.
    pub address: SocketAddr,
    /// How TLS is spoken; `None` is cleartext.
    pub tls: Option<ListenerTls>,
}

/// The authority whose tokens are accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authority {
    /// Permission tokens bear this location.
    pub location: String,
    /// Path of the `SQLite` file.
    pub store: PathBuf,
    /// Under which the keys in the store are sealed.
    pub seal_key: Secret,
    /// Third parties whose tickets can be opened here, so that their attestations are trusted.
    pub third_parties: Vec<ThirdParty>,
}

/// A third party that discharges caveats.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ThirdParty {
    /// Its location.
    pub location: String,
    /// The 32-byte key shared with it, base64.
    pub key: Secret,
}

/// Where a secret is to be read from; never the secret itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Secret {
    /// An environment variable.
    Env(String),
    /// A file; white space around its content is dropped.
    File(PathBuf),
}

/// A group of servers that serve the same thing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upstream {
    /// Unique name.
    pub name: String,
    /// Servers that speak HTTP; at least one, unless there is one of the others.
    pub urls: Vec<UpstreamUrl>,
    /// Where tunnels lead, as written; those are bound to the captures of each route.
    pub tcp: Vec<HostPattern>,
    /// Set on every forwarded request in place of the client's credential.
    pub credential: Option<Credential>,
    /// How every forwarded request is signed, if it is.
    pub sign: Option<Signing>,
    /// PEM roots for TLS to this upstream instead of the system's; ignored for `http`.
    pub ca: Option<PathBuf>,
    /// What usher shows to servers that ask for a certificate; never sent over `http`.
    pub identity: Option<TlsIdentity>,
    /// HTTP version on the connection.
    pub protocol: Protocol,
}

/// `http://host:port` or `https://host:port`, without a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamUrl {
    /// Whether TLS is spoken.
    pub tls: bool,
    /// Host name or address, IPv6 without brackets.
    pub host: String,
    /// Port, the scheme's default filled in.
    pub port: u16,
}

/// Version spoken to an upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2: by ALPN over TLS, by prior knowledge over cleartext.
    Http2,
}

/// A header that usher sets towards an upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credential {
    /// Name.
    pub header: http::HeaderName,
    /// Value.
    pub value: Secret,
}

/// With what an upstream is shown that a request comes from usher.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signing {
    /// Names the key to an upstream that has two, while it changes from one to the next.
    pub id: String,
    /// The 32-byte key shared with the upstream, base64.
    pub key: Secret,
}

/// One route, as far as it is not its pattern.
#[derive(Debug, PartialEq, Eq)]
pub struct Route {
    /// Unique name; the label in metrics and logs.
    pub name: String,
    /// What the bearer must be permitted.
    pub rule: Rule,
    /// Index into [`Config::upstreams`].
    pub upstream: usize,
    /// Whether the response is a stream: the idle deadline of streams applies.
    pub stream: bool,
    /// The query keys that requests may have, those that the rule reads included.
    pub query: QueryKeys,
    /// Whether a token may come as the password of Basic authentication.
    pub basic: bool,
    /// Bytes of a body that the rule reads, inclusive.
    pub body_limit: usize,
    /// Whether its requests may become a `WebSocket`.
    pub websocket: bool,
    /// What its requests become instead of being forwarded.
    pub tunnel: Option<Tunnel>,
}

/// A tunnel: bytes both ways between a client and a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tunnel {
    /// What is expected to go through it.
    pub kind: TunnelKind,
    /// Where it leads, at least one place: the next one is tried where nobody accepts.
    pub destinations: Vec<Destination>,
}

impl Tunnel {
    /// The places that it leads to for what the path and the host of a request captured.
    pub fn endpoints(&self, path: &Captures<'_>, host: &Captures<'_>) -> Box<[Endpoint]> {
        let filled = self.destinations.iter().map(|to| to.endpoint(path, host));
        filled.flatten().collect()
    }
}

/// What goes through a tunnel. usher does not look at it; the word is for those who read the
/// configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TunnelKind {
    /// SSH.
    Ssh,
    /// Anything.
    Tcp,
}

/// Every route that takes requests from a more general one, where that makes a difference: what is
/// forwarded to the same place on the same terms may as well be two routes.
fn shadows(table: &RouteTable, routes: &[Route]) -> Vec<Shadow> {
    let differs = |shadow: &Shadow| {
        let (one, two) = (routes.get(shadow.specific), routes.get(shadow.general));
        one.zip(two).is_none_or(|(one, two)| {
            one.upstream != two.upstream
                || one.basic != two.basic
                || one.websocket != two.websocket
                || one.tunnel.is_some() != two.tunnel.is_some()
                || !one.rule.asks_like(&two.rule)
        })
    };
    table.shadows().into_iter().filter(differs).collect()
}

/// Bounds on connections and request heads, each inclusive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectionLimits {
    /// Open downstream connections, all listeners together.
    pub connections: usize,
    /// Open downstream connections from one address.
    pub connections_per_address: usize,
    /// Bytes of a request head.
    pub head_bytes: usize,
    /// Headers of a request.
    pub headers: usize,
    /// Bytes of a request target.
    pub target_bytes: usize,
    /// Concurrent HTTP/2 streams of one connection.
    pub streams: u32,
    /// Streams of one HTTP/2 connection that its client may reset within 10 s.
    pub resets: u32,
    /// HTTP/2 frames that carry nothing (PING, SETTINGS and the like) of one connection
    /// within 10 s, beside one for every 32 bytes that it is sent.
    pub idle_frames: u32,
    /// Idle connections kept to one upstream, per worker thread.
    pub idle_upstream: usize,
    /// HTTP/1.1 connections to one server of an upstream, per worker thread.
    pub upstream_connections: usize,
    /// Headers whose names have other characters than letters, digits and hyphens.
    pub odd_header_names: Oddity,
    /// Extensions of the chunks of a request body.
    pub chunk_extensions: Oddity,
    /// Bytes held of bodies that are judged, all connections together.
    pub judged_bodies: usize,
}

/// What becomes of a part of a request that nobody needs and that readers disagree about. It never
/// reaches an upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Oddity {
    /// The request is refused.
    Refuse,
    /// The request is served without it.
    Drop,
}

impl ConnectionLimits {
    /// Where the configuration says nothing.
    pub const DEFAULT: Self = Self {
        // Two descriptors each, with the one upstream: below the usual hard limit of 65,536.
        connections: 16_384,
        // Whole offices and clouds share an address; one of them still cannot take everything.
        connections_per_address: 1_024,
        // Users in many organizations send tens of kilobytes of tokens.
        head_bytes: 64 * 1024,
        // What hyper parses without an allocation. Clients send some twenty.
        headers: 100,
        // Longest target of the known clients: a log cursor, a few hundred bytes.
        target_bytes: 8 * 1024,
        // What browsers and the edge guides of other proxies settled on.
        streams: 100,
        // All streams there can be, given up twice: a client that changes its mind, not a flood.
        resets: 200,
        // Clients send some ten, and what they acknowledge is allowed for apart.
        idle_frames: 1_000,
        // Kept per worker, so a machine of 8 cores holds up to 512 idle connections.
        idle_upstream: 64,
        // Enough for a thousand slow requests, and far from the descriptors that there are.
        upstream_connections: 1_024,
        // No known client sends either; `drop` is for one that does.
        odd_header_names: Oddity::Refuse,
        chunk_extensions: Oddity::Refuse,
        // A thousand of the longest that routes judge by default, a hundred thousand of the usual.
        judged_bodies: 64 * 1024 * 1024,
    };
}

/// Deadlines on every wait for the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// From accept to the end of the TLS handshake.
    pub tls_handshake: Duration,
    /// From the first byte a request may have to the end of its head; also the longest idle time between requests.
    pub request_head: Duration,
    /// From the head of a request to the end of its body, where the route is judged by it.
    pub judged_body: Duration,
    /// To connect to an upstream, TLS included.
    pub connect: Duration,
    /// From the end of the request to the head of the response.
    pub response_head: Duration,
    /// Between two reads or writes of a body, either direction.
    pub idle: Duration,
    /// The same on routes that stream.
    pub stream_idle: Duration,
    /// From SIGTERM until connections that are still open are cut.
    pub drain: Duration,
}

impl Timeouts {
    /// Where the configuration says nothing.
    pub const DEFAULT: Self = Self {
        tls_handshake: Duration::from_secs(10),
        request_head: Duration::from_secs(10),
        // As long as a head may take: the decision waits for it.
        judged_body: Duration::from_secs(10),
        // Upstreams are near. A client that is told early can try another replica.
        connect: Duration::from_secs(5),
        // Waiting for a machine is held open for 60 s by the API itself.
        response_head: Duration::from_secs(75),
        idle: Duration::from_secs(75),
        // A log may be silent for long; the lease of its token ends it as well.
        stream_idle: Duration::from_secs(60 * 60),
        // Shorter than what orchestrators wait before they kill.
        drain: Duration::from_secs(25),
    };
}

/// Bounds of the verification cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cache {
    /// Bytes of cached verifications; 0 switches the cache off.
    pub bytes: u64,
    /// Bytes of remembered failures.
    pub failure_bytes: u64,
    /// The longest an entry lives.
    pub ttl: Duration,
    /// How long a failure is remembered.
    pub failure_ttl: Duration,
}

impl Cache {
    /// Where the configuration says nothing.
    pub const DEFAULT: Self = Self {
        // Some tens of thousands of tokens of the usual size.
        bytes: 64 * 1024 * 1024,
        failure_bytes: 4 * 1024 * 1024,
        // Entries also die with the window of their token and with the key generation.
        ttl: Duration::from_secs(60 * 60),
        // A token may become good, when its key arrives: not for long.
        failure_ttl: Duration::from_secs(5),
    };
}
