//! What a contender needs to look as good as another: between the qualities that were tried.

/// A contender at one quality.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Point {
    /// The encoder's own number.
    pub quality: f64,
    /// Beside the two references.
    pub scores: [f64; 2],
    /// Size.
    pub bytes: f64,
    /// CPU time in milliseconds.
    pub cpu_ms: f64,
}

/// What it takes to score no less than `wanted` beside both references. `points` come with rising quality. `None` if the
/// highest does not score as much.
pub fn at_least(points: &[Point], wanted: [f64; 2]) -> Option<Point> {
    let qualities = [0, 1].map(|reference| quality_for(points, reference, wanted[reference]));
    let quality = qualities[0]?.max(qualities[1]?);
    at(points, quality)
}

/// The lowest quality from which on this score is kept.
fn quality_for(points: &[Point], reference: usize, wanted: f64) -> Option<f64> {
    let scores = |point: &Point| point.scores[reference] >= wanted;
    // Scores need not rise with each quality: what counts is the last one that falls short.
    let Some(short) = points.iter().rposition(|point| !scores(point)) else {
        return points.first().map(|point| point.quality);
    };
    let (below, above) = (points.get(short)?, points.get(short + 1)?);
    let part = (wanted - below.scores[reference]) / (above.scores[reference] - below.scores[reference]);
    Some(mix(below.quality, above.quality, part))
}

fn at(points: &[Point], quality: f64) -> Option<Point> {
    if let Some(point) = points.iter().find(|point| point.quality == quality) {
        return Some(*point);
    }
    let (below, above) = points.iter().zip(points.get(1..)?).find(|(_, above)| quality <= above.quality)?;
    let part = (quality - below.quality) / (above.quality - below.quality);
    Some(Point {
        quality,
        scores: [0, 1].map(|reference| mix(below.scores[reference], above.scores[reference], part)),
        bytes: mix(below.bytes.ln(), above.bytes.ln(), part).exp(),
        cpu_ms: mix(below.cpu_ms, above.cpu_ms, part),
    })
}

fn mix(from: f64, to: f64, part: f64) -> f64 {
    from + (to - from) * part
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(quality: f64, scores: [f64; 2], bytes: f64, cpu_ms: f64) -> Point {
        Point { quality, scores, bytes, cpu_ms }
    }

    fn points() -> [Point; 3] {
        [
            point(60.0, [50.0, 55.0], 1000.0, 10.0),
            point(80.0, [70.0, 75.0], 4000.0, 12.0),
            point(90.0, [80.0, 82.0], 8000.0, 20.0),
        ]
    }

    #[test]
    fn the_reference_that_is_harder_to_please_decides() {
        let found = at_least(&points(), [60.0, 60.0]).expect("in reach");
        assert_eq!((found.quality, found.scores, found.cpu_ms), (70.0, [60.0, 65.0], 11.0));
        assert!((found.bytes - 2000.0).abs() < 1e-6);
        let found = at_least(&points(), [60.0, 75.0]).expect("in reach");
        assert_eq!(found, points()[1]);
    }

    #[test]
    fn who_is_better_at_the_lowest_is_taken_there_and_who_falls_short_is_not() {
        assert_eq!(at_least(&points(), [10.0, 20.0]), Some(points()[0]));
        assert_eq!(at_least(&points(), [80.0, 82.0]), Some(points()[2]));
        assert_eq!(at_least(&points(), [80.1, 20.0]), None);
        assert_eq!(at_least(&[], [1.0, 1.0]), None);
    }

    #[test]
    fn a_score_that_falls_again_does_not_count() {
        let wavy =
            [point(60.0, [70.0; 2], 1.0, 1.0), point(70.0, [60.0; 2], 2.0, 1.0), point(80.0, [80.0; 2], 4.0, 1.0)];
        assert_eq!(at_least(&wavy, [70.0; 2]).map(|found| found.quality), Some(75.0));
    }
}
