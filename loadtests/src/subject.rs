//! What `--only` names: a figure or a study.

use std::sync::LazyLock;

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
        static ALL: LazyLock<Vec<Subject>> = LazyLock::new(|| {
            let figures = FigureName::ALL.into_iter().map(Subject::Figure);
            figures.chain(StudyName::value_variants().iter().copied().map(Subject::Study)).collect()
        });
        &ALL
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        match self {
            Self::Figure(name) => name.to_possible_value(),
            Self::Study(name) => name.to_possible_value(),
        }
    }
}
