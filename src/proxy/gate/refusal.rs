//! Why bytes do not pass.

use thiserror::Error;

use crate::proxy::Code;

/// What is wrong with the bytes of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Error)]
pub enum Refusal {
    /// Readers differ in whether it ends a line.
    #[error("a line ends with a bare line feed")]
    BareLf,
    /// Readers differ in whether it ends a line.
    #[error("a carriage return stands without its line feed")]
    BareCr,
    /// NUL, DEL and their like.
    #[error("a line has a control character")]
    Control,
    /// Not method, target and version with one space between each.
    #[error("the request line is not method, target and version")]
    RequestLine,
    /// Not `HTTP/1.1`.
    #[error("use HTTP/1.1 or HTTP/2")]
    Version,
    /// Over the limit.
    #[error("the target is longer than limits.target_bytes")]
    TargetTooLong,
    /// A `#`, which some readers cut off with what follows.
    #[error("the target has a fragment")]
    Fragment,
    /// A byte that no URI has, or that separates for some readers only.
    #[error("a byte of the target is not allowed in a request target")]
    TargetByte,
    /// Neither a path nor a URL with a host, nor for CONNECT a host and a port.
    #[error("the target is not a path")]
    TargetForm,
    /// Over the limit.
    #[error("the head is longer than limits.head_bytes")]
    HeadTooLarge,
    /// Over the limit.
    #[error("there are more headers than limits.headers")]
    TooManyHeaders,
    /// A line that begins with a space or tab.
    #[error("a header is folded over two lines")]
    Fold,
    /// A space or tab before the colon.
    #[error("there is a space between a header name and its colon")]
    SpacedName,
    /// No name, no colon, or a byte that no name has.
    #[error("a line is not a header name, a colon and a value")]
    HeaderLine,
    /// Some readers take `_`, `.` and other marks for a hyphen.
    #[error("a header name is not made of letters, digits and hyphens")]
    HeaderName,
    /// Two lines, even with the same number.
    #[error("the Content-Length is repeated")]
    RepeatedLength,
    /// A sign, a zero in front, a list, or a number that no body has.
    #[error("the Content-Length is not a plain number")]
    Length,
    /// Two lines, two codings, or another than `chunked`.
    #[error("the Transfer-Encoding is not exactly chunked")]
    Coding,
    /// Each would be believed by somebody.
    #[error("there are both a Content-Length and a Transfer-Encoding")]
    TwoFramings,
    /// What follows the head belongs to the tunnel.
    #[error("a CONNECT has no body")]
    ConnectBody,
    /// Not one to sixteen hexadecimal digits.
    #[error("a chunk size is not a hexadecimal number")]
    ChunkSize,
    /// Nobody needs them, and readers differ in where they end.
    #[error("a chunk has an extension")]
    ChunkExtension,
    /// The chunk is longer or shorter than it says.
    #[error("a chunk does not end where its size says")]
    ChunkEnd,
    /// A line of the trailer section that would be refused in a head.
    #[error("a trailer is not a header name, a colon and a value")]
    Trailer,
    /// Over the limit.
    #[error("the trailer section is too long")]
    TrailersTooLarge,
}

impl Refusal {
    /// What the client is told.
    pub fn code(self) -> Code {
        match self {
            Self::BareLf
            | Self::BareCr
            | Self::Control
            | Self::RequestLine
            | Self::Fold
            | Self::SpacedName
            | Self::HeaderLine => Code::Malformed,
            Self::Version => Code::HttpVersion,
            Self::TargetTooLong => Code::TargetTooLong,
            Self::HeadTooLarge | Self::TooManyHeaders => Code::HeadTooLarge,
            Self::Fragment
            | Self::TargetByte
            | Self::TargetForm
            | Self::HeaderName
            | Self::RepeatedLength
            | Self::Length
            | Self::Coding
            | Self::TwoFramings
            | Self::ConnectBody => Code::Ambiguous,
            Self::ChunkSize
            | Self::ChunkExtension
            | Self::ChunkEnd
            | Self::Trailer
            | Self::TrailersTooLarge => Code::BadBody,
        }
    }
}
