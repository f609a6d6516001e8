//! The head of a response, and the trailers behind it.

use std::mem::MaybeUninit;
use std::sync::LazyLock;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use httparse::{Header, ParserConfig, Status};
use memchr::memmem::Finder;

use super::{Fault, MOST_READ, Rest};

/// A head, and what it says of the rest.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) response: Response<()>,
    pub(super) rest: Rest,
    /// The connection serves another request after that.
    pub(super) keeps: bool,
}

impl Head {
    /// Whether the response is still to come.
    pub(super) fn is_interim(&self) -> bool {
        let status = self.response.status();
        status.is_informational() && status != StatusCode::SWITCHING_PROTOCOLS
    }
}

/// Takes the head off what was read, as soon as it is there as a whole; `searched` bytes have been
/// seen not to hold its end.
pub(super) fn take(
    read: &mut BytesMut,
    searched: &mut usize,
    head_only: bool,
) -> Result<Option<Head>, Fault> {
    if read.is_empty() {
        return Ok(None);
    }
    // The end may have begun in what was searched.
    let from = searched.saturating_sub(END.len() - 1);
    let rest = read.get(from..).unwrap_or_default();
    let Some(at) = FIND_END.find(rest) else {
        // Readers differ in whether such a line ends there; it would be waited for in vain.
        if memchr::memmem::find(rest, b"\n\n").is_some() {
            return Err(Fault::Head("its lines do not end with CR LF"));
        }
        if read.len() > MOST_READ {
            return Err(Fault::Head("it is longer than 64 KiB"));
        }
        *searched = read.len();
        return Ok(None);
    };
    *searched = 0;
    let head = read.split_to(from + at + END.len()).freeze();
    parse(&head, head_only).map(Some)
}

fn parse(head: &Bytes, head_only: bool) -> Result<Head, Fault> {
    let mut lines = [const { MaybeUninit::uninit() }; LINES];
    let mut parsed = httparse::Response::new(&mut []);
    let status =
        ParserConfig::default().parse_response_with_uninit_headers(&mut parsed, head, &mut lines);
    match status.map_err(Fault::Syntax)? {
        Status::Complete(length) if length == head.len() => {}
        Status::Complete(_) | Status::Partial => {
            return Err(Fault::Head("its lines do not end with CR LF"));
        }
    }
    let code = parsed.code.and_then(|code| StatusCode::from_u16(code).ok());
    let code = code.ok_or(Fault::Head("its status code is none"))?;
    let mut framing = Framing::default();
    let mut response = Response::new(());
    *response.status_mut() = code;
    let headers = response.headers_mut();
    headers.reserve(parsed.headers.len());
    for line in parsed.headers.iter() {
        if !framing.note(line)? {
            continue;
        }
        let name = HeaderName::from_bytes(line.name.as_bytes());
        let value = HeaderValue::from_maybe_shared(head.slice_ref(line.value));
        match (name, value) {
            (Ok(name), Ok(value)) => headers.append(name, value),
            (Ok(_) | Err(_), _) => return Err(Fault::Head("a line is no header")),
        };
    }
    let version = match parsed.version {
        Some(1) => Version::Http11,
        Some(_) | None => Version::Http10,
    };
    let (rest, keeps) = framing.rest(version, code, head_only)?;
    Ok(Head {
        response,
        rest,
        keeps,
    })
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    Http10,
    Http11,
}

/// What the lines say of the body and of the connection.
#[derive(Debug, Default)]
struct Framing {
    length: Option<u64>,
    chunked: bool,
    closes: bool,
}

impl Framing {
    /// Takes note of a line, and says whether it goes on: one that has done its work here does not.
    fn note(&mut self, line: &Header<'_>) -> Result<bool, Fault> {
        // The length of a name rules most of them out.
        match line.name.len() {
            10 if line.name.eq_ignore_ascii_case("connection") => {
                let mut options = line.value.split(|byte| *byte == b',');
                self.closes |=
                    options.any(|option| option.trim_ascii().eq_ignore_ascii_case(b"close"));
                // It may nominate other lines, which have to go too.
                return Ok(!line.value.eq_ignore_ascii_case(b"keep-alive"));
            }
            14 if line.name.eq_ignore_ascii_case("content-length") => {
                let length = number(line.value)?;
                // The same twice is the same (RFC 9112 6.3), and goes on once.
                match self.length.replace(length) {
                    None => {}
                    Some(before) if before == length => return Ok(false),
                    Some(_) => return Err(Fault::Head("its Content-Length is repeated")),
                }
            }
            17 if line.name.eq_ignore_ascii_case("transfer-encoding") => {
                if self.chunked || !line.value.eq_ignore_ascii_case(b"chunked") {
                    return Err(Fault::Head("its Transfer-Encoding is not exactly chunked"));
                }
                self.chunked = true;
                return Ok(false);
            }
            _ => {}
        }
        Ok(true)
    }

    /// RFC 9112 6.3, but for what could be framed in two ways, which is an error.
    fn rest(
        self,
        version: Version,
        code: StatusCode,
        head_only: bool,
    ) -> Result<(Rest, bool), Fault> {
        let keeps = version == Version::Http11 && !self.closes;
        if self.chunked && self.length.is_some() {
            return Err(Fault::Head(
                "it has both Content-Length and Transfer-Encoding",
            ));
        }
        if self.chunked && version == Version::Http10 {
            return Err(Fault::Head("it has a Transfer-Encoding in HTTP/1.0"));
        }
        if code == StatusCode::SWITCHING_PROTOCOLS {
            return Ok((Rest::Switched, false));
        }
        if code == StatusCode::NO_CONTENT {
            // A server that announces a body may send it, too.
            let announced = self.chunked || self.length.is_some_and(|length| length > 0);
            return Ok((Rest::Over, keeps && !announced));
        }
        let bodiless = code.is_informational() || code == StatusCode::NOT_MODIFIED;
        Ok(match self.length {
            _ if bodiless || head_only => (Rest::Over, keeps),
            Some(0) => (Rest::Over, keeps),
            Some(length) => (Rest::Sized(length), keeps),
            None if self.chunked => (Rest::chunked(), keeps),
            None => (Rest::UntilClosed, false),
        })
    }
}

/// Accepts digits only: signs, lists and spaces are where readers differ.
fn number(value: &[u8]) -> Result<u64, Fault> {
    let digits = value.iter().all(u8::is_ascii_digit);
    let text = std::str::from_utf8(value).ok().filter(|_| digits);
    text.and_then(|text| text.parse().ok())
        .ok_or(Fault::Head("its Content-Length is not a plain number"))
}

/// The lines of a trailer section, its last empty line included.
pub(super) fn trailers(section: &[u8]) -> Result<HeaderMap, Fault> {
    let mut lines = [httparse::EMPTY_HEADER; LINES];
    let mut trailers = HeaderMap::new();
    let parsed = httparse::parse_headers(section, &mut lines).map_err(Fault::Syntax)?;
    let Status::Complete((_, lines)) = parsed else {
        return Err(Fault::Head("its trailers have no end"));
    };
    for line in lines {
        let name = HeaderName::from_bytes(line.name.as_bytes());
        match (name, HeaderValue::from_bytes(line.value)) {
            (Ok(name), Ok(value)) => trailers.append(name, value),
            (Ok(_) | Err(_), _) => return Err(Fault::Head("a trailer is no header")),
        };
    }
    Ok(trailers)
}

/// What a head ends with.
const END: &[u8] = b"\r\n\r\n";
/// To make it takes longer than to find it.
static FIND_END: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(END));
/// Lines of a head.
const LINES: usize = 100;
