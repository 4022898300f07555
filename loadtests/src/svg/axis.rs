//! One direction of a drawing: where numbers lie, and which of them are written beside it.

/// How many numbers are written, roughly.
const TICKS: f64 = 5.0;

/// Numbers from one end to the other.
#[derive(Debug, Clone, Copy)]
pub struct Axis {
    low: f64,
    high: f64,
    step: f64,
    start: f64,
    end: f64,
}

impl Axis {
    /// Wide enough for all `numbers`, from the place `start` to the place `end`.
    pub fn around(numbers: impl Iterator<Item = f64>, start: f64, end: f64) -> Self {
        let (low, high) =
            numbers.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), number| (low.min(number), high.max(number)));
        let (low, high) = if low < high {
            (low, high)
        } else if low == high {
            (low - 1.0, low + 1.0)
        } else {
            (0.0, 1.0)
        };
        let step = step((high - low) / TICKS);
        Self { low: (low / step).floor() * step, high: (high / step).ceil() * step, step, start, end }
    }

    /// The place of a number.
    pub fn at(&self, number: f64) -> f64 {
        self.start + (number - self.low) / (self.high - self.low) * (self.end - self.start)
    }

    /// The numbers that are written.
    pub fn ticks(&self) -> impl Iterator<Item = f64> + use<> {
        let Self { low, high, step, .. } = *self;
        let count = ((high - low) / step).round() as u32;
        (0..=count).map(move |at| low + f64::from(at) * step)
    }

    /// How one is written.
    pub fn text(&self, tick: f64) -> String {
        let digits = (-self.step.log10().floor()).max(0.0) as usize;
        format!("{tick:.digits$}")
    }
}

/// The smallest of 1, 2 and 5 times a power of ten that is no smaller than `least`.
fn step(least: f64) -> f64 {
    let power = 10_f64.powf(least.log10().floor());
    [1.0, 2.0, 5.0, 10.0].into_iter().map(|factor| factor * power).find(|step| *step >= least).unwrap_or(10.0 * power)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ends_are_round_numbers_around_all() {
        let axis = Axis::around([1234.0, 5678.0].into_iter(), 0.0, 100.0);
        let ticks: Vec<f64> = axis.ticks().collect();
        assert_eq!(ticks, [1000.0, 2000.0, 3000.0, 4000.0, 5000.0, 6000.0]);
        assert_eq!((axis.at(1000.0), axis.at(6000.0), axis.at(3500.0)), (0.0, 100.0, 50.0));
        assert_eq!(axis.text(2000.0), "2000");
    }

    #[test]
    fn one_number_or_none_has_a_place_too() {
        assert_eq!(Axis::around([7.0].into_iter(), 0.0, 100.0).at(7.0), 50.0);
        assert!(Axis::around([].into_iter(), 0.0, 100.0).at(0.5).is_finite());
    }

    #[test]
    fn small_steps_are_written_with_their_digits() {
        let axis = Axis::around([0.1, 0.35].into_iter(), 0.0, 1.0);
        assert!(axis.ticks().map(|tick| axis.text(tick)).any(|text| text == "0.15"), "{axis:?}");
    }
}
