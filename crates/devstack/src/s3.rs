//! An S3 server in this process: the S3 protocol with signatures (SigV4) over HTTP, objects as files in a folder.
//!
//! For tests, measurements and trying things out. Must not be used for anything that matters: `s3s-fs` calls itself
//! experimental, and one wrong power cut loses objects.

mod files;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::pin::pin;
use std::time::Duration;

use anyhow::Context as _;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use s3s::auth::SimpleAuth;
use s3s::service::{S3Service, S3ServiceBuilder};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

use files::Files;

/// How long [`S3Server::stop`] lets requests finish.
const DRAIN: Duration = Duration::from_secs(2);

/// The one key that the server knows.
#[derive(Clone)]
pub struct S3Keys {
    /// Public name of the key.
    pub access_key: String,
    /// Secret of the key.
    pub secret_key: String,
}

impl std::fmt::Debug for S3Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("S3Keys").field("access_key", &self.access_key).finish_non_exhaustive()
    }
}

/// A running server on 127.0.0.1. Dropping it stops it at once; [`S3Server::stop`] lets requests finish.
#[derive(Debug)]
pub struct S3Server {
    address: SocketAddr,
    keys: S3Keys,
    stop: watch::Sender<bool>,
    serving: JoinHandle<()>,
}

impl S3Server {
    /// Starts a server that keeps the objects of each bucket in a folder of that name under `folder`, which must exist.
    /// The buckets are made if missing. `port` 0 takes a free one. Runs on the current tokio runtime.
    ///
    /// # Errors
    /// If the folder cannot be used or the port cannot be had.
    pub async fn start(folder: &Path, buckets: &[&str], keys: S3Keys, port: u16) -> anyhow::Result<Self> {
        for bucket in buckets {
            let path = folder.join(bucket);
            std::fs::create_dir_all(&path).with_context(|| format!("cannot make the bucket {}", path.display()))?;
        }
        let files = Files::open(folder).with_context(|| format!("cannot serve {}", folder.display()))?;
        let mut builder = S3ServiceBuilder::new(files);
        builder.set_auth(SimpleAuth::from_single(keys.access_key.as_str(), keys.secret_key.as_str()));

        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))
            .await
            .with_context(|| format!("cannot listen on port {port}"))?;
        let address = listener.local_addr()?;
        let (stop, stopped) = watch::channel(false);
        let serving = tokio::spawn(accept(listener, builder.build(), stopped));
        Ok(Self { address, keys, stop, serving })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its base URL, as S3 clients want it. Buckets are the first segment of the path.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The key that it knows.
    #[must_use]
    pub fn keys(&self) -> &S3Keys {
        &self.keys
    }

    /// Stops: takes no more connections, lets running requests finish for up to two seconds.
    pub async fn stop(mut self) {
        self.stop.send_replace(true);
        // It ends by panic or abort only, and then it has stopped as well.
        let _ = (&mut self.serving).await;
    }
}

impl Drop for S3Server {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// Takes connections until told to stop. The connections are this task's: when it is aborted, they end.
async fn accept(listener: TcpListener, service: S3Service, mut stopped: watch::Receiver<bool>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(serve(stream, service.clone(), stopped.clone()));
                }
                // Out of file descriptors, or a client that left: the next one may fare better.
                Err(_) => tokio::task::yield_now().await,
            },
            Some(_) = connections.join_next() => {}
            _ = stopped.changed() => break,
        }
    }
    drop(listener);
    let drained = async { while connections.join_next().await.is_some() {} };
    let _ = tokio::time::timeout(DRAIN, drained).await;
}

async fn serve(stream: TcpStream, service: S3Service, mut stopped: watch::Receiver<bool>) {
    // Small answers must not wait for the client's delayed acknowledgement.
    let _ = stream.set_nodelay(true);
    let connection = http1::Builder::new().timer(TokioTimer::new()).serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    // A connection that fails is the client's to notice.
    tokio::select! {
        _ = connection.as_mut() => return,
        _ = stopped.changed() => connection.as_mut().graceful_shutdown(),
    }
    let _ = connection.await;
}
