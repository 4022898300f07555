//! `POST /internal/v1/usage`: what edges tell of what tenants have used.

use isolation::Database;
use rocket::serde::json::Json;
use rocket::{State, post};
use serde::Serialize;
use tenancy::usage::UsageReport;

use crate::auth::EdgeNode;
use crate::body::EdgeBody;
use crate::problem::ApiError;
use crate::{quotas, usage};

/// What came of a report.
#[derive(Debug, Serialize)]
pub struct Reported {
    /// False: it was counted before.
    counted: bool,
}

/// Counts what an edge reports, once however often it is sent: a report is known by `edge`, `boot` and `number`, which grows.
#[utoipa::path(
    tag = "edges",
    security(("edgeToken" = [])),
    request_body = Object,
    responses((status = 200, description = "It is counted, now or before", body = Object))
)]
#[post("/usage", data = "<report>")]
pub async fn report(
    _edge: EdgeNode,
    report: EdgeBody<UsageReport>,
    database: &State<Database>,
) -> Result<Json<Reported>, ApiError> {
    let taken = usage::take(database, &report.0).await?;
    // Also when it was counted before: whoever counted it may have died over this.
    if let Err(error) = quotas::settle_due(database, &taken.tenants).await {
        tracing::warn!(cause = error.cause(), "quotas are looked at again by a worker: {error}");
    }
    Ok(Json(Reported { counted: taken.is_new }))
}
