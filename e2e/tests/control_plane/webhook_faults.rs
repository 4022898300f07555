//! Endpoints that misbehave, workers that die, a database that goes away, and things that end while they are being sent.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use http::Method;
use rustix::process::Signal;
use serde_json::{Value, json};
use testkit::control_plane::ADMIN_KEY;
use testkit::database::{TestDatabase, WORKER};
use testkit::edge::eventually;
use testkit::receiver::{Receiver, Reply};

use crate::media_rig::MediaRig;
use crate::support::{ok, problem};
use crate::webhook_rig::{WebhookRig, number, numbers_taken, settings};

/// Settings for attempts that take a second at most.
fn short() -> Vec<(&'static str, String)> {
    vec![("WEBHOOKS__TIMEOUT_SECONDS", "1".to_owned())]
}

/// From the first to the last.
fn all(count: u64) -> Vec<u64> {
    (1..=count).collect()
}

#[tokio::test]
async fn endpoints_that_hang_or_break_off_cost_an_attempt_and_keep_nobody_else_waiting() {
    for (reply, error) in [
        (Reply::Hang, "the answer was not there in time"),
        (Reply::EndlessHead, "the answer was not there in time"),
        (Reply::Slow(Duration::from_secs(5)), "the answer was not there in time"),
        (Reply::Close, "the connection ended before the answer"),
    ] {
        let hooks = WebhookRig::start(&[short(), vec![("WEBHOOKS__BACKOFF_MS", "60000".to_owned())]].concat()).await;
        let healthy = hooks.webhook_to(&hooks.receiver.url("/healthy"), &[]).await;
        let broken = hooks.webhook_to(&hooks.receiver.url("/broken"), &[]).await;
        let broken_reply = reply.clone();
        hooks.receiver.set(move |_, received| match received.target.as_str() {
            "/broken" => broken_reply.clone(),
            _ => Reply::status(200),
        });
        let worker = hooks.worker();
        hooks.happen(1, 20).await;
        hooks.deliveries_in(&healthy, "delivered", 20).await;
        let failed = eventually("the attempt to be told", async || {
            let page = hooks.get(&format!("{}/deliveries?limit=1000", broken.path)).await;
            page["items"].as_array().expect("a list").iter().find(|one| !one["tried_at"].is_null()).cloned()
        });
        let failed = failed.await;
        assert_eq!((&failed["error"], &failed["status"]), (&json!(error), &Value::Null), "{reply:?}");
        assert_eq!((&failed["state"], &failed["attempts"]), (&json!("pending"), &json!(1)), "{reply:?}");
        let took = failed["duration_ms"].as_u64().expect("a time");
        assert!(took < 5000, "{reply:?} took {took} ms");
        assert_eq!(hooks.get(&broken.path).await["pending"], 20, "what comes after it waits");
        worker.stop().await;
    }
}

#[tokio::test]
async fn the_status_decides_and_no_more_of_an_answer_is_read_than_is_kept() {
    let hooks = WebhookRig::start(&short()).await;
    let webhook = hooks.webhook().await;
    let huge = vec![b'x'; 10_000_000];
    hooks.receiver.set(move |at, _| match at {
        0 => Reply::CloseInBody,
        1 => Reply::Answer(200, String::new(), huge.clone().into()),
        2 => Reply::Answer(500, String::new(), huge.clone().into()),
        3 => Reply::Answer(200, String::new(), b"\xff\xfe\0".to_vec().into()),
        _ => Reply::status(204),
    });
    hooks.happen(1, 4).await;
    let started = Instant::now();
    let worker = hooks.worker();
    let mut delivered = hooks.deliveries_in(&webhook, "delivered", 4).await;
    delivered.reverse();
    assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
    let answers: Vec<_> = delivered.iter().map(|one| one["answer"].as_str().expect("a text").to_owned()).collect();
    assert_eq!(delivered.iter().map(|one| one["attempts"].clone()).collect::<Vec<_>>(), [1, 1, 2, 1]);
    assert_eq!((answers[0].as_str(), answers[1].len(), answers[2].as_str()), ("begun", 1024, "\u{fffd}\u{fffd}"));
    worker.stop().await;
}

#[tokio::test]
async fn no_redirect_is_followed_and_no_private_address_is_sent_to() {
    let secret = Receiver::start().await;
    let hooks = WebhookRig::start(&[("WEBHOOKS__ATTEMPTS", "1".to_owned())]).await;
    let webhook = hooks.webhook().await;
    let location = format!("location: {}\r\n", secret.url("/secret"));
    hooks.receiver.set(move |at, _| match at {
        0 => Reply::Answer(302, location.clone(), "".into()),
        1 => Reply::Answer(307, "location: http://169.254.169.254/latest/meta-data/\r\n".to_owned(), "".into()),
        _ => Reply::Answer(308, "location: /hook\r\n".to_owned(), "".into()),
    });
    hooks.happen(1, 3).await;
    hooks.rig.worker().await;
    let mut failed = hooks.deliveries_in(&webhook, "failed", 3).await;
    failed.reverse();
    assert_eq!(failed.iter().map(|one| one["status"].clone()).collect::<Vec<_>>(), [302, 307, 308]);
    assert_eq!((hooks.receiver.count(), secret.count()), (3, 0));

    // Names are looked up when they are connected to, and then their addresses count; and what the operator's list had before does not.
    let (named, listed) = (hooks.webhook_to("https://localhost/hook", &[]).await, hooks.webhook().await);
    hooks.happen(4, 1).await;
    let worker_url = ("WORKER_URL", hooks.rig.api.database.url(WORKER));
    let lists_nothing = [("WEBHOOKS__PRIVATE", "[]".to_owned()), ("WEBHOOKS__ATTEMPTS", "1".to_owned()), worker_url];
    let worker = [settings(&[&hooks.receiver]), lists_nothing.to_vec()].concat();
    let done = hooks.rig.api.run(&["worker", "--once"], &worker).await;
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    assert_eq!(hooks.receiver.count(), 3);
    for webhook in [&named, &listed] {
        let failed = hooks.deliveries_in(webhook, "failed", 1).await.remove(0);
        assert_eq!(failed["error"], "the host's address is not allowed", "{failed}");
    }
}

#[tokio::test]
async fn two_workers_send_everything_in_order_to_endpoints_that_fail_every_third_time() {
    let receivers = [Receiver::start().await, Receiver::start().await, Receiver::start().await];
    let all_receivers: Vec<_> = receivers.iter().collect();
    let rig = MediaRig::with_folder(&settings(&all_receivers)).await;
    let hooks = WebhookRig { rig, receiver: Receiver::start().await };
    let mut webhooks = Vec::new();
    for receiver in &receivers {
        receiver.set(|at, _| Reply::status(if at % 3 == 2 { 503 } else { 200 }));
        webhooks.push(hooks.webhook_to(&receiver.url("/"), &[]).await);
    }
    let workers = [hooks.worker(), hooks.worker()];
    for first in [1, 21, 41] {
        hooks.happen(first, 20).await;
    }
    for (receiver, webhook) in receivers.iter().zip(&webhooks) {
        hooks.deliveries_in(webhook, "delivered", 60).await;
        assert_eq!(numbers_taken(receiver), all(60));
        let attempts = receiver.received();
        // What was not taken is what is sent next.
        for pair in attempts.windows(2).filter(|pair| !pair[0].was_taken) {
            assert_eq!(pair[0].id(), pair[1].id());
        }
        assert_eq!(attempts.len(), 89, "each was sent until it was taken, and never again");
    }
    for worker in workers {
        worker.stop().await;
    }
}

#[tokio::test]
async fn a_worker_that_is_killed_between_the_answer_and_the_commit_has_it_sent_again_under_the_same_id() {
    let hooks = WebhookRig::start(&[]).await;
    let webhook = hooks.webhook().await;
    hooks.receiver.set(|at, _| if at == 2 { Reply::Hang } else { Reply::status(200) });
    hooks.happen(1, 5).await;
    let killed = hooks.worker();
    hooks.receiver.wait_for(3).await;
    // The endpoint has it, and nobody has noted that.
    killed.kill().await;
    let other = hooks.worker();
    hooks.leases_run_out().await;
    hooks.deliveries_in(&webhook, "delivered", 5).await;
    let received = hooks.receiver.received();
    assert_eq!(received.iter().map(|one| number(&one.json())).collect::<Vec<_>>(), [1, 2, 3, 3, 4, 5]);
    assert_eq!(received[2].id(), received[3].id(), "the receiver can tell that it is the same");
    other.stop().await;
}

#[tokio::test]
async fn the_lease_of_a_dead_worker_runs_out_by_itself() {
    let hooks = WebhookRig::start(&short()).await;
    let webhook = hooks.webhook().await;
    hooks.receiver.set(|at, _| if at == 0 { Reply::Hang } else { Reply::status(200) });
    hooks.happen(1, 2).await;
    let killed = hooks.worker();
    hooks.receiver.wait_for(1).await;
    killed.kill().await;
    let other = hooks.worker();
    hooks.deliveries_in(&webhook, "delivered", 2).await;
    assert_eq!(numbers_taken(&hooks.receiver), [1, 2]);
    other.stop().await;
}

#[tokio::test]
async fn a_worker_that_was_taken_for_dead_changes_nothing() {
    let hooks = WebhookRig::start(&[("WEBHOOKS__TIMEOUT_SECONDS", "60".to_owned())]).await;
    let webhook = hooks.webhook().await;
    hooks.receiver.set(|at, _| if at == 0 { Reply::Slow(Duration::from_secs(2)) } else { Reply::status(200) });
    hooks.happen(1, 3).await;
    let frozen = hooks.worker();
    hooks.receiver.wait_for(1).await;
    frozen.signal(Signal::STOP);
    let other = hooks.worker();
    hooks.leases_run_out().await;
    hooks.deliveries_in(&webhook, "delivered", 3).await;
    let before = hooks.get(&format!("{}/deliveries", webhook.path)).await;
    frozen.signal(Signal::CONT);
    eventually("it to notice", async || frozen.log().contains("webhook delivered").then_some(())).await;
    // It takes part again, and what it has to say of the past is not heard.
    hooks.happen(4, 1).await;
    hooks.deliveries_in(&webhook, "delivered", 4).await;
    let after = hooks.get(&format!("{}/deliveries", webhook.path)).await;
    assert_eq!(after["items"].as_array().expect("a list")[1..], before["items"].as_array().expect("a list")[..]);
    assert_eq!(numbers_taken(&hooks.receiver), [1, 1, 2, 3, 4]);
    other.stop().await;
    frozen.stop().await;
}

#[tokio::test]
async fn a_worker_that_is_stopped_finishes_what_it_sends() {
    let hooks = WebhookRig::start(&[]).await;
    let webhook = hooks.webhook().await;
    hooks.receiver.set(|_, _| Reply::Slow(Duration::from_secs(1)));
    hooks.happen(1, 3).await;
    let worker = hooks.worker();
    hooks.receiver.wait_for(1).await;
    worker.stop().await;
    hooks.deliveries_in(&webhook, "delivered", 1).await;
    assert_eq!(hooks.receiver.count(), 1, "nothing more was begun");
    hooks.receiver.set(|_, _| Reply::status(200));
    // Nobody has to wait for a lease.
    hooks.rig.worker().await;
    assert_eq!(numbers_taken(&hooks.receiver), [1, 2, 3]);
}

#[tokio::test]
async fn what_was_sent_while_the_database_went_away_is_noted_once_it_is_back() {
    let receiver = Receiver::start().await;
    receiver.set(|_, _| Reply::Slow(Duration::from_millis(500)));
    let rig = MediaRig::with_bucket(TestDatabase::alone().await, &settings(&[&receiver])).await;
    let mut hooks = WebhookRig { rig, receiver };
    let webhook = hooks.webhook().await;
    hooks.happen(1, 3).await;
    let worker = hooks.worker();
    hooks.receiver.wait_for(1).await;
    hooks.rig.api.database.crash().await;
    eventually("it to notice", async || worker.log().contains("is not kept yet").then_some(())).await;
    hooks.rig.api.database.start_again().await;
    hooks.deliveries_in(&webhook, "delivered", 3).await;
    assert_eq!(numbers_taken(&hooks.receiver), [1, 2, 3], "nothing was sent twice");
    // What happens afterwards is heard of.
    hooks.happen(4, 1).await;
    hooks.deliveries_in(&webhook, "delivered", 4).await;
    worker.stop().await;
}

#[tokio::test]
async fn a_change_that_commits_late_is_not_passed_over() {
    let hooks = WebhookRig::start(&[]).await;
    let webhook = hooks.webhook().await;
    let worker = hooks.worker();
    let insert = |n: u32| {
        let tenant = &hooks.rig.shop.id;
        format!("INSERT INTO events (tenant_id, kind, data) VALUES ('{tenant}', 'media.created', '{{\"n\": {n}}}')")
    };
    let pool = hooks.rig.superuser().await;
    let mut late = pool.begin().await.expect("a transaction");
    sqlx::query(sqlx::AssertSqlSafe(insert(2))).execute(&mut *late).await.expect("it is told of");
    hooks.rig.sql(&insert(1)).await;
    hooks.deliveries_in(&webhook, "delivered", 1).await;
    late.commit().await.expect("it is numbered");
    let undone = async {
        let mut undone = pool.begin().await.expect("a transaction");
        sqlx::query(sqlx::AssertSqlSafe(insert(99))).execute(&mut *undone).await.expect("it is told of");
        undone.rollback().await.expect("it has not happened");
    };
    undone.await;
    hooks.rig.sql(&insert(3)).await;
    hooks.deliveries_in(&webhook, "delivered", 3).await;
    assert_eq!(numbers_taken(&hooks.receiver), [1, 2, 3]);
    let page = hooks.get("/v1/events").await;
    let seqs: Vec<_> = page["items"].as_array().expect("a list").iter().map(|one| one["seq"].clone()).collect();
    assert_eq!(seqs, [3, 2, 1], "as they have committed, without a gap");
    worker.stop().await;
}

#[tokio::test]
async fn many_at_once_lose_nothing_and_wake_the_worker_each_time() {
    let hooks = WebhookRig::start(&[]).await;
    let webhook = hooks.webhook().await;
    let worker = hooks.worker();
    let pool = hooks.rig.superuser().await;
    let statement =
        format!("INSERT INTO events (tenant_id, kind, data) VALUES ('{}', 'media.created', '{{}}')", hooks.rig.shop.id);
    // Queues run empty and fill up again all the time.
    let writers = (0..8).map(|_| {
        let (pool, statement) = (pool.clone(), statement.clone());
        tokio::spawn(async move {
            for _ in 0..25 {
                sqlx::query(sqlx::AssertSqlSafe(statement.clone())).execute(&pool).await.expect("it is told of");
            }
        })
    });
    for writer in writers.collect::<Vec<_>>() {
        writer.await.expect("it has not panicked");
    }
    hooks.deliveries_in(&webhook, "delivered", 200).await;
    let mut delivered = hooks.get("/v1/events?limit=1000").await["items"].as_array().expect("a list").clone();
    delivered.reverse();
    let sent: Vec<_> = hooks.receiver.received().iter().map(|one| one.id().to_owned()).collect();
    let in_order: Vec<_> = delivered.iter().map(|one| one["id"].as_str().expect("an id").to_owned()).collect();
    assert_eq!(sent, in_order);
    worker.stop().await;
}

#[tokio::test]
async fn a_webhook_that_is_deleted_is_sent_nothing_more() {
    let hooks = WebhookRig::start(&[]).await;
    let (deleted, other) = (hooks.webhook().await, hooks.webhook_to(&hooks.receiver.url("/other"), &[]).await);
    hooks.receiver.set(|_, received| match received.target.as_str() {
        "/hook" => Reply::Slow(Duration::from_secs(1)),
        _ => Reply::status(200),
    });
    let worker = hooks.worker();
    hooks.happen(1, 5).await;
    hooks.deliveries_in(&other, "delivered", 5).await;
    ok(&hooks.rig.api.delete(&hooks.rig.shop.key, &deleted.path).await, 204);
    for target in [deleted.path.clone(), format!("{}/deliveries", deleted.path)] {
        problem(&hooks.rig.api.get(&hooks.rig.shop.key, &target).await, 404, "not-found");
    }
    hooks.happen(6, 1).await;
    hooks.deliveries_in(&other, "delivered", 6).await;
    worker.stop().await;
    let targets: Vec<_> = hooks.receiver.received().into_iter().map(|one| one.target).collect();
    assert_eq!(targets.iter().filter(|target| *target == "/hook").count(), 1, "what was on its way");
    assert_eq!(hooks.rig.count("webhook_queues").await, 1);
}

#[tokio::test]
async fn a_tenant_that_is_suspended_or_deleted_is_sent_nothing() {
    let hooks = WebhookRig::start(&[]).await;
    let (api, worker) = (&hooks.rig.api, hooks.worker());
    hooks.webhook().await;
    hooks.happen(1, 1).await;
    hooks.receiver.wait_for(1).await;
    let set = async |state: &str| {
        let answer = api.json(Method::PATCH, ADMIN_KEY, "/v1/tenants/shop", &json!({"state": state})).await;
        ok(&answer, 200);
    };
    set("suspended").await;
    hooks.happen(2, 2).await;
    eventually("the worker to have looked", async || {
        let later = "webhook_queues WHERE due_at > now() + interval '1 minute' AND token IS NULL";
        (hooks.rig.count(later).await == 1).then_some(())
    })
    .await;
    assert_eq!(hooks.receiver.count(), 1);
    set("active").await;
    // It is looked at after a few minutes, which have passed.
    hooks.rig.sql("UPDATE webhook_queues SET due_at = now()").await;
    hooks.receiver.wait_for(3).await;
    hooks.receiver.set(|_, _| Reply::status(500));
    hooks.happen(4, 3).await;
    hooks.receiver.wait_for(5).await;
    set("suspended").await;
    ok(&api.delete(ADMIN_KEY, "/v1/tenants/shop").await, 204);
    // What is kept by month goes with its month.
    for table in ["event_heads", "webhooks", "webhook_queues"] {
        assert_eq!(hooks.rig.count(table).await, 0, "{table}");
    }
    let before = hooks.receiver.count();
    let blog = api.tenant("blog").await;
    let url = json!({"url": hooks.receiver.url("/blog")});
    ok(&api.json(Method::POST, &blog.key, "/v1/webhooks", &url).await, 201);
    hooks.receiver.set(|_, _| Reply::status(200));
    hooks.rig.sql("INSERT INTO events (tenant_id, kind, data) SELECT id, 'media.created', '{}' FROM tenants").await;
    let received = hooks.receiver.wait_for(before + 1).await;
    assert!(received[before..].iter().all(|one| one.target == "/blog"), "the worker goes on with others");
    worker.stop().await;
}

#[tokio::test]
async fn a_tenant_whose_endpoints_all_hang_has_a_bounded_number_of_them_at_work() {
    let hooks = WebhookRig::start(&[("WEBHOOKS__TIMEOUT_SECONDS", "60".to_owned())]).await;
    hooks.receiver.set(|_, received| match received.target.as_str() {
        "/blog" => Reply::status(200),
        _ => Reply::Hang,
    });
    for _ in 0..20 {
        hooks.webhook().await;
    }
    let worker = hooks.worker();
    hooks.happen(1, 1).await;
    hooks.receiver.wait_for(16).await;
    let blog = hooks.rig.api.tenant("blog").await;
    let url = json!({"url": hooks.receiver.url("/blog")});
    ok(&hooks.rig.api.json(Method::POST, &blog.key, "/v1/webhooks", &url).await, 201);
    let insert = format!("INSERT INTO events (tenant_id, kind, data) VALUES ('{}', 'media.created', '{{}}')", blog.id);
    hooks.rig.sql(&insert).await;
    let received = hooks.receiver.wait_for(17).await;
    let targets: BTreeSet<_> = received[16..].iter().map(|one| one.target.as_str()).collect();
    assert_eq!(targets, ["/blog"].into(), "16 of one tenant's, and the other's at once");
    worker.kill().await;
}
