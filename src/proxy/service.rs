//! One request, from its head to the beginning of its response.

mod pending;

use std::rc::Rc;

use http::header::{self, HeaderMap};
use http::uri::Authority;
use http::{Method, Request, Response, Version};
use hyper::body::Body;
use tokio::time::Instant;

use super::body::{RequestBody, ResponseBody, Stage};
use super::connection::Connection;
use super::decision::DecisionId;
use super::forward::forward;
use super::headers::Sieve;
use super::host::is_host;
use super::record::Record;
use super::respond::{Answer, Caller, Code};
use super::tunnel;
use super::turn;
use super::worker::Worker;
use crate::authz::{Denial, Head, Permit, Waiting};
use crate::clock;
use crate::config::ConnectionLimits;

use pending::{Held, Pending};

/// Answers one request, which began at `begun`.
pub(super) async fn serve(
    connection: Rc<Connection>,
    request: Box<Request<RequestBody>>,
    begun: Instant,
) -> Response<ResponseBody> {
    let mut request = request;
    conceal(request.headers_mut());
    let in_flight = connection.pulse.begin();
    // Whatever is put into use meanwhile, this request is judged and served by what is now.
    let worker = &connection.post.worker();
    let decision = worker.ids.next();
    let mut caller = Caller::of(request.method(), request.headers());
    let version = request.version();
    let connect = *request.method() == Method::CONNECT;
    let upload = request.body().upload();

    let mut sieve = Sieve::default();
    let mut held = Held::of(request.headers());
    let verdict = match judge(worker, &request, &held, &mut sieve, &decision, begun) {
        Judged::Decided(verdict) => verdict,
        // Seldom, and large: on the heap, so that it does not make every request large.
        Judged::Waiting(waiting) => {
            // The token has verified, so the bearer may know what this route is.
            if waiting.route.is_some_and(|r| worker.decider.is_graphql(r)) {
                caller = caller.of_graphql(request.headers());
            }
            let mut rest = Pending {
                worker,
                request: &mut request,
                held: &mut held,
                sieve: &mut sieve,
                id: &decision,
                begun,
            };
            Box::pin(rest.decide(waiting)).await
        }
    };
    let answer = match verdict {
        Ok(permit) if worker.opens_tunnel(&permit) => {
            match tunnel::open(permit, &request, &decision, &connection, worker).await {
                Ok(response) => {
                    let read_by = turn::now() + worker.timeouts.idle;
                    return response.map(|bytes| ResponseBody::own(bytes, read_by, in_flight));
                }
                Err(error) => Answer::from(&error),
            }
        }
        Ok(permit) => {
            held.hand_over(&mut request);
            match forward(permit, request, &mut sieve, &decision, &connection, worker).await {
                Ok(response) => {
                    return response.map(|body| ResponseBody::upstream(body, in_flight));
                }
                Err(error) => Answer::from(&error),
            }
        }
        Err(answer) => answer,
    };

    let answer = match upload {
        // The client may keep the rest of the body to itself, or be sending it: hyper does not
        // wait for it, so nothing that follows on this connection would be read.
        Some(upload) if upload.stage() != Stage::Ended => {
            connection.pulse.answered_early();
            answer.closing()
        }
        // What follows was meant for the tunnel, so the gate lets nothing more of it pass.
        Some(_) | None if connect => answer.closing(),
        Some(_) | None => answer,
    };
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

/// What came of judging a request.
enum Judged {
    /// The decision.
    Decided(Result<Permit, Answer>),
    /// It has to wait.
    Waiting(Waiting),
}

/// Refuses what can be read in two ways, then asks for the decision, and records it.
fn judge(
    worker: &Worker,
    request: &Request<RequestBody>,
    held: &Held,
    sieve: &mut Sieve,
    id: &DecisionId,
    begun: Instant,
) -> Judged {
    let head = match read(request, sieve, worker.connects, &worker.limits) {
        Ok(head) => Head {
            basic: held.basic.as_ref(),
            body: held.body(),
            ..head
        },
        Err(answer) => {
            let record = Record::refused(request.method(), id);
            record.write(worker, Err(answer.code), begun);
            return Judged::Decided(Err(answer));
        }
    };
    let decision = match worker.decider.authorize(&head, clock::unix_now()) {
        Ok(decision) => decision,
        Err(waiting) => return Judged::Waiting(waiting),
    };
    let record = Record::of(&decision, request.method(), id);
    Judged::Decided(match decision.verdict {
        Ok(permit) => {
            record.write(worker, Ok(()), begun);
            Ok(permit)
        }
        Err(denial) => {
            let route = decision.route.and_then(|index| worker.routes.get(index));
            let answer = Answer::from(denial).asking_basic(route.is_some_and(|r| r.basic));
            record.write(worker, Err(answer.code), begun);
            Err(answer)
        }
    })
}

/// The head as the decision sees it, once there is one way to read it.
fn read<'a, B: Body>(
    request: &'a Request<B>,
    sieve: &mut Sieve,
    connects: bool,
    limits: &ConnectionLimits,
) -> Result<Head<'a>, Answer> {
    let (method, headers, uri) = (request.method(), request.headers(), request.uri());
    if !matches!(request.version(), Version::HTTP_11 | Version::HTTP_2) {
        let detail = "use HTTP/1.1 or HTTP/2";
        return Err(Answer::new(Code::HttpVersion, detail).closing());
    }
    let connect = *method == Method::CONNECT;
    if *method == Method::TRACE || (connect && !connects) {
        let why = "CONNECT and TRACE have no route";
        return Err(Answer::new(Code::MethodNotAllowed, why).closing());
    }
    if connect && request.version() == Version::HTTP_2 {
        let why = "a tunnel begins with CONNECT over HTTP/1.1";
        return Err(Answer::new(Code::TunnelVersion, why));
    }
    if headers.len() > limits.headers {
        let why = format!("more than {} headers", limits.headers);
        return Err(Answer::new(Code::HeadTooLarge, why).closing());
    }
    let target = match uri.path_and_query() {
        Some(target) => target.as_str(),
        // In authority-form there is nothing but the host, which the tunnel is found by.
        None if connect && uri.scheme().is_none() => "/",
        None => "",
    };
    if target.len() > limits.target_bytes {
        let why = format!("the target is longer than {} bytes", limits.target_bytes);
        return Err(Answer::new(Code::TargetTooLong, why).closing());
    }
    let ambiguous = |why: &'static str| Answer::from(Denial::Ambiguous(why.into()));
    if !target.starts_with('/') || (connect && uri.path_and_query().is_some()) {
        return Err(ambiguous(
            "the target does not have the form that the method demands",
        ));
    }
    // Readers that merge a form into the query would see other fields than were judged.
    if matches!(*method, Method::GET | Method::HEAD | Method::DELETE)
        && !request.body().is_end_stream()
    {
        return Err(ambiguous("a GET, HEAD or DELETE has no body"));
    }
    // Behind the body comes what only the answer tells: another protocol, or the next request.
    if (headers.contains_key(header::UPGRADE) || connect)
        && (headers.contains_key(header::CONTENT_LENGTH)
            || headers.contains_key(header::TRANSFER_ENCODING))
    {
        return Err(ambiguous("a request for another protocol has no body"));
    }
    sieve
        .judge(headers, request.version(), limits.odd_header_names)
        .map_err(ambiguous)?;
    let host = host(request).map_err(ambiguous)?;
    Ok(Head {
        method,
        host,
        target,
        headers,
        basic: None,
        body: None,
    })
}

/// The one host that a request is for.
///
/// HTTP/1.1 must name it in `Host`, and may do so again in the target; HTTP/2 in `:authority` or,
/// as proxies do that had it in HTTP/1.1, in `host`, or in both. Two different names mean two
/// readers go two ways (RFC 9112 3.2.2 lets the target win, which not everybody does).
fn host<B>(request: &Request<B>) -> Result<&str, &'static str> {
    let mut lines = request.headers().get_all(header::HOST).iter();
    let line = match (lines.next(), lines.next()) {
        (Some(line), None) => Some(line.to_str().map_err(|_| "the Host is not readable")?),
        (None, _) => None,
        (Some(_), Some(_)) => return Err("the Host header is repeated"),
    };
    let authority = request.uri().authority().map(Authority::as_str);
    let host = match (line, authority) {
        (Some(line), None) => line,
        (None, Some(authority)) if request.version() == Version::HTTP_2 => authority,
        (Some(line), Some(authority)) if line == authority => line,
        (Some(_), Some(_)) => return Err("the target names another host than the Host header"),
        (None, _) => return Err("the request does not name its host"),
    };
    if !is_host(host) {
        return Err("the host is not a name or address with an optional port");
    }
    Ok(host)
}

#[cfg(test)]
mod tests;
