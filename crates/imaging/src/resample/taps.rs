//! Owns the weights: which places of a line make one place of a shorter line, and how much each counts.

/// Lobes of the window on each side.
const LOBES: f64 = 3.0;

/// How much of the difference to its neighbours makes a mean of two as sharp as one place: 1 ÷ 32 for all that is not finer
/// than a few places.
const MEANS_SHARPENING: f64 = 1.0 / 32.0;

/// The weights for every place of a result.
pub(super) struct Taps {
    windows: Vec<Window>,
    weights: Vec<f32>,
}

/// Where the weights of one place are, and of what.
#[derive(Clone, Copy)]
struct Window {
    /// First place of the source.
    start: usize,
    /// First weight.
    at: usize,
    count: usize,
}

/// The places of a source that make one of the result.
#[derive(Clone, Copy)]
pub(super) struct Tap<'a> {
    /// The first of them.
    pub(super) start: usize,
    /// What each counts; they add up to one.
    pub(super) weights: &'a [f32],
}

impl Tap<'_> {
    /// The place after the last.
    pub(super) fn end(&self) -> usize {
        self.start + self.weights.len()
    }
}

impl Taps {
    /// From a line of `from` places, which is `extent` places long, to a line of `to` places, which are no more. A line that was
    /// shrunk before may end within its last place, or beyond it.
    pub(super) fn new(from: u32, extent: f64, to: u32) -> Self {
        Self::with(from, extent, to, 0.0)
    }

    /// The same, of a line whose places are each the mean of two. That mean is blurred a little: of what has `f` waves a place it
    /// leaves 1 − (πf)² ÷ 8 parts, which the weights give back.
    pub(super) fn of_means(from: u32, extent: f64, to: u32) -> Self {
        Self::with(from, extent, to, MEANS_SHARPENING)
    }

    fn with(from: u32, extent: f64, to: u32, sharpening: f64) -> Self {
        let scale = extent / f64::from(to);
        let reach = LOBES * scale;
        let mut taps = Self { windows: Vec::with_capacity(to as usize), weights: Vec::new() };
        for place in 0..to {
            let centre = (f64::from(place) + 0.5) * scale;
            // Not negative, and at most `from`: the casts only drop fractions.
            let start = ((centre - reach).floor().max(0.0) as u32).min(from - 1);
            let end = ((centre + reach).ceil() as u32).clamp(start + 1, from);
            // Each with its two neighbours, which may lie outside.
            let plain =
                (0..end - start + 2).map(|at| lanczos((f64::from(start) - 0.5 + f64::from(at) - centre) / scale));
            let plain: Vec<f64> = plain.collect();
            let sharpened = |near: &[f64; 3]| near[1] + sharpening * (2.0 * near[1] - near[0] - near[2]);
            let raw: Vec<f64> = plain.array_windows().map(sharpened).collect();
            let sum: f64 = raw.iter().sum();
            let at = taps.weights.len();
            taps.weights.extend(raw.iter().map(|weight| (weight / sum) as f32));
            taps.windows.push(Window { start: start as usize, at, count: raw.len() });
        }
        taps
    }

    /// Places of the result.
    pub(super) fn len(&self) -> usize {
        self.windows.len()
    }

    /// What makes the place `at` of the result.
    pub(super) fn get(&self, at: usize) -> Option<Tap<'_>> {
        let Window { start, at, count } = *self.windows.get(at)?;
        Some(Tap { start, weights: &self.weights[at..at + count] })
    }

    /// What makes each place of the result.
    pub(super) fn iter(&self) -> impl Iterator<Item = Tap<'_>> {
        (0..self.len()).filter_map(|at| self.get(at))
    }
}

fn lanczos(x: f64) -> f64 {
    if x == 0.0 {
        return 1.0;
    }
    if x.abs() >= LOBES {
        return 0.0;
    }
    let angle = std::f64::consts::PI * x;
    // Three times the angle of the wider one, so one sine serves both.
    let wide = (angle / LOBES).sin();
    let narrow = wide * (3.0 - 4.0 * wide * wide);
    LOBES * narrow * wide / (angle * angle)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_add_up_to_one_and_are_the_same_from_both_ends() {
        for (from, to) in [(1, 1), (7, 7), (9, 2), (4000, 517), (20_000, 1)] {
            let taps = Taps::new(from, from.into(), to);
            assert_eq!(taps.len(), to as usize);
            for (first, last) in (0..taps.len()).zip((0..taps.len()).rev()) {
                let (first, last) = (taps.get(first).expect("there"), taps.get(last).expect("there"));
                assert!((first.weights.iter().sum::<f32>() - 1.0).abs() < 1e-4);
                assert_eq!(first.start, from as usize - last.end());
                let turned = last.weights.iter().rev();
                assert!(first.weights.iter().zip(turned).all(|(one, other)| (one - other).abs() < 1e-6));
            }
        }
    }

    #[test]
    fn a_line_of_the_same_length_stays_as_it_is() {
        for (at, tap) in Taps::new(12, 12.0, 12).iter().enumerate() {
            for (place, weight) in (tap.start..).zip(tap.weights) {
                assert!((weight - f32::from(u8::from(place == at))).abs() < 1e-6);
            }
        }
    }
}
