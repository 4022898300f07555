//! `/v1/media/{id}/scan`, `/release` and `/reject`: what is judged anew, or by hand.

use isolation::Database;
use rocket::{State, post};
use serde::Deserialize;
use utoipa::ToSchema;

use super::super::jobs::{self, JobView, NOTHING};
use super::known;
use crate::answer::Answer;
use crate::auth::{Caller, Scope};
use crate::body::Body;
use crate::etag::{Condition, etag};
use crate::idempotency::{Begun, Once};
use crate::media::{self, Library, Media, Row};
use crate::problem::ApiError;
use crate::sealing::Seal;

/// A decision about a medium.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Decision {
    /// Why: 1 to 500 bytes. It is shown with the medium.
    reason: String,
}

/// Has a medium judged anew by the workflow in force. What is served is served meanwhile; what was rejected is in quarantine again.
#[utoipa::path(
    tag = "media",
    security(("tenantKey" = ["media:write"])),
    params(Once, Condition),
    responses((status = 202, description = "The job that does it", body = JobView, headers(("Location" = String, description = "Where it is"))))
)]
#[post("/media/<id>/scan")]
pub async fn scan(
    caller: Caller,
    once: Once,
    condition: Condition,
    id: &str,
    library: &State<Library>,
    database: &State<Database>,
    seal: &State<Seal>,
) -> Result<Answer, ApiError> {
    caller.needs(Scope::MediaWrite)?;
    library.store()?;
    let id = known(id)?;
    let mut work = match once.begin(database, seal, &caller.mandate, &NOTHING).await? {
        Begun::First(work) => work,
        Begun::Again(answer) => return Ok(answer),
    };
    let job = media::scan_again(library, work.transaction(), id, condition).await?;
    let view = jobs::told(work.transaction(), job).await?.into_inner();
    work.commit(Answer::accepted_at(format!("/v1/jobs/{job}"), &view)?).await
}

/// Lets a medium be served, or what waits to take the place of its bytes, whatever its workflow says.
#[utoipa::path(
    tag = "media",
    security(("tenantKey" = ["admin"])),
    params(Once, Condition),
    request_body = Decision,
    responses((status = 200, description = "It is served", body = Media, headers(("ETag" = String, description = "Its version"))))
)]
#[post("/media/<id>/release", data = "<body>")]
pub async fn release(
    caller: Caller,
    once: Once,
    condition: Condition,
    id: &str,
    body: Body<Decision>,
    library: &State<Library>,
    seal: &State<Seal>,
) -> Result<Answer, ApiError> {
    caller.needs(Scope::Admin)?;
    library.store()?;
    let (id, reason) = (known(id)?, media::reason(&body.reason)?);
    let mut work = match once.begin(library.database(), seal, &caller.mandate, &body.fingerprint).await? {
        Begun::First(work) => work,
        Begun::Again(answer) => return Ok(answer),
    };
    let row = media::release(library, work.transaction(), id, condition, reason).await?;
    work.commit(decided(library, &caller, row.clone())?).await?;
    let row = media::published(library, caller.tenant, row, None).await?;
    decided(library, &caller, row)
}

/// Keeps a medium from being served, or what waits to take the place of its bytes, whatever its workflow says.
#[utoipa::path(
    tag = "media",
    security(("tenantKey" = ["admin"])),
    params(Once, Condition),
    request_body = Decision,
    responses((status = 200, description = "It is not served any more", body = Media, headers(("ETag" = String, description = "Its version"))))
)]
#[post("/media/<id>/reject", data = "<body>")]
pub async fn reject(
    caller: Caller,
    once: Once,
    condition: Condition,
    id: &str,
    body: Body<Decision>,
    library: &State<Library>,
    seal: &State<Seal>,
) -> Result<Answer, ApiError> {
    caller.needs(Scope::Admin)?;
    library.store()?;
    let (id, reason) = (known(id)?, media::reason(&body.reason)?);
    let mut work = match once.begin(library.database(), seal, &caller.mandate, &body.fingerprint).await? {
        Begun::First(work) => work,
        Begun::Again(answer) => return Ok(answer),
    };
    let row = media::reject(library, work.transaction(), id, condition, reason).await?;
    work.commit(decided(library, &caller, row.clone())?).await?;
    let row = media::published(library, caller.tenant, row, None).await?;
    decided(library, &caller, row)
}

fn decided(library: &Library, caller: &Caller, row: Row) -> Result<Answer, ApiError> {
    let tag = etag(row.version);
    Ok(Answer { etag: Some(tag), ..Answer::done(&row.seen_by(library, &caller.slug))? })
}
