//! Owns decoding row by row without libvips, for the files that most originals are: plain JPEGs and PNGs.
//!
//! libvips copies each row several times on its way out of a decoder, and Debian's PNG decoder is a slow one. What is decoded here
//! has the very bytes that libvips would have. Must not be clever: whatever is unusual or damaged in any way is left to
//! libvips, which decides whether it is a picture.

mod jpeg;
mod png;

use bytes::Bytes;

use crate::format::SourceFormat;
use crate::geometry::Size;
use crate::probe::Scale;
use crate::vips::Image;

use self::jpeg::{JpegPlanes, JpegRows};
use self::png::PngRows;

/// This one was not for here after all.
#[derive(Debug)]
pub(crate) struct LeaveIt;

/// The rows of a picture, from top to bottom.
pub(crate) enum Rows {
    /// One byte a channel.
    Whole(WholeRows),
    /// As a camera's JPEG holds them, to be halved in linear light. Not what libvips would have: better, and sooner there.
    Halved(JpegPlanes),
}

/// Rows of one byte a channel.
pub(crate) enum WholeRows {
    Jpeg(JpegRows),
    Png(Box<PngRows>),
}

impl Rows {
    /// Of the JPEG `source`, which is of the size `stored`, to be halved.
    pub(crate) fn halved(source: &Bytes, stored: Size) -> Option<Self> {
        JpegPlanes::open(source, stored).map(Self::Halved)
    }

    /// Of `source`, decoded at `scale`; `image` is what libvips would make of it, and says what the rows must be like.
    pub(crate) fn open(source: &Bytes, format: SourceFormat, scale: Scale, image: &Image) -> Option<Self> {
        let wanted = Shape { size: Size::new(image.width(), image.height()), channels: image.bands() };
        let rows = match (format, scale) {
            (SourceFormat::Jpeg, Scale::Full) => JpegRows::open(source, 1, wanted).map(WholeRows::Jpeg),
            (SourceFormat::Jpeg, Scale::Jpeg(shrink)) => JpegRows::open(source, shrink, wanted).map(WholeRows::Jpeg),
            (SourceFormat::Png, Scale::Full) => PngRows::open(source, wanted).map(Box::new).map(WholeRows::Png),
            _ => None,
        };
        rows.map(Self::Whole)
    }
}

impl WholeRows {
    /// Puts the next rows into `into`, which has room for a whole number of them, no more than are left.
    pub(crate) fn read(&mut self, into: &mut [u8]) -> Result<(), LeaveIt> {
        match self {
            Self::Jpeg(rows) => rows.read(into),
            Self::Png(rows) => rows.read(into),
        }
    }
}

/// What rows are like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Shape {
    size: Size,
    channels: u32,
}

impl Shape {
    fn row_bytes(self) -> usize {
        self.size.width as usize * self.channels as usize
    }
}

#[cfg(test)]
mod tests;
