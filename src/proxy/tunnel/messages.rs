//! A tunnel whose client speaks WebSocket with usher: what is in its binary messages goes to the
//! upstream, and back.

use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes};
use futures_util::{Sink, SinkExt as _, Stream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Error;
use tokio_tungstenite::tungstenite::error::ProtocolError;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Message, Role, WebSocketConfig};

use super::{End, PARTING, Traffic};
use crate::proxy::pulse::Downstream;
use crate::proxy::socket::Socket;
use crate::proxy::turn;

/// Both ends of such a tunnel.
pub(super) struct Messages {
    client: WebSocketStream<Downstream>,
    upstream: Socket,
    /// What the upstream has not taken yet of the last message.
    message: Bytes,
    unflushed: bool,
    /// The client has closed, which in WebSocket closes both directions.
    closed: bool,
    moved: Instant,
    /// Bytes that the upstream has taken, and that it has sent.
    pub(super) sent: u64,
    pub(super) received: u64,
}

impl Messages {
    pub(super) async fn begin(client: Downstream, read: &[u8], upstream: Socket) -> Self {
        let config = WebSocketConfig::default()
            .read_buffer_size(BUFFER)
            .write_buffer_size(0)
            .max_message_size(Some(MAX_MESSAGE))
            .max_frame_size(Some(MAX_MESSAGE));
        let (read, role) = (read.to_vec(), Role::Server);
        Self {
            client: WebSocketStream::from_partially_read(client, read, role, Some(config)).await,
            upstream,
            message: Bytes::new(),
            unflushed: false,
            closed: false,
            moved: turn::now(),
            sent: 0,
            received: 0,
        }
    }

    /// Tells the client why the tunnel ends, and gives its connection back.
    pub(super) async fn part(mut self, end: &End) -> Downstream {
        let close = CloseFrame {
            code: CloseCode::from(end.close_code()),
            reason: end.code().into(),
        };
        let told = async {
            match self.client.close(Some(close)).await {
                // The client was first; the answer to its close frame is still to be sent.
                Err(Error::Protocol(ProtocolError::SendAfterClosing)) => self.client.flush().await,
                told => told,
            }
        };
        match timeout(PARTING, told).await {
            Ok(Ok(()) | Err(Error::ConnectionClosed | Error::AlreadyClosed)) => {}
            Ok(Err(error)) => tracing::debug!(%error, "no close frame could be sent"),
            Err(_elapsed) => tracing::debug!("no close frame could be sent in time"),
        }
        self.client.into_inner()
    }

    /// From the client to the upstream. Ready once the client has closed, and the upstream knows.
    fn poll_up(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), End>> {
        loop {
            while !self.message.is_empty() {
                let upstream = Pin::new(&mut self.upstream);
                let taken = ready!(upstream.poll_write(cx, &self.message)).map_err(End::Broken)?;
                if taken == 0 {
                    return Poll::Ready(Err(End::Broken(io::ErrorKind::WriteZero.into())));
                }
                self.message.advance(taken);
                self.sent = self.sent.saturating_add(length(taken));
                self.moved = turn::now();
            }
            if self.closed {
                let ended = Pin::new(&mut self.upstream).poll_shutdown(cx);
                return ended.map_err(End::Broken);
            }
            match ready!(Pin::new(&mut self.client).poll_next(cx)) {
                Some(Ok(Message::Binary(bytes))) => self.message = bytes,
                Some(Ok(Message::Text(_))) => {
                    return Poll::Ready(Err(End::Protocol("it is text")));
                }
                // The library answers, with what is sent next.
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => self.unflushed = true,
                Some(Ok(Message::Frame(_))) => {}
                Some(Ok(Message::Close(_)) | Err(Error::ConnectionClosed)) | None => {
                    self.closed = true;
                }
                Some(Err(error)) => return Poll::Ready(Err(fault(error))),
            }
            self.moved = turn::now();
        }
    }

    /// From the upstream to the client. Ready once the upstream has ended.
    fn poll_down(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), End>> {
        for _ in 0..ROUNDS {
            if self.closed {
                return Poll::Pending;
            }
            ready!(Pin::new(&mut self.client).poll_ready(cx)).map_err(fault)?;
            let mut scratch = [MaybeUninit::uninit(); BUFFER];
            let mut buffer = ReadBuf::uninit(&mut scratch);
            let read = Pin::new(&mut self.upstream).poll_read(cx, &mut buffer);
            ready!(read).map_err(End::Broken)?;
            let bytes = buffer.filled();
            if bytes.is_empty() {
                return Poll::Ready(Ok(()));
            }
            self.received = self.received.saturating_add(length(bytes.len()));
            self.moved = turn::now();
            self.unflushed = true;
            let message = Message::Binary(Bytes::copy_from_slice(bytes));
            Pin::new(&mut self.client)
                .start_send(message)
                .map_err(fault)?;
        }
        // Others on this thread want their turn too.
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl Traffic for Messages {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        let up = self.poll_up(cx);
        let down = self.poll_down(cx);
        if self.unflushed
            && !self.closed
            && let Poll::Ready(flushed) = Pin::new(&mut self.client).poll_flush(cx)
        {
            if let Err(error) = flushed {
                return Poll::Ready(fault(error));
            }
            self.unflushed = false;
        }
        match (up, down) {
            (Poll::Ready(Err(end)), _) | (_, Poll::Ready(Err(end))) => Poll::Ready(end),
            (Poll::Ready(Ok(())), _) | (_, Poll::Ready(Ok(()))) => Poll::Ready(End::Done),
            (Poll::Pending, Poll::Pending) => Poll::Pending,
        }
    }

    fn moved(&self) -> Instant {
        self.moved
    }
}

fn fault(error: Error) -> End {
    match error {
        Error::Io(error) => End::Broken(error),
        Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => {
            End::Broken(io::ErrorKind::UnexpectedEof.into())
        }
        Error::Capacity(_) => End::Protocol("it is longer than a mebibyte"),
        Error::ConnectionClosed
        | Error::AlreadyClosed
        | Error::Tls(_)
        | Error::Protocol(_)
        | Error::WriteBufferFull(_)
        | Error::Utf8(_)
        | Error::AttackAttempt
        | Error::Url(_)
        | Error::Http(_)
        | Error::HttpFormat(_) => End::Protocol("it breaks the rules of WebSocket"),
    }
}

fn length(bytes: usize) -> u64 {
    u64::try_from(bytes).unwrap_or(u64::MAX)
}

/// Bytes that are read at once from either side.
const BUFFER: usize = 16 * 1024;
/// Bytes of one message, which is in memory as a whole. What carries a stream of bytes sends less.
const MAX_MESSAGE: usize = 1024 * 1024;
/// How often the upstream is read before others are let on.
const ROUNDS: usize = 32;
