//! What an encoder gives at each quality, and what lies between the qualities that were tried.
//!
//! Scores are taken to lie on straight lines between two tries, and so are the logarithms of bytes.

/// One try.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Point {
    /// The encoder's own number.
    pub quality: f64,
    /// SSIMULACRA2.
    pub score: f64,
    /// Size.
    pub bytes: f64,
}

/// Tries with rising quality.
#[derive(Debug, Clone, Default)]
pub struct Curve {
    points: Vec<Point>,
}

impl Curve {
    /// In any order.
    pub fn new(mut points: Vec<Point>) -> Self {
        points.sort_by(|a, b| a.quality.total_cmp(&b.quality));
        Self { points }
    }

    /// The mean of curves whose tries are at the same qualities: of scores the mean, of bytes the geometric one.
    pub fn mean(curves: &[Self]) -> Self {
        let count = curves.len() as f64;
        let first = curves.first().map_or(&[][..], |curve| &curve.points);
        let points = first.iter().enumerate().map(|(at, point)| {
            let all = || curves.iter().filter_map(move |curve| curve.points.get(at));
            Point {
                quality: point.quality,
                score: all().map(|point| point.score).sum::<f64>() / count,
                bytes: (all().map(|point| point.bytes.ln()).sum::<f64>() / count).exp(),
            }
        });
        Self { points: points.collect() }
    }

    /// The tries.
    pub fn points(&self) -> &[Point] {
        &self.points
    }

    /// At this quality; `None` outside of what was tried.
    pub fn at_quality(&self, quality: f64) -> Option<Point> {
        self.between(|point| point.quality, quality)
    }

    /// At this score; `None` outside of what was tried.
    pub fn at_score(&self, score: f64) -> Option<Point> {
        self.between(|point| point.score, score)
    }

    fn between(&self, of: fn(&Point) -> f64, wanted: f64) -> Option<Point> {
        self.points.windows(2).find_map(|pair| {
            let (below, above) = (pair[0], pair[1]);
            let (from, to) = (of(&below), of(&above));
            if !(from.min(to)..=from.max(to)).contains(&wanted) {
                return None;
            }
            let part = if from == to { 0.0 } else { (wanted - from) / (to - from) };
            let mix = |from: f64, to: f64| from + (to - from) * part;
            Some(Point {
                quality: mix(below.quality, above.quality),
                score: mix(below.score, above.score),
                bytes: mix(below.bytes.ln(), above.bytes.ln()).exp(),
            })
        })
    }
}

/// The geometric mean; `None` of nothing.
pub fn geometric_mean(numbers: &[f64]) -> Option<f64> {
    let sum: f64 = numbers.iter().map(|number| number.ln()).sum();
    (!numbers.is_empty()).then(|| (sum / numbers.len() as f64).exp())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(quality: f64, score: f64, bytes: f64) -> Point {
        Point { quality, score, bytes }
    }

    #[test]
    fn between_two_tries_lies_a_straight_line() {
        let curve = Curve::new(vec![point(80.0, 70.0, 4000.0), point(40.0, 50.0, 1000.0)]);
        let middle = curve.at_score(60.0).expect("inside");
        assert_eq!((middle.quality, middle.score), (60.0, 60.0));
        assert!((middle.bytes - 2000.0).abs() < 1e-6);
        assert_eq!(curve.at_quality(50.0).map(|point| point.score), Some(55.0));
        assert_eq!((curve.at_score(71.0), curve.at_quality(39.0)), (None, None));
    }

    #[test]
    fn means_are_of_scores_and_of_logarithms_of_bytes() {
        let curves = [vec![point(50.0, 40.0, 100.0)], vec![point(50.0, 60.0, 400.0)]].map(Curve::new);
        let mean = Curve::mean(&curves).points()[0];
        assert_eq!((mean.quality, mean.score), (50.0, 50.0));
        assert!((mean.bytes - 200.0).abs() < 1e-6);
        assert_eq!(geometric_mean(&[]), None);
    }
}
