//! What has been purged: bans, each with a number, and whether a rendition is older than one that covers it.
//!
//! A purge touches no entry. It is a number: everything it covers that was begun before it is a miss from then on, in
//! memory, on disk and in flight, so that a tenant with a million renditions is purged in a microsecond. Must not know what
//! tenants, sources and tags are: they are plain numbers that the caller has hashed.
//!
//! Invariant: forgetting may only ever purge more. When bans become too many they are replaced by a wider one.

use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::{Mutex, RwLock};

use crate::ban_log::BanLog;
use crate::key::CacheKey;
use crate::rendition::{Rendition, UnixMillis};

/// Bans of one tenant that are told apart; one more, and the whole tenant is banned instead.
const TENANT_BANS_MAX: usize = 65_536;
/// Bans that are told apart in all; one more, and the tenant with most of them is banned as a whole.
const BANS_MAX: usize = 1_000_000;

/// Among the tags of a rendition that carries more of them than are kept: a ban of any tag of its tenant covers it.
pub const ANY_TAG: u64 = u64::MAX;

/// What a purge covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scope {
    /// Everything of everybody.
    Everything,
    /// Everything of a tenant.
    Tenant {
        /// Whose.
        tenant: u64,
    },
    /// Everything that was made with a source: renditions of it, and those that it is laid over.
    Source {
        /// Whose.
        tenant: u64,
        /// The source.
        source: u64,
    },
    /// Everything that carries a tag.
    Tag {
        /// Whose.
        tenant: u64,
        /// The tag.
        tag: u64,
    },
    /// One rendition.
    Key {
        /// Whose.
        tenant: u64,
        /// Its key.
        key: CacheKey,
    },
}

/// What a fill is going to be, as far as it is known before it ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subject {
    /// Whose.
    pub tenant: u64,
    /// Made with which sources.
    pub sources: Box<[u64]>,
}

/// Why a purge may not outlive the process.
#[derive(Debug, thiserror::Error)]
pub enum PurgeError {
    /// The cache folder is not ours now, but what is in it may come back. In force, and written down when it is ours.
    #[error("the purge is in force, but is lost if the edge ends before it has the cache folder: try again")]
    NoFolder,
    /// Another process is taking over. Not in force.
    #[error("another process is taking over, and would not know of the purge: try again")]
    HandedOver,
    /// It cannot be written down.
    #[error("the purge is in force, but is lost with the next restart: it cannot be written to the cache folder")]
    Write(#[source] io::Error),
}

/// The bans in force. Purging writes them down before it says that it is done.
#[derive(Debug)]
pub struct Bans {
    /// The number of the newest ban. A rendition that was begun with this number is older than none.
    latest: AtomicU64,
    table: RwLock<Table>,
    /// Numbers below this were given before those of the folder were known, and say nothing about them.
    adopted: AtomicU64,
    /// Of the folder's bans, once they are known: differs whenever bans may have been lost.
    epoch: RwLock<Option<u128>>,
    log: Mutex<Log>,
}

#[derive(Debug)]
struct Log {
    file: LogFile,
    is_handed_over: bool,
}

#[derive(Debug)]
enum LogFile {
    /// Nothing outlives the process, so no ban has to.
    NotNeeded,
    /// There is a folder, but it is not ours.
    Missing,
    Open(BanLog),
}

impl Bans {
    /// Bans of a cache without a disk.
    pub(crate) fn in_memory() -> Self {
        Self::new(LogFile::NotNeeded)
    }

    /// Bans of a cache whose folder is not ours yet.
    pub(crate) fn without_folder() -> Self {
        Self::new(LogFile::Missing)
    }

    fn new(log: LogFile) -> Self {
        // Where nothing outlives the process, nothing can have been lost.
        let epoch = matches!(log, LogFile::NotNeeded).then_some(0);
        Self {
            latest: AtomicU64::new(0),
            table: RwLock::default(),
            adopted: AtomicU64::new(0),
            epoch: RwLock::new(epoch),
            log: Mutex::new(Log { file: log, is_handed_over: false }),
        }
    }

    /// Puts in force what is written down in a folder, which must be claimed, and writes down there what was banned
    /// until now: it covers all that the folder holds. Blocking. Gives the folder's epoch.
    ///
    /// # Errors
    /// When the bans of the folder can be neither read nor begun anew; then nothing has changed.
    pub(crate) fn adopt(&self, dir: &Path) -> io::Result<u128> {
        let mut log = self.log.lock();
        let mut table = Table::default();
        let mut file = BanLog::open(dir, |scope, number| table.add(scope, number))?;
        // The table stands still while the log is locked.
        let mut ours: Vec<_> = self.table.read().iter().collect();
        ours.sort_by_key(|(_, number)| *number);
        // Higher than every number of either: fills and images that were begun here are older than all of them.
        let base = table.latest.max(self.latest());
        for (scope, number) in &ours {
            table.add(*scope, base + number);
        }
        if !ours.is_empty() || file.is_wordy(table.count) {
            file.rewrite(table.iter())?;
        }
        let latest = table.latest;
        *self.table.write() = table;
        self.adopted.store(latest, Ordering::Release);
        self.latest.store(latest, Ordering::Release);
        let epoch = file.epoch();
        log.file = LogFile::Open(file);
        *self.epoch.write() = Some(epoch);
        Ok(epoch)
    }

    /// The epoch of the bans, once they are known.
    pub(crate) fn epoch(&self) -> Option<u128> {
        *self.epoch.read()
    }

    /// Refuses purges from now on, or takes them again: another process is about to take over, and would not know of
    /// one that is acknowledged here. Waits for those that run. Blocking.
    pub fn hand_over(&self, is_handed_over: bool) {
        self.log.lock().is_handed_over = is_handed_over;
    }

    /// Bans what `scope` covers and was begun before this call. Blocking: waits for the disk.
    ///
    /// # Errors
    /// [`PurgeError`], which says whether it is in force.
    pub fn purge(&self, scope: Scope) -> Result<u64, PurgeError> {
        self.purge_all(&[scope])
    }

    /// Bans what any of `scopes` covers, as [`Self::purge`] does, with one wait for the disk. Gives the number of the last.
    ///
    /// # Errors
    /// [`PurgeError`], which says whether all of them or none are in force.
    pub fn purge_all(&self, scopes: &[Scope]) -> Result<u64, PurgeError> {
        let mut log = self.log.lock();
        if log.is_handed_over {
            return Err(PurgeError::HandedOver);
        }
        let bans = self.put_in_force(scopes);
        let latest = self.latest();
        match &mut log.file {
            LogFile::NotNeeded => Ok(latest),
            LogFile::Missing => Err(PurgeError::NoFolder),
            LogFile::Open(log) => log.append(&bans).map(|()| latest).map_err(PurgeError::Write),
        }
    }

    /// Bans for as long as this process serves, whoever is taking over: for what that other one is told as well.
    pub fn ban_here(&self, scopes: &[Scope]) {
        let _log = self.log.lock();
        self.put_in_force(scopes);
    }

    /// Gives bans their numbers. Only with the log locked.
    fn put_in_force(&self, scopes: &[Scope]) -> Vec<(Scope, u64)> {
        let bans: Vec<_> = scopes.iter().copied().zip(self.latest() + 1..).collect();
        let mut table = self.table.write();
        for (scope, number) in &bans {
            table.add(*scope, *number);
        }
        drop(table);
        // After the table: who reads the new number also finds the ban.
        if let Some((_, latest)) = bans.last() {
            self.latest.store(*latest, Ordering::Release);
        }
        bans
    }

    /// The number of the newest ban: what is begun now is older than none so far.
    #[must_use]
    pub fn latest(&self) -> u64 {
        self.latest.load(Ordering::Acquire)
    }

    /// Whether an original of a tenant that was asked for at `since`, and carries these tags, is banned, whatever is made
    /// of it.
    #[must_use]
    pub fn is_original_banned(&self, tenant: u64, source: u64, tags: &[u64], since: u64) -> bool {
        since < self.adopted.load(Ordering::Acquire)
            || (since < self.latest() && self.table.read().covers_original(tenant, source, tags, since))
    }

    /// How many bans are told apart.
    #[must_use]
    pub fn count(&self) -> usize {
        self.table.read().count
    }

    /// Whether a kept rendition must not be answered with any more.
    pub(crate) fn is_banned(&self, key: CacheKey, rendition: &Rendition) -> bool {
        // The usual case costs one load.
        rendition.begun < self.latest() && self.table.read().covers(key, rendition, rendition.begun)
    }

    /// Whether a fill that was begun at `since` may give what is banned by now, so that nobody may join it. Its tags are not
    /// known yet, so a ban of any tag of the tenant counts.
    pub(crate) fn is_outdated(&self, key: CacheKey, subject: &Subject, since: u64) -> bool {
        since < self.adopted.load(Ordering::Acquire)
            || (since < self.latest() && self.table.read().covers_fill(key, subject, since))
    }
}

/// Bans by the time at which they were ordered, of every node that shares a place for renditions. They are for what
/// another node made, whose numbers mean nothing here.
#[derive(Debug, Default)]
pub struct TimedBans(RwLock<Table>);

impl TimedBans {
    /// Bans what `scope` covers and was asked for before `at`.
    pub fn add(&self, scope: Scope, at: UnixMillis) {
        self.0.write().add(scope, at.0);
    }

    /// Whether a rendition is banned, all of whose inputs were asked for at `asked` or later.
    #[must_use]
    pub fn is_banned(&self, key: CacheKey, rendition: &Rendition, asked: UnixMillis) -> bool {
        self.0.read().covers(key, rendition, asked.0)
    }
}

#[derive(Debug, Default)]
struct Table {
    everything: u64,
    tenants: HashMap<u64, TenantBans>,
    /// Bans below tenants.
    count: usize,
    latest: u64,
}

#[derive(Debug, Default)]
struct TenantBans {
    whole: u64,
    sources: HashMap<u64, u64>,
    tags: HashMap<u64, u64>,
    keys: HashMap<CacheKey, u64>,
    newest_tag: u64,
}

impl Table {
    fn add(&mut self, scope: Scope, number: u64) {
        self.latest = self.latest.max(number);
        match scope {
            Scope::Everything => {
                *self = Self { everything: number, latest: self.latest, ..Self::default() };
            }
            Scope::Tenant { tenant } => self.ban_whole(tenant, number),
            Scope::Source { tenant, source } => self.add_below(tenant, |bans| bans.sources.insert(source, number)),
            Scope::Key { tenant, key } => self.add_below(tenant, |bans| bans.keys.insert(key, number)),
            Scope::Tag { tenant, tag } => self.add_below(tenant, |bans| {
                bans.newest_tag = bans.newest_tag.max(number);
                bans.tags.insert(tag, number)
            }),
        }
        while self.count > BANS_MAX {
            let largest = self.tenants.iter().max_by_key(|(_, bans)| bans.count()).map(|(tenant, _)| *tenant);
            let Some(tenant) = largest else { break };
            self.ban_whole(tenant, self.latest);
        }
        if self.tenants.len() > BANS_MAX {
            self.add(Scope::Everything, self.latest);
        }
    }

    fn add_below(&mut self, tenant: u64, add: impl FnOnce(&mut TenantBans) -> Option<u64>) {
        let bans = self.tenants.entry(tenant).or_default();
        let is_new = add(bans).is_none();
        let is_full = bans.count() > TENANT_BANS_MAX;
        self.count += usize::from(is_new);
        if is_full {
            self.ban_whole(tenant, self.latest);
        }
    }

    /// Bans a tenant as a whole, which makes its narrower bans superfluous.
    fn ban_whole(&mut self, tenant: u64, number: u64) {
        let bans = self.tenants.entry(tenant).or_default();
        self.count -= bans.count();
        *bans = TenantBans { whole: number, ..TenantBans::default() };
    }

    fn covers(&self, key: CacheKey, rendition: &Rendition, since: u64) -> bool {
        let is_key_banned = |bans: &TenantBans| is_newer(&bans.keys, &key, since);
        self.tenants.get(&rendition.tenant).is_some_and(is_key_banned)
            || self.covers_original(rendition.tenant, rendition.source, &rendition.tags, since)
    }

    fn covers_sources(&self, subject: &Subject, since: u64) -> bool {
        let Some(bans) = self.tenants.get(&subject.tenant) else { return self.everything > since };
        let is_banned = |source: &u64| bans.is_source_banned(*source, since);
        self.everything > since || bans.whole > since || subject.sources.iter().any(is_banned)
    }

    fn covers_original(&self, tenant: u64, source: u64, tags: &[u64], since: u64) -> bool {
        let Some(bans) = self.tenants.get(&tenant) else { return self.everything > since };
        let is_tag_banned = |tag: &u64| bans.is_tag_banned(*tag, since);
        self.everything > since
            || bans.whole > since
            || bans.is_source_banned(source, since)
            || tags.iter().any(is_tag_banned)
    }

    fn covers_fill(&self, key: CacheKey, subject: &Subject, since: u64) -> bool {
        let covers_it = |bans: &TenantBans| bans.newest_tag > since || is_newer(&bans.keys, &key, since);
        self.tenants.get(&subject.tenant).is_some_and(covers_it) || self.covers_sources(subject, since)
    }

    /// The bans in an order in which adding them gives this table again.
    fn iter(&self) -> impl Iterator<Item = (Scope, u64)> + '_ {
        let everything = (self.everything > 0).then_some((Scope::Everything, self.everything));
        let tenants = self.tenants.iter().flat_map(|(&tenant, bans)| {
            let whole = (bans.whole > 0).then_some((Scope::Tenant { tenant }, bans.whole));
            let sources = bans.sources.iter().map(move |(&source, &at)| (Scope::Source { tenant, source }, at));
            let tags = bans.tags.iter().map(move |(&tag, &at)| (Scope::Tag { tenant, tag }, at));
            let keys = bans.keys.iter().map(move |(&key, &at)| (Scope::Key { tenant, key }, at));
            whole.into_iter().chain(sources).chain(tags).chain(keys)
        });
        everything.into_iter().chain(tenants)
    }
}

impl TenantBans {
    fn count(&self) -> usize {
        self.sources.len() + self.tags.len() + self.keys.len()
    }

    fn is_source_banned(&self, source: u64, since: u64) -> bool {
        is_newer(&self.sources, &source, since)
    }

    fn is_tag_banned(&self, tag: u64, since: u64) -> bool {
        let is_any_banned = tag == ANY_TAG && self.newest_tag > since;
        // The sources of overlays are among the tags.
        is_any_banned || is_newer(&self.tags, &tag, since) || self.is_source_banned(tag, since)
    }
}

fn is_newer<K: Eq + std::hash::Hash>(bans: &HashMap<K, u64>, of: &K, since: u64) -> bool {
    bans.get(of).is_some_and(|at| *at > since)
}
