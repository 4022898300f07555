//! The edge's side of the feed: what the control plane tells of tenants is put in force and written down, change by change.
//!
//! The order of one batch: tenants that changed are put in force, what was taken back is banned, durably, and then the batch is
//! written down. A crash in between only has it told once more, and all of it may be. Without a control plane to be reached the
//! edge serves what was written down.
//!
//! What tenants use is told in the other direction (`reporter.rs`), and neither waits for the other.
//!
//! Must not be needed to serve, and must not judge requests.

mod client;
mod directory;
mod journal;
mod metrics;
mod outbox;
mod reporter;
mod reporter_metrics;
mod sinks;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context;
use cache::Bans;
use prometheus::Registry;
use tenancy::feed::FeedEvent;
use tenancy::{Origin, OriginKind, Tenant, TenantId, TenantParts, TenantState};
use tokio::task::block_in_place;
use tokio::time::sleep;
use transform_url::{OriginName, TenantSlug};

use self::client::{Client, ClientError};
use self::directory::{Directory, Effect};
use self::journal::{Journal, Position};
use self::metrics::FeedMetrics;
pub use self::reporter::Reporter;
use self::sinks::{Sinks, TakenBack};
use crate::config::{ControlPlaneTable, base_url};
use crate::policy::PolicyInForce;
use crate::second_level::SecondLevel;
use crate::tenants::Layer;

/// Time until another try after the control plane could not be asked; it doubles up to the longest.
const RETRY: Duration = Duration::from_millis(250);
const RETRY_MAX: Duration = Duration::from_secs(5);

/// Follows the control plane.
pub struct Follower {
    client: Client,
    /// Origins of tenants that are folders of this machine, by the tenant's name in URLs.
    folders: BTreeMap<String, Vec<(OriginName, Arc<Origin>)>>,
    known: Known,
    sinks: Sinks,
    journal: Journal,
    is_known: Arc<AtomicBool>,
    metrics: FeedMetrics,
}

/// What is known of the feed.
struct Known {
    /// How far; `None` = nothing yet.
    position: Option<Position>,
    directory: Directory,
    /// Tenants that this version cannot serve as they are; those before are served on.
    refused: BTreeSet<TenantId>,
}

impl Follower {
    /// Puts what was written down in force; `None` without a control plane.
    ///
    /// # Errors
    /// A folder that cannot be made, a token that cannot be sent, and metrics that are registered already.
    pub fn open(
        table: &ControlPlaneTable,
        policy: Arc<PolicyInForce>,
        bans: Arc<Bans>,
        second_level: Option<Arc<SecondLevel>>,
        registry: &Registry,
    ) -> anyhow::Result<Option<Self>> {
        let (Some(url), Some(token)) = (&table.url, &table.token) else { return Ok(None) };
        let token = token.expose();
        let base = base_url(url).context("control_plane.url")?;
        let journal = Journal::new(&table.dir, token).context("control_plane.dir")?;
        let mut follower = Self {
            client: Client::new(base, token).context("control_plane.token")?,
            folders: folders(&table.folders),
            known: Known { position: None, directory: Directory::default(), refused: BTreeSet::new() },
            sinks: Sinks::new(policy, bans, second_level),
            journal,
            is_known: Arc::default(),
            metrics: FeedMetrics::register(registry)?,
        };
        if let Some((position, directory)) = follower.journal.load() {
            tracing::info!(
                seq = position.seq,
                tenants = directory.len(),
                "what the control plane told before is in force"
            );
            follower.known.directory = directory;
            follower.reached(position);
            follower.put_all_in_force();
        }
        Ok(Some(follower))
    }

    /// Tells whether tenants are known: now, or from before.
    pub fn is_known(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.is_known)
    }

    /// Follows, for ever.
    pub async fn run(mut self) {
        let mut retry = RETRY;
        loop {
            match self.step().await {
                Ok(()) => {
                    self.metrics.heard();
                    retry = RETRY;
                }
                Err(error) => {
                    self.metrics.failed();
                    tracing::warn!(%error, "the control plane cannot be asked; what it told before stays in force");
                    sleep(retry).await;
                    retry = (retry * 2).min(RETRY_MAX);
                }
            }
        }
    }

    /// Asks once, and takes in what is told.
    async fn step(&mut self) -> Result<(), ClientError> {
        let asked = Instant::now();
        let answer = self.client.feed(self.known.position.as_ref()).await?;
        let is_next =
            |position: &Position| position.epoch == answer.epoch && journal::is_next(position.seq, &answer.events);
        if answer.snapshot || !self.known.position.as_ref().is_some_and(is_next) {
            return self.start_over().await;
        }
        if answer.events.is_empty() {
            self.sinks.settle().await;
            self.write_down(&[]);
            // One that stops lets nobody wait.
            sleep(RETRY.saturating_sub(asked.elapsed())).await;
        } else {
            self.take_in(answer.events).await;
        }
        Ok(())
    }

    /// Takes all tenants anew. What was taken back meanwhile is not known, so everything is.
    async fn start_over(&mut self) -> Result<(), ClientError> {
        let first = self.client.snapshot(None).await?;
        let position = Position { epoch: first.epoch, seq: first.seq };
        let mut directory = Directory::of(first.tenants);
        let mut next = first.next;
        while let Some(after) = next {
            let page = self.client.snapshot(Some(&after)).await?;
            if page.epoch != position.epoch {
                // The database was set back meanwhile: the next answer says so.
                return Ok(());
            }
            directory.extend(page.tenants);
            next = page.next;
        }
        tracing::info!(seq = position.seq, tenants = directory.len(), "all tenants are taken from the control plane");
        self.known.directory = directory;
        block_in_place(|| self.put_all_in_force());
        self.sinks.distrust_all().await;
        self.reached(position);
        self.journal.abandon();
        self.write_down(&[]);
        Ok(())
    }

    async fn take_in(&mut self, events: Vec<FeedEvent>) {
        let Some(mut position) = self.known.position.take() else { return };
        position.seq = events.last().map_or(position.seq, |last| last.seq);
        let taken_back = block_in_place(|| self.apply(&position.epoch, &events));
        self.sinks.take_back(taken_back).await;
        self.reached(position);
        self.write_down(&events);
    }

    /// Takes changes in and puts them in force; gives what is to be taken back.
    fn apply(&mut self, epoch: &str, events: &[FeedEvent]) -> Vec<TakenBack> {
        let (mut changed, mut taken_back) = (BTreeMap::new(), Vec::new());
        for event in events {
            self.metrics.told(&event.kind);
            let scopes = match self.known.directory.apply(event.clone()) {
                // The name that it has in force.
                Effect::Tenant { id, old_slug } => {
                    changed.entry(id).or_insert(old_slug);
                    continue;
                }
                Effect::Ban(scope) => vec![scope],
                Effect::Purge { id, order } => {
                    // It is about the tenant as it is by now.
                    self.put_in_force(std::mem::take(&mut changed));
                    let slug = self.known.directory.get(&id).map(|parts| parts.slug.as_str());
                    directory::scopes(&self.sinks.policy.get(), slug, &id, order)
                }
                Effect::Nothing => continue,
            };
            taken_back.push(TakenBack::new(epoch, event, scopes));
        }
        self.put_in_force(changed);
        taken_back
    }

    fn reached(&mut self, position: Position) {
        self.metrics.reached(position.seq, self.known.directory.len());
        self.known.position = Some(position);
        self.is_known.store(true, Ordering::Release);
    }

    /// Writes down how far it is, with `events`, which led there. If it cannot, it is written later, or told again after a restart.
    fn write_down(&mut self, events: &[FeedEvent]) {
        if self.sinks.owe() {
            // What is written must not be ahead of what was taken back.
            self.journal.abandon();
            return;
        }
        let Some(position) = &self.known.position else { return };
        if self.journal.is_appendable() && events.is_empty() {
            return;
        }
        let (journal, directory) = (&mut self.journal, &self.known.directory);
        let written = block_in_place(|| {
            journal.claim().and_then(|is_ours| match is_ours {
                // The edge before this one still writes.
                false => Ok(()),
                true if journal.is_appendable() => journal.append(events),
                true => journal.rewrite(position, directory),
            })
        });
        if let Err(error) = written {
            journal.abandon();
            tracing::error!(%error, "what the control plane tells cannot be written down; it is in force");
        }
    }

    fn put_all_in_force(&mut self) {
        let Known { directory, refused, .. } = &mut self.known;
        refused.clear();
        let tenants: Vec<Tenant> =
            directory.iter().filter_map(|(id, parts)| served(id, parts, &self.folders, refused)).collect();
        self.metrics.refused(refused.len());
        self.sinks.policy.change_feed(|layer| layer.replace(tenants, |id| refused.contains(id)));
    }

    /// Puts tenants in force that have changed: by id, with the name in URLs under which each was in force.
    fn put_in_force(&mut self, changed: BTreeMap<TenantId, Option<String>>) {
        if changed.is_empty() {
            return;
        }
        let Known { directory, refused, .. } = &mut self.known;
        let mut changes = Vec::new();
        for (id, old_slug) in changed {
            refused.remove(&id);
            let parts = directory.get(&id);
            let tenant = parts.and_then(|parts| served(&id, parts, &self.folders, refused));
            if !refused.contains(&id) {
                changes.push((id, old_slug, tenant));
            }
        }
        self.metrics.refused(refused.len());
        self.sinks.policy.change_feed(|layer| {
            for (id, old_slug, tenant) in changes {
                put(layer, &id, old_slug, tenant);
            }
        });
    }
}

/// Puts a tenant in the place of what it was; `None` takes it out.
fn put(layer: &mut Layer, id: &TenantId, old_slug: Option<String>, tenant: Option<Tenant>) {
    let old_slug = old_slug.and_then(|slug| TenantSlug::new(&slug).ok());
    let is_other = |slug: &TenantSlug| tenant.as_ref().is_none_or(|tenant| tenant.slug != *slug);
    if let Some(slug) = old_slug.filter(is_other) {
        layer.remove(&slug, id);
    }
    if let Some(tenant) = tenant {
        layer.put(tenant);
    }
}

/// The tenant as it is served; `None` if it is suspended, or if this version cannot serve it, which `refused` tells.
fn served(
    id: &TenantId,
    parts: &TenantParts,
    folders: &BTreeMap<String, Vec<(OriginName, Arc<Origin>)>>,
    refused: &mut BTreeSet<TenantId>,
) -> Option<Tenant> {
    if parts.state == TenantState::Suspended {
        return None;
    }
    match parts.check(id.clone()) {
        Ok(mut tenant) => {
            for (name, origin) in folders.get(&parts.slug).into_iter().flatten() {
                tenant.origins.entry(name.clone()).or_insert_with(|| Arc::clone(origin));
            }
            Some(tenant)
        }
        Err(mistakes) => {
            let told: Vec<_> = mistakes.iter().map(ToString::to_string).collect();
            tracing::error!(tenant = %id, mistakes = told.join("; "), "a tenant cannot be served as it is now");
            refused.insert(id.clone());
            None
        }
    }
}

/// The setting, which was checked, by tenant.
fn folders(table: &BTreeMap<String, PathBuf>) -> BTreeMap<String, Vec<(OriginName, Arc<Origin>)>> {
    let mut folders: BTreeMap<String, Vec<_>> = BTreeMap::new();
    for (name, folder) in table {
        let Some((tenant, origin)) = name.split_once('/') else { continue };
        let Ok(origin) = OriginName::new(origin) else { continue };
        let opened = Arc::new(Origin { kind: OriginKind::Folder(folder.clone()), tags: Vec::new() });
        folders.entry(tenant.to_owned()).or_default().push((origin, opened));
    }
    folders
}
