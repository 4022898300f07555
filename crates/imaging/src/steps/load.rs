//! Decides how much the decoder itself shrinks, which is far cheaper than decoding every pixel.
//!
//! A decoder's own filter averages bytes, not light. What it leaves must still be several times the target, so that the
//! resampler decides how the result looks: at twice the target a photograph loses a point of SSIMULACRA2 in linear light
//! beside a full decode, at four times half of that, both once written as JPEG.

use bytes::Bytes;
use transform_url::Transform;

use crate::format::SourceFormat;
use crate::geometry::Geometry;
use crate::probe::{Header, ImageInfo, Pages, Scale, open};
use crate::render::Inputs;
use crate::rows::Rows;
use crate::shared::DecodeLevel;
use crate::vips::{Image, VipsError};

/// How many times the target the decoder's output must be, at least.
const RESAMPLER_FACTOR: f64 = 4.0;
/// A camera's JPEG is halved in linear light when that leaves the resampler this factor. It costs little beside a full decode:
/// two points of SSIMULACRA2 out of 97, before the picture is written.
const HALVED_FACTOR: f64 = 2.0;
/// From so much on the decoder's own quarter leaves enough.
const HALVED_UNTIL: f64 = 16.0;
/// A WebP is only shrunk by its decoder if that saves at least this much of each side: its scaler is not free.
const WEBP_FACTOR_MAX: f64 = 0.75;
/// Longest side a vector picture is drawn at when only a part of it is wanted, in pixels: its coordinates end somewhere.
const SVG_PX_MAX: f64 = 100_000.0;

/// How many times the size of the result its source has, along the side that is made smaller the least.
fn shrink(geometry: &Geometry) -> f64 {
    let region = geometry.region.size;
    let across = f64::from(region.width) / f64::from(geometry.resized.width);
    let down = f64::from(region.height) / f64::from(geometry.resized.height);
    across.min(down)
}

/// Whether a still of `info` is halved in linear light on its way to `geometry`, unless it turns out to be unusual.
pub(crate) fn is_halved(info: &ImageInfo, geometry: &Geometry) -> bool {
    info.halved_colour
        && !info.interlaced
        && geometry.region.size == info.upright
        && (2.0 * HALVED_FACTOR..HALVED_UNTIL).contains(&shrink(geometry))
}

/// What `info` is to be decoded at, to become what `geometry` says.
pub(crate) fn scale(info: &ImageInfo, geometry: &Geometry) -> Scale {
    let shrink = shrink(geometry);
    match info.format {
        SourceFormat::Jpeg => [8u8, 4, 2]
            .into_iter()
            .find(|by| shrink >= f64::from(*by) * RESAMPLER_FACTOR)
            .map_or(Scale::Full, Scale::Jpeg),
        SourceFormat::Webp if RESAMPLER_FACTOR / shrink <= WEBP_FACTOR_MAX => Scale::Factor(RESAMPLER_FACTOR / shrink),
        // Drawn at its final size, a vector picture is sharp however far it is enlarged.
        SourceFormat::Svg => {
            let longest = f64::from(info.stored.width.max(info.stored.height));
            Scale::Factor((1.0 / shrink).min(SVG_PX_MAX / longest))
        }
        _ => Scale::Full,
    }
}

/// What the frames of an animation are decoded at: decoders compose each one from those before, in full size.
pub(crate) const ANIMATION_SCALE: Scale = Scale::Full;

/// What a still of `geometry` is decoded at, of the page that `transform` names.
pub(crate) fn level(info: &ImageInfo, geometry: &Geometry, transform: &Transform) -> DecodeLevel {
    DecodeLevel { scale: scale(info, geometry), page: transform.page().unwrap_or(0) }
}

/// Whether others may have use for what `frames` frames of `info` are decoded to. A vector picture is drawn anew for each
/// size, an animation is too large to keep, and what is halved on its way is never there as a whole.
pub(crate) fn is_shared(info: &ImageInfo, geometry: &Geometry, frames: u32) -> bool {
    frames == 1 && !info.is_vector() && !is_halved(info, geometry)
}

/// A still that was opened.
pub(crate) struct Still {
    /// What libvips makes of it.
    pub(crate) image: Image,
    /// By how much its decoder has shrunk it without a look at where it ends, so that it may end within a pixel.
    pub(crate) shrunk_by: Option<u8>,
    /// Its rows, if they can be had faster than from `image`.
    pub(crate) rows: Option<Rows>,
}

/// The picture of `level`; `header` is reused if that is what it was opened at.
pub(crate) fn still(
    inputs: Inputs<'_>,
    info: &ImageInfo,
    geometry: &Geometry,
    header: Header,
    level: DecodeLevel,
) -> Result<Still, VipsError> {
    let open = || open(inputs.source, info.format, level.scale, Pages::One(level.page));
    let shrunk_by = if let Scale::Jpeg(by) = level.scale { Some(by) } else { None };
    if let Some(share) = inputs.share
        && let Some(image) = share.picture(level, open)
    {
        return Ok(Still { image, shrunk_by, rows: None });
    }
    let image = match header.image {
        Some(image) if level.scale == Scale::Full => image,
        _ => open()?,
    };
    let halved = if is_halved(info, geometry) { Rows::halved(inputs.source, info.stored) } else { None };
    let rows = halved.or_else(|| Rows::open(inputs.source, info.format, level.scale, &image));
    Ok(Still { image, shrunk_by, rows })
}

/// So many frames, one below the other.
pub(crate) fn frames(source: &Bytes, info: &ImageInfo, frames: u32) -> Result<Image, VipsError> {
    open(source, info.format, ANIMATION_SCALE, Pages::First(frames))
}
