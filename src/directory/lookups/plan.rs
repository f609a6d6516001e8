//! What is asked for one kind of name, and what an answer says.

use bytes::Bytes;
use http::header::{self, HeaderName, HeaderValue};
use http::uri::PathAndQuery;
use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, Empty, LengthLimitError, Limited};
use serde_json::Number;

use super::Unanswered;
use super::server::Server;
use crate::config::{HttpDirectory, LookupTemplate, OwnerAt};
use crate::directory::DirectoryError;
use crate::peer;
use crate::policy::{AppIds, Json, LookupKind, Owner, Pointer};

/// A template with all that is needed to use it.
pub(super) struct Plan {
    server: Server,
    template: LookupTemplate,
    credential: Option<(HeaderName, HeaderValue)>,
}

impl Plan {
    /// Those of a configuration, roots and credential read.
    pub(super) fn all(config: &HttpDirectory) -> Result<Vec<(LookupKind, Self)>, DirectoryError> {
        let credential = config.credential.as_ref();
        let credential = credential.map(peer::credential).transpose()?;
        let tls = match config.kinds.iter().any(|(_, plan)| plan.server.tls) {
            true => Some(peer::tls(config.ca.as_deref(), None, b"http/1.1")?),
            false => None,
        };
        let plan = |(kind, template): &(LookupKind, LookupTemplate)| {
            let plan = Self {
                server: Server::new(&template.server, tls.as_ref(), config.concurrency)?,
                template: template.clone(),
                credential: credential.clone(),
            };
            Ok((kind.clone(), plan))
        };
        config.kinds.iter().map(plan).collect()
    }

    /// Asks for a name. `None` if the server says that there is none.
    pub(super) async fn ask(&self, name: &str) -> Result<Option<Owner>, Unanswered> {
        let target = format!("{}{name}{}", self.template.before, self.template.after);
        let target = PathAndQuery::try_from(target).map_err(|_| Unanswered::NoIds)?;
        let (response, sender) = self.server.send(|| self.request(&target)).await?;
        let status = response.status();
        if status != StatusCode::OK && status != StatusCode::NOT_FOUND {
            return Err(Unanswered::Status(status.as_u16()));
        }
        let body = Limited::new(response.into_body(), MAX_ANSWER)
            .collect()
            .await;
        let body = body.map_err(|error| match error.is::<LengthLimitError>() {
            true => Unanswered::TooLong,
            false => Unanswered::Broken,
        })?;
        self.server.keep(sender);
        if status == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        self.read(name, &body.to_bytes()).map(Some)
    }

    fn request(&self, target: &PathAndQuery) -> Request<Empty<Bytes>> {
        let mut request = Request::new(Empty::new());
        *request.uri_mut() = target.clone().into();
        let headers = request.headers_mut();
        headers.insert(header::HOST, self.server.host().clone());
        headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
        headers.insert(header::USER_AGENT, HeaderValue::from_static(USER_AGENT));
        if let Some((name, value)) = &self.credential {
            headers.insert(name.clone(), value.clone());
        }
        request
    }

    /// Takes the ids out of an answer about `name`.
    fn read(&self, name: &str, body: &[u8]) -> Result<Owner, Unanswered> {
        let json = Json::parse(body, MAX_DEPTH).map_err(|_| Unanswered::NotJson)?;
        let names = &self.template.name;
        // A place that is there in two spellings is another place to another reader.
        let find = |at: &Pointer| json.find(at).map_err(|_two_spellings| Unanswered::NotJson);
        let mut says = names.is_empty();
        for at in names {
            says |= find(at)?.and_then(Json::text) == Some(name);
        }
        if !says {
            return Err(Unanswered::OtherName);
        }
        let id = |at: &Pointer| find(at)?.and_then(id).ok_or(Unanswered::NoIds);
        Ok(match &self.template.owner {
            OwnerAt::App { app, org } => Owner::App(AppIds {
                app: id(app)?,
                org: id(org)?,
            }),
            OwnerAt::Org(org) => Owner::Org(id(org)?),
        })
    }
}

/// An id: a whole number from 1, or the same as a string, since JavaScript cannot read all of 64
/// bits as a number.
fn id(json: &Json) -> Option<u64> {
    let id = match json {
        Json::Number(number) => Number::as_u64(number),
        Json::Text(text) => text.parse().ok().filter(|id: &u64| id.to_string() == *text),
        Json::Null | Json::Bool(_) | Json::List(_) | Json::Object(_) => None,
    };
    // 0 stands for collections, and would be permitted to those who may only list them.
    id.filter(|id| *id != 0)
}

/// Bytes of an answer, inclusive. An app is described in a few hundred.
const MAX_ANSWER: usize = 64 * 1024;

/// Arrays and objects in each other, inclusive.
const MAX_DEPTH: usize = 16;

const USER_AGENT: &str = concat!("usher/", env!("CARGO_PKG_VERSION"));

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_whole_numbers_from_one_in_one_spelling() {
        for (text, expected) in [
            ("3001", Some(3001)),
            ("18446744073709551615", Some(u64::MAX)),
            ("\"3001\"", Some(3001)),
            ("\"18446744073709551615\"", Some(u64::MAX)),
            ("0", None),
            ("\"0\"", None),
            ("-1", None),
            ("1.0", None),
            ("1e3", None),
            ("18446744073709551616", None),
            ("\"+1\"", None),
            ("\"01\"", None),
            ("\" 1\"", None),
            ("\"\"", None),
            ("null", None),
            ("true", None),
            ("[3001]", None),
            ("{\"id\":3001}", None),
        ] {
            let json = Json::parse(text.as_bytes(), MAX_DEPTH).unwrap();
            assert_eq!(id(&json), expected, "{text}");
        }
    }
}
