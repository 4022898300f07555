//! The policy in force, and the watch on its file.
//!
//! Must not judge requests, and must not know how the control plane is followed: it is handed tenants. A file with mistakes never replaces a policy that works.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use arc_swap::{ArcSwap, Guard};
use parking_lot::Mutex;
use prometheus::{IntCounterVec, IntGauge, Opts, Registry};
use tenancy::{PolicyFile, Tenant};

use crate::tenants::{ActivePolicy, Layer};

/// How often the file is looked at. A poll sees every way of replacing a file, on every file system.
const POLL: Duration = Duration::from_millis(500);

/// Longest policy file that is read.
const FILE_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// The policy in force; replaced as a whole.
pub struct PolicyInForce {
    active: ArcSwap<ActivePolicy>,
    /// Held by whoever puts another one in force.
    changing: Mutex<()>,
    /// The file, as it was when it was first read.
    file: Option<(PathBuf, Stamp)>,
    reloads: IntCounterVec,
    sequence: IntGauge,
}

impl PolicyInForce {
    /// Loads the file; without one, nobody is served so far.
    ///
    /// # Errors
    /// When it cannot be read or has mistakes; the message names them all.
    pub fn load(file: Option<&Path>, registry: &Registry) -> anyhow::Result<Self> {
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
        let policy = Self {
            active: ArcSwap::default(),
            changing: Mutex::default(),
            file: file.map(|file| (file.to_owned(), Stamp::of(file))),
            reloads,
            sequence,
        };
        let tenants = file.map(|file| parse(&read(file)?)).transpose()?.unwrap_or_default();
        policy.replace_file(tenants);
        Ok(policy)
    }

    /// The policy in force now.
    pub fn get(&self) -> Guard<Arc<ActivePolicy>> {
        self.active.load()
    }

    /// The policy in force now, for longer than a moment.
    pub fn keep(&self) -> Arc<ActivePolicy> {
        self.active.load_full()
    }

    /// Changes the tenants of the control plane, all at once.
    pub fn change_feed(&self, change: impl FnOnce(&mut Layer)) {
        self.change(|active| change(&mut active.feed));
    }

    /// Watches the file for ever and puts what it says in force.
    pub async fn watch(self: Arc<Self>) {
        let Some((file, mut seen)) = self.file.clone() else { return };
        let mut tick = tokio::time::interval(POLL);
        loop {
            tick.tick().await;
            let stamp = Stamp::of(&file);
            if stamp == seen {
                continue;
            }
            seen = stamp;
            let result = match read(&file).and_then(|text| parse(&text)) {
                Ok(tenants) => {
                    let sequence = self.replace_file(tenants);
                    tracing::info!(file = %file.display(), sequence, "policy reloaded");
                    "applied"
                }
                Err(error) => {
                    let error = format!("{error:#}");
                    tracing::error!(file = %file.display(), error, "policy not reloaded; the last one stays in force");
                    "refused"
                }
            };
            self.reloads.with_label_values(&[result]).inc();
        }
    }

    fn replace_file(&self, tenants: Vec<Tenant>) -> u64 {
        self.change(|active| {
            active.file.replace(tenants, |_| false);
            active.file.open_all();
        })
    }

    fn change(&self, change: impl FnOnce(&mut ActivePolicy)) -> u64 {
        let _changing = self.changing.lock();
        let mut active = ActivePolicy::clone(&self.active.load());
        change(&mut active);
        active.sequence += 1;
        let sequence = active.sequence;
        self.active.store(Arc::new(active));
        self.sequence.set(i64::try_from(sequence).unwrap_or(i64::MAX));
        sequence
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

fn parse(text: &str) -> anyhow::Result<Vec<Tenant>> {
    Ok(PolicyFile::load(text)?)
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
