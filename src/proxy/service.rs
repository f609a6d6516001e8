//! One request, from its head to the beginning of its response.

use std::fmt;
use std::rc::Rc;

use http::header::{self, HeaderMap};
use http::uri::Authority;
use http::{Method, Request, Response, Version};
use hyper::body::Body;
use tokio::time::Instant;

use super::body::{RequestBody, ResponseBody};
use super::connection::Connection;
use super::decision::DecisionId;
use super::forward::forward;
use super::headers::Sieve;
use super::host::is_host;
use super::respond::{Answer, Caller, Code};
use super::turn;
use super::worker::Worker;
use crate::authz::{Decision, Denial, Head, Permit, TokenRef};
use crate::clock;
use crate::config::ConnectionLimits;
use crate::policy::Access;

/// Answers one request, which began at `begun`.
pub(super) async fn serve(
    connection: Rc<Connection>,
    request: Box<Request<RequestBody>>,
    begun: Instant,
) -> Response<ResponseBody> {
    let mut request = request;
    conceal(request.headers_mut());
    let in_flight = connection.pulse.begin();
    let worker = &connection.worker;
    let decision = worker.ids.next();
    let caller = Caller::of(request.method(), request.headers());
    let version = request.version();
    let has_body = !request.body().is_end_stream();

    let mut sieve = Sieve::default();
    let answer = match judge(worker, &request, &mut sieve, &decision, begun) {
        Ok(permit) => match forward(permit, request, &mut sieve, &decision, &connection).await {
            Ok(response) => {
                return response.map(|body| ResponseBody::upstream(body, in_flight));
            }
            Err(error) => Answer::from(&error),
        },
        Err(answer) => answer,
    };

    if has_body {
        connection.pulse.answered_early();
    }
    let mut response = answer.into_response(caller, &decision);
    if version == Version::HTTP_2 {
        response.headers_mut().remove(header::CONNECTION);
    }
    let read_by = turn::now() + worker.timeouts.idle;
    response.map(|bytes| ResponseBody::own(bytes, read_by, in_flight))
}

/// Keeps credentials out of whatever prints headers, here or in a library.
fn conceal(headers: &mut HeaderMap) {
    // All lines, since a repeated credential is refused but can be printed before that.
    for (name, value) in headers.iter_mut() {
        if *name == header::AUTHORIZATION || *name == header::PROXY_AUTHORIZATION {
            value.set_sensitive(true);
        }
    }
}

/// Refuses what can be read in two ways, then asks for the decision, and records it.
fn judge(
    worker: &Worker,
    request: &Request<RequestBody>,
    sieve: &mut Sieve,
    id: &DecisionId,
    begun: Instant,
) -> Result<Permit, Answer> {
    let head = match read(request, sieve, &worker.limits) {
        Ok(head) => head,
        Err(answer) => {
            let record = Record::refused(request.method(), id);
            record.write(worker, Err(answer.code), begun);
            return Err(answer);
        }
    };
    let decision = worker.decider.authorize(&head, clock::unix_now());
    let record = Record::of(&decision, request.method(), id);
    match decision.verdict {
        Ok(permit) => {
            record.write(worker, Ok(()), begun);
            Ok(permit)
        }
        Err(denial) => {
            let answer = Answer::from(denial);
            record.write(worker, Err(answer.code), begun);
            Err(answer)
        }
    }
}

/// The head as the decision sees it, once there is one way to read it.
fn read<'a, B: Body>(
    request: &'a Request<B>,
    sieve: &mut Sieve,
    limits: &ConnectionLimits,
) -> Result<Head<'a>, Answer> {
    let (method, headers, uri) = (request.method(), request.headers(), request.uri());
    if !matches!(request.version(), Version::HTTP_11 | Version::HTTP_2) {
        let detail = "use HTTP/1.1 or HTTP/2";
        return Err(Answer::new(Code::HttpVersion, detail).closing());
    }
    if matches!(*method, Method::CONNECT | Method::TRACE) {
        let why = "CONNECT and TRACE have no route";
        return Err(Answer::new(Code::MethodNotAllowed, why).closing());
    }
    if headers.len() > limits.headers {
        let why = format!("more than {} headers", limits.headers);
        return Err(Answer::new(Code::HeadTooLarge, why).closing());
    }
    let target = uri.path_and_query().map_or("", |target| target.as_str());
    if target.len() > limits.target_bytes {
        let why = format!("the target is longer than {} bytes", limits.target_bytes);
        return Err(Answer::new(Code::TargetTooLong, why).closing());
    }
    let ambiguous = |why: &'static str| Answer::from(Denial::Ambiguous(why.into()));
    if !target.starts_with('/') {
        return Err(ambiguous("the target is not a path"));
    }
    // Readers that merge a form into the query would see other fields than were judged.
    if matches!(*method, Method::GET | Method::HEAD | Method::DELETE)
        && !request.body().is_end_stream()
    {
        return Err(ambiguous("a GET, HEAD or DELETE has no body"));
    }
    sieve.judge(headers, request.version()).map_err(ambiguous)?;
    let host = host(request).map_err(ambiguous)?;
    Ok(Head {
        method,
        host,
        target,
        headers,
    })
}

/// The one host that a request is for.
///
/// HTTP/1.1 must name it in `Host`, and may do so again in the target; HTTP/2 in `:authority`,
/// and may do so again in `host`. Two different names mean two readers go two ways (RFC 9112
/// 3.2.2 lets the target win, which not everybody does).
fn host<B>(request: &Request<B>) -> Result<&str, &'static str> {
    let mut lines = request.headers().get_all(header::HOST).iter();
    let line = match (lines.next(), lines.next()) {
        (Some(line), None) => Some(line.to_str().map_err(|_| "the Host is not readable")?),
        (None, _) => None,
        (Some(_), Some(_)) => return Err("the Host header is repeated"),
    };
    let authority = request.uri().authority().map(Authority::as_str);
    let host = match (line, authority) {
        (Some(line), None) if request.version() == Version::HTTP_11 => line,
        (None, Some(authority)) if request.version() == Version::HTTP_2 => authority,
        (Some(line), Some(authority)) if line == authority => line,
        (Some(_), Some(_)) => return Err("the target names another host than the Host header"),
        (None, _) | (Some(_), None) => return Err("the request does not name its host"),
    };
    if !is_host(host) {
        return Err("the host is not a name or address with an optional port");
    }
    Ok(host)
}

/// What the log says about one decision.
struct Record<'a> {
    route: Option<usize>,
    access: String,
    token: Option<TokenRef>,
    reason: Option<Box<str>>,
    method: &'a Method,
    id: &'a DecisionId,
}

impl<'a> Record<'a> {
    fn refused(method: &'a Method, id: &'a DecisionId) -> Self {
        Self {
            route: None,
            access: String::new(),
            token: None,
            reason: None,
            method,
            id,
        }
    }

    fn of(decision: &Decision<'_>, method: &'a Method, id: &'a DecisionId) -> Self {
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

    fn write(self, worker: &Worker, verdict: Result<(), Code>, begun: Instant) {
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
struct Accesses<'a>(&'a [Access<'a>]);

impl fmt::Display for Accesses<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, access) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("; ")?;
            }
            write!(f, "{}", access.action)?;
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
mod tests;
