//! Two readers of HTTP/1.1 that have no line in common: hyper's, and that of the proxy sozu.

use std::cell::RefCell;
use std::convert::Infallible;
use std::rc::Rc;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{HeaderMap, Request, Response};
use hyper_util::rt::TokioIo;
use kawa::{Block, Buffer, Kawa, Kind, SliceBuffer, StatusLine, Store};
use tokio::io::AsyncWriteExt as _;
use usher::config::{ConnectionLimits, Oddity};
use usher::proxy::{Gate, Refusal};

/// A request, as a reader takes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Read {
    pub(crate) method: String,
    pub(crate) target: String,
    pub(crate) host: Option<String>,
    pub(crate) lines: Vec<(String, Vec<u8>)>,
    pub(crate) body: Vec<u8>,
    pub(crate) trailers: Vec<(String, Vec<u8>)>,
}

/// How much of a connection passes the gate when it comes in such pieces, and why no more.
pub(crate) fn gated(
    limits: &ConnectionLimits,
    bytes: &[u8],
    piece: usize,
) -> (usize, Option<Refusal>, u64) {
    let mut gate = Gate::new(limits);
    let (mut from, mut to) = (0, 0);
    while to < bytes.len() {
        to = bytes.len().min(to + piece);
        let checked = gate.check(&bytes[from..to]);
        from += checked.passed;
        if checked.fault.is_some() {
            return (from, checked.fault, gate.heads());
        }
    }
    (from, None, gate.heads())
}

/// The complete requests that hyper finds, and whether it took offence at something.
pub(crate) fn hyper(bytes: &[u8]) -> (Vec<Read>, bool) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let found = Rc::new(RefCell::new(Vec::new()));
    let reading = Rc::clone(&found);
    let service = service_fn(move |request: Request<Incoming>| {
        let reading = Rc::clone(&reading);
        async move {
            let (head, body) = request.into_parts();
            if let Ok(collected) = body.collect().await {
                let trailers = collected.trailers().map(lines).unwrap_or_default();
                let mut lines = lines(&head.headers);
                let line = take_host(&mut lines);
                let cookies = lines.extract_if(.., |(name, _)| name == "cookie");
                let cookies: Vec<_> = cookies.map(|(_, value)| value).collect();
                lines.extend(crumbs(cookies.iter().flat_map(|c| c.split(|b| *b == b';'))));
                let authority = head.uri.authority().map(ToString::to_string);
                reading.borrow_mut().push(Read {
                    method: head.method.to_string(),
                    target: head.uri.to_string(),
                    host: authority.or(line),
                    lines: in_order(lines),
                    body: collected.to_bytes().to_vec(),
                    trailers,
                });
            }
            Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new()))
        }
    });
    let outcome = runtime.block_on(async {
        // Room for all requests, and for all answers.
        let (mut client, server) = tokio::io::duplex(1 << 20);
        client.write_all(bytes).await.unwrap();
        client.shutdown().await.unwrap();
        // What was sent before the end counts although the end is seen at once.
        let connection = http1::Builder::new()
            .half_close(true)
            .serve_connection(TokioIo::new(server), service);
        connection.await
    });
    let offended = outcome.is_err_and(|error| error.is_parse());
    (found.take(), offended)
}

fn lines(headers: &HeaderMap) -> Vec<(String, Vec<u8>)> {
    let lines = headers
        .iter()
        .map(|(name, value)| (name.as_str().to_owned(), value.as_bytes().to_vec()));
    in_order(lines.collect())
}

/// Only the order of lines with the same name means anything.
fn in_order(mut lines: Vec<(String, Vec<u8>)>) -> Vec<(String, Vec<u8>)> {
    lines.sort_by(|(one, _), (other, _)| one.cmp(other));
    lines
}

/// Cookies in the form that the other reader keeps them in: taken apart, without the spaces between
/// them, and `=a` the same as `a`.
fn crumbs<'c>(crumbs: impl Iterator<Item = &'c [u8]>) -> Option<(String, Vec<u8>)> {
    let plain = crumbs.map(|crumb| {
        let crumb = crumb.trim_ascii();
        crumb.strip_prefix(b"=").unwrap_or(crumb)
    });
    let plain: Vec<&[u8]> = plain.collect();
    (!plain.is_empty()).then(|| ("cookie".to_owned(), plain.join(&b"; "[..])))
}

fn take_host(lines: &mut Vec<(String, Vec<u8>)>) -> Option<String> {
    let first = lines.iter().find(|(name, _)| name == "host");
    let host = first.map(|(_, value)| String::from_utf8_lossy(value).into_owned());
    lines.retain(|(name, _)| name != "host");
    host
}

/// The same of the other reader.
pub(crate) fn kawa(bytes: &[u8]) -> (Vec<Read>, bool) {
    let mut found = Vec::new();
    let mut rest = bytes;
    while !rest.is_empty() {
        // RFC 9112 2.2 lets a server skip an empty line, which this one leaves to its caller.
        rest = rest.strip_prefix(b"\r\n").unwrap_or(rest);
        let mut storage = rest.to_vec();
        let length = storage.len();
        let mut request = Kawa::new(Kind::Request, Buffer::new(SliceBuffer(&mut storage)));
        request.storage.fill(length);
        kawa::h1::parse(&mut request, &mut kawa::h1::NoCallbacks);
        if request.is_error() {
            return (found, true);
        }
        if !request.is_terminated() {
            break;
        }
        found.extend(read(&request));
        rest = &rest[request.storage.head..];
    }
    (found, false)
}

fn read(request: &Kawa<SliceBuffer<'_>>) -> Option<Read> {
    let buffer = request.storage.buffer();
    let text = |store: &Store| {
        let data = store.data_opt(buffer)?;
        Some(String::from_utf8_lossy(data).into_owned())
    };
    let StatusLine::Request {
        method,
        uri,
        authority,
        ..
    } = &request.detached.status_line
    else {
        return None;
    };
    let (mut lines, mut body, mut trailers) = (Vec::new(), Vec::new(), Vec::new());
    let mut behind = false;
    for block in &request.blocks {
        match block {
            Block::Header(pair) if !pair.is_elided() => {
                let to = if behind { &mut trailers } else { &mut lines };
                let name = text(&pair.key).unwrap_or_default().to_ascii_lowercase();
                to.push((name, pair.val.data_opt(buffer).unwrap_or_default().to_vec()));
            }
            Block::Chunk(chunk) => body.extend_from_slice(chunk.data.data(buffer)),
            Block::Flags(flags) => behind |= flags.end_header,
            Block::Header(_) | Block::StatusLine | Block::Cookies | Block::ChunkHeader(_) => {}
        }
    }
    let jar = request.detached.jar.iter().map(|pair| {
        let data = |store: &Store| store.data_opt(buffer).unwrap_or_default().to_vec();
        [data(&pair.key), data(&pair.val)].join(&b'=')
    });
    let jar: Vec<_> = jar.collect();
    lines.extend(crumbs(jar.iter().map(Vec::as_slice)));
    Some(Read {
        method: text(method)?,
        target: with_path(&text(uri)?),
        host: text(authority),
        lines: in_order(lines),
        body,
        trailers: in_order(trailers),
    })
}

/// An absolute target as hyper writes it: the path is not empty.
fn with_path(target: &str) -> String {
    let Some((scheme, rest)) = target
        .split_once("://")
        .filter(|_| !target.starts_with('/'))
    else {
        return target.to_owned();
    };
    let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    let slash = if path.starts_with('/') { "" } else { "/" };
    format!("{scheme}://{authority}{slash}{path}")
}

/// What must hold of every connection, whatever the gate is told to refuse: what passes is read
/// alike, in whatever pieces it comes. Returns what has passed a gate that drops nothing.
pub(crate) fn check(bytes: &[u8]) -> (Vec<Read>, Option<Refusal>) {
    let mut dropping = ConnectionLimits::DEFAULT;
    dropping.odd_header_names = Oddity::Drop;
    dropping.chunk_extensions = Oddity::Drop;
    check_with(&dropping, bytes);
    check_with(&ConnectionLimits::DEFAULT, bytes)
}

fn check_with(limits: &ConnectionLimits, bytes: &[u8]) -> (Vec<Read>, Option<Refusal>) {
    let (passed, fault, heads) = gated(limits, bytes, bytes.len().max(1));
    for piece in [1, 7] {
        let pieces = gated(limits, bytes, piece);
        assert_eq!(pieces, (passed, fault, heads), "in pieces of {piece}");
    }
    let (first, offended) = hyper(&bytes[..passed]);
    assert!(!offended, "hyper refuses what has passed");
    let heads = usize::try_from(heads).unwrap();
    // The body of the last may be on its way.
    let found = first.len();
    assert!(found == heads || found + 1 == heads, "{found} of {heads}");
    let (second, offended) = kawa(&bytes[..passed]);
    // It refuses more than the gate does, here and there; what it accepts it must read alike.
    let shown = match offended {
        true => &first[..second.len().min(first.len())],
        false => &first,
    };
    assert_eq!(shown, second);
    (first, fault)
}
