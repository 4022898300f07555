//! Makes 8-bit pictures smaller: Lanczos over every pixel, in linear light, alpha multiplied in, a strip of rows at a time.
//!
//! Owns the arithmetic alone: must not know libvips, formats or what a picture is for. libvips could do this too, but takes
//! several times as long in linear light, and before 8.16 without it.
//!
//! Rows come in from top to bottom and are first weighed into the rows of the result (`vertical`), of which few are under
//! way at a time; what is finished is then weighed along the row (`horizontal`). So a picture of any height takes the memory
//! of a few rows. Every machine computes the same bytes: products and sums are rounded one after the other, never fused.

mod horizontal;
mod light;
mod taps;
mod vertical;

use std::ops::Range;

use crate::geometry::Size;

use self::horizontal::{GROUP, Horizontal};
use self::light::Channels;
use self::taps::Taps;
use self::vertical::Vertical;

pub(crate) use self::vertical::STRIP_ROWS;

/// Some rows of a picture as luma, and as blue and red in half the resolution.
#[derive(Clone, Copy)]
pub(crate) struct Planes<'a> {
    /// Rows of luma, one behind the other, two for each of the others.
    pub(crate) luma: &'a [u8],
    /// Bytes of a row of luma.
    pub(crate) luma_bytes: usize,
    /// Rows of blue.
    pub(crate) blue: &'a [u8],
    /// Rows of red.
    pub(crate) red: &'a [u8],
    /// Bytes of a row of blue or red.
    pub(crate) colour_bytes: usize,
    /// Rows of blue and of red.
    pub(crate) rows: usize,
}

impl Planes<'_> {
    /// Two rows of luma, and those of blue and red that belong to them, from `places` of the latter.
    fn row(&self, row: usize, places: Range<usize>) -> ([&[u8]; 2], &[u8], &[u8]) {
        let luma =
            [2 * row, 2 * row + 1].map(|row| &self.luma[row * self.luma_bytes..][2 * places.start..2 * places.end]);
        let colour = row * self.colour_bytes + places.start..row * self.colour_bytes + places.end;
        (luma, &self.blue[colour.clone()], &self.red[colour])
    }
}

/// The pixels of a picture that may have been shrunk before.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Pixels {
    /// How many there are.
    pub(crate) size: Size,
    /// How many pixels wide the picture is. A picture of 25 pixels shrunk by two is 12.5, in 12 or 13.
    pub(crate) width: f64,
    /// How many pixels high it is.
    pub(crate) height: f64,
}

impl Pixels {
    /// All of a picture.
    pub(crate) fn all(size: Size) -> Self {
        Self { size, width: size.width.into(), height: size.height.into() }
    }

    /// What a picture of `stored` pixels has left, shrunk by `by`, in so many pixels.
    pub(crate) fn shrunk(size: Size, stored: Size, by: u8) -> Self {
        Self { size, width: f64::from(stored.width) / f64::from(by), height: f64::from(stored.height) / f64::from(by) }
    }

    /// The same, if there is a picture of `to` pixels and no side of it is larger.
    fn larger_than(self, to: Size) -> Option<Self> {
        let is_smaller = to.width <= self.size.width && to.height <= self.size.height;
        (is_smaller && to.pixels() > 0).then_some(self)
    }
}

/// A picture on its way to a smaller size.
pub(crate) struct Resampler {
    vertical: Vertical,
    horizontal: Horizontal,
    /// Finished rows of light that wait until a group is complete.
    waiting: Vec<Vec<f32>>,
    out: Vec<u8>,
}

impl Resampler {
    /// From `from` to `to`, neither side of which may be larger, with `bands` bytes a pixel: one or two are grey, three
    /// or four are colours, and an even number ends with alpha. `None` if this is not such a picture.
    pub(crate) fn new(from: Pixels, to: Size, bands: u32) -> Option<Self> {
        let (channels, Pixels { size, width, height }) = (Channels::new(bands)?, from.larger_than(to)?);
        let vertical = Vertical::new(Taps::new(size.height, height, to.height), size.width, channels);
        let horizontal = Horizontal::new(Taps::new(size.width, width, to.width), size.width, channels);
        Some(Self::with(vertical, horizontal, to.pixels() * u64::from(bands)))
    }

    /// From a colour picture that comes as planes and is `halved` in half of its resolution, to `to`.
    pub(crate) fn of_planes(halved: Pixels, to: Size) -> Option<Self> {
        let Pixels { size, width, height } = halved.larger_than(to)?;
        let vertical = Vertical::of_planes(Taps::of_means(size.height, height, to.height), size.width);
        let horizontal = Horizontal::new(Taps::of_means(size.width, width, to.width), size.width, Channels::Rgb);
        Some(Self::with(vertical, horizontal, to.pixels() * 3))
    }

    fn with(vertical: Vertical, horizontal: Horizontal, out_bytes: u64) -> Self {
        let out = Vec::with_capacity(out_bytes as usize);
        Self { vertical, horizontal, waiting: Vec::with_capacity(GROUP), out }
    }

    /// Takes the next rows, at most [`STRIP_ROWS`].
    pub(crate) fn push(&mut self, rows: &[&[u8]]) {
        self.vertical.push(rows);
        self.advance();
    }

    /// Takes the next rows of planes.
    pub(crate) fn push_planes(&mut self, planes: &Planes<'_>) {
        self.vertical.push_planes(planes);
        self.advance();
    }

    fn advance(&mut self) {
        while let Some(row) = self.vertical.pop() {
            self.waiting.push(row);
            if self.waiting.len() == GROUP {
                self.flush();
            }
        }
    }

    /// The result, row by row, once every row was pushed.
    pub(crate) fn finish(mut self) -> Vec<u8> {
        self.flush();
        self.out
    }

    fn flush(&mut self) {
        self.horizontal.run(&self.waiting, self.vertical.layout(), &mut self.out);
        for row in self.waiting.drain(..) {
            self.vertical.take_back(row);
        }
    }
}

#[cfg(test)]
mod tests;
