//! `/v1/jobs`: what workers do for a tenant.

use isolation::{Database, TenantTransaction};
use jobs::{Job, JobId, JobState, NewJob};
use rocket::request::{FromRequest, Outcome, Request};
use rocket::serde::json::Json;
use rocket::{State, get, post};
use serde::Serialize;
use serde_json::Value;
use time::OffsetDateTime;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::answer::Answer;
use crate::auth::{Caller, Scope};
use crate::idempotency::{Begun, Fingerprint, Once, Work};
use crate::media::{self, Bulk, Library, NOW_MEDIA_MAX};
use crate::page::{List, Page, PageQuery};
use crate::problem::ApiError;
use crate::requests::{Exchange, query_fields};
use crate::sealing::Seal;

/// What a request without a body is known by: its path says all.
pub const NOTHING: Fingerprint = [0; 32];

/// A job, as its tenant sees it.
#[derive(Debug, Serialize, ToSchema)]
pub struct JobView {
    id: Uuid,
    kind: String,
    state: &'static str,
    progress: f32,
    attempts: i16,
    attempts_max: i16,
    cancel_requested: bool,
    result: Option<Value>,
    error: Option<String>,
    #[serde(with = "time::serde::rfc3339")]
    created_at: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339::option")]
    finished_at: Option<OffsetDateTime>,
}

impl From<Job> for JobView {
    fn from(job: Job) -> Self {
        Self {
            id: job.id.0,
            kind: job.kind,
            state: job.state.as_str(),
            progress: job.progress,
            attempts: job.attempts,
            attempts_max: job.attempts_max,
            cancel_requested: job.cancel_requested,
            result: job.result,
            error: job.error,
            created_at: job.created_at,
            finished_at: job.finished_at,
        }
    }
}

/// What is to be done once.
pub struct NewWork<'a> {
    /// The kind of job.
    pub kind: &'a str,
    /// What its worker is told.
    pub payload: Value,
    /// That of the request.
    pub fingerprint: &'a Fingerprint,
}

/// Puts a job in.
///
/// # Errors
/// Those of [`Once::begin`], and [`ApiError::Database`].
pub async fn enqueue(
    caller: &Caller,
    once: Once,
    work: NewWork<'_>,
    database: &Database,
    seal: &Seal,
) -> Result<Answer, ApiError> {
    match once.begin(database, seal, &caller.mandate, work.fingerprint).await? {
        Begun::First(begun) => accept(begun, work).await,
        Begun::Again(answer) => Ok(answer),
    }
}

/// The same where it is begun.
async fn accept(mut begun: Work, work: NewWork<'_>) -> Result<Answer, ApiError> {
    let id = jobs::enqueue(begun.transaction(), &NewJob::new(work.kind, work.payload)).await?;
    let job = told(begun.transaction(), id).await?.into_inner();
    begun.commit(Answer::accepted_at(format!("/v1/jobs/{id}"), &job)?).await
}

/// Does what concerns few media at once, and puts a job in for what concerns many. There has to be something that it concerns, or there is no
/// such thing.
///
/// # Errors
/// Those of [`Once::begin`], [`Bulk::size`] and [`Bulk::all`]; [`ApiError::NotFound`].
pub async fn edit(
    caller: &Caller,
    once: Once,
    (bulk, thing): (&Bulk, &'static str),
    work: NewWork<'_>,
    library: &Library,
    seal: &Seal,
) -> Result<Answer, ApiError> {
    library.store()?;
    let mut begun = match once.begin(library.database(), seal, &caller.mandate, work.fingerprint).await? {
        Begun::First(begun) => begun,
        Begun::Again(answer) => return Ok(answer),
    };
    match bulk.size(begun.transaction()).await? {
        0 => return Err(ApiError::NotFound(thing)),
        1..=NOW_MEDIA_MAX => {}
        _ => return accept(begun, work).await,
    }
    let (tally, public_ids) = bulk.all(library, begun.transaction()).await?;
    let answer = begun.commit(Answer::done(&tally)?).await?;
    media::publish_all(library, caller.tenant, &public_ids).await?;
    Ok(answer)
}

/// Which jobs are asked for.
pub struct JobQuery {
    state: Option<JobState>,
    page: PageQuery,
}

impl JobQuery {
    fn parse<'a>(fields: impl Iterator<Item = (&'a str, &'a str)>) -> Result<Self, ApiError> {
        let (mut state, mut rest) = (None, Vec::new());
        for (name, value) in fields {
            if name == "state" {
                let why = "is blocked, delayed, queued, running, done, failed or cancelled";
                state = Some(value.parse().map_err(|_| ApiError::field("state", why))?);
            } else {
                rest.push((name, value));
            }
        }
        Ok(Self { state, page: PageQuery::parse(rest)? })
    }
}

#[rocket::async_trait]
impl<'r> FromRequest<'r> for JobQuery {
    type Error = ();

    async fn from_request(request: &'r Request<'_>) -> Outcome<Self, ()> {
        Exchange::outcome(request, Self::parse(query_fields(request)))
    }
}

/// Jobs, the newest first.
#[utoipa::path(
    tag = "jobs",
    security(("tenantKey" = ["media:read"])),
    params(
        (
            "state" = Option<String>, Query,
            description = "Those that are blocked, delayed, queued, running, done, failed or cancelled only"
        ),
        PageQuery
    ),
    responses((status = 200, description = "A page, newest first", body = Page<JobView>))
)]
#[get("/jobs")]
pub async fn list(
    caller: Caller,
    query: JobQuery,
    database: &State<Database>,
) -> Result<Json<Page<JobView>>, ApiError> {
    caller.needs(Scope::MediaRead)?;
    let list = List { name: "jobs", tenant: Some(caller.tenant) };
    let before = query.page.after(list)?.map(|id| id.parse().map(JobId).map_err(|_| ApiError::Cursor)).transpose()?;
    let mut transaction = caller.read(database).await?;
    let found = jobs::list(&mut transaction, query.state, before, query.page.look_for()).await?;
    let found = found.into_iter().map(JobView::from).collect();
    Ok(Json(query.page.page(list, found, |job: &JobView| job.id.to_string())))
}

/// One job.
#[utoipa::path(
    tag = "jobs",
    security(("tenantKey" = ["media:read"])),
    responses((status = 200, description = "It", body = JobView))
)]
#[get("/jobs/<id>")]
pub async fn get(caller: Caller, id: &str, database: &State<Database>) -> Result<Json<JobView>, ApiError> {
    caller.needs(Scope::MediaRead)?;
    told(&mut database.begin(&caller.mandate).await?, known(id)?).await
}

/// Ends a job, or asks its worker to.
#[utoipa::path(
    tag = "jobs",
    security(("tenantKey" = ["media:write"])),
    params(Once),
    responses((status = 200, description = "It is cancelled, or will be once its worker hears of it", body = JobView))
)]
#[post("/jobs/<id>/cancel")]
pub async fn cancel(
    caller: Caller,
    once: Once,
    id: &str,
    database: &State<Database>,
    seal: &State<Seal>,
) -> Result<Answer, ApiError> {
    caller.needs(Scope::MediaWrite)?;
    let id = known(id)?;
    let mut work = match once.begin(database, seal, &caller.mandate, &NOTHING).await? {
        Begun::First(work) => work,
        Begun::Again(answer) => return Ok(answer),
    };
    jobs::cancel(work.transaction(), id).await?;
    let job = told(work.transaction(), id).await?.into_inner();
    work.commit(Answer::done(&job)?).await
}

/// Lets a job that was not done be tried again.
#[utoipa::path(
    tag = "jobs",
    security(("tenantKey" = ["media:write"])),
    params(Once),
    responses((status = 200, description = "It is tried again", body = JobView))
)]
#[post("/jobs/<id>/retry")]
pub async fn retry(
    caller: Caller,
    once: Once,
    id: &str,
    database: &State<Database>,
    seal: &State<Seal>,
) -> Result<Answer, ApiError> {
    caller.needs(Scope::MediaWrite)?;
    let id = known(id)?;
    let mut work = match once.begin(database, seal, &caller.mandate, &NOTHING).await? {
        Begun::First(work) => work,
        Begun::Again(answer) => return Ok(answer),
    };
    jobs::retry(work.transaction(), id).await?;
    let job = told(work.transaction(), id).await?.into_inner();
    work.commit(Answer::done(&job)?).await
}

/// A job as it is.
///
/// # Errors
/// [`ApiError::NotFound`].
pub async fn told(transaction: &mut TenantTransaction, id: JobId) -> Result<Json<JobView>, ApiError> {
    Ok(Json(jobs::find(transaction, id).await?.into()))
}

/// The id of a job that may be there: what none can have is not asked for.
fn known(text: &str) -> Result<JobId, ApiError> {
    text.parse().map(JobId).map_err(|_| ApiError::NotFound("job"))
}
