//! What the numbers of a case say: rows with goals, and ours beside each peer.

use anyhow::Context;

use super::equal::{Point, at_least};
use super::field::{MEMORY_CACHE, Setting};
use super::{Contender, Found, QUALITY, Role, Try};
use crate::report::{Goal, Row, Unit, Versus};
use crate::statistics::Samples;

/// Whose scores ours must reach for no more CPU time and bytes, if it was measured; else the cheapest peer's.
const RIVAL: &str = "oximg";

/// CPU time for an AVIF, in milliseconds.
const AVIF_CPU_MS: f64 = 120.0;

/// The rows of a case.
///
/// # Errors
/// When there were no rounds.
pub fn rows(found: &Found) -> anyhow::Result<Vec<Row>> {
    let mut rows = if found.format == "avif" { avif(found)? } else { beside_rivals(found)? };
    rows.extend(memory(found)?);
    Ok(rows)
}

/// Who did best at the quality that all are shown at: the peer that needs the least CPU time.
pub fn cheapest(found: &Found) -> anyhow::Result<Option<&Contender>> {
    let peers = found.contenders.iter().filter(|contender| contender.role.is_peer());
    let mut timed = Vec::new();
    for peer in peers {
        timed.push((median(&shown(peer)?.cpu_ms)?, peer));
    }
    Ok(timed.into_iter().min_by(|(a, _), (b, _)| a.total_cmp(b)).map(|(_, peer)| peer))
}

/// What `contender` needs to look no worse than `scores`, by medians.
///
/// # Errors
/// When there were no rounds.
pub fn at_scores(contender: &Contender, scores: [f64; 2]) -> anyhow::Result<Option<Point>> {
    Ok(at_least(&points(contender, |tried| median(&tried.cpu_ms))?, scores))
}

/// The middle of the rounds.
///
/// # Errors
/// Without rounds.
pub fn median(rounds: &[f64]) -> anyhow::Result<f64> {
    Ok(Samples::new(rounds.to_vec()).context("there were no rounds")?.median())
}

/// At the quality that all are shown at.
///
/// # Errors
/// When it was not tried.
pub fn shown(contender: &Contender) -> anyhow::Result<&Try> {
    contender.at(Setting::Quality(QUALITY)).with_context(|| format!("{} did not try {QUALITY}", contender.name))
}

fn ours(found: &Found) -> anyhow::Result<&Contender> {
    found.contenders.iter().find(|contender| contender.role == Role::Ours).context("we did not take part")
}

/// Tries at a number, with rising quality.
fn points(contender: &Contender, cpu_ms: impl Fn(&Try) -> anyhow::Result<f64>) -> anyhow::Result<Vec<Point>> {
    let mut points = Vec::new();
    for tried in &contender.tries {
        if let Setting::Quality(quality) = tried.setting {
            let (scores, bytes) = (tried.scores, tried.bytes);
            points.push(Point { quality: f64::from(quality), scores, bytes, cpu_ms: cpu_ms(tried)? });
        }
    }
    points.sort_by(|a, b| a.quality.total_cmp(&b.quality));
    Ok(points)
}

fn beside_rivals(found: &Found) -> anyhow::Result<Vec<Row>> {
    let named = || found.contenders.iter().filter(|contender| contender.name.starts_with(RIVAL));
    let rivals: Vec<&Contender> =
        if named().next().is_some() { named().collect() } else { cheapest(found)?.into_iter().collect() };
    let mut rows = Vec::new();
    for ours in found.contenders.iter().filter(|contender| contender.role.is_ours()) {
        for rival in &rivals {
            rows.extend(beside(found, ours, rival)?);
        }
    }
    Ok(rows)
}

/// CPU time and bytes of one of ours beside a peer's, when ours looks no worse. Ratios of CPU time are made within rounds.
fn beside(found: &Found, ours: &Contender, rival: &Contender) -> anyhow::Result<[Row; 2]> {
    let theirs = shown(rival)?;
    let names = format!("{} ÷ {}", ours.name, rival.name);
    let what = |number: &str| format!("{}: {names}, {number} at its scores or better", found.case);
    let goal = Goal::AtMost(1.0);
    let mut ratios = Vec::new();
    for round in 0..theirs.cpu_ms.len() {
        let points = points(ours, |tried| tried.cpu_ms.get(round).copied().context("a round is missing"))?;
        ratios.extend(at_least(&points, theirs.scores).map(|point| point.cpu_ms / theirs.cpu_ms[round]));
    }
    let Some(point) = at_scores(ours, theirs.scores)? else {
        return Ok(["CPU", "bytes"].map(|number| Row::missing(what(number), Unit::Ratio, goal)));
    };
    Ok([
        Row::median(what("CPU"), Unit::Ratio, ratios)?.with_goal(goal),
        Row::single(what("bytes"), Unit::Ratio, point.bytes / theirs.bytes).with_goal(goal),
    ])
}

/// Ours as it comes, beside libvips as it comes.
fn avif(found: &Found) -> anyhow::Result<Vec<Row>> {
    let ours = ours(found)?.at(Setting::Default).context("we did not try our default")?;
    let mut of_libvips = found.contenders.iter().filter(|contender| contender.role == Role::Ceiling);
    let libvips =
        of_libvips.find_map(|contender| contender.at(Setting::Default)).context("libvips did not try its default")?;
    let score = |light: &str, at: usize| {
        let what = format!("{}: score of our default less that of libvips' default, {light}", found.case);
        Row::single(what, Unit::Score, ours.scores[at] - libvips.scores[at]).with_goal(Goal::AtLeast(0.0))
    };
    Ok(vec![
        Row::median(format!("{}: CPU of our default", found.case), Unit::Milliseconds, ours.cpu_ms.clone())?
            .with_goal(Goal::AtMost(AVIF_CPU_MS)),
        score("linear", 0),
        score("sRGB", 1),
    ])
}

fn memory(found: &Found) -> anyhow::Result<Option<Row>> {
    let peers = found.contenders.iter().filter(|contender| contender.role == Role::LibvipsPeer);
    let leanest = peers.map(|peer| peer.peak_bytes).min_by(f64::total_cmp);
    let what = format!("{}: most memory of ours", found.case);
    let row = Row::single(what, Unit::Megabytes, ours(found)?.peak_bytes / 1e6);
    Ok(leanest.map(|leanest| row.with_goal(Goal::AtMost((leanest + MEMORY_CACHE as f64) / 1e6))))
}

/// Ours beside every peer: CPU time and bytes when ours looks no worse, and memory.
///
/// # Errors
/// When there were no rounds.
pub fn versus(found: &Found) -> anyhow::Result<Vec<Versus>> {
    let ours = ours(found)?;
    let mut all = Vec::new();
    for peer in found.contenders.iter().filter(|contender| contender.role.is_peer()) {
        let theirs = shown(peer)?;
        let point = at_scores(ours, theirs.scores)?;
        let versus = |measure, unit, ours, theirs| Versus {
            what: found.case.to_owned(),
            peer: peer.name.to_owned(),
            measure,
            unit,
            ours,
            theirs,
        };
        let cpu = median(&theirs.cpu_ms)?;
        all.push(versus("CPU at its scores", Unit::Milliseconds, point.map(|point| point.cpu_ms), cpu));
        all.push(versus("bytes at its scores", Unit::Bytes, point.map(|point| point.bytes), theirs.bytes));
        all.push(versus("most memory", Unit::Megabytes, Some(ours.peak_bytes / 1e6), peer.peak_bytes / 1e6));
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contender(name: &'static str, role: Role, tries: &[(Setting, f64, f64, [f64; 2])]) -> Contender {
        let tries = tries.iter().map(|(setting, score, bytes, cpu_ms)| Try {
            setting: *setting,
            bytes: *bytes,
            scores: [*score; 2],
            cpu_ms: cpu_ms.to_vec(),
            per_second: vec![1.0; 2],
        });
        Contender { name, role, peak_bytes: 100e6, tries: tries.collect() }
    }

    fn found(ours: [(Setting, f64, f64, [f64; 2]); 2], theirs: f64) -> Found {
        let rival = contender("oximg", Role::Peer, &[(Setting::Quality(80), theirs, 2000.0, [20.0, 40.0])]);
        let contenders = vec![contender("ours", Role::Ours, &ours), rival];
        Found { case: "A → B", file: "a-b", format: "jpeg", contenders, missing: Vec::new() }
    }

    const OURS: [(Setting, f64, f64, [f64; 2]); 2] =
        [(Setting::Quality(70), 60.0, 1000.0, [10.0, 20.0]), (Setting::Quality(90), 80.0, 4000.0, [10.0, 20.0])];

    #[test]
    fn ratios_are_made_within_rounds_at_equal_score() {
        let [cpu, bytes]: [Row; 2] = rows(&found(OURS, 70.0)).expect("rows").try_into().expect("two rows");
        assert_eq!(cpu.summary(), "A → B: ours ÷ oximg, CPU at its scores or better: 0.500");
        assert_eq!(bytes.summary(), "A → B: ours ÷ oximg, bytes at its scores or better: 1.000");
    }

    #[test]
    fn what_we_cannot_look_like_is_a_goal_missed_and_a_win_of_the_peer() {
        let found = found(OURS, 90.0);
        assert!(rows(&found).expect("rows").iter().all(|row| row.summary().ends_with("better: –")));
        let versus = versus(&found).expect("comparisons");
        assert_eq!(versus.iter().filter(|versus| versus.is_lost()).count(), 2);
    }
}
