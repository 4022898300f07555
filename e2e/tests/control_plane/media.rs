//! Media: taken in, told of, changed, replaced, deleted.

use devstack::samples::exif::Exif;
use http::Method;
use serde_json::{Value, json};
use testkit::control_plane::ControlPlane;
use testkit::http::Request;
use testkit::images;
use uploads::Pointer;

use crate::media_rig::{MediaRig, TestForm, id, picture};
use crate::support::{etag, ok, problem};

/// Names of the events that edges were told of media.
async fn told(rig: &MediaRig) -> Vec<String> {
    let names = sqlx::query_scalar("SELECT name FROM feed_events WHERE kind = 'media' ORDER BY seq");
    names.fetch_all(&rig.superuser().await).await.expect("read")
}

#[tokio::test]
async fn a_file_is_taken_in_and_its_pointer_leads_to_it() {
    let rig = MediaRig::start().await;
    let bytes = picture([200, 10, 10]);
    let form = TestForm::default()
        .text("public_id", "summer/beach 1.png")
        .text("folder", "holidays/2026")
        .text("tags", "sun, sea")
        .text("tags", "sea,sand")
        .text("metadata", "{\"year\": 2026, \"people\": [\"Ada\"]}")
        .add("file", Some("C:\\photos\\beach.png"), &bytes)
        .text("expires_at", "2090-01-01T00:00:00Z");
    let answer = rig.post(form).await;
    let made = ok(&answer, 201);
    assert_eq!(answer.header("location").expect("a place"), format!("/v1/media/{}", id(&made)));
    assert_eq!(etag(&answer), "\"v1\"");
    let expected = json!({
        "public_id": "summer/beach 1.png", "kind": "image", "state": "ready", "version": 1,
        "content_type": "image/png", "bytes": bytes.len(), "width": 64, "height": 64,
        "folder": "holidays/2026", "tags": ["sand", "sea", "sun"], "metadata": {"year": 2026, "people": ["Ada"]},
        "filename": "beach.png", "expires_at": "2090-01-01T00:00:00Z", "published": true,
        "url": "http://127.0.0.1:8080/shop/f=auto/summer/beach%201.png",
    });
    for (name, value) in expected.as_object().expect("an object") {
        assert_eq!(&made[name], value, "{name}");
    }
    assert_eq!(rig.stored("summer/beach 1.png"), bytes);
    let target = rig.target("summer/beach 1.png");
    assert_eq!(
        (target.content_type.as_str(), target.sha256.as_str()),
        ("image/png", made["sha256"].as_str().expect("a hash"))
    );
    assert_eq!(
        (target.expires_at, target.tags),
        (Some(3_786_912_000), vec!["sand".into(), "sea".into(), "sun".into()])
    );
    assert_eq!(told(&rig).await, ["summer/beach 1.png"]);
    let seen = rig.get(&id(&made)).await;
    assert_eq!((ok(&seen, 200), etag(&seen)), (made.clone(), etag(&answer)));
    let by_name = "/v1/media/by-public-id/summer/beach%201.png";
    assert_eq!(ok(&rig.api.get(&rig.shop.key, by_name).await, 200), made);
    rig.assert_tidy().await;
}

#[tokio::test]
async fn what_a_file_is_is_found_in_it() {
    let rig = MediaRig::start().await;
    let exif = Exif { orientation: 6, ..Exif::default() }.to_bytes();
    let extras = images::jpeg::Extras { exif: Some(exif), ..images::jpeg::Extras::default() };
    let turned = images::jpeg::rgb(&images::photo(40, 20), &extras);
    let gif = b"GIF89a\x02\0\x03\0\x80\0\0\xff\xff\xff\0\0\0!\xf9\x04\0\0\0\0\0,\0\0\0\0\x02\0\x03\0\0\x02\x02\x84Q\0;";
    for (name, bytes, content_type, kind, size) in [
        ("turned.txt", &turned[..], "image/jpeg", "image", (20.into(), 40.into())),
        ("a.html", &gif[..], "image/gif", "image", (2.into(), 3.into())),
        ("a.png", b"<html><script>alert(1)</script></html>", "text/plain", "document", (Value::Null, Value::Null)),
        ("a.png", b"<svg xmlns='http://www.w3.org/2000/svg'/>", "image/svg+xml", "image", (Value::Null, Value::Null)),
        ("a.jpg", b"\x01\x02\xff\xfe\0", "application/octet-stream", "file", (Value::Null, Value::Null)),
        ("a.jpg", b"%PDF-1.7\n1 0 obj", "application/pdf", "document", (Value::Null, Value::Null)),
    ] {
        let made = ok(&rig.post(TestForm::default().add("file", Some(name), bytes)).await, 201);
        assert_eq!((&made["content_type"], &made["kind"]), (&content_type.into(), &kind.into()), "{name}");
        assert_eq!((&made["width"], &made["height"]), (&size.0, &size.1), "{name}");
        let ops = if kind == "image" { "f=auto" } else { "-" };
        assert_eq!(made["url"], format!("http://127.0.0.1:8080/shop/{ops}/{}", id(&made)));
        assert_eq!(made["public_id"], made["id"]);
        assert_eq!(rig.stored(&id(&made)), bytes);
    }
    rig.assert_tidy().await;
}

#[tokio::test]
async fn a_file_larger_than_any_buffer_is_kept_as_it_is() {
    let rig = MediaRig::start().await;
    let bytes: Vec<u8> = (0..5_000_000u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    let made = ok(&rig.post(TestForm::file(&bytes).text("public_id", "large")).await, 201);
    assert_eq!(made["bytes"], bytes.len());
    assert!(rig.stored("large") == bytes);
}

#[tokio::test]
async fn changes_depend_on_the_version_and_reach_the_pointers() {
    let rig = MediaRig::start().await;
    let bytes = picture([0, 0, 200]);
    let made = ok(&rig.post(TestForm::file(&bytes).text("public_id", "old").text("tags", "a")).await, 201);
    let id = id(&made);
    let changed = rig.patch(&id, &json!({"public_id": "new", "tags": ["b"], "folder": "x", "filename": null})).await;
    assert_eq!(etag(&changed), "\"v2\"");
    let changed = ok(&changed, 200);
    assert_eq!((&changed["public_id"], &changed["tags"]), (&"new".into(), &json!(["b"])));
    assert_eq!(
        (&changed["folder"], &changed["filename"], &changed["metadata"]),
        (&"x".into(), &Value::Null, &json!({}))
    );
    assert_eq!(rig.pointer("old"), Some(Pointer::Gone));
    assert_eq!((rig.stored("new"), rig.target("new").tags), (bytes, vec!["b".to_owned()]));
    assert_eq!(told(&rig).await, ["old", "old", "new"]);

    let late = Request::new(Method::PATCH, format!("/v1/media/{id}"))
        .header("authorization", format!("Bearer {}", rig.shop.key))
        .header("content-type", "application/json")
        .header("if-match", "\"v1\"")
        .body("{\"folder\":\"y\"}");
    problem(&rig.api.send(&late).await, 412, "changed");
    // What edges need not know is no event.
    ok(&rig.patch(&id, &json!({"folder": "y", "metadata": {"a": 1}, "expires_at": null})).await, 200);
    assert_eq!(told(&rig).await.len(), 3);
    // The freed name is free.
    ok(&rig.post(TestForm::file(b"other").text("public_id", "old")).await, 201);
    assert_eq!(rig.stored("old"), b"other");
    problem(&rig.patch(&id, &json!({"public_id": "old"})).await, 409, "exists");
    problem(&rig.post(TestForm::file(b"third").text("public_id", "new")).await, 409, "exists");
    rig.all_is_due().await;
    rig.worker().await;
    rig.assert_tidy().await;
}

#[tokio::test]
async fn a_replaced_file_has_another_object_and_the_old_one_is_swept() {
    let rig = MediaRig::start().await;
    let made = ok(&rig.post(TestForm::file(&picture([1, 2, 3])).text("public_id", "a")).await, 201);
    let before = rig.target("a").object;
    let replaced = rig.put(&id(&made), b"only a text").await;
    assert_eq!(etag(&replaced), "\"v2\"");
    let replaced = ok(&replaced, 200);
    assert_eq!(
        (&replaced["kind"], &replaced["bytes"], &replaced["width"]),
        (&"document".into(), &11.into(), &Value::Null)
    );
    assert_eq!((&replaced["id"], &replaced["public_id"]), (&made["id"], &made["public_id"]));
    assert_eq!(rig.stored("a"), b"only a text");
    // Edges may still be sending the old bytes.
    rig.worker().await;
    assert!(rig.objects().contains(&before));
    rig.all_is_due().await;
    rig.worker().await;
    assert!(!rig.objects().contains(&before));
    rig.assert_tidy().await;
}

#[tokio::test]
async fn a_deleted_medium_is_gone_and_its_bytes_follow() {
    let rig = MediaRig::start().await;
    let made = ok(&rig.post(TestForm::file(b"x").text("public_id", "a").text("folder", "f")).await, 201);
    ok(&rig.delete(&id(&made)).await, 204);
    assert_eq!(rig.pointer("a"), Some(Pointer::Gone));
    problem(&rig.get(&id(&made)).await, 404, "not-found");
    problem(&rig.delete(&id(&made)).await, 404, "not-found");
    problem(&rig.put(&id(&made), b"y").await, 404, "not-found");
    problem(&rig.patch(&id(&made), &json!({})).await, 404, "not-found");
    assert_eq!(rig.count("pointers").await, 0, "what is gone and written is not remembered");
    rig.all_is_due().await;
    rig.worker().await;
    rig.assert_tidy().await;
    assert!(rig.objects().is_empty());
}

#[tokio::test]
async fn media_whose_time_is_over_is_deleted_by_a_worker() {
    let rig = MediaRig::start().await;
    let made = ok(
        &rig.post(TestForm::file(b"x").text("public_id", "a").text("expires_at", "2090-01-01T00:00:00Z")).await,
        201,
    );
    ok(&rig.post(TestForm::file(b"y").text("public_id", "b")).await, 201);
    rig.worker().await;
    ok(&rig.get(&id(&made)).await, 200);
    rig.sql("UPDATE media SET expires_at = now() WHERE public_id = 'a'").await;
    rig.worker().await;
    problem(&rig.get(&id(&made)).await, 404, "not-found");
    assert_eq!((rig.pointer("a"), rig.stored("b")), (Some(Pointer::Gone), b"y".to_vec()));
    rig.all_is_due().await;
    rig.worker().await;
    rig.assert_tidy().await;
}

#[tokio::test]
async fn lists_have_the_newest_first_and_keep_to_their_filters() {
    let rig = MediaRig::start().await;
    for (name, folder, tags, bytes) in [
        ("a/1", "f", "x", &b"text"[..]),
        ("a/2", "f/g", "x,y", &picture([9, 9, 9])),
        ("b", "", "y", b"text"),
        ("b%", "f", "x", &picture([8, 8, 8])),
    ] {
        let form = TestForm::file(bytes).text("public_id", name).text("folder", folder).text("tags", tags);
        ok(&rig.post(form).await, 201);
    }
    for (query, expected) in [
        ("", &["b%", "b", "a/2", "a/1"][..]),
        ("?folder=f", &["b%", "a/1"]),
        ("?folder=", &["b"]),
        ("?folder=f/g&tag=y", &["a/2"]),
        ("?tag=x", &["b%", "a/2", "a/1"]),
        ("?tag=x&kind=image", &["b%", "a/2"]),
        ("?tag=y&folder=", &["b"]),
        ("?tag=none", &[]),
        ("?kind=document", &["b", "a/1"]),
        ("?public_id_prefix=a/", &["a/2", "a/1"]),
        ("?public_id_prefix=b%25", &["b%"]),
        ("?public_id_prefix=b&kind=image&tag=x&folder=f", &["b%"]),
        ("?public_id_prefix=%25", &[]),
    ] {
        let (mut found, mut cursor) = (Vec::new(), String::new());
        loop {
            let more = if query.is_empty() { "?" } else { "&" };
            let target = format!("/v1/media{query}{more}limit=1{cursor}");
            let page = ok(&rig.api.get(&rig.shop.key, &target).await, 200);
            let items = page["items"].as_array().expect("a list").iter();
            found.extend(items.map(|item| item["public_id"].as_str().expect("a name").to_owned()));
            match page["next_cursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => break,
            }
        }
        assert_eq!(found, expected, "{query}");
    }
    for bad in ["kind=x", "tag=", "folder=..", "public_id_prefix=", "name=a", "public_id_prefix=..%2F"] {
        problem(&rig.api.get(&rig.shop.key, &format!("/v1/media?{bad}")).await, 422, "bad-field");
    }
}

#[tokio::test]
async fn tenants_see_and_change_their_own_only() {
    let rig = MediaRig::start().await;
    let blog = rig.api.tenant("blog").await;
    let made = ok(&rig.post(TestForm::file(b"x").text("public_id", "a")).await, 201);
    ok(&rig.post(TestForm::file(b"x")).await, 201);
    let target = format!("/v1/media/{}", id(&made));
    problem(&rig.api.get(&blog.key, &target).await, 404, "not-found");
    problem(&rig.api.get(&blog.key, "/v1/media/by-public-id/a").await, 404, "not-found");
    problem(&rig.api.delete(&blog.key, &target).await, 404, "not-found");
    problem(&rig.api.json(Method::PATCH, &blog.key, &target, &json!({"folder": "x"})).await, 404, "not-found");
    let put = TestForm::file(b"y").request(Method::PUT, &format!("{target}/file"), &blog.key);
    problem(&rig.api.send(&put).await, 404, "not-found");
    let page = ok(&rig.api.get(&rig.shop.key, "/v1/media?limit=1").await, 200);
    let cursor = page["next_cursor"].as_str().expect("there is more");
    problem(&rig.api.get(&blog.key, &format!("/v1/media?cursor={cursor}")).await, 400, "bad-cursor");
    assert_eq!(ok(&rig.api.get(&blog.key, "/v1/media").await, 200)["items"], json!([]));
    // The same name means another thing to each.
    let own = TestForm::file(b"of the blog").text("public_id", "a").request(Method::POST, "/v1/media", &blog.key);
    assert_eq!(ok(&rig.api.send(&own).await, 201)["url"], "http://127.0.0.1:8080/blog/-/a");
    assert_eq!(rig.stored("a"), b"x");
}

#[tokio::test]
async fn the_end_of_a_tenant_is_the_end_of_its_objects() {
    let rig = MediaRig::start().await;
    ok(&rig.post(TestForm::file(b"x").text("public_id", "a").text("folder", "f/g").text("tags", "t")).await, 201);
    let admin = testkit::control_plane::ADMIN_KEY;
    let suspended = json!({"state": "suspended"});
    ok(&rig.api.json(Method::PATCH, admin, "/v1/tenants/shop", &suspended).await, 200);
    ok(&rig.api.delete(admin, "/v1/tenants/shop").await, 204);
    rig.all_is_due().await;
    rig.worker().await;
    assert_eq!(rig.pointer("a"), Some(Pointer::Gone));
    rig.assert_tidy().await;
}

#[tokio::test]
async fn without_a_store_nothing_is_taken() {
    let api = ControlPlane::start().await;
    let shop = api.tenant("shop").await;
    problem(&api.send(&TestForm::file(b"x").request(Method::POST, "/v1/media", &shop.key)).await, 501, "no-store");
    ok(&api.get(&shop.key, "/v1/media").await, 200);
}

#[tokio::test]
async fn an_upload_that_is_sent_again_with_its_key_is_made_once() {
    let rig = MediaRig::start().await;
    let form = |bytes: &[u8]| TestForm::file(bytes).text("tags", "a,b");
    let send = async |form: TestForm, key: &str| {
        let request = form.request(Method::POST, "/v1/media", &rig.shop.key).header("idempotency-key", key);
        rig.api.send(&request).await
    };
    let first = send(form(b"x"), "one").await;
    let made = ok(&first, 201);
    assert_eq!((&made["published"], first.header("idempotency-replayed")), (&true.into(), None));
    // The order of its parts does not matter.
    let again = send(TestForm::default().text("tags", "b,a").add("file", Some("beach.png"), b"x"), "one").await;
    assert_eq!(
        (ok(&again, 201)["id"].clone(), again.header("idempotency-replayed")),
        (made["id"].clone(), Some("true"))
    );
    assert_eq!(again.header("location"), first.header("location"));
    problem(&send(form(b"y"), "one").await, 422, "idempotency-mismatch");
    assert_ne!(ok(&send(form(b"x"), "two").await, 201)["id"], made["id"]);
    assert_eq!(rig.count("media").await, 2);
    rig.all_is_due().await;
    rig.worker().await;
    rig.assert_tidy().await;
}
