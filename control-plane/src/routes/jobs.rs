//! `/v1/jobs`: what workers do for a tenant.

use isolation::{Database, TenantTransaction};
use jobs::{Job, JobId, JobState, NewJob};
use rocket::request::{FromRequest, Outcome, Request};
use rocket::serde::json::Json;
use rocket::{State, get, post};
use serde::Serialize;
use serde_json::Value;
use time::OffsetDateTime;
use utoipa::openapi::path::{Parameter, ParameterIn};
use utoipa::openapi::schema::{Object, Type};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use crate::answer::Answer;
use crate::auth::{Caller, Scope};
use crate::idempotency::Work;
use crate::openapi::optional;
use crate::page::{List, Page, PageQuery};
use crate::problem::ApiError;
use crate::requests::{Exchange, query_fields};

/// A job, as its tenant sees it.
#[derive(Debug, Serialize, ToSchema)]
pub struct JobView {
    id: Uuid,
    /// `media_batch` or `media_fetch`.
    kind: String,
    /// `blocked`, `delayed`, `queued`, `running`, `done`, `failed` or `cancelled`.
    state: &'static str,
    /// From 0 to 1.
    progress: f32,
    attempts: i16,
    attempts_max: i16,
    cancel_requested: bool,
    /// What came of it, once it is done.
    #[schema(value_type = Option<Object>)]
    result: Option<Value>,
    /// Why the last attempt was not done.
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

/// Puts a job in; the answer tells where it is.
///
/// # Errors
/// [`ApiError::Database`].
pub async fn enqueue(mut work: Work, kind: &str, payload: Value) -> Result<Answer, ApiError> {
    let id = jobs::enqueue(work.transaction(), &NewJob::new(kind, payload)).await?;
    let job = JobView::from(jobs::find(work.transaction(), id).await?);
    let answer = Answer::accepted(&job)?;
    work.commit(Answer { location: Some(format!("/v1/jobs/{id}")), ..answer }).await
}

/// Which jobs are asked for.
pub struct JobQuery {
    state: Option<JobState>,
    page: PageQuery,
}

impl IntoParams for JobQuery {
    fn into_params(place: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let state = Object::with_type(Type::String);
        let mut all = vec![optional("state", ParameterIn::Query, "Those in this state", state)];
        all.extend(PageQuery::into_params(place));
        all
    }
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
    params(JobQuery),
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
    let mut transaction = database.begin(caller.tenant).await?;
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
    told(&mut database.begin(caller.tenant).await?, known(id)?).await
}

/// Ends a job, or asks its worker to.
#[utoipa::path(
    tag = "jobs",
    security(("tenantKey" = ["media:write"])),
    responses((status = 200, description = "It is cancelled, or will be", body = JobView))
)]
#[post("/jobs/<id>/cancel")]
pub async fn cancel(caller: Caller, id: &str, database: &State<Database>) -> Result<Json<JobView>, ApiError> {
    caller.needs(Scope::MediaWrite)?;
    let id = known(id)?;
    let mut transaction = database.begin(caller.tenant).await?;
    jobs::cancel(&mut transaction, id).await?;
    let job = told(&mut transaction, id).await?;
    transaction.commit().await?;
    Ok(job)
}

/// Lets a job that was not done be tried again.
#[utoipa::path(
    tag = "jobs",
    security(("tenantKey" = ["media:write"])),
    responses((status = 200, description = "It waits for a worker", body = JobView))
)]
#[post("/jobs/<id>/retry")]
pub async fn retry(caller: Caller, id: &str, database: &State<Database>) -> Result<Json<JobView>, ApiError> {
    caller.needs(Scope::MediaWrite)?;
    let id = known(id)?;
    let mut transaction = database.begin(caller.tenant).await?;
    jobs::retry(&mut transaction, id).await?;
    let job = told(&mut transaction, id).await?;
    transaction.commit().await?;
    Ok(job)
}

async fn told(transaction: &mut TenantTransaction, id: JobId) -> Result<Json<JobView>, ApiError> {
    Ok(Json(jobs::find(transaction, id).await?.into()))
}

/// The id of a job that may be there: what none can have is not asked for.
fn known(text: &str) -> Result<JobId, ApiError> {
    text.parse().map(JobId).map_err(|_| ApiError::NotFound("job"))
}
