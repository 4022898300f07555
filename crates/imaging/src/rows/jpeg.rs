//! Owns the calls into `jpeg.c`, which reads JPEGs with the libjpeg that libvips uses too.
#![allow(unsafe_code)]

use std::ffi::{c_int, c_uchar, c_uint, c_ulong};
use std::ptr::NonNull;

use bytes::Bytes;

use super::{LeaveIt, Shape};
use crate::geometry::Size;
use crate::resample::{Pixels, Planes};

/// What `jpeg.c` keeps.
#[repr(C)]
struct Reader {
    _opaque: [u8; 0],
}

unsafe extern "C" {
    fn calotype_jpeg_open(
        bytes: *const c_uchar,
        length: c_ulong,
        denominator: c_uint,
        shape: *mut c_uint,
    ) -> Option<NonNull<Reader>>;
    fn calotype_jpeg_read(reader: NonNull<Reader>, rows: *mut c_uchar, count: c_uint) -> c_int;
    fn calotype_jpeg_open_planes(bytes: *const c_uchar, length: c_ulong, shape: *mut c_uint)
    -> Option<NonNull<Reader>>;
    fn calotype_jpeg_read_planes(
        reader: NonNull<Reader>,
        luma: *mut c_uchar,
        blue: *mut c_uchar,
        red: *mut c_uchar,
    ) -> c_int;
    fn calotype_jpeg_close(reader: NonNull<Reader>);
}

/// A reader that was opened.
struct Open {
    reader: NonNull<Reader>,
    // What it reads from.
    _source: Bytes,
}

impl Open {
    /// What `open` makes of the bytes of `source`, which are only read and live as long as the reader.
    fn new(source: &Bytes, open: impl FnOnce(*const c_uchar, c_ulong) -> Option<NonNull<Reader>>) -> Option<Self> {
        let source = source.clone();
        let reader = open(source.as_ptr(), c_ulong::try_from(source.len()).ok()?)?;
        Some(Self { reader, _source: source })
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        // SAFETY: the reader is open, and not used after this.
        unsafe { calotype_jpeg_close(self.reader) };
    }
}

pub(crate) struct JpegRows {
    open: Open,
    /// Bytes of a row that is wanted, and of one that is read.
    row_bytes: usize,
    read_bytes: usize,
    /// Rows that are still wanted, and rows behind those.
    left: u32,
    beyond: u32,
    /// A row that is longer than wanted.
    row: Vec<u8>,
}

impl JpegRows {
    pub(super) fn open(source: &Bytes, shrink: u8, wanted: Shape) -> Option<Self> {
        let mut shape = [0; 3];
        // SAFETY: there are `length` bytes, and room for three numbers.
        let open = Open::new(source, |bytes, length| unsafe {
            calotype_jpeg_open(bytes, length, shrink.into(), shape.as_mut_ptr())
        })?;
        let [width, height, channels] = shape;
        let found = Shape { size: Size::new(width, height), channels };
        let rows = Self {
            open,
            row_bytes: wanted.row_bytes(),
            read_bytes: found.row_bytes(),
            left: wanted.size.height,
            beyond: height.saturating_sub(wanted.size.height),
            row: vec![0; found.row_bytes()],
        };
        // A shrunk picture ends with what part of a pixel is left, which libvips cuts off.
        let is_near = |found: u32, wanted: u32| found == wanted || shrink > 1 && found == wanted + 1;
        let is_wanted =
            channels == wanted.channels && is_near(width, wanted.size.width) && is_near(height, wanted.size.height);
        is_wanted.then_some(rows)
    }

    pub(super) fn read(&mut self, into: &mut [u8]) -> Result<(), LeaveIt> {
        let count = u32::try_from(into.len() / self.row_bytes).map_err(|_| LeaveIt)?;
        self.left = self.left.checked_sub(count).ok_or(LeaveIt)?;
        if self.read_bytes == self.row_bytes {
            // SAFETY: the reader is open and used by nobody else; there is room for `count` rows of the width that it told.
            succeeded(unsafe { calotype_jpeg_read(self.open.reader, into.as_mut_ptr(), count) })?;
        } else {
            for row in into.chunks_exact_mut(self.row_bytes) {
                self.read_row()?;
                row.copy_from_slice(&self.row[..self.row_bytes]);
            }
        }
        if self.left == 0 {
            // Damage may be there too.
            for _ in 0..std::mem::take(&mut self.beyond) {
                self.read_row()?;
            }
        }
        Ok(())
    }

    fn read_row(&mut self) -> Result<(), LeaveIt> {
        // SAFETY: as above, for one row.
        succeeded(unsafe { calotype_jpeg_read(self.open.reader, self.row.as_mut_ptr(), 1) })
    }
}

fn succeeded(result: c_int) -> Result<(), LeaveIt> {
    if result == 0 { Ok(()) } else { Err(LeaveIt) }
}

/// Rows of light, and of blue and red as far as they differ from it, in half the resolution: what a camera's JPEG holds.
pub(crate) struct JpegPlanes {
    open: Open,
    size: Size,
    luma_bytes: usize,
    colour_bytes: usize,
    luma: Vec<u8>,
    blue: Vec<u8>,
    red: Vec<u8>,
    /// Rows that were read.
    top: u32,
}

/// Rows of light that come at once; half as many of colour.
const LUMA_ROWS: u32 = 16;

impl JpegPlanes {
    /// Of `source`, which must be of the size `wanted`.
    pub(super) fn open(source: &Bytes, wanted: Size) -> Option<Self> {
        let mut shape = [0; 4];
        // SAFETY: there are `length` bytes, and room for four numbers.
        let open =
            Open::new(source, |bytes, length| unsafe { calotype_jpeg_open_planes(bytes, length, shape.as_mut_ptr()) })?;
        let [width, height, luma_bytes, colour_bytes] = shape;
        let (luma_bytes, colour_bytes) = (luma_bytes as usize, colour_bytes as usize);
        let planes = Self {
            open,
            size: Size::new(width, height),
            luma_bytes,
            colour_bytes,
            luma: vec![0; luma_bytes * LUMA_ROWS as usize],
            blue: vec![0; colour_bytes * LUMA_ROWS as usize / 2],
            red: vec![0; colour_bytes * LUMA_ROWS as usize / 2],
            top: 0,
        };
        (planes.size == wanted).then_some(planes)
    }

    /// The picture in half the resolution.
    pub(crate) fn halved(&self) -> Pixels {
        Pixels::shrunk(Size::new(self.size.width.div_ceil(2), self.size.height.div_ceil(2)), self.size, 2)
    }

    /// The next rows; `None` below the last one.
    pub(crate) fn read(&mut self) -> Result<Option<Planes<'_>>, LeaveIt> {
        let left = self.size.height - self.top;
        if left == 0 {
            return Ok(None);
        }
        let rows = left.min(LUMA_ROWS);
        self.top += rows;
        // SAFETY: the reader is open and used by nobody else; there is room for 16 rows of light and 8 of each colour, of the
        // lengths that it told.
        succeeded(unsafe {
            calotype_jpeg_read_planes(
                self.open.reader,
                self.luma.as_mut_ptr(),
                self.blue.as_mut_ptr(),
                self.red.as_mut_ptr(),
            )
        })?;
        let (width, rows) = (self.size.width as usize, rows as usize);
        // What lies beyond an odd side is whatever the encoder liked.
        if !width.is_multiple_of(2) {
            for row in self.luma.chunks_exact_mut(self.luma_bytes) {
                row[width] = row[width - 1];
            }
        }
        if !rows.is_multiple_of(2) {
            self.luma.copy_within((rows - 1) * self.luma_bytes..rows * self.luma_bytes, rows * self.luma_bytes);
        }
        Ok(Some(Planes {
            luma: &self.luma,
            luma_bytes: self.luma_bytes,
            blue: &self.blue,
            red: &self.red,
            colour_bytes: self.colour_bytes,
            rows: rows.div_ceil(2),
        }))
    }
}
