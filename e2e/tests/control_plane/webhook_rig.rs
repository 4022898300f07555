//! A control plane whose tenants may send to receivers of the test, and what they have.
#![allow(unreachable_pub, reason = "in a test, pub means: for the other modules")]

use http::Method;
use serde_json::{Value, json};
use testkit::control_plane::{MASTER_KEY, RunningWorker};
use testkit::edge::eventually;
use testkit::receiver::Receiver;

use crate::media_rig::{MediaRig, id};
use crate::support::ok;

/// What lets webhooks reach these receivers; pauses between attempts are short.
pub fn settings(receivers: &[&Receiver]) -> Vec<(&'static str, String)> {
    let ports: Vec<_> = receivers.iter().map(|receiver| receiver.address.port()).collect();
    vec![
        ("MASTER_KEY", MASTER_KEY.to_owned()),
        ("WEBHOOKS__PORTS", format!("{ports:?}")),
        ("WEBHOOKS__PRIVATE", "[\"127.0.0.1\"]".to_owned()),
        ("WEBHOOKS__BACKOFF_MS", "20".to_owned()),
        ("WEBHOOKS__BACKOFF_MAX_SECONDS", "1".to_owned()),
    ]
}

/// A control plane with a receiver.
pub struct WebhookRig {
    pub rig: MediaRig,
    pub receiver: Receiver,
}

impl WebhookRig {
    /// With these settings beside its own.
    pub async fn start(more: &[(&'static str, String)]) -> Self {
        let receiver = Receiver::start().await;
        let rig = MediaRig::with_folder(&[settings(&[&receiver]), more.to_vec()].concat()).await;
        Self { rig, receiver }
    }

    /// Asks for something as the tenant.
    pub async fn ask(&self, method: Method, target: &str, body: &Value, status: u16) -> Value {
        ok(&self.rig.api.json(method, &self.rig.shop.key, target, body).await, status)
    }

    /// Gets something as the tenant.
    pub async fn get(&self, target: &str) -> Value {
        ok(&self.rig.api.get(&self.rig.shop.key, target).await, 200)
    }

    /// Makes a webhook to the receiver that hears of everything.
    pub async fn webhook(&self) -> TestWebhook {
        self.webhook_to(&self.receiver.url("/hook"), &[]).await
    }

    /// Makes a webhook to somewhere that hears of these.
    pub async fn webhook_to(&self, url: &str, types: &[&str]) -> TestWebhook {
        let made = self.ask(Method::POST, "/v1/webhooks", &json!({"url": url, "types": types}), 201).await;
        TestWebhook {
            path: format!("/v1/webhooks/{}", id(&made)),
            secret: made["secret"].as_str().expect("a secret").to_owned(),
        }
    }

    /// Lets so many things happen, in one transaction: the n-th tells its number, from `first` on.
    pub async fn happen(&self, first: usize, count: usize) {
        let (tenant, last) = (&self.rig.shop.id, first + count - 1);
        let tell = format!(
            "INSERT INTO events (tenant_id, kind, data)
             SELECT '{tenant}', 'media.created', jsonb_build_object('n', n) FROM generate_series({first}, {last}) AS n"
        );
        assert_eq!(self.rig.sql(&tell).await, count as u64);
    }

    /// A delivery, once it is in this state.
    pub async fn delivery_in(&self, webhook: &TestWebhook, event: &str, state: &str) -> Value {
        let target = format!("{}/deliveries/{event}", webhook.path);
        eventually(&format!("{event} to be {state}"), async || {
            let delivery = self.get(&target).await;
            (delivery["state"] == state).then_some(delivery)
        })
        .await
    }

    /// Waits until so many deliveries are in this state; them, the newest first.
    pub async fn deliveries_in(&self, webhook: &TestWebhook, state: &str, count: usize) -> Vec<Value> {
        let target = format!("{}/deliveries?state={state}&limit=1000", webhook.path);
        eventually(&format!("{count} deliveries to be {state}"), async || {
            let page = self.get(&target).await;
            let items = page["items"].as_array().expect("a list").clone();
            (items.len() == count).then_some(items)
        })
        .await
    }

    /// A worker that goes on.
    pub fn worker(&self) -> RunningWorker {
        self.rig.start_worker(&[])
    }

    /// Lets the leases of all queues run out, as time would.
    pub async fn leases_run_out(&self) {
        self.rig.sql("UPDATE webhook_queues SET leased_until = now() - interval '1 second'").await;
    }
}

/// A webhook that was made for a test.
#[derive(Debug, Clone)]
pub struct TestWebhook {
    /// Where the API has it.
    pub path: String,
    /// Its first secret.
    pub secret: String,
}

impl TestWebhook {
    /// Its id.
    pub fn id(&self) -> &str {
        self.path.rsplit('/').next().expect("a path")
    }
}

/// The numbers of [`WebhookRig::happen`] that a receiver has taken, in the order in which it has.
pub fn numbers_taken(receiver: &Receiver) -> Vec<u64> {
    receiver.taken().iter().map(|received| number(&received.json())).collect()
}

/// The number of one of them.
#[track_caller]
pub fn number(payload: &Value) -> u64 {
    payload["data"]["n"].as_u64().unwrap_or_else(|| panic!("no number in {payload}"))
}
