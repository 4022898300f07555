//! Owns the meaning of a quality: which numbers of which encoder look alike.
//!
//! Must not encode. The numbers come from `script/loadtest --only quality`, which writes
//! `loadtests/results/QUALITY.md`.

use transform_url::value::Quality;

use crate::effort::Effort;
use crate::encoding::Encoding;
use crate::output::Output;

/// Numbers that look alike, each on its encoder's own scale of 1..=100.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Alike {
    jpeg: u8,
    webp: u8,
    avif: u8,
    jxl: u8,
}

/// Rows of equal SSIMULACRA2 on photographs; the first and last pin the ends.
///
/// From JPEG 90 on, the library keeps JPEG's colours in full, which WebP cannot: it does not reach the two rows there, and
/// gets what it can do without waste. For the same reason `high` lies at 88, the best that all of them reach.
const ALIKE: [Alike; 10] = [
    Alike { jpeg: 1, webp: 1, avif: 1, jxl: 1 },
    Alike { jpeg: 15, webp: 3, avif: 26, jxl: 9 },
    Alike { jpeg: 30, webp: 30, avif: 41, jxl: 28 },
    LOW,
    MEDIUM_LOW,
    MEDIUM_HIGH,
    HIGH,
    Alike { jpeg: 92, webp: 94, avif: 90, jxl: 93 },
    Alike { jpeg: 96, webp: 97, avif: 93, jxl: 97 },
    Alike { jpeg: 100, webp: 100, avif: 100, jxl: 100 },
];
/// SSIMULACRA2 61.
const LOW: Alike = Alike { jpeg: 50, webp: 52, avif: 50, jxl: 52 };
/// SSIMULACRA2 68.
const MEDIUM_LOW: Alike = Alike { jpeg: 68, webp: 71, avif: 57, jxl: 63 };
/// SSIMULACRA2 75.
const MEDIUM_HIGH: Alike = Alike { jpeg: 80, webp: 82, avif: 66, jxl: 74 };
/// SSIMULACRA2 79.
const HIGH: Alike = Alike { jpeg: 88, webp: 88, avif: 77, jxl: 82 };

/// How WebP's colours, of which it keeps one for four pixels, are found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Colours {
    /// As the mean of the four.
    Averaged,
    /// So that edges stay sharp, which scores higher at the same quality.
    Sharp,
}

/// Rows of equal SSIMULACRA2 on photographs: WebP's quality at [`Effort::Fast`], and at [`Effort::Small`] with colours of either
/// kind. From `loadtests/results/EFFORTS.md`; the first and last pin the ends.
const SMALL_WEBP: [(u8, u8, u8); 9] = [
    (1, 1, 1),
    (15, 15, 15),
    (30, 31, 29),
    (52, 53, 51),
    (71, 70, 67),
    (82, 81, 80),
    (88, 87, 85),
    (94, 93, 90),
    (100, 100, 100),
];

/// Qualities of libjpeg, and those of jpegli that look alike on photographs, by SSIMULACRA2. The same number would be half
/// as good at the low end.
const JPEGLI: [(u8, u8); 8] = [(1, 1), (15, 8), (30, 27), (50, 54), (68, 70), (80, 81), (90, 90), (100, 100)];

impl Alike {
    fn of(self, encoding: Encoding) -> u8 {
        match encoding {
            Encoding::Webp => self.webp,
            Encoding::Avif => self.avif,
            Encoding::Jxl => self.jxl,
            // The others have no quality.
            Encoding::Jpeg
            | Encoding::Png
            | Encoding::Gif
            | Encoding::Json
            | Encoding::Blurhash
            | Encoding::Thumbhash => self.jpeg,
        }
    }
}

/// What an encoder is told where a transform says nothing: the quality, per encoding on its own scale, 1..=100, and how long
/// it may look for fewer bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct EncoderDefaults {
    /// JPEG.
    pub jpeg: u8,
    /// WebP.
    pub webp: u8,
    /// AVIF.
    pub avif: u8,
    /// JPEG XL.
    pub jxl: u8,
    /// How long it may take.
    pub effort: Effort,
}

impl Default for EncoderDefaults {
    /// What `medium-high` is: the same look in every encoding.
    fn default() -> Self {
        let Alike { jpeg, webp, avif, jxl } = MEDIUM_HIGH;
        Self { jpeg, webp, avif, jxl, effort: Effort::Normal }
    }
}

/// The number to give to the encoder.
///
/// A number in the URL is the encoder's own when the URL also names the format. With `f=auto` it is read on JPEG's scale
/// and translated to what looks alike: the same number means twice the bytes in AVIF, and would make the best format the
/// largest.
pub(crate) fn quality(asked: Option<Quality>, encoding: Encoding, output: Output, defaults: &EncoderDefaults) -> u8 {
    let EncoderDefaults { jpeg, webp, avif, jxl, .. } = *defaults;
    let number = match asked {
        None => Alike { jpeg, webp, avif, jxl }.of(encoding),
        Some(Quality::Low) => LOW.of(encoding),
        Some(Quality::MediumLow) => MEDIUM_LOW.of(encoding),
        Some(Quality::MediumHigh) => MEDIUM_HIGH.of(encoding),
        Some(Quality::High) => HIGH.of(encoding),
        Some(Quality::Exact(number)) => match output {
            Output::Exactly(_) => number,
            Output::Best(_) => from_jpeg_scale(number, encoding),
        },
    };
    number.clamp(1, 100)
}

/// `number` on JPEG's scale → the number that looks alike, on straight lines between the rows of the table.
fn from_jpeg_scale(number: u8, encoding: Encoding) -> u8 {
    between(ALIKE.windows(2).map(|pair| [0, 1].map(|at| (pair[at].jpeg, pair[at].of(encoding)))), number)
}

/// A WebP quality at [`Effort::Fast`] → the quality at [`Effort::Small`] that looks alike.
pub(crate) fn small_webp(quality: u8, colours: Colours) -> u8 {
    let row = |(fast, averaged, sharp): (u8, u8, u8)| match colours {
        Colours::Averaged => (fast, averaged),
        Colours::Sharp => (fast, sharp),
    };
    between(SMALL_WEBP.windows(2).map(|pair| [pair[0], pair[1]].map(row)), quality)
}

/// A quality of libjpeg → the quality of jpegli that looks alike.
pub(crate) fn jpegli_quality(quality: u8) -> u8 {
    between(JPEGLI.windows(2).map(|pair| [pair[0], pair[1]]), quality)
}

/// What belongs to `number`, on straight lines between rows of a number and what belongs to it.
fn between(mut lines: impl Iterator<Item = [(u8, u8); 2]>, number: u8) -> u8 {
    let line = lines.find(|[below, above]| (below.0..=above.0).contains(&number));
    let Some([(at_least, from), (at_most, to)]) = line else { return number };
    let [at, span, from, to] = [number - at_least, at_most - at_least, from, to].map(u32::from);
    let value = from + ((to - from) * at + span / 2) / span.max(1);
    u8::try_from(value).unwrap_or(100)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jpeglis_qualities_rise_and_the_ends_are_pinned() {
        let all: Vec<u8> = (1..=100).map(jpegli_quality).collect();
        assert!(all.is_sorted());
        assert_eq!((all[0], all[29], all[79], all[99]), (1, 27, 81, 100));
    }

    #[test]
    fn more_effort_takes_a_quality_that_rises_with_the_other() {
        for (colours, expected) in [(Colours::Averaged, [1, 81, 84, 100]), (Colours::Sharp, [1, 80, 83, 100])] {
            let small: Vec<u8> = (1..=100).map(|quality| small_webp(quality, colours)).collect();
            assert!(small.is_sorted(), "{small:?}");
            assert!(small.iter().zip(1..=100).all(|(small, quality)| *small <= quality + 1), "{small:?}");
            assert_eq!([1, 82, 85, 100].map(|quality| small_webp(quality, colours)), expected);
        }
    }
}
