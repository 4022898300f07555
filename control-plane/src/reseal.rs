//! `control-plane reseal`: seals every secret with the newest master key, so that those before it can be taken out of the settings.
//!
//! One tenant at a time, each in a transaction of its own: it may be stopped and begun again.

use anyhow::Context;
use isolation::{Actor, Author, Database, Mandate, TenantKey};
use tenancy::feed::kind;

use crate::config::ControlPlaneSettings;
use crate::sealing::{Place, Seal};
use crate::{idempotency, webhooks, workflows};

/// Tenants that are listed in one go.
const PAGE: i32 = 1000;

/// Seals anew whatever was not sealed with the newest key; how many secrets that were.
///
/// # Errors
/// When the database cannot be reached, or a secret was sealed with a key that is not in the settings.
pub async fn run(settings: &ControlPlaneSettings) -> anyhow::Result<u64> {
    let database = Database::open(&settings.database()).context("control-plane.database_url")?;
    let seal = settings.seal();
    let (mut after, mut resealed) = (String::new(), 0);
    loop {
        let page = sqlx::query!(r#"SELECT id AS "id!", slug AS "slug!" FROM list_tenants($1, $2)"#, after, PAGE)
            .fetch_all(database.across())
            .await?;
        for tenant in &page {
            resealed += of_tenant(&database, &seal, tenant.id.into()).await.with_context(|| tenant.slug.clone())?;
        }
        let Some(last) = page.last() else { return Ok(resealed) };
        after.clone_from(&last.slug);
    }
}

async fn of_tenant(database: &Database, seal: &Seal, tenant: TenantKey) -> anyhow::Result<u64> {
    let mut transaction = database.begin(&Mandate::new(tenant, &Author::new(Actor::System, "reseal"))).await?;
    let keys = sqlx::query!("SELECT kid, secret FROM signing_keys ORDER BY kid FOR UPDATE")
        .fetch_all(transaction.connection())
        .await?;
    let anew = |sealed: &[u8], kind, name: &str| {
        let place = Place { tenant, kind, name };
        let secret = seal.open(sealed, place).with_context(|| format!("{kind} {name}"))?;
        seal.seal(&secret, place)?.context("no master key is set")
    };
    let mut resealed = 0;
    for key in keys.iter().filter(|key| !seal.is_newest(&key.secret)) {
        let sealed = anew(&key.secret, kind::SIGNING_KEY, &key.kid)?;
        sqlx::query!("UPDATE signing_keys SET secret = $2 WHERE kid = $1", key.kid, sealed)
            .execute(transaction.connection())
            .await?;
        resealed += 1;
    }
    let origins =
        sqlx::query!(r#"SELECT name, secrets AS "secrets!" FROM origins WHERE secrets IS NOT NULL FOR UPDATE"#)
            .fetch_all(transaction.connection())
            .await?;
    for origin in origins.iter().filter(|origin| !seal.is_newest(&origin.secrets)) {
        let sealed = anew(&origin.secrets, kind::ORIGIN, &origin.name)?;
        sqlx::query!("UPDATE origins SET secrets = $2 WHERE name = $1", origin.name, sealed)
            .execute(transaction.connection())
            .await?;
        resealed += 1;
    }
    resealed += webhooks::reseal(&mut transaction, seal).await?;
    resealed += workflows::reseal(&mut transaction, seal).await?;
    resealed += idempotency::reseal(&mut transaction, seal).await?;
    transaction.commit().await?;
    Ok(resealed)
}
