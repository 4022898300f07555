//! Owns the reading of PNGs of 8 bits that are stored from top to bottom.

use std::io::Cursor;

use bytes::Bytes;
use png::{BitDepth, Decoder, Limits, Reader, Transformations};

use super::{LeaveIt, Shape};

/// Most memory that the decoder takes beside the rows, in bytes: chunks of text and profiles, which nobody reads here.
const DECODER_BYTES_MAX: usize = 16 << 20;

pub(crate) struct PngRows {
    reader: Reader<Cursor<Bytes>>,
    row_bytes: usize,
}

impl PngRows {
    pub(super) fn open(source: &Bytes, wanted: Shape) -> Option<Self> {
        let mut decoder = Decoder::new_with_limits(Cursor::new(source.clone()), Limits { bytes: DECODER_BYTES_MAX });
        // Palettes and fewer bits become bytes.
        decoder.set_transformations(Transformations::EXPAND);
        let reader = decoder.read_info().ok()?;
        let (kind, depth) = reader.output_color_type();
        let info = reader.info();
        let is_plain = !info.interlaced && info.animation_control.is_none() && depth == BitDepth::Eight;
        let is_wanted = info.width == wanted.size.width
            && info.height == wanted.size.height
            && u32::try_from(kind.samples()) == Ok(wanted.channels);
        (is_plain && is_wanted).then(|| Self { reader, row_bytes: wanted.row_bytes() })
    }

    pub(super) fn read(&mut self, into: &mut [u8]) -> Result<(), LeaveIt> {
        for row in into.chunks_exact_mut(self.row_bytes) {
            self.reader.read_row(row).map_err(|_| LeaveIt)?.ok_or(LeaveIt)?;
        }
        Ok(())
    }
}
