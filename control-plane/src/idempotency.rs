//! `Idempotency-Key`: what was asked twice is done once, and answered twice.
//!
//! The answer is kept in the transaction that does what was asked (`migrations/0005_idempotency.sql`), so there is no moment at which
//! a crash leaves one without the other. Who comes while that runs is told so, by a lock that ends with it. What was refused, or
//! failed, has done nothing: it is not kept, and may be tried again with the same key.
//!
//! Must not be used by what takes long: the transaction stays open. An upload is received first, and [`Once::begin`] comes when its
//! fingerprint is known, after its last byte.

use std::time::Duration;

use isolation::{Database, Mandate, TenantKey, TenantTransaction};
use rocket::request::{FromRequest, Outcome, Request};
use sha2::{Digest, Sha256};
use sqlx::PgConnection;
use tokio::time::sleep;
use utoipa::IntoParams;
use utoipa::openapi::path::{Parameter, ParameterIn};
use utoipa::openapi::schema::{Object, Type};

use crate::answer::Answer;
use crate::openapi::optional;
use crate::problem::ApiError;
use crate::requests::Exchange;
use crate::sealing::{Place, Seal};

/// Longest key, in bytes.
const KEY_BYTES_MAX: usize = 255;

/// Pauses after tries to get the lock. A transaction that was given up ends a moment after its answer.
const LOCK_PAUSES: [Duration; 3] = [Duration::from_millis(10), Duration::from_millis(40), Duration::ZERO];

/// What sealed answers belong to, beside the tenant, their route and their key.
const KIND: &str = "idempotency_key";

/// SHA-256 of a body.
pub type Fingerprint = [u8; 32];

/// A request that may come again; that it has no key is as good.
#[derive(Debug)]
pub struct Once {
    /// Method and pattern of the path.
    route: String,
    /// The path itself, with its query.
    target: String,
    key: Option<String>,
}

/// How a request goes on.
pub enum Begun {
    /// It has to be done, in this transaction.
    First(Work),
    /// It has been done: this is what is answered.
    Again(Answer),
}

/// A transaction that keeps the answer of what it does.
pub struct Work {
    transaction: TenantTransaction,
    kept: Option<(Kept, Seal)>,
}

/// Under which key an answer is kept.
struct Kept {
    route: String,
    key: String,
    fingerprint: Fingerprint,
}

impl IntoParams for Once {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let key = Object::builder().schema_type(Type::String).min_length(Some(1)).max_length(Some(KEY_BYTES_MAX));
        let about = "Whoever sends the same again within 24 hours is answered the same, and nothing is done twice";
        vec![optional("Idempotency-Key", ParameterIn::Header, about, key)]
    }
}

impl Once {
    /// A request that takes no key, because doing it again is as good.
    pub fn each_time() -> Self {
        Self { route: String::new(), target: String::new(), key: None }
    }

    /// Begins a transaction of the tenant in which the request is to be done, unless it has been. The caller has checked that it may be.
    ///
    /// # Errors
    /// [`ApiError::IdempotencyMismatch`], [`ApiError::IdempotencyRunning`], or what the database says.
    pub async fn begin(
        self,
        database: &Database,
        seal: &Seal,
        mandate: &Mandate,
        body: &Fingerprint,
    ) -> Result<Begun, ApiError> {
        let tenant = mandate.tenant;
        let mut transaction = database.begin(mandate).await?;
        let Some(key) = self.key else { return Ok(Begun::First(Work { transaction, kept: None })) };
        let fingerprint =
            Sha256::new().chain_update(self.target).chain_update([0]).chain_update(body).finalize().into();
        let kept = Kept { route: self.route, key, fingerprint };
        if !kept.lock(transaction.connection(), tenant).await? {
            return Err(ApiError::IdempotencyRunning);
        }
        // A statement of its own: it sees what was done until the lock was given.
        match kept.find(transaction.connection(), seal, tenant).await {
            Ok(None) => Ok(Begun::First(Work { transaction, kept: Some((kept, seal.clone())) })),
            found => {
                // The lock is given back before the answer: whoever has that may ask again at once.
                transaction.commit().await?;
                found?.map(Begun::Again).ok_or(ApiError::Internal)
            }
        }
    }
}

impl Work {
    /// What statements run on.
    pub fn connection(&mut self) -> &mut PgConnection {
        self.transaction.connection()
    }

    /// The transaction.
    pub fn transaction(&mut self) -> &mut TenantTransaction {
        &mut self.transaction
    }

    /// Makes all that was done last, and the answer with it.
    ///
    /// # Errors
    /// [`ApiError::NoMasterKey`] for a secret that cannot be kept, or what the database says.
    pub async fn commit(mut self, answer: Answer) -> Result<Answer, ApiError> {
        if let Some((kept, seal)) = &self.kept {
            kept.keep(&mut self.transaction, seal, &answer).await?;
        }
        self.transaction.commit().await?;
        Ok(answer)
    }
}

impl Kept {
    /// Takes the lock until the transaction ends; false while somebody else has it. Two keys of the same number keep each other from running
    /// at once, and from nothing else.
    async fn lock(&self, connection: &mut PgConnection, tenant: TenantKey) -> Result<bool, ApiError> {
        let hash = Sha256::new().chain_update(tenant.as_uuid()).chain_update(&self.route);
        let hash: [u8; 32] = hash.chain_update([0]).chain_update(&self.key).finalize().into();
        let mut number = [0; 8];
        number.copy_from_slice(&hash[..8]);
        let number = i64::from_be_bytes(number);
        for pause in LOCK_PAUSES {
            let lock = sqlx::query_scalar!(r#"SELECT pg_try_advisory_xact_lock($1) AS "is_ours!""#, number);
            if lock.fetch_one(&mut *connection).await? {
                return Ok(true);
            }
            sleep(pause).await;
        }
        Ok(false)
    }

    /// What it belongs to when it is sealed.
    fn name(&self) -> String {
        format!("{} {}", self.route, self.key)
    }

    async fn find(
        &self,
        connection: &mut PgConnection,
        seal: &Seal,
        tenant: TenantKey,
    ) -> Result<Option<Answer>, ApiError> {
        let found = sqlx::query!(
            "SELECT fingerprint, status, etag, location, body, is_sealed FROM idempotency_keys
             WHERE route = $1 AND key = $2 AND created_at > now() - interval '24 hours'",
            self.route,
            self.key
        );
        let Some(row) = found.fetch_optional(connection).await? else { return Ok(None) };
        if row.fingerprint != self.fingerprint {
            return Err(ApiError::IdempotencyMismatch);
        }
        let body = if row.is_sealed {
            let place = Place { tenant, kind: KIND, name: &self.name() };
            seal.open(&row.body, place)?
        } else {
            row.body
        };
        let status = row.status.unsigned_abs();
        let (etag, location) = (row.etag, row.location);
        Ok(Some(Answer { status, etag, location, body, is_secret: row.is_sealed, is_replay: true }))
    }

    async fn keep(&self, transaction: &mut TenantTransaction, seal: &Seal, answer: &Answer) -> Result<(), ApiError> {
        let tenant = transaction.tenant();
        let sealed = if answer.is_secret {
            let place = Place { tenant, kind: KIND, name: &self.name() };
            Some(seal.seal(&answer.body, place)?.ok_or(ApiError::NoMasterKey)?)
        } else {
            None
        };
        sqlx::query!(
            "INSERT INTO idempotency_keys (tenant_id, route, key, fingerprint, status, etag, location, body, is_sealed)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
             ON CONFLICT (tenant_id, route, key) DO UPDATE SET
                 fingerprint = $4, status = $5, etag = $6, location = $7, body = $8, is_sealed = $9, created_at = now()",
            tenant.as_uuid(),
            self.route,
            self.key,
            &self.fingerprint[..],
            answer.status as i16,
            answer.etag,
            answer.location,
            sealed.as_deref().unwrap_or(&answer.body),
            answer.is_secret
        )
        .execute(transaction.connection())
        .await?;
        Ok(())
    }
}

/// Seals a tenant's kept answers with the newest master key; how many that were. One that does not open is forgotten: it can be
/// given to nobody any more.
///
/// # Errors
/// What the database says, or [`ApiError::NoMasterKey`].
pub async fn reseal(transaction: &mut TenantTransaction, seal: &Seal) -> Result<u64, ApiError> {
    let tenant = transaction.tenant();
    let rows =
        sqlx::query!("SELECT route, key, body FROM idempotency_keys WHERE is_sealed ORDER BY route, key FOR UPDATE")
            .fetch_all(transaction.connection())
            .await?;
    let mut resealed = 0;
    for row in rows.into_iter().filter(|row| !seal.is_newest(&row.body)) {
        let place = Place { tenant, kind: KIND, name: &format!("{} {}", row.route, row.key) };
        let Ok(body) = seal.open(&row.body, place) else {
            sqlx::query!("DELETE FROM idempotency_keys WHERE route = $1 AND key = $2", row.route, row.key)
                .execute(transaction.connection())
                .await?;
            continue;
        };
        let sealed = seal.seal(&body, place)?.ok_or(ApiError::NoMasterKey)?;
        sqlx::query!("UPDATE idempotency_keys SET body = $3 WHERE route = $1 AND key = $2", row.route, row.key, sealed)
            .execute(transaction.connection())
            .await?;
        resealed += 1;
    }
    Ok(resealed)
}

/// The key of a request, if it has one.
fn key(request: &Request<'_>) -> Result<Option<String>, ApiError> {
    let mut all = request.headers().get("Idempotency-Key");
    let Some(key) = all.next() else { return Ok(None) };
    let is_allowed = (1..=KEY_BYTES_MAX).contains(&key.len()) && key.bytes().all(|byte| (b' '..=b'~').contains(&byte));
    if is_allowed && all.next().is_none() { Ok(Some(key.to_owned())) } else { Err(ApiError::BadIdempotencyKey) }
}

#[rocket::async_trait]
impl<'r> FromRequest<'r> for Once {
    type Error = ();

    async fn from_request(request: &'r Request<'_>) -> Outcome<Self, ()> {
        let pattern = request.route().map(|route| route.uri.as_str()).unwrap_or_default();
        let once =
            |key| Self { route: format!("{} {pattern}", request.method()), target: request.uri().to_string(), key };
        Exchange::outcome(request, key(request).map(once))
    }
}

/// A request that cannot be kept: with a key it is refused, so that nobody relies on what is not there.
#[derive(Debug)]
pub struct NotKept;

#[rocket::async_trait]
impl<'r> FromRequest<'r> for NotKept {
    type Error = ();

    async fn from_request(request: &'r Request<'_>) -> Outcome<Self, ()> {
        let refused = key(request).and_then(|key| match key {
            None => Ok(Self),
            Some(_) => Err(ApiError::IdempotencyUnsupported),
        });
        Exchange::outcome(request, refused)
    }
}
