//! What an upstream can check: that a request has come through usher, and is the one that was
//! judged.
//!
//! `X-Usher-Assertion` is a JWT (RFC 7519) in compact form, signed with HMAC-SHA256 under a key
//! that only usher and that upstream have. It says again what the request is, and every
//! `X-Usher-*` header in the text of that header, so that there is one rule: what is compared is
//! equal, and what has no claim has no header. The body is not covered: it is not there yet.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use http::Request;
use http::header::{HeaderName, HeaderValue};
use serde::Serialize;
use serde_json::json;
use sha2::Sha256;

use super::StartError;
use super::decision::DecisionId;
use super::marks::{APP, CLUSTER, FORWARDED_HOST, Marks, ORG, TOKEN_ID, USER};
use crate::authority;
use crate::config::Signing;

/// Signs for one upstream. Its key is wiped on drop.
#[derive(Clone)]
pub(super) struct Signer {
    /// The JOSE header (RFC 7515) and the dot behind it, the same for every request.
    header: Box<str>,
    audience: Box<str>,
    /// Has taken in the key already.
    keyed: Hmac<Sha256>,
}

/// What is asserted. Ids are texts, as in the headers: not every reader of JSON keeps all 64 bits
/// of a number.
#[derive(Serialize)]
struct Claims<'a> {
    iss: &'static str,
    /// Name of the upstream: what is signed for one is worth nothing to another.
    aud: &'a str,
    iat: i64,
    exp: i64,
    /// The decision, by which an upstream can tell a request that it has had already.
    jti: &'a str,
    method: &'a str,
    /// Path and query, byte for byte.
    target: &'a str,
    /// As in `X-Forwarded-Host`: that the client asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    host: Option<&'a str>,
    /// Missing where nobody has shown who asks.
    #[serde(skip_serializing_if = "Option::is_none")]
    token_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    org: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    app: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cluster: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<&'a str>,
}

impl Signer {
    /// Reads the key.
    pub(super) fn new(signing: &Signing, upstream: &str) -> Result<Self, StartError> {
        let key = authority::key_bytes(&signing.key).map_err(|cause| StartError::SigningKey {
            upstream: upstream.to_owned(),
            cause,
        })?;
        // `kid` says which of its keys the upstream checks with, while it changes to another.
        let header = json!({ "alg": "HS256", "kid": signing.id, "typ": "JWT" });
        #[expect(
            clippy::expect_used,
            reason = "HMAC takes a key of any length (RFC 2104)"
        )]
        let keyed = Hmac::new_from_slice(&*key).expect("HMAC takes a key of any length");
        Ok(Self {
            header: format!("{}.", URL_SAFE_NO_PAD.encode(header.to_string())).into(),
            audience: upstream.into(),
            keyed,
        })
    }

    /// The header line for a request as it is about to be sent, with all `marks`. `None` cannot
    /// happen, and an upstream that asks for it refuses a request without.
    pub(super) fn sign<B>(
        &self,
        request: &Request<B>,
        marks: &Marks,
        decision: &DecisionId,
        now: i64,
    ) -> Option<HeaderValue> {
        let claims = Claims {
            iss: "usher",
            aud: &self.audience,
            iat: now,
            exp: now.saturating_add(LIFETIME),
            jti: decision.as_str(),
            method: request.method().as_str(),
            target: request.uri().path_and_query()?.as_str(),
            host: marks.text(&FORWARDED_HOST),
            token_id: marks.text(&TOKEN_ID),
            org: marks.text(&ORG),
            app: marks.text(&APP),
            cluster: marks.text(&CLUSTER),
            user: marks.text(&USER),
        };
        let claims = serde_json::to_vec(&claims).ok()?;
        let mut assertion = String::with_capacity(self.header.len() + claims.len() * 4 / 3 + ROOM);
        assertion.push_str(&self.header);
        URL_SAFE_NO_PAD.encode_string(claims, &mut assertion);
        let mac = self.keyed.clone().chain_update(assertion.as_bytes());
        assertion.push('.');
        URL_SAFE_NO_PAD.encode_string(mac.finalize().into_bytes(), &mut assertion);
        let mut value = HeaderValue::try_from(assertion).ok()?;
        // Good for a minute, and never again the same: no log and no table of HPACK has it.
        value.set_sensitive(true);
        Some(value)
    }
}

/// Whether they sign alike.
impl PartialEq for Signer {
    fn eq(&self, other: &Self) -> bool {
        let of_nothing = other.keyed.clone().finalize().into_bytes();
        (&self.header, &self.audience) == (&other.header, &other.audience)
            && self.keyed.clone().verify(&of_nothing).is_ok()
    }
}

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Signer([redacted])")
    }
}

pub(super) const ASSERTION: HeaderName = HeaderName::from_static("x-usher-assertion");

/// Seconds that an upstream may take to look at it, connecting included; and how long what leaks
/// can be sent again to somebody who does not compare `jti`.
const LIFETIME: i64 = 60;

/// For the signature, its dot, and rounding.
const ROOM: usize = 48;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authz::Identity;
    use crate::config::Secret;

    fn signer(folder: &tempfile::TempDir, key: &str) -> Result<Signer, StartError> {
        let path = folder.path().join("key");
        std::fs::write(&path, key).unwrap();
        let signing = Signing {
            id: "k1".to_owned(),
            key: Secret::File(path),
        };
        Signer::new(&signing, "machines")
    }

    /// 32 bytes 0x2a.
    const KEY: &str = "KioqKioqKioqKioqKioqKioqKioqKioqKioqKioqKio=\n";

    #[test]
    fn it_is_the_jwt_that_another_implementation_makes() {
        let folder = tempfile::tempdir().unwrap();
        let signer = signer(&folder, KEY).unwrap();
        let request = Request::builder()
            .method("POST")
            .uri("http://ignored.test/v1/apps/web/machines?a=%2F..&q=%22")
            .header("x-usher-org", "of a client")
            .body(())
            .unwrap();
        let mut marks = Marks::new();
        marks.set(
            &FORWARDED_HOST,
            &HeaderValue::from_static("usher.test:8443"),
        );
        let identity = Identity {
            token: Some(uuid::Uuid::from_u128(7)),
            orgs: [2001, u64::MAX].into_iter().collect(),
            app: Some(3001),
            user: Some(77),
            cluster: None,
        };
        let decision = DecisionId::of_test();
        marks.identify(&identity, &decision);
        let signed = signer.sign(&request, &marks, &decision, 1_764_000_000);
        let value = signed.unwrap();
        assert!(value.is_sensitive());
        assert_eq!(value.to_str().unwrap(), VECTOR);
    }

    /// Made with `PyJWT` 2.15: `jwt.encode(claims, b"*" * 32, "HS256", headers={"kid": "k1"})`.
    const VECTOR: &str = "eyJhbGciOiJIUzI1NiIsImtpZCI6ImsxIiwidHlwIjoiSldUIn0.eyJpc3MiOiJ1c2hlciIsImF1ZCI6Im1hY2hpbmVzIiwiaWF0IjoxNzY0MDAwMDAwLCJleHAiOjE3NjQwMDAwNjAsImp0aSI6IjAwMDAwMDAwMDEwMDAyMDAwMDAwMDAwMCIsIm1ldGhvZCI6IlBPU1QiLCJ0YXJnZXQiOiIvdjEvYXBwcy93ZWIvbWFjaGluZXM_YT0lMkYuLiZxPSUyMiIsImhvc3QiOiJ1c2hlci50ZXN0Ojg0NDMiLCJ0b2tlbl9pZCI6IjAwMDAwMDAwLTAwMDAtMDAwMC0wMDAwLTAwMDAwMDAwMDAwNyIsIm9yZyI6IjIwMDEsIDE4NDQ2NzQ0MDczNzA5NTUxNjE1IiwiYXBwIjoiMzAwMSIsInVzZXIiOiI3NyJ9.MAGWBkTR2O83iDV2Uve9alZ8CB7iePEUOvSDRDWZoH0";

    #[test]
    fn a_key_that_is_none_is_an_error_that_does_not_repeat_it() {
        let folder = tempfile::tempdir().unwrap();
        for bad in ["", "hunter2", "KioqKioqKioqKioqKioqKg==", &KEY.repeat(2)] {
            let error = signer(&folder, bad).unwrap_err();
            assert!(error.is_configuration());
            let text = error.to_string();
            assert!(
                text.starts_with("upstream machines: ") && text.contains("32 bytes in base64"),
                "{text}"
            );
            assert!(bad.is_empty() || !text.contains(bad), "{text}");
        }
    }
}
