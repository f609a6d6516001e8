//! Bounds and deadlines, each with a default.

use std::num::NonZeroUsize;

use super::{Node, Report, Section, read, scalar};
use crate::config::problem::Fault;
use crate::config::{Cache, ConnectionLimits, Route, Timeouts};
use crate::macaroon::Limits;

/// Bounds on connections, and on tokens.
pub(super) fn limits(
    root: &Section<'_>,
    report: &mut Report,
) -> Option<(ConnectionLimits, Limits)> {
    let default = (ConnectionLimits::DEFAULT, Limits::DEFAULT);
    let Some(node) = root.find("limits") else {
        return Some(default);
    };
    let section = Section::open(node, "`limits`", &LIMITS, &[], report)?;
    let (d, many) = (default.0, scalar::number(1, 1_000_000));
    let head = scalar::size_within(MIN_HEAD_BYTES, MAX_HEAD_BYTES);
    let target = scalar::size_within(1024, MAX_HEAD_BYTES);
    let streams = scalar::number(1, 1_000_000);
    let connections = section.read_or("connections", d.connections, report, &many);
    let key = "connections_per_address";
    let per_address = section.read_or(key, d.connections_per_address, report, &many);
    let head_bytes = section.read_or("head_bytes", d.head_bytes, report, head);
    let headers = section.read_or("headers", d.headers, report, scalar::number(1, 10_000));
    let target_bytes = section.read_or("target_bytes", d.target_bytes, report, target);
    let resets = section.read_or("resets", d.resets, report, &streams);
    let idle_frames = section.read_or("idle_frames", d.idle_frames, report, &streams);
    let streams = section.read_or("streams", d.streams, report, &streams);
    let idle = section.read_or("idle_upstream", d.idle_upstream, report, &many);
    let key = "upstream_connections";
    let upstream = section.read_or(key, d.upstream_connections, report, &many);
    let key = "odd_header_names";
    let odd_header_names = section.read_or(key, d.odd_header_names, report, scalar::oddity);
    let key = "chunk_extensions";
    let chunk_extensions = section.read_or(key, d.chunk_extensions, report, scalar::oddity);
    let judged = scalar::size_within(MIN_JUDGED_BODIES, MAX_JUDGED_BODIES);
    let judged_bodies = section.read_or("judged_bodies", d.judged_bodies, report, judged);
    let tokens = match section.find("tokens") {
        Some(node) => token_limits(node, report),
        None => Some(default.1),
    };
    let connection_limits = ConnectionLimits {
        connections: connections?,
        connections_per_address: per_address?,
        head_bytes: head_bytes?,
        headers: headers?,
        target_bytes: target_bytes?,
        streams: streams?,
        resets: resets?,
        idle_frames: idle_frames?,
        idle_upstream: idle?,
        upstream_connections: upstream?,
        odd_header_names: odd_header_names?,
        chunk_extensions: chunk_extensions?,
        judged_bodies: judged_bodies?,
    };
    Some((connection_limits, tokens?))
}

/// A route whose longest bodies could never be held is a mistake.
pub(super) fn check_judged_bodies(
    root: &Section<'_>,
    limits: &ConnectionLimits,
    routes: &[Route],
    report: &mut Report,
) {
    let judges = |route: &&Route| route.rule.body().is_some();
    let longest = routes.iter().filter(judges).max_by_key(|r| r.body_limit);
    if let (Some(route), Some(node)) = (longest, root.find("limits"))
        && route.body_limit > limits.judged_bodies
    {
        let message = format!(
            "`judged_bodies` is less than the `body_limit` of `{}`",
            route.name
        );
        let hint = "it bounds what is held of all bodies together, so such a one would be refused";
        report.error(node.id, Fault::new(message).hint(hint));
    }
}

fn token_limits(node: &Node, report: &mut Report) -> Option<Limits> {
    let section = Section::open(node, "`tokens`", &TOKEN_LIMITS, &[], report)?;
    let (d, many) = (Limits::DEFAULT, scalar::number(1, 100_000));
    let size = scalar::size_within(1024, MAX_HEAD_BYTES);
    let depth = scalar::number(0, Limits::MAX_DEPTH);
    let header_bytes = section.read_or("header_bytes", d.header_bytes, report, &size);
    let token_bytes = section.read_or("token_bytes", d.token_bytes, report, &size);
    let tokens = section.read_or("tokens", d.tokens, report, &many);
    let caveats = section.read_or("caveats", d.caveats, report, &many);
    let depth = section.read_or("depth", d.depth, report, depth);
    let key = "discharges_per_ticket";
    let per_ticket = section.read_or(key, d.discharges_per_ticket, report, &many);
    let discharges = section.read_or("discharges", d.discharges, report, &many);
    Some(Limits {
        header_bytes: header_bytes?,
        token_bytes: token_bytes?,
        tokens: tokens?,
        caveats: caveats?,
        depth: depth?,
        discharges_per_ticket: per_ticket?,
        discharges: discharges?,
    })
}

/// Deadlines.
pub(super) fn timeouts(root: &Section<'_>, report: &mut Report) -> Option<Timeouts> {
    let d = Timeouts::DEFAULT;
    let Some(node) = root.find("timeouts") else {
        return Some(d);
    };
    let section = Section::open(node, "`timeouts`", &TIMEOUTS, &[], report)?;
    let mut read = |key, default| section.read_or(key, default, report, scalar::duration);
    let tls_handshake = read("tls_handshake", d.tls_handshake);
    let request_head = read("request_head", d.request_head);
    let judged_body = read("judged_body", d.judged_body);
    let connect = read("connect", d.connect);
    let response_head = read("response_head", d.response_head);
    let idle = read("idle", d.idle);
    let stream_idle = read("stream_idle", d.stream_idle);
    let drain = read("drain", d.drain);
    Some(Timeouts {
        tls_handshake: tls_handshake?,
        request_head: request_head?,
        judged_body: judged_body?,
        connect: connect?,
        response_head: response_head?,
        idle: idle?,
        stream_idle: stream_idle?,
        drain: drain?,
    })
}

/// Bounds of the verification cache.
pub(super) fn cache(root: &Section<'_>, report: &mut Report) -> Option<Cache> {
    let d = Cache::DEFAULT;
    let Some(node) = root.find("cache") else {
        return Some(d);
    };
    let known = ["bytes", "failure_bytes", "ttl", "failure_ttl"];
    let section = Section::open(node, "`cache`", &known, &[], report)?;
    let bytes = section.read_or("bytes", d.bytes, report, scalar::size);
    let failure_bytes = section.read_or("failure_bytes", d.failure_bytes, report, scalar::size);
    let ttl = section.read_or("ttl", d.ttl, report, scalar::duration);
    let failure_ttl = section.read_or("failure_ttl", d.failure_ttl, report, scalar::duration);
    Some(Cache {
        bytes: bytes?,
        failure_bytes: failure_bytes?,
        ttl: ttl?,
        failure_ttl: failure_ttl?,
    })
}

/// Worker threads; `Some(None)` is one per core.
pub(super) fn threads(root: &Section<'_>, report: &mut Report) -> Option<Option<NonZeroUsize>> {
    let Some(node) = root.find("threads") else {
        return Some(None);
    };
    let threads = read(node, report, scalar::number(1, MAX_THREADS))?;
    Some(NonZeroUsize::new(threads))
}

const LIMITS: [&str; 14] = [
    "connections",
    "connections_per_address",
    "head_bytes",
    "headers",
    "target_bytes",
    "streams",
    "resets",
    "idle_frames",
    "idle_upstream",
    "upstream_connections",
    "odd_header_names",
    "chunk_extensions",
    "judged_bodies",
    "tokens",
];

const TOKEN_LIMITS: [&str; 7] = [
    "header_bytes",
    "token_bytes",
    "tokens",
    "caveats",
    "depth",
    "discharges_per_ticket",
    "discharges",
];

const TIMEOUTS: [&str; 8] = [
    "tls_handshake",
    "request_head",
    "judged_body",
    "connect",
    "response_head",
    "idle",
    "stream_idle",
    "drain",
];

/// The smallest buffer that hyper takes.
const MIN_HEAD_BYTES: u64 = 8 * 1024;

/// Less than one long body that has been read is none at all.
const MIN_JUDGED_BODIES: u64 = 1024 * 1024;

/// No machine has more to spare.
const MAX_JUDGED_BODIES: u64 = 64 * 1024 * 1024 * 1024;

/// Each open connection may hold this much.
const MAX_HEAD_BYTES: u64 = 1024 * 1024;

/// Threads, inclusive; each has its own listener sockets and upstream connections.
const MAX_THREADS: usize = 1024;
