//! Counts of connections: open, refused, cut.

use prometheus::{IntCounter, IntCounterVec, IntGauge, Opts, Registry};

use super::refusal::Refusal;

/// Why a connection was not admitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OneTooMany {
    Max,
    PerAddress,
}

/// Why an admitted connection was ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cut {
    HeaderTooSlow,
    HeaderTooLarge,
    SlowReader,
}

impl From<Refusal> for Cut {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::HeaderTooSlow => Self::HeaderTooSlow,
            Refusal::HeaderTooLarge => Self::HeaderTooLarge,
        }
    }
}

#[derive(Debug)]
pub(super) struct ConnectionMetrics {
    pub(super) open: IntGauge,
    refused: [IntCounter; 2],
    cut: [IntCounter; 3],
}

impl ConnectionMetrics {
    pub(super) fn new(registry: &Registry) -> prometheus::Result<Self> {
        let open = IntGauge::new("calotype_connections_open", "Connections of clients.")?;
        let refused = IntCounterVec::new(
            Opts::new("calotype_connections_refused_total", "Connections closed when they came, by what was too many."),
            &["reason"],
        )?;
        let cut = IntCounterVec::new(
            Opts::new("calotype_connections_cut_total", "Connections ended for holding something up, by what."),
            &["reason"],
        )?;
        registry.register(Box::new(open.clone()))?;
        registry.register(Box::new(refused.clone()))?;
        registry.register(Box::new(cut.clone()))?;
        Ok(Self {
            open,
            refused: ["max", "per_address"].map(|reason| refused.with_label_values(&[reason])),
            cut: ["header_too_slow", "header_too_large", "slow_reader"].map(|reason| cut.with_label_values(&[reason])),
        })
    }

    pub(super) fn refused(&self, why: OneTooMany) {
        self.refused[why as usize].inc();
    }

    pub(super) fn cut(&self, why: Cut) {
        self.cut[why as usize].inc();
    }
}
