//! Domains of tenants' own: claimed, proved by a record of a real name server, given up.

use http::Method;
use serde_json::{Value, json};
use testkit::control_plane::{ControlPlane, EDGE_TOKEN, MASTER_KEY, TestTenant};
use testkit::database::TestDatabase;
use testkit::dns::{NameServer, Said};
use testkit::http::Response;

use crate::support::{ok, problem};

async fn start(servers: &[&NameServer]) -> ControlPlane {
    let servers: Vec<_> = servers.iter().map(|server| format!("{:?}", server.address.to_string())).collect();
    let settings = [("DNS_SERVERS", format!("[{}]", servers.join(","))), ("MASTER_KEY", MASTER_KEY.to_owned())];
    ControlPlane::start_with(TestDatabase::new().await, &settings).await
}

async fn claim(api: &ControlPlane, tenant: &TestTenant, host: &str) -> Response {
    api.json(Method::POST, &tenant.key, "/v1/domains", &json!({ "host": host })).await
}

async fn verify(api: &ControlPlane, tenant: &TestTenant, host: &str) -> Response {
    api.json(Method::POST, &tenant.key, &format!("/v1/domains/{host}/verify"), &Value::Null).await
}

/// Sets the record as the answer tells.
fn set(server: &NameServer, claimed: &Value) {
    let text = |name: &str| claimed["record"][name].as_str().expect("a text").to_owned();
    // Other programs have texts there, too.
    server.say(&text("name"), Said::Texts(vec!["v=spf1 -all".to_owned(), text("value")]));
}

/// What edges were told of domains so far.
async fn told(api: &ControlPlane) -> Vec<Value> {
    let all = ok(&api.get(EDGE_TOKEN, "/internal/v1/snapshot").await, 200);
    let epoch = all["epoch"].as_str().expect("an epoch");
    let feed = ok(&api.get(EDGE_TOKEN, &format!("/internal/v1/feed?epoch={epoch}&after=0")).await, 200);
    let events = feed["events"].as_array().expect("a list").iter().filter(|event| event["kind"] == "domain");
    events.map(|event| json!([event["tenant"], event["name"], event["body"]])).collect()
}

#[tokio::test]
async fn a_host_is_claimed_proved_and_given_up() {
    let server = NameServer::start().await;
    let api = start(&[&server]).await;
    let shop = api.tenant("shop").await;
    let answer = claim(&api, &shop, "IMG.Example.com").await;
    let claimed = ok(&answer, 201);
    assert_eq!(answer.header("location"), Some("/v1/domains/img.example.com"));
    assert_eq!((&claimed["host"], &claimed["proved_at"]), (&json!("img.example.com"), &Value::Null));
    let record = &claimed["record"];
    assert_eq!((&record["name"], &record["type"]), (&json!("_calotype.img.example.com"), &json!("TXT")));
    assert!(record["value"].as_str().expect("a text").starts_with("calotype-domain="));
    problem(&claim(&api, &shop, "img.example.com").await, 409, "exists");

    // No such name, another text, and then the right one.
    problem(&verify(&api, &shop, "img.example.com").await, 422, "domain-unproved");
    server.say("_calotype.img.example.com", Said::Texts(vec!["calotype-domain=x".to_owned()]));
    problem(&verify(&api, &shop, "img.example.com").await, 422, "domain-unproved");
    assert!(ok(&api.get(&shop.key, "/v1/domains/img.example.com").await, 200)["checked_at"].is_string());
    assert_eq!(told(&api).await, [] as [Value; 0]);
    set(&server, &claimed);
    let proved = ok(&verify(&api, &shop, "img.example.com").await, 200);
    assert!(proved["proved_at"].is_string(), "{proved}");
    // It stays proved whatever name servers say later.
    server.say("_calotype.img.example.com", Said::Failure);
    assert_eq!(ok(&verify(&api, &shop, "img.example.com").await, 200), proved);
    assert_eq!(ok(&api.get(&shop.key, "/v1/domains/img.example.com").await, 200), proved);
    let page = ok(&api.get(&shop.key, "/v1/domains").await, 200);
    assert_eq!(page["items"], json!([proved]));

    ok(&claim(&api, &shop, "only.claimed.example").await, 201);
    for host in ["img.example.com", "only.claimed.example"] {
        ok(&api.delete(&shop.key, &format!("/v1/domains/{host}")).await, 204);
        problem(&api.get(&shop.key, &format!("/v1/domains/{host}")).await, 404, "not-found");
        problem(&verify(&api, &shop, host).await, 404, "not-found");
    }
    assert_eq!(
        told(&api).await,
        [json!([shop.id, "img.example.com", true]), json!([shop.id, "img.example.com", null])]
    );
}

#[tokio::test]
async fn who_proves_it_first_has_it_and_a_claim_keeps_nobody_out() {
    let server = NameServer::start().await;
    let api = start(&[&server]).await;
    let (shop, blog) = (api.tenant("shop").await, api.tenant("blog").await);
    let (of_shop, of_blog) =
        (ok(&claim(&api, &shop, "img.example.com").await, 201), ok(&claim(&api, &blog, "img.example.com").await, 201));
    assert_ne!(of_shop["record"]["value"], of_blog["record"]["value"]);
    // The one's record is no proof for the other.
    set(&server, &of_blog);
    problem(&verify(&api, &shop, "img.example.com").await, 422, "domain-unproved");
    ok(&verify(&api, &blog, "img.example.com").await, 200);
    set(&server, &of_shop);
    problem(&verify(&api, &shop, "img.example.com").await, 409, "domain-taken");
    assert_eq!(told(&api).await, [json!([blog.id, "img.example.com", true])]);
    ok(&api.delete(&blog.key, "/v1/domains/img.example.com").await, 204);
    ok(&verify(&api, &shop, "img.example.com").await, 200);
}

#[tokio::test]
async fn name_servers_that_fail_are_told_and_proofs_long_after_still_hold() {
    let server = NameServer::start().await;
    let api = start(&[&server]).await;
    let shop = api.tenant("shop").await;
    let claimed = ok(&claim(&api, &shop, "img.example.com").await, 201);
    for said in [Said::Failure, Said::Silence, Said::Garbage] {
        server.say("_calotype.img.example.com", said);
        let answer = verify(&api, &shop, "img.example.com").await;
        problem(&answer, 503, "dns-unavailable");
        assert_eq!(answer.header("retry-after"), Some("1"));
    }
    // A text of several strings is one.
    let long = format!("{}{}", "x".repeat(300), claimed["record"]["value"]);
    server.say("_calotype.img.example.com", Said::Texts(vec![long]));
    problem(&verify(&api, &shop, "img.example.com").await, 422, "domain-unproved");
    set(&server, &claimed);
    ok(&verify(&api, &shop, "img.example.com").await, 200);
}

#[tokio::test]
async fn hosts_that_nobody_can_have_and_more_than_are_kept() {
    let server = NameServer::start().await;
    let api = start(&[&server]).await;
    let shop = api.tenant("shop").await;
    for host in ["", "example", "localhost", "127.0.0.1", "[::1]", "a_b.example", "*.example.com", "example.com:80"] {
        let detail = problem(&claim(&api, &shop, host).await, 422, "bad-field");
        assert!(detail.starts_with("host: "), "{detail}");
    }
    for number in 0..100 {
        ok(&claim(&api, &shop, &format!("h{number}.example")).await, 201);
    }
    assert!(problem(&claim(&api, &shop, "one-more.example").await, 422, "bad-field").contains("at most 100"));
    let reader = json!({"name": "r", "scopes": ["media:write"]});
    let reader = ok(&api.json(Method::POST, &shop.key, "/v1/api-keys", &reader).await, 201);
    let reader = reader["key"].as_str().expect("a key");
    for target in ["/v1/domains", "/v1/domains/h1.example"] {
        problem(&api.get(reader, target).await, 403, "scope-missing");
    }
    problem(&api.delete(reader, "/v1/domains/h1.example").await, 403, "scope-missing");
}
