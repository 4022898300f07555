//! Webhooks as tenants use them: what is sent, how it is signed, in which order, and what becomes of what is not taken.

use std::collections::BTreeSet;

use http::Method;
use serde_json::{Value, json};
use standardwebhooks::Webhook;
use testkit::control_plane::{ControlPlane, MASTER_KEY};
use testkit::database::{TestDatabase, WORKER};
use testkit::edge::eventually;
use testkit::http::Request;
use testkit::receiver::{Received, Receiver, Reply};

use crate::media_rig::{MediaRig, TestForm, id, picture};
use crate::support::{etag, ok, problem};
use crate::webhook_rig::{WebhookRig, number, numbers_taken, settings};

/// Whether an implementation of Standard Webhooks that is not ours takes a request for one that was signed with this secret.
fn is_signed(received: &Received, secret: &str) -> bool {
    let verifier = Webhook::new(secret).expect("a secret as the standard has it");
    verifier.verify(&received.body, &received.headers).is_ok()
}

fn types(received: &[Received]) -> Vec<String> {
    received.iter().map(|one| one.json()["type"].as_str().expect("a type").to_owned()).collect()
}

#[tokio::test]
async fn what_happens_is_sent_in_its_order_and_listed() {
    let hooks = WebhookRig::start(&[]).await;
    let rig = &hooks.rig;
    hooks.webhook().await;
    let medium = ok(&rig.post(TestForm::file(&picture([1, 2, 3])).text("public_id", "beach")).await, 201);
    ok(&rig.patch(&id(&medium), &json!({"tags": ["a"]})).await, 200);
    ok(&rig.put(&id(&medium), &picture([4, 5, 6])).await, 200);
    let batch = json!({"action": "tag", "tags": ["b"], "ids": [id(&medium)]});
    let job = hooks.ask(Method::POST, "/v1/media/batch", &batch, 202).await;
    // It does the job, and sends.
    rig.worker().await;
    let expires_at = "2100-01-01T00:00:00Z";
    ok(&rig.patch(&id(&medium), &json!({"expires_at": expires_at})).await, 200);
    rig.sql("UPDATE media SET expires_at = now()").await;
    rig.worker().await;
    let other = ok(&rig.post(TestForm::file(&picture([7, 8, 9]))).await, 201);
    ok(&rig.delete(&id(&other)).await, 204);
    let cancelled = hooks.ask(Method::POST, "/v1/media/batch", &batch, 202).await;
    hooks.ask(Method::POST, &format!("/v1/jobs/{}/cancel", id(&cancelled)), &json!({}), 200).await;
    rig.worker().await;
    let expected = [
        "media.created",
        "media.updated",
        "media.replaced",
        "media.updated",
        "job.done",
        "media.updated",
        "media.expired",
        "media.created",
        "media.deleted",
        "job.cancelled",
    ];
    let received = hooks.receiver.received();
    assert_eq!(types(&received), expected);
    assert!(received.iter().all(|one| one.target == "/hook" && one.header("content-type") == "application/json"));

    let created = received[0].json();
    assert_eq!(created.as_object().expect("an object").len(), 3, "type, timestamp and data: {created}");
    for field in ["id", "public_id", "kind", "version", "sha256", "url", "tags", "created_at"] {
        assert_eq!(created["data"][field], medium[field], "{field}");
    }
    assert_eq!(received[2].json()["data"]["version"], 3);
    // As it was before it was deleted.
    assert_eq!(
        (&received[6].json()["data"]["id"], &received[6].json()["data"]["tags"]),
        (&medium["id"], &json!(["a", "b"]))
    );
    let done = received[4].json();
    assert_eq!((&done["data"]["id"], &done["data"]["state"]), (&job["id"], &json!("done")));
    assert_eq!(done["data"]["result"], json!({"done": 1, "missing": 0, "refused": 0}));

    // The log has the same, newest first.
    let page = hooks.get("/v1/events?limit=1000").await;
    let mut items = page["items"].as_array().expect("a list").clone();
    items.reverse();
    assert_eq!(items.len(), expected.len());
    for (at, (item, sent)) in items.iter().zip(&received).enumerate() {
        assert_eq!(item["seq"], at + 1);
        assert_eq!(item["id"], sent.id());
        for field in ["type", "timestamp", "data"] {
            assert_eq!(item[field], sent.json()[field], "{field} of {at}");
        }
        assert_eq!(&hooks.get(&format!("/v1/events/{}", sent.id())).await, item);
    }
}

#[tokio::test]
async fn events_are_listed_by_type_and_time_and_page() {
    let hooks = WebhookRig::start(&[]).await;
    let old = "SELECT id, 'media.created', '{}', '2026-01-01T00:00:00Z' FROM tenants, generate_series(1, 2)";
    hooks.rig.sql(&format!("INSERT INTO events (tenant_id, kind, data, created_at) {old}")).await;
    hooks.happen(1, 3).await;
    hooks.rig.sql("INSERT INTO events (tenant_id, kind, data) SELECT id, 'job.done', '{}' FROM tenants").await;
    for (query, expected) in [
        ("", &[6, 5, 4, 3, 2, 1][..]),
        ("type=job.done", &[6]),
        ("type=media.created", &[5, 4, 3, 2, 1]),
        ("type=media.deleted", &[]),
        ("since=2026-01-02T00:00:00Z", &[6, 5, 4, 3]),
        ("until=2026-01-02T00:00:00Z", &[2, 1]),
        ("since=2026-01-01T00:00:00Z&until=2026-01-01T00:00:01Z&type=media.created", &[2, 1]),
        ("until=2025-12-31T23:59:59Z", &[]),
    ] {
        let (mut cursor, mut seen) = (String::new(), Vec::new());
        loop {
            let page = hooks.get(&format!("/v1/events?limit=2&{query}{cursor}")).await;
            seen.extend(
                page["items"].as_array().expect("a list").iter().map(|item| item["seq"].as_i64().expect("a number")),
            );
            let Some(next) = page["next_cursor"].as_str() else { break };
            cursor = format!("&cursor={next}");
        }
        assert_eq!(seen, expected, "{query}");
    }
    for (query, what) in [("type=x", "type"), ("since=yesterday", "since"), ("until=", "until"), ("seq=1", "query")] {
        let refused = hooks.rig.api.get(&hooks.rig.shop.key, &format!("/v1/events?{query}")).await;
        assert!(problem(&refused, 422, "bad-field").starts_with(&format!("{what}: ")), "{query}");
    }
}

#[tokio::test]
async fn signatures_are_those_of_the_standard_and_of_both_secrets_for_a_while() {
    let hooks = WebhookRig::start(&[]).await;
    let webhook = hooks.webhook().await;
    let secret_path = format!("{}/secret", webhook.path);
    hooks.happen(1, 1).await;
    hooks.rig.worker().await;
    let first = hooks.receiver.received().remove(0);
    assert!(is_signed(&first, &webhook.secret));
    let signature = first.header("webhook-signature");
    assert!(signature.starts_with("v1,") && !signature.contains(' '), "{signature}");
    for (name, value) in
        [("webhook-id", "another"), ("webhook-timestamp", "1700000000"), ("webhook-signature", "v1,AAAA")]
    {
        let mut forged = first.clone();
        forged.headers.insert(name, value.parse().expect("a value"));
        assert!(!is_signed(&forged, &webhook.secret), "{name}");
    }
    assert!(!is_signed(&Received { body: b"{}"[..].into(), ..first.clone() }, &webhook.secret));

    let rotated = hooks.ask(Method::POST, &secret_path, &json!({"overlap_seconds": 3600}), 200).await;
    let second_secret = rotated["secret"].as_str().expect("a secret").to_owned();
    assert!(second_secret != webhook.secret && rotated["old_secret_until"].is_string());
    // A third would end the first before its time.
    let refused = hooks.rig.api.json(Method::POST, &hooks.rig.shop.key, &secret_path, &json!({})).await;
    problem(&refused, 409, "webhook-state");
    hooks.happen(2, 1).await;
    hooks.rig.worker().await;
    let both = hooks.receiver.received().remove(1);
    assert!(is_signed(&both, &webhook.secret) && is_signed(&both, &second_secret));
    assert_eq!(both.header("webhook-signature").split(' ').count(), 2);

    hooks.rig.sql("UPDATE webhooks SET old_secret_until = now()").await;
    hooks.happen(3, 1).await;
    hooks.rig.worker().await;
    let later = hooks.receiver.received().remove(2);
    assert!(!is_signed(&later, &webhook.secret) && is_signed(&later, &second_secret));
    assert_eq!(hooks.get(&webhook.path).await["old_secret_until"], Value::Null);

    // One that was lost ends at once, and a given one takes its place.
    let given = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    let order = json!({"overlap_seconds": 0, "secret": given});
    assert_eq!(hooks.ask(Method::POST, &secret_path, &order, 200).await["secret"], given);
    hooks.happen(4, 1).await;
    hooks.rig.worker().await;
    let last = hooks.receiver.received().remove(3);
    assert!(is_signed(&last, given) && !is_signed(&last, &second_secret));
}

#[tokio::test]
async fn secrets_are_shown_once_sealed_and_sealed_anew() {
    let hooks = WebhookRig::start(&[]).await;
    let request = json!({"url": hooks.receiver.url("/hook")}).to_string();
    let request = Request::new(Method::POST, "/v1/webhooks")
        .header("authorization", format!("Bearer {}", hooks.rig.shop.key))
        .header("content-type", "application/json")
        .header("idempotency-key", "once")
        .body(request);
    let made = ok(&hooks.rig.api.send(&request).await, 201);
    assert_eq!(ok(&hooks.rig.api.send(&request).await, 201), made, "the same again");
    let (webhook, secret) = (format!("/v1/webhooks/{}", id(&made)), made["secret"].as_str().expect("a secret"));
    ok(&hooks.rig.api.json(Method::POST, &hooks.rig.shop.key, &format!("{webhook}/secret"), &json!({})).await, 200);
    for target in ["/v1/webhooks", &webhook] {
        let text = hooks.get(target).await.to_string();
        assert!(!text.contains("whsec_") && !text.contains("\"secret\""), "{text}");
    }
    let raw = "encode(decode(substr('$', 7), 'base64'), 'hex')".replace('$', secret);
    let open = format!("webhooks WHERE strpos(encode(old_secret, 'hex'), {raw}) > 0");
    assert_eq!(hooks.rig.count(&open).await, 0, "the database has it in the clear");

    let new_key = "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=".to_owned();
    let keys = |old: &str| vec![("MASTER_KEY", new_key.clone()), ("PREVIOUS_MASTER_KEYS", format!("[{old}]"))];
    let resealed = hooks.rig.api.run(&["reseal"], &keys(&format!("\"{MASTER_KEY}\""))).await;
    assert!(resealed.status.success(), "{}", String::from_utf8_lossy(&resealed.stderr));
    hooks.happen(1, 1).await;
    let worker = [settings(&[&hooks.receiver]), keys(""), vec![("WORKER_URL", hooks.rig.api.database.url(WORKER))]];
    let sent = hooks.rig.api.run(&["worker", "--once"], &worker.concat()).await;
    assert!(sent.status.success(), "{}", String::from_utf8_lossy(&sent.stderr));
    assert!(is_signed(&hooks.receiver.received()[0], secret), "signed with what was sealed anew");
    // With a key that it was not sealed with, nothing is sent unsigned.
    hooks.happen(2, 1).await;
    hooks.rig.worker().await;
    assert_eq!(hooks.receiver.count(), 1);
    let last = &hooks.get(&format!("{webhook}/deliveries?limit=1")).await["items"][0];
    assert_eq!((&last["state"], &last["error"]), (&json!("pending"), &json!("it cannot be signed")));
}

#[tokio::test]
async fn without_a_master_key_there_are_no_webhooks() {
    let api = ControlPlane::start_with(TestDatabase::new().await, &[]).await;
    let shop = api.tenant("shop").await;
    let refused = api.json(Method::POST, &shop.key, "/v1/webhooks", &json!({"url": "https://example.com/"})).await;
    problem(&refused, 501, "no-master-key");
}

#[tokio::test]
async fn only_what_is_wanted_is_sent_and_tests_in_any_case() {
    let hooks = WebhookRig::start(&[]).await;
    let deleted = hooks.webhook_to(&hooks.receiver.url("/deleted"), &["media.deleted", "media.deleted"]).await;
    hooks.webhook_to(&hooks.receiver.url("/created"), &["media.created", "media.updated"]).await;
    assert_eq!(hooks.get(&deleted.path).await["types"], json!(["media.deleted"]));
    hooks.happen(1, 1).await;
    hooks.rig.worker().await;
    let targets = || hooks.receiver.received().into_iter().map(|one| one.target).collect::<Vec<_>>();
    assert_eq!(targets(), ["/created"]);

    let answer = hooks.rig.api.get(&hooks.rig.shop.key, &deleted.path).await;
    let stale = Request::new(Method::PATCH, &deleted.path)
        .header("authorization", format!("Bearer {}", hooks.rig.shop.key))
        .header("content-type", "application/json")
        .header("if-match", etag(&answer))
        .body(json!({"types": [], "url": hooks.receiver.url("/all"), "description": "for people"}).to_string());
    let changed = ok(&hooks.rig.api.send(&stale).await, 200);
    assert_eq!((&changed["types"], &changed["description"]), (&json!([]), &json!("for people")));
    problem(&hooks.rig.api.send(&stale).await, 412, "changed");
    hooks.happen(2, 1).await;
    hooks.rig.worker().await;
    assert_eq!(targets()[1..].iter().map(String::as_str).collect::<BTreeSet<_>>(), ["/all", "/created"].into());

    let told = hooks.ask(Method::POST, &format!("{}/test", deleted.path), &json!({}), 202).await;
    hooks.rig.worker().await;
    let test = hooks.receiver.received().remove(3);
    assert_eq!((test.target.as_str(), test.id()), ("/all", told["event_id"].as_str().expect("an id")));
    assert_eq!(test.json()["type"], "webhook.test");
    assert_eq!(test.json()["data"], json!({"webhook_id": deleted.id()}));
    assert!(is_signed(&test, &deleted.secret));
}

#[tokio::test]
async fn a_test_does_not_wait_for_what_fails_and_is_tried_once() {
    let hooks = WebhookRig::start(&[("WEBHOOKS__BACKOFF_MS", "60000".to_owned())]).await;
    let webhook = hooks.webhook().await;
    hooks.receiver.set(|_, _| Reply::status(500));
    hooks.happen(1, 2).await;
    hooks.rig.worker().await;
    let target = format!("{}/test", webhook.path);
    for (status, state) in [(500, "failed"), (204, "delivered")] {
        hooks.receiver.set(move |_, _| Reply::status(status));
        let told = hooks.ask(Method::POST, &target, &json!({}), 202).await;
        hooks.rig.worker().await;
        let delivery = hooks.delivery_in(&webhook, told["event_id"].as_str().expect("an id"), state).await;
        assert_eq!((&delivery["attempts"], &delivery["status"]), (&json!(1), &json!(status)));
    }
    assert_eq!(types(&hooks.receiver.received()), ["media.created", "webhook.test", "webhook.test"]);
    let webhook = hooks.get(&webhook.path).await;
    assert!(webhook["failing_since"].is_string(), "a test says nothing of what waits");
    assert_eq!(webhook["pending"], 2);
}

#[tokio::test]
async fn what_is_not_taken_keeps_what_comes_after_it_waiting_until_it_is_given_up() {
    let hooks = WebhookRig::start(&[("WEBHOOKS__ATTEMPTS", "3".to_owned())]).await;
    let webhook = hooks.webhook().await;
    hooks.receiver.set(|_, received| match number(&received.json()) {
        2 => Reply::Answer(500, String::new(), "it is\0 broken".into()),
        _ => Reply::status(200),
    });
    let worker = hooks.worker();
    hooks.happen(1, 4).await;
    hooks.deliveries_in(&webhook, "delivered", 3).await;
    let numbers =
        |from: usize| hooks.receiver.received()[from..].iter().map(|one| number(&one.json())).collect::<Vec<_>>();
    assert_eq!(numbers(0), [1, 2, 2, 2, 3, 4]);
    let ids: BTreeSet<_> = hooks.receiver.received()[1..4].iter().map(|one| one.id().to_owned()).collect();
    assert_eq!(ids.len(), 1, "it is the same in each attempt");
    let failed = hooks.deliveries_in(&webhook, "failed", 1).await.remove(0);
    let event = failed["event_id"].as_str().expect("an id");
    assert!(ids.contains(event));
    for (field, value) in
        [("attempts", json!(3)), ("status", json!(500)), ("answer", json!("it is broken")), ("try_at", Value::Null)]
    {
        assert_eq!(failed[field], value, "{field}");
    }
    assert!(
        failed["duration_ms"].is_number() && failed["tried_at"].is_string() && failed["error"].is_null(),
        "{failed}"
    );

    // Sent again by hand, it has all attempts before it again.
    let again = format!("{}/deliveries/{event}/redeliver", webhook.path);
    assert_eq!(hooks.ask(Method::POST, &again, &json!({}), 202).await["state"], "pending");
    hooks.delivery_in(&webhook, event, "failed").await;
    assert_eq!(numbers(6), [2, 2, 2]);
    hooks.receiver.set(|_, _| Reply::status(200));
    let since = json!({"since": failed["created_at"]});
    let again = hooks.ask(Method::POST, &format!("{}/redeliver", webhook.path), &since, 202).await;
    assert_eq!(again, json!({"count": 1, "next_after": null}));
    let delivery = hooks.delivery_in(&webhook, event, "delivered").await;
    assert_eq!(delivery["attempts"], 1);
    assert_eq!(numbers(9), [2]);
    // What was delivered can be sent again as well.
    let again = format!("{}/deliveries/{event}/redeliver", webhook.path);
    hooks.ask(Method::POST, &again, &json!({}), 202).await;
    hooks.receiver.wait_for(11).await;
    worker.stop().await;
}

#[tokio::test]
async fn an_endpoint_may_ask_for_time() {
    let hooks = WebhookRig::start(&[]).await;
    let webhook = hooks.webhook().await;
    hooks.receiver.set(|_, _| Reply::Answer(429, "retry-after: 100\r\n".to_owned(), "".into()));
    hooks.happen(1, 1).await;
    hooks.rig.worker().await;
    let waits = hooks.deliveries_in(&webhook, "pending", 1).await.remove(0);
    assert_eq!(waits["status"], 429);
    let pause = "webhook_deliveries WHERE try_at - tried_at BETWEEN interval '100 s' AND interval '101 s'";
    assert_eq!(hooks.rig.count(pause).await, 1, "{waits}");
    // Nor does it wait for that somewhere else.
    hooks.receiver.set(|_, received| Reply::status(if received.target == "/other" { 500 } else { 200 }));
    hooks.ask(Method::PATCH, &webhook.path, &json!({"url": hooks.receiver.url("/other")}), 200).await;
    hooks.rig.worker().await;
    let targets: Vec<_> = hooks.receiver.received().into_iter().map(|one| one.target).collect();
    assert!(targets.len() > 1 && targets[1..].iter().all(|target| target == "/other"), "{targets:?}");
    hooks.rig.sql("UPDATE webhook_deliveries SET state = 'pending', try_at = now() + interval '1 hour'").await;
    // When it is sent again by hand, it does not wait.
    hooks.receiver.set(|_, _| Reply::status(200));
    let event = waits["event_id"].as_str().expect("an id");
    hooks.ask(Method::POST, &format!("{}/deliveries/{event}/redeliver", webhook.path), &json!({}), 202).await;
    hooks.rig.worker().await;
    hooks.delivery_in(&webhook, event, "delivered").await;
}

#[tokio::test]
async fn one_that_is_gone_is_disabled_and_others_are_told() {
    let (gone, hooks) = (Receiver::start_with(|_, _| Reply::status(410)).await, Receiver::start().await);
    let rig = MediaRig::with_folder(&settings(&[&gone, &hooks])).await;
    let hooks = WebhookRig { rig, receiver: hooks };
    let lost = hooks.webhook_to(&gone.url("/"), &["media.created"]).await;
    hooks.webhook_to(&hooks.receiver.url("/"), &["webhook.disabled"]).await;
    hooks.happen(1, 3).await;
    hooks.rig.worker().await;
    assert_eq!(gone.count(), 1, "nothing more is sent");
    let webhook = hooks.get(&lost.path).await;
    assert_eq!((&webhook["state"], &webhook["disabled_reason"]), (&json!("disabled"), &json!("gone")));
    assert!(webhook["disabled_at"].is_string());
    let told = hooks.receiver.received().remove(0).json();
    assert_eq!(told["type"], "webhook.disabled");
    assert_eq!(told["data"], json!({"webhook_id": lost.id(), "description": "", "reason": "gone"}), "without its URL");

    // What happens meanwhile is not put in its queue, and it takes no orders.
    hooks.happen(4, 2).await;
    hooks.rig.worker().await;
    assert_eq!(hooks.get(&lost.path).await["pending"], 2);
    let since = json!({"since": "2026-01-01T00:00:00Z"});
    for (order, body) in [("test", json!({})), ("redeliver", since.clone())] {
        let refused =
            hooks.rig.api.json(Method::POST, &hooks.rig.shop.key, &format!("{}/{order}", lost.path), &body).await;
        problem(&refused, 409, "webhook-state");
    }

    // Once it is back, it is sent what waited; and what it has missed when it asks for that, the oldest first.
    gone.set(|_, _| Reply::status(200));
    assert_eq!(hooks.ask(Method::POST, &format!("{}/enable", lost.path), &json!({}), 200).await["state"], "enabled");
    hooks.rig.worker().await;
    assert_eq!(numbers_taken(&gone), [2, 3]);
    let again = hooks.ask(Method::POST, &format!("{}/redeliver", lost.path), &since, 202).await;
    assert_eq!(again["count"], 3, "one was given up, two were missed");
    hooks.happen(6, 1).await;
    hooks.rig.worker().await;
    assert_eq!(numbers_taken(&gone), [2, 3, 1, 4, 5, 6]);
    assert_eq!(hooks.ask(Method::POST, &format!("{}/redeliver", lost.path), &since, 202).await["count"], 0);
}

#[tokio::test]
async fn one_that_fails_for_days_is_disabled_and_waits_where_it_was() {
    let hooks = WebhookRig::start(&[("WEBHOOKS__DISABLE_DAYS", "3".to_owned())]).await;
    let webhook = hooks.webhook().await;
    hooks.receiver.set(|_, _| Reply::Close);
    hooks.happen(1, 2).await;
    hooks.rig.worker().await;
    let since = hooks.get(&webhook.path).await["failing_since"].as_str().expect("it fails").to_owned();
    let fail_again = async |days: i32| {
        let longer =
            format!("UPDATE webhook_queues SET due_at = now(), failing_since = now() - interval '{days} days'");
        hooks.rig.sql(&longer).await;
        hooks.rig.sql("UPDATE webhook_deliveries SET try_at = now()").await;
        hooks.rig.worker().await;
        hooks.get(&webhook.path).await
    };
    let not_yet = fail_again(2).await;
    assert_eq!(not_yet["state"], "enabled");
    assert!(not_yet["failing_since"].as_str().expect("it fails") < since.as_str(), "it goes by the first failure");
    let disabled = fail_again(4).await;
    assert_eq!((&disabled["state"], &disabled["disabled_reason"]), (&json!("disabled"), &json!("failing")));
    assert_eq!(disabled["pending"], 2);
    let before = hooks.receiver.count();
    hooks.rig.worker().await;
    assert_eq!(hooks.receiver.count(), before);

    hooks.receiver.set(|_, _| Reply::status(200));
    let enabled = hooks.ask(Method::POST, &format!("{}/enable", webhook.path), &json!({}), 200).await;
    assert!(enabled["failing_since"].is_null() && enabled["disabled_reason"].is_null());
    hooks.rig.worker().await;
    assert_eq!(numbers_taken(&hooks.receiver), [1, 2]);
    assert!(hooks.get(&webhook.path).await["failing_since"].is_null());

    // By request it is the same.
    let disabled = hooks.ask(Method::POST, &format!("{}/disable", webhook.path), &json!({}), 200).await;
    assert_eq!(disabled["disabled_reason"], "asked");
    hooks.happen(3, 1).await;
    hooks.rig.worker().await;
    assert_eq!(numbers_taken(&hooks.receiver), [1, 2]);
}

#[tokio::test]
async fn what_is_not_allowed_is_told() {
    let hooks = WebhookRig::start(&[]).await;
    let (api, shop) = (&hooks.rig.api, &hooks.rig.shop);
    let webhook = hooks.webhook().await;
    let good = hooks.receiver.url("/");
    for (body, field) in [
        (json!({"url": ""}), "url"),
        (json!({"url": "http://example.com/"}), "url"),
        (json!({"url": "https://example.com:22/"}), "url"),
        (json!({"url": "https://127.0.0.2/"}), "url"),
        (json!({"url": "https://169.254.169.254/latest/meta-data/"}), "url"),
        (json!({"url": "https://[::1]/"}), "url"),
        (json!({"url": "https://user:password@example.com/"}), "url"),
        (json!({"url": format!("https://example.com/{}", "a".repeat(2048))}), "url"),
        (json!({"url": good, "types": ["media.exploded"]}), "types"),
        (json!({"url": good, "description": "a".repeat(501)}), "description"),
        (json!({"url": good, "description": "a\u{0}"}), "description"),
        (json!({"url": good, "secret": "secret"}), "secret"),
        (json!({"url": good, "secret": "whsec_AAAA"}), "secret"),
    ] {
        let mut tries = vec![(Method::POST, "/v1/webhooks".to_owned())];
        if field != "secret" {
            tries.push((Method::PATCH, webhook.path.clone()));
        }
        for (method, target) in tries {
            let refused = api.json(method, &shop.key, &target, &body).await;
            assert!(
                problem(&refused, 422, "bad-field").starts_with(&format!("{field}: ")),
                "{body} {}",
                refused.text()
            );
        }
    }
    for (target, body, status, code) in [
        ("/v1/webhooks", json!({}), 400, "bad-json"),
        ("/v1/webhooks", json!({"url": good, "kind": "x"}), 400, "bad-json"),
        (&format!("{}/secret", webhook.path), json!({"overlap_seconds": 604_801}), 422, "bad-field"),
        (&format!("{}/secret", webhook.path), json!({"secret": "x"}), 422, "bad-field"),
        (&format!("{}/redeliver", webhook.path), json!({"since": "yesterday"}), 400, "bad-json"),
        (&format!("{}/deliveries/x/redeliver", webhook.path), json!({}), 404, "not-found"),
        (&format!("{}/deliveries/{}/redeliver", webhook.path, webhook.id()), json!({}), 404, "not-found"),
        ("/v1/webhooks/x/test", json!({}), 404, "not-found"),
    ] {
        problem(&api.json(Method::POST, &shop.key, target, &body).await, status, code);
    }
    let refused = api.get(&shop.key, &format!("{}/deliveries?state=lost", webhook.path)).await;
    problem(&refused, 422, "bad-field");
    let reader = json!({"name": "reader", "scopes": ["media:read", "media:write", "delivery:write"]});
    let reader = hooks.ask(Method::POST, "/v1/api-keys", &reader, 201).await;
    let reader = reader["key"].as_str().expect("a key");
    for target in ["/v1/webhooks", &webhook.path, &format!("{}/deliveries", webhook.path)] {
        problem(&api.get(reader, target).await, 403, "scope-missing");
    }
    ok(&api.get(reader, "/v1/events").await, 200);

    for _ in 1..20 {
        hooks.webhook_to(&good, &[]).await;
    }
    let refused = api.json(Method::POST, &shop.key, "/v1/webhooks", &json!({"url": good})).await;
    assert!(problem(&refused, 422, "bad-field").contains("at most 20 webhooks"));
    let mut pages = Vec::new();
    let mut target = "/v1/webhooks?limit=7".to_owned();
    loop {
        let page = hooks.get(&target).await;
        pages.extend(page["items"].as_array().expect("a list").iter().map(id));
        let Some(next) = page["next_cursor"].as_str() else { break };
        target = format!("/v1/webhooks?limit=7&cursor={next}");
    }
    assert_eq!(pages.iter().collect::<BTreeSet<_>>().len(), 20);
    assert_eq!(pages[0], webhook.id(), "the oldest first");
}

#[tokio::test]
async fn a_worker_tells_how_webhooks_are() {
    let port = testkit::port::Port::keep().expect("a port is free");
    let hooks = WebhookRig::start(&[("WORKER_LISTEN", port.address.to_string())]).await;
    hooks.receiver.set(|at, _| Reply::status(if at == 0 { 500 } else { 200 }));
    hooks.webhook().await;
    let silent = hooks.webhook_to(&hooks.receiver.url("/silent"), &["media.deleted"]).await;
    hooks.ask(Method::POST, &format!("{}/disable", silent.path), &json!({}), 200).await;
    hooks.happen(1, 2).await;
    let worker = hooks.worker();
    hooks.receiver.wait_for(3).await;
    let metrics = eventually("metrics of what was sent", async || {
        let metrics = testkit::http::send(port.address, &Request::get("/metrics")).await.ok()?.text();
        let is_there = |line: &str| metrics.lines().any(|one| one == line);
        let expected = [
            "calotype_webhook_attempt_seconds_count{outcome=\"delivered\"} 2",
            "calotype_webhook_attempt_seconds_count{outcome=\"refused\"} 1",
            "calotype_webhook_delay_seconds_count 2",
            "calotype_webhook_pending 0",
            "calotype_webhooks{state=\"working\"} 1",
            "calotype_webhooks{state=\"disabled\"} 1",
        ];
        expected.iter().all(|line| is_there(line)).then_some(metrics)
    });
    let metrics = metrics.await;
    assert!(metrics.contains("calotype_webhook_late_seconds 0"), "{metrics}");
    assert!(metrics.contains("calotype_build_info{service=\"worker\""), "{metrics}");
    let rules = include_str!("../../../deploy/prometheus/control-plane.rules.yml");
    let operations = include_str!("../../../docs/operations.md");
    let name = |rest: &str| rest.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').next().map(str::to_owned);
    let of_rules = rules.split("calotype_webhook").skip(1).filter_map(name);
    let of_worker = metrics.split("# TYPE calotype_webhook").skip(1).filter_map(name);
    let named: BTreeSet<_> = of_rules.chain(of_worker).collect();
    assert_eq!(named.len(), 6, "{named:?}");
    for name in named {
        let metric = name.trim_end_matches("_count");
        assert!(metrics.contains(&format!("# TYPE calotype_webhook{metric} ")), "no metric calotype_webhook{name}");
        assert!(operations.contains(&format!("| `calotype_webhook{metric}` |")), "{metric} is not documented");
    }
    let ready = testkit::http::send(port.address, &Request::get("/readyz")).await.expect("an answer");
    assert_eq!(ready.status.as_u16(), 200);
    worker.stop().await;
}
