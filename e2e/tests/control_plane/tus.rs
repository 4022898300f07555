//! tus: what the protocol says, asked header by header. The same for a folder and a bucket.

use http::Method;
use serde_json::{Value, json};
use testkit::http::{Request, Response};

use crate::media_rig::{MediaRig, picture};
use crate::support::{ok, problem};
use crate::upload_rig::{
    append, assert_swept, assert_taken, base64, both, create, id_in, look, noise, offset, patch, received, tus,
};

/// Fails unless a header of an answer is this.
#[track_caller]
fn has(answer: &Response, name: &str, value: &str) {
    assert_eq!(answer.header(name), Some(value), "{name} of {:?}", answer.headers);
}

#[tokio::test]
async fn a_server_tells_what_it_can_do() {
    let rig = MediaRig::with_folder(&[("CORS_ORIGINS", "[\"*\"]".to_owned())]).await;
    for target in ["/v1/tus", "/v1/tus/", "/v1/tus/00000000-0000-7000-8000-000000000000"] {
        let answer = rig.api.send(&Request::new(Method::OPTIONS, target)).await;
        assert_eq!(answer.status, 204, "{target}");
        has(&answer, "tus-version", "1.0.0");
        has(&answer, "tus-resumable", "1.0.0");
        has(&answer, "tus-max-size", "500000000");
        has(&answer, "tus-checksum-algorithm", "sha1,sha256,md5");
        let extensions = answer.header("tus-extension").expect("some");
        assert!(extensions.split(',').any(|one| one == "creation-with-upload"), "{extensions}");
    }
    let preflight = Request::new(Method::OPTIONS, "/v1/tus/x").header("origin", "https://app.example");
    let preflight = rig.api.send(&preflight.header("access-control-request-method", "PATCH")).await;
    assert!(preflight.header("access-control-allow-methods").is_some_and(|all| all.contains("PATCH")));
    let allowed = preflight.header("access-control-allow-headers").expect("some").to_owned();
    for name in ["Tus-Resumable", "Upload-Length", "Upload-Offset", "Upload-Metadata", "Upload-Concat"] {
        assert!(allowed.contains(name), "{allowed}");
    }
    let request = tus(Method::POST, "/v1/tus/", &rig.shop).header("upload-length", "4");
    let answer = rig.api.send(&request.header("origin", "https://app.example")).await;
    assert_eq!(answer.status, 201, "with a slash at its end");
    let told = answer.header("access-control-expose-headers").expect("some");
    for name in ["Location", "Upload-Offset", "Tus-Resumable", "Upload-Expires", "Calotype-Media-Id"] {
        assert!(told.contains(name), "{told}");
    }
}

#[tokio::test]
async fn a_file_comes_piece_by_piece_and_becomes_a_medium() {
    for rig in both(&[]).await {
        let bytes = picture([10, 200, 10]);
        let said = [
            ("filename", "beach.png"),
            ("filetype", "text/html"),
            ("public_id", "beach"),
            ("folder", "summer"),
            ("tags", "sun,sea"),
            ("metadata", "{\"year\":2026}"),
        ];
        let location = create(&rig, bytes.len(), &said).await;
        let (first, rest) = bytes.split_at(10);
        let answer = append(&rig, &location, 0, first.to_vec()).await;
        has(&answer, "upload-offset", "10");
        assert!(answer.header("upload-expires").is_some_and(|date| date.ends_with("GMT")), "{:?}", answer.headers);

        let head = rig.api.send(&tus(Method::HEAD, &location, &rig.shop)).await;
        assert_eq!(head.status, 200);
        has(&head, "upload-offset", "10");
        has(&head, "upload-length", &bytes.len().to_string());
        has(&head, "cache-control", "no-store");
        has(&head, "tus-resumable", "1.0.0");
        let metadata = head.header("upload-metadata").expect("as it was sent");
        assert!(metadata.starts_with(&format!("filename {}", base64(b"beach.png"))), "{metadata}");

        let wrong = rig.api.send(&patch(&rig, &location, 9, rest.to_vec())).await;
        assert!(problem(&wrong, 409, "upload-offset").ends_with("at 10"));
        let last = append(&rig, &location, 10, rest.to_vec()).await;
        has(&last, "upload-offset", &bytes.len().to_string());
        has(&last, "calotype-media-id", id_in(&location));
        let upload = look(&rig, id_in(&location)).await;
        let medium = &upload["media"];
        assert_eq!((&upload["state"], &medium["public_id"]), (&"done".into(), &"beach".into()), "{upload}");
        assert_eq!((&medium["content_type"], &medium["filename"]), (&"image/png".into(), &"beach.png".into()));
        assert_eq!((&medium["folder"], &medium["tags"]), (&"summer".into(), &json!(["sea", "sun"])));
        assert_eq!(medium["metadata"], json!({"year": 2026}));
        // Whoever has not heard of it asks, and is told that nothing is missing.
        assert_eq!(offset(&rig, &location).await, bytes.len());
        problem(&rig.api.send(&patch(&rig, &location, bytes.len(), "x")).await, 409, "upload-state");
        assert_taken(&rig, "beach", &bytes).await;
    }
}

#[tokio::test]
async fn crumbs_are_put_together_and_large_bodies_cut() {
    for rig in both(&[]).await {
        let bytes = noise(20 << 20, 6);
        let location = create(&rig, bytes.len(), &[("public_id", "crumbs")]).await;
        let mut at = 0;
        for length in [1, 2, 3 << 20, 1, 3 << 20, 1] {
            append(&rig, &location, at, bytes.slice(at..at + length)).await;
            at += length;
        }
        // 1 + 2 + 3 MiB + 1 + 3 MiB are one object, and what came after that another.
        assert_eq!((rig.count("upload_parts").await, rig.incoming().len()), (2, 2));
        append(&rig, &location, at, bytes.slice(at..)).await;
        assert_taken(&rig, "crumbs", &bytes).await;
    }
}

#[tokio::test]
async fn the_first_bytes_may_come_at_once() {
    for rig in both(&[]).await {
        let create = |bytes: &'static str, length: usize| {
            let request = tus(Method::POST, "/v1/tus", &rig.shop).header("upload-length", length.to_string());
            request.header("content-type", "application/offset+octet-stream").body(bytes)
        };
        let begun = rig.api.send(&create("some ", 10)).await;
        assert_eq!(begun.status, 201);
        has(&begun, "upload-offset", "5");
        let location = begun.header("location").expect("a place").to_owned();
        append(&rig, &location, 5, "bytes").await;
        assert_taken(&rig, id_in(&location), b"some bytes").await;
        let whole = rig.api.send(&create("all", 3)).await;
        has(&whole, "upload-offset", "3");
        let id = whole.header("calotype-media-id").expect("a medium").to_owned();
        assert_taken(&rig, &id, b"all").await;
        // What is refused is not begun: nobody knows where it would be.
        problem(&rig.api.send(&create("too many", 3)).await, 422, "upload-length");
        let damaged = create("all", 3).header("upload-checksum", "sha1 Kq5sNclPz7QV2+lfQIuc6R7oRu0=");
        problem(&rig.api.send(&damaged).await, 460, "checksum-mismatch");
        assert_eq!(rig.count("uploads WHERE state IN ('open', 'completing')").await, 0);
    }
}

#[tokio::test]
async fn how_many_there_will_be_may_be_said_later() {
    for rig in both(&[]).await {
        let request = tus(Method::POST, "/v1/tus", &rig.shop).header("upload-defer-length", "1");
        let begun = rig.api.send(&request).await;
        let location = begun.header("location").expect("a place").to_owned();
        append(&rig, &location, 0, "some ").await;
        let head = rig.api.send(&tus(Method::HEAD, &location, &rig.shop)).await;
        has(&head, "upload-defer-length", "1");
        assert_eq!(head.header("upload-length"), None);
        let last = |length: &str| patch(&rig, &location, 5, "bytes").header("upload-length", length);
        problem(&rig.api.send(&last("4")).await, 422, "upload-length");
        assert_eq!(rig.api.send(&last("10")).await.status, 204);
        assert_taken(&rig, id_in(&location), b"some bytes").await;
    }
}

#[tokio::test]
async fn bytes_that_were_damaged_do_not_count() {
    for rig in both(&[]).await {
        let bytes = noise(9 << 20, 7);
        let location = create(&rig, bytes.len() + 5, &[]).await;
        append(&rig, &location, 0, "start").await;
        let sums = [
            ("sha1", "Kq5sNclPz7QV2+lfQIuc6R7oRu0="),
            ("md5", "XrY7u+Ae7tCTyyK7j1rNww=="),
            ("sha256", "uU0nuZNNPgilLlLX2n2r+sSE7+N6U4DukIj3rOLvzek="),
        ];
        for (algorithm, sum) in sums {
            let request =
                patch(&rig, &location, 5, bytes.clone()).header("upload-checksum", format!("{algorithm} {sum}"));
            problem(&rig.api.send(&request).await, 460, "checksum-mismatch");
            assert_eq!((offset(&rig, &location).await, rig.incoming().len()), (5, 1), "{algorithm}");
        }
        for bad in ["crc32 AAAA", "sha1", "sha1 x"] {
            let request = patch(&rig, &location, 5, "few").header("upload-checksum", bad);
            problem(&rig.api.send(&request).await, 400, "bad-checksum");
        }
        let sum = base64(&sha256_of(&bytes));
        let good = patch(&rig, &location, 5, bytes.clone()).header("upload-checksum", format!("sha256 {sum}"));
        assert_eq!(rig.api.send(&good).await.status, 204);
        assert_taken(&rig, id_in(&location), &[b"start", &bytes[..]].concat()).await;
    }
}

fn sha256_of(bytes: &[u8]) -> Vec<u8> {
    use sha2::Digest;
    sha2::Sha256::digest(bytes).to_vec()
}

#[tokio::test]
async fn an_upload_is_put_together_of_others() {
    for rig in both(&[]).await {
        let partial = async |bytes: &str| {
            let request = tus(Method::POST, "/v1/tus", &rig.shop).header("upload-length", bytes.len().to_string());
            let begun = rig.api.send(&request.header("upload-concat", "partial")).await;
            assert_eq!((begun.status.as_u16(), begun.header("calotype-media-id")), (201, None));
            begun.header("location").expect("a place").to_owned()
        };
        let (one, two) = (partial("first ").await, partial("second").await);
        let together = |parts: &str| {
            let request = tus(Method::POST, "/v1/tus", &rig.shop).header("upload-concat", format!("final;{parts}"));
            request.header("upload-metadata", format!("public_id {}", base64(b"both")))
        };
        append(&rig, &two, 0, "second").await;
        problem(&rig.api.send(&together(&format!("{one} {two}"))).await, 409, "upload-incomplete");
        append(&rig, &one, 0, "first ").await;
        assert_eq!(rig.count("media").await, 0, "parts are no media");
        has(&rig.api.send(&tus(Method::HEAD, &one, &rig.shop)).await, "upload-concat", "partial");
        problem(
            &rig.api
                .json(Method::POST, &rig.shop.key, &format!("/v1/uploads/{}/complete", id_in(&one)), &json!({}))
                .await,
            409,
            "upload-state",
        );
        let whole = rig.api.send(&together(&format!("{one} {two}"))).await;
        assert_eq!(whole.status, 201, "{}", whole.text());
        has(&whole, "upload-offset", "12");
        let location = whole.header("location").expect("a place").to_owned();
        let head = rig.api.send(&tus(Method::HEAD, &location, &rig.shop)).await;
        has(&head, "upload-concat", &format!("final;{one} {two}"));
        problem(&rig.api.send(&patch(&rig, &location, 12, "more")).await, 403, "upload-final");
        problem(&rig.api.send(&together(&format!("{one} {two}"))).await, 409, "exists");
        let again = tus(Method::POST, "/v1/tus", &rig.shop).header("upload-concat", format!("final;{one}"));
        problem(&rig.api.send(&again).await, 409, "upload-state");
        assert_taken(&rig, "both", b"first second").await;
    }
}

#[tokio::test]
async fn what_is_given_up_or_too_late_is_gone() {
    for rig in both(&[]).await {
        let given_up = create(&rig, 10, &[]).await;
        append(&rig, &given_up, 0, "12345").await;
        assert_eq!(rig.api.send(&tus(Method::DELETE, &given_up, &rig.shop)).await.status, 204);
        assert_eq!(rig.api.send(&tus(Method::HEAD, &given_up, &rig.shop)).await.status, 404);
        problem(&rig.api.send(&patch(&rig, &given_up, 5, "67890")).await, 404, "not-found");
        let late = create(&rig, 10, &[]).await;
        append(&rig, &late, 0, "12345").await;
        rig.sql("UPDATE uploads SET expires_at = now(), due_at = now() WHERE state = 'open'").await;
        assert_eq!(rig.api.send(&tus(Method::HEAD, &late, &rig.shop)).await.status, 410);
        problem(&rig.api.send(&patch(&rig, &late, 5, "67890")).await, 410, "upload-gone");
        assert_swept(&rig).await;
        assert_eq!(rig.count("media").await, 0);
    }
}

#[tokio::test]
async fn what_is_no_tus_is_refused() {
    let rig = MediaRig::with_folder(&[("UPLOAD_BYTES", "1000".to_owned())]).await;
    let plain = |method: Method, target: &str| {
        Request::new(method, target).header("authorization", format!("Bearer {}", rig.shop.key))
    };
    let location = create(&rig, 10, &[]).await;
    for (method, target) in
        [(Method::POST, "/v1/tus"), (Method::PATCH, location.as_str()), (Method::DELETE, location.as_str())]
    {
        for version in ["", "0.2.2"] {
            let answer = rig.api.send(&plain(method.clone(), target).header("tus-resumable", version)).await;
            problem(&answer, 412, "tus-version");
            has(&answer, "tus-version", "1.0.0");
        }
    }
    let post = async |headers: &[(&str, &str)]| {
        let request = tus(Method::POST, "/v1/tus", &rig.shop);
        rig.api.send(&headers.iter().fold(request, |request, (name, value)| request.header(*name, *value))).await
    };
    problem(&post(&[("upload-length", "1001")]).await, 413, "file-too-large");
    for (headers, field) in [
        (&[][..], "Upload-Length"),
        (&[("upload-length", "0")], "Upload-Length"),
        (&[("upload-length", "x")], "Upload-Length"),
        (&[("upload-length", "1"), ("upload-defer-length", "1")], "Upload-Defer-Length"),
        (&[("upload-defer-length", "2")], "Upload-Defer-Length"),
        (&[("upload-length", "1"), ("upload-metadata", "filename x")], "Upload-Metadata"),
        (&[("upload-length", "1"), ("upload-metadata", &"a".repeat(32 * 1024 + 1))], "Upload-Metadata"),
        (&[("upload-length", "1"), ("upload-metadata", "public_id Li4=")], "public_id"),
        (&[("upload-length", "1"), ("upload-concat", "final;/v1/tus/x")], "Upload-Concat"),
    ] {
        let detail = problem(&post(headers).await, 422, "bad-field");
        assert!(detail.starts_with(field), "{headers:?}: {detail}");
    }
    problem(&post(&[("upload-length", "1"), ("idempotency-key", "x")]).await, 400, "idempotency-unsupported");
    let untyped = tus(Method::PATCH, &location, &rig.shop).header("upload-offset", "0").body("x");
    problem(&rig.api.send(&untyped).await, 415, "not-tus");
    problem(&rig.api.send(&patch(&rig, &location, 0, "more than ten bytes")).await, 422, "upload-length");
    assert_eq!(offset(&rig, &location).await, 0);
    // Proxies that know no PATCH.
    let over = tus(Method::POST, &location, &rig.shop).header("x-http-method-override", "PATCH");
    let over =
        over.header("upload-offset", "0").header("content-type", "application/offset+octet-stream").body("0123456789");
    let answer = rig.api.send(&over).await;
    assert_eq!(answer.status, 204, "{}", answer.text());
    assert_taken(&rig, id_in(&location), b"0123456789").await;
}

#[tokio::test]
async fn a_name_that_was_taken_meanwhile_can_be_freed() {
    for rig in both(&[]).await {
        let location = create(&rig, 3, &[("public_id", "a")]).await;
        let other = create(&rig, 3, &[("public_id", "a")]).await;
        append(&rig, &other, 0, "two").await;
        problem(&rig.api.send(&patch(&rig, &location, 0, "one")).await, 409, "exists");
        let upload = look(&rig, id_in(&location)).await;
        assert_eq!((&upload["state"], &upload["error"]["code"]), (&"open".into(), &"exists".into()), "{upload}");
        assert_eq!(received(&rig, id_in(&location)).await, 3, "its bytes are kept");
        let head = rig.api.send(&tus(Method::HEAD, &location, &rig.shop)).await;
        assert_eq!(head.status, 409, "it is not done");
        assert_eq!(rig.delete(id_in(&other)).await.status, 204);
        let target = format!("/v1/uploads/{}/complete", id_in(&location));
        let done: Value = ok(&rig.api.json(Method::POST, &rig.shop.key, &target, &json!({})).await, 200);
        assert_eq!((&done["state"], &done["error"]), (&"done".into(), &Value::Null), "{done}");
        assert_taken(&rig, "a", b"one").await;
    }
}

#[tokio::test]
async fn what_was_announced_has_to_come() {
    for rig in both(&[]).await {
        let sum = crate::upload_rig::sha256(b"right");
        let location = create(&rig, 5, &[("sha256", &sum), ("public_id", "a")]).await;
        problem(&rig.api.send(&patch(&rig, &location, 0, "wrong")).await, 422, "hash-mismatch");
        assert_eq!(look(&rig, id_in(&location)).await["error"]["code"], "hash-mismatch");
        assert_eq!((rig.count("media").await, rig.pointer("a")), (0, None));
        let location = create(&rig, 5, &[("sha256", &sum), ("public_id", "a")]).await;
        append(&rig, &location, 0, "right").await;
        assert_taken(&rig, "a", b"right").await;
    }
}
