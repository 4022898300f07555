//! Ours beside a peer's: what the section on where a peer wins is made of.

use serde::Serialize;

use super::row::Unit;

/// One thing that both did. Less is better, as of time, bytes and memory.
#[derive(Debug, Clone, Serialize)]
pub struct Versus {
    /// What was asked of both.
    pub what: String,
    /// Who the peer is.
    pub peer: String,
    /// What is compared.
    pub measure: &'static str,
    /// Of both numbers.
    pub unit: Unit,
    /// Ours; `None` if we cannot do that at all.
    pub ours: Option<f64>,
    /// The peer's.
    pub theirs: f64,
}

/// A difference of less than this is not told from noise.
const NOISE: f64 = 0.1;

impl Versus {
    /// Whether the peer needs less.
    pub fn is_lost(&self) -> bool {
        self.ours.is_none_or(|ours| self.theirs < ours)
    }

    /// A line of the table.
    pub(super) fn cells(&self) -> [String; 6] {
        let verdict = match self.ours.map(|ours| ours / self.theirs) {
            None => "out of our reach".to_owned(),
            Some(ratio) if ratio < 1.0 + NOISE => format!("{ratio:.2} × (within 10 %)"),
            Some(ratio) => format!("{ratio:.2} ×"),
        };
        [
            self.what.clone(),
            self.measure.to_owned(),
            self.peer.clone(),
            self.unit.text(self.theirs),
            self.ours.map_or_else(|| "–".to_owned(), |ours| self.unit.text(ours)),
            verdict,
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn versus(ours: f64, theirs: f64) -> Versus {
        Versus {
            what: "JPEG".into(),
            peer: "them".into(),
            measure: "bytes",
            unit: Unit::Bytes,
            ours: Some(ours),
            theirs,
        }
    }

    #[test]
    fn who_needs_less_wins_and_a_little_less_is_noise() {
        assert!(versus(2.0, 1.0).is_lost() && !versus(1.0, 1.0).is_lost() && !versus(1.0, 2.0).is_lost());
        assert_eq!(versus(200.0, 100.0).cells()[3..], ["100 B", "200 B", "2.00 ×"]);
        assert_eq!(versus(105.0, 100.0).cells()[5], "1.05 × (within 10 %)");
        let never = Versus { ours: None, ..versus(0.0, 1.0) };
        assert!(never.is_lost() && never.cells()[4] == "–");
    }
}
