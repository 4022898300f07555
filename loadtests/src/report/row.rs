//! One number of a report, with what it should be.
//!
//! A goal that is missed is shown as plainly as one that is met.

use anyhow::Context;
use serde::Serialize;

use crate::quiet::Quiet;
use crate::statistics::{Samples, Spread};

/// One number.
#[derive(Debug, Serialize)]
pub struct Row {
    what: String,
    unit: Unit,
    /// None when there is no such number, which misses every goal.
    value: Option<f64>,
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
    /// SSIMULACRA2.
    Score,
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
    /// A number of this unit as people read it.
    pub fn text(self, value: f64) -> String {
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
            Self::Bytes => format!("{value:.0} B"),
            Self::Score => format!("{value:.2}"),
            Self::Megabytes => format!("{value:.0} MB"),
        }
    }
}

impl Row {
    /// A single number.
    pub fn single(what: impl Into<String>, unit: Unit, value: f64) -> Self {
        Self { what: what.into(), unit, value: Some(value), goal: None, met: None, spread: None }
    }

    /// A number that does not exist, and so misses what it should be.
    pub fn missing(what: impl Into<String>, unit: Unit, goal: Goal) -> Self {
        Self { what: what.into(), unit, value: None, goal: Some(goal), met: Some(false), spread: None }
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
        Self { met: Some(self.value.is_some_and(|value| goal.is_met(value))), goal: Some(goal), ..self }
    }

    /// Whether it has a goal.
    pub fn has_goal(&self) -> bool {
        self.goal.is_some()
    }

    /// In a few words, for showing progress.
    pub fn summary(&self) -> String {
        format!("{}: {}", self.what, self.text())
    }

    /// The number as people read it.
    fn text(&self) -> String {
        self.value.map_or_else(|| "–".to_owned(), |value| self.unit.text(value))
    }

    /// A line of the table of goals; `None` without one.
    pub(super) fn to_goal(&self, figure: &str) -> Option<[String; 5]> {
        let (goal, met) = (self.goal?, self.met?);
        let met = if met { "reached" } else { "**not reached**" };
        Some([figure.to_owned(), self.what.clone(), goal.text(self.unit), self.text(), met.to_owned()])
    }

    /// A line of a figure's table.
    pub(super) fn to_markdown(&self) -> String {
        let goal = self.goal.map_or_else(String::new, |goal| goal.text(self.unit));
        let met = self.met.map_or("", |met| if met { "yes" } else { "**no**" });
        let spread = self.spread.map_or_else(String::new, |spread| {
            let (lowest, highest) = (self.unit.text(spread.lowest), self.unit.text(spread.highest));
            format!("{lowest} – {highest} ({})", spread.samples)
        });
        format!("| {} | {goal} | {} | {met} | {spread} |\n", self.what, self.text())
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
            assert_eq!((row.value, row.met), (Some(value), Some(met)), "{goal:?} {rounds:?}");
        }
    }

    #[test]
    fn a_number_that_does_not_exist_misses_its_goal() {
        let row = Row::missing("CPU", Unit::Milliseconds, Goal::AtMost(1.0));
        assert_eq!(row.to_markdown(), "| CPU | ≤ 1.00 ms | – | **no** |  |\n");
        let goal = row.to_goal("peers").expect("has one");
        assert_eq!(goal, ["peers", "CPU", "≤ 1.00 ms", "–", "**not reached**"]);
        assert!(Row::single("x", Unit::Count, 1.0).to_goal("peers").is_none());
    }
}
