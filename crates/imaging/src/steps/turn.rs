//! Mirrors and then rotates the finished picture as a whole.

use transform_url::value::{Color, Flip};

use super::bands::{pixels, to_srgb, with_alpha};
use super::resize::extract;
use super::upright::quarter_turn;
use crate::geometry::{Region, Size};
use crate::vips::{Image, Interpretation, Operation, VipsError};

/// `image` mirrored, then turned clockwise by `angle` degrees; `output` is the size that must come out.
///
/// An angle that is no quarter turn leaves corners: transparent, or at once of the `ground` if the picture has no alpha.
pub(crate) fn turn(
    image: Image,
    flip: Option<Flip>,
    angle: u16,
    ground: Option<Color>,
    output: Size,
) -> Result<Image, VipsError> {
    if flip.is_none() && angle == 0 {
        return Ok(image);
    }
    // From here on pixels are read in another order than they are decoded in.
    let mut image = image.to_memory()?;
    if matches!(flip, Some(Flip::Horizontal | Flip::Both)) {
        image = mirror(&image, c"horizontal")?;
    }
    if matches!(flip, Some(Flip::Vertical | Flip::Both)) {
        image = mirror(&image, c"vertical")?;
    }
    match ground {
        _ if angle.is_multiple_of(90) => quarter_turn(image, angle),
        Some(ground) if !image.has_alpha() => {
            let is_grey = ground.r == ground.g && ground.g == ground.b;
            let image = if is_grey { image } else { to_srgb(&image)? };
            let bands = if image.interpretation() == Interpretation::Grey { 1 } else { 3 };
            any_angle(&image, angle, &[ground.r, ground.g, ground.b].map(f64::from)[..bands], output)
        }
        _ => {
            let image = with_alpha(image)?;
            let bands = if image.interpretation() == Interpretation::Grey { 2 } else { 4 };
            any_angle(&image, angle, &[0.0; 4][..bands], output)
        }
    }
}

fn mirror(image: &Image, direction: &'static std::ffi::CStr) -> Result<Image, VipsError> {
    Operation::new(c"flip")?.image(c"in", image)?.text(c"direction", direction)?.run()
}

/// `corners` is a pixel of what fills them.
fn any_angle(image: &Image, angle: u16, corners: &[f64], output: Size) -> Result<Image, VipsError> {
    let turned = Operation::new(c"rotate")?
        .image(c"in", image)?
        .double(c"angle", f64::from(angle))?
        .text(c"interpolate", c"bicubic")?
        .doubles(c"background", corners)?
        .run()?;
    // The library rounds the turned corners its own way, give or take a pixel.
    let surplus = |has: u32, wants: u32| has.saturating_sub(wants) / 2;
    let (x, y) = (surplus(turned.width(), output.width), surplus(turned.height(), output.height));
    let size = Size::new(turned.width().min(output.width), turned.height().min(output.height));
    let cut = extract(turned, Region { x, y, size })?;
    if size == output {
        return Ok(cut);
    }
    Operation::new(c"embed")?
        .image(c"in", &cut)?
        .int(c"x", pixels(surplus(output.width, size.width)))?
        .int(c"y", pixels(surplus(output.height, size.height)))?
        .int(c"width", pixels(output.width))?
        .int(c"height", pixels(output.height))?
        .text(c"extend", c"background")?
        .doubles(c"background", corners)?
        .run()
}
