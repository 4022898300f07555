//! Uploads that are wrong by mistake or on purpose. Each is refused with a code and a text that helps, and leaves nothing behind.

use http::Method;
use serde_json::json;
use testkit::http::{Request, send_raw};

use crate::media_rig::{BOUNDARY, MediaRig, TestForm, id};
use crate::support::{ok, problem};

/// Nothing is there, or will be once a worker has swept.
async fn assert_nothing_is_left(rig: &MediaRig) {
    assert_eq!(rig.count("media").await, 0);
    rig.all_is_due().await;
    rig.worker().await;
    assert!(rig.objects().is_empty(), "{:?}", rig.objects());
    rig.assert_tidy().await;
}

fn request(rig: &MediaRig, content_type: &str, body: Vec<u8>) -> Request {
    Request::new(Method::POST, "/v1/media")
        .header("content-type", content_type)
        .header("authorization", format!("Bearer {}", rig.shop.key))
        .body(body)
}

#[tokio::test]
async fn fields_that_are_not_allowed() {
    let rig = MediaRig::start().await;
    let long = "a".repeat(513);
    let (many_tags, long_tag): (Vec<_>, _) = ((0..51).map(|n| n.to_string()).collect(), "t".repeat(129));
    let many_keys: serde_json::Map<_, _> = (0..51).map(|n| (n.to_string(), json!(n))).collect();
    let many_keys = serde_json::Value::Object(many_keys).to_string();
    let (wide, deep) = (json!({"a": "x".repeat(17_000)}).to_string(), format!("{{\"a\":{}", "[".repeat(20_000)));
    for (name, value) in [
        ("public_id", ""),
        ("public_id", "../../etc/passwd"),
        ("public_id", "a/../b"),
        ("public_id", "/a"),
        ("public_id", "a//b"),
        ("public_id", "a\0b"),
        ("public_id", "a\nlevel=error"),
        ("public_id", "https://evil.example/x"),
        ("public_id", &long),
        ("folder", "../up"),
        ("folder", "/a"),
        ("folder", &long),
        ("tags", &many_tags.join(",")),
        ("tags", &long_tag),
        ("metadata", "["),
        ("metadata", "[]"),
        ("metadata", "{\"a\":\"\\u0000\"}"),
        ("metadata", "{\"a\":1e999999}"),
        ("metadata", &many_keys),
        ("metadata", &wide),
        ("metadata", &deep),
        ("expires_at", "tomorrow"),
        ("expires_at", "1999-01-01T00:00:00Z"),
    ] {
        // Before the file and after it.
        let field = TestForm::default().text(name, value);
        for form in [field.clone().add("file", None, b"x"), TestForm::file(b"x").text(name, value)] {
            let detail = problem(&rig.post(form).await, 422, "bad-field");
            assert!(detail.starts_with(&format!("{name}: ")), "{name}: {detail}");
        }
    }
    assert_nothing_is_left(&rig).await;
}

#[tokio::test]
async fn text_is_text_whatever_it_looks_like() {
    let rig = MediaRig::start().await;
    let hostile = "'; DROP TABLE media; -- ${jndi:ldap:x} %s \\ \u{202e}";
    let form = TestForm::default()
        .text("public_id", hostile)
        .text("folder", "'; DROP TABLE folders; --")
        .text("tags", hostile)
        .text("metadata", &json!({ hostile: hostile }).to_string())
        .add("file", Some("'; DROP TABLE media.png"), b"x");
    let made = ok(&rig.post(form).await, 201);
    assert_eq!((&made["public_id"], &made["tags"]), (&hostile.into(), &json!([hostile])));
    assert_eq!(
        (&made["metadata"], &made["folder"]),
        (&json!({ hostile: hostile }), &"'; DROP TABLE folders; --".into())
    );
    for name in ["v1", "internal", "healthz", ".well-known", "%2e%2e", "w=100", "-"] {
        let made = ok(&rig.post(TestForm::file(b"x").text("public_id", name)).await, 201);
        let url = made["url"].as_str().expect("a URL").to_owned();
        assert!(url.starts_with("http://127.0.0.1:8080/shop/-/"), "{url}");
        assert_eq!(rig.stored(name), b"x");
    }
    for target in ["%27%20OR%201%3D1", "..%2F..", "a%00b", "%FF", "00000000-0000-0000-0000-000000000000"] {
        for target in [format!("/v1/media/{target}"), format!("/v1/media/by-public-id/{target}")] {
            assert_eq!(rig.api.get(&rig.shop.key, &target).await.status, 404, "{target}");
        }
    }
    rig.assert_tidy().await;
}

#[tokio::test]
async fn forms_that_are_none() {
    let rig = MediaRig::start().await;
    let form = format!("multipart/form-data; boundary={BOUNDARY}");
    for content_type in ["image/png", "multipart/form-data", "application/json", "multipart/form-data; boundary="] {
        let answer = rig.api.send(&request(&rig, content_type, TestForm::file(b"x").bytes())).await;
        problem(&answer, 415, "not-form");
    }
    let long = format!("multipart/form-data; boundary={}", "b".repeat(71));
    problem(&rig.api.send(&request(&rig, &long, Vec::new())).await, 415, "not-form");
    for (body, code) in [
        (Vec::new(), "body-cut"),
        (b"nonsense".to_vec(), "body-cut"),
        (TestForm::file(b"half of a fi").open(), "body-cut"),
        (format!("--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"file\"\r\n\r\nabc").into_bytes(), "body-cut"),
        (format!("--{BOUNDARY}\r\nContent-Dispo").into_bytes(), "body-cut"),
        (TestForm::default().bytes(), "bad-form"),
        (TestForm::default().text("public_id", "a").bytes(), "bad-form"),
        (TestForm::file(b"x").add("file", None, b"y").bytes(), "bad-form"),
        (TestForm::file(b"x").text("folder", "a").text("folder", "b").bytes(), "bad-form"),
        (TestForm::default().add("public_id", None, b"\xff\xfe").bytes(), "bad-form"),
        (format!("--{BOUNDARY}\r\nX: y\r\n\r\nabc\r\n--{BOUNDARY}--\r\n").into_bytes(), "bad-form"),
        (TestForm::default().text("metadata", &" ".repeat(70_000)).bytes(), "bad-form"),
    ] {
        let shown = String::from_utf8_lossy(&body).chars().take(80).collect::<String>();
        let answer = rig.api.send(&request(&rig, &form, body)).await;
        assert_eq!(answer.status.as_u16(), 400, "{shown}: {}", answer.text());
        problem(&answer, 400, code);
    }
    assert_nothing_is_left(&rig).await;
}

#[tokio::test]
async fn parts_that_are_not_known_are_named() {
    let rig = MediaRig::start().await;
    let detail = problem(&rig.post(TestForm::default().text("pubic_id", "a")).await, 400, "bad-form");
    assert!(detail.contains("\"pubic_id\" is not known"), "{detail}");
    let long = "n".repeat(5000);
    let detail = problem(&rig.post(TestForm::file(b"x").text(&long, "a")).await, 400, "bad-form");
    assert!(detail.len() < 300, "{detail}");
    let made = ok(&rig.post(TestForm::file(b"x")).await, 201);
    let target = format!("/v1/media/{}/file", id(&made));
    let put = TestForm::file(b"y").text("folder", "a").request(Method::PUT, &target, &rig.shop.key);
    assert!(problem(&rig.api.send(&put).await, 400, "bad-form").contains("\"folder\""));
    assert_eq!(rig.stored(&id(&made)), b"x");
}

#[tokio::test]
async fn forms_that_would_fill_the_memory() {
    let rig = MediaRig::start().await;
    let mut many = TestForm::default();
    for _ in 0..10_000 {
        many = many.text("tags", "a");
    }
    let detail = problem(&rig.post(many.add("file", None, b"x")).await, 400, "bad-form");
    assert!(detail.contains("more than 100 parts"), "{detail}");
    // A header without an end, and something before the first boundary without one.
    let form = format!("multipart/form-data; boundary={BOUNDARY}");
    for start in [format!("--{BOUNDARY}\r\nX-Long: "), String::new()] {
        let mut body = start.into_bytes();
        body.resize(body.len() + 400_000, b'x');
        problem(&rig.api.send(&request(&rig, &form, body)).await, 400, "bad-form");
    }
    assert_nothing_is_left(&rig).await;
}

#[tokio::test]
async fn files_that_are_empty_or_too_large() {
    let rig = MediaRig::with_folder(&[("UPLOAD_BYTES", "100000".to_owned())]).await;
    let detail = problem(&rig.post(TestForm::file(b"")).await, 422, "bad-field");
    assert_eq!(detail, "file: is empty");
    let detail = problem(&rig.post(TestForm::file(&[b'a'; 100_001])).await, 413, "file-too-large");
    assert_eq!(detail, "the file has more than 100000 bytes");
    assert_nothing_is_left(&rig).await;
    let made = ok(&rig.post(TestForm::file(&[b'a'; 100_000]).text("public_id", "a")).await, 201);
    let put =
        TestForm::file(&[b'b'; 100_001]).request(Method::PUT, &format!("/v1/media/{}/file", id(&made)), &rig.shop.key);
    problem(&rig.api.send(&put).await, 413, "file-too-large");
    assert_eq!(rig.stored("a"), [b'a'; 100_000]);
}

#[tokio::test]
async fn bodies_that_are_shorter_than_announced() {
    let rig = MediaRig::start().await;
    let body = TestForm::file(&[b'x'; 1000]).bytes();
    let head = |framing: &str| {
        format!(
            "POST /v1/media HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer {}\r\n\
             Content-Type: multipart/form-data; boundary={BOUNDARY}\r\n{framing}\r\n\r\n",
            rig.shop.key
        )
    };
    // Its length is that of half of it.
    let half = body.len() / 2;
    let mut request = head(&format!("Content-Length: {half}")).into_bytes();
    request.extend_from_slice(&body[..half]);
    problem(&send_raw(rig.api.addr(), &request).await.expect("an answer"), 400, "body-cut");
    // It ends in the middle of a chunk of nonsense.
    let mut request = head("Transfer-Encoding: chunked").into_bytes();
    request.extend_from_slice(format!("{half:x}\r\n").as_bytes());
    request.extend_from_slice(&body[..half]);
    request.extend_from_slice(b"\r\nnonsense\r\n");
    let answer = send_raw(rig.api.addr(), &request).await.expect("an answer");
    assert_eq!(answer.status.as_u16(), 400, "{}", answer.text());
    assert_nothing_is_left(&rig).await;
}

#[tokio::test]
async fn keys_that_may_not() {
    let rig = MediaRig::start().await;
    let made = ok(&rig.post(TestForm::file(b"x").text("public_id", "a")).await, 201);
    let new = |scope: &str| json!({"name": "x", "scopes": [scope]});
    let key = async |scope: &str| {
        let answer = rig.api.json(Method::POST, &rig.shop.key, "/v1/api-keys", &new(scope)).await;
        ok(&answer, 201)["key"].as_str().expect("a key").to_owned()
    };
    let (reader, writer, other) = (key("media:read").await, key("media:write").await, key("delivery:write").await);
    let target = format!("/v1/media/{}", id(&made));
    for key in [&reader, &other] {
        problem(
            &rig.api.send(&TestForm::file(b"y").request(Method::POST, "/v1/media", key)).await,
            403,
            "scope-missing",
        );
        let put = TestForm::file(b"y").request(Method::PUT, &format!("{target}/file"), key);
        problem(&rig.api.send(&put).await, 403, "scope-missing");
        problem(&rig.api.json(Method::PATCH, key, &target, &json!({"folder": "x"})).await, 403, "scope-missing");
        problem(&rig.api.delete(key, &target).await, 403, "scope-missing");
    }
    for key in [&writer, &other] {
        for target in [&target, "/v1/media", "/v1/media/by-public-id/a"] {
            problem(&rig.api.get(key, target).await, 403, "scope-missing");
        }
    }
    ok(&rig.api.get(&reader, &target).await, 200);
    problem(&rig.api.send(&TestForm::file(b"y").request(Method::POST, "/v1/media", "x")).await, 401, "unauthenticated");
    ok(&rig.api.send(&TestForm::file(b"y").request(Method::POST, "/v1/media", &writer)).await, 201);
}

#[tokio::test]
async fn changes_that_are_not_allowed() {
    let rig = MediaRig::start().await;
    let made = ok(&rig.post(TestForm::file(b"x").text("public_id", "a")).await, 201);
    for (change, code, told) in [
        (json!({"public_id": "../a"}), 422, "public_id: "),
        (json!({"folder": "a/"}), 422, "folder: "),
        (json!({"tags": ["a,b"]}), 422, "tags: "),
        (json!({"tags": "a"}), 400, "expected a sequence"),
        (json!({"metadata": [1]}), 422, "metadata: "),
        (json!({"expires_at": "1999-01-01T00:00:00Z"}), 422, "expires_at: "),
        (json!({"expires_at": "soon"}), 400, "the body cannot be used"),
        (json!({"filename": "a/b"}), 422, "filename: "),
        (json!({"filename": ""}), 422, "filename: "),
        (json!({"bytes": 5}), 400, "unknown field `bytes`"),
        (json!({"kind": "image"}), 400, "unknown field `kind`"),
    ] {
        let detail =
            problem(&rig.patch(&id(&made), &change).await, code, if code == 422 { "bad-field" } else { "bad-json" });
        assert!(detail.contains(told), "{change}: {detail}");
    }
    assert_eq!(ok(&rig.get(&id(&made)).await, 200), made);
}
