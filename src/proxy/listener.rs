//! Sockets that listen, and the loop that accepts.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener as StdListener};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::sleep;

use super::connection;
use super::tls::Current;
use super::worker::{Post, Shared};

/// Binds one socket a worker to the same address; the kernel spreads connections over them.
///
/// Port 0 is chosen by the first and taken over by the others.
pub(super) fn bind(address: SocketAddr, workers: usize) -> io::Result<Vec<StdListener>> {
    // Sockets that share a port would also share it with another usher that is running by
    // mistake. One that does not share fails then, and tells.
    drop(socket(address, false)?);
    let first = socket(address, true)?;
    let address = first.local_addr()?;
    let mut sockets = vec![first];
    for _ in 1..workers {
        sockets.push(socket(address, true)?);
    }
    Ok(sockets)
}

fn socket(address: SocketAddr, shared: bool) -> io::Result<StdListener> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(shared)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Accepts until the drain begins. It only accepts: everything that can wait for a client is in
/// the connection's own task.
pub(super) async fn accept(
    post: Rc<Post>,
    listener: TcpListener,
    tls: Option<Current<ServerConfig>>,
) {
    let mut pause = FIRST_PAUSE;
    while let Some(accepted) = post.drain.run_until_cancelled(listener.accept()).await {
        match accepted {
            Ok((tcp, peer)) => {
                pause = FIRST_PAUSE;
                admit(&post, tcp, peer, tls.as_ref().map(Current::now));
            }
            // The client went away while it waited; the listener is well.
            Err(error) if is_about_the_client(&error) => {}
            Err(error) => {
                // Out of descriptors or memory: connections that end make room.
                tracing::warn!(%error, ?pause, "cannot accept connections");
                post.drain.run_until_cancelled(sleep(pause)).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        }
    }
}

/// Serves a connection in a task of its own, unless it is one too many.
///
/// Connections over a limit are closed rather than left waiting: the kernel has already given
/// them to this worker, and another one with room could not take them over.
fn admit(post: &Rc<Post>, tcp: TcpStream, peer: SocketAddr, tls: Option<Arc<ServerConfig>>) {
    let shared = &post.shared;
    if let Err(limit) = shared.admission.enter(peer.ip(), &post.worker().limits) {
        shared.metrics.refused(limit);
        return;
    }
    let ticket = Ticket::new(Arc::clone(shared), peer.ip());
    if let Err(error) = tcp.set_nodelay(true) {
        tracing::debug!(%error, "connection closed");
        return;
    }
    let task = connection::serve(Rc::clone(post), tcp, peer, tls);
    post.connections.spawn_local(async move {
        let _until_the_end = ticket;
        task.await;
    });
}

/// A counted connection.
struct Ticket {
    shared: Arc<Shared>,
    ip: IpAddr,
}

impl Ticket {
    fn new(shared: Arc<Shared>, ip: IpAddr) -> Self {
        shared.metrics.connections.inc();
        shared.metrics.connections_open.inc();
        Self { shared, ip }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.shared.metrics.connections_open.dec();
        self.shared.admission.leave(self.ip);
    }
}

fn is_about_the_client(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::Interrupted
    )
}

/// Connections the kernel keeps for a worker that is busy; it caps this at `somaxconn`.
const BACKLOG: i32 = 4096;
/// The first pause after an accept error, doubled up to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_share_a_port_that_the_system_chose() {
        let sockets = bind("127.0.0.1:0".parse().unwrap(), 3).unwrap();
        let addresses: Vec<_> = sockets.iter().map(|s| s.local_addr().unwrap()).collect();
        assert_ne!(addresses[0].port(), 0);
        assert!(addresses.iter().all(|a| *a == addresses[0]));
    }

    #[test]
    fn a_port_in_use_is_not_shared_by_mistake() {
        let sockets = bind("127.0.0.1:0".parse().unwrap(), 2).unwrap();
        let again = bind(sockets[0].local_addr().unwrap(), 2);
        assert_eq!(again.unwrap_err().kind(), io::ErrorKind::AddrInUse);
    }
}
