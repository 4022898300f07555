//! The policy in force, and the watch on its file.
//!
//! Must not judge requests. A file with mistakes never replaces a policy that works.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use arc_swap::{ArcSwap, Guard};
use prometheus::{IntCounterVec, IntGauge, Opts, Registry};
use tenancy::{Policy, PolicyFile};

use crate::origins::OpenOrigins;
use crate::rates::RatesOfTenants;

/// How often the file is looked at. A poll sees every way of replacing a file, on every file system.
const POLL: Duration = Duration::from_millis(500);

/// Longest policy file that is read.
const FILE_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// A policy, its opened origins and the counts of its rates.
#[derive(Debug)]
pub struct ActivePolicy {
    /// What requests are judged by.
    pub policy: Policy,
    /// Where originals come from.
    pub origins: OpenOrigins,
    /// What tenants with rates are counted by.
    pub rates: RatesOfTenants,
}

/// The policy in force; replaced as a whole.
pub struct PolicyInForce {
    active: ArcSwap<ActivePolicy>,
    file: PathBuf,
    /// The file as it was when it was first read.
    loaded: Stamp,
    reloads: IntCounterVec,
    sequence: IntGauge,
}

impl PolicyInForce {
    /// Loads the file.
    ///
    /// # Errors
    /// When it cannot be read or has mistakes; the message names them all.
    pub fn load(file: &Path, registry: &Registry) -> anyhow::Result<Self> {
        let reloads = IntCounterVec::new(
            Opts::new("calotype_policy_reloads_total", "Times that a changed policy file was read, by result."),
            &["result"],
        )?;
        let sequence = IntGauge::new("calotype_policy_sequence", "Version of the policy in force.")?;
        registry.register(Box::new(reloads.clone()))?;
        // A counter that is not there before it counts hides its first step from an alert.
        for result in ["applied", "refused"] {
            reloads.with_label_values(&[result]);
        }
        registry.register(Box::new(sequence.clone()))?;
        let loaded = Stamp::of(file);
        let policy = parse(&read(file)?, 1)?;
        sequence.set(1);
        let origins = OpenOrigins::open(&policy, &OpenOrigins::default());
        let rates = RatesOfTenants::of(&policy, &RatesOfTenants::default());
        Ok(Self {
            active: ArcSwap::from_pointee(ActivePolicy { policy, origins, rates }),
            file: file.to_owned(),
            loaded,
            reloads,
            sequence,
        })
    }

    /// The policy in force now.
    pub fn get(&self) -> Guard<Arc<ActivePolicy>> {
        self.active.load()
    }

    /// The policy in force now, for longer than a moment.
    pub fn keep(&self) -> Arc<ActivePolicy> {
        self.active.load_full()
    }

    /// Watches the file for ever and puts what it says in force.
    pub async fn watch(self: Arc<Self>) {
        let mut seen = self.loaded;
        let mut tick = tokio::time::interval(POLL);
        loop {
            tick.tick().await;
            let stamp = Stamp::of(&self.file);
            if stamp == seen {
                continue;
            }
            seen = stamp;
            match read(&self.file) {
                Ok(text) => self.replace(&text),
                Err(error) => {
                    self.reloads.with_label_values(&["refused"]).inc();
                    tracing::error!("{error:#}; the last policy stays in force");
                }
            }
        }
    }

    fn replace(&self, text: &str) {
        let before = self.active.load();
        let sequence = before.policy.sequence() + 1;
        match parse(text, sequence) {
            Ok(policy) => {
                let origins = OpenOrigins::open(&policy, &before.origins);
                let rates = RatesOfTenants::of(&policy, &before.rates);
                self.active.store(Arc::new(ActivePolicy { policy, origins, rates }));
                self.sequence.set(i64::try_from(sequence).unwrap_or(i64::MAX));
                self.reloads.with_label_values(&["applied"]).inc();
                tracing::info!(file = %self.file.display(), sequence, "policy reloaded");
            }
            Err(error) => {
                self.reloads.with_label_values(&["refused"]).inc();
                tracing::error!(file = %self.file.display(), %error, "policy not reloaded; the last one stays in force");
            }
        }
    }
}

/// What changes when a file does; `None` when there is no file.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Stamp(Option<(u64, u64, i64, i64)>);

impl Stamp {
    fn of(file: &Path) -> Self {
        Self(std::fs::metadata(file).ok().map(|meta| (meta.ino(), meta.size(), meta.mtime(), meta.mtime_nsec())))
    }
}

fn parse(text: &str, sequence: u64) -> anyhow::Result<Policy> {
    Ok(PolicyFile::load(text, sequence)?)
}

fn read(file: &Path) -> anyhow::Result<String> {
    use std::io::Read;
    let context = || format!("the policy file {} cannot be read", file.display());
    let mut text = String::new();
    let opened = std::fs::File::open(file).with_context(context)?;
    opened.take(FILE_BYTES_MAX + 1).read_to_string(&mut text).with_context(context)?;
    // The part that was read could be a policy of its own.
    ensure!(
        text.len() as u64 <= FILE_BYTES_MAX,
        "the policy file {} has more than {FILE_BYTES_MAX} bytes",
        file.display()
    );
    Ok(text)
}
