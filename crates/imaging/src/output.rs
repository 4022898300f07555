//! Owns the choice of the encoding a rendition gets.
//!
//! Must not read `Accept` headers: the caller turns one into a [`Class`] before it looks into its cache.

use transform_url::Transform;
use transform_url::value::Format;

use crate::engine::Capabilities;
use crate::error::ImagingError;
use crate::format::Encoding;
use crate::geometry::Size;

/// Most pixels that AVIF is chosen for on its own: beyond, encoding takes seconds and cannot be interrupted.
const AVIF_AUTO_PIXELS_MAX: u64 = 4_000_000;

/// What a client can show, from best to least.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// AVIF, WebP and the old formats.
    Avif,
    /// WebP and the old formats.
    Webp,
    /// JPEG, PNG and GIF.
    Legacy,
}

/// Which encoding is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Output {
    /// This one.
    Exactly(Encoding),
    /// The best for a client of this class.
    Best(Class),
}

impl Output {
    /// The output `transform` asks for, for a client of `class`; without one the client is taken to show the least.
    pub(crate) fn new(transform: &Transform, class: Option<Class>) -> Result<Self, ImagingError> {
        let encoding = match transform.format() {
            Format::Auto => return Ok(Self::Best(class.unwrap_or(Class::Legacy))),
            Format::Avif => Encoding::Avif,
            Format::Webp => Encoding::Webp,
            Format::Jpeg => Encoding::Jpeg,
            Format::Png => Encoding::Png,
            Format::Json => Encoding::Json,
            other @ (Format::Jxl | Format::Gif | Format::Blurhash | Format::Thumbhash) => {
                return Err(ImagingError::UnsupportedFormat { format: other.word(), reason: "is not written" });
            }
        };
        Ok(Self::Exactly(encoding))
    }

    /// The encoding for a result of `size`, from a source with or without alpha.
    pub(crate) fn choose(self, size: Size, alpha: bool, can: &Capabilities) -> Result<Encoding, ImagingError> {
        let class = match self {
            Self::Exactly(encoding) if can.writes.contains(&encoding) => return Ok(encoding),
            Self::Exactly(encoding) => {
                return Err(ImagingError::UnsupportedFormat {
                    format: encoding.name(),
                    reason: "cannot be written by the installed imaging library",
                });
            }
            Self::Best(class) => class,
        };
        let avif = class == Class::Avif && size.pixels() <= AVIF_AUTO_PIXELS_MAX;
        let webp = class != Class::Legacy;
        Ok(if avif && can.writes.contains(&Encoding::Avif) {
            Encoding::Avif
        } else if webp && can.writes.contains(&Encoding::Webp) {
            Encoding::Webp
        } else if alpha {
            Encoding::Png
        } else {
            Encoding::Jpeg
        })
    }
}
