//! Finds the border that a trim cuts away: what is of the colour of the top left pixel.
//!
//! The library's own search takes a median of every pixel, two seconds for 12 megapixels. This one looks from each side
//! inwards, and takes neighbours into account only where a pixel differs.

use super::bands::{to_8_bit, to_srgb};
use crate::geometry::{Region, Size};
use crate::vips::{Image, Interpretation, VipsError};

/// How many of a pixel's nine neighbours, itself included, must differ from the border: fewer are taken for noise, as by a
/// median of three by three.
const DIFFERING_MIN: usize = 5;
/// Alpha at which a pixel is invisible, whatever its colour.
const INVISIBLE: u8 = 0;

/// The part of `image` that is not border; all of it if it is border all over. Computes every pixel.
///
/// A pixel is border as long as each channel is within `tolerance` of the top left pixel's. If that one is invisible, it is
/// transparency alone that counts.
pub(crate) fn find(image: &Image, tolerance: u8) -> Result<Region, VipsError> {
    let size = Size::new(image.width(), image.height());
    let image = if image.interpretation() == Interpretation::Grey { image.clone() } else { to_srgb(image)? };
    let image = to_8_bit(&image)?;
    let pixels = image.to_pixels()?;
    let search = Search::new(&pixels, size, &image, tolerance);
    Ok(search.content().unwrap_or(Region { x: 0, y: 0, size }))
}

struct Search<'a> {
    pixels: &'a [u8],
    width: usize,
    height: usize,
    /// Numbers of a pixel.
    bands: usize,
    /// Which of them count.
    counted: std::ops::Range<usize>,
    border: &'a [u8],
    tolerance: u8,
}

impl<'a> Search<'a> {
    fn new(pixels: &'a [u8], size: Size, image: &Image, tolerance: u8) -> Self {
        let bands = image.bands() as usize;
        let border = &pixels[..bands];
        let counted = match image.has_alpha() {
            true if border[bands - 1] == INVISIBLE => bands - 1..bands,
            true => 0..bands - 1,
            false => 0..bands,
        };
        Self { pixels, width: size.width as usize, height: size.height as usize, bands, counted, border, tolerance }
    }

    /// The smallest part that holds every pixel that counts; `None` if none does.
    fn content(&self) -> Option<Region> {
        let row = |y: &usize| (0..self.width).any(|x| self.is_content(x, *y));
        let top = (0..self.height).find(row)?;
        let bottom = (top..self.height).rev().find(row)?;
        // Row by row, as the pixels lie in memory, and each only as far as it can still move an edge.
        let (mut left, mut right) = (self.width, 0);
        for y in top..=bottom {
            left = (0..left).find(|x| self.is_content(*x, y)).unwrap_or(left);
            right = (right..self.width).rev().find(|x| self.is_content(*x, y)).unwrap_or(right);
        }
        let length = |pixels: usize| u32::try_from(pixels).unwrap_or(u32::MAX);
        let size = Size::new(length(right + 1 - left), length(bottom + 1 - top));
        Some(Region { x: length(left), y: length(top), size })
    }

    /// Whether a pixel and enough of its neighbours differ from the border. Beyond the edge lie copies of it.
    fn is_content(&self, x: usize, y: usize) -> bool {
        if !self.differs(x, y) {
            return false;
        }
        let around = |at: usize, side: usize| [at.saturating_sub(1), at, (at + 1).min(side - 1)];
        let columns = around(x, self.width);
        let differing = |y: usize| columns.iter().filter(|x| self.differs(**x, y)).count();
        around(y, self.height).into_iter().map(differing).sum::<usize>() >= DIFFERING_MIN
    }

    fn differs(&self, x: usize, y: usize) -> bool {
        let start = (y * self.width + x) * self.bands;
        let pixel = &self.pixels[start..start + self.bands];
        self.counted.clone().any(|band| pixel[band].abs_diff(self.border[band]) > self.tolerance)
    }
}
