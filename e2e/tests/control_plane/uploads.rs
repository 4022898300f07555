//! Direct uploads: parts that are sent to URLs of their own, and the medium that they become. The same for a folder and a bucket.

use http::Method;
use serde_json::{Value, json};
use testkit::edge::eventually;
use testkit::http::Request;
use tokio::task::JoinSet;

use crate::media_rig::{MediaRig, id, picture};
use crate::support::{ok, problem};
use crate::upload_rig::{
    PART, assert_swept, assert_taken, begin, both, complete, complete_with, look, noise, part, put, put_all, put_part,
    sha256, url,
};

#[tokio::test]
async fn a_small_file_is_one_part() {
    for rig in both(&[]).await {
        let bytes = picture([200, 10, 10]);
        let order = json!({
            "bytes": bytes.len(), "sha256": sha256(&bytes), "filename": "../beach.png", "public_id": "beach",
            "folder": "summer/2026", "tags": ["sun", "sea"], "metadata": {"year": 2026},
        });
        let answer = rig.api.json(Method::POST, &rig.shop.key, "/v1/uploads", &order).await;
        let upload = ok(&answer, 201);
        let upload_id = id(&upload);
        assert_eq!(answer.header("location"), Some(format!("/v1/uploads/{upload_id}").as_str()));
        assert_eq!(
            (&upload["state"], &upload["received"], &upload["media"]),
            (&"open".into(), &0.into(), &Value::Null)
        );
        assert_eq!(upload["urls"].as_array().map(Vec::len), Some(1), "{upload}");
        assert_eq!(upload["media_id"], upload["id"], "the medium has the upload's id");

        let sent = put(&url(&upload, 1), bytes.clone()).await;
        assert_eq!(sent.status, 200, "{}", sent.text());
        let seen = look(&rig, &upload_id).await;
        let there = json!([{"number": 1, "bytes": bytes.len(), "etag": sent.header("etag").expect("a tag")}]);
        assert_eq!((&seen["parts"], &seen["received"]), (&there, &bytes.len().into()));

        let done = ok(&complete(&rig, &upload_id).await, 200);
        let medium = &done["media"];
        assert_eq!((&done["state"], &medium["id"]), (&"done".into(), &upload["id"]), "{done}");
        let found = (&medium["content_type"], &medium["width"], &medium["filename"], &medium["folder"]);
        assert_eq!(found, (&"image/png".into(), &64.into(), &"beach.png".into(), &"summer/2026".into()));
        assert_eq!((&medium["tags"], &medium["metadata"]), (&json!(["sea", "sun"]), &json!({"year": 2026})));
        assert_eq!(medium["published"], true);
        assert_eq!(ok(&complete(&rig, &upload_id).await, 200), done, "the same answer");
        assert_eq!(look(&rig, &upload_id).await, done);

        // Whoever still has the URL changes nothing.
        let again = put(&url(&upload, 1), vec![b'x'; bytes.len()]).await;
        assert_eq!(again.status == 200, rig.relay.is_some(), "a bucket cannot know: {}", again.text());
        assert_eq!(ok(&complete(&rig, &upload_id).await, 200), done);
        assert_taken(&rig, "beach", &bytes).await;
    }
}

#[tokio::test]
async fn a_large_file_comes_in_parts_several_at_once_and_in_any_order() {
    for rig in both(&[]).await {
        let bytes = noise(3 * PART + 12_345, 1);
        let upload = begin(&rig, &json!({"bytes": bytes.len(), "public_id": "film"})).await;
        let upload_id = id(&upload);
        assert_eq!((&upload["part_bytes"], upload["urls"].as_array().map(Vec::len)), (&PART.into(), Some(4)));
        let mut sending = JoinSet::new();
        for number in [4, 1, 3] {
            let (upload, bytes) = (upload.clone(), bytes.clone());
            sending.spawn(async move { (number, put_part(&upload, &bytes, number).await) });
        }
        let mut tags = sending.join_all().await;
        // Whoever has lost the rest asks what is there, and where the others go.
        let seen = look(&rig, &upload_id).await;
        let there: Vec<_> =
            seen["parts"].as_array().expect("parts").iter().map(|part| part["number"].clone()).collect();
        assert_eq!((there, &seen["received"]), (vec![json!(1), json!(3), json!(4)], &(bytes.len() - PART).into()));
        let target = format!("/v1/uploads/{upload_id}/parts");
        let more = ok(&rig.api.json(Method::POST, &rig.shop.key, &target, &json!({"numbers": [2]})).await, 200);
        let missing = complete(&rig, &upload_id).await;
        assert!(problem(&missing, 409, "upload-incomplete").contains("part 2"), "{}", missing.text());
        tags.push((2, put_part(&more, &bytes, 2).await));
        let parts: Vec<_> = tags.iter().map(|(number, etag)| json!({"number": number, "etag": etag})).collect();
        let done = ok(&complete_with(&rig, &upload_id, &json!({"parts": parts})).await, 200);
        assert_eq!((&done["state"], &done["received"]), (&"done".into(), &bytes.len().into()), "{done}");
        assert_taken(&rig, "film", &bytes).await;
    }
}

#[tokio::test]
async fn what_takes_longer_than_a_request_is_a_workers() {
    let rig = MediaRig::start().await;
    let bytes = noise((64 << 20) + 1, 2);
    let upload = begin(&rig, &json!({"bytes": bytes.len(), "sha256": sha256(&bytes), "public_id": "long"})).await;
    let upload_id = id(&upload);
    put_all(&upload, &bytes).await;
    let accepted = ok(&complete(&rig, &upload_id).await, 202);
    assert_eq!((&accepted["state"], &accepted["media"]), (&"completing".into(), &Value::Null));
    let job = accepted["job_id"].as_str().expect("a job").to_owned();
    assert_eq!(ok(&complete(&rig, &upload_id).await, 202), accepted, "the same job");
    problem(&put(&url(&upload, 1), part(&bytes, 1)).await, 409, "upload-state");
    problem(&rig.api.delete(&rig.shop.key, &format!("/v1/uploads/{upload_id}")).await, 409, "upload-state");
    rig.worker().await;
    let job = ok(&rig.api.get(&rig.shop.key, &format!("/v1/jobs/{job}")).await, 200);
    assert_eq!((&job["state"], &job["result"]), (&"done".into(), &json!({"upload": upload_id, "media": upload_id})));
    assert_eq!(look(&rig, &upload_id).await["state"], "done");
    assert_taken(&rig, "long", &bytes).await;
}

#[tokio::test]
async fn whose_job_was_cancelled_is_completed_or_given_up() {
    let rig = MediaRig::start().await;
    let bytes = noise((64 << 20) + 1, 3);
    let upload = begin(&rig, &json!({"bytes": bytes.len(), "public_id": "long"})).await;
    put_all(&upload, &bytes).await;
    let job = async || ok(&complete(&rig, &id(&upload)).await, 202)["job_id"].as_str().expect("a job").to_owned();
    let cancel = async |job: &str| {
        let target = format!("/v1/jobs/{job}/cancel");
        assert_eq!(
            ok(&rig.api.json(Method::POST, &rig.shop.key, &target, &json!({})).await, 200)["state"],
            "cancelled"
        );
    };
    let delete = async || rig.api.delete(&rig.shop.key, &format!("/v1/uploads/{}", id(&upload))).await;
    let first = job().await;
    cancel(&first).await;
    let second = job().await;
    assert_ne!(first, second);
    problem(&delete().await, 409, "upload-state");
    // The same when it has failed for good.
    rig.sql("UPDATE jobs SET state = 'failed', finished_at = now() WHERE state = 'queued'").await;
    let third = job().await;
    assert_ne!(second, third);
    cancel(&third).await;
    assert_eq!(delete().await.status, 204);
    rig.worker().await;
    assert_eq!((rig.count("media").await, rig.incoming()), (0, Vec::<String>::new()));
}

#[tokio::test]
async fn a_medium_gets_other_bytes() {
    for rig in both(&[]).await {
        let first = begin(&rig, &json!({"bytes": 3, "public_id": "a", "tags": ["kept"]})).await;
        put(&url(&first, 1), "one").await;
        let medium = ok(&complete(&rig, &id(&first)).await, 200)["media"].clone();
        let order = json!({"bytes": 3, "media_id": medium["id"], "filename": "two.txt"});
        let with = |tag: &str| {
            let request = Request::new(Method::POST, "/v1/uploads").header("if-match", tag);
            let request = request.header("authorization", format!("Bearer {}", rig.shop.key));
            request.header("content-type", "application/json").body(order.to_string())
        };
        problem(&rig.api.send(&with("\"v2\"")).await, 412, "changed");
        let (fast, slow) =
            (ok(&rig.api.send(&with("\"v1\"")).await, 201), ok(&rig.api.send(&with("\"v1\"")).await, 201));
        put(&url(&fast, 1), "two").await;
        put(&url(&slow, 1), "six").await;
        let done = ok(&complete(&rig, &id(&fast)).await, 200);
        assert_eq!((&done["media"]["version"], &done["media"]["tags"]), (&2.into(), &json!(["kept"])), "{done}");
        assert_eq!((&done["media"]["id"], &done["media"]["filename"]), (&medium["id"], &"two.txt".into()));
        problem(&complete(&rig, &id(&slow)).await, 412, "changed");
        assert_eq!(look(&rig, &id(&slow)).await["error"]["code"], "changed");
        assert_taken(&rig, "a", b"two").await;
    }
}

#[tokio::test]
async fn one_that_is_begun_twice_is_one() {
    for rig in both(&[]).await {
        let order = |bytes: usize| {
            let request = Request::new(Method::POST, "/v1/uploads").header("idempotency-key", "once");
            let request = request.header("authorization", format!("Bearer {}", rig.shop.key));
            request.header("content-type", "application/json").body(json!({"bytes": bytes}).to_string())
        };
        let first = ok(&rig.api.send(&order(PART + 1)).await, 201);
        let answer = rig.api.send(&order(PART + 1)).await;
        let again = ok(&answer, 201);
        assert_eq!((answer.header("idempotency-replayed"), id(&again)), (Some("true"), id(&first)));
        assert_eq!(again["urls"].as_array().map(Vec::len), Some(2), "with URLs that are good");
        let bytes = noise(PART + 1, 3);
        put_part(&first, &bytes, 1).await;
        put_part(&again, &bytes, 2).await;
        ok(&complete(&rig, &id(&again)).await, 200);
        assert_eq!(rig.count("uploads").await, 1);
        problem(&rig.api.send(&order(PART)).await, 422, "idempotency-mismatch");
    }
}

#[tokio::test]
async fn what_cannot_become_a_medium_is_refused_before_anything_is_sent() {
    let rig = MediaRig::with_folder(&[("UPLOAD_BYTES", "1000".to_owned()), ("UPLOADS_OPEN", "2".to_owned())]).await;
    let post = async |order: Value| rig.api.json(Method::POST, &rig.shop.key, "/v1/uploads", &order).await;
    problem(&post(json!({"bytes": 1001})).await, 413, "file-too-large");
    problem(&post(json!({})).await, 400, "bad-json");
    problem(&post(json!({"bytes": -1})).await, 400, "bad-json");
    problem(&post(json!({"bytes": 1, "more": 1})).await, 400, "bad-json");
    for (field, value) in [
        ("bytes", json!(0)),
        ("sha256", json!("00")),
        ("sha256", json!("é".repeat(32))),
        ("public_id", json!("../x")),
        ("folder", json!("/")),
        ("tags", json!(["a,b"])),
        ("metadata", json!([])),
        ("expires_at", json!("2001-01-01T00:00:00Z")),
    ] {
        let mut order = json!({"bytes": 1});
        order[field] = value;
        let detail = problem(&post(order).await, 422, "bad-field");
        assert!(detail.starts_with(field), "{detail}");
    }
    let nobody = "00000000-0000-7000-8000-000000000000";
    problem(&post(json!({"bytes": 1, "media_id": nobody})).await, 404, "not-found");
    problem(&post(json!({"bytes": 1, "media_id": nobody, "tags": ["a"]})).await, 422, "bad-field");
    assert_eq!(rig.count("uploads").await, 0);

    let taken = begin(&rig, &json!({"bytes": 1, "public_id": "a"})).await;
    put(&url(&taken, 1), "x").await;
    ok(&complete(&rig, &id(&taken)).await, 200);
    problem(&post(json!({"bytes": 1, "public_id": "a"})).await, 409, "exists");
    let open = begin(&rig, &json!({"bytes": 1})).await;
    begin(&rig, &json!({"bytes": 1})).await;
    assert!(problem(&post(json!({"bytes": 1})).await, 429, "too-many-uploads").starts_with("2 uploads"));
    assert_eq!(rig.api.delete(&rig.shop.key, &format!("/v1/uploads/{}", id(&open))).await.status, 204);
    begin(&rig, &json!({"bytes": 1})).await;

    for numbers in [json!([]), json!([0]), json!([2]), json!(vec![1; 101])] {
        let target = format!("/v1/uploads/{}/parts", id(&begin_again(&rig).await));
        let answer = rig.api.json(Method::POST, &rig.shop.key, &target, &json!({"numbers": numbers})).await;
        assert!(problem(&answer, 422, "bad-field").starts_with("numbers"));
    }
}

/// One more, after all others were given up.
async fn begin_again(rig: &MediaRig) -> Value {
    rig.sql("UPDATE uploads SET state = 'aborted', due_at = now() WHERE state = 'open'").await;
    begin(rig, &json!({"bytes": 1})).await
}

#[tokio::test]
async fn a_url_of_ours_is_good_for_one_part_of_one_upload() {
    let rig = MediaRig::start().await;
    let bytes = noise(PART + 4, 4);
    let upload = begin(&rig, &json!({"bytes": bytes.len()})).await;
    let other = begin(&rig, &json!({"bytes": bytes.len()})).await;
    let last = url(&upload, 2);
    for (what, wrong) in [
        ("another part", last.replace("/parts/2", "/parts/1")),
        ("another upload", last.replace(&id(&upload), &id(&other))),
        ("more bytes", last.replace("bytes=4", "bytes=5")),
        ("more time", last.replace("expires=1", "expires=2")),
        ("no signature", last.split("&signature").next().expect("a part").to_owned()),
        ("another signature", format!("{last}0")),
        ("twice the same", format!("{last}&bytes=4")),
    ] {
        assert_ne!(wrong, last, "{what}");
        problem(&put(&wrong, "four").await, 403, "url-refused");
    }
    for wrong in ["thr", "five5", ""] {
        problem(&put(&last, wrong).await, 422, "upload-length");
    }
    assert_eq!(look(&rig, &id(&upload)).await["parts"], json!([]));
    // Another part of the same place takes the place of the one before.
    let before = put(&last, "four").await;
    let after = put(&last, "fore").await;
    assert_ne!(before.header("etag"), after.header("etag"));
    assert_eq!(rig.incoming().len(), 1);
    put_part(&upload, &bytes, 1).await;
    let named =
        |etag: &str| json!({"parts": [{"number": 1, "etag": sha256(&part(&bytes, 1))}, {"number": 2, "etag": etag}]});
    let stale = complete_with(&rig, &id(&upload), &named(before.header("etag").expect("a tag"))).await;
    assert!(problem(&stale, 422, "bad-field").starts_with("parts"));
    for wrong in [json!([]), json!([{"number": 2, "etag": after.header("etag")}])] {
        problem(&complete_with(&rig, &id(&upload), &json!({"parts": wrong})).await, 422, "bad-field");
    }
    ok(&complete_with(&rig, &id(&upload), &named(after.header("etag").expect("a tag"))).await, 200);
    assert!(rig.stored(&id(&upload)).ends_with(b"fore"));
}

#[tokio::test]
async fn what_nobody_completes_expires_and_leaves_nothing() {
    for rig in both(&[]).await {
        let bytes = noise(PART + 4, 5);
        let [late, given_up, small] = [bytes.len(), bytes.len(), 4].map(|bytes| json!({"bytes": bytes}));
        let (late, given_up, small) =
            (begin(&rig, &late).await, begin(&rig, &given_up).await, begin(&rig, &small).await);
        put_part(&late, &bytes, 1).await;
        put_part(&given_up, &bytes, 1).await;
        put(&url(&small, 1), "four").await;
        let target = format!("/v1/uploads/{}", id(&given_up));
        assert_eq!(rig.api.delete(&rig.shop.key, &target).await.status, 204);
        problem(&rig.api.get(&rig.shop.key, &target).await, 404, "not-found");
        assert_ne!(put(&url(&given_up, 2), "four").await.status, 200);
        rig.sql("UPDATE uploads SET expires_at = now(), due_at = now() WHERE state = 'open'").await;
        // Before a worker has looked, too.
        assert_eq!(look(&rig, &id(&late)).await["state"], "expired");
        problem(&complete(&rig, &id(&small)).await, 410, "upload-gone");
        if rig.relay.is_none() {
            problem(&put(&url(&late, 2), "four").await, 410, "upload-gone");
        }
        assert_swept(&rig).await;
        problem(&complete(&rig, &id(&late)).await, 410, "upload-gone");
        // Somebody has sent something to a URL that was still good. The row is there for as long as that can be.
        if rig.relay.is_some() {
            put(&url(&small, 1), "late").await;
            assert_eq!(rig.incoming().len(), 1);
        }
        rig.sql("UPDATE uploads SET expires_at = now() - interval '1 hour', due_at = now()").await;
        assert_swept(&rig).await;
        assert_eq!(rig.count("uploads").await, 0);
        assert_eq!(rig.leftovers(), Vec::<String>::new(), "parts that the bucket keeps");
    }
}

#[tokio::test]
async fn uploads_outlive_nothing_but_their_tenant_for_a_while() {
    let rig = MediaRig::start().await;
    let upload = begin(&rig, &json!({"bytes": 4})).await;
    put(&url(&upload, 1), "four").await;
    let completing = begin(&rig, &json!({"bytes": 4})).await;
    put(&url(&completing, 1), "four").await;
    let admin = testkit::control_plane::ADMIN_KEY;
    ok(&rig.api.json(Method::PATCH, admin, "/v1/tenants/shop", &json!({"state": "suspended"})).await, 200);
    problem(&put(&url(&upload, 1), "more").await, 403, "url-refused");
    assert_eq!(rig.api.delete(admin, "/v1/tenants/shop").await.status, 204);
    problem(&put(&url(&upload, 1), "more").await, 403, "url-refused");
    eventually("the key's end", async || (complete(&rig, &id(&upload)).await.status == 401).then_some(())).await;
    rig.sql("UPDATE uploads SET expires_at = now() - interval '1 hour', due_at = now()").await;
    assert_swept(&rig).await;
    assert_eq!(rig.count("uploads").await, 0);
}
