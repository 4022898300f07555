//! Tenants and media that are there before anything is measured, made in the database itself.
//!
//! The rows are as the API would have made them; their bytes are in no store, since nothing here reads them.

use super::service::Service;

/// Tenants whose requests are measured.
pub const TENANTS: usize = 1000;

/// Media of each.
pub const MEDIA: usize = 1000;

/// Rows that are made at a time.
const AT_ONCE: usize = 250;

/// The key of a tenant, which may do everything.
pub fn key(tenant: usize) -> String {
    format!("cal_{:0>43}", format!("{tenant}A"))
}

/// The id of a tenant.
pub fn tenant(tenant: usize) -> String {
    format!("00000000-0000-7000-9000-{tenant:012x}")
}

/// The name of a tenant in URLs.
pub fn slug(tenant: usize) -> String {
    format!("t{tenant}")
}

/// The id of a medium of a tenant: the greater the later, as in version 7.
pub fn medium(tenant: usize, number: usize) -> String {
    format!("{tenant:08x}-{number:04x}-7000-8000-000000000000")
}

/// Makes the tenants of these numbers, each with a key, a policy and ten presets.
///
/// # Errors
/// When the database refuses.
pub async fn tenants(service: &Service, from: usize, to: usize) -> anyhow::Result<()> {
    let numbers = format!("generate_series({from}, {}) AS n", to - 1);
    let id = "('00000000-0000-7000-9000-' || lpad(to_hex(n), 12, '0'))::uuid";
    service
        .sql(&format!(
            "SET session_replication_role = replica;
             INSERT INTO tenants (id, slug, name) SELECT {id}, 't' || n, 'n' FROM {numbers};
             INSERT INTO policies (tenant_id, document) SELECT {id}, '{{\"open\": true, \"originals\": true}}' FROM {numbers};
             INSERT INTO api_keys (tenant_id, id, name, prefix, hash, scopes)
                 SELECT {id}, gen_random_uuid(), 'k', 'cal_000000',
                     sha256(('cal_' || lpad(n || 'A', 43, '0'))::bytea), '{{admin}}' FROM {numbers};
             INSERT INTO presets (tenant_id, name, ops)
                 SELECT {id}, 'p' || p, 'w=' || p FROM {numbers}, generate_series(1, 10) AS p;"
        ))
        .await
}

/// Gives the first [`TENANTS`] their media: of each, every tenth has the tag `t0`, and so on.
///
/// # Errors
/// When the database refuses.
pub async fn media(service: &Service) -> anyhow::Result<()> {
    for from in (0..TENANTS).step_by(AT_ONCE) {
        let tenant = "('00000000-0000-7000-9000-' || lpad(to_hex(n), 12, '0'))::uuid";
        let id = "(lpad(to_hex(n), 8, '0') || '-' || lpad(to_hex(m), 4, '0') || '-7000-8000-000000000000')::uuid";
        let numbers =
            format!("generate_series({from}, {}) AS n, generate_series(0, {}) AS m", from + AT_ONCE - 1, MEDIA - 1);
        service
            .sql(&format!(
                "SET session_replication_role = replica;
                 INSERT INTO media (tenant_id, id, public_id, kind, revision, content_type, bytes, sha256, width, height, tags)
                     SELECT {tenant}, {id}, 'pictures/' || m || '.jpg', 'image', {id}, 'image/jpeg', 100000,
                         sha256('x'), 4000, 3000, ARRAY['t' || m % 10] FROM {numbers};
                 INSERT INTO media_tags (tenant_id, tag, media_id) SELECT {tenant}, 't' || m % 10, {id} FROM {numbers};"
            ))
            .await?;
    }
    service.sql("VACUUM ANALYZE media, media_tags, tenants, api_keys, presets, policies;").await
}
