//! Owns the writing of a picture as JPEG: its rows through jpegli, its metadata through libvips, which knows EXIF.
//!
//! Must not decide what metadata is written: what the picture has left is.

use transform_url::value::Metadata;

use crate::jpegli::{JpegError, JpegSettings, JpegWriter};
use crate::quality::jpegli_quality;
use crate::vips::{Image, Operation, Strips, VipsError, Watch};

/// Rows that are given to the encoder at once: two rows of its blocks, halved in colour.
const STRIP_ROWS: u32 = 16;

/// From this quality on colours are kept at the full resolution, like libjpeg's users are used to.
const FULL_COLOUR_FROM: u8 = 90;

/// Writes `image`, which has neither alpha nor more than 8 bits, at libjpeg's `quality`, with the metadata that it has if
/// `metadata` says that there may be some.
pub(crate) fn save(
    image: &Image,
    quality: u8,
    metadata: Metadata,
    watch: Option<&Watch>,
) -> Result<Vec<u8>, VipsError> {
    let failed = |error: JpegError| VipsError::new("jpegli", &error.to_string());
    let settings = JpegSettings {
        width: image.width(),
        height: image.height(),
        is_grey: image.bands() == 1,
        quality: jpegli_quality(quality),
        full_colour: quality >= FULL_COLOUR_FROM,
        progressive: false,
    };
    let mut writer = JpegWriter::new(settings).map_err(failed)?;
    let mut strips = Strips::new(image, watch)?;
    for top in (0..image.height()).step_by(STRIP_ROWS as usize) {
        writer.write(&strips.read(top, STRIP_ROWS)?).map_err(failed)?;
    }
    let file = writer.finish().map_err(failed)?;
    match metadata {
        Metadata::None => Ok(file),
        Metadata::Copyright | Metadata::Keep => with_segments(&file, &segments_of(image)?)
            .ok_or_else(|| VipsError::new("jpegli", "the encoder wrote a malformed file")),
    }
}

/// The segments of a JPEG that hold the metadata of `image`, written by libvips beside a picture of nothing.
fn segments_of(image: &Image) -> Result<Vec<u8>, VipsError> {
    // Of the same size, since EXIF tells it.
    let nothing = Operation::new(c"black")?
        .int(c"width", i32::try_from(image.width()).unwrap_or(1))?
        .int(c"height", i32::try_from(image.height()).unwrap_or(1))?
        .run()?;
    let nothing = nothing.with_metadata_of(image)?;
    // The block may still say how the source was turned.
    nothing.set_int(c"orientation", 1);
    let file = Operation::new(c"jpegsave_buffer")?.image(c"in", &nothing)?.run_to_buffer()?;
    let mut kept = Vec::new();
    for segment in Segments(file.get(2..).unwrap_or_default()) {
        if matches!(segment[1], 0xE1..=0xEF) {
            kept.extend_from_slice(segment);
        }
    }
    Ok(kept)
}

/// `file` with `segments` behind its first one, which is JFIF's header.
fn with_segments(file: &[u8], segments: &[u8]) -> Option<Vec<u8>> {
    let header = Segments(file.get(2..)?).next()?;
    let (before, after) = file.split_at_checked(2 + header.len())?;
    Some([before, segments, after].concat())
}

/// The segments of a JPEG behind its first marker, up to the picture itself.
struct Segments<'a>(&'a [u8]);

impl<'a> Iterator for Segments<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let [0xFF, marker, high, low] = *self.0.first_chunk::<4>()? else { return None };
        if marker == 0xDA {
            return None;
        }
        let (segment, rest) = self.0.split_at_checked(2 + usize::from(u16::from_be_bytes([high, low])))?;
        self.0 = rest;
        Some(segment)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_end_at_the_picture_and_at_nonsense() {
        let file = [0xFF, 0xE0, 0, 3, 7, 0xFF, 0xE1, 0, 2, 0xFF, 0xDA, 0, 2, 0xFF, 0xE2, 0, 2];
        let found: Vec<&[u8]> = Segments(&file).collect();
        assert_eq!(found, [&file[..5], &file[5..9]]);
        for nonsense in [&b""[..], b"\xFF\xE0\x00", b"\xFF\xE0\x00\x09", b"abcd"] {
            assert_eq!(Segments(nonsense).count(), 0);
        }
    }
}
