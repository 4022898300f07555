//! Edges that follow the control plane: real ones, on the store that it puts uploads into.

use std::fs;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::Method;
use serde_json::{Value, json};
use testkit::control_plane::{ADMIN_KEY, ControlPlane, MASTER_KEY};
use testkit::database::TestDatabase;
use testkit::edge::{Edge, EdgeSetup, assert_problem, eventually, picture};
use testkit::http::{Request, Response};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use transform_url::signing::Message;

use crate::media_rig::{MediaRig, TestForm, id, picture as drawn};
use crate::support::ok;

const RED: [u8; 3] = [200, 10, 10];
const BLUE: [u8; 3] = [10, 10, 200];

/// An upload of this colour.
async fn upload(rig: &MediaRig, public_id: &str, colour: [u8; 3]) -> Value {
    ok(&rig.post(TestForm::default().text("public_id", public_id).add("file", None, &drawn(colour))).await, 201)
}

async fn put(rig: &MediaRig, what: &str, body: Value) {
    let answer = rig.api.json(Method::PUT, &rig.shop.key, &format!("/v1/{what}"), &body).await;
    assert!([200, 201].contains(&answer.status.as_u16()), "{}", answer.text());
}

/// The colour of a picture that an edge has made, roughly.
fn colour(answer: &Response) -> [u8; 3] {
    let bytes = picture(answer, "image/png");
    let pixels = image::load_from_memory(&bytes).expect("a picture").to_rgb8();
    pixels.get_pixel(4, 4).0
}

fn is_like(answer: &Response, wanted: [u8; 3]) -> bool {
    answer.status == 200 && colour(answer).iter().zip(wanted).all(|(is, wanted)| is.abs_diff(wanted) < 8)
}

/// Waits until the edge answers so with a picture of this colour.
async fn shows(edge: &Edge, target: &str, wanted: [u8; 3]) {
    eventually("the picture", async || Some(edge.get(target).await).filter(|answer| is_like(answer, wanted))).await;
}

/// Waits until the edge answers so with this status.
async fn answers(edge: &Edge, target: &str, status: u16) -> Response {
    eventually("the answer", async || Some(edge.get(target).await).filter(|answer| answer.status == status)).await
}

/// Waits until the edge has taken in all that has been announced.
async fn caught_up(rig: &MediaRig, edge: &Edge) {
    let head: i64 =
        sqlx::query_scalar("SELECT seq FROM feed_head").fetch_one(&rig.superuser().await).await.expect("read");
    eventually("the feed", async || (edge.metric("calotype_feed_sequence").await >= head as f64).then_some(())).await;
}

/// A control plane with an open tenant, and an edge that knows it.
async fn open_rig() -> (MediaRig, Edge) {
    let rig = MediaRig::with_folder(&[("MASTER_KEY", MASTER_KEY.to_owned())]).await;
    put(&rig, "policy", json!({"open": true, "originals": true, "max_age_seconds": 3600})).await;
    let edge = rig.edge().start().await;
    caught_up(&rig, &edge).await;
    (rig, edge)
}

const TARGET: &str = "/shop/w=32,f=png/a/b.png";

#[tokio::test]
async fn an_upload_is_there_at_once_and_a_change_of_it_reaches_every_edge() {
    let (rig, first) = open_rig().await;
    let second = rig.edge().start().await;
    caught_up(&rig, &second).await;
    // That there is none is remembered, and forgotten when there is one.
    for edge in [&first, &second] {
        assert_problem(&edge.get(TARGET).await, 404, "source-not-found");
    }
    let made = upload(&rig, "a/b.png", RED).await;
    for edge in [&first, &second] {
        caught_up(&rig, edge).await;
        shows(edge, TARGET, RED).await;
        assert!(edge.get(TARGET).await.header("cache-status").expect("told").contains("hit"));
    }
    assert_eq!(rig.put(&id(&made), &drawn(BLUE)).await.status, 200);
    for edge in [&first, &second] {
        shows(edge, TARGET, BLUE).await;
    }
    let original = first.get("/shop/-/a/b.png").await;
    assert_eq!((&original.body[..], original.header("content-type")), (&drawn(BLUE)[..], Some("image/png")));
    let ranged = first.send(&Request::get("/shop/-/a/b.png").header("range", "bytes=1-3")).await;
    assert_eq!((ranged.status.as_u16(), &ranged.body[..]), (206, &b"PNG"[..]));
    let etag = original.header("etag").expect("it has one").to_owned();
    let unchanged = first.send(&Request::get("/shop/-/a/b.png").header("if-none-match", etag)).await;
    assert_eq!(unchanged.status, 304);

    // Under another id, and gone.
    ok(&rig.patch(&id(&made), &json!({"public_id": "c.png"})).await, 200);
    for edge in [&first, &second] {
        answers(edge, TARGET, 404).await;
        shows(edge, "/shop/w=32,f=png/c.png", BLUE).await;
    }
    assert!([202, 204].contains(&rig.delete(&id(&made)).await.status.as_u16()));
    for edge in [&first, &second] {
        answers(edge, "/shop/w=32,f=png/c.png", 404).await;
        answers(edge, "/shop/-/c.png", 404).await;
    }
    first.stop().await;
    second.stop().await;
}

#[tokio::test]
async fn everything_that_a_tenant_sets_reaches_edges() {
    let (rig, edge) = open_rig().await;
    upload(&rig, "a/b.png", RED).await;
    upload(&rig, "mark.png", BLUE).await;
    answers(&edge, "/shop/p=thumb/a/b.png", 400).await;
    put(&rig, "presets/thumb", json!({"ops": "w=16,f=png"})).await;
    shows(&edge, "/shop/p=thumb/a/b.png", RED).await;
    answers(&edge, "/shop/f=png,ol=mark/a/b.png", 400).await;
    put(&rig, "overlays/mark", json!({"source": "mark.png"})).await;
    shows(&edge, "/shop/f=png,ol=mark/a/b.png", BLUE).await;

    put(&rig, "policy", json!({"signed": "required"})).await;
    answers(&edge, TARGET, 403).await;
    let key = ok(&rig.api.json(Method::POST, &rig.shop.key, "/v1/signing-keys", &json!({"kid": "k1"})).await, 201);
    let path = TARGET.strip_prefix("/shop").expect("its own");
    let message = Message { tenant_id: key["tenant_id"].as_str().expect("told"), path, expires: None, key: "k1" };
    let signed = format!("{TARGET}?{}", message.query(key["secret"].as_str().expect("told").as_bytes()));
    shows(&edge, &signed, RED).await;
    ok(&rig.api.delete(&rig.shop.key, "/v1/signing-keys/k1").await, 204);
    answers(&edge, &signed, 403).await;

    put(&rig, "policy", json!({"open": true})).await;
    shows(&edge, TARGET, RED).await;
    let state = async |state: &str| {
        let tenant = format!("/v1/tenants/{}", rig.shop.slug);
        ok(&rig.api.json(Method::PATCH, ADMIN_KEY, &tenant, &json!({ "state": state })).await, 200);
    };
    state("suspended").await;
    answers(&edge, TARGET, 404).await;
    state("active").await;
    shows(&edge, TARGET, RED).await;
    state("suspended").await;
    ok(&rig.api.delete(ADMIN_KEY, "/v1/tenants/shop").await, 204);
    answers(&edge, TARGET, 404).await;
    // Whoever has the name next has none of it.
    rig.api.tenant("shop").await;
    caught_up(&rig, &edge).await;
    assert_ne!(edge.get(TARGET).await.status, 200);
    edge.stop().await;
}

#[tokio::test]
async fn purges_are_taken_up() {
    let (rig, edge) = open_rig().await;
    let form = TestForm::default().text("public_id", "a/b.png").text("tags", "summer").add("file", None, &drawn(RED));
    ok(&rig.post(form).await, 201);
    caught_up(&rig, &edge).await;
    let other = "/shop/w=31,f=png/a/b.png";
    for order in [json!({"url": TARGET}), json!({"source": "a/b.png"}), json!({"tag": "summer"}), json!({"all": true})]
    {
        for target in [TARGET, other] {
            shows(&edge, target, RED).await;
            assert!(edge.get(target).await.header("cache-status").expect("told").contains("hit"));
        }
        ok(&rig.api.json(Method::POST, &rig.shop.key, "/v1/purge", &order).await, 202);
        caught_up(&rig, &edge).await;
        let came = edge.get(TARGET).await.header("cache-status").expect("told").to_owned();
        assert!(came.contains("fwd=uri-miss"), "{order}: {came}");
        let is_hit = edge.get(other).await.header("cache-status").expect("told").contains("hit");
        assert_eq!(is_hit, order["url"].is_string(), "{order}");
    }
    edge.stop().await;
}

#[tokio::test]
async fn an_edge_serves_with_control_plane_and_database_gone() {
    let (rig, edge) = open_rig().await;
    upload(&rig, "a/b.png", RED).await;
    put(&rig, "presets/thumb", json!({"ops": "w=16,f=png"})).await;
    caught_up(&rig, &edge).await;
    shows(&edge, TARGET, RED).await;
    let setup = edge.kill().await;
    let rig = rig.without_control_plane().await;
    let edge = setup.start().await;
    assert_eq!(edge.readiness().await["tenants_known"], true);
    // From the cache, made anew, and by what was set last.
    for target in [TARGET, "/shop/w=20,f=png/a/b.png", "/shop/p=thumb/a/b.png"] {
        assert!(is_like(&edge.get(target).await, RED), "{target}");
    }
    assert!(edge.metric("calotype_feed_failures_total").await > 0.0);
    let journal = edge.setup().home().join("feed/journal");
    let setup = edge.stop().await;

    // With nothing to go by it is not ready, and serves nobody's pictures.
    let whole = fs::read(&journal).expect("it is there");
    fs::write(&journal, &whole[..20]).expect("it is ours");
    let edge = setup.launch().await;
    assert_eq!(edge.readiness().await["tenants_known"], false);
    assert_problem(&edge.get(TARGET).await, 404, "unknown-tenant");
    let setup = edge.stop().await;
    fs::write(&journal, whole).expect("it is ours");
    let edge = setup.start().await;
    assert!(is_like(&edge.get(TARGET).await, RED));
    edge.stop().await;
    drop(rig);
}

#[tokio::test]
async fn what_was_missed_while_away_is_made_up_for() {
    let (rig, edge) = open_rig().await;
    let made = upload(&rig, "a/b.png", RED).await;
    let gone = upload(&rig, "gone.png", RED).await;
    for target in [TARGET, "/shop/w=32,f=png/gone.png"] {
        shows(&edge, target, RED).await;
    }
    let setup = edge.stop().await;
    assert_eq!(rig.put(&id(&made), &drawn(BLUE)).await.status, 200);
    rig.delete(&id(&gone)).await;
    put(&rig, "presets/thumb", json!({"ops": "w=16,f=png"})).await;
    let edge = setup.start().await;
    caught_up(&rig, &edge).await;
    assert!(is_like(&edge.get(TARGET).await, BLUE));
    assert!(is_like(&edge.get("/shop/p=thumb/a/b.png").await, BLUE));
    assert_eq!(edge.get("/shop/w=32,f=png/gone.png").await.status, 404);

    // Away for longer than changes are told of: it starts over, and trusts nothing that it has.
    let setup = edge.stop().await;
    assert_eq!(rig.put(&id(&made), &drawn(RED)).await.status, 200);
    rig.sql("DELETE FROM feed_events").await;
    let edge = setup.start().await;
    caught_up(&rig, &edge).await;
    assert!(is_like(&edge.get(TARGET).await, RED));
    edge.stop().await;
}

#[tokio::test]
async fn a_database_that_was_set_back_is_followed_back() {
    let (rig, edge) = open_rig().await;
    upload(&rig, "a/b.png", RED).await;
    put(&rig, "presets/thumb", json!({"ops": "w=16,f=png"})).await;
    shows(&edge, "/shop/p=thumb/a/b.png", RED).await;
    // As from a backup of before the preset.
    rig.sql("DELETE FROM presets").await;
    rig.sql("DELETE FROM feed_events WHERE kind = 'preset'").await;
    rig.sql("UPDATE feed_head SET seq = seq - 1").await;
    answers(&edge, "/shop/p=thumb/a/b.png", 400).await;
    // Numbers that were given before mean other things now.
    put(&rig, "presets/other", json!({"ops": "w=8,f=png"})).await;
    shows(&edge, "/shop/p=other/a/b.png", RED).await;
    // What it knows now is what it knows after a crash, with nobody to ask.
    let setup = edge.kill().await;
    let store = rig.without_control_plane().await;
    let edge = setup.start().await;
    shows(&edge, "/shop/p=other/a/b.png", RED).await;
    assert_eq!(edge.get("/shop/p=thumb/a/b.png").await.status, 400);
    edge.stop().await;
    drop(store);
}

#[tokio::test]
async fn what_was_replaced_does_not_come_back_from_the_second_level() {
    let rig = MediaRig::start().await;
    put(&rig, "policy", json!({"open": true, "max_age_seconds": 3600})).await;
    let folder = tempfile::tempdir().expect("a folder can be made");
    let shared = format!("{:?}", folder.path().display().to_string());
    let edge = rig.edge().set("second_level.folder", &shared).start().await;
    caught_up(&rig, &edge).await;
    let made = upload(&rig, "a/b.png", RED).await;
    caught_up(&rig, &edge).await;
    shows(&edge, TARGET, RED).await;
    let written = "calotype_second_level_writes_total{result=\"written\"}";
    eventually("the second level", async || (edge.metric(written).await > 0.0).then_some(())).await;
    assert_eq!(rig.put(&id(&made), &drawn(BLUE)).await.status, 200);
    caught_up(&rig, &edge).await;
    assert!(is_like(&edge.get(TARGET).await, BLUE));
    // Nor at an edge that is new, and was told of nothing.
    let second = rig.edge().set("second_level.folder", &shared).start().await;
    caught_up(&rig, &second).await;
    assert!(is_like(&second.get(TARGET).await, BLUE));
    edge.stop().await;
    second.stop().await;
}

#[tokio::test]
async fn an_edge_that_dies_again_and_again_misses_nothing() {
    let (rig, edge) = open_rig().await;
    let made = upload(&rig, "a/b.png", RED).await;
    shows(&edge, TARGET, RED).await;
    let mut setup = edge.kill().await;
    for round in 1..=6_u8 {
        let edge = setup.start().await;
        for width in 1..=10 {
            put(&rig, &format!("presets/p{width}"), json!({"ops": format!("w={},f=png", width + round)})).await;
        }
        let colour = [round * 30, 10, 10];
        assert_eq!(rig.put(&id(&made), &drawn(colour)).await.status, 200);
        // Somewhere in the middle of it.
        setup = edge.kill().await;
    }
    let edge = setup.start().await;
    caught_up(&rig, &edge).await;
    assert!(is_like(&edge.get(TARGET).await, [180, 10, 10]));
    for width in 1..=10 {
        let made = picture(&edge.get(&format!("/shop/p=p{width}/a/b.png")).await, "image/png");
        let made = image::load_from_memory(&made).expect("a picture");
        assert_eq!(made.width(), width + 6);
    }
    edge.stop().await;
}

#[tokio::test]
async fn an_upload_ends_when_it_was_told_to() {
    let (rig, edge) = open_rig().await;
    let end = SystemTime::now() + Duration::from_secs(3);
    let end = end.duration_since(UNIX_EPOCH).expect("after 1970").as_secs() as i64;
    let end = OffsetDateTime::from_unix_timestamp(end).expect("a time").format(&Rfc3339).expect("a text");
    let form = TestForm::default().text("public_id", "a/b.png").text("expires_at", &end);
    ok(&rig.post(form.add("file", None, &drawn(RED))).await, 201);
    // Not even under a version, which names what never changes.
    let versioned = "/shop/w=32,f=png,v=1/a/b.png";
    for target in [TARGET, versioned] {
        shows(&edge, target, RED).await;
        let told = edge.get(target).await.header("cache-control").expect("told").to_owned();
        assert!(!told.contains("stale") && !told.contains("immutable"), "{told}");
    }
    for target in [TARGET, versioned, "/shop/-/a/b.png"] {
        answers(&edge, target, 404).await;
    }
    edge.stop().await;
}

#[tokio::test]
async fn folders_of_the_edge_and_its_own_policy_file_go_beside() {
    let rig = MediaRig::start().await;
    put(&rig, "policy", json!({"open": true})).await;
    let setup = rig.edge();
    let folder = format!("{:?}", setup.originals().display().to_string());
    let edge = setup.set("control_plane.folders", format!("{{ \"shop/local\" = {folder} }}")).start().await;
    edge.setup().put("x.png", drawn(RED));
    caught_up(&rig, &edge).await;
    for tenant in ["shop", "demo"] {
        assert!(is_like(&edge.get(&format!("/{tenant}/w=32,f=png/@local/x.png")).await, RED), "{tenant}");
    }
    // The file's tenant has no uploads, and wins over one of the same name.
    assert_problem(&edge.get("/demo/w=32,f=png/x.png").await, 404, "no-uploads");
    rig.api.tenant("demo").await;
    caught_up(&rig, &edge).await;
    assert!(is_like(&edge.get("/demo/w=32,f=png/@local/x.png").await, RED));
    edge.stop().await;
}

#[tokio::test]
async fn an_edge_with_another_token_is_told_nothing() {
    let api = ControlPlane::start_on(TestDatabase::new().await).await;
    api.tenant("shop").await;
    let setup = EdgeSetup::new();
    let feed = setup.home().join("feed").display().to_string();
    let edge = setup
        .set("control_plane.url", format!("\"http://{}\"", api.addr()))
        .set("control_plane.token", "\"not the token of any edge at all, but long\"")
        .set("control_plane.dir", format!("{feed:?}"))
        .launch()
        .await;
    eventually("a try", async || (edge.metric("calotype_feed_failures_total").await > 1.0).then_some(())).await;
    assert_eq!(edge.readiness().await["tenants_known"], false);
    assert_problem(&edge.get("/shop/w=1/a").await, 404, "unknown-tenant");
    // The policy file's tenants are served all the same.
    edge.setup().put("x.png", drawn(RED));
    assert!(is_like(&edge.get("/demo/w=32,f=png/@local/x.png").await, RED));
    edge.stop().await;
}
