//! The image registry: it takes every image, and has one of each app.

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderName, LOCATION, RANGE};
use http::{HeaderValue, Response, StatusCode};
use serde_json::json;

use super::{Answer, Asked, by_name, found, parameter};

/// What is asked for below `/v2/`.
pub(super) fn answer(asked: &Asked<'_>, path: &[&str], query: &str) -> Answer {
    match (asked.method.as_str(), path) {
        (_, [""]) => found(json!({})),
        (_, ["_catalog"]) => found(json!({ "repositories": ["web", "api"] })),
        (_, [name, ..]) if by_name(name).is_none() => plain(StatusCode::NOT_FOUND, &[], ""),
        (_, [name, "tags", "list"]) => found(json!({ "name": name, "tags": ["latest"] })),
        ("POST", [name, "blobs", "uploads", ""]) => {
            let digest = parameter(query, "digest");
            if digest.is_empty() {
                let location = format!("/v2/{name}/blobs/uploads/{UPLOAD}");
                plain(StatusCode::ACCEPTED, &[(LOCATION, &location)], "")
            } else {
                created(name, digest)
            }
        }
        ("PUT", [name, "blobs", "uploads", _]) => created(name, parameter(query, "digest")),
        ("PATCH", [name, "blobs", "uploads", id]) => {
            let location = format!("/v2/{name}/blobs/uploads/{id}");
            let range = format!("0-{}", asked.length.saturating_sub(1));
            let headers = [(LOCATION, location.as_str()), (RANGE, &range)];
            plain(StatusCode::ACCEPTED, &headers, "")
        }
        (_, [_, "blobs", "uploads", _]) => plain(StatusCode::NO_CONTENT, &[], ""),
        ("PUT", [name, "manifests", reference]) => {
            let location = format!("/v2/{name}/manifests/{reference}");
            plain(StatusCode::CREATED, &[(LOCATION, &location)], "")
        }
        ("DELETE", _) => plain(StatusCode::ACCEPTED, &[], ""),
        (_, [_, "manifests", _]) => {
            let kind = (CONTENT_TYPE, "application/vnd.oci.image.manifest.v1+json");
            plain(
                StatusCode::OK,
                &[kind],
                "{\"schemaVersion\":2,\"layers\":[]}",
            )
        }
        (_, [_, "blobs", _]) => {
            let kind = (CONTENT_TYPE, "application/octet-stream");
            plain(StatusCode::OK, &[kind], "a layer\n")
        }
        _ => plain(StatusCode::NOT_FOUND, &[], ""),
    }
}

fn created(name: &str, digest: &str) -> Answer {
    let location = format!("/v2/{name}/blobs/{digest}");
    plain(StatusCode::CREATED, &[(LOCATION, &location)], "")
}

/// An answer without a document. What cannot be a header value came from a query, and is left out.
pub(super) fn plain(
    status: StatusCode,
    headers: &[(HeaderName, &str)],
    body: &'static str,
) -> Answer {
    let mut response = Response::new(Bytes::from_static(body.as_bytes()));
    *response.status_mut() = status;
    for (name, value) in headers {
        if let Ok(value) = HeaderValue::from_str(value) {
            response.headers_mut().insert(name, value);
        }
    }
    Answer::Other(response)
}

/// Every upload has this id: nothing is kept of any.
const UPLOAD: &str = "6b3c1f2e-0000-4000-8000-000000000001";
