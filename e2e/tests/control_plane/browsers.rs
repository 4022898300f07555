//! What pages of other origins may do, and the page that describes the API.

use http::Method;
use serde_json::Value;
use testkit::control_plane::{ControlPlane, EDGE_TOKEN};
use testkit::database::TestDatabase;
use testkit::edge::eventually;
use testkit::http::{Request, Response};
use testkit::webdriver::Browser;

use crate::support::{ok, problem};

const OURS: &str = "https://app.example";

async fn start(origins: &str) -> ControlPlane {
    ControlPlane::start_with(TestDatabase::new().await, &[("CORS_ORIGINS", origins.to_owned())]).await
}

async fn preflight(api: &ControlPlane, origin: &str, target: &str, method: &str) -> Response {
    let request = Request::new(Method::OPTIONS, target).header("origin", origin);
    api.send(&request.header("access-control-request-method", method)).await
}

/// Names of all headers that are about other origins.
fn told(answer: &Response) -> Vec<&str> {
    answer.headers.keys().map(|name| name.as_str()).filter(|name| name.starts_with("access-control-")).collect()
}

#[tokio::test]
async fn pages_of_listed_origins_may_use_the_api() {
    let api = start(&format!("[\"{OURS}\", \"http://localhost:3000\"]")).await;
    let shop = api.tenant("shop").await;
    for origin in [OURS, "http://localhost:3000"] {
        let answer = preflight(&api, origin, "/v1/presets/thumb", "PUT").await;
        assert_eq!((answer.status.as_u16(), answer.body.len()), (204, 0));
        assert_eq!(answer.header("access-control-allow-origin"), Some(origin));
        let methods: Vec<_> = answer.header("access-control-allow-methods").expect("some").split(", ").collect();
        for method in ["GET", "PUT", "DELETE", "HEAD", "OPTIONS"] {
            assert!(methods.contains(&method), "{methods:?}");
        }
        assert!(!methods.contains(&"POST"));
        let headers = answer.header("access-control-allow-headers").expect("some");
        for header in ["Authorization", "Content-Type", "Idempotency-Key", "If-Match", "If-None-Match"] {
            assert!(headers.split(", ").any(|name| name == header), "{headers}");
        }
        assert_eq!(answer.header("access-control-max-age"), Some("600"));
        assert_eq!(answer.header("vary"), Some("Origin"));
        let request = Request::get("/v1/presets").header("authorization", format!("Bearer {}", shop.key));
        let answer = api.send(&request.header("origin", origin)).await;
        ok(&answer, 200);
        assert_eq!(answer.header("access-control-allow-origin"), Some(origin));
        let exposed = answer.header("access-control-expose-headers").expect("some");
        for header in ["ETag", "Location", "RateLimit", "RateLimit-Policy", "Retry-After", "X-Request-Id"] {
            assert!(exposed.split(", ").any(|name| name == header), "{exposed}");
        }
        // A refusal can be read as well.
        let refused = api.send(&Request::get("/v1/presets").header("origin", origin)).await;
        problem(&refused, 401, "unauthenticated");
        assert_eq!(refused.header("access-control-allow-origin"), Some(origin));
        for answer in [answer, refused] {
            assert_eq!(answer.header("access-control-allow-credentials"), None);
        }
    }
}

#[tokio::test]
async fn pages_of_other_origins_are_told_nothing() {
    let listed = start(&format!("[\"{OURS}\"]")).await;
    let nobody = start("[]").await;
    for (api, vary) in [(&listed, Some("Origin")), (&nobody, None)] {
        for origin in ["https://evil.example", "https://app.example.evil.example", "http://app.example", "null", ""] {
            let answer = preflight(api, origin, "/v1/presets", "GET").await;
            assert_eq!((answer.status.as_u16(), told(&answer)), (204, vec![]), "{origin}");
            assert_eq!(answer.header("vary"), vary);
            let answer = api.send(&Request::get("/v1/presets").header("origin", origin)).await;
            assert_eq!(told(&answer), [] as [&str; 0], "{origin}");
        }
    }
    // What edges and operators ask for is no page's business, wherever it is from.
    for target in ["/internal/v1/snapshot", "/metrics"] {
        assert_eq!(told(&preflight(&listed, OURS, target, "GET").await), [] as [&str; 0], "{target}");
        let request = Request::get(target).header("authorization", format!("Bearer {EDGE_TOKEN}"));
        assert_eq!(told(&listed.send(&request.header("origin", OURS)).await), [] as [&str; 0], "{target}");
    }
}

#[tokio::test]
async fn every_origin_may_where_that_is_set_and_paths_that_are_not_there_have_no_methods() {
    let api = start("[\"*\"]").await;
    let answer = preflight(&api, "https://any.example", "/v1/presets", "GET").await;
    assert_eq!((answer.status.as_u16(), answer.header("access-control-allow-origin")), (204, Some("*")));
    assert_eq!((answer.header("vary"), answer.header("access-control-allow-credentials")), (None, None));
    assert_eq!(answer.header("allow"), Some("GET, HEAD, OPTIONS"));
    problem(&preflight(&api, "https://any.example", "/v1/unknown", "GET").await, 404, "no-such-path");
    // Every route has a preflight.
    let document = ok(&api.send(&Request::get("/v1/openapi.json")).await, 200);
    for (path, operations) in document["paths"].as_object().expect("paths") {
        let target = path.replace(['{', '}'], "");
        let answer = preflight(&api, "https://any.example", &target, "GET").await;
        assert_eq!(answer.status, 204, "{path}");
        let allowed = answer.header("allow").expect("methods");
        for method in operations.as_object().expect("operations").keys() {
            assert!(allowed.split(", ").any(|one| one.eq_ignore_ascii_case(method)), "{path}: {allowed}");
        }
    }
}

#[tokio::test]
async fn settings_that_are_no_origins_are_told() {
    let api = ControlPlane::start().await;
    for bad in ["[\"app.example\"]", "[\"https://app.example/\"]", "[\"null\"]", "[\"https://*.example\"]"] {
        let done = api.run(&["--check-config"], &[("CORS_ORIGINS", bad.to_owned())]).await;
        assert_eq!(done.status.code(), Some(64), "{bad}");
        assert!(String::from_utf8_lossy(&done.stderr).contains("cors_origins"), "{bad}");
    }
}

#[tokio::test]
async fn the_api_is_described_for_programs_and_for_people() {
    let api = ControlPlane::start().await;
    let answer = api.send(&Request::get("/v1/openapi.json")).await;
    assert_eq!(answer.header("content-type"), Some("application/json"));
    let document = ok(&answer, 200);
    assert_eq!(document["openapi"], "3.1.0");
    let create = &document["paths"]["/v1/api-keys"]["post"];
    assert_eq!(create["responses"]["default"]["$ref"], "#/components/responses/Problem");
    let parameters = create["parameters"].as_array().expect("a list");
    assert!(parameters.iter().any(|one| one["name"] == "Idempotency-Key" && one["in"] == "header"), "{create}");
    assert!(create["description"].as_str().is_some_and(|text| text.contains("`admin`")), "{create}");
    assert_ne!(document["components"]["schemas"]["Problem"], Value::Null);

    let page = api.send(&Request::get("/v1/docs")).await;
    assert_eq!((page.status.as_u16(), page.header("content-type")), (200, Some("text/html; charset=utf-8")));
    let policy = page.header("content-security-policy").expect("one");
    assert!(policy.starts_with("default-src 'none'; connect-src 'self'; script-src 'sha256-"), "{policy}");
}

#[tokio::test]
async fn the_page_that_describes_the_api_works_in_a_browser() {
    let Some(browser) = Browser::start(1200, 1000).await.expect("the driver that is there works") else {
        eprintln!("skipped: chromedriver is not installed");
        return;
    };
    let api = ControlPlane::start().await;
    browser.navigate(&format!("http://{}/v1/docs", api.addr())).await.expect("a page");
    let summary = eventually("the operations", async || browser.find("#presets_put summary").await.ok()).await;
    let document = ok(&api.send(&Request::get("/v1/openapi.json")).await, 200);
    for operation in document["paths"].as_object().expect("paths").values() {
        for told in operation.as_object().expect("operations").values() {
            let id = told["operationId"].as_str().expect("an id");
            browser.find(&format!("#{id}")).await.unwrap_or_else(|_| panic!("{id} is not shown"));
        }
    }
    let about = browser.text(&browser.find("#about").await.expect("there")).await.expect("text");
    assert!(about.starts_with("Tenants, their keys"), "{about}");
    browser.click(&summary).await.expect("it opens");
    let shown = browser.text(&browser.find("#presets_put").await.expect("there")).await.expect("text");
    for part in
        ["PUT", "/v1/presets/{name}", "with the scope `delivery:write`", "If-Match", "\"ops\": string", "201: Made"]
    {
        assert!(shown.contains(part), "{part}: {shown}");
    }
}
