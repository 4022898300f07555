//! Owns the choice of the encoding a rendition gets.
//!
//! Must not read `Accept` headers: the caller turns one into a [`Class`] before it looks into its cache.

use transform_url::Transform;
use transform_url::value::Format;

use crate::encoding::Encoding;
use crate::engine::Capabilities;
use crate::error::ImagingError;
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
    ///
    /// # Errors
    /// [`ImagingError::NotApplicable`] for ops that the named format cannot have.
    pub(crate) fn new(transform: &Transform, class: Option<Class>) -> Result<Self, ImagingError> {
        let output = match transform.format() {
            Format::Auto => Self::Best(class.unwrap_or(Class::Legacy)),
            Format::Avif => Self::Exactly(Encoding::Avif),
            Format::Webp => Self::Exactly(Encoding::Webp),
            Format::Jxl => Self::Exactly(Encoding::Jxl),
            Format::Jpeg => Self::Exactly(Encoding::Jpeg),
            Format::Png => Self::Exactly(Encoding::Png),
            Format::Gif => Self::Exactly(Encoding::Gif),
            Format::Json => Self::Exactly(Encoding::Json),
            Format::Blurhash => Self::Exactly(Encoding::Blurhash),
            Format::Thumbhash => Self::Exactly(Encoding::Thumbhash),
        };
        let refuse = |op, reason| Err(ImagingError::NotApplicable { op, reason });
        match output {
            _ if transform.moment().is_some() => refuse("t", "it picks the frame of a video"),
            Self::Exactly(encoding) if transform.is_lossless() && !encoding.has_lossless() => {
                refuse("lossless", "only webp, jxl and png can be without loss")
            }
            Self::Exactly(encoding) if transform.max_bytes().is_some() && !encoding.has_quality() => {
                refuse("max-bytes", "only jpeg, webp, avif and jxl have a quality that can be lowered")
            }
            _ if transform.max_bytes().is_some() && transform.is_lossless() => {
                refuse("max-bytes", "without loss there is no quality that can be lowered; leave one of the two out")
            }
            output => Ok(output),
        }
    }

    /// Whether it shows an animation as one, if the source is one.
    pub(crate) fn has_frames(self) -> bool {
        match self {
            Self::Exactly(encoding) => encoding.has_frames(),
            Self::Best(_) => true,
        }
    }

    /// The encoding for a picture like `result`.
    ///
    /// # Errors
    /// [`ImagingError::UnsupportedFormat`] if the named one cannot be written here.
    pub(crate) fn choose(self, result: &Wanted, can: &Capabilities) -> Result<Encoding, ImagingError> {
        let class = match self {
            Self::Exactly(encoding) => {
                return match can.cannot_write.get(&encoding) {
                    Some(reason) => {
                        Err(ImagingError::UnsupportedFormat { action: "written", format: encoding.name(), reason })
                    }
                    None => Ok(encoding),
                };
            }
            Self::Best(class) => class,
        };
        let avif = class == Class::Avif
            && !result.animated
            && !result.lossless
            && result.size.pixels() <= AVIF_AUTO_PIXELS_MAX;
        let webp = class != Class::Legacy;
        let order = [
            (avif, Encoding::Avif),
            (webp, Encoding::Webp),
            (result.animated && !result.has_quality && !result.lossless, Encoding::Gif),
            (result.alpha && !result.has_quality || result.lossless, Encoding::Png),
        ];
        let best = order.into_iter().find(|(wanted, encoding)| *wanted && can.writes.contains(encoding));
        Ok(best.map_or(Encoding::Jpeg, |(_, encoding)| encoding))
    }
}

/// What decides on the best encoding, beside the client.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted {
    /// Size of the result.
    pub(crate) size: Size,
    /// Whether it may be transparent.
    pub(crate) alpha: bool,
    /// Whether it moves.
    pub(crate) animated: bool,
    /// Whether nothing may be lost.
    pub(crate) lossless: bool,
    /// Whether the encoding must have a quality that can be lowered.
    pub(crate) has_quality: bool,
}
