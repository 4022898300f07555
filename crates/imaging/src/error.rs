//! Owns the ways a probe or a render fails.
//!
//! One variant for each answer a client can act on; the library's own words are only ever a source, for the log.

use crate::geometry::GeometryError;
use crate::support::UnsupportedOp;
use crate::vips::VipsError;

/// Why a picture could not be read or made.
#[derive(Debug, thiserror::Error)]
pub enum ImagingError {
    /// The source has no bytes.
    #[error("the source is empty")]
    Empty,
    /// The first bytes are no picture's.
    #[error("the source is not an image")]
    NotAnImage,
    /// A file type or encoding that is known and not supported.
    #[error("{format} {reason}")]
    UnsupportedFormat {
        /// The format's name.
        format: &'static str,
        /// Why not.
        reason: &'static str,
    },
    /// An op whose pixels are not made yet.
    #[error(transparent)]
    UnsupportedOp(#[from] UnsupportedOp),
    /// The source is cut off.
    #[error("the source ends before the picture does")]
    Truncated(#[source] VipsError),
    /// The source begins like a picture and cannot be decoded.
    #[error("the source is damaged")]
    Corrupt(#[source] VipsError),
    /// The source has too many bytes.
    #[error("the source has {bytes} bytes, more than {limit}")]
    SourceTooLarge {
        /// Its length.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// The header claims too many pixels.
    #[error("the source has {width}x{height} pixels in {frames} frames, more than {limit_megapixels} megapixels")]
    TooManyPixels {
        /// Claimed width in pixels.
        width: u32,
        /// Claimed height in pixels.
        height: u32,
        /// Claimed frames.
        frames: u32,
        /// The limit over all frames, in millions.
        limit_megapixels: u32,
    },
    /// The animation is too long.
    #[error("the source has {frames} frames, more than {limit}")]
    TooManyFrames {
        /// Its frames.
        frames: u32,
        /// The limit.
        limit: u32,
    },
    /// The transform cannot be applied to a picture of this size.
    #[error(transparent)]
    Geometry(#[from] GeometryError),
    /// The deadline passed.
    #[error("the deadline passed before the rendition was done")]
    DeadlineExceeded,
    /// libvips failed although the source decodes: out of memory, or a fault of this crate.
    #[error("the imaging library failed")]
    Library(#[source] VipsError),
}

impl ImagingError {
    /// Whether the source is at fault, and so will fail again however it is asked for.
    pub fn is_source_fault(&self) -> bool {
        match self {
            Self::Empty
            | Self::NotAnImage
            | Self::Truncated(_)
            | Self::Corrupt(_)
            | Self::SourceTooLarge { .. }
            | Self::TooManyPixels { .. }
            | Self::TooManyFrames { .. } => true,
            Self::UnsupportedFormat { .. }
            | Self::UnsupportedOp(_)
            | Self::Geometry(_)
            | Self::DeadlineExceeded
            | Self::Library(_) => false,
        }
    }
}
