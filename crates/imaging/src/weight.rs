//! Owns the estimate of what a render takes, from headers alone, so that many renders can be shared out fairly.
//!
//! Must not refuse anything: `limits` does. Times are milliseconds of one thread on the machine of
//! `loadtests/results/ENCODERS.md`; what counts is how they compare. Memory is what the decoder, the steps and the encoder
//! hold at a time, measured as the growth of a process over decoding and encoding 24 megapixels, rounded up. Estimates
//! are of photographs: noise and line art cost up to twice as much.

use bytes::Bytes;
use transform_url::Transform;
use transform_url::value::Trim;

use crate::effort::Effort;
use crate::encoder::ENCODES_MAX;
use crate::encoding::Encoding;
use crate::engine::Engine;
use crate::error::ImagingError;
use crate::format::SourceFormat;
use crate::geometry::{Frame, Geometry, Size};
use crate::limits::Limits;
use crate::output::Class;
use crate::probe::{ColourSpace, ImageInfo, Scale};
use crate::quality::EncoderDefaults;
use crate::render::{Inputs, Job};
use crate::shared::DecodeLevel;
use crate::steps::load;

/// Resampling and converting, for each megapixel that is decoded.
const RESAMPLE_MS_PER_MP: f64 = 2.0;
/// Blurring, sharpening or turning by any angle, for each megapixel of the result.
const SOFTEN_MS_PER_MP: f64 = 60.0;
/// Looking for a border, for each megapixel of the source.
const TRIM_MS_PER_MP: f64 = 10.0;
/// Rows that a pipeline holds at a time while it streams, of four bytes a pixel.
const STREAMED_ROWS: u64 = 300;

/// What a render takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Weight {
    /// Time of one thread in milliseconds, at least 1.
    pub cost_ms: u64,
    /// Most memory at a time, in bytes, without the source file and the result.
    pub memory_bytes: u64,
}

/// What a render takes, and what it shares with others.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct Weighed {
    /// What it takes when it is made alone.
    pub weight: Weight,
    /// What the same takes at [`Effort::Small`], where [`Effort::Fast`] was asked for and plays a part.
    pub small: Option<Weight>,
    /// What it decodes of its source; `None` if that cannot be shared.
    pub level: Option<DecodeLevel>,
}

impl Default for Weight {
    /// Of next to nothing.
    fn default() -> Self {
        Self { cost_ms: 1, memory_bytes: 0 }
    }
}

impl Weight {
    /// What reading the header of `source` takes, told without reading it: vector pictures are read as a whole.
    pub fn of_header(source: &[u8]) -> Self {
        let bytes_per_ms = if SourceFormat::sniff(source) == Some(SourceFormat::Svg) { 16 << 10 } else { 1 << 20 };
        Self { cost_ms: 1 + (source.len() / bytes_per_ms) as u64, ..Self::default() }
    }

    /// Of both, one after the other, with what the first leaves in memory.
    pub(crate) fn and(self, other: Self) -> Self {
        Self {
            cost_ms: self.cost_ms.saturating_add(other.cost_ms),
            memory_bytes: self.memory_bytes.saturating_add(other.memory_bytes),
        }
    }
}

impl Engine {
    /// What [`Engine::render`] of the same arguments takes. Reads headers, decodes nothing.
    ///
    /// # Errors
    /// What `render` fails with before it decodes.
    pub fn weigh(
        &self,
        inputs: Inputs<'_>,
        transform: &Transform,
        class: Option<Class>,
        defaults: &EncoderDefaults,
        limits: &Limits,
    ) -> Result<Weighed, ImagingError> {
        Job::new(self, inputs, transform, limits).weigh(class, defaults.effort)
    }

    /// What the overlay `source` takes to decode, whatever it is scaled to.
    pub(crate) fn weigh_overlay(&self, source: &Bytes) -> Result<Weight, ImagingError> {
        let info = self.probe(source)?;
        let work = Work { decoded: info.stored, trims: false, softens: false, result: Size::new(1, 1), frames: 1 };
        let written = Written { encoding: Encoding::Json, lossless: false, effort: Effort::Normal };
        Ok(work.weight(&info, written, 1))
    }
}

/// The sizes that a render works on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Work {
    /// What the decoder makes of one frame.
    decoded: Size,
    /// Whether every pixel is looked at before, for a border.
    trims: bool,
    /// Whether the result is blurred, sharpened or turned by any angle.
    softens: bool,
    /// One frame of the result.
    result: Size,
    frames: u32,
}

/// What the result is written as.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Written {
    pub(crate) encoding: Encoding,
    pub(crate) lossless: bool,
    pub(crate) effort: Effort,
}

impl Work {
    /// The work of making `geometry` out of `info`.
    pub(crate) fn new(info: &ImageInfo, geometry: &Geometry, transform: &Transform, frames: u32) -> Self {
        let scale = if frames > 1 { load::ANIMATION_SCALE } else { load::scale(info, geometry) };
        let by = match scale {
            Scale::Full => 1.0,
            Scale::Jpeg(shrink) => 1.0 / f64::from(shrink),
            Scale::Factor(factor) => factor,
        };
        let side = |length: u32| ((f64::from(length) * by).ceil() as u32).max(1);
        // What libvips cuts by looking at the content is in memory before, like what is blurred.
        let looks = matches!(geometry.frame, Frame::ContentCrop(_));
        Self {
            decoded: Size::new(side(info.stored.width), side(info.stored.height)),
            trims: matches!(transform.trim(), Some(Trim::Border { .. })),
            softens: transform.blur().is_some()
                || transform.sharpen().is_some()
                || transform.pixelate().is_some()
                || looks
                || !transform.rotate().is_multiple_of(90),
            result: if looks { geometry.resized } else { geometry.output },
            frames,
        }
    }

    /// What it takes, with as many encodes.
    pub(crate) fn weight(&self, info: &ImageInfo, written: Written, encodes: u32) -> Weight {
        let mp = |pixels: u64| pixels as f64 / 1e6;
        let frames = u64::from(self.frames);
        let (source, decoded) = (self.source_pixels(info) * frames, self.decoded.pixels() * frames);
        let result = self.result.pixels() * frames;
        let blended = if info.alpha { 2.0 } else { 1.0 };
        let cost = mp(source) * decoding_ms_per_mp(info)
            + mp(decoded) * RESAMPLE_MS_PER_MP * blended
            + if self.trims { mp(info.stored.pixels()) * (TRIM_MS_PER_MP + decoding_ms_per_mp(info)) } else { 0.0 }
            + if self.softens { mp(result) * SOFTEN_MS_PER_MP } else { 0.0 }
            + mp(result) * encoding_ms_per_mp(written, self.frames) * blended * f64::from(encodes);
        let copies = u64::from(self.softens) * 2 + u64::from(encodes > 1);
        let memory = self.held_by_decoder(info)
            + u64::from(self.decoded.width) * 4 * STREAMED_ROWS
            // The frames of an animation, or what is read more than once.
            + result * 4 * (copies + u64::from(self.frames > 1))
            + result * held_by_encoder_per_pixel(written);
        Weight { cost_ms: (cost.ceil() as u64).max(1), memory_bytes: memory }
    }

    /// Pixels of one frame that the decoder has to look at.
    fn source_pixels(&self, info: &ImageInfo) -> u64 {
        if info.is_vector() { self.decoded.pixels() } else { info.stored.pixels() }
    }

    /// Bytes: 0 for what is decoded row by row.
    fn held_by_decoder(&self, info: &ImageInfo) -> u64 {
        let (stored, decoded) = (info.stored.pixels(), self.decoded.pixels());
        let deep = u64::from(info.bit_depth.div_ceil(8).max(1));
        let channels = match info.colour_space {
            ColourSpace::Grey => 1,
            ColourSpace::Rgb | ColourSpace::Lab => 3,
            ColourSpace::Cmyk | ColourSpace::Other => 4,
        } + u64::from(info.alpha);
        match info.format {
            // All coefficients, of 16 bits each, however much is shrunk.
            SourceFormat::Jpeg if info.interlaced => stored * channels * 2,
            SourceFormat::Png if info.interlaced => stored * channels * deep,
            SourceFormat::Jpeg | SourceFormat::Png => 0,
            SourceFormat::Webp => stored * 4 + decoded * 4,
            SourceFormat::Avif | SourceFormat::Heic | SourceFormat::Jxl => stored * 8 * deep,
            SourceFormat::Gif => stored * 5,
            // Usually strips, but one strip may be all of it.
            SourceFormat::Tiff => stored * channels * deep,
            SourceFormat::Bmp => stored * 8,
            SourceFormat::Svg => decoded * 4,
        }
    }
}

/// Decoding one megapixel, shrinking by the decoder included where there is any.
fn decoding_ms_per_mp(info: &ImageInfo) -> f64 {
    match info.format {
        SourceFormat::Jpeg if info.interlaced => 9.0,
        SourceFormat::Jpeg => 2.5,
        SourceFormat::Png if info.interlaced => 16.0,
        SourceFormat::Png => 9.0,
        SourceFormat::Webp => 16.0,
        SourceFormat::Avif => 22.0,
        SourceFormat::Heic | SourceFormat::Jxl => 25.0,
        SourceFormat::Gif => 12.0,
        SourceFormat::Tiff => 6.0,
        SourceFormat::Bmp => 3.0,
        SourceFormat::Svg => 30.0,
    }
}

/// Encoding one megapixel of a photograph, from `loadtests/results/ENCODERS.md`.
fn encoding_ms_per_mp(Written { encoding, lossless, effort }: Written, frames: u32) -> f64 {
    match encoding {
        Encoding::Jpeg => 8.0,
        Encoding::Webp if lossless => 534.0,
        Encoding::Webp => match effort {
            Effort::Fast => 50.0,
            Effort::Normal => 93.0,
            // Each of two.
            Effort::Small => 275.0,
        },
        Encoding::Avif => 227.0,
        Encoding::Jxl if lossless => 500.0,
        Encoding::Jxl => 136.0,
        Encoding::Png => 137.0,
        Encoding::Gif if frames > 1 => 149.0,
        Encoding::Gif => 232.0,
        // A small picture is looked at.
        Encoding::Json | Encoding::Blurhash | Encoding::Thumbhash => 20.0,
    }
}

/// Bytes that an encoder holds for each pixel of the result.
fn held_by_encoder_per_pixel(Written { encoding, lossless, effort }: Written) -> u64 {
    match encoding {
        Encoding::Jpeg => 7,
        Encoding::Png => 1,
        Encoding::Webp if lossless => 20,
        // Sharper colours are sought in planes of 16 bits.
        Encoding::Webp if effort == Effort::Small => 14,
        Encoding::Webp => 6,
        Encoding::Avif => 22,
        Encoding::Jxl => 40,
        Encoding::Gif => 12,
        Encoding::Json | Encoding::Blurhash | Encoding::Thumbhash => 8,
    }
}

/// How often a picture may be encoded until it is small enough, or to find out how it is smallest.
pub(crate) fn encodes(transform: &Transform, written: Written) -> u32 {
    match transform.max_bytes() {
        Some(_) => ENCODES_MAX,
        None if written.encoding == Encoding::Webp && written.effort == Effort::Small => 2,
        None => 1,
    }
}
