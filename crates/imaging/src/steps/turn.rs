//! Mirrors and then rotates the finished picture as a whole.

use transform_url::value::Flip;

use super::bands::with_alpha;
use super::frame::lay;
use super::resize::extract;
use super::upright::quarter_turn;
use crate::geometry::{Region, Size};
use crate::vips::{Image, Operation, VipsError};

/// `image` mirrored, then turned clockwise by `angle` degrees; `output` is the size that must come out.
///
/// An angle that is no quarter turn leaves transparent corners.
pub(crate) fn turn(image: Image, flip: Option<Flip>, angle: u16, output: Size) -> Result<Image, VipsError> {
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
    if angle.is_multiple_of(90) { quarter_turn(image, angle) } else { any_angle(image, angle, output) }
}

fn mirror(image: &Image, direction: &'static std::ffi::CStr) -> Result<Image, VipsError> {
    Operation::new(c"flip")?.image(c"in", image)?.text(c"direction", direction)?.run()
}

fn any_angle(image: Image, angle: u16, output: Size) -> Result<Image, VipsError> {
    let turned = Operation::new(c"rotate")?
        .image(c"in", &with_alpha(image)?)?
        .double(c"angle", f64::from(angle))?
        .text(c"interpolate", c"bicubic")?
        .run()?;
    // The library rounds the turned corners its own way, give or take a pixel.
    let surplus = |has: u32, wants: u32| has.saturating_sub(wants) / 2;
    let (x, y) = (surplus(turned.width(), output.width), surplus(turned.height(), output.height));
    let size = Size::new(turned.width().min(output.width), turned.height().min(output.height));
    let cut = extract(turned, Region { x, y, size })?;
    if size == output {
        return Ok(cut);
    }
    lay(&cut, output, surplus(output.width, size.width), surplus(output.height, size.height))
}
