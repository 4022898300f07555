//! Owns the reading of a picture's header: what it is, before anything is decoded.
//!
//! Must not judge it: `limits` does.

use bytes::Bytes;

use crate::Engine;
use crate::bmp;
use crate::error::ImagingError;
use crate::format::{Sniffed, SourceFormat, sniff};
use crate::geometry::Size;
use crate::png;
use crate::svg::{self, Drawing};
use crate::vips::{BandFormat, Image, Interpretation, Operation, Source, VipsError};

/// What the numbers of a source's pixels mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ColourSpace {
    /// Red, green, blue: sRGB, or what the ICC profile says.
    Rgb,
    /// One channel.
    Grey,
    /// Printing inks.
    Cmyk,
    /// CIE Lab.
    Lab,
    /// Something else.
    Other,
}

/// What a header says.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct ImageInfo {
    /// By its magic bytes.
    pub format: SourceFormat,
    /// Size as stored.
    pub stored: Size,
    /// Size as seen, after the EXIF orientation.
    pub upright: Size,
    /// EXIF orientation, 1..=8.
    pub orientation: u8,
    /// Frames of an animation, 1 for a still.
    pub frames: u32,
    /// Pages or pictures in the file, 1 in most.
    pub pages: u32,
    /// Whether there is an alpha channel.
    pub alpha: bool,
    /// What the numbers mean.
    pub colour_space: ColourSpace,
    /// Bits per channel.
    pub bit_depth: u8,
    /// Whether an ICC profile is embedded.
    pub icc: bool,
    /// Whether the picture comes in several passes, so that decoding it from top to bottom holds all of it.
    pub interlaced: bool,
    /// Whether its colours have half the resolution of its luma each way, as cameras write them.
    pub halved_colour: bool,
    /// Length of the file, in bytes.
    pub bytes: usize,
}

impl ImageInfo {
    /// Pixels over all frames.
    pub fn pixels(&self) -> u64 {
        self.pixels_of(self.frames)
    }

    /// Pixels of so many frames.
    pub(crate) fn pixels_of(&self, frames: u32) -> u64 {
        self.stored.pixels().saturating_mul(frames.into())
    }

    /// Whether it is drawn at any size, and has no pixels of its own.
    pub fn is_vector(&self) -> bool {
        self.format == SourceFormat::Svg
    }
}

impl Engine {
    /// Reads the header of `source`. Nothing is decoded and nothing is bounded but what the header itself costs, so that a
    /// refused picture can still be described.
    ///
    /// # Errors
    /// [`ImagingError::Empty`], [`ImagingError::NotAnImage`], [`ImagingError::UnsupportedFormat`], or
    /// [`ImagingError::Truncated`] and [`ImagingError::Corrupt`] if the header cannot be read.
    pub fn probe(&self, source: &Bytes) -> Result<ImageInfo, ImagingError> {
        self.header(source, 0).map(|header| header.info)
    }

    /// Reads the header of one page of `source`, or the frame of that number.
    pub(crate) fn header(&self, source: &Bytes, page: u32) -> Result<Header, ImagingError> {
        let format = self.sniff(source)?;
        // Before the library sees it: the size of a drawing that tells none is found by drawing it.
        let drawing = if format == SourceFormat::Svg { Some(svg::inspect(self, source)?) } else { None };
        if format == SourceFormat::Png && png::claims_too_much(source) {
            return Err(ImagingError::Truncated(VipsError::new("png chunks", "a chunk is longer than the file")));
        }
        let read = |page| read_header(source, format, page).map_err(|error| unreadable(error, format, source));
        let first = read(0)?;
        let pages = first.info.pages;
        if page >= pages {
            return Err(ImagingError::NoSuchPage { page, pages });
        }
        let header = if page == 0 { first } else { read(page)? };
        Ok(Header { drawing, ..header })
    }

    /// The format of `source`, if this engine reads it.
    pub(crate) fn sniff(&self, source: &[u8]) -> Result<SourceFormat, ImagingError> {
        match sniff(source) {
            Sniffed::Readable(format) => match self.capabilities().cannot_read.get(&format) {
                Some(reason) => Err(ImagingError::UnsupportedFormat { action: "read", format: format.name(), reason }),
                None => Ok(format),
            },
            Sniffed::Refused(format) => Err(ImagingError::UnsupportedFormat {
                action: "read",
                format,
                reason: "it is none of the formats that are supported",
            }),
            Sniffed::Unknown if source.is_empty() => Err(ImagingError::Empty),
            Sniffed::Unknown => Err(ImagingError::NotAnImage),
        }
    }
}

/// A header that was read.
pub(crate) struct Header {
    /// What it says.
    pub(crate) info: ImageInfo,
    /// The picture it belongs to, not decoded yet; `None` where the decoder reads all or nothing.
    pub(crate) image: Option<Image>,
    /// What drawing it costs, if it is a vector picture.
    pub(crate) drawing: Option<Drawing>,
}

impl Header {
    /// Refuses a vector picture that would take too long if `drawn` pixels became of a part of `part` units of it.
    pub(crate) fn check_drawing(&self, part: Size, drawn: Size) -> Result<(), ImagingError> {
        let Some(drawing) = &self.drawing else { return Ok(()) };
        let (across, down) =
            (f64::from(drawn.width) / f64::from(part.width), f64::from(drawn.height) / f64::from(part.height));
        drawing.check(drawn.pixels(), across.max(down))
    }
}

/// How much a decoder itself shrinks or enlarges.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Scale {
    /// Not at all.
    Full,
    /// JPEG: by a half, a quarter or an eighth (2, 4, 8).
    Jpeg(u8),
    /// WebP and SVG: by any factor.
    Factor(f64),
}

/// Which pages of a file are decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pages {
    /// The one of this number, from 0.
    One(u32),
    /// So many from the first on, one below the other.
    First(u32),
}

/// Opens `source` for one pass from top to bottom. Reads the header only, but all of a BMP.
pub(crate) fn open(source: &Bytes, format: SourceFormat, scale: Scale, pages: Pages) -> Result<Image, VipsError> {
    let Some(loader) = format.loader_name() else { return bmp::decode(source) };
    let source = Source::new(source.clone())?;
    // Half a picture is not a picture: whatever ends early or is damaged fails instead of showing grey.
    let load = Operation::new(loader)?.source(&source)?.text(c"access", c"sequential")?.text(c"fail-on", c"error")?;
    let number = |count: u32| i32::try_from(count).unwrap_or(i32::MAX);
    let load = match pages {
        // Most loaders have no such option.
        Pages::One(0) => load,
        Pages::One(page) => load.int(c"page", number(page))?,
        Pages::First(count) => load.int(c"n", number(count))?,
    };
    match scale {
        Scale::Full => load,
        Scale::Jpeg(shrink) => load.int(c"shrink", shrink.into())?,
        Scale::Factor(factor) => load.double(c"scale", factor)?,
    }
    .run()
}

fn read_header(source: &Bytes, format: SourceFormat, page: u32) -> Result<Header, VipsError> {
    if format == SourceFormat::Bmp {
        return bmp::header(source).map(|header| Header {
            info: describe_bmp(&header, source.len()),
            image: None,
            drawing: None,
        });
    }
    let image = open(source, format, Scale::Full, Pages::One(page))?;
    Ok(Header { info: describe(&image, format, source.len()), image: Some(image), drawing: None })
}

/// The error for a source that could not be opened or decoded.
pub(crate) fn unreadable(error: VipsError, format: SourceFormat, source: &[u8]) -> ImagingError {
    if format.ends_early(source) { ImagingError::Truncated(error) } else { ImagingError::Corrupt(error) }
}

fn describe(image: &Image, format: SourceFormat, bytes: usize) -> ImageInfo {
    let stored = Size::new(image.width(), image.height());
    let orientation = image.orientation();
    let pages = image.pages();
    let colour_space = match image.interpretation() {
        Interpretation::Srgb | Interpretation::Rgb16 | Interpretation::ScRgb => ColourSpace::Rgb,
        Interpretation::Grey | Interpretation::Grey16 => ColourSpace::Grey,
        Interpretation::Cmyk => ColourSpace::Cmyk,
        Interpretation::Lab => ColourSpace::Lab,
        Interpretation::Other => ColourSpace::Other,
    };
    let stored_bits = match image.band_format() {
        BandFormat::U8 => 8,
        BandFormat::U16 => 16,
        BandFormat::Float => 32,
        BandFormat::Other => 64,
    };
    // libvips widens 10 and 12 bit HEIF to 16 and notes what it was.
    let bit_depth = image.int_field(c"heif-bitdepth").and_then(|bits| u8::try_from(bits).ok()).unwrap_or(stored_bits);
    ImageInfo {
        format,
        stored,
        upright: if orientation >= 5 { stored.swapped() } else { stored },
        orientation,
        frames: if format.pages_are_frames() { pages } else { 1 },
        pages,
        alpha: image.has_alpha(),
        colour_space,
        bit_depth,
        icc: image.icc_profile().is_some(),
        interlaced: image.int_field(c"interlaced").is_some_and(|interlaced| interlaced != 0),
        halved_colour: image.has_text(c"jpeg-chroma-subsample", c"4:2:0"),
        bytes,
    }
}

fn describe_bmp(header: &bmp::BmpHeader, bytes: usize) -> ImageInfo {
    ImageInfo {
        format: SourceFormat::Bmp,
        stored: header.size,
        upright: header.size,
        orientation: 1,
        frames: 1,
        pages: 1,
        alpha: header.alpha,
        colour_space: ColourSpace::Rgb,
        bit_depth: 8,
        icc: false,
        interlaced: false,
        halved_colour: false,
        bytes,
    }
}
