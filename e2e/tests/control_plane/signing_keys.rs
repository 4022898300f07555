//! Signing keys: secrets that are shown once, sealed at rest, and sealed anew with another master key.

use http::Method;
use serde_json::json;
use sqlx::{PgPool, Row};
use testkit::control_plane::{ControlPlane, MASTER_KEY};
use testkit::database::TestDatabase;

use crate::support::{ok, problem};

const OTHER_KEY: &str = "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=";
const SECRET: &str = "a secret that an application has already";

#[tokio::test]
async fn a_secret_is_shown_once_and_sealed_in_the_database_and_the_feed() {
    let api = ControlPlane::start().await;
    let shop = api.tenant("shop").await;
    let create = async |body| api.json(Method::POST, &shop.key, "/v1/signing-keys", &body).await;
    let made = ok(&create(json!({"kid": "k1"})).await, 201);
    assert_eq!(made["secret"].as_str().map(str::len), Some(43));
    let given = create(json!({"kid": "k2", "secret": SECRET})).await;
    assert_eq!(
        (ok(&given, 201)["secret"].as_str(), given.header("location")),
        (Some(SECRET), Some("/v1/signing-keys/k2"))
    );
    problem(&create(json!({"kid": "k2"})).await, 409, "exists");
    let page = ok(&api.get(&shop.key, "/v1/signing-keys").await, 200);
    let kids: Vec<_> = page["items"].as_array().expect("a list").iter().map(|key| key["kid"].clone()).collect();
    assert_eq!(kids, ["k1", "k2"]);
    ok(&api.delete(&shop.key, "/v1/signing-keys/k1").await, 204);
    problem(&api.delete(&shop.key, "/v1/signing-keys/k1").await, 404, "not-found");

    let superuser = PgPool::connect(&api.database.superuser_url()).await.expect("reached");
    let row = "SELECT (SELECT string_agg(encode(secret, 'escape'), ' ') FROM signing_keys),
        (SELECT string_agg(coalesce(body::text, 'null'), ' ' ORDER BY seq) FROM feed_events WHERE kind = 'signing_key')";
    let row = sqlx::query(row).fetch_one(&superuser).await.expect("read");
    let (kept, told): (String, String) = (row.get(0), row.get(1));
    assert!(!kept.contains(SECRET) && !told.contains(SECRET));
    assert!(told.matches("sealed").count() == 2 && told.ends_with("null"), "{told}");
    let everything = format!("{:?} {}", api.events(), api.log());
    assert!(!everything.contains(SECRET));
}

#[tokio::test]
async fn what_is_not_allowed_is_told_and_a_secret_is_not_repeated() {
    let api = ControlPlane::start().await;
    let shop = api.tenant("shop").await;
    for (kid, secret) in [
        ("", SECRET),
        ("a/b", SECRET),
        ("é", SECRET),
        (&"k".repeat(64), SECRET),
        ("k", "short"),
        ("k", &"x".repeat(257)),
    ] {
        let body = json!({ "kid": kid, "secret": secret });
        let answer = api.json(Method::POST, &shop.key, "/v1/signing-keys", &body).await;
        let detail = problem(&answer, 422, "bad-field");
        assert!(!detail.contains(secret), "{detail}");
    }
    let reader = json!({"name": "reader", "scopes": ["media:read"]});
    let reader = ok(&api.json(Method::POST, &shop.key, "/v1/api-keys", &reader).await, 201);
    problem(&api.get(reader["key"].as_str().expect("a key"), "/v1/signing-keys").await, 403, "scope-missing");
}

#[tokio::test]
async fn without_a_master_key_no_secret_is_taken() {
    let api = ControlPlane::start_with(TestDatabase::new().await, &[]).await;
    let shop = api.tenant("shop").await;
    let answer = api.json(Method::POST, &shop.key, "/v1/signing-keys", &json!({"kid": "k"})).await;
    problem(&answer, 501, "no-master-key");
    assert_eq!(ok(&api.get(&shop.key, "/v1/signing-keys").await, 200)["items"], json!([]));
}

#[tokio::test]
async fn a_master_key_is_replaced_without_losing_a_secret() {
    let api = ControlPlane::start().await;
    for slug in ["blog", "shop"] {
        let tenant = api.tenant(slug).await;
        for kid in ["k1", "k2"] {
            ok(
                &api.json(Method::POST, &tenant.key, "/v1/signing-keys", &json!({"kid": kid, "secret": SECRET})).await,
                201,
            );
        }
    }
    let told = |output: &std::process::Output| String::from_utf8_lossy(&output.stderr).into_owned();
    let new = ("MASTER_KEY", OTHER_KEY.to_owned());
    let both = [new.clone(), ("PREVIOUS_MASTER_KEYS", format!("[\"{MASTER_KEY}\"]"))];
    // Without the old key nothing can be opened, and nothing is changed.
    let without = api.run(&["reseal"], std::slice::from_ref(&new)).await;
    assert!(!without.status.success() && told(&without).contains("cannot be opened"), "{}", told(&without));
    for secrets in [4, 0] {
        let done = api.run(&["reseal"], &both).await;
        assert!(done.status.success() && told(&done).contains(&format!("\"secrets\":{secrets}")), "{}", told(&done));
    }
    let done = api.run(&["reseal"], &[new]).await;
    assert!(done.status.success(), "the old key is not needed any more: {}", told(&done));
}
