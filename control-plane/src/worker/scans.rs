//! Jobs that judge bytes: each step asks somebody, and what comes of it is noted before the next is asked.
//!
//! Whoever is asked may be away, hang, lie or send without an end; that is an answer of its own kind, and never a verdict. A job may
//! be begun again at any point: what was noted is not asked again, and what was not is. Must not decide what follows:
//! `media/judging.rs` does.

use std::time::{Duration, Instant};

use bytes::Bytes;
use clamd::{ClamdError, Verdict};
use fetch::{FetchConfig, FetchLimits, Fetcher, HeaderMap, PostOptions};
use http::{HeaderName, HeaderValue};
use isolation::TenantKey;
use jobs::{Failure, Lease};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use storage::{GetOptions, StorageError};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use uploads::object_path;
use uuid::Uuid;

use super::jobs::{NotDone, Progress};
use crate::config::ControlPlaneSettings;
use crate::media::{self, BytesUrls, Library, Next, Question, ScanOrder};
use crate::problem::ApiError;
use crate::scanner::Scanner;
use crate::sealing::Seal;
use crate::workflows::{self, Answered, Endpoint, Found, Step, StepTask};

/// Most bytes of an endpoint's answer.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// Longest reason of an endpoint's that is kept, in characters.
const REASON_CHARACTERS_MAX: usize = 500;

/// How long an endpoint may take at most; each step has a limit of its own.
const PATIENCE: Duration = Duration::from_secs(600);

/// How long an endpoint may read the bytes.
const URL_TIME: Duration = Duration::from_secs(15 * 60);

/// Asks.
pub struct Judge {
    library: Library,
    scanner: Scanner,
    fetcher: Fetcher,
    urls: BytesUrls,
    seal: Seal,
}

/// What an endpoint says.
#[derive(Deserialize)]
struct Said {
    verdict: Thinks,
    reason: Option<String>,
    metadata: Option<Value>,
    tags: Option<Vec<String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Thinks {
    Pass,
    Reject,
}

impl Judge {
    /// With these settings.
    pub fn new(settings: &ControlPlaneSettings, library: Library) -> Self {
        let reach = settings.webhooks.reach();
        let limits = FetchLimits { head_timeout: PATIENCE, ..reach.limits };
        Self {
            library,
            scanner: settings.scanner.scanner(),
            fetcher: Fetcher::new(FetchConfig { limits, ..reach }),
            urls: BytesUrls::new(settings),
            seal: settings.seal(),
        }
    }

    /// Asks whoever is to be asked, until it is known what the bytes are, or nobody answers.
    ///
    /// # Errors
    /// [`NotDone`] when there is no answer yet.
    pub async fn judge(&self, lease: &Lease, order: ScanOrder, progress: &Progress) -> Result<Value, NotDone> {
        let result = |verdict: Value| Ok(json!({ "media": order.media, "verdict": verdict }));
        let mut next = media::next(&self.library, lease, order, 0).await?;
        loop {
            let question = match next {
                Next::Ask(question) => question,
                Next::Over(verdict) => return result(json!(verdict)),
                Next::Outdated => return result("outdated".into()),
                Next::Rest { why, may_pass } => {
                    return Err(NotDone::Failed(if may_pass { Failure::Retry } else { Failure::Final }, why));
                }
            };
            progress.set(question.at(), question.scan.steps.len());
            let answered = self.ask(lease, &question).await?;
            next = media::answer(&self.library, lease, order, &question, answered).await?;
        }
    }

    async fn ask(&self, lease: &Lease, question: &Question) -> Result<Answered, ApiError> {
        let step = question.step()?;
        let time = Duration::from_secs(step.timeout_seconds.into());
        match step.task() {
            StepTask::Scan => self.ask_scanner(lease.tenant, question, time).await,
            StepTask::Http(endpoint) => {
                let request = self.request(lease, question, step).await?;
                Ok(self.ask_endpoint(endpoint, request, time).await)
            }
        }
    }

    async fn ask_scanner(&self, tenant: TenantKey, question: &Question, time: Duration) -> Result<Answered, ApiError> {
        let Some(daemon) = &self.scanner.daemon else { return Ok(not("the operator has set no scanner")) };
        let judged = &question.judged;
        let path = object_path(tenant.as_uuid(), judged.media, judged.revision);
        let object = self.library.store()?.get(&path, GetOptions::default()).await?;
        match daemon.scan(object.body, judged.bytes, time.min(self.scanner.time)).await {
            Ok(Verdict::Clean) => Ok(Answered::Passed(Found::default())),
            Ok(Verdict::Found(signature)) => Ok(Answered::Rejected(signature)),
            // Not the scanner's fault: nobody was asked.
            Err(ClamdError::Input(source)) => Err(ApiError::Store(StorageError::Input { source })),
            Err(error) => {
                let may_pass = !matches!(error, ClamdError::TooLarge);
                if may_pass {
                    tracing::warn!(%tenant, media = %judged.media, cause = told(&error), "bytes were not scanned");
                }
                Ok(Answered::Not { why: error.to_string(), may_pass })
            }
        }
    }

    /// What an endpoint is sent: the body, and the headers that it is signed with.
    async fn request(&self, lease: &Lease, question: &Question, step: &Step) -> Result<(Bytes, HeaderMap), ApiError> {
        let (judged, now) = (&question.judged, OffsetDateTime::now_utc());
        let bytes = (judged.media, judged.revision);
        let url = self.urls.url(self.library.store()?, lease.tenant, bytes, URL_TIME).await?;
        let time = |at: OffsetDateTime| at.format(&Rfc3339).unwrap_or_default();
        let body = json!({
            "type": "workflow.step",
            "timestamp": time(now),
            "step": step.name,
            "event": question.scan.event,
            "kind": judged.kind.as_str(),
            "media": media::described(&self.library, lease.tenant, judged.media).await?,
            "url": url,
            "url_expires_at": time(now + URL_TIME),
        });
        let body = Bytes::from(body.to_string());
        let workflow = &question.workflow;
        let secrets =
            workflows::secrets_of(&self.seal, lease.tenant, &workflow.mark.kind, workflow.secrets.as_deref())?;
        let secret = secrets.of(&step.name).ok_or(ApiError::Internal)?;
        let (id, at) = (request_id(lease, step), now.unix_timestamp());
        let headers = [
            ("content-type", "application/json".to_owned()),
            ("webhook-id", id.to_string()),
            ("webhook-timestamp", at.to_string()),
            ("webhook-signature", secret.sign(id, at, &body)),
        ];
        let header = |(name, value): (&'static str, String)| {
            (HeaderName::from_static(name), HeaderValue::try_from(value).expect("it is plain ASCII"))
        };
        Ok((body, headers.map(header).into_iter().collect()))
    }

    async fn ask_endpoint(&self, endpoint: &Endpoint, (body, headers): (Bytes, HeaderMap), time: Duration) -> Answered {
        let deadline = Instant::now() + time;
        // It may begin to answer before it has looked at everything.
        let options = PostOptions { headers, deadline, body_time: time, answer_bytes_max: ANSWER_BYTES_MAX + 1 };
        let url = match fetch::parse_url(&endpoint.url) {
            Ok(url) => url,
            Err(error) => return not(error.to_string()),
        };
        match self.fetcher.post(&url, body, &options).await {
            // Its texts are for the public.
            Err(error) => not(error.to_string()),
            Ok(posted) if posted.status.as_u16() != 200 => {
                not(format!("the endpoint has answered {}", posted.status.as_u16()))
            }
            Ok(posted) if posted.answer.len() > ANSWER_BYTES_MAX => {
                not(format!("the endpoint's answer has more than {ANSWER_BYTES_MAX} bytes"))
            }
            Ok(posted) => said(&posted.answer),
        }
    }
}

/// No answer; there may be one another time.
fn not(why: impl Into<String>) -> Answered {
    Answered::Not { why: why.into(), may_pass: true }
}

/// An error with all that is behind it, for the operator.
fn told(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |error| error.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

/// What an endpoint's answer means.
fn said(answer: &[u8]) -> Answered {
    let Ok(said) = serde_json::from_slice::<Said>(answer) else {
        return not(
            "the endpoint's answer is not {\"verdict\": \"pass\"} or {\"verdict\": \"reject\"}, and what may be beside it",
        );
    };
    if matches!(said.verdict, Thinks::Reject) {
        let reason = said.reason.unwrap_or_default();
        let reason: String = reason.chars().filter(|c| !c.is_control()).take(REASON_CHARACTERS_MAX).collect();
        return Answered::Rejected(if reason.is_empty() { "no reason was given".to_owned() } else { reason });
    }
    let metadata = said.metadata.map_or(Ok(Map::new()), media::metadata);
    let tags = media::tags(said.tags.iter().flatten().map(String::as_str));
    match metadata.and_then(|metadata| Ok(Found { metadata, tags: tags? })) {
        Ok(found) => Answered::Passed(found),
        Err(error) => not(format!("what the endpoint has found is not allowed: {error}")),
    }
}

/// The same each time that a step of a job asks, so that the endpoint knows what it was asked before.
fn request_id(lease: &Lease, step: &Step) -> Uuid {
    let hash: [u8; 32] = Sha256::new().chain_update(lease.id.0).chain_update(&step.name).finalize().into();
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&hash[..16]);
    Uuid::from_bytes(bytes)
}
