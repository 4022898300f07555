//! The relay at work: connections, requests, the server behind.
//!
//! Must not decide which fault comes next: the plan does.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use hyper::server::conn::http1 as server;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rustix::net::sockopt::set_socket_linger;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

use super::body::{RelayedBody, Then};
use super::{Door, Fault, Shared, reusable_socket};

pub(super) fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    reusable_socket(address)?.listen(1024)
}

/// Takes connections until it is aborted; `keeper` holds the port meanwhile.
pub(super) async fn run(
    keeper: TcpSocket,
    listener: TcpListener,
    shared: Arc<Shared>,
    mut doors: mpsc::Receiver<Door>,
) {
    let address = keeper.local_addr().expect("a bound socket has an address");
    let mut listener = Some(listener);
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = accept(listener.as_ref()) => {
                if let Ok(stream) = accepted {
                    connections.spawn(serve(stream, Arc::clone(&shared)));
                }
            }
            Some(_) = connections.join_next() => {}
            door = doors.recv() => match door {
                Some(Door::Close(done)) => {
                    listener = None;
                    connections.shutdown().await;
                    answer(done);
                }
                Some(Door::Open(done)) => {
                    if listener.is_none() {
                        listener = Some(listen(address).expect("the keeper holds the port for us"));
                    }
                    answer(done);
                }
                None => return,
            },
        }
    }
}

/// Whoever asked may have left.
fn answer(done: oneshot::Sender<()>) {
    let _ = done.send(());
}

async fn accept(listener: Option<&TcpListener>) -> std::io::Result<TcpStream> {
    match listener {
        Some(listener) => listener.accept().await.map(|(stream, _)| stream),
        None => std::future::pending().await,
    }
}

/// The request was not to be answered.
#[derive(Debug, thiserror::Error)]
#[error("connection reset on purpose")]
struct Hangup;

async fn serve(stream: TcpStream, shared: Arc<Shared>) {
    let _ = stream.set_nodelay(true);
    let Ok((stream, handle)) = with_second_handle(stream) else { return };
    let service = service_fn(|request| respond(request, &shared, &handle));
    // Ends in an error whenever a fault has been done to it.
    let _ = server::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

/// A handle of the same socket, to set options once hyper owns the first.
fn with_second_handle(stream: TcpStream) -> std::io::Result<(TcpStream, OwnedFd)> {
    let stream = stream.into_std()?;
    let handle = stream.try_clone()?.into();
    Ok((TcpStream::from_std(stream)?, handle))
}

async fn respond(
    request: Request<Incoming>,
    shared: &Shared,
    connection: &OwnedFd,
) -> Result<Response<RelayedBody>, Hangup> {
    shared.count(request.uri().path());
    let (latency, fault, mut plan) = shared.next();
    tokio::time::sleep(latency).await;
    let then = match fault {
        None => Then::Pass,
        Some(Fault::Answer(status)) => return Ok(empty(status)),
        Some(Fault::StallBeforeHead) => {
            // The relay is dropped, and this with it, before the sender goes.
            let _ = plan.changed().await;
            Then::Pass
        }
        Some(Fault::StallInBody { after_bytes }) => Then::Stall { after_bytes, plan },
        Some(Fault::Truncate { after_bytes }) => Then::Break { after_bytes },
        Some(Fault::Reset) => {
            let _ = set_socket_linger(connection, Some(Duration::ZERO));
            return Err(Hangup);
        }
    };
    match relay(request, shared.origin).await {
        Ok(response) => Ok(response.map(|body| RelayedBody::new(Some(body), then))),
        Err(_) => Ok(empty(StatusCode::BAD_GATEWAY)),
    }
}

fn empty(status: StatusCode) -> Response<RelayedBody> {
    let mut response = Response::new(RelayedBody::new(None, Then::Pass));
    *response.status_mut() = status;
    response
}

/// Passes a request on, on a connection of its own.
async fn relay(mut request: Request<Incoming>, origin: SocketAddr) -> anyhow::Result<Response<Incoming>> {
    let stream = TcpStream::connect(origin).await?;
    stream.set_nodelay(true)?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    // Ends by itself: the sender is dropped here, the body with its reader.
    tokio::spawn(connection);
    remove_connection_headers(request.headers_mut());
    let mut response = sender.send_request(request).await?;
    remove_connection_headers(response.headers_mut());
    Ok(response)
}

/// What belongs to one connection and not to the message (RFC 9110 §7.6.1); hyper writes its own.
fn remove_connection_headers(headers: &mut HeaderMap) {
    for name in [header::CONNECTION, header::TRANSFER_ENCODING, header::TE, header::UPGRADE] {
        headers.remove(name);
    }
    headers.remove("keep-alive");
}
