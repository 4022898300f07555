//! What `--only` names: a figure or a study.

use clap::ValueEnum;
use clap::builder::PossibleValue;

use crate::figures::FigureName;
use crate::studies::StudyName;

/// One thing that can be measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subject {
    /// A figure of the servers.
    Figure(FigureName),
    /// A study of the imaging engine.
    Study(StudyName),
}

impl ValueEnum for Subject {
    fn value_variants<'a>() -> &'a [Self] {
        &[
            Self::Figure(FigureName::Hit),
            Self::Figure(FigureName::Cold),
            Self::Figure(FigureName::Latency),
            Self::Figure(FigureName::Crowd),
            Self::Figure(FigureName::Fairness),
            Self::Figure(FigureName::Burst),
            Self::Figure(FigureName::Crash),
            Self::Figure(FigureName::Idle),
            Self::Study(StudyName::Quality),
            Self::Study(StudyName::Encoders),
            Self::Study(StudyName::Ops),
            Self::Study(StudyName::Animation),
        ]
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        match self {
            Self::Figure(name) => name.to_possible_value(),
            Self::Study(name) => name.to_possible_value(),
        }
    }
}
