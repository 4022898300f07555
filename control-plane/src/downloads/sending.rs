//! Sends an archive: one file after the other out of the store, as fast as it is taken and no faster.
//!
//! A task of its own makes the pieces. It ends when all is sent, when nobody takes any more, or when a file cannot be had: then
//! the connection is cut, so that nobody takes what came for all.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use isolation::TenantKey;
use storage::{ByteRange, GetOptions, Object, ObjectStore, StorageError};
use thiserror::Error;
use time::OffsetDateTime;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};
use uploads::object_path;

use super::archive::Archive;
use super::contents::{Contents, File};

/// Pieces that wait to be taken.
const PIECES: usize = 2;

/// Files that are asked for at the same time: the next one comes while one is sent.
const FILES: usize = 2;

/// Bytes a second that a client has to take on average.
const SLOWEST: u64 = 16 << 10;

/// Pauses before a file is gone on with that has broken off.
const PAUSES: [Duration; 3] = [Duration::from_millis(100), Duration::from_millis(500), Duration::from_secs(2)];

/// How sending has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// All was sent.
    Whole,
    /// The client has left, has not taken anything for too long, or takes too little.
    Left,
    /// A file could not be had.
    Failed,
}

impl End {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Whole => "whole",
            Self::Left => "left",
            Self::Failed => "failed",
        }
    }
}

#[derive(Debug, Error)]
enum SendError {
    #[error("the client has left")]
    Left,
    #[error("{path}: {source}")]
    Store { path: String, source: StorageError },
    #[error(transparent)]
    Archive(#[from] io::Error),
}

/// The bytes of an archive, which is begun when the first of them are asked for: an answer without a body asks for none.
pub struct Pieces {
    begin: Option<Box<dyn FnOnce(Taker) + Send>>,
    coming: mpsc::Receiver<Option<Bytes>>,
    is_over: bool,
}

/// Where pieces go. `None` is the end of the archive: what ends without it is not whole.
type Taker = mpsc::Sender<Option<Bytes>>;

impl Stream for Pieces {
    type Item = io::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        if self.is_over {
            return Poll::Ready(None);
        }
        if let Some(begin) = self.begin.take() {
            let (taker, coming) = mpsc::channel(PIECES);
            self.coming = coming;
            begin(taker);
        }
        Poll::Ready(match ready!(self.coming.poll_recv(cx)) {
            Some(Some(piece)) => Some(Ok(piece)),
            Some(None) => {
                self.is_over = true;
                None
            }
            None => Some(Err(io::Error::other("the archive cannot be made whole"))),
        })
    }
}

/// An archive that is sent as it is asked for. `place` is held until its end, of which `account` hears, with the bytes that were taken.
pub(super) fn pieces<P: Send + 'static>(
    store: ObjectStore,
    tenant: TenantKey,
    contents: Contents,
    stall: Duration,
    (place, account): (P, impl FnOnce(u64, End) + Send + 'static),
) -> Pieces {
    let begin = move |taker| {
        tokio::spawn(async move {
            let mut sender = Sender { store, tenant, taker, stall, waited: Duration::ZERO, sent: 0 };
            let archive = contents.name.clone();
            let end = match sender.send_all(contents).await {
                Ok(()) => End::Whole,
                Err(SendError::Left) => End::Left,
                Err(error) => {
                    tracing::error!(%error, %tenant, archive, "an archive was cut off");
                    End::Failed
                }
            };
            account(sender.sent, end);
            drop(place);
        });
    };
    let (_, coming) = mpsc::channel(1);
    Pieces { begin: Some(Box::new(begin)), coming, is_over: false }
}

struct Sender {
    store: ObjectStore,
    tenant: TenantKey,
    taker: Taker,
    stall: Duration,
    /// For the client.
    waited: Duration,
    sent: u64,
}

impl Sender {
    async fn send_all(&mut self, contents: Contents) -> Result<(), SendError> {
        let mut archive = contents.format.begin();
        let mut left_out = Vec::new();
        let (store, tenant) = (self.store.clone(), self.tenant);
        let opened = stream::iter(contents.files).map(|file| {
            let store = store.clone();
            async move { (open(&store, tenant, &file, 0).await, file) }
        });
        let mut opened = std::pin::pin!(opened.buffered(FILES));
        while let Some((object, file)) = opened.next().await {
            match object {
                Err(StorageError::NotFound) if contents.missing.is_some() => left_out.push(file.path),
                object => self.send_file(&mut archive, &file, object).await?,
            }
        }
        if let Some(path) = contents.missing.filter(|_| !left_out.is_empty()) {
            self.tell_missing(&mut archive, &path, &left_out).await?;
        }
        self.pass_on(archive.end()?).await?;
        self.give(None).await
    }

    async fn send_file(
        &mut self,
        archive: &mut Archive,
        file: &File,
        mut object: Result<Object, StorageError>,
    ) -> Result<(), SendError> {
        let failed = |source| SendError::Store { path: file.path.clone(), source };
        archive.begin_file(&file.path, file.bytes, file.stored_at)?;
        let (mut done, mut pauses) = (0, PAUSES.into_iter());
        while done < file.bytes {
            let broken = match object {
                // What an object has is written once; another size is damage.
                Ok(object) if object.body.len() != file.bytes - done => return Err(failed(StorageError::NotFound)),
                Ok(object) => self.send_body(archive, object, &mut done).await?,
                Err(error) => Some(error),
            };
            let Some(error) = broken else { break };
            match pauses.next() {
                Some(pause) if !matches!(error, StorageError::NotFound) => sleep(pause).await,
                _ => return Err(failed(error)),
            }
            object = open(&self.store, self.tenant, file, done).await;
        }
        archive.end_file(file.bytes);
        Ok(())
    }

    /// Sends what comes of a file; the error that it broke off with, if it did.
    async fn send_body(
        &mut self,
        archive: &mut Archive,
        mut object: Object,
        done: &mut u64,
    ) -> Result<Option<StorageError>, SendError> {
        while let Some(piece) = object.body.next().await {
            match piece {
                Ok(piece) => {
                    *done += piece.len() as u64;
                    archive.write(&piece)?;
                    self.pass_on(archive.take()).await?;
                }
                Err(error) => return Ok(Some(error)),
            }
        }
        Ok(None)
    }

    async fn tell_missing(&mut self, archive: &mut Archive, path: &str, missing: &[String]) -> Result<(), SendError> {
        let text = format!("These files could not be found:\n{}\n", missing.join("\n"));
        archive.begin_file(path, text.len() as u64, OffsetDateTime::now_utc())?;
        archive.write(text.as_bytes())?;
        archive.end_file(text.len() as u64);
        self.pass_on(archive.take()).await
    }

    async fn pass_on(&mut self, piece: Bytes) -> Result<(), SendError> {
        let bytes = piece.len() as u64;
        if bytes > 0 {
            self.give(Some(piece)).await?;
        }
        self.sent += bytes;
        Ok(())
    }

    /// Waits for the client only for as long as one may wait for it, now and in all.
    async fn give(&mut self, piece: Option<Bytes>) -> Result<(), SendError> {
        let in_all = self.stall + Duration::from_secs(self.sent / SLOWEST);
        let (began, limit) = (Instant::now(), self.stall.min(in_all.saturating_sub(self.waited)));
        let given = timeout(limit, self.taker.send(piece)).await;
        self.waited += began.elapsed();
        given.map_err(|_| SendError::Left)?.map_err(|_| SendError::Left)
    }
}

/// A file from this byte on.
async fn open(store: &ObjectStore, tenant: TenantKey, file: &File, from: u64) -> Result<Object, StorageError> {
    let path = object_path(tenant.as_uuid(), file.media, file.revision);
    let range = (from > 0).then_some(ByteRange::From(from));
    store.get(&path, GetOptions { range, ..GetOptions::default() }).await
}
