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
    pub(crate) fn new(from: Size, to: Size, bands: u32) -> Option<Self> {
        let channels = Channels::new(bands)?;
        let is_smaller = to.width <= from.width && to.height <= from.height;
        if !is_smaller || to.pixels() == 0 {
            return None;
        }
        Some(Self {
            vertical: Vertical::new(from, to.height, channels),
            horizontal: Horizontal::new(from.width, to.width, channels),
            waiting: Vec::with_capacity(GROUP),
            out: Vec::with_capacity(usize::try_from(to.pixels()).ok()? * channels.count()),
        })
    }

    /// From a colour picture that comes as planes and is of the size `halved` in half of its resolution, to `to`.
    pub(crate) fn of_planes(halved: Size, to: Size) -> Option<Self> {
        let vertical = Vertical::of_planes(halved, to.height);
        Self::new(halved, to, 3).map(|resampler| Self { vertical, ..resampler })
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
