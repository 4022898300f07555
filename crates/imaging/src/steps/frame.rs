//! Cuts the resized picture to its frame, or lays it on a canvas.

use transform_url::value::Gravity;

use std::cell::Cell;

use super::bands::{pixels, with_alpha};
use super::resize::extract;
use crate::geometry::{Frame, Region, Size};
use crate::vips::{Image, Operation, VipsError};

/// The part of the upright picture that its frame shows, where numbers alone decide.
pub(crate) fn region(frame: Frame, resized: Size) -> Region {
    match frame {
        Frame::Crop(region) => region,
        Frame::Keep | Frame::ContentCrop(_) | Frame::Pad { .. } => Region { x: 0, y: 0, size: resized },
    }
}

/// Cuts the upright picture where its content decides. The first frame of an animation decides for all of them: `decided` is
/// where it was cut.
pub(crate) fn content_crop(
    image: Image,
    frame: Frame,
    gravity: Gravity,
    decided: &Cell<Option<(u32, u32)>>,
) -> Result<Image, VipsError> {
    let Frame::ContentCrop(size) = frame else { return Ok(image) };
    if let Some((x, y)) = decided.get() {
        return extract(image, Region { x, y, size });
    }
    let interesting = if gravity == Gravity::Entropy { c"entropy" } else { c"attention" };
    // Looks at the whole picture before it cuts.
    let image = image.to_memory()?;
    let cropped = Operation::new(c"smartcrop")?
        .image(c"input", &image)?
        .int(c"width", pixels(size.width))?
        .int(c"height", pixels(size.height))?
        .text(c"interesting", interesting)?
        .run()?;
    decided.set(Some(cropped.cut_from()));
    extract(cropped, Region { x: 0, y: 0, size })
}

/// Lays the picture on a transparent canvas, if it is to be padded.
pub(crate) fn pad(image: Image, frame: Frame) -> Result<Image, VipsError> {
    match frame {
        Frame::Keep | Frame::Crop(_) | Frame::ContentCrop(_) => Ok(image),
        Frame::Pad { canvas, x, y } => lay(&with_alpha(image)?, canvas, x, y),
    }
}

/// `image`, which has alpha, on a transparent canvas.
pub(crate) fn lay(image: &Image, canvas: Size, x: u32, y: u32) -> Result<Image, VipsError> {
    Operation::new(c"embed")?
        .image(c"in", image)?
        .int(c"x", pixels(x))?
        .int(c"y", pixels(y))?
        .int(c"width", pixels(canvas.width))?
        .int(c"height", pixels(canvas.height))?
        .text(c"extend", c"black")?
        .run()
}
