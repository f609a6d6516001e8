//! A request on its way to an upstream.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use http::header::{self, HeaderMap};
use http::{HeaderName, HeaderValue, Request};
use hyper::body::{Body, Frame};
use tokio::io::AsyncWrite;

use super::Fault;
use crate::proxy::body::RequestBody;
use crate::proxy::marks::Marks;
use crate::proxy::socket::Socket;

/// What is to be written: framing, then data, then the end of the chunk that this is.
#[derive(Debug, Default)]
pub(super) struct Outgoing {
    lines: Vec<u8>,
    /// So many of them have been.
    written: usize,
    data: Bytes,
    end: &'static [u8],
    /// Whose body it is. As long as nothing has begun, it can go elsewhere.
    request: Option<Box<Request<RequestBody>>>,
    framing: Framing,
    /// A byte has been written, or a part of the body taken.
    begun: bool,
    stage: Stage,
}

/// How the request body is framed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Framing {
    /// There is none.
    #[default]
    None,
    /// By its length, of which so much is left.
    Sized(u64),
    /// In chunks.
    Chunked,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stage {
    /// There is more of the body.
    Sending,
    /// The last of it is being written.
    Ending,
    /// Everything has been written.
    #[default]
    Sent,
    /// Nothing more will be.
    Stopped,
}

impl Outgoing {
    /// Begins with the head: the client's lines to this host, then those of usher.
    pub(super) fn begin(
        &mut self,
        request: Box<Request<RequestBody>>,
        host: &HeaderValue,
        marks: &Marks,
    ) -> Result<(), Fault> {
        let headers = request.headers();
        let body = request.body();
        self.framing = match body.size_hint().exact() {
            _ if body.is_end_stream() => Framing::None,
            Some(length) => Framing::Sized(length),
            None => Framing::Chunked,
        };
        self.lines.clear();
        self.written = 0;
        let lines = &mut self.lines;
        lines.extend_from_slice(request.method().as_str().as_bytes());
        lines.push(b' ');
        let target = request.uri().path_and_query();
        lines.extend_from_slice(target.map_or("/", |target| target.as_str()).as_bytes());
        lines.extend_from_slice(b" HTTP/1.1\r\n");
        line(lines, &header::HOST, host.as_bytes());
        let mut length = None;
        for (name, value) in headers {
            // How the body is framed is said below, once; and there is one host.
            if *name == header::CONTENT_LENGTH {
                length = Some(value);
            } else if *name != header::TRANSFER_ENCODING && *name != header::HOST {
                line(lines, name, value.as_bytes());
            }
        }
        for (name, value) in marks.iter() {
            line(lines, name, value);
        }
        match self.framing {
            Framing::None => {
                if let Some(length) = length {
                    agree(length, 0)?;
                    line(lines, &header::CONTENT_LENGTH, length.as_bytes());
                }
            }
            Framing::Sized(exact) => {
                if let Some(length) = length {
                    agree(length, exact)?;
                }
                lines.extend_from_slice(b"content-length: ");
                lines.extend_from_slice(exact.to_string().as_bytes());
                lines.extend_from_slice(b"\r\n");
            }
            Framing::Chunked => lines.extend_from_slice(b"transfer-encoding: chunked\r\n"),
        }
        lines.extend_from_slice(b"\r\n");
        self.begun = false;
        self.stage = match self.framing {
            Framing::None => Stage::Ending,
            Framing::Sized(_) | Framing::Chunked => Stage::Sending,
        };
        self.request = Some(request);
        Ok(())
    }

    /// Gives the request back, if nothing of it has left.
    pub(super) fn take_back(&mut self) -> Option<Box<Request<RequestBody>>> {
        self.request.take().filter(|_| !self.begun)
    }

    /// Whether a byte has been written, or a part of the body taken.
    pub(super) fn is_begun(&self) -> bool {
        self.begun
    }

    pub(super) fn is_sent(&self) -> bool {
        self.stage == Stage::Sent
    }

    /// Writes nothing more.
    pub(super) fn stop(&mut self) {
        self.stage = Stage::Stopped;
        self.request = None;
        self.data = Bytes::new();
    }

    /// Keeps little of what was room for a head.
    pub(super) fn rest(&mut self) {
        if self.lines.capacity() > KEPT {
            self.lines = Vec::new();
        }
    }

    /// Writes what there is; ready when that was all.
    pub(super) fn poll(
        &mut self,
        socket: &mut Socket,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Fault>> {
        while matches!(self.stage, Stage::Sending | Stage::Ending) {
            let filled = self.poll_fill(cx)?;
            ready!(self.poll_write(socket, cx)).map_err(Fault::Io)?;
            ready!(filled);
            if self.stage == Stage::Ending {
                self.stage = Stage::Sent;
                self.request = None;
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Takes the next part of the body when the last one is written.
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        let idle = self.data.is_empty() && self.end.is_empty();
        let Some(request) = self.request.as_mut() else {
            return Poll::Ready(Ok(()));
        };
        if self.stage != Stage::Sending || !idle {
            return Poll::Ready(Ok(()));
        }
        let body = request.body_mut();
        let part = ready!(Pin::new(&mut *body).poll_frame(cx));
        let over = body.is_end_stream();
        self.begun = true;
        match part.transpose().map_err(Fault::Upload)? {
            Some(part) => {
                let trailers = self.add(part)?;
                if over || trailers.is_some() {
                    self.finish(trailers.as_ref())?;
                }
            }
            None => self.finish(None)?,
        }
        Poll::Ready(Ok(()))
    }

    /// Puts a part behind what is to be written, but for trailers, which it gives back.
    fn add(&mut self, part: Frame<Bytes>) -> Result<Option<HeaderMap>, Fault> {
        let data = match part.into_data() {
            Ok(data) => data,
            Err(part) => return Ok(part.into_trailers().ok()),
        };
        match &mut self.framing {
            Framing::None => {}
            Framing::Sized(left) => {
                let length = u64::try_from(data.len()).unwrap_or(u64::MAX);
                *left = left.checked_sub(length).ok_or(Fault::Length)?;
            }
            // An empty chunk would be the end.
            Framing::Chunked if data.is_empty() => {}
            Framing::Chunked => {
                self.make_room();
                let size = format!("{:x}\r\n", data.len());
                self.lines.extend_from_slice(size.as_bytes());
                self.end = b"\r\n";
            }
        }
        self.data = data;
        Ok(None)
    }

    /// Puts the end of the body behind what is to be written.
    fn finish(&mut self, trailers: Option<&HeaderMap>) -> Result<(), Fault> {
        match self.framing {
            Framing::None | Framing::Sized(0) => {}
            Framing::Sized(_) => return Err(Fault::Length),
            Framing::Chunked if self.end.is_empty() => {
                self.make_room();
                self.lines.extend_from_slice(b"0\r\n");
                for (name, value) in trailers.into_iter().flatten() {
                    line(&mut self.lines, name, value.as_bytes());
                }
                self.lines.extend_from_slice(b"\r\n");
            }
            Framing::Chunked => self.end = b"\r\n0\r\n\r\n",
        }
        self.stage = Stage::Ending;
        Ok(())
    }

    fn make_room(&mut self) {
        if self.written == self.lines.len() {
            self.lines.clear();
            self.written = 0;
        }
    }

    fn poll_write(&mut self, socket: &mut Socket, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut socket = Pin::new(socket);
        loop {
            let lines = self.lines.get(self.written..).unwrap_or_default();
            if lines.is_empty() && self.data.is_empty() && self.end.is_empty() {
                break;
            }
            // Of TLS a part may leave with an error.
            self.begun |= socket.is_encrypted();
            let count = if self.data.is_empty() && self.end.is_empty() {
                ready!(socket.as_mut().poll_write(cx, lines))?
            } else {
                let parts = [lines, &self.data, self.end].map(IoSlice::new);
                ready!(socket.as_mut().poll_write_vectored(cx, &parts))?
            };
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.begun = true;
            self.wrote(count);
        }
        socket.poll_flush(cx)
    }

    fn wrote(&mut self, count: usize) {
        let of_lines = count.min(self.lines.len() - self.written);
        self.written += of_lines;
        let of_data = (count - of_lines).min(self.data.len());
        self.data.advance(of_data);
        if self.data.is_empty() {
            // Even an empty part holds what it is a part of.
            self.data = Bytes::new();
        }
        let of_end = count - of_lines - of_data;
        self.end = self.end.get(of_end..).unwrap_or_default();
    }
}

/// Writes a header line.
fn line(lines: &mut Vec<u8>, name: &HeaderName, value: &[u8]) {
    lines.extend_from_slice(name.as_str().as_bytes());
    lines.extend_from_slice(b": ");
    lines.extend_from_slice(value);
    lines.extend_from_slice(b"\r\n");
}

/// A length that the head says has to be that of the body.
fn agree(said: &HeaderValue, length: u64) -> Result<(), Fault> {
    let said = said.to_str().ok().and_then(|said| said.parse().ok());
    if said == Some(length) {
        Ok(())
    } else {
        Err(Fault::Length)
    }
}

/// Room for a head that a parked connection keeps, in bytes.
const KEPT: usize = 4 * 1024;
