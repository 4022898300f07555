//! Owns every encoder setting, in one table, each with its reason.
//!
//! Must not touch pixels: what arrives is 8-bit sRGB or grey, with alpha only if the encoding holds it.

use transform_url::value::Quality;

use crate::engine::Engine;
use crate::format::Encoding;
use crate::output::Output;
use crate::vips::{Image, Operation, Version, VipsError};
use crate::webp_container::without_metadata;

/// Part of every cache key. To be raised whenever the same source and transform give other bytes than before: a changed
/// setting below, a changed step, a changed rounding.
pub const ENCODER_VERSION: u32 = 1;

/// Since this version one option says which metadata is kept; the older one is deprecated.
const KEEP_SINCE: Version = Version { major: 8, minor: 15, micro: 0 };

/// Qualities that look alike: (JPEG, WebP, AVIF), each on its encoder's own scale of 1..=100. The default row is within 1 dB
/// of PSNR on painted scenes; above 90 JPEG keeps colour in full resolution and the others do not, so there it is by eye.
///
/// The first and last row pin the ends, the rows between are `low`, `medium-low`, `medium-high` and `high`.
const ALIKE: [(u8, u8, u8); 6] = [(1, 1, 1), (50, 46, 44), (68, 65, 53), (80, 79, 63), (90, 92, 80), (100, 100, 100)];
const ROW_LOW: usize = 1;
const ROW_MEDIUM_LOW: usize = 2;
const ROW_MEDIUM_HIGH: usize = 3;
const ROW_HIGH: usize = 4;

/// The quality used where a transform names none, per encoding on its own scale, 1..=100.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct EncoderDefaults {
    /// JPEG. Default 80.
    pub jpeg: u8,
    /// WebP. Default 79, which looks like JPEG 80.
    pub webp: u8,
    /// AVIF. Default 63, which looks like JPEG 80.
    pub avif: u8,
}

impl Default for EncoderDefaults {
    fn default() -> Self {
        let (jpeg, webp, avif) = ALIKE[ROW_MEDIUM_HIGH];
        Self { jpeg, webp, avif }
    }
}

/// The number to give to the encoder.
///
/// A number in the URL is the encoder's own when the URL also names the format. With `f=auto` it is read on JPEG's scale
/// and translated to what looks alike: the same number means twice the bytes in AVIF, and would make the best format the
/// largest.
pub(crate) fn quality(asked: Option<Quality>, encoding: Encoding, output: Output, defaults: &EncoderDefaults) -> u8 {
    let in_row = |row: usize| pick(ALIKE[row], encoding);
    let number = match asked {
        None => pick((defaults.jpeg, defaults.webp, defaults.avif), encoding),
        Some(Quality::Low) => in_row(ROW_LOW),
        Some(Quality::MediumLow) => in_row(ROW_MEDIUM_LOW),
        Some(Quality::MediumHigh) => in_row(ROW_MEDIUM_HIGH),
        Some(Quality::High) => in_row(ROW_HIGH),
        Some(Quality::Exact(number)) => match output {
            Output::Exactly(_) => number,
            Output::Best(_) => from_jpeg_scale(number, encoding),
        },
    };
    number.clamp(1, 100)
}

fn pick((jpeg, webp, avif): (u8, u8, u8), encoding: Encoding) -> u8 {
    match encoding {
        Encoding::Webp => webp,
        Encoding::Avif => avif,
        Encoding::Jpeg | Encoding::Png | Encoding::Json => jpeg,
    }
}

/// `number` on JPEG's scale → the number that looks alike, on straight lines between the rows of the table.
fn from_jpeg_scale(number: u8, encoding: Encoding) -> u8 {
    for pair in ALIKE.windows(2) {
        let (below, above) = (pair[0], pair[1]);
        if (below.0..=above.0).contains(&number) {
            let (from, to) = (u32::from(pick(below, encoding)), u32::from(pick(above, encoding)));
            let (at, span) = (u32::from(number - below.0), u32::from(above.0 - below.0));
            let value = from + ((to - from) * at + span / 2) / span;
            return u8::try_from(value).unwrap_or(100);
        }
    }
    number
}

/// Encodes `image`, which computes every pixel.
pub(crate) fn encode(engine: &Engine, image: &Image, encoding: Encoding, quality: u8) -> Result<Vec<u8>, VipsError> {
    let Some(saver) = encoding.saver_name() else { return Ok(Vec::new()) };
    // No EXIF, GPS, XMP or comment leaves the house. The profile goes too: the pixels are sRGB by now, which is what a
    // picture without one means. Telling the saver is not enough, see `webp_container`.
    let save = Operation::new(saver)?.image(c"in", &image.without_metadata()?)?;
    let save = if engine.version() >= KEEP_SINCE { save.text(c"keep", c"none")? } else { save.flag(c"strip", true)? };
    let body = match encoding {
        Encoding::Jpeg => save
            .int(c"Q", quality.into())?
            // 1 % smaller for a millisecond or two. Progressive saves 0 to 3 % more for as much again, and costs the
            // client several passes.
            .flag(c"optimize-coding", true)?,
        // 2 is twice as fast and 3 to 13 % larger, 6 four times slower and 7 % smaller: what is stored once and sent often
        // may take 20 ms for a third of a megapixel.
        Encoding::Webp => save.int(c"Q", quality.into())?.int(c"effort", 4)?,
        Encoding::Avif => save
            .text(c"compression", c"av1")?
            .int(c"Q", quality.into())?
            // 10 and 12 bit, which deep sources would get, are slower everywhere and shown by fewer.
            .int(c"bitdepth", 8)?
            // The encoder's speed 8: 45 ms for a third of a megapixel. 9 saves half of that and is 10 % larger; 7 takes
            // half as long again for 2 %, and on drawings four times as long.
            .int(c"effort", 1)?,
        // 4 is four times as fast and 3 to 12 % larger. A filter chosen for each row is never far from the best one.
        Encoding::Png => save.int(c"compression", 6)?.text(c"filter", c"all")?,
        Encoding::Json => save,
    }
    .run_to_buffer()?;
    if encoding != Encoding::Webp {
        return Ok(body);
    }
    without_metadata(&body)
        .ok_or_else(|| VipsError { operation: "webpsave", detail: "the encoder wrote a malformed file".to_owned() })
}
