//! One direction of a tunnel.

use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use crate::proxy::turn;

/// Carries bytes from a reader to a writer, no faster than the writer takes them.
///
/// It keeps only what the writer did not take at once, so that a tunnel at rest has no buffers.
#[derive(Debug)]
pub(super) struct Flow {
    kept: Vec<u8>,
    from: usize,
    unflushed: bool,
    ended: bool,
    /// Bytes that the writer has taken.
    pub(super) bytes: u64,
    /// When it took the last.
    pub(super) moved: Instant,
}

impl Flow {
    /// Begins with what was read already.
    pub(super) fn new(ahead: &[u8]) -> Self {
        Self {
            kept: ahead.to_vec(),
            from: 0,
            unflushed: false,
            ended: false,
            bytes: 0,
            moved: turn::now(),
        }
    }

    /// Ready once the reader has ended and the writer knows it: the other direction may go on.
    /// `passed` sees what the writer has taken.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        reader: &mut (impl AsyncRead + Unpin),
        writer: &mut (impl AsyncWrite + Unpin),
        mut passed: impl FnMut(&[u8]),
    ) -> Poll<io::Result<()>> {
        for _ in 0..ROUNDS {
            while self.from < self.kept.len() {
                let rest = self.kept.get(self.from..).unwrap_or_default();
                let taken = ready!(Pin::new(&mut *writer).poll_write(cx, rest))?;
                passed(rest.get(..taken).unwrap_or_default());
                self.from += taken;
                self.took(taken)?;
            }
            self.kept = Vec::new();
            self.from = 0;
            if self.ended {
                return Pin::new(&mut *writer).poll_shutdown(cx);
            }
            let mut scratch = [MaybeUninit::uninit(); SCRATCH];
            let mut buffer = ReadBuf::uninit(&mut scratch);
            match Pin::new(&mut *reader).poll_read(cx, &mut buffer)? {
                Poll::Ready(()) => {}
                Poll::Pending => {
                    if self.unflushed {
                        ready!(Pin::new(&mut *writer).poll_flush(cx))?;
                        self.unflushed = false;
                    }
                    return Poll::Pending;
                }
            }
            let mut rest = buffer.filled();
            self.ended = rest.is_empty();
            while !rest.is_empty() {
                match Pin::new(&mut *writer).poll_write(cx, rest) {
                    Poll::Ready(taken) => {
                        let taken = taken?;
                        let (gone, left) = rest.split_at_checked(taken).unwrap_or((rest, &[]));
                        passed(gone);
                        rest = left;
                        self.took(taken)?;
                    }
                    Poll::Pending => {
                        self.kept = rest.to_vec();
                        return Poll::Pending;
                    }
                }
            }
        }
        // Others on this thread want their turn too.
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// What was read and not written yet; the next of it is written by whoever takes it.
    pub(super) fn take_kept(&mut self) -> Vec<u8> {
        let mut kept = std::mem::take(&mut self.kept);
        kept.drain(..self.from.min(kept.len()));
        self.from = 0;
        kept
    }

    fn took(&mut self, bytes: usize) -> io::Result<()> {
        if bytes == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        self.unflushed = true;
        self.bytes = self
            .bytes
            .saturating_add(u64::try_from(bytes).unwrap_or(u64::MAX));
        self.moved = turn::now();
        Ok(())
    }
}

/// Bytes that are read at once, on the stack.
const SCRATCH: usize = 16 * 1024;
/// How often a flow reads before it lets others on: half a megabyte.
const ROUNDS: usize = 32;
