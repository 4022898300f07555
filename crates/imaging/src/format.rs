//! Owns the formats that are read: telling one from its first bytes, and the names libvips knows them by.
//!
//! Must not look at file names or content types: they lie, and a loader picked by a lie is an attack surface.

use std::ffi::CStr;

/// How far into a text the root element of an SVG is looked for, in bytes.
const SVG_PROLOGUE_BYTES_MAX: usize = 4096;

/// A format that can be read, if the running library was built with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs, reason = "the formats' own names")]
pub enum SourceFormat {
    Jpeg,
    Png,
    Webp,
    Gif,
    Avif,
    Heic,
    Tiff,
    Jxl,
    Svg,
    /// Decoded by a Rust library: libvips leaves it to ImageMagick, which stays shut.
    Bmp,
}

/// What the first bytes of a source say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sniffed {
    /// A format this crate reads.
    Readable(SourceFormat),
    /// A known file type that is not read, by name.
    Refused(&'static str),
    /// Nothing known.
    Unknown,
}

impl SourceFormat {
    /// Every readable format.
    pub const ALL: [Self; 10] = [
        Self::Jpeg,
        Self::Png,
        Self::Webp,
        Self::Gif,
        Self::Avif,
        Self::Heic,
        Self::Tiff,
        Self::Jxl,
        Self::Svg,
        Self::Bmp,
    ];

    /// The lower-case name, as in `f=json` and in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Jpeg => "jpeg",
            Self::Png => "png",
            Self::Webp => "webp",
            Self::Gif => "gif",
            Self::Avif => "avif",
            Self::Heic => "heic",
            Self::Tiff => "tiff",
            Self::Jxl => "jxl",
            Self::Svg => "svg",
            Self::Bmp => "bmp",
        }
    }

    /// The format `bytes` begin like, by magic bytes only; `None` if it is not one this crate reads.
    pub fn sniff(bytes: &[u8]) -> Option<Self> {
        match sniff(bytes) {
            Sniffed::Readable(format) => Some(format),
            Sniffed::Refused(_) | Sniffed::Unknown => None,
        }
    }

    /// The library's operation that reads it; `None` if another library does.
    pub(crate) fn loader_name(self) -> Option<&'static CStr> {
        Some(match self {
            Self::Jpeg => c"jpegload_source",
            Self::Png => c"pngload_source",
            Self::Webp => c"webpload_source",
            Self::Gif => c"gifload_source",
            Self::Avif | Self::Heic => c"heifload_source",
            Self::Tiff => c"tiffload_source",
            Self::Jxl => c"jxlload_source",
            Self::Svg => c"svgload_source",
            Self::Bmp => return None,
        })
    }

    /// Whether the pages of a file are frames of one animation, and not pages or thumbnails.
    pub(crate) fn pages_are_frames(self) -> bool {
        matches!(self, Self::Gif | Self::Webp)
    }

    /// Whether a file of this format visibly stops before its end. Only tells a cut file from a damaged one once decoding
    /// has failed; `false` where the format has no end mark.
    pub(crate) fn ends_early(self, bytes: &[u8]) -> bool {
        let tail = &bytes[bytes.len().saturating_sub(4096)..];
        let tail_has = |mark: &[u8]| tail.windows(mark.len()).any(|window| window == mark);
        match self {
            Self::Jpeg => !tail_has(&[0xFF, 0xD9]),
            Self::Png => !tail_has(b"IEND"),
            Self::Gif => !tail.contains(&0x3B),
            Self::Webp => bytes.first_chunk::<8>().is_none_or(|head| {
                let riff = u32::from_le_bytes([head[4], head[5], head[6], head[7]]);
                u64::from(riff) + 8 > bytes.len() as u64
            }),
            Self::Svg => !tail_has(b"svg>") && !tail_has(b"/>"),
            Self::Avif | Self::Heic | Self::Tiff | Self::Jxl | Self::Bmp => false,
        }
    }
}

/// What the first bytes say.
pub(crate) fn sniff(bytes: &[u8]) -> Sniffed {
    use Sniffed::{Readable, Refused, Unknown};
    let starts = |magic: &[u8]| bytes.starts_with(magic);
    if starts(&[0xFF, 0xD8, 0xFF]) {
        Readable(SourceFormat::Jpeg)
    } else if starts(b"\x89PNG\r\n\x1a\n") {
        Readable(SourceFormat::Png)
    } else if starts(b"GIF87a") || starts(b"GIF89a") {
        Readable(SourceFormat::Gif)
    } else if starts(b"RIFF") && bytes.get(8..12) == Some(b"WEBP") {
        Readable(SourceFormat::Webp)
    } else if [b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"].into_iter().any(|magic| starts(magic)) {
        Readable(SourceFormat::Tiff)
    } else if starts(&[0xFF, 0x0A]) || starts(b"\0\0\0\x0cJXL \r\n\x87\n") {
        Readable(SourceFormat::Jxl)
    } else if bytes.get(4..8) == Some(b"ftyp") {
        sniff_brands(bytes)
    } else if is_svg(bytes) {
        Readable(SourceFormat::Svg)
    } else if starts(b"%PDF-") {
        Refused("pdf")
    } else if starts(b"8BPS") {
        Refused("psd")
    } else if starts(b"BM") && bytes.get(6..10) == Some(&[0; 4]) {
        Readable(SourceFormat::Bmp)
    } else if starts(b"\0\0\0\x0cjP  ") || starts(&[0xFF, 0x4F, 0xFF, 0x51]) {
        Refused("jpeg2000")
    } else if starts(&[0, 0, 1, 0]) {
        Refused("ico")
    } else {
        Unknown
    }
}

/// ISO base media files (ISO/IEC 14496-12 §4.3): the brands of the first box say what is inside.
fn sniff_brands(bytes: &[u8]) -> Sniffed {
    let size = bytes.first_chunk::<4>().map_or(0, |size| u32::from_be_bytes(*size) as usize);
    let brands = bytes.get(8..size.clamp(8, 256).min(bytes.len())).unwrap_or_default();
    let has = |wanted: &[&[u8; 4]]| brands.chunks_exact(4).any(|brand| wanted.iter().any(|w| brand == *w));
    if has(&[b"avif", b"avis"]) {
        Sniffed::Readable(SourceFormat::Avif)
    } else if has(&[b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"]) {
        Sniffed::Readable(SourceFormat::Heic)
    } else {
        Sniffed::Refused("video")
    }
}

/// Text whose root element is `svg`, past a byte order mark, declaration, comments and document type. Compressed SVG is
/// not recognised: it could unpack to any size.
fn is_svg(bytes: &[u8]) -> bool {
    let head = &bytes[..bytes.len().min(SVG_PROLOGUE_BYTES_MAX)];
    let head = head.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(head);
    let head = head.trim_ascii_start();
    let begins_like_one =
        [&b"<svg"[..], b"<?xml", b"<!--", b"<!DOCTYPE svg"].into_iter().any(|mark| head.starts_with(mark));
    begins_like_one && head.windows(4).any(|window| window == b"<svg")
}
