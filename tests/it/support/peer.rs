//! One end of a raw connection, with or without TLS.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};

use super::DEADLINE;
use super::canary::{self, Place};

/// What bytes go through.
pub(crate) trait Wire: Read + Write + Send {}

impl<T: Read + Write + Send> Wire for T {}

/// Reads and writes HTTP/1.1 as text, without understanding more of it than its framing.
pub(crate) struct Peer {
    wire: Box<dyn Wire>,
    unread: Vec<u8>,
    /// Gets every byte as it is read.
    tap: Option<Tap>,
    watch: canary::Stream,
}

type Tap = Box<dyn Fn(&[u8]) + Send>;

/// For readers of other protocols.
impl Read for Peer {
    fn read(&mut self, to: &mut [u8]) -> std::io::Result<usize> {
        if self.unread.is_empty() && !self.fill() {
            return Ok(0);
        }
        let count = to.len().min(self.unread.len());
        for (to, byte) in to.iter_mut().zip(self.unread.drain(..count)) {
            *to = byte;
        }
        Ok(count)
    }
}

impl Write for Peer {
    fn write(&mut self, from: &[u8]) -> std::io::Result<usize> {
        self.wire.write(from)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.wire.flush()
    }
}

/// A whole response.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Peer {
    pub(crate) fn connect(address: SocketAddr) -> Self {
        Self::new(prepared(TcpStream::connect(address).unwrap()))
    }

    /// Takes a socket that [`prepared`] has seen, or TLS over one, from a client.
    pub(crate) fn new(wire: impl Wire + 'static) -> Self {
        Self {
            wire: Box::new(wire),
            unread: Vec::new(),
            tap: None,
            watch: canary::Stream::new(Place::Answer),
        }
    }

    /// The same from an upstream.
    pub(super) fn upstream(
        wire: impl Wire + 'static,
        tap: impl Fn(&[u8]) + Send + 'static,
    ) -> Self {
        Self {
            tap: Some(Box::new(tap)),
            watch: canary::Stream::new(Place::Upstream),
            ..Self::new(wire)
        }
    }

    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        canary::hide_credentials(bytes.as_ref());
        self.wire.write_all(bytes.as_ref()).unwrap();
        self.wire.flush().unwrap();
    }

    /// Sends as much as is taken: the other side may have had enough.
    pub(crate) fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        canary::hide_credentials(bytes.as_ref());
        self.wire.write_all(bytes.as_ref()).is_ok() && self.wire.flush().is_ok()
    }

    /// The next head, without its empty line; `None` if the connection ended before it.
    pub(crate) fn head(&mut self) -> Option<String> {
        let head = self.until(b"\r\n\r\n")?;
        Some(String::from_utf8(head).unwrap())
    }

    /// Everything before `end`, which is consumed as well.
    pub(crate) fn until(&mut self, end: &[u8]) -> Option<Vec<u8>> {
        let mut searched = 0;
        loop {
            let from = searched.min(self.unread.len());
            let found = self.unread[from..]
                .windows(end.len())
                .position(|window| window == end);
            if let Some(at) = found {
                let rest = self.unread.split_off(from + at + end.len());
                let mut before = std::mem::replace(&mut self.unread, rest);
                before.truncate(from + at);
                return Some(before);
            }
            searched = self.unread.len().saturating_sub(end.len());
            if !self.fill() {
                return None;
            }
        }
    }

    pub(crate) fn exactly(&mut self, length: usize) -> Vec<u8> {
        while self.unread.len() < length {
            assert!(self.fill(), "the connection ended");
        }
        let rest = self.unread.split_off(length);
        std::mem::replace(&mut self.unread, rest)
    }

    /// Everything until the connection ends, in whatever way.
    pub(crate) fn rest(&mut self) -> Vec<u8> {
        while self.fill() {}
        std::mem::take(&mut self.unread)
    }

    /// A chunked body, and its trailer section.
    pub(crate) fn chunked(&mut self) -> (Vec<u8>, String) {
        let mut body = Vec::new();
        loop {
            let size = String::from_utf8(self.until(b"\r\n").unwrap()).unwrap();
            let size = usize::from_str_radix(&size, 16).unwrap();
            if size == 0 {
                break;
            }
            body.extend(self.exactly(size));
            assert_eq!(self.exactly(2), b"\r\n");
        }
        let mut section = String::new();
        loop {
            let line = String::from_utf8(self.until(b"\r\n").unwrap()).unwrap();
            if line.is_empty() {
                return (body, section);
            }
            section.push_str(&line);
            section.push('\n');
        }
    }

    /// The next response, whole.
    #[track_caller]
    pub(crate) fn answer(&mut self) -> Answer {
        let head = self.head().expect("the connection ended without an answer");
        self.answer_from(head)
    }

    /// The response that begins with this head, whole.
    pub(crate) fn answer_from(&mut self, head: String) -> Answer {
        let body = if line(&head, "transfer-encoding") == Some("chunked") {
            self.chunked().0
        } else if let Some(length) = line(&head, "content-length") {
            self.exactly(length.parse().unwrap())
        } else {
            Vec::new()
        };
        Answer {
            status: status(&head),
            head,
            body,
        }
    }

    /// The next response, to HEAD: its length is that of another one's body.
    #[track_caller]
    pub(crate) fn answer_to_head(&mut self) -> Answer {
        let head = self.head().expect("the connection ended without an answer");
        Answer {
            status: status(&head),
            head,
            body: Vec::new(),
        }
    }

    fn fill(&mut self) -> bool {
        let mut buffer = [0; 64 * 1024];
        match self.wire.read(&mut buffer) {
            Ok(0) => false,
            Ok(length) => {
                self.watch.look(&buffer[..length]);
                if let Some(tap) = &self.tap {
                    tap(&buffer[..length]);
                }
                self.unread.extend_from_slice(&buffer[..length]);
                true
            }
            // rustls calls an end without close_notify unexpected, and one with an alert invalid.
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::ConnectionReset | ErrorKind::UnexpectedEof | ErrorKind::InvalidData
                ) =>
            {
                false
            }
            Err(error) => panic!("waited in vain: {error}"),
        }
    }
}

impl Answer {
    pub(crate) fn line(&self, name: &str) -> Option<&str> {
        line(&self.head, name)
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    /// The problem document of a denial, which says the status a second time.
    #[track_caller]
    pub(crate) fn problem(&self) -> serde_json::Value {
        assert_eq!(self.line("content-type"), Some("application/problem+json"));
        let problem: serde_json::Value = serde_json::from_slice(&self.body).unwrap();
        assert_eq!(problem["status"], self.status, "{problem}");
        problem
    }

    /// The stable code of a denial.
    #[track_caller]
    pub(crate) fn code(&self) -> String {
        self.problem()["code"].as_str().unwrap().to_owned()
    }

    /// Its sentence for people.
    #[track_caller]
    pub(crate) fn detail(&self) -> String {
        self.problem()["detail"].as_str().unwrap().to_owned()
    }
}

/// A socket that gives up waiting at the deadline.
pub(super) fn prepared(stream: TcpStream) -> TcpStream {
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream.set_write_timeout(Some(DEADLINE)).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

fn status(head: &str) -> u16 {
    head.split(' ').nth(1).unwrap().parse().unwrap()
}

/// The value of the first header line with this name.
pub(super) fn line<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().skip(1).find_map(|line| {
        let (key, value) = line.split_once(':')?;
        key.eq_ignore_ascii_case(name).then(|| value.trim())
    })
}
