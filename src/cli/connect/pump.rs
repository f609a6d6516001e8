//! Standard input and output on one side, the tunnel on the other.

use std::pin::pin;

use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy, split, stdin, stdout};
use tokio::select;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::{Message, Role};

use super::{ConnectError, Wire};

/// Bytes as they are. The end of standard input goes through, and what comes back is still
/// written; the end of the tunnel ends everything.
pub(super) async fn bytes(tunnel: impl Wire) -> Result<(), ConnectError> {
    let (mut from, mut to) = split(tunnel);
    let mut up = pin!(async {
        copy(&mut stdin(), &mut to).await?;
        to.shutdown().await
    });
    let mut down = pin!(async {
        let mut output = stdout();
        copy(&mut from, &mut output).await?;
        output.flush().await
    });
    select! {
        ended = &mut down => ended,
        ended = &mut up => match ended {
            Ok(()) => down.await,
            Err(error) => Err(error),
        },
    }
    .map_err(ConnectError::broken)
}

/// Bytes in binary messages. WebSocket has no end of one direction, so either end ends both.
pub(super) async fn messages(tunnel: impl Wire) -> Result<(), ConnectError> {
    let socket = WebSocketStream::from_raw_socket(tunnel, Role::Client, None).await;
    let (mut to, mut from) = socket.split();
    let mut up = pin!(async {
        let mut input = stdin();
        let mut buffer = vec![0; BUFFER];
        loop {
            let read = input.read(&mut buffer).await;
            let read = read.map_err(ConnectError::broken)?;
            let part = buffer.get(..read).unwrap_or_default();
            if part.is_empty() {
                return to.close().await.map_err(ConnectError::broken);
            }
            let message = Message::Binary(Bytes::copy_from_slice(part));
            to.send(message).await.map_err(ConnectError::broken)?;
        }
    });
    let mut down = pin!(async {
        let mut output = stdout();
        loop {
            match from.next().await {
                Some(Ok(Message::Binary(part))) => {
                    let written = output.write_all(&part).await;
                    written.map_err(ConnectError::broken)?;
                    output.flush().await.map_err(ConnectError::broken)?;
                }
                Some(Ok(Message::Close(Some(frame)))) if u16::from(frame.code) != NORMAL => {
                    return Err(ConnectError::Closed(frame.reason.to_string()));
                }
                Some(Ok(Message::Close(_))) | None => return Ok(()),
                Some(Ok(
                    Message::Text(_) | Message::Ping(_) | Message::Pong(_) | Message::Frame(_),
                )) => {}
                Some(Err(error)) => return Err(ConnectError::broken(error)),
            }
        }
    });
    select! {
        ended = &mut down => ended,
        ended = &mut up => match ended {
            Ok(()) => down.await,
            Err(error) => Err(error),
        },
    }
}

/// Bytes that are read at once, and sent in one message.
const BUFFER: usize = 16 * 1024;
/// The code of a close frame that says that all is well (RFC 6455 7.4.1).
const NORMAL: u16 = 1000;
