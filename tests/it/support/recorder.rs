//! An HTTP/1.1 upstream that records every byte it receives.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;

use rustls::{ServerConfig, ServerConnection, StreamOwned};
use socket2::Socket;

use super::peer::{self, Peer};
use super::{DEADLINE, Identity};

/// The upstream. It goes on until the process ends.
pub(crate) struct Recorder {
    pub(crate) address: SocketAddr,
    record: Arc<Record>,
}

#[derive(Default)]
struct Record {
    seen: Mutex<Seen>,
    changed: Condvar,
}

#[derive(Default)]
struct Seen {
    /// Who connected, in order.
    peers: Vec<SocketAddr>,
    /// Connections that the recorder made to itself.
    probes: usize,
    bytes: Vec<u8>,
    requests: Vec<Received>,
}

/// One request as it came.
#[derive(Clone, Debug)]
pub(crate) struct Received {
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
    pub(crate) trailers: String,
}

/// A connection to the upstream, for a script that answers in its own way.
pub(crate) struct Exchange {
    pub(crate) peer: Peer,
    record: Arc<Record>,
}

impl Recorder {
    /// Answers every request with 200 and `ok`.
    pub(crate) fn ok() -> Self {
        Self::answering(|_| b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok".to_vec())
    }

    /// Answers every request, once it is complete, with the bytes that `answer` gives.
    pub(crate) fn answering(answer: impl Fn(&Received) -> Vec<u8> + Send + Sync + 'static) -> Self {
        Self::script(move |exchange| answer_all(exchange, &answer))
    }

    /// The same at an address that a socket was bound to before, and at which nobody was until now.
    pub(crate) fn answering_at(
        bound: Socket,
        answer: impl Fn(&Received) -> Vec<u8> + Send + Sync + 'static,
    ) -> Self {
        bound.listen(128).unwrap();
        let script = move |exchange: &mut Exchange| answer_all(exchange, &answer);
        Self::start(bound.into(), None, script)
    }

    /// Runs a script for each connection.
    pub(crate) fn script(script: impl Fn(&mut Exchange) + Send + Sync + 'static) -> Self {
        Self::start(TcpListener::bind("127.0.0.1:0").unwrap(), None, script)
    }

    /// The same, with a script for each connection.
    pub(crate) fn script_at(
        bound: Socket,
        script: impl Fn(&mut Exchange) + Send + Sync + 'static,
    ) -> Self {
        bound.listen(128).unwrap();
        Self::start(bound.into(), None, script)
    }

    /// The same as [`answering`](Self::answering) inside TLS.
    pub(crate) fn secured(
        identity: &Identity,
        answer: impl Fn(&Received) -> Vec<u8> + Send + Sync + 'static,
    ) -> Self {
        Self::over_tls(identity.server(&[]), answer)
    }

    /// The same with TLS as given.
    pub(crate) fn over_tls(
        tls: Arc<ServerConfig>,
        answer: impl Fn(&Received) -> Vec<u8> + Send + Sync + 'static,
    ) -> Self {
        let script = move |exchange: &mut Exchange| answer_all(exchange, &answer);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        Self::start(listener, Some(tls), script)
    }

    fn start(
        listener: TcpListener,
        tls: Option<Arc<ServerConfig>>,
        script: impl Fn(&mut Exchange) + Send + Sync + 'static,
    ) -> Self {
        let address = listener.local_addr().unwrap();
        let (record, script) = (Arc::<Record>::default(), Arc::new(script));
        let recording = Arc::clone(&record);
        // Whatever is found in these threads is told by the name of the test.
        let named = || {
            let test = thread::current().name().unwrap_or("a test").to_owned();
            thread::Builder::new().name(test)
        };
        let serve = move || {
            loop {
                let (tcp, peer) = listener.accept().unwrap();
                recording.add(|seen| seen.peers.push(peer));
                let (record, script, tls) =
                    (Arc::clone(&recording), Arc::clone(&script), tls.clone());
                let exchange = move || {
                    let tcp = peer::prepared(tcp);
                    let tap = Arc::clone(&record);
                    let tap = move |bytes: &[u8]| tap.add(|seen| seen.bytes.extend(bytes));
                    let peer = match tls {
                        None => Peer::upstream(tcp, tap),
                        Some(config) => {
                            let tls = ServerConnection::new(config).unwrap();
                            Peer::upstream(StreamOwned::new(tls, tcp), tap)
                        }
                    };
                    script(&mut Exchange { peer, record });
                };
                named().spawn(exchange).unwrap();
            }
        };
        named().spawn(serve).unwrap();
        Self { address, record }
    }

    /// How many connections were made to it.
    ///
    /// Connections are accepted in the order in which they were made, so once one of its own is
    /// accepted, no earlier one is still on its way. Its port may be that of an earlier one, which
    /// says nothing of this one.
    pub(crate) fn connections(&self) -> usize {
        let known = self.record.seen.lock().unwrap().peers.len();
        let probe = TcpStream::connect(self.address).unwrap();
        let own = probe.local_addr().unwrap();
        self.record.wait("a probe", |seen| {
            seen.peers[known..].contains(&own).then_some(())
        });
        let mut seen = self.record.seen.lock().unwrap();
        seen.probes += 1;
        seen.peers.len() - seen.probes
    }

    /// The first assertion about a denial.
    #[track_caller]
    pub(crate) fn saw_nothing(&self) {
        assert_eq!(self.connections(), 0, "the upstream was connected to");
    }

    /// Every byte it received, of all connections.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        self.record.seen.lock().unwrap().bytes.clone()
    }

    /// The complete requests so far. A request is listed before it is answered.
    pub(crate) fn requests(&self) -> Vec<Received> {
        self.record.seen.lock().unwrap().requests.clone()
    }

    /// The last of them.
    #[track_caller]
    pub(crate) fn last(&self) -> Received {
        self.requests().pop().expect("the upstream saw a request")
    }
}

impl Exchange {
    /// Reads a whole request; `None` when the connection ends instead.
    pub(crate) fn request(&mut self) -> Option<Received> {
        let head = self.peer.head()?;
        let (body, trailers) = if peer::line(&head, "transfer-encoding").is_some() {
            self.peer.chunked()
        } else if let Some(length) = peer::line(&head, "content-length") {
            (self.peer.exactly(length.parse().unwrap()), String::new())
        } else {
            (Vec::new(), String::new())
        };
        let received = Received {
            head,
            body,
            trailers,
        };
        self.record.add(|seen| seen.requests.push(received.clone()));
        Some(received)
    }
}

impl Received {
    pub(crate) fn line(&self, name: &str) -> Option<&str> {
        peer::line(&self.head, name)
    }

    /// Method, target and version, as they came.
    pub(crate) fn request_line(&self) -> &str {
        self.head.lines().next().unwrap()
    }
}

impl Record {
    fn add(&self, change: impl FnOnce(&mut Seen)) {
        change(&mut self.seen.lock().unwrap());
        self.changed.notify_all();
    }

    fn wait<T>(&self, what: &str, look: impl Fn(&Seen) -> Option<T>) -> T {
        let mut found = None;
        let seen = self.seen.lock().unwrap();
        let (_seen, timeout) = self
            .changed
            .wait_timeout_while(seen, DEADLINE, |seen| {
                found = look(seen);
                found.is_none()
            })
            .unwrap();
        assert!(!timeout.timed_out(), "waited in vain for {what}");
        found.unwrap()
    }
}

fn answer_all(exchange: &mut Exchange, answer: &impl Fn(&Received) -> Vec<u8>) {
    while let Some(received) = exchange.request() {
        // A client of usher that leaves takes the connection along.
        if !exchange.peer.try_send(answer(&received)) {
            return;
        }
    }
}
