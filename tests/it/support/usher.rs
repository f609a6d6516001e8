//! usher in this process: a configuration as people write it, a store in a folder, and sockets.

use std::fmt::Display;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Once};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use usher::authority::{Authority, Kind, Request, Window};
use usher::authz::Authorizer;
use usher::clock::unix_now;
use usher::config::{self, Files};
use usher::directory::Directory;
use usher::macaroon::{Caveat, Token};
use usher::metrics::Metrics;
use usher::proxy::{Running, Server};
use usher::shutdown::Shutdown;
use zeroize::Zeroizing;

use super::canary::{self, Place};
use super::keys::hide_keys;
use super::peer::{Answer, Peer};
use super::tokens::{distinct, header, hide, hour};
use super::until;

/// A folder with a configuration and what it names.
pub(crate) struct World {
    folder: tempfile::TempDir,
    yaml: String,
}

impl World {
    /// The usual one, in front of one upstream.
    pub(crate) fn before(upstream: SocketAddr) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let yaml = include_str!("world.yaml").replace("@UPSTREAM@", &upstream.to_string());
        Self { folder, yaml }.file("seal.key", STANDARD.encode(SEAL_KEY))
    }

    /// The platform of the acceptance matrix: the hosts and routes of `config/fly.yaml`, in front
    /// of one upstream.
    pub(crate) fn fly(upstream: SocketAddr) -> Self {
        let fly = include_str!("../../../config/fly.yaml");
        let from = |key: &str| fly.split_once(&format!("\n{key}:\n")).unwrap().1;
        let hosts = from("hosts").split_once("\n\n").unwrap().0;
        let head = include_str!("fly.yaml").replace("@UPSTREAM@", &upstream.to_string());
        let yaml = format!("{head}hosts:\n{hosts}\nroutes:\n{}", from("routes"));
        let world = Self {
            yaml,
            ..Self::before(upstream)
        };
        world.file("graphql.yaml", include_str!("../../../config/graphql.yaml"))
    }

    /// Replaces every occurrence of a piece of the configuration.
    #[track_caller]
    pub(crate) fn with(mut self, piece: &str, instead: impl Display) -> Self {
        assert!(self.yaml.contains(piece), "the world has no `{piece}`");
        self.yaml = self.yaml.replace(piece, &instead.to_string());
        self
    }

    /// Appends a section.
    pub(crate) fn and(mut self, section: impl Display) -> Self {
        self.yaml = format!("{}\n{section}\n", self.yaml);
        self
    }

    /// Has the listener speak TLS.
    pub(crate) fn secured(self, identity: &super::Identity) -> Self {
        let (certificate, key) = (identity.certificate.display(), identity.key.display());
        self.with(
            "- address: 127.0.0.1:0",
            format_args!(
                "- {{ address: 127.0.0.1:0, tls: {{ certificate: {certificate}, key: {key} }} }}"
            ),
        )
    }

    /// A file that the configuration may name. Keys, and credentials for upstreams, are secrets.
    pub(crate) fn file(self, name: &str, content: impl AsRef<[u8]>) -> Self {
        let text = String::from_utf8_lossy(content.as_ref());
        match STANDARD.decode(text.trim()) {
            Ok(key) if name.ends_with(".key") => canary::hide(&key),
            Ok(_) | Err(_) if name.ends_with(".key") || name == "secret" => {
                canary::hide_text_except(text.trim(), &[Place::Upstream]);
            }
            Ok(_) | Err(_) => {}
        }
        std::fs::write(self.folder.path().join(name), content).unwrap();
        self
    }

    /// Writes the configuration where the command line finds it.
    pub(crate) fn write(&self) -> PathBuf {
        let path = self.folder.path().join("usher.yaml");
        std::fs::write(&path, &self.yaml).unwrap();
        path
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The store alone, without anything that listens.
    pub(crate) fn authority(&self) -> Authority {
        let authority = Authority::open(&self.config().authority, unix_now()).unwrap();
        hide_keys(self.folder.path());
        authority
    }

    fn config(&self) -> config::Config {
        match config::parse(&self.yaml, &self.folder.path().join("usher.yaml")) {
            Ok((config, warnings)) => {
                assert!(warnings.is_empty(), "{warnings:?}");
                config
            }
            Err(problems) => panic!("{problems}"),
        }
    }

    /// usher with this configuration; it follows the file that this is written to.
    pub(crate) fn start(self) -> Usher {
        static WATCHED: Once = Once::new();
        WATCHED.call_once(|| {
            usher::cli::log_to(|| canary::Lines(Place::Log), "trace", false);
            canary::watch_panics();
        });
        let path = self.write();
        let mut files = Files::default();
        let (config, warnings) =
            config::load_noting(&path, &mut files).unwrap_or_else(|problems| panic!("{problems}"));
        assert!(warnings.is_empty(), "{warnings:?}");
        let config = Arc::new(config);
        let mut authority = self.authority();
        authority.follow().unwrap();
        let (authority, metrics) = (Arc::new(authority), Arc::new(Metrics::new()));
        let authorizer = Authorizer::new(
            Arc::clone(&config),
            Arc::clone(&authority),
            Arc::new(Directory::open(&config.directory, &metrics).unwrap()),
            Arc::clone(&metrics),
        );
        let server = Server::open(&config, Arc::new(authorizer), Arc::clone(&metrics)).unwrap();
        let server = server.following(path, files);
        let address = server.addresses()[0];
        let admin = server.admin_address().unwrap();
        let shutdown = Shutdown::default();
        let running = server.start(shutdown.clone()).unwrap();
        Usher {
            world: Some(self),
            address,
            admin,
            authority,
            metrics,
            shutdown,
            running: Some(running),
        }
    }
}

/// Under which every store of a test is sealed.
const SEAL_KEY: [u8; 32] = distinct(9);

/// A running usher; it is cut when dropped, and must not have shown a secret anywhere by then.
pub(crate) struct Usher {
    world: Option<World>,
    pub(crate) address: SocketAddr,
    pub(crate) admin: SocketAddr,
    pub(crate) authority: Arc<Authority>,
    metrics: Arc<Metrics>,
    shutdown: Shutdown,
    running: Option<Running>,
}

impl Usher {
    pub(crate) fn connect(&self) -> Peer {
        Peer::connect(self.address)
    }

    /// Sends `METHOD TARGET` with a credential on a connection of its own.
    #[track_caller]
    pub(crate) fn ask(&self, request: &str, credential: Option<&str>) -> Answer {
        self.ask_with(request, credential, "")
    }

    /// The same with further header lines, each with its line end.
    #[track_caller]
    pub(crate) fn ask_with(&self, request: &str, credential: Option<&str>, lines: &str) -> Answer {
        let credential =
            credential.map_or_else(String::new, |value| format!("authorization: {value}\r\n"));
        let mut peer = self.connect();
        peer.send(format!(
            "{request} HTTP/1.1\r\nhost: usher.test\r\n{credential}{lines}\r\n"
        ));
        peer.answer()
    }

    /// A token with these caveats, entered into the ledger like every other.
    pub(crate) fn issue(&self, caveats: &[Caveat]) -> Token {
        issue(&self.authority, "test", caveats)
    }

    /// The one token of a kind that has one.
    #[track_caller]
    pub(crate) fn token(&self, kind: &Kind, window: Window) -> Token {
        let [caveats] = &kind.caveats(window)[..] else {
            panic!("{} is not one token", kind.name());
        };
        issue(&self.authority, kind.name(), caveats)
    }

    /// The header value of a token as `usher token create` makes it, good for an hour.
    #[track_caller]
    pub(crate) fn credential(&self, kind: &Kind) -> String {
        header(&[&self.token(kind, hour())])
    }

    /// What the admin listener says about this usher.
    pub(crate) fn metrics(&self) -> String {
        let mut peer = Peer::connect(self.admin);
        peer.send("GET /metrics HTTP/1.1\r\nhost: admin\r\n\r\n");
        let answer = peer.answer();
        assert_eq!(answer.status, 200);
        answer.text().to_owned()
    }

    /// Replaces a piece of the configuration where it is written, and has it read again. Says
    /// whether it was put into use; a worker may take a moment more to hear of it.
    #[track_caller]
    pub(crate) fn reload(&mut self, piece: impl Display, instead: impl Display) -> bool {
        let read = |usher: &Self| {
            ["loaded", "failed"].map(|outcome| {
                let start = format!("usher_config_reloads_total{{outcome=\"{outcome}\"}} ");
                let metrics = usher.metrics();
                let mut lines = metrics.lines();
                let count = lines.find_map(|line| line.strip_prefix(&start)).unwrap();
                count.parse::<u64>().unwrap()
            })
        };
        let before = read(self);
        let world = self.world.take().unwrap().with(&piece.to_string(), instead);
        world.write();
        self.world = Some(world);
        self.read_again();
        let after = until("the configuration to be read", || {
            Some(read(self)).filter(|after| *after != before)
        });
        after[0] > before[0]
    }

    /// Has the configuration read again, whatever there is now.
    pub(crate) fn read_again(&self) {
        self.shutdown.reload.notify_one();
    }

    /// Another key for tokens to come, which is looked for like those before it.
    pub(crate) fn rotate(&self) {
        self.authority.rotate(unix_now()).unwrap();
        hide_keys(self.folder());
    }

    /// The key of another issuer.
    pub(crate) fn import(&self, id: &[u8], key: [u8; 32]) {
        canary::hide(&key);
        let key = Zeroizing::new(key);
        self.authority.import(id, &key, unix_now()).unwrap();
    }

    /// The same authority, as another process has it.
    pub(crate) fn elsewhere(&self) -> Authority {
        self.world.as_ref().unwrap().authority()
    }

    /// Where its files are.
    pub(crate) fn folder(&self) -> &Path {
        self.world.as_ref().unwrap().folder()
    }

    /// Ends it in an orderly way, and starts another one in the same folder.
    pub(crate) fn restart(mut self) -> Self {
        let world = self.world.take().unwrap();
        drop(self);
        world.start()
    }
}

impl Drop for Usher {
    fn drop(&mut self) {
        let mut metrics = String::new();
        self.metrics.write(&mut metrics).unwrap();
        canary::look(Place::Metrics, metrics.as_bytes());
        self.shutdown.drain.cancel();
        self.shutdown.cut.cancel();
        if let Some(running) = self.running.take()
            && !std::thread::panicking()
        {
            running.join().unwrap();
        }
        canary::assert_hidden();
    }
}

fn issue(authority: &Authority, kind: &str, caveats: &[Caveat]) -> Token {
    let request = Request {
        kind,
        name: None,
        org: None,
        app: None,
        caveats,
        issuer: None,
    };
    let token = authority.issue(&request, unix_now()).unwrap();
    hide(&token);
    token
}
