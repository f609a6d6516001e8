//! From a permit to a tunnel: the upstream is dialled first, and accepts, before the client learns
//! of anything and before a byte flows.

use std::io;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::{Speech, Switch};
use crate::authz::Permit;
use crate::proxy::connection::Connection;
use crate::proxy::decision::DecisionId;
use crate::proxy::forward::{ForwardError, destination, not_forwarded};
use crate::proxy::socket::Socket;
use crate::proxy::tenure::Tenure;
use crate::proxy::upgrade::Wish;
use crate::proxy::upstream::ConnectError;
use crate::proxy::worker::Worker;
use crate::route::Endpoint;

/// Opens the tunnel that `permit` is for. The response that says so comes with a switch, which
/// the connection makes when it is written.
pub(in crate::proxy) async fn open<B>(
    permit: Permit,
    request: &Request<B>,
    decision: &DecisionId,
    connection: &Connection,
    worker: &Worker,
) -> Result<Response<Bytes>, ForwardError> {
    let Some((route, upstream)) = destination(worker, &permit) else {
        return Err(ForwardError::NoneAlive);
    };
    let wish = match *request.method() {
        Method::CONNECT => None,
        _ => {
            let wish = Wish::of(request).map_err(ForwardError::Handshake)?;
            Some(wish.ok_or(ForwardError::NotWebSocket)?)
        }
    };
    let tenure = Some(Tenure::of(&permit, decision, worker));
    let dialled = match dial(permit.endpoints(), worker).await {
        Ok(tcp) => match tenure.as_ref().and_then(Tenure::ended) {
            None => Ok(tcp),
            Some(end) => Err(ForwardError::LeaseEnded(end)),
        },
        Err(error) => Err(error),
    };
    let tcp = match dialled {
        Ok(tcp) => tcp,
        Err(error) => {
            not_forwarded(&error, worker, upstream, tenure.as_ref(), decision);
            return Err(error);
        }
    };
    let mut response = Response::new(Bytes::new());
    let speech = match &wish {
        None => Speech::Raw,
        Some(wish) => {
            *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
            wish.grant(response.headers_mut());
            Speech::Messages
        }
    };
    route.metrics.responded(response.status().as_u16());
    connection.switch_to(Switch {
        upstream: Socket::Plain(tcp),
        ahead: Bytes::new(),
        speech,
        tenure,
        route: route.name.clone(),
        decision: *decision,
        counted: None,
    });
    Ok(response)
}

/// Connects to the first that accepts.
async fn dial(endpoints: &[Endpoint], worker: &Worker) -> Result<TcpStream, ForwardError> {
    let mut error = ForwardError::NoTarget;
    for Endpoint { host, port } in endpoints {
        let dialled = timeout(
            worker.timeouts.connect,
            TcpStream::connect((host.as_str(), *port)),
        );
        let tcp = match dialled.await {
            Ok(tcp) => tcp.and_then(without_delay).map_err(ConnectError::Tcp),
            Err(_elapsed) => Err(ConnectError::Late),
        };
        match tcp {
            Ok(tcp) => return Ok(tcp),
            Err(why) => {
                tracing::debug!(host, port, error = %why, "tunnel not accepted");
                error = ForwardError::Connect(why);
            }
        }
    }
    Err(error)
}

fn without_delay(tcp: TcpStream) -> io::Result<TcpStream> {
    tcp.set_nodelay(true)?;
    Ok(tcp)
}
