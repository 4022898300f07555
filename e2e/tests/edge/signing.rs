//! Signed URLs: what they open, what does not pass for one, and when they end.

use std::time::{SystemTime, UNIX_EPOCH};

use testkit::edge::{Edge, EdgeSetup, assert_problem, eventually, picture};
use testkit::http::{Request, Response};
use testkit::images;
use transform_url::signing::Message;

use crate::support::{cache_status, photo};

/// Secret of the key `k1` of every tenant here: the same one, so that only the tenant's id keeps them apart.
const K1: &str = "the first secret of 32 bytes or more";

/// Secret of the key `k2`.
const K2: &str = "the second secret, of as many or more";

/// A path that nobody but a signer may ask for, except of an open tenant.
const PATH: &str = "/w=50,f=jpeg/@local/a%20b.jpg";

const MEMORY: &str = "Calotype; hit; detail=memory";

/// An edge with four tenants over one folder: `demo` is open, `shop` lists what goes unsigned, `album` gives away
/// originals only, `vault` nothing.
async fn start() -> Edge {
    let setup = EdgeSetup::new().tenant(&keys());
    let folder = setup.originals().display().to_string();
    let tenant =
        |slug: &str, rules: &str| format!("[tenants.{slug}]\norigins.local.folder = {folder:?}\n{}\n{rules}", keys());
    let shop = "hosts = ['img.shop.example']\npresets.card = 'w=60,h=40,fit=cover,f=png'\npresets.secret = 'w=70'\n\
                unsigned.widths = [32, 64]\nunsigned.presets = ['card']";
    let edge = setup
        .tables(&tenant("shop", shop))
        .tables(&tenant("album", "originals = true"))
        .tables(&tenant("vault", "signed = 'required'\nexpiry_required = true\noriginals = true"))
        .start()
        .await;
    edge.setup().put("a b.jpg", photo(240, 160));
    edge
}

fn keys() -> String {
    format!("keys = {{ k1 = '{K1}', k2 = '{K2}' }}")
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("it is later than 1970").as_secs()
}

/// The message of [`PATH`] signed by `k1` for ever.
fn message(tenant_id: &str) -> Message<'_> {
    Message { tenant_id, path: PATH, expires: None, key: "k1" }
}

/// The target of a URL that is signed as it should be.
fn signed(message: Message<'_>) -> String {
    let secret = if message.key == "k1" { K1 } else { K2 };
    format!("/{}{}?{}", message.tenant_id, message.path, message.query(secret.as_bytes()))
}

/// `max-age` and `stale-while-revalidate` of an answer, in seconds; 0 if it is not there.
fn cache_seconds(answer: &Response) -> (u64, u64) {
    let header = answer.header("cache-control").expect("there");
    let seconds = |name: &str| {
        let value = header.split(", ").find_map(|part| part.strip_prefix(name)?.strip_prefix('='));
        value.map_or(0, |value| value.parse().expect("a number"))
    };
    assert!(!header.contains("immutable"), "{header}");
    (seconds("max-age"), seconds("stale-while-revalidate"))
}

async fn check(edge: &Edge, target: &str, status: u16, code: &str) {
    let answer = edge.get(target).await;
    assert_eq!((target, answer.status.as_u16()), (target, status), "{}", answer.text());
    assert_problem(&answer, status, code);
    assert_eq!(answer.header("cache-control"), Some("no-store"));
}

#[tokio::test]
async fn a_signature_opens_what_is_closed_without_it() {
    let edge = start().await;
    for tenant in ["demo", "shop", "album", "vault"] {
        for key in ["k1", "k2"] {
            for path in [PATH, "/-/@local/a%20b.jpg", "/v=1,dl=x.jpg,rotate=90,w=20/@local/a%20b.jpg"] {
                let target = signed(Message { path, expires: Some(now() + 600), key, ..message(tenant) });
                assert_eq!(edge.get(&target).await.status, 200, "{target}");
                assert_eq!(edge.send(&Request::head(&target)).await.status, 200, "{target}");
            }
        }
    }
    let target = signed(message("shop"));
    picture(&edge.get(&target).await, "image/jpeg");
    // The order of the query is the sender's.
    let (path, query) = target.split_once('?').expect("has a query");
    let (kid, sig) = query.split_once('&').expect("has two parts");
    assert_eq!(edge.get(&format!("{path}?{sig}&{kid}")).await.status, 200);
    check(&edge, &signed(message("vault")), 403, "expiry-required").await;
    edge.stop().await;
}

#[tokio::test]
async fn what_is_not_exactly_what_was_signed_does_not_pass() {
    let edge = start().await;
    let expires = Some(now() + 600);
    for tenant in ["demo", "shop", "vault"] {
        let good = Message { expires, ..message(tenant) };
        let signature = good.sign(K1.as_bytes());
        let query = |kid: &str, signature: &str| format!("exp={}&kid={kid}&sig={signature}", now() + 700);
        let with = |path: &str| format!("/{tenant}{path}?{}", good.query(K1.as_bytes()));
        assert_eq!(edge.get(&with(PATH)).await.status, 200);
        let other_tenant = if tenant == "shop" { "demo" } else { "shop" };
        let of_other_tenant = Message { tenant_id: other_tenant, ..good }.query(K1.as_bytes());
        for target in [
            // The same picture in another spelling of the same path.
            with("/w=50,f=jpeg/@local/a%20%62.jpg"),
            with("/w=50,h=9,f=jpeg/@local/a%20b.jpg"),
            with("/w=50,f=jpeg/@local%2Fa%20b.jpg"),
            with("/w=5%30,f=jpeg/@local/a%20b.jpg"),
            with("/width=50,f=jpeg/@local/a%20b.jpg"),
            with("/f=jpeg,w=50/@local/a%20b.jpg"),
            // Another picture.
            with("/w=51,f=jpeg/@local/a%20b.jpg"),
            with("/w=50,f=jpeg/@local/b.jpg"),
            with("/-/@local/a%20b.jpg"),
            // Another expiry, key, tenant.
            format!("/{tenant}{PATH}?{}", query("k1", &signature)),
            format!("/{tenant}{PATH}?kid=k1&sig={signature}"),
            with(PATH).replace("kid=k1", "kid=k2"),
            format!("/{tenant}{PATH}?{of_other_tenant}"),
            // Not the whole signature, or more than it.
            format!("/{tenant}{PATH}?kid=k1&sig={}", &signature[..42]),
            format!("/{tenant}{PATH}?kid=k1&sig={}", &signature[..1]),
            format!("/{tenant}{PATH}?kid=k1&sig={signature}A"),
            format!("/{tenant}{PATH}?kid=k1&sig={}", "A".repeat(43)),
        ] {
            check(&edge, &target, 403, "signature-mismatch").await;
        }
        for (query, status, code) in [
            (format!("kid=k3&sig={signature}"), 403, "unknown-key"),
            (format!("kid=K1&sig={signature}"), 403, "unknown-key"),
            (format!("sig={signature}"), 400, "signature-incomplete"),
            ("kid=k1".to_owned(), 400, "signature-incomplete"),
            ("exp=9999999999".to_owned(), 400, "signature-incomplete"),
            ("exp=9999999999&kid=k1".to_owned(), 400, "signature-incomplete"),
            (format!("exp=9999999999&sig={signature}"), 400, "signature-incomplete"),
            (format!("exp=&kid=k1&sig={signature}"), 400, "bad-query"),
            (format!("exp=soon&kid=k1&sig={signature}"), 400, "bad-query"),
            (format!("exp=-1&kid=k1&sig={signature}"), 400, "bad-query"),
            (format!("exp=0{}&kid=k1&sig={signature}", now() + 600), 400, "bad-query"),
            (format!("exp=99999999999999999999&kid=k1&sig={signature}"), 400, "bad-query"),
            (format!("kid=k1&sig={signature}="), 400, "bad-query"),
            (format!("kid=k1&sig={}", signature.replace(&signature[..1], "+")), 400, "bad-query"),
            (format!("kid=k1&sig={}", signature.replace(&signature[..1], "%41")), 400, "bad-query"),
            (format!("kid=k1&kid=k1&sig={signature}"), 400, "bad-query"),
            (format!("kid=k1&sig={signature}&w=2"), 400, "bad-query"),
        ] {
            check(&edge, &format!("/{tenant}{PATH}?{query}"), status, code).await;
        }
    }
    edge.stop().await;
}

#[tokio::test]
async fn without_a_valid_signature_nothing_is_told_about_origins_and_presets() {
    let edge = start().await;
    let past = Some(now() - 1);
    for path in ["/w=50,q=1/@nowhere/a.jpg", "/-/@nowhere/a.jpg", "/p=nothere/@local/missing.jpg"] {
        check(&edge, &format!("/vault{path}"), 403, "signature-required").await;
        let wrong = signed(Message { path: "/w=1/@local/a.jpg", expires: past, ..message("vault") });
        let query = wrong.split_once('?').expect("has a query").1;
        check(&edge, &format!("/vault{path}?{query}"), 403, "signature-mismatch").await;
        check(&edge, &signed(Message { path, expires: past, ..message("vault") }), 403, "signature-expired").await;
    }
    check(&edge, "/shop/w=50,q=1/@nowhere/a.jpg", 403, "unsigned-not-allowed").await;
    let expires = Some(now() + 600);
    let path = "/w=50/@nowhere/a.jpg";
    check(&edge, &signed(Message { path, expires, ..message("vault") }), 404, "unknown-origin").await;
    edge.stop().await;
}

#[tokio::test]
async fn unsigned_urls_keep_to_the_tenants_lists() {
    let edge = start().await;
    for (ops, is_allowed) in [
        ("w=32", true),
        ("w=64,f=auto", true),
        ("w=32,dpr=2", true),
        ("w=16,dpr=2", true),
        ("dpr=2,w=32,f=auto", true),
        ("p=card", true),
        ("p=card,f=auto", true),
        ("p=card,w=32", true),
        ("p=card,dpr=1.5", true),
        ("p=card,w=32,dpr=2", true),
        ("w=33", false),
        ("w=64,dpr=2", false),
        ("w=8000,dpr=2", false),
        ("w=32,h=32", false),
        ("w=32,f=webp", false),
        ("w=32,v=1", false),
        ("w=32,dl=a.jpg", false),
        ("w=32,q=70", false),
        ("w=32,fit=scale-down", false),
        ("p=secret", false),
        ("p=nothere", false),
        ("p=card,w=33", false),
        ("p=card,h=40", false),
        ("p=card,v=1", false),
        // Each density would be another rendition.
        ("p=card,dpr=1.0001", false),
        ("p=card,dpr=3.9", false),
    ] {
        let answer = edge.get(&format!("/shop/{ops}/@local/a%20b.jpg")).await;
        if is_allowed {
            assert_eq!((ops, answer.status.as_u16()), (ops, 200), "{}", answer.text());
        } else {
            assert_eq!((ops, answer.status.as_u16()), (ops, 403), "{}", answer.text());
            assert_problem(&answer, 403, "unsigned-not-allowed");
        }
    }
    let refused = edge.get("/shop/w=33/@local/a%20b.jpg").await.text();
    assert!(refused.contains("op \\\"width\\\"") && refused.contains("preset=card and width=32|64"), "{refused}");
    // Nothing that is listed is asked for.
    for ops in ["f=auto", "dpr=2", "dpr=2,f=auto"] {
        check(&edge, &format!("/shop/{ops}/@local/a%20b.jpg"), 403, "signature-required").await;
    }
    for ops in ["w=32", "f=auto", "p=card"] {
        check(&edge, &format!("/album/{ops}/@local/a%20b.jpg"), 403, "signature-required").await;
        check(&edge, &format!("/vault/{ops}/@local/a%20b.jpg"), 403, "signature-required").await;
    }
    assert_eq!(edge.get("/demo/w=33,q=9/@local/a%20b.jpg").await.status, 200, "an open tenant");
    edge.stop().await;
}

#[tokio::test]
async fn originals_go_unsigned_only_where_the_policy_says_so() {
    let edge = start().await;
    let original = "/-/@local/a%20b.jpg";
    for tenant in ["demo", "album"] {
        assert_eq!(edge.get(&format!("/{tenant}{original}")).await.status, 200, "{tenant}");
    }
    check(&edge, &format!("/shop{original}"), 403, "originals-off").await;
    check(&edge, &format!("/vault{original}"), 403, "signature-required").await;
    let message = Message { path: original, expires: Some(now() + 30), ..message("vault") };
    let answer = edge.get(&signed(message)).await;
    assert_eq!(answer.body, photo(240, 160), "byte for byte");
    let (max_age, stale) = cache_seconds(&answer);
    assert!(max_age + stale <= 30, "{max_age} {stale}");
    edge.setup().write_policy(&edge.setup().policy().replace("originals = true", "originals = false"));
    eventually("the new policy", async || (edge.readiness().await["policy_sequence"] == 2).then_some(())).await;
    check(&edge, &format!("/demo{original}"), 403, "originals-off").await;
    assert_eq!(edge.get(&signed(message)).await.status, 200);
    edge.stop().await;
}

#[tokio::test]
async fn a_tenants_own_host_takes_the_same_signature() {
    let edge = start().await;
    let query = message("shop").query(K1.as_bytes());
    let ask = async |host: &str, target: String| edge.send(&Request::get(target).header("host", host)).await;
    let shared = edge.get(&format!("/shop{PATH}?{query}")).await;
    let own = ask("img.shop.example", format!("{PATH}?{query}")).await;
    assert_eq!((own.status.as_u16(), &own.body), (200, &shared.body));
    assert_eq!(cache_status(&own), MEMORY);
    let unsigned = ask("img.shop.example:8080", PATH.to_owned()).await;
    assert_problem(&unsigned, 403, "unsigned-not-allowed");
    let other = ask("img.shop.example", format!("{PATH}?{}", message("demo").query(K1.as_bytes()))).await;
    assert_problem(&other, 403, "signature-mismatch");
    // Elsewhere the same path is one of a tenant "w=50,f=jpeg".
    assert_problem(&ask("example.com", format!("{PATH}?{query}")).await, 400, "bad-path");
    edge.stop().await;
}

#[tokio::test]
async fn an_expired_url_is_refused_however_hot_its_picture_is() {
    let edge = start().await;
    check(&edge, &signed(Message { expires: Some(0), ..message("shop") }), 403, "signature-expired").await;
    check(&edge, &signed(Message { expires: Some(now()), ..message("shop") }), 403, "signature-expired").await;

    let expires = now() + 3;
    let target = signed(Message { expires: Some(expires), ..message("shop") });
    let mut served = 0;
    let refused = eventually("the expiry", async || {
        let answer = edge.get(&target).await;
        if answer.status == 200 {
            served += 1;
            let (max_age, stale) = cache_seconds(&answer);
            assert!(max_age + stale <= 3, "{max_age} {stale}");
            assert_eq!(answer.header("age"), None);
        }
        (answer.status != 200).then_some(answer)
    })
    .await;
    assert!(now() >= expires, "refused too early");
    assert!(served > 1, "it was hot");
    assert_problem(&refused, 403, "signature-expired");
    let again = edge.send(&Request::get(&target).header("if-none-match", "*")).await;
    assert_problem(&again, 403, "signature-expired");
    // The picture is in the cache as before, for those who may have it.
    let later = signed(Message { expires: Some(now() + 600), ..message("shop") });
    assert_eq!(cache_status(&edge.get(&later).await), MEMORY);
    edge.stop().await;
}

#[tokio::test]
async fn nobody_on_the_way_keeps_an_answer_beyond_its_expiry() {
    let edge = start().await;
    let expiring = |path, seconds| signed(Message { path, expires: Some(now() + seconds), ..message("demo") });
    for _ in 0..2 {
        let (max_age, stale) = cache_seconds(&edge.get(&expiring(PATH, 20)).await);
        assert!((18..=20).contains(&max_age) && stale == 0, "{max_age} {stale}");
        let (max_age, stale) = cache_seconds(&edge.get(&expiring(PATH, 1000)).await);
        assert!((50..=60).contains(&max_age) && (938..=1000).contains(&(max_age + stale)), "{max_age} {stale}");
        let versioned = "/w=30,v=7,f=jpeg/@local/a%20b.jpg";
        let (max_age, _) = cache_seconds(&edge.get(&expiring(versioned, 1000)).await);
        assert!((998..=1000).contains(&max_age), "{max_age}");
        let for_ever = edge.get(&signed(Message { path: versioned, ..message("demo") })).await;
        assert_eq!(for_ever.header("cache-control"), Some("public, max-age=31536000, immutable"));
        let missing = edge.get(&expiring("/w=30/@local/missing.jpg", 2)).await;
        assert_problem(&missing, 404, "source-not-found");
        let header = missing.header("cache-control").expect("there");
        assert!(["public, max-age=0", "public, max-age=1", "public, max-age=2"].contains(&header), "{header}");
    }
    let target = expiring(PATH, 20);
    let etag = edge.get(&target).await.header("etag").expect("there").to_owned();
    let unchanged = edge.send(&Request::get(&target).header("if-none-match", &etag)).await;
    assert_eq!(unchanged.status, 304);
    assert!(cache_seconds(&unchanged).0 <= 20);
    edge.stop().await;
}

#[tokio::test]
async fn a_key_that_is_removed_is_revoked_at_once() {
    let edge = start().await;
    let old = signed(message("shop"));
    let new = signed(Message { key: "k2", ..message("shop") });
    for _ in 0..2 {
        assert_eq!(edge.get(&old).await.status, 200);
        assert_eq!(edge.get(&new).await.status, 200);
    }
    edge.setup().write_policy(&edge.setup().policy().replace(&format!("k1 = '{K1}',"), ""));
    eventually("the new policy", async || (edge.readiness().await["policy_sequence"] == 2).then_some(())).await;
    check(&edge, &old, 403, "unknown-key").await;
    assert_eq!(cache_status(&edge.get(&new).await), MEMORY);
    // Its name is taken again by another secret.
    edge.setup().write_policy(&edge.setup().policy().replace(K1, "some third secret, of 32 bytes or more"));
    eventually("the new policy", async || (edge.readiness().await["policy_sequence"] == 3).then_some(())).await;
    check(&edge, &old, 403, "signature-mismatch").await;
    assert_eq!(edge.get(&new).await.status, 200);
    assert!(!edge.log().contains("secret, of"), "a secret in the log");
    edge.stop().await;
}

#[tokio::test]
async fn one_rendition_serves_every_signature() {
    let edge = start().await;
    let first = edge.get(&signed(message("demo"))).await;
    assert_eq!(cache_status(&first), "Calotype; fwd=uri-miss; stored");
    for target in [
        format!("/demo{PATH}"),
        signed(Message { key: "k2", ..message("demo") }),
        signed(Message { expires: Some(now() + 600), ..message("demo") }),
        signed(Message { expires: Some(now() + 601), key: "k2", ..message("demo") }),
        signed(Message { path: "/f=jpeg,width=50/@local/%61%20b.jpg", ..message("demo") }),
    ] {
        let answer = edge.get(&target).await;
        assert_eq!((cache_status(&answer), &answer.body), (MEMORY, &first.body), "{target}");
        assert_eq!(answer.header("etag"), first.header("etag"));
    }
    assert_eq!(edge.metric("calotype_transform_run_seconds_count").await, 1.0);
    assert_eq!(images::decode(&first.body).width(), 50);
    edge.stop().await;
}
