//! Memory hits: our CPU time per answered request against that of nginx, which serves the same bytes and headers, and of
//! Varnish, which adds some of its own.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, ensure};
use testkit::http::{self, Response};

use crate::bench::Bench;
use crate::edge::{self, Edge, EdgeHome, FOLDER};
use crate::nginx::{Nginx, Port};
use crate::pictures::PHOTO;
use crate::quiet::{self, Quiet};
use crate::report::{Figure, Goal, Plot, Row, Section, Unit, Versus};
use crate::statistics::Samples;
use crate::svg::{self, Bar};
use crate::varnish::Varnish;
use crate::wrk;

/// The sizes of body, in bytes, that renditions are looked for of.
const LARGE: usize = 50 * 1024;
const SMALL: usize = 1024;

/// A rendition may differ from the size asked for by this share.
const SIZE_TOLERANCE: f64 = 0.05;

/// Widths to look among, in pixels.
const WIDTHS: std::ops::Range<u32> = 8..2000;

/// How much of nginx's CPU time a hit may take.
const GOAL: Goal = Goal::AtMost(0.83);

/// Who is asked in a round, for which body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Contender {
    name: &'static str,
    server: Server,
    is_large: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Server {
    Ours,
    Nginx(Port),
    Varnish,
}

const OURS: Server = Server::Ours;
const NGINX: Server = Server::Nginx(Port::Buffered);

/// Everybody in the order of the report. Varnish is left out where there is none.
const CONTENDERS: [Contender; 10] = [
    contender("ours", OURS, true),
    contender("nginx proxy_cache", NGINX, true),
    contender("nginx proxy_cache with an unbuffered access log (the default)", Server::Nginx(Port::Unbuffered), true),
    contender("nginx proxy_cache with open_file_cache", Server::Nginx(Port::OpenFiles), true),
    contender("Varnish", Server::Varnish, true),
    contender("nginx, a static file", Server::Nginx(Port::Files), true),
    contender("ours", OURS, false),
    contender("nginx proxy_cache", NGINX, false),
    contender("Varnish", Server::Varnish, false),
    contender("nginx, a static file", Server::Nginx(Port::Files), false),
];

const fn contender(name: &'static str, server: Server, is_large: bool) -> Contender {
    Contender { name, server, is_large }
}

/// Of a body, in words.
fn size(is_large: bool) -> &'static str {
    if is_large { "50 KiB" } else { "1 KiB" }
}

/// What was seen of the contenders in a round.
type Round = Vec<Seen>;

/// What was seen of one contender in a round.
#[derive(Debug, Clone, Copy)]
struct Seen {
    contender: Contender,
    /// CPU time for one answer.
    cpu_micros: f64,
    per_second: f64,
}

/// The servers.
struct Stage<'a> {
    bench: &'a Bench,
    edge: Edge,
    nginx: Nginx,
    varnish: anyhow::Result<Varnish>,
    /// Of the large rendition and the small one.
    targets: [String; 2],
}

pub async fn measure(bench: &Bench) -> anyhow::Result<Figure> {
    let (edge, _) = EdgeHome::prepare(bench, "hit")?.start(bench).await?;
    let targets = [rendition_of(&edge, LARGE).await?, rendition_of(&edge, SMALL).await?];
    let nginx = Nginx::start(bench, edge.address, &targets[0]).await?;
    let varnish = Varnish::start(bench, edge.address, &targets[0]).await;
    if let Err(why) = &varnish {
        eprintln!("  Varnish: not measured: {why:#}");
    }
    let stage = Stage { bench, edge, nginx, varnish, targets };
    let sizes = stage.compare_answers().await?;
    let wanted = bench.effort.hit_rounds;
    let contenders: Vec<Contender> = CONTENDERS
        .into_iter()
        .filter(|contender| contender.server != Server::Varnish || stage.varnish.is_ok())
        .collect();
    let quiet = quiet::rounds(wanted, async |round| {
        let mut seen = Vec::new();
        for turn in 0..contenders.len() {
            seen.push(stage.ask(contenders[(round + turn) % contenders.len()]).await?);
        }
        let [ours, theirs] =
            [OURS, NGINX].map(|server| of(&seen, server, true).map_or(f64::NAN, |seen| seen.cpu_micros));
        let ratio = ours / theirs;
        eprintln!("  round {} ({wanted} wanted): ours {ours:.1} µs, nginx {theirs:.1} µs, ratio {ratio:.2}", round + 1);
        Ok(seen)
    })
    .await?;
    let Stage { edge, nginx, varnish, .. } = stage;
    nginx.stop().await?;
    edge.stop().await?;
    let missing = match varnish {
        Ok(varnish) => varnish.stop().await.map(|()| None)?,
        Err(why) => Some(format!("Varnish was not measured: {why:#}.")),
    };
    report(&contenders, &quiet, &sizes, missing)
}

/// What was seen of a server.
fn of(round: &Round, server: Server, is_large: bool) -> Option<Seen> {
    round.iter().copied().find(|seen| seen.contender.server == server && seen.contender.is_large == is_large)
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

async fn served(edge: &Edge) -> anyhow::Result<f64> {
    Ok(edge.metrics().await?.sum("calotype_requests_total", ""))
}

async fn memory_hits(edge: &Edge) -> anyhow::Result<f64> {
    Ok(edge.metrics().await?.sum("calotype_requests_total", "cache=\"memory\""))
}

/// Header fields as on the wire: name, colon, space, value, line end.
fn header_bytes(response: &Response) -> usize {
    response.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum()
}

/// Bytes of the large body, and of the header of ours, nginx and Varnish.
#[derive(Debug, Default)]
struct Sizes {
    body: usize,
    ours: usize,
    nginx: usize,
    varnish: usize,
}

impl Stage<'_> {
    /// Makes sure that all answer alike, and the others out of their caches.
    async fn compare_answers(&self) -> anyhow::Result<Sizes> {
        let mut sizes = Sizes::default();
        for target in self.targets.iter().rev() {
            let ours = http::get(self.edge.address, target).await?;
            sizes = Sizes { body: ours.body.len(), ours: header_bytes(&ours), ..sizes };
            for port in [Port::Buffered, Port::Unbuffered, Port::OpenFiles] {
                let theirs = self.cached("nginx", self.nginx.address(port), target, &ours).await?;
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
                sizes.nginx = header_bytes(&theirs);
            }
            if let Ok(varnish) = &self.varnish {
                sizes.varnish = header_bytes(&self.cached("Varnish", varnish.address, target, &ours).await?);
            }
            self.nginx.put(target, &ours.body)?;
            self.cached("nginx", self.nginx.address(Port::Files), target, &ours).await?;
        }
        Ok(sizes)
    }

    /// The second answer of a server, which must be ours and not of our making.
    async fn cached(&self, name: &str, server: SocketAddr, target: &str, ours: &Response) -> anyhow::Result<Response> {
        http::get(server, target).await?;
        let before = served(&self.edge).await?;
        let theirs = http::get(server, target).await?;
        ensure!(served(&self.edge).await? == before, "{name} does not answer {target} from its cache");
        ensure!(theirs.status == ours.status && theirs.body == ours.body, "{name} answers {target} differently");
        Ok(theirs)
    }

    /// One contender's turn.
    async fn ask(&self, contender: Contender) -> anyhow::Result<Seen> {
        let Self { bench, edge, nginx, varnish, targets } = self;
        let target = &targets[usize::from(!contender.is_large)];
        let varnish = varnish.as_ref().ok().context("Varnish does not run");
        let (address, cpu_time): (_, &dyn Fn() -> anyhow::Result<Duration>) = match contender.server {
            Server::Ours => (edge.address, &|| edge.cpu_time()),
            Server::Nginx(port) => (nginx.address(port), &|| nginx.cpu_time()),
            Server::Varnish => {
                let varnish = varnish?;
                (varnish.address, &move || varnish.cpu_time())
            }
        };
        let hits_before = memory_hits(edge).await?;
        let before = cpu_time()?;
        let answered = wrk::run(&bench.tools.wrk, address, target, bench.effort.hit_seconds).await?;
        let took: Duration = cpu_time()?.checked_sub(before).context("CPU time ran backwards")?;
        let hits = memory_hits(edge).await? - hits_before;
        // What wrk's connections had asked for when it stopped was answered, but not counted by it; and a request is counted
        // by us a moment after its answer has arrived.
        let expected = if contender.server == OURS { answered.requests as f64 } else { 0.0 };
        let is_all = (hits - expected).abs() <= f64::from(wrk::CONNECTIONS);
        ensure!(is_all, "{hits} memory hits for {expected} requests");
        edge.empty_access_log()?;
        nginx.empty_access_logs()?;
        let cpu_micros = took.as_secs_f64() * 1e6 / answered.requests as f64;
        Ok(Seen { contender, cpu_micros, per_second: answered.per_second })
    }
}

fn report(
    contenders: &[Contender],
    quiet: &Quiet<Round>,
    sizes: &Sizes,
    missing: Option<String>,
) -> anyhow::Result<Figure> {
    let each = |contender: Contender, number: fn(Seen) -> f64| -> Vec<f64> {
        quiet.rounds.iter().filter_map(|round| of(round, contender.server, contender.is_large).map(number)).collect()
    };
    let cpu = |contender| each(contender, |seen| seen.cpu_micros);
    let (mut rows, mut versus) = (Vec::new(), Vec::new());
    for theirs in contenders.iter().filter(|contender| contender.server != OURS) {
        let ours = cpu(contender("ours", OURS, theirs.is_large));
        let ratios = ours.iter().zip(cpu(*theirs)).map(|(ours, theirs)| ours / theirs).collect();
        let what = format!("{}: ours ÷ {}", size(theirs.is_large), theirs.name);
        let row = Row::median(what, Unit::Ratio, ratios)?;
        rows.push(if theirs.server == NGINX { row.with_goal(GOAL) } else { row });
        let median = |all| Samples::new(all).context("there were no rounds").map(|all| all.median());
        versus.push(Versus {
            what: format!("memory hit of {}", size(theirs.is_large)),
            peer: theirs.name.to_owned(),
            measure: "CPU",
            unit: Unit::Microseconds,
            ours: Some(median(ours)?),
            theirs: median(cpu(*theirs))?,
        });
    }
    rows.sort_by_key(|row| !row.has_goal());
    for contender in contenders {
        let what = format!("CPU, {}, {}", contender.name, size(contender.is_large));
        rows.push(Row::median(what, Unit::Microseconds, cpu(*contender))?);
    }
    for contender in contenders {
        let what = format!("answered, {}, {}", contender.name, size(contender.is_large));
        rows.push(Row::median(what, Unit::PerSecond, each(*contender, |seen| seen.per_second))?);
    }
    rows.push(Row::others(quiet)?);
    let plots = vec![plot(contenders, cpu, true)?, plot(contenders, cpu, false)?];
    let section = Section { title: "CPU time of a hit".to_owned(), body: String::new(), plots };
    let method = method(sizes).into_iter().chain(missing).collect();
    Ok(Figure { method, rows, sections: vec![section], versus, ..Figure::default() })
}

fn plot(contenders: &[Contender], cpu: impl Fn(Contender) -> Vec<f64>, is_large: bool) -> anyhow::Result<Plot> {
    let mut bars = Vec::new();
    for contender in contenders.iter().filter(|contender| contender.is_large == is_large) {
        let samples = Samples::new(cpu(*contender)).context("there were no rounds")?;
        let (value, spread) = (samples.median(), samples.spread());
        bars.push(Bar {
            // What is in parentheses is told by the table.
            name: contender.name.split(" (").next().unwrap_or_default().to_owned(),
            value,
            spread: (spread.lowest, spread.highest),
            text: Unit::Microseconds.text(value),
        });
    }
    let title = format!("CPU time of a hit of {}", size(is_large));
    let name = if is_large { "hit-large" } else { "hit-small" };
    Ok(Plot { name: name.to_owned(), svg: svg::bars(&title, &bars), title })
}

fn method(Sizes { body, ours, nginx, varnish }: &Sizes) -> Vec<String> {
    vec![
        format!(
            "wrk with {} kept-alive HTTP/1.1 connections; one serving thread here, one worker of nginx, and as many threads of \
             Varnish as it takes, all on one core. Here and at nginx the access log goes to a file (ours one JSON object a request, \
             nginx the combined format through a buffer of 64 KiB); Varnish logs into shared memory and nothing reads it, as it \
             comes.",
            wrk::CONNECTIONS
        ),
        format!(
            "The same {body} bytes of JPEG from all: nginx (loadtests/nginx/nginx.conf) and Varnish (loadtests/varnish/default.vcl) \
             cache our edge's answers, with {ours} bytes of header fields here, {nginx} at nginx and {varnish} at Varnish, their own \
             fields included. The static file has what nginx gives to a file, and is what a cache could come down to."
        ),
        "Each round's count of memory hits is checked against our metrics, and that the others never asked upstream."
            .to_owned(),
    ]
}
