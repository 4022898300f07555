//! Medians, percentiles and spreads of samples.

use serde::Serialize;

/// Measurements of one thing, at least one.
#[derive(Debug, Clone)]
pub struct Samples {
    sorted: Vec<f64>,
}

/// The lowest and highest of the rounds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Spread {
    /// The lowest.
    pub lowest: f64,
    /// The highest.
    pub highest: f64,
    /// How many there were.
    pub samples: usize,
}

impl Samples {
    /// `None` without samples, or with one that is no number.
    pub fn new(mut samples: Vec<f64>) -> Option<Self> {
        if samples.is_empty() || samples.iter().any(|sample| !sample.is_finite()) {
            return None;
        }
        samples.sort_by(f64::total_cmp);
        Some(Self { sorted: samples })
    }

    /// The middle one, or the mean of the two in the middle.
    pub fn median(&self) -> f64 {
        let middle = self.sorted.len() / 2;
        if self.sorted.len().is_multiple_of(2) {
            f64::midpoint(self.sorted[middle - 1], self.sorted[middle])
        } else {
            self.sorted[middle]
        }
    }

    /// The smallest sample that at least `percent` (1..=100) of them do not exceed: the nearest-rank percentile.
    pub fn percentile(&self, percent: usize) -> f64 {
        let rank = (self.sorted.len() * percent.clamp(1, 100)).div_ceil(100);
        self.sorted[rank - 1]
    }

    /// Lowest and highest.
    pub fn spread(&self) -> Spread {
        Spread { lowest: self.sorted[0], highest: self.sorted[self.sorted.len() - 1], samples: self.sorted.len() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(samples: &[f64]) -> Samples {
        Samples::new(samples.to_vec()).expect("numbers")
    }

    #[test]
    fn the_median_does_not_care_about_order_or_outliers() {
        assert_eq!(samples(&[3.0, 1000.0, 1.0]).median(), 3.0);
        assert_eq!(samples(&[4.0, 1.0, 2.0, 1000.0]).median(), 3.0);
        assert_eq!(samples(&[5.0]).median(), 5.0);
    }

    #[test]
    fn percentiles_are_samples_that_were_measured() {
        let hundred = samples(&(1..=100).map(f64::from).collect::<Vec<_>>());
        assert_eq!((hundred.percentile(95), hundred.percentile(100), hundred.percentile(1)), (95.0, 100.0, 1.0));
        // 95 % of 60 are 57.
        assert_eq!(samples(&(1..=60).map(f64::from).collect::<Vec<_>>()).percentile(95), 57.0);
        assert_eq!(samples(&[7.0]).percentile(95), 7.0);
    }

    #[test]
    fn nothing_and_not_a_number_are_refused() {
        assert!(Samples::new(Vec::new()).is_none());
        assert!(Samples::new(vec![1.0, f64::NAN]).is_none());
    }
}
