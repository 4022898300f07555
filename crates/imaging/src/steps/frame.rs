//! Cuts the resized picture to its frame, or lays it on a canvas.

use transform_url::value::Gravity;

use super::background::with_alpha;
use super::resize::{extract, pixels};
use crate::geometry::{Frame, Region, Size};
use crate::vips::{Image, Operation, VipsError};

/// The part of the upright picture that its frame shows, where numbers alone decide.
pub(crate) fn region(frame: Frame, resized: Size) -> Region {
    match frame {
        Frame::Crop(region) => region,
        Frame::Keep | Frame::ContentCrop(_) | Frame::Pad { .. } => Region { x: 0, y: 0, size: resized },
    }
}

/// Frames the upright picture where its content decides, or on a transparent canvas.
pub(crate) fn frame(image: Image, frame: Frame, gravity: Gravity) -> Result<Image, VipsError> {
    match frame {
        Frame::Keep | Frame::Crop(_) => Ok(image),
        Frame::ContentCrop(size) => content_crop(image, size, gravity),
        Frame::Pad { canvas, x, y } => lay(&with_alpha(image)?, canvas, x, y),
    }
}

/// `image`, which has alpha, on a transparent canvas.
fn lay(image: &Image, canvas: Size, x: u32, y: u32) -> Result<Image, VipsError> {
    Operation::new(c"embed")?
        .image(c"in", image)?
        .int(c"x", pixels(x))?
        .int(c"y", pixels(y))?
        .int(c"width", pixels(canvas.width))?
        .int(c"height", pixels(canvas.height))?
        .text(c"extend", c"black")?
        .run()
}

fn content_crop(image: Image, size: Size, gravity: Gravity) -> Result<Image, VipsError> {
    let interesting = if gravity == Gravity::Entropy { c"entropy" } else { c"attention" };
    // Looks at the whole picture before it cuts.
    let image = image.to_memory()?;
    let cropped = Operation::new(c"smartcrop")?
        .image(c"input", &image)?
        .int(c"width", pixels(size.width))?
        .int(c"height", pixels(size.height))?
        .text(c"interesting", interesting)?
        .run()?;
    extract(cropped, Region { x: 0, y: 0, size })
}
