//! Owns the answers that describe a picture: `f=json`, `f=blurhash`, `f=thumbhash`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use transform_url::Transform;

use crate::encoding::Encoding;
use crate::error::ImagingError;
use crate::geometry::Size;
use crate::palette::Palette;
use crate::probe::Header;
use crate::render::{Job, Rendered};
use crate::report::Report;
use crate::resample::Pixels;
use crate::steps::bands::{to_srgb, with_alpha};
use crate::steps::resize::resize;
use crate::vips::{Image, VipsError};

/// Longest side of the picture that is looked at when the URL names no size, in pixels.
const LOOKED_AT_PX: u32 = 256;
/// Longest side of what a description is computed from, in pixels; ThumbHash takes no more than 100.
const DESCRIBED_PX: u32 = 64;
/// Components of a BlurHash along the longer and the shorter side.
const BLURHASH_COMPONENTS: (u32, u32) = (4, 3);

impl Job<'_> {
    /// The description `encoding` of the picture that the ops make.
    ///
    /// Colours are those of the rendition. If the URL names no size, a small one is looked at instead of the whole picture.
    pub(crate) fn describe(&self, header: Header, encoding: Encoding) -> Result<Rendered, ImagingError> {
        let info = header.info.clone();
        let geometry = self.geometry(&header, self.transform)?;
        let looked_at = if self.has_size() { geometry } else { self.geometry(&header, &self.described())? };
        let picture = self.picture(header, looked_at, 1, true)?;
        let small = Small::new(picture).map_err(|error| self.explain(error))?;
        let text = match encoding {
            Encoding::Blurhash => small.blurhash(),
            Encoding::Thumbhash => STANDARD.encode(thumbhash::rgba_to_thumb_hash(
                small.size.width as usize,
                small.size.height as usize,
                &small.rgba,
            )),
            _ => {
                return Ok(Rendered::new(
                    Report::new(&info, geometry.output, &small.palette()).to_json(),
                    encoding,
                    geometry.output,
                ));
            }
        };
        Ok(Rendered::new(text.into_bytes(), encoding, geometry.output))
    }

    /// The transform of the picture that a description is made from.
    pub(crate) fn described(&self) -> Transform {
        if self.has_size() { self.transform.clone() } else { self.transform.within(LOOKED_AT_PX) }
    }

    fn has_size(&self) -> bool {
        self.transform.width().is_some() || self.transform.height().is_some()
    }
}

/// A picture of at most [`DESCRIBED_PX`] a side.
struct Small {
    size: Size,
    /// Red, green, blue and alpha of each pixel, row by row.
    rgba: Vec<u8>,
}

impl Small {
    fn new(picture: Image) -> Result<Self, VipsError> {
        let size = Size::new(picture.width(), picture.height()).within(DESCRIBED_PX);
        let picture = with_alpha(to_srgb(&picture)?)?.to_memory()?;
        let all = Pixels::all(Size::new(picture.width(), picture.height()));
        let rgba = resize(picture, (all, None), size, None)?.to_pixels()?;
        Ok(Self { size, rgba })
    }

    /// BlurHash knows no transparency: what is transparent is taken as white.
    fn blurhash(&self) -> String {
        let opaque: Vec<u8> = self
            .rgba
            .chunks_exact(4)
            .flat_map(|pixel| {
                let alpha = u16::from(pixel[3]);
                // At most 255, so the cast is exact.
                let over = |channel: u8| ((u16::from(channel) * alpha + 255 * (255 - alpha) + 127) / 255) as u8;
                [over(pixel[0]), over(pixel[1]), over(pixel[2]), 255]
            })
            .collect();
        let (longer, shorter) = BLURHASH_COMPONENTS;
        let (x, y) = if self.size.width >= self.size.height { (longer, shorter) } else { (shorter, longer) };
        blurhash::encode(x, y, self.size.width, self.size.height, &opaque)
            .expect("1 to 9 components and a buffer of that size")
    }

    fn palette(&self) -> Palette {
        Palette::of(&self.rgba)
    }
}
