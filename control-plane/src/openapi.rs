//! The API's description (OpenAPI 3.1), made of the routes themselves, and a page to read it with.
//!
//! What holds for every request is added to each here: how refusals look, and which key is needed. Must not describe what a route does:
//! that stands at the route.

use std::sync::LazyLock;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rocket::http::{ContentType, Header};
use rocket::response::content::RawHtml;
use rocket::{Responder, get};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use utoipa::OpenApi;
use utoipa::openapi::path::{Parameter, ParameterIn};
use utoipa::openapi::{Required, Schema};

use crate::problem::Problem;
use crate::routes::{InternalApi, PublicApi};
use crate::server;

#[derive(OpenApi)]
#[openapi(
    info(title = "Calotype", description = "Tenants, their keys, and what they set."),
    nest((path = "/v1", api = PublicApi), (path = "/internal/v1", api = InternalApi)),
    paths(server::healthz, server::readyz, server::prometheus_metrics),
    components(schemas(Problem)),
    tags(
        (name = "tenants", description = "By the operator"),
        (name = "api keys", description = "What a tenant comes with"),
        (name = "signing keys", description = "What delivery URLs are signed with"),
        (name = "domains", description = "Hosts of a tenant's own"),
        (name = "media", description = "What a tenant has uploaded"),
        (name = "uploads", description = "Files on their way in: part by part, or resumable"),
        (name = "folders", description = "Where it is in"),
        (name = "tags", description = "What it is tagged with"),
        (name = "collections", description = "Put together by hand"),
        (name = "downloads", description = "Many files as one"),
        (name = "jobs", description = "What workers do with it"),
        (name = "events", description = "What has happened"),
        (name = "webhooks", description = "Where events are sent"),
        (name = "workflows", description = "What it goes through before it is delivered"),
        (name = "presets", description = "Registered sets of ops"),
        (name = "policy", description = "What a tenant is allowed"),
        (name = "overlays", description = "Registered images"),
        (name = "origins", description = "Where pictures come from"),
        (name = "usage", description = "What a tenant has used"),
        (name = "quotas", description = "What it may use"),
        (name = "audit log", description = "Who has changed what"),
        (name = "purges", description = "Taking pictures back"),
        (name = "edges", description = "What edges are told, and tell"),
        (name = "operation", description = "Health, metrics, and this description")
    )
)]
struct Description;

/// The key of a tenant, as routes name it.
const TENANT: &str = "tenantKey";

static DOCUMENT: LazyLock<String> = LazyLock::new(|| document().to_string());

const PAGE: &str = include_str!("openapi/page.html");

/// The page may do what its own script does, ask this server, and nothing else.
static PAGE_POLICY: LazyLock<String> = LazyLock::new(|| {
    let hash = |tag: &str| {
        let (start, end) = (format!("<{tag}>"), format!("</{tag}>"));
        let inner = PAGE.split_once(&start).and_then(|(_, rest)| rest.split_once(&end)).map(|(inner, _)| inner);
        format!("'sha256-{}'", STANDARD.encode(Sha256::digest(inner.unwrap_or_default())))
    };
    format!(
        "default-src 'none'; connect-src 'self'; script-src {}; style-src {}; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        hash("script"),
        hash("style")
    )
});

/// This description.
#[utoipa::path(tag = "operation", responses((status = 200, description = "It", content_type = "application/json")))]
#[get("/openapi.json")]
pub fn description() -> (ContentType, &'static str) {
    (ContentType::JSON, text())
}

/// This description, as JSON.
pub fn text() -> &'static str {
    &DOCUMENT
}

/// A page.
#[derive(Responder)]
pub struct Page {
    html: RawHtml<&'static str>,
    policy: Header<'static>,
}

/// A page to read this description with. It loads nothing from elsewhere.
#[utoipa::path(tag = "operation", responses((status = 200, description = "It", content_type = "text/html")))]
#[get("/docs")]
pub fn page() -> Page {
    Page { html: RawHtml(PAGE), policy: Header::new("Content-Security-Policy", PAGE_POLICY.as_str()) }
}

/// A parameter that may be left out.
pub fn optional(name: &str, place: ParameterIn, about: &str, schema: impl Into<Schema>) -> Parameter {
    let parameter = Parameter::builder().name(name).parameter_in(place).required(Required::False);
    parameter.description(Some(about)).schema(Some(schema.into())).build()
}

fn document() -> Value {
    let mut document = json!(Description::openapi());
    document["components"]["securitySchemes"] = json!({
        TENANT: { "type": "http", "scheme": "bearer", "description": "A tenant's key, `cal_…`. What it may do is its scopes." },
        "adminKey": { "type": "http", "scheme": "bearer", "description": "The operator's key." },
        "signedUrl": { "type": "apiKey", "in": "query", "name": "signature", "description": "A URL that was given out with its signature." },
        "edgeToken": { "type": "http", "scheme": "bearer", "description": "What edges come with." },
    });
    document["components"]["responses"] = json!({
        "Problem": {
            "description": "It was refused, or failed (RFC 9457). `code` does not change between versions.",
            "content": { "application/problem+json": { "schema": { "$ref": "#/components/schemas/Problem" } } },
        }
    });
    let paths = document["paths"].as_object_mut().into_iter().flat_map(Map::values_mut);
    for operation in paths.filter_map(Value::as_object_mut).flat_map(Map::values_mut) {
        operation["responses"]["default"] = json!({ "$ref": "#/components/responses/Problem" });
        // Functions of several files are called the same.
        let (tag, id) = (&operation["tags"][0], &operation["operationId"]);
        let id = format!("{}_{}", tag.as_str().unwrap_or_default(), id.as_str().unwrap_or_default());
        operation["operationId"] = id.replace(' ', "_").into();
        let told = operation["description"].as_str().map(|text| format!("{text}\n\n")).unwrap_or_default();
        operation["description"] = format!("{told}{}", needed(&operation["security"])).into();
    }
    document
}

/// Which key is needed, in words.
fn needed(security: &Value) -> String {
    let Some((key, scopes)) = security[0].as_object().and_then(|schemes| schemes.iter().next()) else {
        return "No key is needed.".to_owned();
    };
    match (key.as_str(), scopes[0].as_str()) {
        (TENANT, Some(scope)) => format!("Needs a tenant's key with the scope `{scope}`."),
        (TENANT, None) => "Needs a tenant's key, with any scope.".to_owned(),
        ("signedUrl", _) => "Needs no key: the URL is signed.".to_owned(),
        ("adminKey", _) => "Needs the operator's key.".to_owned(),
        _ => "Needs the edge token.".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use isolation::{Database, DatabaseOptions};
    use prometheus::Registry;

    use super::*;
    use crate::auth::Scope;
    use crate::config::{ControlPlaneSettings, SecretText};

    /// Every operation, as method and path.
    fn operations(document: &Value) -> impl Iterator<Item = (String, String, &Value)> {
        let paths = document["paths"].as_object().expect("paths").iter();
        paths.flat_map(|(path, item)| {
            let operations = item.as_object().expect("operations").iter();
            operations.map(move |(method, operation)| (method.to_uppercase(), path.clone(), operation))
        })
    }

    #[tokio::test]
    async fn every_route_is_described_and_nothing_else() {
        let url = SecretText::from("postgres://app@localhost/none".to_owned());
        let settings = ControlPlaneSettings { database_url: url, ..ControlPlaneSettings::default() };
        let options: DatabaseOptions = settings.database();
        let database = Database::open(&options).expect("the URL is good");
        let rocket = server::build(&settings, database, &Registry::new()).expect("a server");
        let routes = rocket.routes().map(|route| {
            let path = route.uri.path().replace('<', "{").replace("..>", "}").replace('>', "}");
            (route.method.to_string(), path)
        });
        let document = document();
        let described = operations(&document).map(|(method, path, _)| (method, path));
        assert_eq!(routes.collect::<BTreeSet<_>>(), described.collect());
    }

    #[test]
    fn it_is_a_whole_document() {
        let document = document();
        assert_eq!(document["openapi"], "3.1.0");
        let text = document.to_string();
        for reference in text.split("\"$ref\":\"#").skip(1).filter_map(|rest| rest.split('"').next()) {
            assert!(document.pointer(reference).is_some(), "{reference} leads nowhere");
        }
        let mut ids = BTreeSet::new();
        let scopes: BTreeSet<_> = Scope::ALL.iter().map(|scope| scope.as_str()).collect();
        for (method, path, operation) in operations(&document) {
            // Read back by the types of the library.
            let read = serde_json::from_value::<utoipa::openapi::path::Operation>(operation.clone());
            read.unwrap_or_else(|error| panic!("{method} {path}: {error}"));
            assert!(ids.insert(operation["operationId"].as_str().expect("an id").to_owned()), "{method} {path}");
            assert!(operation["summary"].as_str().is_some_and(|text| !text.is_empty()), "{method} {path} has no text");
            assert!(operation["responses"].as_object().is_some_and(|all| all.len() > 1), "{method} {path}");
            assert!(operation["tags"][0].is_string(), "{method} {path}");
            let parameters = operation["parameters"].as_array().cloned().unwrap_or_default();
            for name in path.split('{').skip(1).filter_map(|rest| rest.split('}').next()) {
                let is_told = |one: &Value| one["name"] == name && one["in"] == "path";
                assert!(parameters.iter().any(is_told), "{method} {path}: {name}");
            }
            let is_public = path.starts_with("/v1/") && !["/v1/openapi.json", "/v1/docs"].contains(&path.as_str());
            let security = operation["security"][0].as_object();
            assert_eq!(security.is_some(), is_public || path.starts_with("/internal/"), "{method} {path}");
            for scope in security.into_iter().flat_map(Map::values).filter_map(|scopes| scopes[0].as_str()) {
                assert!(scopes.contains(scope), "{method} {path}: {scope}");
                assert!(operation["description"].as_str().is_some_and(|text| text.contains(scope)), "{method} {path}");
            }
        }
        let put = &document["paths"]["/v1/presets/{name}"]["put"];
        assert_eq!(put["security"], json!([{ "tenantKey": ["delivery:write"] }]));
        assert_eq!(
            put["requestBody"]["content"]["application/json"]["schema"]["$ref"],
            "#/components/schemas/PutPreset"
        );
        assert_eq!(document["components"]["schemas"]["PutPreset"]["additionalProperties"], false);
        assert_eq!(document["components"]["schemas"]["Preset"]["properties"]["created_at"]["format"], "date-time");
    }

    #[test]
    fn the_page_loads_nothing_from_elsewhere_and_its_policy_knows_its_script() {
        assert!(!PAGE.contains("http://") && !PAGE.contains("https://") && !PAGE.contains("src="));
        assert!(!PAGE.contains("innerHTML"), "what is described is text");
        assert_eq!(PAGE.matches("<script>").count() + PAGE.matches("<style>").count(), 2);
        assert!(!PAGE_POLICY.contains(&STANDARD.encode(Sha256::digest(""))), "{}", *PAGE_POLICY);
    }
}
