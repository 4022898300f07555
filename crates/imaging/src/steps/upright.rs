//! Turns a picture by its EXIF orientation, and maps places on the upright picture to the stored one.
//!
//! The turn comes after the resize, when there is little left to turn; until then places are mapped instead.

use crate::geometry::{Region, Size};
use crate::vips::{Image, Operation, VipsError};

/// `image`, stored with `orientation`, upright.
pub(crate) fn upright(image: Image, orientation: u8) -> Result<Image, VipsError> {
    // TIFF 6.0 and EXIF 2.32 §4.6.4: which corner of the scene the first stored pixel is.
    let (angle, mirror) = match orientation {
        2 => (0, Some(c"horizontal")),
        3 => (180, None),
        4 => (0, Some(c"vertical")),
        5 => (90, Some(c"horizontal")),
        6 => (90, None),
        7 => (270, Some(c"horizontal")),
        8 => (270, None),
        _ => return Ok(image),
    };
    // All but a horizontal mirror read the picture in another order than it is decoded in.
    let image = if orientation == 2 { image } else { image.to_memory()? };
    let image = quarter_turn(image, angle)?;
    match mirror {
        Some(direction) => Operation::new(c"flip")?.image(c"in", &image)?.text(c"direction", direction)?.run(),
        None => Ok(image),
    }
}

/// `image`, which must be in memory, turned clockwise by 0, 90, 180 or 270 degrees.
pub(crate) fn quarter_turn(image: Image, angle: u16) -> Result<Image, VipsError> {
    let angle = match angle {
        90 => c"d90",
        180 => c"d180",
        270 => c"d270",
        _ => return Ok(image),
    };
    Operation::new(c"rot")?.image(c"in", &image)?.text(c"angle", angle)?.run()
}

/// Whether the stored picture has the axes of the upright one exchanged.
pub(crate) fn is_swapped(orientation: u8) -> bool {
    orientation >= 5
}

/// `size` of the upright picture, as stored.
pub(crate) fn stored_size(size: Size, orientation: u8) -> Size {
    if is_swapped(orientation) { size.swapped() } else { size }
}

/// The part of the stored picture that is `region` of the upright one, which is `upright` in size.
pub(crate) fn stored_region(region: Region, upright: Size, orientation: u8) -> Region {
    let right = upright.width - region.x - region.size.width;
    let below = upright.height - region.y - region.size.height;
    let (x, y) = match orientation {
        2 => (right, region.y),
        3 => (right, below),
        4 => (region.x, below),
        5 => (region.y, region.x),
        6 => (region.y, right),
        7 => (below, right),
        8 => (below, region.x),
        _ => (region.x, region.y),
    };
    Region { x, y, size: stored_size(region.size, orientation) }
}
