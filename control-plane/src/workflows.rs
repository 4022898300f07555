//! Workflows: the steps that the bytes of media go through, by a tenant's own rules, and the record of how they have fared.
//!
//! A step asks somebody: the operator's scanner, or an endpoint of the tenant's. While one that is waited for has not passed, edges
//! know nothing of the bytes. What is in force when an answer is noted counts, not what was when the bytes came: a rule that was
//! tightened holds for what still waits. Must not know media, but for their kinds: `media/review.rs` does what comes of it.

mod definition;
mod scan;

use isolation::TenantTransaction;
use time::OffsetDateTime;

pub use self::definition::{Endpoint, Step, StepTask, Subject, Workflow, secrets_of};
pub use self::scan::{Answered, Found, Occasion, Outcome, Scan, Verdict, WorkflowMark};
use crate::media::Kind;
use crate::problem::ApiError;
use crate::sealing::Seal;
use crate::webhooks::WebhookReach;

/// What steps may make use of here.
pub struct Means {
    /// Whether there is a scanner.
    pub has_scanner: bool,
    /// Which endpoints may be asked.
    pub reach: WebhookReach,
}

impl Means {
    /// Holds a workflow against the limits, and against what there is.
    ///
    /// # Errors
    /// [`ApiError::Field`] and [`ApiError::NoScanner`].
    pub fn check(&self, workflow: &Workflow) -> Result<(), ApiError> {
        workflow.check(&self.reach)?;
        if workflow.needs_scanner() && !self.has_scanner { Err(ApiError::NoScanner) } else { Ok(()) }
    }
}

/// A workflow that media of some kind go through now.
#[derive(Debug, Clone)]
pub struct InForce {
    /// Which it is.
    pub mark: WorkflowMark,
    /// Its steps.
    pub steps: Vec<Step>,
    /// What they sign with, sealed.
    pub secrets: Option<Vec<u8>>,
}

/// The workflow of media of this kind: the kind's own, or else that of any. `None` when there is neither.
///
/// # Errors
/// [`ApiError::Database`].
pub async fn in_force(transaction: &mut TenantTransaction, kind: Kind) -> Result<Option<InForce>, ApiError> {
    let found = sqlx::query!(
        "SELECT kind, steps, secrets, version, updated_at FROM workflows WHERE kind IN ($1, 'any')
         ORDER BY kind = 'any' LIMIT 1",
        kind.as_str()
    )
    .fetch_optional(transaction.connection())
    .await?;
    let Some(row) = found else { return Ok(None) };
    let steps = serde_json::from_value(row.steps).map_err(|error| {
        tracing::error!(%error, "a workflow cannot be read");
        ApiError::Internal
    })?;
    Ok(Some(InForce { mark: mark(row.kind, row.version, row.updated_at), steps, secrets: row.secrets }))
}

fn mark(kind: String, version: i64, put_at: OffsetDateTime) -> WorkflowMark {
    WorkflowMark { kind, version, put_at }
}

/// Seals the secrets of a tenant's workflows with the newest master key; how many workflows that were.
///
/// # Errors
/// [`ApiError::Seal`] for secrets that do not open, [`ApiError::NoMasterKey`], [`ApiError::Database`].
pub async fn reseal(transaction: &mut TenantTransaction, seal: &Seal) -> Result<u64, ApiError> {
    let tenant = transaction.tenant();
    let rows = sqlx::query!(
        r#"SELECT kind, secrets AS "secrets!" FROM workflows WHERE secrets IS NOT NULL ORDER BY kind FOR UPDATE"#
    )
    .fetch_all(transaction.connection())
    .await?;
    let mut resealed = 0;
    for row in rows.iter().filter(|row| !seal.is_newest(&row.secrets)) {
        let sealed = secrets_of(seal, tenant, &row.kind, Some(&row.secrets))?.sealed(seal, tenant, &row.kind)?;
        sqlx::query!("UPDATE workflows SET secrets = $2 WHERE kind = $1", row.kind, sealed)
            .execute(transaction.connection())
            .await?;
        resealed += 1;
    }
    Ok(resealed)
}
