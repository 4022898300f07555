//! Memory hits: our CPU time per answered request against that of nginx, which serves the same bytes and headers.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, ensure};
use testkit::http::{self, Response};

use crate::bench::Bench;
use crate::edge::{self, Edge, EdgeHome, FOLDER};
use crate::nginx::{Nginx, Port};
use crate::pictures::PHOTO;
use crate::quiet::{self, Quiet};
use crate::report::{Figure, Goal, Row, Unit};
use crate::wrk;

/// The sizes of body, in bytes, that renditions are looked for of.
const LARGE: usize = 50 * 1024;
const SMALL: usize = 1024;

/// A rendition may differ from the size asked for by this share.
const SIZE_TOLERANCE: f64 = 0.05;

/// Widths to look among, in pixels.
const WIDTHS: std::ops::Range<u32> = 8..2000;

/// Who is asked in a round, for which body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Contender {
    name: &'static str,
    /// Ours without one.
    nginx: Option<Port>,
    is_large: bool,
}

const OURS: usize = 0;
const NGINX: usize = 1;
const NGINX_UNBUFFERED: usize = 2;
const NGINX_OPEN_FILES: usize = 3;
const OURS_SMALL: usize = 4;
const NGINX_SMALL: usize = 5;

const CONTENDERS: [Contender; 6] = [
    Contender { name: "ours, 50 KiB", nginx: None, is_large: true },
    Contender { name: "nginx, 50 KiB", nginx: Some(Port::Buffered), is_large: true },
    Contender {
        name: "nginx with an unbuffered access log (the default), 50 KiB",
        nginx: Some(Port::Unbuffered),
        is_large: true,
    },
    Contender { name: "nginx with open_file_cache, 50 KiB", nginx: Some(Port::OpenFiles), is_large: true },
    Contender { name: "ours, 1 KiB", nginx: None, is_large: false },
    Contender { name: "nginx, 1 KiB", nginx: Some(Port::Buffered), is_large: false },
];

/// What was seen of the contenders in a round.
type Round = [Seen; CONTENDERS.len()];

/// What was seen of one contender in a round.
#[derive(Debug, Default, Clone, Copy)]
struct Seen {
    /// CPU time for one answer.
    cpu_micros: f64,
    per_second: f64,
}

pub async fn measure(bench: &Bench) -> anyhow::Result<Figure> {
    let (edge, _) = EdgeHome::prepare(bench, "hit")?.start(bench).await?;
    let large = rendition_of(&edge, LARGE).await?;
    let small = rendition_of(&edge, SMALL).await?;
    let nginx = Nginx::start(bench, edge.address, &large).await?;
    let sizes = compare_answers(&edge, &nginx, [&large, &small]).await?;

    let wanted = bench.effort.hit_rounds;
    let quiet = quiet::rounds(wanted, async |round| {
        let mut seen = [Seen::default(); CONTENDERS.len()];
        for turn in 0..CONTENDERS.len() {
            let at = (round + turn) % CONTENDERS.len();
            let target = if CONTENDERS[at].is_large { &large } else { &small };
            seen[at] = ask(bench, &edge, &nginx, CONTENDERS[at], target).await?;
        }
        let [ours, theirs] = [OURS, NGINX].map(|at| seen[at].cpu_micros);
        let ratio = ours / theirs;
        eprintln!("  round {} ({wanted} wanted): ours {ours:.1} µs, nginx {theirs:.1} µs, ratio {ratio:.2}", round + 1);
        Ok(seen)
    })
    .await?;
    nginx.stop().await?;
    edge.stop().await?;
    report(&quiet, &sizes)
}

/// The target of a rendition of about so many bytes, made and in memory.
async fn rendition_of(edge: &Edge, bytes: usize) -> anyhow::Result<String> {
    let mut connection = edge.connect().await?;
    let (mut low, mut high) = (WIDTHS.start, WIDTHS.end);
    // A wider rendition is a larger one, up to a few bytes: good enough to halve the range each time.
    while high - low > 1 {
        let width = u32::midpoint(low, high);
        let target = target(width);
        let (body, _) = edge::fetch(&mut connection, &target).await?;
        if (body.len() as f64 / bytes as f64 - 1.0).abs() <= SIZE_TOLERANCE {
            return Ok(target);
        }
        if body.len() < bytes { low = width } else { high = width }
    }
    anyhow::bail!("no rendition of about {bytes} bytes was found")
}

/// Versioned, so that it stays fresh while it is measured.
fn target(width: u32) -> String {
    edge::target(&format!("w={width},f=jpeg"), "hit", FOLDER, PHOTO)
}

/// Makes sure that all ports answer alike and nginx answers from its cache. Returns bytes of body and header of ours and
/// nginx for the large rendition.
async fn compare_answers(edge: &Edge, nginx: &Nginx, targets: [&String; 2]) -> anyhow::Result<[usize; 3]> {
    let mut sizes = [0; 3];
    for target in targets.into_iter().rev() {
        let ours = http::get(edge.address, target).await?;
        for port in [Port::Buffered, Port::Unbuffered, Port::OpenFiles] {
            http::get(nginx.address(port), target).await?;
            let before = served(edge).await?;
            let theirs = http::get(nginx.address(port), target).await?;
            ensure!(served(edge).await? == before, "nginx does not answer {target} from its cache");
            ensure!(theirs.status == ours.status && theirs.body == ours.body, "nginx answers {target} differently");
            let missing = |from: &Response, of: &Response| {
                from.headers.keys().find(|name| !of.headers.contains_key(*name)).map(ToString::to_string)
            };
            let [lost, added] = [missing(&ours, &theirs), missing(&theirs, &ours)];
            ensure!(lost.is_none(), "nginx answers {target} without the header {}", lost.unwrap_or_default());
            ensure!(
                added.is_none() || added.as_deref() == Some("server"),
                "nginx answers {target} with another header, {}",
                added.unwrap_or_default()
            );
            sizes = [ours.body.len(), header_bytes(&ours), header_bytes(&theirs)];
        }
    }
    Ok(sizes)
}

async fn served(edge: &Edge) -> anyhow::Result<f64> {
    Ok(edge.metrics().await?.sum("calotype_requests_total", ""))
}

/// Header fields as on the wire: name, colon, space, value, line end.
fn header_bytes(response: &Response) -> usize {
    response.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum()
}

/// One contender's turn.
async fn ask(bench: &Bench, edge: &Edge, nginx: &Nginx, contender: Contender, target: &str) -> anyhow::Result<Seen> {
    let address: SocketAddr = contender.nginx.map_or(edge.address, |port| nginx.address(port));
    let cpu_time = || if contender.nginx.is_some() { nginx.cpu_time() } else { edge.cpu_time() };
    let hits_before = memory_hits(edge).await?;
    let before = cpu_time()?;
    let answered = wrk::run(&bench.tools.wrk, address, target, bench.effort.hit_seconds).await?;
    let took: Duration = cpu_time()?.checked_sub(before).context("CPU time ran backwards")?;
    let hits = memory_hits(edge).await? - hits_before;
    // What wrk's connections had asked for when it stopped was answered, but not counted by it; and a request is counted
    // by us a moment after its answer has arrived.
    let expected = if contender.nginx.is_some() { 0.0 } else { answered.requests as f64 };
    let is_all = (hits - expected).abs() <= f64::from(wrk::CONNECTIONS);
    ensure!(is_all, "{hits} memory hits for {expected} requests");
    edge.empty_access_log()?;
    nginx.empty_access_logs()?;
    let cpu_micros = took.as_secs_f64() * 1e6 / answered.requests as f64;
    Ok(Seen { cpu_micros, per_second: answered.per_second })
}

async fn memory_hits(edge: &Edge) -> anyhow::Result<f64> {
    Ok(edge.metrics().await?.sum("calotype_requests_total", "cache=\"memory\""))
}

fn report(quiet: &Quiet<Round>, [body, ours, theirs]: &[usize; 3]) -> anyhow::Result<Figure> {
    let each = |number: &dyn Fn(&Round) -> f64| quiet.rounds.iter().map(number).collect::<Vec<f64>>();
    let ratios = |ours: usize, theirs: usize| each(&|round| round[ours].cpu_micros / round[theirs].cpu_micros);
    let mut rows =
        vec![Row::median("50 KiB: ours ÷ nginx", Unit::Ratio, ratios(OURS, NGINX))?.with_goal(Goal::AtMost(1.0))];
    for (what, at) in [("an unbuffered access log", NGINX_UNBUFFERED), ("open_file_cache", NGINX_OPEN_FILES)] {
        rows.push(Row::median(format!("50 KiB: ours ÷ nginx with {what}"), Unit::Ratio, ratios(OURS, at))?);
    }
    rows.push(Row::median("1 KiB: ours ÷ nginx", Unit::Ratio, ratios(OURS_SMALL, NGINX_SMALL))?);
    for (at, contender) in CONTENDERS.iter().enumerate() {
        let what = format!("CPU, {}", contender.name);
        rows.push(Row::median(what, Unit::Microseconds, each(&|round| round[at].cpu_micros))?);
    }
    for at in [OURS, NGINX, OURS_SMALL, NGINX_SMALL] {
        let what = format!("answered, {}", CONTENDERS[at].name);
        rows.push(Row::median(what, Unit::PerSecond, each(&|round| round[at].per_second))?);
    }
    rows.push(Row::others(quiet)?);
    let method = vec![
        format!(
            "wrk with {} kept-alive HTTP/1.1 connections; one serving thread here, one worker there; both write their access \
             log to a file (ours one JSON object a request, nginx the combined format through a buffer of 64 KiB).",
            wrk::CONNECTIONS
        ),
        format!(
            "The same {body} bytes of JPEG from both: nginx caches our edge's answers (loadtests/nginx/nginx.conf), with \
             {ours} bytes of header fields here and {theirs} there, its own Server field included."
        ),
        "Each round's count of memory hits is checked against our metrics, and that nginx never asked upstream."
            .to_owned(),
    ];
    Ok(Figure { method, rows })
}
