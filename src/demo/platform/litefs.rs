//! LiteFS Cloud: clusters, and databases that never change.

use http::StatusCode;
use http::header::{CONTENT_TYPE, HeaderName};
use serde_json::json;

use super::registry::plain;
use super::{Answer, Asked, done, found, parameter};

/// What is asked for at the root of the host; `None` where LiteFS Cloud has nothing there.
pub(super) fn answer(asked: &Asked<'_>, path: &[&str], query: &str) -> Option<Answer> {
    let answer = match (asked.method.as_str(), path) {
        ("GET", ["clusters"]) => found(json!({
            "clusters": [{ "name": "primary", "region": "ams" }, { "name": "analytics", "region": "ams" }],
        })),
        (_, ["clusters"]) => done(),
        (_, ["pos"]) => found(json!({
            "main": { "txid": TXID, "postApplyChecksum": "ef0f7a7b3c2d1e00" },
        })),
        (_, ["hwm"]) => found(json!({ "main": TXID })),
        (_, ["regions"]) => found(json!({ "regions": ["ams"] })),
        (_, ["db", "tx" | "upload"]) => plain(
            StatusCode::OK,
            &[(HeaderName::from_static("litefs-hwm"), TXID)],
            "",
        ),
        (_, ["db", "snapshot"]) => {
            let kind = match parameter(query, "format") {
                "sqlite" => "application/vnd.sqlite3",
                _ => "application/octet-stream",
            };
            plain(StatusCode::OK, &[(CONTENT_TYPE, kind)], "LTX1\n")
        }
        (_, ["db", "restore"]) => done(),
        _ => return None,
    };
    Some(answer)
}

/// The last transaction.
const TXID: &str = "0000000000000007";
