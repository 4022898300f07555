//! Two tenants beside each other: one floods the edge with cold pictures, the other sends one request at a time, and a
//! third client only asks for what is in memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use testkit::http::{Connection, Request, Response};
use tokio::task::JoinSet;

use crate::bench::Bench;
use crate::edge::{self, CacheStatus, Edge, EdgeHome, FOLDER};
use crate::pictures::{CAMERA, SMALL};
use crate::report::{Figure, Goal, Row, Unit};
use crate::statistics::Samples;

/// Clients of the flood: more than may wait for a thread.
const FLOOD: usize = 160;

/// Renditions of the flood that must wait before anything is measured.
const BACKLOG: f64 = 20.0;

/// Longest wait for that.
const BACKLOG_LIMIT: Duration = Duration::from_secs(30);

/// What the other tenant is answered, one after the other.
const SINGLES: usize = 15;

/// What a client that is refused waits, as it is told to.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// What a round found; times in milliseconds.
struct Round {
    idle_p99: f64,
    saturated_p99: f64,
    /// The other tenant's longest wait: all of the answer's time but that on the thread.
    longest_wait: f64,
    /// The flood's longest time on the thread.
    longest_job: f64,
    flood_made: f64,
    flood_refused: f64,
}

pub async fn measure(bench: &Bench) -> anyhow::Result<Figure> {
    let (edge, _) = EdgeHome::prepare(bench, "fairness")?.start(bench).await?;
    let edge = Arc::new(edge);
    let mut rounds = Vec::new();
    for number in 0..bench.effort.fairness_rounds {
        let round = round(bench, &edge, number).await?;
        eprintln!(
            "  round {} of {}: waited {:.0} ms beside jobs of {:.0} ms; hit p99 {:.2} ms idle, {:.2} ms saturated",
            number + 1,
            bench.effort.fairness_rounds,
            round.longest_wait,
            round.longest_job,
            round.idle_p99,
            round.saturated_p99,
        );
        rounds.push(round);
    }
    Arc::into_inner(edge).context("a client is left")?.stop().await?;
    let each = |number: fn(&Round) -> f64| rounds.iter().map(number).collect::<Vec<f64>>();
    let ratio = each(|round| round.longest_wait / round.longest_job);
    let rows = vec![
        Row::worst("the other tenant's longest wait ÷ the flood's longest job", Unit::Ratio, Goal::AtMost(2.0), ratio)?,
        Row::median("hit p99, idle", Unit::Milliseconds, each(|round| round.idle_p99))?,
        Row::median("hit p99, every core busy with misses", Unit::Milliseconds, each(|round| round.saturated_p99))?,
        Row::median("the other tenant's longest wait", Unit::Milliseconds, each(|round| round.longest_wait))?,
        Row::median("the flood's longest job", Unit::Milliseconds, each(|round| round.longest_job))?,
        Row::median("pictures made for the flood", Unit::Count, each(|round| round.flood_made))?,
        Row::median("refusals of the flood", Unit::Count, each(|round| round.flood_refused))?,
    ];
    let method = vec![
        format!(
            "{FLOOD} clients of one tenant ask for 12-megapixel JPEGs at 800 px as WebP that were never made, each again when \
             it is answered, a second later when it is refused. Meanwhile another tenant asks for {SINGLES} of the same, \
             one after the other, and then a client for {} hits.",
            bench.effort.fairness_hits
        ),
        "Every answer of the other tenant and every hit must be a 200, or the figure fails. A wait is all of an answer's time \
         but that on the thread, by its Server-Timing."
            .to_owned(),
        "One core and one libvips thread for the server.".to_owned(),
    ];
    Ok(Figure { method, rows, ..Figure::default() })
}

async fn round(bench: &Bench, edge: &Arc<Edge>, number: usize) -> anyhow::Result<Round> {
    let idle = hits(edge, bench.effort.fairness_hits).await?;
    let flood = Flood::start(edge, number);
    flood.until_it_waits(edge).await?;
    let mut longest_wait: f64 = 0.0;
    let mut connection = edge.connect().await?;
    for single in 0..SINGLES {
        let target = format!("/shop/w=800,f=webp,v={number}-{single}/{FOLDER}/{CAMERA}");
        let started = Instant::now();
        let answer = connection.send(&Request::get(&target)).await?;
        let took = started.elapsed().as_secs_f64() * 1e3;
        ensure!(answer.status == 200, "the other tenant was answered {}: {}", answer.status, answer.text());
        longest_wait = longest_wait.max(took - on_the_thread(&answer)?);
    }
    let saturated = hits(edge, bench.effort.fairness_hits).await?;
    flood.until_it_waits(edge).await.context("the flood has run dry")?;
    let (made, refused) = flood.stop().await?;
    let jobs = Samples::new(made).context("the flood got nothing")?.spread();
    Ok(Round {
        idle_p99: idle,
        saturated_p99: saturated,
        longest_wait,
        longest_job: jobs.highest,
        flood_made: jobs.samples as f64,
        flood_refused: refused as f64,
    })
}

/// The 99th percentile of so many hits, in milliseconds.
async fn hits(edge: &Edge, count: usize) -> anyhow::Result<f64> {
    let mut connection = edge.connect().await?;
    let target = edge::target("w=400,f=jpeg", "hit", FOLDER, SMALL);
    edge::fetch(&mut connection, &target).await?;
    let mut times = Vec::with_capacity(count);
    for _ in 0..count {
        let started = Instant::now();
        let (_, status) = edge::fetch(&mut connection, &target).await?;
        times.push(started.elapsed().as_secs_f64() * 1e3);
        ensure!(status == CacheStatus::Hit, "a hit was {status:?}");
    }
    Ok(Samples::new(times).context("no hits")?.percentile(99))
}

/// Milliseconds that an answer's rendition took on its thread.
fn on_the_thread(answer: &Response) -> anyhow::Result<f64> {
    let timing = answer.header("server-timing").context("a fill tells its time")?;
    let part = timing.split(',').find_map(|part| part.trim().strip_prefix("transform;dur="));
    part.context("a fill tells its transform")?.parse().context("a time is a number")
}

/// The clients of the tenant that floods.
struct Flood {
    stopping: Arc<AtomicBool>,
    refused: Arc<AtomicUsize>,
    clients: JoinSet<anyhow::Result<Vec<f64>>>,
}

impl Flood {
    fn start(edge: &Arc<Edge>, round: usize) -> Self {
        let (stopping, refused, next) = (Arc::default(), Arc::default(), Arc::new(AtomicUsize::new(0)));
        let mut clients = JoinSet::new();
        for _ in 0..FLOOD {
            let (edge, next) = (Arc::clone(edge), Arc::clone(&next));
            let (stopping, refused): (Arc<AtomicBool>, Arc<AtomicUsize>) =
                (Arc::clone(&stopping), Arc::clone(&refused));
            clients.spawn(async move {
                let (mut connection, mut jobs) = (edge.connect().await?, Vec::new());
                while !stopping.load(Ordering::Relaxed) {
                    let version = format!("{round}-{}", next.fetch_add(1, Ordering::Relaxed));
                    match ask(&mut connection, &version).await? {
                        Some(job) => jobs.push(job),
                        None => {
                            refused.fetch_add(1, Ordering::Relaxed);
                            tokio::time::sleep(RETRY_AFTER).await;
                        }
                    }
                }
                Ok(jobs)
            });
        }
        Self { stopping, refused, clients }
    }

    async fn until_it_waits(&self, edge: &Edge) -> anyhow::Result<()> {
        let started = Instant::now();
        while edge.metrics().await?.sum("calotype_transform_queue_jobs", "") < BACKLOG {
            ensure!(started.elapsed() < BACKLOG_LIMIT, "fewer than {BACKLOG} renditions wait");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    /// The times of all jobs in milliseconds, and how many requests were refused.
    async fn stop(mut self) -> anyhow::Result<(Vec<f64>, usize)> {
        self.stopping.store(true, Ordering::Relaxed);
        let mut jobs = Vec::new();
        while let Some(client) = self.clients.join_next().await {
            jobs.extend(client.context("a client panicked")??);
        }
        Ok((jobs, self.refused.load(Ordering::Relaxed)))
    }
}

/// The time on the thread in milliseconds; `None` if the edge was too busy or too slow, which floods bring about.
async fn ask(connection: &mut Connection, version: &str) -> anyhow::Result<Option<f64>> {
    let answer = connection.send(&Request::get(edge::target("w=800,f=webp", version, FOLDER, CAMERA))).await?;
    match answer.status.as_u16() {
        200 => on_the_thread(&answer).map(Some),
        503 | 504 => Ok(None),
        status => anyhow::bail!("the flood was answered {status}: {}", answer.text()),
    }
}
