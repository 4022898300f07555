//! Everybody who takes part in one case, started, and the rounds in which they take turns.

use std::cell::Cell;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, ensure};
use bytes::Bytes;
use futures_util::future::try_join_all;
use serde::{Serialize, Serializer};

use super::{BOX, CLIENTS, Role};
use crate::bench::Bench;
use crate::ceiling::{self, Job, Quality};
use crate::edge::{self, CacheStatus, Edge, EdgeHome, FOLDER};
use crate::peers::{self, Installed, Peer, Place, Wanted};
use crate::quiet::{self, Quiet};

/// Qualities that each contender is tried at.
const QUALITIES: [u8; 4] = [60, 70, 80, 90];

/// One more of ours: so that there is a score to find for what others do at their highest.
const OUR_HIGHEST: u8 = 95;

/// Renditions that a contender makes in a round at one quality, whatever one costs.
const COUNTS: std::ops::RangeInclusive<usize> = 1..=100;

/// Renditions before the clock starts.
const WARM_UPS: usize = 4;

/// A rendition that takes longer than this, in seconds, needs no warming up.
const SLOW: f64 = 1.0;

/// Renditions of our own cache in memory, in bytes.
pub const MEMORY_CACHE: u64 = 32 << 20;

/// One kind of rendition.
#[derive(Debug)]
pub struct Case {
    /// For the report.
    pub name: &'static str,
    /// For the names of files.
    pub file: &'static str,
    /// The original.
    pub source: &'static str,
    /// What is made of it.
    pub format: &'static str,
}

/// How well an encoder is to work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Setting {
    /// At this number.
    Quality(u8),
    /// As it does when nobody says.
    Default,
}

impl Setting {
    /// As a report tells it.
    pub fn text(self) -> String {
        match self {
            Self::Quality(quality) => quality.to_string(),
            Self::Default => "default".to_owned(),
        }
    }
}

impl Serialize for Setting {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text())
    }
}

/// Who takes part.
#[derive(Debug)]
pub struct Entrant {
    /// For the report.
    pub name: &'static str,
    /// What for.
    pub role: Role,
    server: Server,
}

#[derive(Debug)]
enum Server {
    /// And whose pictures it is asked for.
    Edge(Edge, &'static str),
    Peer(Peer),
    /// With another libvips than the system's.
    Ceiling(Option<PathBuf>),
}

/// One entrant's turn in a round.
#[derive(Debug)]
pub struct Turn {
    /// Whose.
    pub entrant: usize,
    /// At which setting.
    pub setting: Setting,
    /// What came out the first time.
    pub body: Bytes,
    /// Renditions in a round.
    count: usize,
}

/// Seconds for one rendition.
#[derive(Debug, Clone, Copy)]
pub struct Took {
    /// CPU time.
    pub cpu: f64,
    /// Time.
    pub wall: f64,
    /// The most memory of a loop that has ended; of servers it is asked at the end.
    peak_bytes: u64,
}

/// All entrants of a case.
#[derive(Debug)]
pub struct Field<'a> {
    bench: &'a Bench,
    place: &'a Place,
    case: &'a Case,
    /// Who.
    pub entrants: Vec<Entrant>,
    /// What they do in each round.
    pub turns: Vec<Turn>,
    missing: Vec<(&'static str, String)>,
    /// Versions of our URLs already asked for.
    versions_used: Cell<usize>,
}

impl<'a> Field<'a> {
    /// Starts everybody and lets each make one rendition of each kind. Who cannot is left out, with the reason.
    ///
    /// # Errors
    /// When we or the ceiling cannot.
    pub async fn gather(bench: &'a Bench, place: &'a Place, case: &'a Case) -> anyhow::Result<Self> {
        let (entrants, turns, missing, versions_used) = (Vec::new(), Vec::new(), Vec::new(), Cell::new(0));
        let mut field = Self { bench, place, case, entrants, turns, missing, versions_used };
        let qualities = || QUALITIES.into_iter().map(Setting::Quality);
        let ours = qualities().chain([Setting::Quality(OUR_HIGHEST), Setting::Default]);
        let edge = our_edge(bench, case, "demo").await?;
        field.enter(Entrant { name: "ours", role: Role::Ours, server: edge }, ours.collect()).await?;
        if case.format == "webp" {
            let (name, role) = ("ours, improve_when_idle", Role::OurFirst);
            let settings = qualities().chain([Setting::Quality(OUR_HIGHEST)]).collect();
            field.enter(Entrant { name, role, server: our_edge(bench, case, "later").await? }, settings).await?;
        }
        for kind in &peers::ALL {
            let role = if kind.is_libvips { Role::LibvipsPeer } else { Role::Peer };
            let entered = match Peer::start(bench, place, kind).await {
                Ok(peer) => {
                    field
                        .enter(Entrant { name: kind.name, role, server: Server::Peer(peer) }, qualities().collect())
                        .await
                }
                Err(error) => Err(error),
            };
            if let Err(why) = entered {
                eprintln!("  {}: not measured: {why:#}", kind.name);
                field.missing.push((kind.name, format!("{why:#}")));
            }
        }
        let ceiling = |name, libvips| Entrant { name, role: Role::Ceiling, server: Server::Ceiling(libvips) };
        let mut settings: Vec<_> = qualities().collect();
        // What its default looks like is the least that our AVIF may.
        settings.extend((case.format == "avif").then_some(Setting::Default));
        field.enter(ceiling("libvips loop", None), settings).await?;
        if let Some(newer) = Installed::find(&bench.tools.peers, "imgforge").ok().and_then(|found| found.libvips()) {
            field.enter(ceiling("newer libvips loop", Some(newer)), qualities().collect()).await?;
        }
        Ok(field)
    }

    /// Lets it make one of each. It takes part only if it can make all of them.
    async fn enter(&mut self, entrant: Entrant, settings: Vec<Setting>) -> anyhow::Result<()> {
        let at = self.entrants.len();
        let mut turns = Vec::new();
        for setting in settings {
            let (body, cpu) = self.first(&entrant, setting).await?;
            let count = (self.bench.effort.peer_cpu.as_secs_f64() / cpu) as usize;
            turns.push(Turn { entrant: at, setting, body, count: count.clamp(*COUNTS.start(), *COUNTS.end()) });
        }
        self.turns.extend(turns);
        self.entrants.push(entrant);
        Ok(())
    }

    /// A first rendition, and roughly what one costs once it is warm.
    async fn first(&self, entrant: &Entrant, setting: Setting) -> anyhow::Result<(Bytes, f64)> {
        let (body, cold) = self.make(entrant, setting, 1, None).await?;
        if cold.wall > SLOW {
            return Ok((body, cold.wall));
        }
        // A loop wants the same bytes each time, and so do we of ourselves; of others it is not known.
        let expected = Some(&body).filter(|_| !entrant.role.is_peer());
        let (_, took) = self.make(entrant, setting, WARM_UPS, expected).await?;
        // CPU time of servers is counted in steps that a few renditions may fall between.
        Ok((body, took.cpu.max(took.wall / 2.0)))
    }

    /// All rounds; in each, every turn once.
    ///
    /// # Errors
    /// When somebody fails who did not the first time.
    pub async fn all_rounds(&self) -> anyhow::Result<Quiet<Vec<Took>>> {
        let wanted = self.bench.effort.peer_rounds;
        quiet::rounds(wanted, async |round| {
            let mut took = vec![None; self.turns.len()];
            for turn in 0..self.turns.len() {
                let at = (round + turn) % self.turns.len();
                took[at] = Some(self.turn(&self.turns[at]).await?);
            }
            eprintln!("  {}, round {} ({wanted} wanted)", self.case.name, round + 1);
            took.into_iter().collect::<Option<Vec<_>>>().context("somebody had no turn")
        })
        .await
    }

    async fn turn(&self, turn: &Turn) -> anyhow::Result<Took> {
        let entrant = &self.entrants[turn.entrant];
        let expected = Some(&turn.body).filter(|_| !entrant.role.is_peer());
        let made = self.make(entrant, turn.setting, turn.count, expected).await;
        Ok(made.with_context(|| format!("{} at {}", entrant.name, turn.setting.text()))?.1)
    }

    /// `count` renditions; the last one, and what one took.
    async fn make(
        &self,
        entrant: &Entrant,
        setting: Setting,
        count: usize,
        expected: Option<&Bytes>,
    ) -> anyhow::Result<(Bytes, Took)> {
        let made = match &entrant.server {
            Server::Edge(edge, tenant) => self.by_edge(edge, tenant, setting, count).await?,
            Server::Peer(peer) => self.by_peer(peer, setting, count).await?,
            Server::Ceiling(libvips) => self.by_ceiling(libvips.clone(), setting, count).await?,
        };
        ensure!(expected.is_none_or(|expected| *expected == made.0), "the same request gives other bytes");
        Ok(made)
    }

    async fn by_edge(
        &self,
        edge: &Edge,
        tenant: &str,
        setting: Setting,
        count: usize,
    ) -> anyhow::Result<(Bytes, Took)> {
        let format = self.case.format;
        let ops = match setting {
            Setting::Quality(quality) => format!("w={BOX},f={format},q={quality}"),
            Setting::Default => format!("w={BOX},f={format}"),
        };
        let versions = self.versions_used.get()..self.versions_used.get() + count;
        self.versions_used.set(versions.end);
        let (before, started) = (edge.cpu_time()?, Instant::now());
        let bodies = try_join_all((0..CLIENTS).map(async |client| {
            let (mut connection, mut last) = (edge.connect().await?, Bytes::new());
            for version in versions.clone().skip(client).step_by(CLIENTS) {
                let target = edge::target_of(tenant, &ops, version, FOLDER, self.case.source);
                let (body, status) = edge::fetch(&mut connection, &target).await?;
                ensure!(status == CacheStatus::Filled, "{target} was not made for this request");
                last = body;
            }
            anyhow::Ok(last)
        }))
        .await?;
        let wall = started.elapsed();
        // Writing to the disk is part of the price.
        edge.until_flushed().await?;
        took(bodies, edge.cpu_time()?.saturating_sub(before), wall, count)
    }

    async fn by_peer(&self, peer: &Peer, setting: Setting, count: usize) -> anyhow::Result<(Bytes, Took)> {
        let Setting::Quality(quality) = setting else { anyhow::bail!("peers are asked for a quality") };
        let wanted = Wanted { source: self.case.source, format: self.case.format, quality };
        let (before, started) = (peer.cpu_time()?, Instant::now());
        let bodies = try_join_all((0..CLIENTS).map(async |client| {
            let (mut connection, mut last) = (peer.connect().await?, Bytes::new());
            for _ in (0..count).skip(client).step_by(CLIENTS) {
                last = peer.fetch(&mut connection, self.place, client, wanted).await?;
            }
            anyhow::Ok(last)
        }))
        .await?;
        let wall = started.elapsed();
        took(bodies, peer.cpu_time()?.saturating_sub(before), wall, count)
    }

    async fn by_ceiling(
        &self,
        libvips: Option<PathBuf>,
        setting: Setting,
        count: usize,
    ) -> anyhow::Result<(Bytes, Took)> {
        let quality = match setting {
            Setting::Quality(quality) => Quality::At(quality),
            Setting::Default => Quality::Libvips,
        };
        let source = self.bench.photo(self.case.source);
        let job = Job { source: &source, width: BOX, format: self.case.format, quality, count, libvips };
        let done = ceiling::run(self.bench, &job).await?;
        Ok((done.body, Took { cpu: done.cpu_seconds, wall: done.wall_seconds, peak_bytes: done.peak_bytes }))
    }

    /// The most memory of each entrant, in all that it did.
    ///
    /// # Errors
    /// When a server is gone.
    pub async fn peaks(&self, rounds: &[Vec<Took>]) -> anyhow::Result<Vec<f64>> {
        let of_loops = |entrant: usize| {
            let turns = self.turns.iter().enumerate().filter(move |(_, turn)| turn.entrant == entrant);
            turns.flat_map(|(at, _)| rounds.iter().map(move |round| round[at].peak_bytes)).max()
        };
        let mut peaks = Vec::new();
        for (at, entrant) in self.entrants.iter().enumerate() {
            peaks.push(match &entrant.server {
                Server::Edge(edge, _) => edge.memory_bytes_max().await?,
                Server::Peer(peer) => peer.peak_bytes()?,
                Server::Ceiling(_) => of_loops(at).context("a ceiling had no turn")?,
            } as f64);
        }
        Ok(peaks)
    }

    /// Stops everybody; who was missing, and why.
    ///
    /// # Errors
    /// When somebody does not stop.
    pub async fn stop(self) -> anyhow::Result<Vec<(&'static str, String)>> {
        for entrant in self.entrants {
            match entrant.server {
                Server::Edge(edge, _) => edge.stop().await?,
                Server::Peer(peer) => peer.stop().await?,
                Server::Ceiling(_) => (),
            }
        }
        Ok(self.missing)
    }
}

/// An edge of our own, asked for pictures of this tenant.
async fn our_edge(bench: &Bench, case: &Case, tenant: &'static str) -> anyhow::Result<Server> {
    let settings = format!("cache.memory_bytes = {MEMORY_CACHE}\ntransform.shared_decode_bytes = 0\n");
    let home = EdgeHome::prepare_with(bench, &format!("peers-{}-{tenant}", case.file), &settings)?;
    Ok(Server::Edge(home.start(bench).await?.0, tenant))
}

/// What one of `count` renditions took, and one of them.
fn took(
    bodies: Vec<Bytes>,
    cpu: std::time::Duration,
    wall: std::time::Duration,
    count: usize,
) -> anyhow::Result<(Bytes, Took)> {
    let body = bodies.into_iter().find(|body| !body.is_empty()).context("nothing was made")?;
    let one = |all: std::time::Duration| all.as_secs_f64() / count as f64;
    Ok((body, Took { cpu: one(cpu), wall: one(wall), peak_bytes: 0 }))
}
