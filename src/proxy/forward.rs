//! From a permit to the upstream's response. Without a permit there is no way in here.

use std::rc::Rc;
use std::sync::Arc;

use http::header::{self, HeaderValue};
use http::{Request, Response, StatusCode, Version};
use thiserror::Error;

use super::assertion::ASSERTION;
use super::body::{Link, RequestBody, Stage, Upload, UpstreamBody};
use super::connection::Connection;
use super::decision::DecisionId;
use super::headers::{self, Sieve};
use super::http1::{Fault, Switched};
use super::marks::{FORWARDED_FOR, FORWARDED_HOST, FORWARDED_PROTO, Marks};
use super::respond::Answer;
use super::setup::RouteEntry;
use super::tail::Tail;
use super::tenure::{Events, Tenure};
use super::tunnel::{Speech, Switch};
use super::turn;
use super::upgrade::Wish;
use super::upstream::{ConnectError, Upstream};
use super::worker::Worker;
use crate::authz::{LeaseEnd, Permit};
use crate::clock;

/// Why a permitted request has no response. The first three came before any byte was sent.
#[derive(Debug, Error)]
pub(super) enum ForwardError {
    /// Every server failed a moment ago.
    #[error("no server of the upstream could be reached a moment ago")]
    NoneAlive,
    /// As many connections are open as there may be.
    #[error("all connections to the upstream are in use")]
    Busy,
    /// No server could be reached.
    #[error("the upstream could not be reached")]
    Connect(#[source] ConnectError),
    /// No response head, or no progress of the request body, in time.
    #[error("the upstream did not answer in time")]
    Late,
    /// The connection broke.
    #[error("the upstream broke off")]
    Failed(#[source] Broken),
    /// The response cannot be passed on.
    #[error("the upstream's response is unusable: {0}")]
    Response(&'static str),
    /// The client did not send the rest of its body in time.
    #[error("the request body did not come in time")]
    BodyLate,
    /// The client broke off, or broke the framing.
    #[error("the request body broke off")]
    BodyBroken,
    /// The token has ended, and the permit with it.
    #[error("{}", .0.sentence())]
    LeaseEnded(LeaseEnd),
    /// The WebSocket handshake is none.
    #[error("the WebSocket handshake is malformed: {0}")]
    Handshake(&'static str),
    /// What the route leads to is no place to connect to.
    #[error("the request names no port to connect to")]
    NoTarget,
    /// The route takes a WebSocket handshake only.
    #[error("the route is a tunnel, which begins with a WebSocket handshake")]
    NotWebSocket,
}

/// How an exchange with an upstream broke.
#[derive(Debug, Error)]
pub(super) enum Broken {
    /// On a connection of its own.
    #[error(transparent)]
    Http1(#[from] Fault),
    /// On a stream of a shared one.
    #[error(transparent)]
    Http2(#[from] hyper::Error),
    /// It was ended here before.
    #[error("the exchange was cut off")]
    Cut,
}

/// Sends the request that `permit` is for, and returns the response as it begins.
pub(super) async fn forward(
    permit: Permit,
    request: Box<Request<RequestBody>>,
    sieve: &mut Sieve,
    decision: &DecisionId,
    connection: &Connection,
    worker: &Worker,
) -> Result<Response<UpstreamBody>, ForwardError> {
    let Some((route, upstream)) = destination(worker, &permit) else {
        return Err(ForwardError::NoneAlive);
    };
    let tenure = Some(Tenure::of(&permit, decision, worker));
    let mut request = request;
    let tail = Tail::of(request.version());
    let body = request.body_mut();
    body.refuse_trailers(&route.late);
    body.end_with(
        &worker.leases,
        permit.lease(),
        worker.standing(permit.route()),
    );
    let wish = match route.websocket {
        true => Wish::of(&request).map_err(ForwardError::Handshake)?,
        false => None,
    };
    let exchange = Exchange {
        permit: &permit,
        sieve,
        decision,
        connection,
        worker,
        upstream,
        tenure: tenure.as_ref(),
        wish: wish.as_ref(),
    };
    let (mut response, link, upload) = match exchange.run(request).await {
        Ok(begun) => begun,
        Err(error) => {
            not_forwarded(&error, worker, upstream, tenure.as_ref(), decision);
            return Err(error);
        }
    };
    route.metrics.responded(response.status().as_u16());
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        switch(link, tenure, route, decision, connection)?;
        return Ok(response.map(|()| UpstreamBody::none()));
    }
    if !matches!(response.status(), StatusCode::OK | StatusCode::NO_CONTENT) {
        upstream.plan.keep_here(response.headers_mut());
    }
    let idle = match route.stream {
        true => worker.timeouts.stream_idle,
        false => worker.timeouts.idle,
    };
    // The version on the client's side is not the upstream's business.
    *response.version_mut() = Version::HTTP_11;
    let events = tenure.as_ref().and_then(|_| Events::of(response.headers()));
    Ok(response.map(|()| UpstreamBody {
        link,
        upload,
        idle,
        moved: turn::now(),
        tenure,
        events,
        tail,
    }))
}

/// Has the connection go on as what the upstream has agreed to. What carried the response is that
/// from now on.
fn switch(
    link: Link,
    tenure: Option<Tenure>,
    route: &RouteEntry,
    decision: &DecisionId,
    connection: &Connection,
) -> Result<(), ForwardError> {
    let unclear = "it switches protocols while it is still speaking HTTP";
    let switched = link.into_switched();
    let Switched {
        socket,
        ahead,
        counted,
    } = switched.ok_or(ForwardError::Response(unclear))?;
    connection.switch_to(Switch {
        upstream: socket,
        ahead,
        speech: Speech::Frames,
        tenure,
        route: Arc::clone(&route.name),
        decision: *decision,
        counted: Some(counted),
    });
    Ok(())
}

/// What a request is sent with.
struct Exchange<'a> {
    permit: &'a Permit,
    sieve: &'a mut Sieve,
    decision: &'a DecisionId,
    connection: &'a Connection,
    worker: &'a Worker,
    upstream: &'a Upstream,
    tenure: Option<&'a Tenure>,
    wish: Option<&'a Wish>,
}

/// A response that has begun, what carries it, and what is left of the request.
type Begun = (Response<()>, Link, Option<Rc<Upload>>);

impl Exchange<'_> {
    /// Sends the request and waits for a response head that can be passed on.
    async fn run(self, request: Box<Request<RequestBody>>) -> Result<Begun, ForwardError> {
        let Self {
            permit,
            sieve,
            decision,
            connection,
            worker,
            upstream,
            tenure,
            wish,
        } = self;
        let mut request = request;
        let version = request.version();
        let upload = request.body().upload();
        let trusted = &connection.trusted;
        let (address, scheme) = connection.client.of(request.headers(), trusted);
        let line = sieve.apply(request.headers_mut());
        // The host that the client asked for, which has been judged to be one.
        let host = line.or_else(|| {
            let authority = request.uri().authority()?;
            HeaderValue::from_str(authority.as_str()).ok()
        });
        let mut marks = Marks::new();
        marks.identify(permit.identity(), decision);
        marks.set(&FORWARDED_FOR, &address);
        marks.set(&FORWARDED_PROTO, &scheme);
        if let Some(host) = host {
            marks.set(&FORWARDED_HOST, &host);
        }
        let headers = request.headers_mut();
        // On a public route nobody has shown who asks: whoever it is must not be taken for usher.
        if let (Some((name, value)), Some(_)) = (&upstream.plan.secrets.credential, permit.lease())
        {
            headers.insert(name, value.clone());
        }
        if wish.is_some() {
            Wish::ask(headers);
        }
        // On a public route as well: that it came through usher is true all the same.
        if let Some(signer) = &upstream.plan.secrets.signer
            && let Some(assertion) = signer.sign(&request, &marks, decision, clock::unix_now())
        {
            request.headers_mut().insert(ASSERTION, assertion);
        }
        let timeouts = &worker.timeouts;
        let sending = upstream.send(request, &marks, wish.is_some(), timeouts, tenure);
        let (mut response, link) = sending.await?;
        let switches = response.status() == StatusCode::SWITCHING_PROTOCOLS;
        if switches {
            let unasked = ForwardError::Response("it switches protocols unasked");
            let granted = wish.ok_or(unasked)?.granted(response.headers());
            granted.map_err(ForwardError::Response)?;
        }
        headers::clean_response(response.headers_mut()).map_err(ForwardError::Response)?;
        if let Some(wish) = wish.filter(|_| switches) {
            wish.grant(response.headers_mut());
        }
        response.extensions_mut().clear();
        if version == Version::HTTP_11 && upload.as_ref().is_some_and(|u| u.stage() != Stage::Ended)
        {
            // What is left of the body may never be read, and the next request would not be found.
            let close = HeaderValue::from_static("close");
            response.headers_mut().insert(header::CONNECTION, close);
            connection.pulse.answered_early();
        }
        Ok((response, link, upload))
    }
}

/// Writes down why a permitted request has no response.
pub(super) fn not_forwarded(
    error: &ForwardError,
    worker: &Worker,
    upstream: &Upstream,
    tenure: Option<&Tenure>,
    decision: &DecisionId,
) {
    if let (ForwardError::LeaseEnded(end), Some(tenure)) = (error, tenure) {
        tenure.close(*end);
        return;
    }
    let code = Answer::from(error).code.as_str();
    worker.metrics.forward_failed(&upstream.plan.name, code);
    tracing::warn!(
        decision = decision.as_str(),
        upstream = &*upstream.plan.name,
        code,
        error = error as &(dyn std::error::Error + 'static),
        "request not forwarded"
    );
}

/// The route of a permit, and where it leads.
pub(super) fn destination<'a>(
    worker: &'a Worker,
    permit: &Permit,
) -> Option<(&'a RouteEntry, &'a Upstream)> {
    let route = worker.routes.get(permit.route())?;
    Some((route, worker.upstreams.get(route.upstream)?))
}
