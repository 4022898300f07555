//! What was measured and its two forms: Markdown with plots for people, JSON for comparing.
//!
//! Must not measure.

mod row;
mod versus;

use std::fmt::Write as _;

use serde::Serialize;

pub use self::row::{Goal, Row, Unit};
pub use self::versus::Versus;
use crate::figures::FigureName;
use crate::machine::{Machine, Servers};
use crate::table::Table;

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
    /// More numbers, in the shape that suits them.
    #[serde(skip)]
    pub sections: Vec<Section>,
    /// Ours beside peers'.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub versus: Vec<Versus>,
    /// What rows and sections were made of, if it is more than they show.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub raw: Option<serde_json::Value>,
}

/// A part of a figure with tables and plots of its own.
#[derive(Debug)]
pub struct Section {
    /// As a heading.
    pub title: String,
    /// Text and tables, in Markdown.
    pub body: String,
    /// Shown above the text.
    pub plots: Vec<Plot>,
}

/// A drawing.
#[derive(Debug)]
pub struct Plot {
    /// The name of its file, without the ending.
    pub name: String,
    /// What it shows, for who cannot see it.
    pub title: String,
    /// The file.
    pub svg: String,
}

impl Figure {
    /// For people. `plots` is the folder of the drawings, as seen from what this goes into.
    pub fn to_markdown(&self, plots: &str) -> String {
        let mut text =
            String::from("| figure | goal | measured | met | lowest – highest (of) |\n|---|---|---|---|---|\n");
        self.rows.iter().for_each(|row| text.push_str(&row.to_markdown()));
        text.push('\n');
        self.method.iter().for_each(|sentence| {
            let _ = writeln!(text, "- {sentence}");
        });
        for section in &self.sections {
            let _ = writeln!(text, "\n### {}\n", section.title);
            for plot in &section.plots {
                let _ = writeln!(text, "![{}]({plots}/{}.svg)\n", plot.title, plot.name);
            }
            text.push_str(&section.body);
        }
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
        self.figure().is_some()
    }

    fn figure(&self) -> Option<&Figure> {
        match &self.outcome {
            Outcome::Measured(figure) => Some(figure),
            Outcome::Failed(_) => None,
        }
    }

    fn to_markdown(&self, plots: &str) -> String {
        let mut text = format!("\n## {}\n\n", self.name.title());
        match &self.outcome {
            Outcome::Failed(why) => {
                let _ = writeln!(text, "**Could not be measured**: {why}");
            }
            Outcome::Measured(figure) => text.push_str(&figure.to_markdown(plots)),
        }
        text
    }
}

impl Report {
    /// For people. `plots` is the folder of the drawings, as seen from the report.
    pub fn to_markdown(&self, plots: &str) -> String {
        let mut text = String::from("# Measured figures\n\nWritten by `script/loadtest`; do not edit.\n\n");
        if self.quick {
            text.push_str(
                "**A quick run**: few rounds, much noise. Run without `--quick` before quoting a number.\n\n",
            );
        }
        let _ = writeln!(
            text,
            "Measured {machine} {division}.\n\n{servers}\n\
             Where a row tells a number of rounds, it shows their median unless it says otherwise. Contenders take turns \
             within each round, and ratios are made within a round. Rounds in which other processes took more than 15 % of \
             a core are done again, up to as many times as were wanted, and the quietest are kept. CPU time is user and \
             system time of a server's processes and threads. A row without a goal is there for information. How it is done: \
             [README.md](README.md); every number in [RESULTS.json]({plots}/RESULTS.json).",
            machine = self.machine.describe(),
            division = self.servers.division,
            servers = self.servers.to_markdown(),
        );
        text.push_str(&self.goals());
        text.push_str(&self.lost());
        self.figures.iter().for_each(|figure| text.push_str(&figure.to_markdown(plots)));
        text
    }

    /// All goals in one place.
    fn goals(&self) -> String {
        let mut table = Table::new(&["figure", "what", "goal", "measured", ""]);
        for measured in &self.figures {
            match &measured.outcome {
                Outcome::Failed(_) => table.row(&[measured.name.as_str(), "", "", "", "**could not be measured**"]),
                Outcome::Measured(figure) => {
                    figure
                        .rows
                        .iter()
                        .filter_map(|row| row.to_goal(measured.name.as_str()))
                        .for_each(|c| table.row(&c));
                }
            }
        }
        format!("\n## Goals\n\n{}", table.into_text())
    }

    /// Where a peer is better than we are.
    fn lost(&self) -> String {
        let all = || self.figures.iter().filter_map(Measured::figure).flat_map(|figure| &figure.versus);
        let mut table = Table::new(&["what", "less", "peer", "the peer's", "ours", "ours ÷ theirs"]);
        all().filter(|versus| versus.is_lost()).for_each(|versus| table.row(&versus.cells()));
        let (lost, compared) = (all().filter(|versus| versus.is_lost()).count(), all().count());
        let text = format!(
            "\n## Where a peer wins\n\nOf {compared} comparisons with peers, a peer needs less in {lost}. Differences of less than 10 % \
             of time mean nothing on a shared machine.\n"
        );
        if lost == 0 { text } else { format!("{text}\n{}", table.into_text()) }
    }

    /// The drawings of all figures.
    pub fn plots(&self) -> impl Iterator<Item = &Plot> {
        let figures = self.figures.iter().filter_map(Measured::figure);
        figures.flat_map(|figure| figure.sections.iter().flat_map(|section| &section.plots))
    }

    /// For programs.
    ///
    /// # Errors
    /// Never for numbers that are finite, which [`Samples`](crate::statistics::Samples) sees to.
    pub fn to_json(&self) -> anyhow::Result<String> {
        Ok(serde_json::to_string_pretty(self)? + "\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_that_failed_is_told_as_such() {
        let failed = Measured::new(FigureName::Hit, Err(anyhow::anyhow!("inner").context("outer")));
        assert!(!failed.is_measured());
        assert!(failed.to_markdown("plots").contains("**Could not be measured**: outer: inner"));
        let json = serde_json::to_value(&failed).expect("is JSON");
        assert_eq!(json["failed"], "outer: inner");
    }

    #[test]
    fn sections_show_their_plots_and_their_text() {
        let plot = Plot { name: "a-b".into(), title: "A to B".into(), svg: String::new() };
        let section = Section { title: "Part".into(), body: "text\n".into(), plots: vec![plot] };
        let text = Figure { sections: vec![section], ..Figure::default() }.to_markdown("results");
        assert!(text.ends_with("\n### Part\n\n![A to B](results/a-b.svg)\n\ntext\n"), "{text}");
    }
}
