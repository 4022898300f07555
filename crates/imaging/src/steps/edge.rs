//! Draws what lies along the edge of the result: a border, and round corners.

use transform_url::value::{Border, Color, Radius};

use super::bands::{join, meaning, pixels, split, to_8_bit, to_srgb};
use super::frame::lay;
use super::resize::extract;
use crate::geometry::{Region, Size};
use crate::vips::{Image, Operation, VipsError};

/// `image` with a border along its rounded edge.
pub(crate) fn border(image: Image, border: Border, radius: Option<Radius>) -> Result<Image, VipsError> {
    let size = Size::new(image.width(), image.height());
    let outer = radius.map_or(0, |radius| radius_px(radius, size));
    if outer == 0 && border.color.is_opaque() {
        return straight_border(image, border, size);
    }
    let px = border.px;
    let is_hollow = px < size.width.div_ceil(2) && px < size.height.div_ceil(2);
    let ring = if is_hollow {
        let inner = Size::new(size.width - 2 * px, size.height - 2 * px);
        let hole = Operation::new(c"invert")?
            .image(c"in", &lay(&mask(inner, outer.saturating_sub(px))?, size, px, px)?)?
            .run()?;
        hole.to_memory()?
    } else {
        mask(size, 0)?
    };
    over(&image, &sheet(&ring, border.color)?)
}

/// A sheet of `colour` where `mask` is 255, and nothing where it is 0.
fn sheet(mask: &Image, colour: Color) -> Result<Image, VipsError> {
    let alpha = Operation::new(c"linear")?
        .image(c"in", mask)?
        .doubles(c"a", &[f64::from(colour.a) / 255.0])?
        .doubles(c"b", &[0.5])?
        .flag(c"uchar", true)?
        .run()?;
    // Any image of the size, times nothing, plus the colour.
    let colours = Operation::new(c"linear")?
        .image(c"in", mask)?
        .doubles(c"a", &[0.0])?
        .doubles(c"b", &[colour.r, colour.g, colour.b].map(f64::from))?
        .flag(c"uchar", true)?
        .run()?;
    join(meaning(&colours, c"srgb")?, Some(alpha))
}

/// `layer`, of the same size and with alpha, over `image`, which gets no alpha by it.
pub(crate) fn over(image: &Image, layer: &Image) -> Result<Image, VipsError> {
    over_at(image, layer, 0, 0)
}

/// `layer`, which has alpha, over `image` at a place, perhaps partly outside of it. `image` gets no alpha by it.
pub(crate) fn over_at(image: &Image, layer: &Image, x: i32, y: i32) -> Result<Image, VipsError> {
    let had_alpha = image.has_alpha();
    let joined = Operation::new(c"composite2")?
        .image(c"base", &to_srgb(image)?)?
        .image(c"overlay", layer)?
        .text(c"mode", c"over")?
        .int(c"x", x)?
        .int(c"y", y)?
        .run()?;
    let joined = to_8_bit(&joined)?;
    if had_alpha { Ok(joined) } else { split(&joined).map(|(colours, _)| colours) }
}

/// An opaque border without round corners needs no blending: what is inside is cut out and laid on the colour.
fn straight_border(image: Image, border: Border, size: Size) -> Result<Image, VipsError> {
    let px = border.px.min(size.width.min(size.height) / 2);
    let inner = Size::new((size.width - 2 * px).max(1), (size.height - 2 * px).max(1));
    let image = to_srgb(&image)?;
    let colour = [border.color.r, border.color.g, border.color.b, 255].map(f64::from);
    let bands = if image.has_alpha() { 4 } else { 3 };
    if size.width <= 2 * border.px || size.height <= 2 * border.px {
        // Nothing of the picture is left.
        let zeros = [0.0; 4];
        return Operation::new(c"linear")?
            .image(c"in", &image)?
            .doubles(c"a", &zeros[..bands])?
            .doubles(c"b", &colour[..bands])?
            .flag(c"uchar", true)?
            .run();
    }
    let inside = extract(image, Region { x: px, y: px, size: inner })?;
    Operation::new(c"embed")?
        .image(c"in", &inside)?
        .int(c"x", pixels(px))?
        .int(c"y", pixels(px))?
        .int(c"width", pixels(size.width))?
        .int(c"height", pixels(size.height))?
        .text(c"extend", c"background")?
        .doubles(c"background", &colour[..bands])?
        .run()
}

/// `image` with its corners cut off.
pub(crate) fn round_corners(image: Image, radius: Radius) -> Result<Image, VipsError> {
    let size = Size::new(image.width(), image.height());
    let mask = mask(size, radius_px(radius, size))?;
    let (colours, alpha) = split(&image)?;
    let alpha = match alpha {
        None => mask,
        Some(alpha) => {
            let product = Operation::new(c"multiply")?.image(c"left", &alpha)?.image(c"right", &mask)?.run()?;
            Operation::new(c"linear")?
                .image(c"in", &product)?
                .doubles(c"a", &[1.0 / 255.0])?
                .doubles(c"b", &[0.5])?
                .flag(c"uchar", true)?
                .run()?
        }
    };
    join(colours, Some(alpha))
}

fn radius_px(radius: Radius, size: Size) -> u32 {
    let most = size.width.min(size.height).div_ceil(2);
    match radius {
        Radius::Pixels(px) => px.min(most),
        Radius::Max => most,
    }
}

/// How much of each pixel lies inside a rectangle of `size` with corners of `radius`: 0 to 255.
///
/// The part of a pixel is its distance to the arc, which is right to about 1/50 of a pixel for radii of two and more.
fn mask(size: Size, radius: u32) -> Result<Image, VipsError> {
    // At most 8192 a side.
    let mut mask = vec![255; size.width as usize * size.height as usize];
    // A radius of half an odd side is half a pixel less than its rounded-up half.
    let radius = f64::from(radius).min(f64::from(size.width.min(size.height)) / 2.0);
    let corner = radius.ceil() as usize;
    let (width, height) = (size.width as usize, size.height as usize);
    for y in 0..corner {
        for x in 0..corner {
            let (across, down) = (radius - (x as f64 + 0.5), radius - (y as f64 + 0.5));
            if across <= 0.0 || down <= 0.0 {
                continue;
            }
            let inside = (radius - across.hypot(down) + 0.5).clamp(0.0, 1.0);
            let part = (inside * 255.0).round() as u8;
            for row in [y, height - 1 - y] {
                mask[row * width + x] = part;
                mask[row * width + width - 1 - x] = part;
            }
        }
    }
    Image::from_pixels(&mask, size.width, size.height, 1)
}
