//! The API of the control plane: what reading and uploading take, how soon edges follow, and what a hundred thousand tenants cost.

pub mod bucket;
mod edges;
mod reads;
pub mod seed;
pub mod service;
mod writes;

use std::path::Path;
use std::time::{Duration, Instant};

use self::reads::Times;
use self::service::Service;
use crate::report::{Figure, Row};

/// Makes the study; its report.
///
/// # Errors
/// When something cannot be measured.
pub async fn study(control_plane: &Path, proxy: &Path, quick: bool) -> anyhow::Result<String> {
    let (service, started) = (Service::start(control_plane).await?, Instant::now());
    eprintln!("  making {} tenants with {} media each", seed::TENANTS, seed::MEDIA);
    seed::tenants(&service, 0, seed::TENANTS).await?;
    seed::media(&service).await?;
    eprintln!("  made within {:.1} s", started.elapsed().as_secs_f64());
    let times = if quick {
        Times { steady: Duration::from_secs(5), most: Duration::from_secs(3), keys: 5000 }
    } else {
        Times { steady: Duration::from_secs(30), most: Duration::from_secs(15), keys: 20_000 }
    };
    let mut rows = told(reads::measure(&service, &times).await?);
    rows.extend(told(writes::measure(&service, if quick { 15 } else { 60 }).await?));
    rows.extend(told(edges::replace(&service, proxy, if quick { 10 } else { 100 }).await?));
    let tenants = if quick { 10_000 } else { 100_000 };
    rows.extend(told(edges::crowd(&service, proxy, tenants, if quick { 10 } else { 100 }).await?));
    service.stop().await?;
    let method = [
        "Postgres, the control plane, edges and clients share the machine, on no cores of their own; everything as it comes but for rates, which \
         are off. Postgres syncs its log to disk; uploads go into a folder.",
        "Reads are of 1,000 tenants with 1,000 media each, by 64 connections that are kept. At 200/s they are sent by the clock, whether \
         answers come or not, and each wait begins when the request was due.",
        "A key's cost is CPU time of the control plane: that of requests whose query is refused once their key was looked at, less that of \
         `/healthz`; so it has that refusal in it.",
        "Memory for uploads is the most resident memory while eight are under way, less what it was before; the worst of three times.",
        "A replacement is seen by asking both edges for a rendition every millisecond; the wait is that of the later one.",
        "Tenants have a policy, a key and ten presets each. A start ends when the edge knows all of them.",
    ];
    let method = method.map(str::to_owned).to_vec();
    Ok(Figure { method, rows, ..Figure::default() }.to_markdown(""))
}

fn told(rows: Vec<Row>) -> Vec<Row> {
    rows.iter().for_each(|row| eprintln!("  {}", row.summary()));
    rows
}
