//! The static policy file: what it gives, and that every mistake is named.

use std::time::Duration;

use tenancy::{OriginKind, PolicyError, PolicyFile, Tenant};
use transform_url::OriginName;

fn of<'a>(tenants: &'a [Tenant], slug: &str) -> &'a Tenant {
    tenants.iter().find(|tenant| tenant.slug.as_str() == slug).expect("there")
}

#[test]
fn a_full_policy_is_read() {
    let policy = PolicyFile::load(
        r#"
        [tenants.demo]
        open = true
        originals = true
        hosts = ["Img.Example.com"]
        max_age_seconds = 5
        presets.card = "w=300,fit=cover"
        origins.local.folder = "/srv/photos"

        [tenants.shop.origins.s3main.s3]
        bucket = "shop"
        prefix = "photos/"
        endpoint = "http://127.0.0.1:9000"
        access_key_id = "id"
        secret_access_key = "very secret"
        "#,
    )
    .expect("is a policy");
    let demo = of(&policy, "demo");
    assert!(demo.open && demo.originals);
    assert_eq!(demo.freshness.max_age, Duration::from_secs(5));
    assert_eq!(demo.freshness.stale_while_revalidate, Duration::from_secs(86_400));
    assert_eq!(demo.presets.len(), 1);
    assert_eq!(demo.hosts, ["img.example.com"]);
    let shop = of(&policy, "shop");
    assert!(!shop.open && !shop.originals, "closed unless told");
    let origin = &shop.origins[&OriginName::new("s3main").expect("a name")];
    let OriginKind::S3(s3) = &origin.kind else { panic!("{origin:?}") };
    assert_eq!((s3.bucket.as_str(), s3.prefix.as_str(), s3.region.as_str()), ("shop", "photos/", "us-east-1"));
    assert!(!format!("{policy:?}").contains("very secret"), "a secret is never printed");
}

#[test]
fn an_origins_identity_ignores_credentials_but_not_the_bucket() {
    let identity = |s3: &str| {
        let text = format!("[tenants.a.origins.x.s3]\n{s3}");
        let policy = PolicyFile::load(&text).expect("is a policy");
        of(&policy, "a").origins[&OriginName::new("x").expect("a name")].identity()
    };
    let plain = identity("bucket = 'b'");
    assert_eq!(plain, identity("bucket = 'b'\naccess_key_id = 'i'\nsecret_access_key = 's'"));
    assert_ne!(plain, identity("bucket = 'c'"));
    assert_ne!(plain, identity("bucket = 'b'\nprefix = 'p/'"));
    assert_ne!(plain, identity("bucket = 'b'\nendpoint = 'http://h'"));
}

#[test]
fn every_mistake_is_reported_at_once() {
    let error = PolicyFile::load(
        r#"
        [tenants.Bad]
        [tenants.metrics]
        [tenants.demo]
        hosts = ["http://x", "a.example"]
        max_age_seconds = 99999999999
        presets.wide = "widht=3"
        presets.nested = "p=wide"
        presets."No" = "w=1"
        images.elsewhere = "@nowhere/a.png"
        images.upload = "a.png"
        images.escape = "@local/../a.png"
        images."No" = "@local/a.png"
        origins.local.folder = "photos"
        origins.local.tags = ["two words"]
        origins.none = {}
        origins."Up".folder = "/x"
        origins.two = { folder = "/x", http = { base_url = "https://a.example/" } }
        origins.user.http = { base_url = "https://user:password@a.example/" }
        origins.open_end.http = { base_url = "https://a.example/img" }
        origins.scheme.http = { base_url = "ftp://a.example/" }
        origins.web.http = { base_url = "http://a.example/", allow_private = ["http://x", "*.a", ""], headers = { Host = "x", "a b" = "x", "x-key" = "a\nhush" } }
        allowed_urls = ["example.com/*"]
        origins.s = { s3 = { bucket = "", prefix = "/p", endpoint = "host:9000", access_key_id = "half" } }
        [tenants.other]
        hosts = ["A.example"]
        "#,
    )
    .expect_err("has mistakes");
    let PolicyError::Mistakes(mistakes) = error else { panic!("{error}") };
    let keys: Vec<&str> = mistakes.iter().map(|mistake| mistake.key.as_str()).collect();
    for key in [
        "tenants.Bad",
        "tenants.metrics",
        "tenants.demo.hosts",
        "tenants.demo.max_age_seconds",
        "tenants.demo.presets.wide",
        "tenants.demo.presets.nested",
        "tenants.demo.presets.No",
        "tenants.demo.images.elsewhere",
        "tenants.demo.images.upload",
        "tenants.demo.images.escape",
        "tenants.demo.images.No",
        "tenants.demo.origins.local.folder",
        "tenants.demo.origins.local.tags",
        "tenants.demo.origins.none",
        "tenants.demo.origins.Up",
        "tenants.demo.origins.two",
        "tenants.demo.origins.user.http.base_url",
        "tenants.demo.origins.open_end.http.base_url",
        "tenants.demo.origins.scheme.http.base_url",
        "tenants.demo.origins.web.http.allow_private",
        "tenants.demo.origins.web.http.headers.Host",
        "tenants.demo.origins.web.http.headers.a b",
        "tenants.demo.origins.web.http.headers.x-key",
        "tenants.demo.allowed_urls",
        "tenants.demo.origins.s.s3.bucket",
        "tenants.demo.origins.s.s3.prefix",
        "tenants.demo.origins.s.s3.endpoint",
        "tenants.demo.origins.s.s3",
        "tenants.other.hosts",
    ] {
        assert!(keys.contains(&key), "{key} is missing in {keys:#?}");
    }
    let told = format!("{mistakes:?}");
    assert!(!told.contains("password@") && !told.contains("hush"), "{told}");
}

#[test]
fn unknown_keys_and_types_are_refused_with_their_place() {
    for text in [
        "[tenants.a]\nopne = true",
        "[tenants.a]\nopen = 'yes'",
        "tenant = 1",
        "[tenants.a",
        "[tenants.a.origins.x.s3]\nprefix = 'p'",
    ] {
        let error = PolicyFile::load(text).expect_err(text);
        assert!(matches!(error, PolicyError::Syntax { .. }), "{error}");
        assert!(error.to_string().contains("line"), "{error}");
    }
}

/// The policy that is the one block of TOML in a guide.
fn documented(guide: &str) -> Vec<Tenant> {
    let path = format!("{}/../../{guide}", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(path).expect("the guide is there");
    assert_eq!(text.matches("```toml\n").count(), 1, "another example is another test");
    let (_, rest) = text.split_once("```toml\n").expect("counted");
    let (example, _) = rest.split_once("```").expect("it ends");
    PolicyFile::load(example).expect("is a policy")
}

/// The example that users copy is a policy.
#[test]
fn the_documented_example_is_read() {
    let policy = documented("docs/policy.md");
    let demo = of(&policy, "demo");
    assert_eq!((demo.presets.len(), demo.images.len(), demo.origins.len(), demo.hosts.len()), (1, 2, 3, 1));
    assert_eq!(demo.urls.allowed.len(), 2);
    assert_eq!((demo.signing.keys.len(), demo.signing.unsigned.widths.len()), (1, 2));
}

#[test]
fn the_example_of_the_guide_to_signing_is_read() {
    let policy = documented("docs/signing.md");
    let signing = &of(&policy, "demo").signing;
    assert!(signing.expiry_required && !signing.required);
    let unsigned = &signing.unsigned;
    assert_eq!((signing.keys.len(), unsigned.widths.len(), unsigned.presets.len()), (2, 2, 1));
}

/// The file that `deploy` offers to start from.
#[test]
fn the_deployed_example_is_read() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy/policy.toml");
    let text = std::fs::read_to_string(path).expect("it is there");
    let policy = PolicyFile::load(&text).expect("is a policy");
    let shop = of(&policy, "shop");
    assert_eq!((shop.signing.unsigned.presets.len(), shop.signing.unsigned.widths.len()), (1, 3));
}

#[test]
fn rates_are_read_and_a_burst_is_a_second_unless_told() {
    let rates = |text: &str| {
        let policy = PolicyFile::load(&format!("[tenants.a]\n{text}"))?;
        Ok::<_, PolicyError>(of(&policy, "a").rates)
    };
    let numbers = |rate: Option<tenancy::Rate>| rate.map(|rate| (rate.per_second.get(), rate.burst.get()));
    let none = rates("").expect("is a policy");
    assert_eq!((none.requests, none.fills), (None, None), "no limit unless told");
    let both = rates("rates = { requests_per_second = 100, requests_burst = 300, fills_per_second = 5 }");
    let both = both.expect("is a policy");
    assert_eq!((numbers(both.requests), numbers(both.fills)), (Some((100, 300)), Some((5, 5))));

    let refused = rates("rates = { requests_burst = 3, fills_per_second = 1000001 }");
    let Err(PolicyError::Mistakes(mistakes)) = refused else { panic!("{refused:?}") };
    let told: Vec<String> = mistakes.iter().map(ToString::to_string).collect();
    assert_eq!(
        told,
        [
            "tenants.a.rates.requests_burst: 3 is not allowed: a burst needs a rate",
            "tenants.a.rates.fills_per_second: 1000001 is not allowed: at most 1000000",
        ]
    );
    assert!(matches!(rates("rates = { requests_per_second = -1 }"), Err(PolicyError::Syntax { .. })));
    assert!(matches!(rates("rates = { request_per_second = 1 }"), Err(PolicyError::Syntax { .. })));
}
