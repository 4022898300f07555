//! Jobs about media: taken one at a time, done while their lease is renewed, ended with what came of it.
//!
//! A job may be begun again at any point, by another worker, while the first one only seems to be dead. So whatever is done twice must
//! be the same as done once: what is done to many media notes how far it is with each step, and a fetch makes the medium that has the job's
//! own id.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use fetch::{FetchConfig, FetchError, Fetcher, GetOptions, PrivateHosts};
use isolation::TenantTransaction;
use jobs::{Failure, JobsError, Lease, Queue, Renewal};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use storage::StorageError;
use tokio::time::sleep;
use traces::{Incoming, Kind, Span};
use uuid::Uuid;

use super::scans::Judge;
use crate::config::ControlPlaneSettings;
use crate::incoming::{self, COMPLETE_JOB, CompleteOrder, State as UploadState};
use crate::media::{
    self, Batch, Bulk, Checkpoint, CopyOrder, FetchOrder, FolderMove, Intake, Library, NewMedia, ScanOrder,
};
use crate::problem::ApiError;
use crate::quotas;

/// How long a worker may not be heard of before its job is another one's.
const LEASE: Duration = Duration::from_secs(30);

/// Time between two times that it is heard of.
const RENEW_EVERY: Duration = Duration::from_secs(5);

/// Jobs of some kinds, of which a worker does so many at the same time.
#[derive(Debug, Clone, Copy)]
pub struct Lane {
    kinds: &'static [&'static str],
    /// How many.
    pub lines: usize,
}

impl Lane {
    /// Those of one tenant at most, so that what takes one of them long keeps no other waiting.
    fn of_tenant(self) -> usize {
        (self.lines / 2).max(1)
    }
}

/// Each kind has hands of its own: servers that files are fetched from, and whoever is asked about bytes, may take long, and large
/// uploads do.
pub const LANES: [Lane; 4] = [
    Lane { kinds: &[Batch::JOB, FolderMove::JOB, CopyOrder::JOB], lines: 2 },
    Lane { kinds: &[COMPLETE_JOB], lines: 2 },
    Lane { kinds: &[FetchOrder::JOB], lines: 4 },
    Lane { kinds: &[ScanOrder::JOB], lines: 4 },
];

/// What is said of a job that was done.
const DONE: &str = "done";

/// What does jobs.
pub struct Runner {
    library: Library,
    queue: Queue,
    fetcher: Fetcher,
    judge: Judge,
}

/// Why a job was not done.
pub enum NotDone {
    /// It failed.
    Failed(Failure, String),
    /// It is another worker's by now, as far as is known.
    Lost,
}

impl From<ApiError> for NotDone {
    fn from(error: ApiError) -> Self {
        let passes = match &error {
            // What was fetched could not be read.
            ApiError::Store(StorageError::Input { source }) => match source.downcast_ref::<FetchError>() {
                Some(error) => return Self::from_fetch(error),
                None => true,
            },
            ApiError::Store(_) | ApiError::Conflict | ApiError::UploadTime => true,
            ApiError::Database(_) => error.status().code != 500,
            _ => false,
        };
        let failure = if passes { Failure::Retry } else { Failure::Final };
        if let Some(cause) = error.cause() {
            tracing::warn!(cause, "a job was not done: {error}");
        }
        Self::Failed(failure, error.detail())
    }
}

impl From<JobsError> for NotDone {
    fn from(error: JobsError) -> Self {
        match error {
            JobsError::LeaseLost => Self::Lost,
            error => ApiError::from(error).into(),
        }
    }
}

impl NotDone {
    fn from_fetch(error: &FetchError) -> Self {
        let passes = match error {
            FetchError::Status(status) => status.is_server_error() || matches!(status.as_u16(), 408 | 425 | 429),
            FetchError::Url { .. }
            | FetchError::NotAllowed
            | FetchError::AddressRefused(_)
            | FetchError::RedirectRefused { .. }
            | FetchError::TooManyRedirects { .. }
            | FetchError::TooLarge { .. }
            | FetchError::Encoding { .. } => false,
            _ => true,
        };
        // Its texts are for the public.
        Self::Failed(if passes { Failure::Retry } else { Failure::Final }, error.to_string())
    }
}

/// How far a job is.
#[derive(Default)]
pub struct Progress(AtomicU32);

impl Progress {
    /// So many things are done of so many.
    pub fn set(&self, done: usize, of: usize) {
        let permille = done.saturating_mul(1000) / of.max(1);
        self.0.store(u32::try_from(permille).unwrap_or(1000), Ordering::Relaxed);
    }

    fn get(&self) -> f32 {
        self.0.load(Ordering::Relaxed) as f32 / 1000.0
    }
}

impl Runner {
    /// With these settings.
    pub fn new(settings: &ControlPlaneSettings, library: Library) -> Self {
        let queue = Queue::new(library.database().clone(), Uuid::now_v7(), LEASE);
        let judge = Judge::new(settings, library.clone());
        let config = FetchConfig {
            ports: settings.fetch_ports.clone(),
            private: PrivateHosts::new(settings.fetch_private.iter().map(String::as_str)),
            // Any public address.
            ..FetchConfig::new(std::sync::Arc::new(|_| true))
        };
        Self { library, queue, fetcher: Fetcher::new(config), judge }
    }

    /// Does a job of this lane, if there is one; whether there was.
    ///
    /// # Errors
    /// When the database cannot be asked, or not told what came of it: then the job is begun again after a while.
    pub async fn run_one(&self, lane: Lane) -> Result<bool, ApiError> {
        let Some(lease) = self.queue.claim(lane.kinds, lane.of_tenant()).await? else { return Ok(false) };
        span(&lease).over(self.run(&lease)).await;
        Ok(true)
    }

    async fn run(&self, lease: &Lease) {
        let (progress, started) = (Progress::default(), Instant::now());
        let done = tokio::select! {
            done = self.perform(lease, &progress) => done,
            end = self.keep(lease, &progress) => Err(end),
        };
        let ended = self.end(lease, done).await;
        let (tenant, job, milliseconds) = (lease.tenant, lease.id, started.elapsed().as_millis());
        match &ended {
            Ok(state) => {
                tracing::info!(%tenant, %job, kind = lease.kind, attempt = lease.attempt, milliseconds, "job {state}")
            }
            Err(error) => tracing::warn!(%tenant, %job, kind = lease.kind, "job is begun again later: {error}"),
        }
        if !matches!(ended, Ok(DONE)) {
            Span::current().failed(ended.unwrap_or("not ended"));
        }
    }

    async fn perform(&self, lease: &Lease, progress: &Progress) -> Result<Value, NotDone> {
        match lease.kind.as_str() {
            Batch::JOB => self.bulk(lease, &Bulk::of_batch(&order(lease)?)?, progress).await,
            FolderMove::JOB => self.bulk(lease, &Bulk::of_move(&order(lease)?)?, progress).await,
            CopyOrder::JOB => self.copy(lease, &order(lease)?).await,
            COMPLETE_JOB => self.complete(lease, &order(lease)?, progress).await,
            ScanOrder::JOB => self.judge.judge(lease, order(lease)?, progress).await,
            _ => self.fetch(lease, &order(lease)?).await,
        }
    }

    /// Renews the lease until the job has to be given up.
    async fn keep(&self, lease: &Lease, progress: &Progress) -> NotDone {
        let mut heard = Instant::now();
        loop {
            sleep(RENEW_EVERY).await;
            match lease.renew(self.library.database(), progress.get()).await {
                Ok(Renewal::GoOn) => heard = Instant::now(),
                Ok(Renewal::Cancel) => return NotDone::Failed(Failure::Cancelled, "it was cancelled".to_owned()),
                // The database may be back before the lease has run out.
                Err(JobsError::Database(_)) if heard.elapsed() < LEASE => {}
                Err(_) => return NotDone::Lost,
            }
        }
    }

    /// Notes what came of a job; in a word.
    async fn end(&self, lease: &Lease, done: Result<Value, NotDone>) -> Result<&'static str, ApiError> {
        let mut transaction = self.library.database().begin(&lease.mandate()).await?;
        let word = match done {
            Ok(result) => {
                lease.complete(&mut transaction, result).await?;
                DONE
            }
            Err(NotDone::Failed(failure, text)) => {
                lease.fail(&mut transaction, failure, &text).await?;
                "not done"
            }
            Err(NotDone::Lost) => return Ok("lost"),
        };
        transaction.commit().await?;
        Ok(word)
    }

    /// Step by step, each with a note of how far that is.
    async fn bulk(&self, lease: &Lease, bulk: &Bulk, progress: &Progress) -> Result<Value, NotDone> {
        let noted = lease.checkpoint.clone().map(serde_json::from_value::<Checkpoint>).transpose();
        let unreadable = |error| NotDone::Failed(Failure::Final, format!("the checkpoint cannot be read: {error}"));
        let mut checkpoint = noted.map_err(unreadable)?.unwrap_or_default();
        while !checkpoint.is_over {
            let mut transaction = self.begin(lease).await?;
            if checkpoint.total.is_none() {
                checkpoint.total = Some(bulk.size(&mut transaction).await?);
            }
            let public_ids = bulk.step(&self.library, &mut transaction, &mut checkpoint).await?;
            let note = serde_json::to_value(&checkpoint).map_err(|_| ApiError::Internal)?;
            lease.note(&mut transaction, note).await?;
            transaction.commit().await.map_err(ApiError::from)?;
            // Who dies before this leaves it to the rounds.
            media::publish_all(&self.library, lease.tenant, &public_ids).await?;
            let Checkpoint { seen, total, .. } = checkpoint;
            progress.set(seen as usize, total.unwrap_or_default().max(seen) as usize);
        }
        Ok(json!(checkpoint.tally))
    }

    async fn fetch(&self, lease: &Lease, order: &FetchOrder) -> Result<Value, NotDone> {
        let id = lease.id.0;
        let result = json!({ "media": id });
        // A worker that was not heard of any more had done it.
        if self.is_there(lease, id).await? {
            return Ok(result);
        }
        let (url, fields) = order.check()?;
        quotas::check_room(self.library.database(), lease.tenant).await?;
        let intake = Intake::begin(&self.library, lease.tenant, id).await?;
        let options = GetOptions {
            deadline: Some(Instant::now() + self.library.upload_time),
            ..GetOptions::new(self.library.bytes_max)
        };
        let made = async {
            let found = self.fetcher.get(&url, &options).await.map_err(|error| NotDone::from_fetch(&error))?;
            let taken = intake.take(found.body).await?;
            let name = url.path_segments().and_then(|mut segments| segments.next_back()).and_then(media::filename);
            let new = NewMedia { intake: &intake, taken: &taken, fields: &fields, filename: name.as_deref() };
            media::create(&self.library, &lease.mandate(), &new).await?;
            Ok(())
        };
        let made = made.await;
        self.or_somebody_else(lease, &intake, made).await.map(|()| result)
    }

    async fn copy(&self, lease: &Lease, order: &CopyOrder) -> Result<Value, NotDone> {
        let id = lease.id.0;
        let result = json!({ "media": id });
        // A worker that was not heard of any more had done it.
        if self.is_there(lease, id).await? {
            return Ok(result);
        }
        quotas::check_room(self.library.database(), lease.tenant).await?;
        let intake = Intake::begin(&self.library, lease.tenant, id).await?;
        let made = async {
            let revision = order.take(&self.library, &intake).await?;
            let mut transaction = self.begin(lease).await?;
            let row = order.insert(&mut transaction, &intake, revision).await?;
            transaction.commit().await?;
            media::published(&self.library, lease.tenant, row, None).await
        };
        let made = made.await.map(drop).map_err(NotDone::from);
        self.or_somebody_else(lease, &intake, made).await.map(|()| result)
    }

    /// What has come of a medium that has the job's id: somebody else may have made it meanwhile.
    async fn or_somebody_else(
        &self,
        lease: &Lease,
        intake: &Intake<'_>,
        made: Result<(), NotDone>,
    ) -> Result<(), NotDone> {
        let Err(not_done) = made else { return Ok(()) };
        intake.give_up(&ApiError::Conflict).await;
        if self.is_there(lease, lease.id.0).await? { Ok(()) } else { Err(not_done) }
    }

    async fn complete(&self, lease: &Lease, order: &CompleteOrder, progress: &Progress) -> Result<Value, NotDone> {
        let upload = incoming::find(&mut self.begin(lease).await?, order.upload).await?;
        let bytes = upload.bytes.unwrap_or_default() as usize;
        let told = |read: u64| progress.set(read as usize, bytes);
        let done = incoming::finish(&self.library, &lease.mandate(), order.upload, told).await?;
        // A request, or a worker that was thought dead, is still at it.
        if done.state != UploadState::Done {
            return Err(ApiError::Conflict.into());
        }
        Ok(json!({ "upload": done.id, "media": done.media }))
    }

    async fn begin(&self, lease: &Lease) -> Result<TenantTransaction, ApiError> {
        Ok(self.library.database().begin(&lease.mandate()).await?)
    }

    async fn is_there(&self, lease: &Lease, id: Uuid) -> Result<bool, ApiError> {
        let mut transaction = self.library.database().begin(&lease.mandate()).await?;
        match media::find(&mut transaction, id).await {
            Ok(_) => Ok(true),
            Err(ApiError::NotFound(_)) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// Goes on from that of the request by which it was put in: it is ours, whoever began that trace.
fn span(lease: &Lease) -> Span {
    let span = Span::begin(lease.kind.clone(), Kind::Consumer, Incoming::of(lease.trace.as_ref(), true));
    if span.is_recording() {
        span.set("calotype.tenant", lease.tenant.to_string());
        span.set("calotype.job", lease.id.to_string());
        span.set("calotype.attempt", i64::from(lease.attempt));
    }
    span
}

fn order<T: DeserializeOwned>(lease: &Lease) -> Result<T, NotDone> {
    let read = serde_json::from_value(lease.payload.clone());
    read.map_err(|error| NotDone::Failed(Failure::Final, format!("the order cannot be read: {error}")))
}
