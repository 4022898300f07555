//! Lays a registered image over the picture.

use transform_url::value::{Decimal, Overlay, OverlayPlace};

use super::bands::{pixels, to_srgb, with_alpha};
use super::edge::over_at;
use super::frame::lay;
use super::resize::extract;
use crate::geometry::{Axis, Region, Size, halves_before};
use crate::vips::{Image, Operation, VipsError};

/// The size of an overlay whose image is `own` on a picture of `picture`: its share of the width, or its own size; shrunk if
/// it would not fit.
pub(crate) fn size(own: Size, picture: Size, scale: Decimal) -> Size {
    let (width, height) = (f64::from(own.width), f64::from(own.height));
    let wanted = if scale == Decimal::ZERO { 1.0 } else { scale.to_f64() * f64::from(picture.width) / width };
    let fits = (f64::from(picture.width) / width).min(f64::from(picture.height) / height);
    let factor = wanted.min(fits);
    // Neither side is larger than the picture's, so the casts are exact.
    let side = |length: f64| ((length * factor).round() as u32).max(1);
    Size::new(side(width), side(height))
}

/// The finished image of an overlay, with its opacity, ready to be laid over each frame.
pub(crate) fn prepare(image: Image, opacity: Decimal) -> Result<Image, VipsError> {
    let image = with_alpha(to_srgb(&image)?)?;
    let image = if opacity == Decimal::ONE {
        image
    } else {
        Operation::new(c"linear")?
            .image(c"in", &image)?
            .doubles(c"a", &[1.0, 1.0, 1.0, opacity.to_f64()])?
            .doubles(c"b", &[0.0, 0.0, 0.0, 0.5])?
            .flag(c"uchar", true)?
            .run()?
    };
    image.to_memory()
}

/// `layer`, which [`prepare`] made, over `image`.
pub(crate) fn overlay(image: &Image, layer: &Image, spec: &Overlay) -> Result<Image, VipsError> {
    let (across, down) = (image.width(), image.height());
    match spec.place {
        OverlayPlace::At(compass) => {
            let x = place(across, layer.width(), spec.x, halves_before(compass, Axis::Horizontal));
            let y = place(down, layer.height(), spec.y, halves_before(compass, Axis::Vertical));
            over_at(image, layer, x, y)
        }
        OverlayPlace::Tile => {
            // What lies beyond the picture of a wide gap is never seen.
            let tile = Size::new((layer.width() + spec.x).min(across), (layer.height() + spec.y).min(down));
            let tile = lay(layer, tile, 0, 0)?.to_memory()?;
            let tiles = Operation::new(c"replicate")?
                .image(c"in", &tile)?
                .int(c"across", pixels(across.div_ceil(tile.width())))?
                .int(c"down", pixels(down.div_ceil(tile.height())))?
                .run()?;
            let sheet = extract(tiles, Region { x: 0, y: 0, size: Size::new(across, down) })?;
            over_at(image, &sheet, 0, 0)
        }
    }
}

/// Where a layer of `length` begins on a side of `side` of which so many halves of the free length lie before it, `offset`
/// away from the edge it is placed at; from the middle, `offset` goes right and down.
fn place(side: u32, length: u32, offset: u32, halves: u32) -> i32 {
    let free = i64::from(side) - i64::from(length);
    let offset = i64::from(offset);
    let at = match halves {
        0 => offset,
        1 => free / 2 + offset,
        _ => free - offset,
    };
    i32::try_from(at).unwrap_or(i32::MAX)
}
