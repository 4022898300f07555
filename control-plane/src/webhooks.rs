//! Webhooks: where a tenant wants to hear of events, and what was sent there.
//!
//! An event is put in the queues of the webhooks that want it when it is numbered (`migrations/0008_events.sql`). A worker takes a
//! queue for a while and sends one thing after the other ([`Turn`]), signed as Standard Webhooks says ([`Secret`]): what fails is tried
//! again and keeps what comes after it waiting, until it was tried as often as may be. No transaction is open while something is sent, so
//! what a dead worker had sent may be sent again, under the same id. Must not know HTTP routes.

mod delivery;
mod queue;
mod record;
mod redelivery;
mod schedule;
mod secret;
mod settings;

pub use self::delivery::{Delivery, DeliveryState, deliveries, find_delivery};
pub use self::queue::{Attempt, Due, End, Step, Turn, claim, due_in};
pub use self::record::{
    Change, NewWebhook, Webhook, change, create, delete, disable, enable, find, list, reseal, rotate, test,
};
pub use self::redelivery::{Again, redeliver, redeliver_since};
pub use self::schedule::Schedule;
pub use self::secret::Secret;
pub use self::settings::{WebhookReach, WebhookSettings};
