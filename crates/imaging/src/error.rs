//! Owns the ways a probe or a render fails.
//!
//! One variant for each answer a client can act on; the library's own words are only ever a source, for the log.

use crate::geometry::{GeometryError, Size};
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
    #[error("{format} cannot be {action}: {reason}")]
    UnsupportedFormat {
        /// `read` or `written`.
        action: &'static str,
        /// The format's name.
        format: &'static str,
        /// Why not.
        reason: &'static str,
    },
    /// An op that means nothing for this source or for the asked format.
    #[error("op {op:?} cannot be applied: {reason}")]
    NotApplicable {
        /// The full name of the op.
        op: &'static str,
        /// Why not, and what to do instead.
        reason: &'static str,
    },
    /// The source has no page or frame of this number.
    #[error("op \"page\" asks for {page}, but the source has {pages} from 0 on")]
    NoSuchPage {
        /// The number asked for.
        page: u32,
        /// How many there are.
        pages: u32,
    },
    /// Not even the lowest quality is small enough.
    #[error("op \"max-bytes\" asks for {limit}, but the lowest quality still has {bytes} bytes")]
    BytesOutOfReach {
        /// What was asked for.
        limit: usize,
        /// The smallest that could be made.
        bytes: usize,
    },
    /// The animation that was asked for is too large.
    #[error("the result would have {size} pixels in {frames} frames, more than {limit_megapixels} megapixels")]
    AnimationTooLarge {
        /// Size of a frame.
        size: Size,
        /// How many.
        frames: u32,
        /// The limit over all frames, in millions.
        limit_megapixels: u32,
    },
    /// The overlay's image cannot be used.
    #[error("the overlay's image cannot be used: {0}")]
    Overlay(#[source] Box<ImagingError>),
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
    /// An SVG with something in it that is not drawn for strangers.
    #[error("the source is an SVG that {reason}")]
    SvgRefused {
        /// What it has or does.
        reason: &'static str,
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
            | Self::TooManyFrames { .. }
            | Self::SvgRefused { .. } => true,
            Self::UnsupportedFormat { .. }
            | Self::NotApplicable { .. }
            | Self::NoSuchPage { .. }
            | Self::BytesOutOfReach { .. }
            | Self::AnimationTooLarge { .. }
            | Self::Overlay(_)
            | Self::Geometry(_)
            | Self::DeadlineExceeded
            | Self::Library(_) => false,
        }
    }
}
