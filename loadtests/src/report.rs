//! What was measured, as rows with goals, and its two forms: Markdown for people, JSON for comparing.
//!
//! Must not measure. A goal that is missed is shown as plainly as one that is met.

use std::fmt::Write as _;

use anyhow::Context;
use serde::Serialize;

use crate::figures::FigureName;
use crate::machine::{Machine, Servers};
use crate::quiet::Quiet;
use crate::statistics::{Samples, Spread};

/// The whole report.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Where.
    pub machine: Machine,
    /// What was measured.
    pub servers: Servers,
    /// Measured with few rounds.
    pub quick: bool,
    /// What.
    pub figures: Vec<Measured>,
}

/// One figure, measured or not.
#[derive(Debug, Serialize)]
pub struct Measured {
    name: FigureName,
    #[serde(flatten)]
    outcome: Outcome,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "snake_case")]
enum Outcome {
    Measured(Figure),
    Failed(String),
}

/// What a figure found.
#[derive(Debug, Default, Serialize)]
pub struct Figure {
    /// One sentence each: what exactly was done.
    pub method: Vec<String>,
    /// The numbers.
    pub rows: Vec<Row>,
}

/// One number.
#[derive(Debug, Serialize)]
pub struct Row {
    what: String,
    unit: Unit,
    value: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    goal: Option<Goal>,
    #[serde(skip_serializing_if = "Option::is_none")]
    met: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    spread: Option<Spread>,
}

/// What a number counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// A quotient of two numbers of the same run.
    Ratio,
    /// Microseconds.
    Microseconds,
    /// Milliseconds.
    Milliseconds,
    /// Per second.
    PerSecond,
    /// Per cent.
    Percent,
    /// Points of SSIMULACRA2.
    Points,
    /// Things.
    Count,
    /// Bytes.
    Bytes,
    /// Millions of bytes.
    Megabytes,
}

/// What a number should be.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Goal {
    /// No more than this.
    AtMost(f64),
    /// Less than this.
    Below(f64),
    /// No less than this.
    AtLeast(f64),
    /// This.
    Exactly(f64),
}

impl Goal {
    fn is_met(self, value: f64) -> bool {
        match self {
            Self::AtMost(limit) => value <= limit,
            Self::Below(limit) => value < limit,
            Self::AtLeast(limit) => value >= limit,
            Self::Exactly(wanted) => value == wanted,
        }
    }

    fn text(self, unit: Unit) -> String {
        match self {
            Self::AtMost(limit) => format!("≤ {}", unit.text(limit)),
            Self::Below(limit) => format!("< {}", unit.text(limit)),
            Self::AtLeast(limit) => format!("≥ {}", unit.text(limit)),
            Self::Exactly(wanted) => unit.text(wanted),
        }
    }
}

impl Unit {
    fn text(self, value: f64) -> String {
        match self {
            Self::Ratio => format!("{value:.3}"),
            Self::Microseconds => format!("{value:.1} µs"),
            Self::Milliseconds if value < 10.0 => format!("{value:.2} ms"),
            Self::Milliseconds => format!("{value:.0} ms"),
            Self::PerSecond if value < 1000.0 => format!("{value:.1}/s"),
            Self::PerSecond => format!("{value:.0}/s"),
            Self::Percent => format!("{value:.2} %"),
            Self::Points => format!("{value:.2}"),
            Self::Count => format!("{value}"),
            Self::Bytes => format!("{value} B"),
            Self::Megabytes => format!("{value:.0} MB"),
        }
    }
}

impl Row {
    /// A single number.
    pub fn single(what: impl Into<String>, unit: Unit, value: f64) -> Self {
        Self { what: what.into(), unit, value, goal: None, met: None, spread: None }
    }

    /// The median of rounds.
    ///
    /// # Errors
    /// Without rounds.
    pub fn median(what: impl Into<String>, unit: Unit, rounds: Vec<f64>) -> anyhow::Result<Self> {
        let samples = Samples::new(rounds).context("there were no rounds")?;
        Ok(Self { spread: Some(samples.spread()), ..Self::single(what, unit, samples.median()) })
    }

    /// A percentile of single measurements.
    ///
    /// # Errors
    /// Without measurements.
    pub fn percentile(what: impl Into<String>, unit: Unit, percent: usize, all: Vec<f64>) -> anyhow::Result<Self> {
        let samples = Samples::new(all).context("there were no measurements")?;
        Ok(Self { spread: Some(samples.spread()), ..Self::single(what, unit, samples.percentile(percent)) })
    }

    /// The worst of rounds: for what must hold each time.
    ///
    /// # Errors
    /// Without rounds.
    pub fn worst(what: impl Into<String>, unit: Unit, goal: Goal, rounds: Vec<f64>) -> anyhow::Result<Self> {
        let spread = Samples::new(rounds).context("there were no rounds")?.spread();
        let value = match goal {
            Goal::AtMost(_) | Goal::Below(_) => spread.highest,
            Goal::AtLeast(_) => spread.lowest,
            Goal::Exactly(wanted) if spread.lowest == wanted => spread.highest,
            Goal::Exactly(_) => spread.lowest,
        };
        Ok(Self { spread: Some(spread), ..Self::single(what, unit, value) }.with_goal(goal))
    }

    /// How quiet the rounds were.
    ///
    /// # Errors
    /// Without rounds.
    pub fn others<T>(quiet: &Quiet<T>) -> anyhow::Result<Self> {
        let what = format!("CPU that others took meanwhile, of a core ({} rounds left out for more)", quiet.left_out);
        Self::median(what, Unit::Percent, quiet.others_percent.clone())
    }

    /// Of a part of the figure.
    #[must_use]
    pub fn of(self, part: &str) -> Self {
        Self { what: format!("{part}, {}", self.what), ..self }
    }

    /// With what it should be.
    #[must_use]
    pub fn with_goal(self, goal: Goal) -> Self {
        Self { met: Some(goal.is_met(self.value)), goal: Some(goal), ..self }
    }

    /// Whether it has a goal.
    pub fn has_goal(&self) -> bool {
        self.goal.is_some()
    }

    /// In a few words, for showing progress.
    pub fn summary(&self) -> String {
        format!("{}: {}", self.what, self.unit.text(self.value))
    }

    fn to_markdown(&self) -> String {
        let goal = self.goal.map_or_else(String::new, |goal| goal.text(self.unit));
        let met = self.met.map_or("", |met| if met { "yes" } else { "**no**" });
        let spread = self.spread.map_or_else(String::new, |spread| {
            let (lowest, highest) = (self.unit.text(spread.lowest), self.unit.text(spread.highest));
            format!("{lowest} – {highest} ({})", spread.samples)
        });
        format!("| {} | {goal} | {} | {met} | {spread} |\n", self.what, self.unit.text(self.value))
    }
}

impl Figure {
    /// For people.
    pub fn to_markdown(&self) -> String {
        let mut text =
            String::from("| figure | goal | measured | met | lowest – highest (of) |\n|---|---|---|---|---|\n");
        self.rows.iter().for_each(|row| text.push_str(&row.to_markdown()));
        text.push('\n');
        self.method.iter().for_each(|sentence| {
            let _ = writeln!(text, "- {sentence}");
        });
        text
    }
}

impl Measured {
    /// What came of measuring `name`.
    pub fn new(name: FigureName, measured: anyhow::Result<Figure>) -> Self {
        let outcome = match measured {
            Ok(figure) => Outcome::Measured(figure),
            Err(error) => {
                eprintln!("  could not be measured: {error:#}");
                Outcome::Failed(format!("{error:#}"))
            }
        };
        Self { name, outcome }
    }

    /// Whether there are numbers.
    pub fn is_measured(&self) -> bool {
        matches!(self.outcome, Outcome::Measured(_))
    }

    fn to_markdown(&self) -> String {
        let mut text = format!("\n## {}\n\n", self.name.title());
        match &self.outcome {
            Outcome::Failed(why) => {
                let _ = writeln!(text, "**Could not be measured**: {why}");
            }
            Outcome::Measured(figure) => text.push_str(&figure.to_markdown()),
        }
        text
    }
}

impl Report {
    /// For people.
    pub fn to_markdown(&self) -> String {
        let mut text = String::from("# Measured figures\n\nWritten by `script/loadtest`; do not edit.\n\n");
        if self.quick {
            text.push_str(
                "**A quick run**: few rounds, much noise. Run without `--quick` before quoting a number.\n\n",
            );
        }
        let _ = writeln!(
            text,
            "{machine} {division}. libvips {libvips}, {nginx}.\n\n\
             Where a row tells a number of rounds, it shows their median unless it says otherwise. Contenders take turns \
             within each round, and ratios are made within a round. Rounds in which other processes took more than 15 % of \
             a core are done again, up to as many times as were wanted, and the quietest are kept. CPU time is user and \
             system time of a server's processes and threads. A row without a goal is there for information.",
            machine = self.machine.describe(),
            division = self.servers.division,
            libvips = self.servers.libvips,
            nginx = self.servers.nginx,
        );
        self.figures.iter().for_each(|figure| text.push_str(&figure.to_markdown()));
        text
    }

    /// For programs.
    ///
    /// # Errors
    /// Never for numbers that are finite, which [`Samples`] sees to.
    pub fn to_json(&self) -> anyhow::Result<String> {
        Ok(serde_json::to_string_pretty(self)? + "\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_goal_is_judged_on_the_number_not_on_its_text() {
        let row = Row::single("ours ÷ nginx", Unit::Ratio, 1.004).with_goal(Goal::AtMost(1.0));
        assert_eq!(row.to_markdown(), "| ours ÷ nginx | ≤ 1.000 | 1.004 | **no** |  |\n");
        let row = Row::median("share", Unit::Percent, vec![99.0, 99.9, 100.0]).expect("rounds");
        let row = row.with_goal(Goal::AtLeast(99.0));
        assert_eq!(row.to_markdown(), "| share | ≥ 99.00 % | 99.90 % | yes | 99.00 % – 100.00 % (3) |\n");
    }

    #[test]
    fn what_must_hold_each_time_shows_the_round_where_it_did_not() {
        let worst = |goal, rounds: &[f64]| Row::worst("x", Unit::Count, goal, rounds.to_vec()).expect("rounds");
        for (goal, rounds, value, met) in [
            (Goal::Exactly(1.0), &[1.0, 1.0][..], 1.0, true),
            (Goal::Exactly(1.0), &[1.0, 2.0], 2.0, false),
            (Goal::Exactly(1.0), &[1.0, 0.0], 0.0, false),
            (Goal::AtLeast(99.0), &[100.0, 98.0], 98.0, false),
            (Goal::Below(500.0), &[100.0, 500.0], 500.0, false),
        ] {
            let row = worst(goal, rounds);
            assert_eq!((row.value, row.met), (value, Some(met)), "{goal:?} {rounds:?}");
        }
    }

    #[test]
    fn a_figure_that_failed_is_told_as_such() {
        let failed = Measured::new(FigureName::Hit, Err(anyhow::anyhow!("inner").context("outer")));
        assert!(!failed.is_measured());
        assert!(failed.to_markdown().contains("**Could not be measured**: outer: inner"));
        let json = serde_json::to_value(&failed).expect("is JSON");
        assert_eq!(json["failed"], "outer: inner");
    }
}
