//! A check of the raw bytes of an HTTP/1.1 connection, before hyper reads them.
//!
//! hyper repairs what it can: it takes a bare line feed for a line end, drops a fragment, prefers
//! one of two framings, merges repeated lengths. What it hands on is fit to be forwarded, but the
//! evidence that another reader could have seen another request is gone by then. So the gate
//! follows the framing of a connection from its first byte on and lets through only what every
//! reader takes for the same: it knows where each head ends, and each body.
//!
//! A head is let through as a whole or not at all, so that hyper is always at the beginning of a
//! request when it learns of the end. A body goes through as it comes; a fault in it ends it there.
//!
//! What hyper keeps for the service to see (a repeated `Host`, say) is judged there, for both
//! versions of HTTP by the same rule, and not here.

mod head;
mod refusal;

use self::head::Head;
pub(super) use self::head::{is_control, is_name};
pub use self::refusal::Refusal;
use super::chunked::{Chunked, Rules};
use crate::config::{ConnectionLimits, Oddity};

/// Follows one connection. It reads no socket and keeps no bytes.
#[derive(Debug)]
pub struct Gate {
    limits: Bounds,
    stage: Stage,
    heads: u64,
}

/// The limits that concern one request.
#[derive(Clone, Copy, Debug)]
struct Bounds {
    head_bytes: usize,
    headers: usize,
    target_bytes: usize,
    odd_header_names: Oddity,
    chunk_extensions: Oddity,
}

impl Bounds {
    /// Of a body of chunks.
    fn rules(self) -> Rules {
        Rules {
            odd_names: self.odd_header_names,
            extensions: self.chunk_extensions,
            padding: Oddity::Refuse,
        }
    }
}

#[derive(Debug)]
enum Stage {
    /// Before or in a request head.
    Head(Head),
    /// In a body of so many more bytes.
    Sized(u64, After),
    /// In a body of chunks.
    Chunked(Chunked, After),
    /// Behind a request that may turn the connection into something else.
    Held(After),
    /// Something else.
    Released,
}

/// What may follow a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum After {
    /// The next request.
    Request,
    /// The next request, unless the answer switches protocols.
    Upgrade,
    /// Nothing, unless the answer opens the tunnel.
    Tunnel,
}

/// How a request is framed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Framing {
    Sized(u64),
    Chunked,
}

/// What [`Gate::check`] has found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checked {
    /// So many of the bytes may go on. The others must be shown again, with more behind them.
    pub passed: usize,
    /// Why what follows them may not, whatever comes.
    pub fault: Option<Refusal>,
}

impl Gate {
    /// At the beginning of a connection.
    pub fn new(limits: &ConnectionLimits) -> Self {
        Self {
            limits: Bounds {
                head_bytes: limits.head_bytes,
                headers: limits.headers,
                target_bytes: limits.target_bytes,
                odd_header_names: limits.odd_header_names,
                chunk_extensions: limits.chunk_extensions,
            },
            stage: Stage::Head(Head::default()),
            heads: 0,
        }
    }

    /// Checks the bytes that have not passed yet: what the last call did not let pass, and what
    /// has come since.
    pub fn check(&mut self, bytes: &[u8]) -> Checked {
        let mut passed = 0;
        loop {
            let rest = bytes.get(passed..).unwrap_or_default();
            let step = match &mut self.stage {
                Stage::Head(head) => match head.scan(rest, self.limits) {
                    Ok(Some(end)) => {
                        self.heads = self.heads.wrapping_add(1);
                        self.stage = match end.framing {
                            Framing::Sized(0) => end.after.stage(),
                            Framing::Sized(length) => Stage::Sized(length, end.after),
                            Framing::Chunked => {
                                Stage::Chunked(Chunked::new(self.limits.rules()), end.after)
                            }
                        };
                        Ok(end.bytes)
                    }
                    Ok(None) => break,
                    Err(refusal) => Err((0, refusal)),
                },
                Stage::Sized(left, after) => {
                    let taken = usize::try_from(*left).map_or(rest.len(), |l| l.min(rest.len()));
                    *left = left.saturating_sub(taken as u64);
                    if *left == 0 {
                        self.stage = after.stage();
                    }
                    Ok(taken)
                }
                Stage::Chunked(body, after) => match body.scan(rest) {
                    Ok(taken) => {
                        if body.is_over() {
                            self.stage = after.stage();
                        }
                        Ok(taken)
                    }
                    Err(fault) => Err(fault),
                },
                Stage::Held(_) => break,
                Stage::Released => Ok(rest.len()),
            };
            match step {
                Ok(taken) => passed += taken,
                Err((taken, refusal)) => {
                    return Checked {
                        passed: passed + taken,
                        fault: Some(refusal),
                    };
                }
            }
            if passed == bytes.len() {
                break;
            }
        }
        Checked {
            passed,
            fault: None,
        }
    }

    /// Request heads that have passed.
    pub fn heads(&self) -> u64 {
        self.heads
    }

    /// Whether nothing passes until the answer to the last request says what the connection is.
    pub fn is_held(&self) -> bool {
        matches!(self.stage, Stage::Held(_))
    }

    /// Whether a body has begun and not ended.
    pub fn is_in_body(&self) -> bool {
        matches!(self.stage, Stage::Sized(..) | Stage::Chunked(..))
    }

    /// The connection is no longer one of HTTP: everything passes from here on.
    pub fn release(&mut self) {
        self.stage = Stage::Released;
    }

    /// The last request was answered like any other. False if nothing can follow it: bytes that
    /// were sent for a tunnel must not be read as requests.
    pub fn resume(&mut self) -> bool {
        match self.stage {
            Stage::Held(After::Request | After::Upgrade) => {
                self.stage = Stage::Head(Head::default());
                true
            }
            Stage::Held(After::Tunnel) => false,
            Stage::Head(_) | Stage::Sized(..) | Stage::Chunked(..) | Stage::Released => true,
        }
    }
}

impl After {
    /// Where a request leaves the connection that is followed by this.
    fn stage(self) -> Stage {
        match self {
            Self::Request => Stage::Head(Head::default()),
            Self::Upgrade | Self::Tunnel => Stage::Held(self),
        }
    }
}

#[cfg(test)]
mod tests;
