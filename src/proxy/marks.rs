//! The lines that usher sets on a request, which is what upstreams trust.
//!
//! Everything under these names was removed before. They are kept apart from the client's lines:
//! one buffer for all of them, written behind those where the request is written as text.

use http::header::{HeaderMap, HeaderName, HeaderValue};
use smallvec::SmallVec;
use uuid::fmt::Hyphenated;

use super::decision::DecisionId;
use crate::authz::Identity;

/// Names and values, in the order they were set.
#[derive(Debug, Default)]
pub(super) struct Marks {
    /// A name, and where its value ends.
    names: SmallVec<[(&'static HeaderName, usize); 9]>,
    values: Vec<u8>,
}

impl Marks {
    pub(super) fn new() -> Self {
        Self {
            names: SmallVec::new(),
            values: Vec::with_capacity(ROOM),
        }
    }

    /// Sets a line that is not there yet.
    pub(super) fn set(&mut self, name: &'static HeaderName, value: &HeaderValue) {
        self.push(name, value.as_bytes());
    }

    /// Sets a line that is not there yet, unless it would be none.
    fn set_text(&mut self, name: &'static HeaderName, value: &str) {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.set(name, &value);
        }
    }

    /// `value` is what can be in a line.
    fn push(&mut self, name: &'static HeaderName, value: &[u8]) {
        self.values.extend_from_slice(value);
        self.names.push((name, self.values.len()));
    }

    /// Who asks, and which decision permits it.
    pub(super) fn identify(&mut self, identity: &Identity, decision: &DecisionId) {
        if let Some(token) = identity.token {
            let mut text = [0; Hyphenated::LENGTH];
            let text = token.hyphenated().encode_lower(&mut text);
            self.push(&TOKEN_ID, text.as_bytes());
        }
        match &*identity.orgs {
            [] => {}
            [org] => self.push(&ORG, org.to_string().as_bytes()),
            // The request is about all organizations of the bearer.
            several => {
                let list: Vec<_> = several.iter().map(u64::to_string).collect();
                self.push(&ORG, list.join(", ").as_bytes());
            }
        }
        for (name, id) in [(&APP, identity.app), (&USER, identity.user)] {
            if let Some(id) = id {
                self.push(name, id.to_string().as_bytes());
            }
        }
        if let Some(cluster) = identity.cluster.as_deref() {
            self.set_text(&CLUSTER, cluster);
        }
        self.push(&DECISION, decision.as_str().as_bytes());
    }

    /// What was set under a name, if it is text.
    pub(super) fn text(&self, name: &HeaderName) -> Option<&str> {
        let (_, value) = self.iter().find(|(known, _)| *known == name)?;
        std::str::from_utf8(value).ok()
    }

    /// The lines.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&'static HeaderName, &[u8])> {
        let mut begin = 0;
        self.names.iter().map(move |(name, end)| {
            let value = self.values.get(begin..*end).unwrap_or_default();
            begin = *end;
            (*name, value)
        })
    }

    /// Sets the lines where a request is sent as a map of them.
    pub(super) fn pour(&self, headers: &mut HeaderMap) {
        headers.reserve(self.names.len());
        for (name, value) in self.iter() {
            if let Ok(value) = HeaderValue::from_bytes(value) {
                headers.insert(name, value);
            }
        }
    }
}

pub(super) static TOKEN_ID: HeaderName = HeaderName::from_static("x-usher-token-id");
pub(super) static ORG: HeaderName = HeaderName::from_static("x-usher-org");
pub(super) static APP: HeaderName = HeaderName::from_static("x-usher-app");
pub(super) static CLUSTER: HeaderName = HeaderName::from_static("x-usher-cluster");
pub(super) static USER: HeaderName = HeaderName::from_static("x-usher-user");
static DECISION: HeaderName = HeaderName::from_static("x-usher-decision");
pub(super) static FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
pub(super) static FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
pub(super) static FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// What the values of most requests take, in bytes.
const ROOM: usize = 192;

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(orgs: &[u64]) -> Identity {
        Identity {
            token: Some(uuid::Uuid::from_u128(7)),
            orgs: orgs.iter().copied().collect(),
            app: Some(u64::MAX),
            user: Some(1),
            cluster: Some("one\r\nx-usher-org: 1".into()),
        }
    }

    #[test]
    fn an_identity_is_one_line_each() {
        for (orgs, line) in [
            (&[][..], None),
            (&[0][..], Some("0")),
            (&[2001][..], Some("2001")),
            (&[10, u64::MAX][..], Some("10, 18446744073709551615")),
        ] {
            let mut marks = Marks::new();
            let decision = DecisionId::of_test();
            marks.identify(&identity(orgs), &decision);
            let id = "00000000-0000-0000-0000-000000000007";
            assert_eq!(marks.text(&TOKEN_ID), Some(id));
            assert_eq!(marks.text(&ORG), line);
            assert_eq!(marks.text(&APP), Some("18446744073709551615"));
            assert_eq!(marks.text(&USER), Some("1"));
            assert_eq!(marks.text(&DECISION), Some(decision.as_str()));
            assert_eq!(marks.text(&CLUSTER), None, "it would be two lines");

            let mut headers = HeaderMap::new();
            headers.insert(&APP, HeaderValue::from_static("1"));
            marks.pour(&mut headers);
            assert_eq!(headers.len(), marks.iter().count());
            for (name, value) in marks.iter() {
                assert_eq!(headers[name].as_bytes(), value);
            }
        }
    }
}
