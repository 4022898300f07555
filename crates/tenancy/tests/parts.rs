//! Tenants as the control plane keeps them and edges are told of them.

use serde_json::{Value, json};
use tenancy::feed::{Snapshot, kind};
use tenancy::{Tenant, TenantId, TenantParts, TenantState};

const SECRET: &str = "0123456789abcdefghijklmnopqrstuv";

fn parts() -> TenantParts {
    let mut parts = TenantParts::default();
    for (kind, name, body) in [
        (kind::TENANT, "", json!({ "slug": "shop", "state": "active" })),
        (kind::POLICY, "", json!({ "open": true, "max_age_seconds": 5, "rates": { "requests_per_second": 10 } })),
        (kind::PRESET, "card", json!("w=300")),
        (kind::ORIGIN, "web", json!({ "http": { "base_url": "https://example.com/" }, "tags": ["a"] })),
        (kind::IMAGE, "logo", json!("@web/logo.png")),
        (kind::IMAGE, "mark", json!("brand/mark.png")),
        (kind::DOMAIN, "img.example.com", json!(true)),
        (kind::SIGNING_KEY, "k1", json!(SECRET)),
    ] {
        parts.apply(kind, name, Some(body)).unwrap_or_else(|error| panic!("{error}"));
    }
    parts
}

fn check(parts: &TenantParts) -> Result<Tenant, Vec<String>> {
    let told = |mistakes: Vec<tenancy::Mistake>| mistakes.iter().map(ToString::to_string).collect();
    parts.check(TenantId::new("id")).map_err(told)
}

#[test]
fn parts_make_a_tenant() {
    let tenant = check(&parts()).expect("all of it is good");
    assert_eq!((tenant.id.as_str(), tenant.slug.as_str(), tenant.open), ("id", "shop", true));
    assert_eq!((tenant.presets.len(), tenant.images.len(), tenant.origins.len()), (1, 2, 1));
    assert_eq!(tenant.hosts, ["img.example.com"]);
    assert_eq!(tenant.signing.keys.len(), 1);
    assert_eq!(tenant.freshness.max_age.as_secs(), 5);
    assert!(tenant.rates.requests.is_some());
}

#[test]
fn a_change_of_each_part_is_taken_in_and_back() {
    let mut parts = parts();
    for (kind, name) in [
        (kind::IMAGE, "logo"),
        (kind::ORIGIN, "web"),
        (kind::PRESET, "card"),
        (kind::DOMAIN, "img.example.com"),
        (kind::SIGNING_KEY, "k1"),
        (kind::POLICY, ""),
        // What is not there can be taken back.
        (kind::PRESET, "other"),
    ] {
        parts.apply(kind, name, None).expect("known");
    }
    let tenant = check(&parts).expect("a bare tenant");
    assert!(!tenant.open && tenant.presets.is_empty() && tenant.origins.is_empty() && tenant.hosts.is_empty());
    parts.apply(kind::TENANT, "", Some(json!({ "slug": "shop", "state": "suspended" }))).expect("known");
    assert_eq!(parts.state, TenantState::Suspended);

    let before = parts.clone();
    for (kind, body) in
        [("voice", json!(1)), (kind::PRESET, json!(7)), (kind::TENANT, Value::Null), (kind::POLICY, json!([]))]
    {
        parts.apply(kind, "x", Some(body)).expect_err(kind);
        assert!(parts == before, "{kind}");
    }
}

#[test]
fn mistakes_are_told_by_the_keys_of_the_policy_file_and_without_secrets() {
    let mut parts = parts();
    parts.policy.insert("opne".to_owned(), json!(true));
    assert!(check(&parts).expect_err("unknown")[0].starts_with("opne: unknown field"));
    parts.policy = serde_json::from_value(json!({ "rates": { "requests_per_second": "x" } })).expect("an object");
    assert!(check(&parts).expect_err("no number")[0].starts_with("rates.requests_per_second: expected u32"));
    for own in ["hosts", "images", "keys", "origins", "presets"] {
        parts.policy = serde_json::from_value(json!({ own: {} })).expect("an object");
        assert_eq!(check(&parts).expect_err(own), [format!("{own}: it is not a part of the policy")]);
    }
    parts.policy = serde_json::from_value(json!({ "unsigned": { "presets": ["gone"] } })).expect("an object");
    parts.images.insert("b".to_owned(), "@gone/x".to_owned());
    parts.images.insert("c".to_owned(), "https://example.com/x".to_owned());
    parts.origins.insert("s3".to_owned(), json!({ "s3": { "bucket": "a/b", "region": "x.evil.example" } }));
    let mistakes = check(&parts).expect_err("four mistakes");
    for start in ["unsigned.presets: ", "images.b: ", "images.c: ", "origins.s3.s3.bucket: ", "origins.s3.s3.region: "]
    {
        assert!(mistakes.iter().any(|mistake| mistake.starts_with(start)), "{start} in {mistakes:?}");
    }
    parts.origins.insert("s3".to_owned(), json!({ "s3": { "bucket": "b", "secret_access_key": 774411 } }));
    let told = check(&parts).expect_err("a wrong type").join("\n");
    assert!(told.contains("origins.s3.s3.secret_access_key: expected a string") && !told.contains("774411"), "{told}");
    assert!(!format!("{parts:?}").contains(SECRET));
}

#[test]
fn a_snapshot_is_read_whatever_else_a_later_version_says() {
    let text = json!({
        "epoch": "e", "seq": 7, "next": null, "voice": 1,
        "tenants": [{ "id": "x", "slug": "a", "state": "active", "policy": {}, "signing_keys": { "k": SECRET }, "voice": 1 }],
    });
    let snapshot: Snapshot = serde_json::from_value(text).expect("is one");
    let tenant = &snapshot.tenants[0];
    assert_eq!((tenant.id.as_str(), tenant.parts.slug.as_str(), snapshot.seq), ("x", "a", 7));
    // What is written out can be read again, secrets included.
    let again: TenantParts =
        serde_json::from_value(serde_json::to_value(&tenant.parts).expect("is JSON")).expect("read");
    assert!(again == tenant.parts);
}
