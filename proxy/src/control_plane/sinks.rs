//! Where what the feed tells goes: the policy in force, this edge's bans, and the bans that edges share.
//!
//! What cannot be taken back for good is owed: it is in force here, and tried again. Must not lose count of it: the journal must not
//! say that something was taken back that a restart would bring back.

use std::sync::Arc;
use std::time::{Duration, Instant};

use cache::{Bans, PurgeError, Scope, UnixMillis};
use futures_util::{StreamExt, stream};
use tenancy::feed::FeedEvent;
use tokio::task::block_in_place;

use crate::policy::PolicyInForce;
use crate::second_level::SecondLevel;

/// Announcements that are written at the same time.
const WRITES_MAX: usize = 16;

/// Time between two tries of what is owed: each bans it anew.
const RETRY: Duration = Duration::from_secs(30);

/// When more is owed, it is everything.
const OWED_MAX: usize = 10_000;

/// What one change takes back.
#[derive(Debug, Clone)]
pub struct TakenBack {
    scopes: Vec<Scope>,
    /// When it was announced, by the clock of the control plane's database.
    at: UnixMillis,
    /// Names the change, the same for every edge.
    id: u64,
}

impl TakenBack {
    /// By this change of this feed.
    pub fn new(epoch: &str, event: &FeedEvent, scopes: Vec<Scope>) -> Self {
        let mut id = [0; 8];
        let hash = blake3::hash(format!("{epoch} {}", event.seq).as_bytes());
        id.copy_from_slice(&hash.as_bytes()[..8]);
        Self { scopes, at: UnixMillis(event.at), id: u64::from_le_bytes(id) }
    }
}

/// Where it goes.
pub struct Sinks {
    /// What requests are judged by.
    pub policy: Arc<PolicyInForce>,
    bans: Arc<Bans>,
    second_level: Option<Arc<SecondLevel>>,
    /// In force, but not written down.
    owed_bans: Vec<Scope>,
    /// Not in the second level, where other edges and a later life of this one would read it.
    owed_announcements: Vec<TakenBack>,
    tried: Instant,
}

impl Sinks {
    /// Nothing is owed yet.
    pub fn new(policy: Arc<PolicyInForce>, bans: Arc<Bans>, second_level: Option<Arc<SecondLevel>>) -> Self {
        let (owed_bans, owed_announcements) = (Vec::new(), Vec::new());
        Self { policy, bans, second_level, owed_bans, owed_announcements, tried: Instant::now() }
    }

    /// Whether something is owed.
    pub fn owe(&self) -> bool {
        !self.owed_bans.is_empty() || !self.owed_announcements.is_empty()
    }

    /// Takes content back, here and where edges share it.
    pub async fn take_back(&mut self, taken_back: Vec<TakenBack>) {
        self.ban(taken_back.iter().flat_map(|one| one.scopes.iter().copied()).collect());
        self.announce(taken_back).await;
        self.settle().await;
    }

    /// Takes everything back for this edge: it does not know what was taken back meanwhile. What others share of it stays theirs; of
    /// that, this edge uses in this life only what is made from now on.
    pub async fn distrust_all(&mut self) {
        self.ban(vec![Scope::Everything]);
        if let Some(second_level) = &self.second_level {
            second_level.bans().distrust(Scope::Everything, UnixMillis::now());
        }
        self.settle().await;
    }

    /// Tries again what is owed, every now and then.
    pub async fn settle(&mut self) {
        if !self.owe() || self.tried.elapsed() < RETRY {
            return;
        }
        self.tried = Instant::now();
        let (bans, announcements) = (std::mem::take(&mut self.owed_bans), std::mem::take(&mut self.owed_announcements));
        self.ban(bans);
        self.announce(announcements).await;
    }

    fn ban(&mut self, scopes: Vec<Scope>) {
        if scopes.is_empty() {
            return;
        }
        let banned = block_in_place(|| self.bans.purge_all(&scopes));
        if matches!(banned, Err(PurgeError::HandedOver)) {
            // The edge that takes over reads the feed itself.
            self.bans.ban_here(&scopes);
        }
        if let Err(error) = banned {
            tracing::error!(%error, "what the feed takes back is not taken back for good yet");
            self.owed_bans.extend(scopes);
        }
        if self.owed_bans.len() > OWED_MAX {
            self.owed_bans = vec![Scope::Everything];
        }
    }

    async fn announce(&mut self, taken_back: Vec<TakenBack>) {
        let Some(second_level) = &self.second_level else { return };
        let written = stream::iter(taken_back).map(|one| async move {
            let written = second_level.bans().announce_as(&one.scopes, one.at, one.id).await;
            written.err().map(|error| (one, error))
        });
        let failed: Vec<_> = written.buffer_unordered(WRITES_MAX).filter_map(std::future::ready).collect().await;
        if let Some((_, error)) = failed.first() {
            tracing::error!(%error, "what the feed takes back may come back from the second level");
        }
        self.owed_announcements.extend(failed.into_iter().map(|(one, _)| one));
        if self.owed_announcements.len() > OWED_MAX {
            let newest = self.owed_announcements.drain(..).max_by_key(|one| one.at);
            self.owed_announcements.extend(newest.map(|one| TakenBack { scopes: vec![Scope::Everything], ..one }));
        }
    }
}
