//! Every bound on what a token may cost, in one place.

/// Bounds checked before any cryptography and before any allocation that input could size.
///
/// A header or token over a bound is refused whole, never truncated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of one credential header value, inclusive.
    pub header_bytes: usize,
    /// Bytes of one decoded token, inclusive.
    pub token_bytes: usize,
    /// Tokens in one header, of any kind, inclusive.
    pub tokens: usize,
    /// Caveats of one token, nested ones included, inclusive.
    pub caveats: usize,
    /// Nesting of `IfPresent`, and of values inside caveats of unknown type, inclusive. 0 permits
    /// none. The decoder recurses once a level, so this bounds its stack.
    pub depth: usize,
    /// Discharges tried for one ticket, inclusive. A bearer can present the same ticket many
    /// times; each costs an HMAC chain.
    pub discharges_per_ticket: usize,
    /// Discharges tried for all tickets of all tokens of one header, inclusive. Every caveat of
    /// every token may name the same ticket.
    pub discharges: usize,
}

impl Limits {
    /// The defaults: users in many organizations send tens of kilobytes, everyone else far less.
    pub const DEFAULT: Self = Self {
        header_bytes: 64 * 1024,
        token_bytes: 16 * 1024,
        tokens: 64,
        caveats: 128,
        depth: 8,
        discharges_per_ticket: 8,
        discharges: 128,
    };

    /// The largest accepted setting of `depth`: the decoder's stack stays below 64 KiB.
    pub const MAX_DEPTH: usize = 32;
}

impl Default for Limits {
    fn default() -> Self {
        Self::DEFAULT
    }
}
