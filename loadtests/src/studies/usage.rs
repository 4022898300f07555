//! Reports of usage: what it takes to count what many edges say of many tenants, and how much of it is kept.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use futures_util::future::try_join_all;
use http::Method;
use serde_json::json;
use sqlx::{Connection as _, PgConnection};
use testkit::http::{Connection, Request};
use tokio::time::{Instant as Moment, sleep_until};

use super::api::seed;
use super::api::service::{EDGE_TOKEN, Service, ask};
use crate::cpu_time;
use crate::report::{Figure, Row, Unit};

/// Edges that report.
const EDGES: usize = 10;

/// Tenants that each of them reports of, every time.
const TENANTS: usize = 1000;

/// Time between two reports of an edge.
const EVERY: Duration = Duration::from_secs(10);

/// Reports of an edge in an hour.
const IN_AN_HOUR: usize = 360;

const KIB: f64 = 1024.0;

/// Makes the study; its report.
///
/// # Errors
/// When something cannot be measured.
pub async fn study(control_plane: &Path, quick: bool) -> anyhow::Result<String> {
    let service = Service::start(control_plane).await?;
    seed::tenants(&service, 0, TENANTS).await?;
    // Far away, so that each report is held against it and none is refused.
    service
        .sql("INSERT INTO quotas (tenant_id, bandwidth_bytes, transforms) SELECT id, 1 << 50, 1 << 50 FROM tenants;")
        .await?;
    let mut database = PgConnection::connect(&service.database_url()).await?;
    let postmaster = parent(sqlx::query_scalar("SELECT pg_backend_pid()").fetch_one(&mut database).await?)?;
    let mut edges = try_join_all((0..EDGES).map(|number| Reporter::connect(&service, number))).await?;
    // Rows of the day are made, and all tables are met.
    for edge in &mut edges {
        edge.report().await?;
    }
    let rounds = if quick { 3 } else { 18 };
    let (cpu, base, started) = (service.cpu_time()?, cpu_time::of_tree(postmaster)?, Instant::now());
    let waits = by_the_clock(&mut edges, rounds).await?;
    let seconds = started.elapsed().as_secs_f64();
    let share = |before: Duration, after: Duration| after.saturating_sub(before).as_secs_f64() / seconds * 100.0;
    let (cpu, base) = (share(cpu, service.cpu_time()?), share(base, cpu_time::of_tree(postmaster)?));
    let mut rows = vec![
        Row::single("CPU of the control plane, of one core", Unit::Percent, cpu),
        Row::single("CPU of Postgres, of one core", Unit::Percent, base),
        Row::percentile("report of 1,000 tenants, p50", Unit::Milliseconds, 50, waits.clone())?,
        Row::percentile("report of 1,000 tenants, p99", Unit::Milliseconds, 99, waits)?,
    ];
    let (before, log) = (size(&mut database).await?, log_position(&mut database).await?);
    let reports = if quick { 30 } else { IN_AN_HOUR };
    let started = Instant::now();
    try_join_all(edges.iter_mut().map(|edge| async move {
        for _ in 0..reports {
            edge.report().await?;
        }
        anyhow::Ok(())
    }))
    .await?;
    let (took, count) = (started.elapsed().as_secs_f64(), (reports * EDGES) as f64);
    let after = size(&mut database).await?;
    let log = (log_position(&mut database).await? - log) as f64 / count;
    sqlx::raw_sql("VACUUM FULL usage_days").execute(&mut database).await?;
    let compact = size(&mut database).await?;
    rows.extend([
        Row::single("reports of 1,000 tenants at most", Unit::PerSecond, count / took),
        Row::single(
            format!("table of usage after {} reports by the clock, KiB", (rounds + 1) * EDGES),
            Unit::Points,
            before as f64 / KIB,
        ),
        Row::single(
            format!("table of usage after {count} more as fast as they go, KiB"),
            Unit::Points,
            after as f64 / KIB,
        ),
        Row::single("a tenant and day, packed", Unit::Bytes, compact as f64 / TENANTS as f64),
        Row::single("write-ahead log of a report", Unit::Bytes, log),
    ]);
    check(&mut database, rounds + 1 + reports).await?;
    database.close().await?;
    service.stop().await?;
    rows.iter().for_each(|row| eprintln!("  {}", row.summary()));
    let method = [
        "Ten edges report of the same 1,000 tenants each, all of whom have quotas, every ten seconds, spread over them; Postgres syncs its log to disk.",
        "CPU is user and system time of the control plane and of all processes of Postgres while that goes on.",
        "By the clock, the room of rows that a report has replaced is used by the next ones. As fast as they go, ten at once, it is not until \
         vacuum comes: that is the worst that the table grows to. At the end each number is the sum of all reports.",
    ];
    let method = method.map(str::to_owned).to_vec();
    Ok(Figure { method, rows, ..Figure::default() }.to_markdown(""))
}

/// An edge, as far as the control plane can tell.
struct Reporter {
    connection: Connection,
    number: usize,
    reports: usize,
}

impl Reporter {
    async fn connect(service: &Service, number: usize) -> anyhow::Result<Self> {
        Ok(Self { connection: service.connect().await?, number, reports: 0 })
    }

    /// Sends the next report; the milliseconds until it is answered.
    async fn report(&mut self) -> anyhow::Result<f64> {
        self.reports += 1;
        let day = std::time::SystemTime::UNIX_EPOCH.elapsed()?.as_secs() / 86_400;
        let row = |tenant| {
            json!({"tenant": seed::tenant(tenant), "day": day, "requests": 100, "bytes": 2_000_000, "hits": 95,
                   "errors": 1, "transforms": 4, "cpu_us": 90_000})
        };
        let boot = format!("00000000-0000-4000-8000-{:012}", self.number);
        let rows: Vec<_> = (0..TENANTS).map(row).collect();
        let report = json!({"edge": "edge", "boot": boot, "number": self.reports, "rows": rows});
        let request = Request::new(Method::POST, "/internal/v1/usage").header("content-type", "application/json");
        let request = request.header("authorization", format!("Bearer {EDGE_TOKEN}")).body(report.to_string());
        let started = Instant::now();
        ask(&mut self.connection, &request).await?;
        Ok(started.elapsed().as_secs_f64() * 1e3)
    }
}

/// Lets each edge report every [`EVERY`], one after the other.
async fn by_the_clock(edges: &mut [Reporter], rounds: usize) -> anyhow::Result<Vec<f64>> {
    let (started, apart) = (Moment::now(), EVERY / u32::try_from(EDGES)?);
    let waits = try_join_all(edges.iter_mut().map(|edge| async move {
        let mut waits = Vec::new();
        for round in 0..u32::try_from(rounds)? {
            sleep_until(started + EVERY * round + apart * u32::try_from(edge.number)?).await;
            waits.push(edge.report().await?);
        }
        anyhow::Ok(waits)
    }));
    let waits = waits.await?.concat();
    sleep_until(started + EVERY * u32::try_from(rounds)?).await;
    Ok(waits)
}

/// Fails unless every tenant has all of every report.
async fn check(database: &mut PgConnection, reports: usize) -> anyhow::Result<()> {
    let wrong = "SELECT count(*) FROM usage_days WHERE requests <> $1 OR cpu_us <> $2";
    let each = i64::try_from(reports * EDGES)?;
    let wrong: i64 = sqlx::query_scalar(wrong).bind(each * 100).bind(each * 90_000).fetch_one(database).await?;
    // Around midnight there are two days.
    ensure!(wrong == 0, "{wrong} rows are not the sum of what was reported");
    Ok(())
}

async fn size(database: &mut PgConnection) -> anyhow::Result<i64> {
    let size =
        "SELECT sum(pg_total_relation_size(inhrelid))::bigint FROM pg_inherits WHERE inhparent = 'usage_days'::regclass
                AND pg_relation_size(inhrelid) > 0";
    Ok(sqlx::query_scalar(size).fetch_one(database).await?)
}

async fn log_position(database: &mut PgConnection) -> anyhow::Result<i64> {
    let position = "SELECT (pg_current_wal_lsn() - '0/0')::bigint";
    Ok(sqlx::query_scalar(position).fetch_one(database).await?)
}

/// The process that has started this one.
fn parent(id: i32) -> anyhow::Result<u32> {
    let status = fs::read_to_string(format!("/proc/{id}/status"))?;
    let parent = status.lines().find_map(|line| line.strip_prefix("PPid:"));
    Ok(parent.context("every process has one")?.trim().parse()?)
}
