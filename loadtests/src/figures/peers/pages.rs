//! The tables and plots of a case.

use super::field::Setting;
use super::verdict::{at_scores, cheapest, median, shown};
use super::{Contender, Found, QUALITY, Role};
use crate::report::{Plot, Section, Unit};
use crate::statistics::Samples;
use crate::svg::{self, Bar, Line, Panel};
use crate::table::Table;

/// What a case looks like in the report.
///
/// # Errors
/// When there were no rounds.
pub fn section(found: &Found) -> anyhow::Result<Section> {
    let mut body = all(found)?;
    if let Some(peer) = cheapest(found)? {
        body.push_str(&equal(found, peer)?);
    }
    body.push_str(&memory(found));
    for (name, why) in &found.missing {
        body.push_str(&format!("\n{name} was not measured: {why}.\n"));
    }
    let plots = vec![
        Plot {
            name: format!("peers-{}-cpu", found.file),
            title: format!("{}: CPU time at quality {QUALITY}", found.case),
            svg: cpu_plot(found)?,
        },
        Plot {
            name: format!("peers-{}-score", found.file),
            title: format!("{}: bytes and score at several qualities", found.case),
            svg: score_plot(found),
        },
    ];
    Ok(Section { title: found.case.to_owned(), body, plots })
}

/// Every contender at every quality.
fn all(found: &Found) -> anyhow::Result<String> {
    let mut table =
        Table::new(&["", "quality", "CPU", "lowest – highest", "per second", "bytes", "score, linear", "score, sRGB"]);
    for contender in &found.contenders {
        for tried in &contender.tries {
            let spread = Samples::new(tried.cpu_ms.clone()).map(|samples| samples.spread());
            let spread =
                spread.map_or_else(String::new, |spread| format!("{:.1} – {:.1} ms", spread.lowest, spread.highest));
            table.row(&[
                contender.name.to_owned(),
                tried.setting.text(),
                format!("{:.1} ms", median(&tried.cpu_ms)?),
                spread,
                Unit::PerSecond.text(median(&tried.per_second)?),
                format!("{:.0}", tried.bytes),
                Unit::Score.text(tried.scores[0]),
                Unit::Score.text(tried.scores[1]),
            ]);
        }
    }
    Ok(table.into_text())
}

/// What everybody needs to look no worse than `peer`.
fn equal(found: &Found, peer: &Contender) -> anyhow::Result<String> {
    let theirs = shown(peer)?;
    let mut table = Table::new(&["", "quality", "CPU", "bytes", "score, linear", "score, sRGB"]);
    for contender in &found.contenders {
        let cells = match at_scores(contender, theirs.scores)? {
            Some(point) => [
                format!("{:.1}", point.quality),
                format!("{:.1} ms", point.cpu_ms),
                format!("{:.0}", point.bytes),
                Unit::Score.text(point.scores[0]),
                Unit::Score.text(point.scores[1]),
            ],
            None => ["out of reach", "", "", "", ""].map(str::to_owned),
        };
        table.row(&[vec![contender.name.to_owned()], cells.to_vec()].concat());
    }
    let intro = format!(
        "\nAt the scores of {} at quality {QUALITY}, the peer that needs the least CPU time, or better:\n\n",
        peer.name
    );
    Ok(intro + &table.into_text())
}

fn memory(found: &Found) -> String {
    let mut table = Table::new(&["", "most memory"]);
    for contender in &found.contenders {
        table.row(&[contender.name.to_owned(), Unit::Megabytes.text(contender.peak_bytes / 1e6)]);
    }
    format!("\n{}", table.into_text())
}

fn cpu_plot(found: &Found) -> anyhow::Result<String> {
    let mut bars = Vec::new();
    for contender in &found.contenders {
        for tried in &contender.tries {
            let is_shown = tried.setting == Setting::Quality(QUALITY)
                || (contender.role == Role::Ours && tried.setting == Setting::Default);
            if is_shown {
                let samples = Samples::new(tried.cpu_ms.clone());
                let value = median(&tried.cpu_ms)?;
                bars.push(Bar {
                    name: format!("{}, {}", contender.name, tried.setting.text()),
                    value,
                    spread: samples.map_or((value, value), |all| (all.spread().lowest, all.spread().highest)),
                    text: format!("{value:.1} ms"),
                });
            }
        }
    }
    Ok(svg::bars(&format!("{}: CPU time of a rendition, quality {QUALITY}", found.case), &bars))
}

fn score_plot(found: &Found) -> String {
    let panel = |reference: usize, light: &str| Panel {
        title: format!("{}, reference of {light}", found.case),
        across: "bytes".to_owned(),
        up: "SSIMULACRA2".to_owned(),
        lines: found
            .contenders
            .iter()
            .map(|contender| Line {
                name: contender.name.to_owned(),
                points: contender
                    .tries
                    .iter()
                    .filter(|tried| tried.setting != Setting::Default)
                    .map(|tried| (tried.bytes, tried.scores[reference]))
                    .collect(),
            })
            .collect(),
    };
    svg::lines(&[panel(0, "linear light"), panel(1, "sRGB")])
}
