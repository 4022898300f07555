//! Owns what can be written: the encodings of pixels, and the texts that describe a picture instead.

use std::ffi::CStr;

/// What a rendition can be written as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs, reason = "the formats' own names")]
pub enum Encoding {
    Jpeg,
    Png,
    Webp,
    Avif,
    Jxl,
    Gif,
    /// Facts about the picture, no pixels.
    Json,
    /// A blurred picture in some 30 characters.
    Blurhash,
    /// A blurred picture with its shape and transparency in some 30 characters.
    Thumbhash,
}

impl Encoding {
    /// Every encoding.
    pub const ALL: [Self; 9] = [
        Self::Jpeg,
        Self::Png,
        Self::Webp,
        Self::Avif,
        Self::Jxl,
        Self::Gif,
        Self::Json,
        Self::Blurhash,
        Self::Thumbhash,
    ];

    /// The lower-case name, as in a URL and in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Jpeg => "jpeg",
            Self::Png => "png",
            Self::Webp => "webp",
            Self::Avif => "avif",
            Self::Jxl => "jxl",
            Self::Gif => "gif",
            Self::Json => "json",
            Self::Blurhash => "blurhash",
            Self::Thumbhash => "thumbhash",
        }
    }

    /// The media type of a body in this encoding.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Jpeg => "image/jpeg",
            Self::Png => "image/png",
            Self::Webp => "image/webp",
            Self::Avif => "image/avif",
            Self::Jxl => "image/jxl",
            Self::Gif => "image/gif",
            Self::Json => "application/json",
            Self::Blurhash | Self::Thumbhash => "text/plain",
        }
    }

    /// Whether it describes the picture instead of showing it.
    pub fn is_description(self) -> bool {
        matches!(self, Self::Json | Self::Blurhash | Self::Thumbhash)
    }

    /// Whether it can hold transparency.
    pub fn has_alpha(self) -> bool {
        match self {
            Self::Png | Self::Webp | Self::Avif | Self::Jxl | Self::Gif => true,
            // Where it matters to a description, it says so.
            Self::Json | Self::Blurhash | Self::Thumbhash => true,
            Self::Jpeg => false,
        }
    }

    /// Whether it can hold an animation.
    pub fn has_frames(self) -> bool {
        matches!(self, Self::Webp | Self::Gif)
    }

    /// Whether it can be written without loss. AVIF cannot: its colours are stored as luma and chroma, rounded.
    pub fn has_lossless(self) -> bool {
        matches!(self, Self::Png | Self::Webp | Self::Jxl)
    }

    /// Whether it can be written with more or less loss, so that a quality means something.
    pub fn has_quality(self) -> bool {
        matches!(self, Self::Jpeg | Self::Webp | Self::Avif | Self::Jxl)
    }

    /// The library's operation that writes it; `None` for what this crate writes itself.
    pub(crate) fn saver_name(self) -> Option<&'static CStr> {
        match self {
            Self::Jpeg => Some(c"jpegsave_buffer"),
            Self::Png => Some(c"pngsave_buffer"),
            Self::Webp => Some(c"webpsave_buffer"),
            Self::Avif => Some(c"heifsave_buffer"),
            Self::Jxl => Some(c"jxlsave_buffer"),
            Self::Gif => Some(c"gifsave_buffer"),
            Self::Json | Self::Blurhash | Self::Thumbhash => None,
        }
    }
}
