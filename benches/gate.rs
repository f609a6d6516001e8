//! The check of raw HTTP/1.1: a usual head, one with a long credential, and a body of chunks.
//!
//! `cargo bench --bench gate`. It is paid once a request, before hyper parses the same bytes.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    reason = "a benchmark stops at what it does not expect; criterion's macros write no docs"
)]

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use usher::config::ConnectionLimits;
use usher::proxy::Gate;

/// What flyctl sends, with a token of so many bytes.
fn head(token: usize) -> String {
    format!(
        "GET /v1/apps/web-frontend/machines/148e1aaa000001 HTTP/1.1\r\n\
         Host: api.machines.dev\r\nUser-Agent: fly-go/0.1.53\r\nAccept: application/json\r\n\
         Accept-Encoding: gzip\r\nContent-Type: application/json\r\n\
         Fly-Trace-Id: 4bf92f3577b34da6a3ce929d0e0e4736\r\n\
         Traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\n\
         Authorization: FlyV1 fm2_{}\r\n\r\n",
        "lJPECAAAAAAABfkyxBAx".repeat(token / 20)
    )
}

fn check(c: &mut Criterion, name: &str, bytes: &[u8], length: usize) {
    assert_eq!(bytes.len(), length);
    let mut gate = Gate::new(&ConnectionLimits::DEFAULT);
    let mut check = || {
        let checked = gate.check(black_box(bytes));
        assert!(checked.passed == length && checked.fault.is_none());
    };
    check();
    let mut group = c.benchmark_group("gate");
    group.throughput(Throughput::Bytes(length as u64));
    group.bench_function(name, |b| b.iter(&mut check));
    group.finish();
}

fn gate(c: &mut Criterion) {
    check(c, "head", head(60).as_bytes(), 399);
    check(c, "head with 4 KiB of tokens", head(4096).as_bytes(), 4419);
    let chunk = format!("1000\r\n{}\r\n", "x".repeat(4096));
    let body = "POST /a HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n".to_owned()
        + &chunk.repeat(16)
        + "0\r\n\r\n";
    check(c, "body of 16 chunks", body.as_bytes(), 65_717);
}

criterion_group!(benches, gate);
criterion_main!(benches);
