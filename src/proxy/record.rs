//! What the log and the metrics say about one decision.

use std::fmt;

use http::Method;
use tokio::time::Instant;

use super::decision::DecisionId;
use super::respond::Code;
use super::turn;
use super::worker::Worker;
use crate::authz::{Decision, TokenRef};
use crate::policy::Asked;

/// What the log says about one decision.
pub(super) struct Record<'a> {
    route: Option<usize>,
    access: String,
    token: Option<TokenRef>,
    reason: Option<Box<str>>,
    method: &'a Method,
    id: &'a DecisionId,
}

impl<'a> Record<'a> {
    pub(super) fn refused(method: &'a Method, id: &'a DecisionId) -> Self {
        Self {
            route: None,
            access: String::new(),
            token: None,
            reason: None,
            method,
            id,
        }
    }

    /// About a request that is refused because of something that its decision needed.
    pub(super) fn stopped(
        method: &'a Method,
        id: &'a DecisionId,
        route: Option<usize>,
        token: Option<TokenRef>,
    ) -> Self {
        Self {
            route,
            token,
            ..Self::refused(method, id)
        }
    }

    pub(super) fn of(decision: &Decision<'_>, method: &'a Method, id: &'a DecisionId) -> Self {
        let access = if tracing::enabled!(tracing::Level::INFO) {
            Accesses(&decision.accesses).to_string()
        } else {
            String::new()
        };
        Self {
            route: decision.route,
            access,
            token: decision.token,
            reason: decision.reason.clone(),
            method,
            id,
        }
    }

    pub(super) fn write(self, worker: &Worker, verdict: Result<(), Code>, begun: Instant) {
        let latency = turn::read().duration_since(begun);
        worker.metrics.decision.observe(latency);
        let route = self.route.and_then(|index| worker.routes.get(index));
        match (verdict, route) {
            (Ok(()), Some(route)) => {
                route.metrics.permitted.inc();
            }
            (Ok(()), None) => {}
            (Err(code), route) => {
                let name = route.map_or(&worker.no_route, |route| &route.name);
                worker.metrics.denied(name, code.as_str());
            }
        }
        let (verdict, code) = match verdict {
            Ok(()) => ("permit", "permitted"),
            Err(code) => ("deny", code.as_str()),
        };
        tracing::info!(
            route = route.map(|route| &*route.name),
            access = self.access,
            verdict,
            code,
            reason = self.reason.as_deref(),
            token = self.token.map(|token| tracing::field::display(token.uuid)),
            fingerprint = self
                .token
                .map(|token| tracing::field::display(Hex(token.fingerprint))),
            decision = self.id.as_str(),
            method = known(self.method),
            latency_us = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX),
            "request decided"
        );
    }
}

/// The method for the log. Others can be as long as the head may be, and no route has them.
fn known(method: &Method) -> &str {
    match *method {
        Method::GET
        | Method::HEAD
        | Method::POST
        | Method::PUT
        | Method::PATCH
        | Method::DELETE
        | Method::OPTIONS
        | Method::CONNECT
        | Method::TRACE => method.as_str(),
        _ => "other",
    }
}

/// Accesses as the log shows them: ids and names of objects, not the words of a command.
struct Accesses<'a>(&'a [Asked<'a>]);

impl fmt::Display for Accesses<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, asked) in self.0.iter().enumerate() {
            let access = &asked.access;
            if index > 0 {
                f.write_str("; ")?;
            }
            write!(f, "{}", access.action)?;
            if asked.own_org {
                f.write_str(" org=own")?;
            }
            if asked.own_cluster {
                f.write_str(" cluster=own")?;
            }
            for (name, id) in [("org", access.org), ("app", access.app)] {
                if let Some(id) = id {
                    write!(f, " {name}={id}")?;
                }
            }
            for (name, text) in [
                ("app_feature", access.app_feature),
                ("feature", access.feature),
                ("volume", access.volume),
                ("machine", access.machine),
                ("machine_feature", access.machine_feature),
                ("mutation", access.mutation),
                ("cluster", access.cluster),
                ("storage_object", access.storage_object),
            ] {
                if let Some(text) = text {
                    write!(f, " {name}={}", text.escape_debug())?;
                }
            }
            if let Some(words) = access.command {
                write!(f, " command={} words", words.len())?;
            }
        }
        Ok(())
    }
}

struct Hex([u8; 8]);

impl fmt::Display for Hex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", u64::from_be_bytes(self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::Access;

    #[test]
    fn the_log_shows_objects_but_not_the_words_of_a_command() {
        let words = ["rm".to_owned(), "secret".to_owned()];
        let access = Access {
            action: crate::macaroon::Action::READ,
            org: Some(2001),
            app: Some(3001),
            machine: Some("m\n1"),
            command: Some(&words),
            ..Access::default()
        };
        assert_eq!(
            Accesses(&[access.into()]).to_string(),
            r"r org=2001 app=3001 machine=m\n1 command=2 words"
        );
    }

    #[test]
    fn the_log_bounds_the_method() {
        let long = Method::from_bytes("M".repeat(4_000).as_bytes()).unwrap();
        assert_eq!((known(&long), known(&Method::PATCH)), ("other", "PATCH"));
    }
}
