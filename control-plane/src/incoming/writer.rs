//! Receives bytes of an upload at the place where they go on (tus).
//!
//! They are gathered up to a piece of a fixed size, which becomes an object; then the row says that they are there, and only what it
//! says is ever told to a client. When a connection breaks, what has come until then is stored too. An object that is smaller than it
//! might be is put together with what comes next, so that a client that sends crumbs leaves no crumbs.
//!
//! Must not hold more than one piece, and must not change anything once somebody else is the writer ([`super::take_over()`]).

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use isolation::{Mandate, TenantKey};
use rocket::data::Data;
use storage::{GetOptions, ObjectPath, PutOptions};
use tokio::time::{Instant, sleep_until};
use uuid::Uuid;

use super::body::Body;
use super::checksum::Checksum;
use super::record::{self, Upload, number};
use super::take_over::{is_free, take_over};
use super::{Incoming, complete};
use crate::places::Place;
use crate::problem::ApiError;

/// Most bytes of an object, and what a request holds in memory.
const PIECE_BYTES: usize = 8 << 20;

/// An object that is smaller is put together with what comes next.
const PIECE_BYTES_MIN: u64 = 5 << 20;

/// Time between two looks at whether somebody else wants to write.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Who receives bytes of an upload.
pub struct Writer<'a> {
    incoming: &'a Incoming,
    place: Place,
    tenant: TenantKey,
    upload: Upload,
    token: Uuid,
    /// The last object, if it is small.
    tail: Option<Piece>,
    /// The number of the next object.
    next: i32,
}

/// An object of an upload.
#[derive(Debug, Clone)]
struct Piece {
    number: i32,
    object: Uuid,
    bytes: u64,
}

/// A piece that is stored, and does not count yet.
struct Unkept {
    piece: Piece,
    /// How many of its bytes are new.
    new: u64,
    /// The object whose bytes it has as well.
    before: Option<Uuid>,
}

/// What has come.
#[derive(Debug)]
pub struct Received {
    /// How many bytes in all.
    pub offset: u64,
    /// The upload, as it was before.
    pub upload: Upload,
    /// Whether these are all, and a medium is to be made of them.
    pub is_whole: bool,
    /// The place that it had, for whoever goes on.
    pub place: Place,
}

/// Why no more bytes are read.
enum Stop {
    /// There are no more.
    End,
    /// What has come until then is kept.
    Broken(ApiError),
}

impl<'a> Writer<'a> {
    /// Becomes the writer of an upload, at this place. `bytes` says how many there will be, where that was left open.
    ///
    /// # Errors
    /// [`ApiError::Busy`], [`ApiError::TenantBusy`], [`ApiError::UploadGone`], [`ApiError::UploadState`]; [`ApiError::UploadOffset`] at any other place.
    pub async fn begin(
        incoming: &'a Incoming,
        tenant: TenantKey,
        id: Uuid,
        (offset, bytes): (u64, Option<u64>),
    ) -> Result<Self, ApiError> {
        let (place, token) = (incoming.place(tenant)?, Uuid::now_v7());
        let database = incoming.library.database();
        let upload = record::find(&mut database.begin(&Mandate::upkeep(tenant)).await?, id).await?;
        upload.must_be_open()?;
        take_over(database, tenant, id, Some(token)).await?;
        let mut writer = Self { incoming, place, tenant, upload, token, tail: None, next: 1 };
        match writer.find_place(offset, bytes).await {
            Ok(()) => Ok(writer),
            Err(error) => {
                writer.release().await;
                Err(error)
            }
        }
    }

    /// Looks where the upload goes on, now that nobody else writes.
    async fn find_place(&mut self, offset: u64, bytes: Option<u64>) -> Result<(), ApiError> {
        let id = self.upload.id;
        let mut transaction = self.incoming.library.database().begin(&Mandate::upkeep(self.tenant)).await?;
        self.upload = record::find(&mut transaction, id).await?;
        self.upload.must_be_open()?;
        if self.upload.received != offset {
            return Err(ApiError::UploadOffset { offset: self.upload.received });
        }
        if let Some(bytes) = bytes {
            record::set_length(&mut transaction, id, bytes).await?;
            self.upload.bytes = Some(bytes);
        }
        let last = sqlx::query!(
            "SELECT number, object, bytes FROM upload_parts WHERE upload_id = $1 ORDER BY number DESC LIMIT 1",
            id
        );
        let last = last.fetch_optional(transaction.connection()).await?;
        transaction.commit().await?;
        let last = last.map(|row| Piece { number: row.number, object: row.object, bytes: row.bytes.unsigned_abs() });
        self.next = last.as_ref().map_or(1, |last| last.number + 1);
        self.tail = last.filter(|last| last.bytes < PIECE_BYTES_MIN);
        Ok(())
    }

    /// Receives a body.
    ///
    /// # Errors
    /// [`ApiError::UploadLength`] when there are too many bytes; [`ApiError::ChecksumMismatch`]; [`ApiError::BodyCut`],
    /// [`ApiError::UploadTime`] and [`ApiError::UploadLocked`], after all that has come was kept.
    pub async fn receive(mut self, data: Data<'_>, checksum: Option<Checksum>) -> Result<Received, ApiError> {
        let received = self.take_in(data, checksum).await;
        self.release().await;
        let is_whole = received?;
        Ok(Received { offset: self.upload.received, upload: self.upload, is_whole, place: self.place })
    }

    /// Whether all bytes of the upload are there then.
    async fn take_in(&mut self, data: Data<'_>, mut checksum: Option<Checksum>) -> Result<bool, ApiError> {
        let end = self.upload.bytes.unwrap_or(self.incoming.library.bytes_max);
        let mut left = end.saturating_sub(self.upload.received);
        let mut body = Body::open(data, left, self.incoming.pace);
        let until = Instant::now() + self.incoming.library.upload_time;
        let mut unkept = Vec::new();
        let mut is_whole = false;
        loop {
            let mut buffer = self.buffer().await?;
            let stop = self.fill(&mut buffer, &mut body, until).await;
            let new = buffer.len() as u64 - self.tail.as_ref().map_or(0, |tail| tail.bytes);
            if new > left {
                self.discard(unkept).await;
                return Err(ApiError::UploadLength);
            }
            left -= new;
            if let Some(checksum) = &mut checksum {
                checksum.update(&buffer[buffer.len() - new as usize..]);
            }
            if new > 0 {
                unkept.push(self.store(buffer.freeze(), new).await?);
            }
            match stop {
                None if checksum.is_some() => continue,
                None => {}
                Some(Stop::Broken(error)) if checksum.is_some() => {
                    self.discard(unkept).await;
                    return Err(error);
                }
                Some(Stop::End) if checksum.take().is_some_and(|checksum| !checksum.holds()) => {
                    self.discard(unkept).await;
                    return Err(ApiError::ChecksumMismatch);
                }
                Some(_) => {}
            }
            is_whole |= self.keep(std::mem::take(&mut unkept)).await?;
            match stop {
                None => {}
                // Nothing is missing any more.
                Some(Stop::Broken(error)) if !is_whole => return Err(error),
                Some(Stop::Broken(_) | Stop::End) => {
                    return Ok(is_whole);
                }
            }
        }
    }

    /// An empty piece, or what the last object has, to go on with.
    async fn buffer(&self) -> Result<BytesMut, ApiError> {
        let mut buffer = BytesMut::with_capacity(PIECE_BYTES);
        if let Some(tail) = &self.tail {
            let object = self.incoming.library.store()?.get(&self.path(tail.object), GetOptions::default()).await?;
            let bytes = object.body.collect(PIECE_BYTES_MIN).await?;
            if bytes.len() as u64 != tail.bytes {
                return Err(ApiError::Internal);
            }
            buffer.extend_from_slice(&bytes);
        }
        Ok(buffer)
    }

    /// Reads until a piece is full; why it is not, else.
    async fn fill(&self, buffer: &mut BytesMut, body: &mut Body<'_>, until: Instant) -> Option<Stop> {
        let mut look = Instant::now() + LOOK_EVERY;
        while buffer.len() < PIECE_BYTES {
            let read = tokio::select! {
                biased;
                () = sleep_until(look) => None,
                read = body.read(buffer) => Some(read),
            };
            match read {
                Some(Ok(0)) => return Some(Stop::End),
                Some(Ok(_)) => {}
                Some(Err(error)) => return Some(Stop::Broken(error)),
                None => {
                    let database = self.incoming.library.database();
                    match is_free(database, self.tenant, self.upload.id, self.token).await {
                        Ok(true) => {}
                        Ok(false) => return Some(Stop::Broken(ApiError::UploadLocked)),
                        Err(error) => return Some(Stop::Broken(error)),
                    }
                    look = Instant::now() + LOOK_EVERY;
                }
            }
            if Instant::now() >= until {
                return Some(Stop::Broken(ApiError::UploadTime));
            }
        }
        None
    }

    /// Stores a piece; it is to take the place of the last one if it was begun with that.
    async fn store(&mut self, bytes: Bytes, new: u64) -> Result<Unkept, ApiError> {
        let tail = self.tail.take();
        let number = tail.as_ref().map_or(self.next, |tail| tail.number);
        self.next = number + 1;
        let piece = Piece { number, object: Uuid::now_v7(), bytes: bytes.len() as u64 };
        self.incoming.library.store()?.put(&self.path(piece.object), bytes, PutOptions::default()).await?;
        Ok(Unkept { piece, new, before: tail.map(|tail| tail.object) })
    }

    /// Says that pieces are there; whether all of the upload is.
    async fn keep(&mut self, unkept: Vec<Unkept>) -> Result<bool, ApiError> {
        let (id, tenant) = (self.upload.id, self.tenant);
        let new: u64 = unkept.iter().map(|piece| piece.new).sum();
        let mut transaction = self.incoming.library.database().begin(&Mandate::upkeep(tenant)).await?;
        let counted = sqlx::query!(
            "UPDATE uploads SET received = received + $4 WHERE id = $1 AND writer = $2 AND state = 'open' AND received = $3",
            id,
            self.token,
            number(self.upload.received)?,
            number(new)?
        );
        if counted.execute(transaction.connection()).await?.rows_affected() == 0 {
            drop(transaction);
            self.discard(unkept).await;
            return Err(ApiError::UploadLocked);
        }
        for Unkept { piece, .. } in &unkept {
            sqlx::query!(
                "INSERT INTO upload_parts (tenant_id, upload_id, number, object, bytes) VALUES ($1, $2, $3, $4, $5)
                 ON CONFLICT (tenant_id, upload_id, number) DO UPDATE SET object = $4, bytes = $5, stored_at = now()",
                tenant.as_uuid(),
                id,
                piece.number,
                piece.object,
                number(piece.bytes)?
            )
            .execute(transaction.connection())
            .await?;
        }
        let received = self.upload.received + new;
        let is_whole = self.upload.bytes == Some(received) && !self.upload.is_partial();
        if is_whole {
            complete::begin(&mut transaction, id, received).await?;
        }
        transaction.commit().await?;
        self.upload.received = received;
        self.delete(unkept.into_iter().filter_map(|piece| piece.before)).await;
        Ok(is_whole)
    }

    /// Deletes pieces that do not count.
    async fn discard(&self, unkept: Vec<Unkept>) {
        self.delete(unkept.into_iter().map(|unkept| unkept.piece.object)).await;
    }

    /// Deletes objects that no row leads to. Those that are left are swept with the upload.
    async fn delete(&self, objects: impl Iterator<Item = Uuid>) {
        let Ok(store) = self.incoming.library.store() else { return };
        for object in objects {
            if let Err(error) = store.delete(&self.path(object)).await {
                tracing::debug!(%error, upload = %self.upload.id, "an object that is not needed is deleted later");
            }
        }
    }

    fn path(&self, object: Uuid) -> ObjectPath {
        uploads::incoming_path(self.tenant.as_uuid(), self.upload.id, object)
    }

    /// Lets others write. If this fails, they wait a moment.
    async fn release(&self) {
        let released = async {
            let mut transaction = self.incoming.library.database().begin(&Mandate::upkeep(self.tenant)).await?;
            sqlx::query!(
                "UPDATE uploads SET writer = NULL, writer_wanted = false WHERE id = $1 AND writer = $2",
                self.upload.id,
                self.token
            )
            .execute(transaction.connection())
            .await?;
            transaction.commit().await?;
            Ok::<_, ApiError>(())
        };
        if let Err(error) = released.await {
            tracing::debug!(%error, upload = %self.upload.id, "a writer has gone without a word");
        }
    }
}
