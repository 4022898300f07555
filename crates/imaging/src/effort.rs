//! Owns how long an encoder may look for fewer bytes, and which renditions leave that open.
//!
//! Must not hold settings: `encoder` does.

use transform_url::Transform;

use crate::encoding::Encoding;

/// How long an encoder may look for fewer bytes. The look is the same for all: of photographs, the mean SSIMULACRA2 is within a
/// point, from quality 30 on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Effort {
    /// As short as makes sense: somebody waits, and [`Effort::Small`] may come later.
    Fast,
    /// What pays off when a picture is made once.
    #[default]
    Normal,
    /// Several times as long: nobody waits.
    Small,
}

impl Effort {
    /// The effort that a rendition is made with of `frames`, if this one is asked for.
    ///
    /// WebP with loss takes part. JPEG does not: whoever waits gets the smallest that we know, in 2 ms. AVIF does not: its fast
    /// settings are a quarter larger, and its slow ones start threads that cannot be interrupted. Of the others, longer efforts find next to nothing, and animations take too long
    /// to be made twice. Where a number of bytes is asked for, more effort would give a better picture, not a smaller one.
    pub(crate) fn of(self, encoding: Encoding, transform: &Transform, frames: u32) -> Self {
        let takes_part = match encoding {
            Encoding::Webp => !transform.is_lossless() && frames == 1,
            Encoding::Jpeg
            | Encoding::Avif
            | Encoding::Jxl
            | Encoding::Png
            | Encoding::Gif
            | Encoding::Json
            | Encoding::Blurhash
            | Encoding::Thumbhash => false,
        };
        if takes_part && transform.max_bytes().is_none() { self } else { Self::Normal }
    }
}
