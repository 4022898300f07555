//! Finds the border that a trim cuts away: what is of the colour of the top left pixel.

use std::ffi::CStr;

use super::bands::{split, to_8_bit, to_srgb};
use crate::geometry::{Region, Size};
use crate::vips::{Image, Operation, VipsError};

/// Least pixels a side of a picture that can have a border: single pixels are taken for noise, by a median of three.
const SIDE_PX_MIN: u32 = 3;
/// Alpha up to which a pixel counts as invisible, whatever its colour.
const INVISIBLE: f64 = 0.0;

/// The part of `image`, which is in memory, that is not border; all of it if it is border all over.
///
/// A pixel is border as long as each channel is within `tolerance` of the top left pixel's. If that one is invisible, it is
/// transparency alone that counts.
pub(crate) fn find(image: &Image, tolerance: u8) -> Result<Region, VipsError> {
    let whole = Region { x: 0, y: 0, size: Size::new(image.width(), image.height()) };
    if whole.size.width < SIDE_PX_MIN || whole.size.height < SIDE_PX_MIN {
        return Ok(whole);
    }
    let (colours, alpha) = split(&to_8_bit(&to_srgb(image)?)?)?;
    let (seen, border) = match alpha {
        Some(alpha) if corner(&alpha)? == [INVISIBLE] => (alpha, vec![INVISIBLE]),
        _ => {
            let border = corner(&colours)?;
            (colours, border)
        }
    };
    const OUTPUTS: [&CStr; 4] = [c"left", c"top", c"width", c"height"];
    let [left, top, width, height] = Operation::new(c"find_trim")?
        .image(c"in", &seen)?
        .double(c"threshold", tolerance.into())?
        .doubles(c"background", &border)?
        .run_to_ints(OUTPUTS)?;
    let length = |number: i32| u32::try_from(number).unwrap_or(0);
    match (length(width), length(height)) {
        (0, _) | (_, 0) => Ok(whole),
        (width, height) => Ok(Region { x: length(left), y: length(top), size: Size::new(width, height) }),
    }
}

/// The top left pixel.
fn corner(image: &Image) -> Result<Vec<f64>, VipsError> {
    Operation::new(c"getpoint")?.image(c"in", image)?.int(c"x", 0)?.int(c"y", 0)?.run_to_doubles(c"out-array")
}
