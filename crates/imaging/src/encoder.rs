//! Owns every encoder setting, each with its reason, and the search for a quality that is small enough.
//!
//! Must not touch pixels: what arrives is 8-bit sRGB or grey, with alpha only if the encoding holds it. The numbers in the
//! reasons are in `loadtests/results/ENCODERS.md`.

use transform_url::Transform;
use transform_url::value::Metadata;

use crate::effort::Effort;
use crate::encoding::Encoding;
use crate::engine::Engine;
use crate::error::ImagingError;
use crate::jpeg;
use crate::metadata::reduced;
use crate::output::Output;
use crate::quality::{Colours, EncoderDefaults, quality, small_webp};
use crate::vips::{Image, Operation, Version, VipsError, Watch};
use crate::webp_container::without_metadata;

/// Part of every cache key. To be raised whenever the same source and transform give other bytes than before: a changed
/// setting below, a changed step, a changed rounding.
pub const ENCODER_VERSION: u32 = 4;

/// Since this version one option says which metadata is kept; the older one is deprecated.
const KEEP_SINCE: Version = Version { major: 8, minor: 15, micro: 0 };

/// Most encodes of one picture in search of a quality that is small enough.
pub(crate) const ENCODES_MAX: u32 = 5;

/// Least quality of JPEG XL: what libvips 8.14 makes of a lower one is out of libjxl's range, which then takes its own default
/// and gives a large, good picture.
const JXL_QUALITY_MIN: i32 = 5;

/// How one picture is written.
pub(crate) struct Encoder<'a> {
    encoding: Encoding,
    quality: u8,
    lossless: bool,
    metadata: Metadata,
    effort: Effort,
    has_keep: bool,
    watch: Option<&'a Watch>,
}

impl<'a> Encoder<'a> {
    /// What `transform` says about writing `encoding`.
    pub(crate) fn new(
        engine: &Engine,
        encoding: Encoding,
        output: Output,
        transform: &Transform,
        defaults: &EncoderDefaults,
        watch: Option<&'a Watch>,
    ) -> Self {
        Self {
            encoding,
            quality: quality(transform.quality(), encoding, output, defaults),
            lossless: transform.is_lossless(),
            metadata: transform.metadata(),
            effort: defaults.effort,
            has_keep: engine.version() >= KEEP_SINCE,
            watch,
        }
    }

    /// Encodes `image` in at most `limit` bytes, if there is a limit. Computes every pixel.
    ///
    /// # Errors
    /// [`ImagingError::BytesOutOfReach`] if not even the lowest quality is small enough, [`ImagingError::Library`] if the
    /// encoder or the source fails.
    pub(crate) fn encode_within(&self, image: &Image, limit: Option<usize>) -> Result<Vec<u8>, ImagingError> {
        let Some(limit) = limit else { return self.encode(image, self.quality).map_err(ImagingError::Library) };
        // Pixels are made once, and encoded up to five times.
        let image = image.to_memory().map_err(ImagingError::Library)?;
        let encode = |quality| self.encode(&image, quality).map_err(ImagingError::Library);
        let first = encode(self.quality)?;
        if first.len() <= limit {
            return Ok(first);
        }
        // `fits` is the best that is known to fit, `above` the least that is known not to.
        let (mut above, mut fits): (u8, Option<(u8, Vec<u8>)>) = (self.quality, None);
        let mut smallest = first.len();
        for tried in 1..ENCODES_MAX {
            let floor = fits.as_ref().map_or(0, |(quality, _)| *quality);
            // The last try is the lowest quality, if nothing else was small enough.
            let next = if fits.is_none() && tried + 1 == ENCODES_MAX { 1 } else { floor.midpoint(above).max(1) };
            if next == floor || next >= above {
                break;
            }
            let body = encode(next)?;
            smallest = smallest.min(body.len());
            if body.len() <= limit {
                fits = Some((next, body));
            } else {
                above = next;
            }
        }
        fits.map(|(_, body)| body).ok_or(ImagingError::BytesOutOfReach { limit, bytes: smallest })
    }

    fn encode(&self, image: &Image, quality: u8) -> Result<Vec<u8>, VipsError> {
        if self.encoding != Encoding::Webp || self.effort != Effort::Small {
            return self.encode_with(image, quality, Colours::Averaged);
        }
        // Which of the two is smaller differs from picture to picture. Pixels are made once.
        let image = image.to_memory()?;
        let averaged = self.encode_with(&image, quality, Colours::Averaged)?;
        let sharp = self.encode_with(&image, quality, Colours::Sharp)?;
        Ok(if sharp.len() < averaged.len() { sharp } else { averaged })
    }

    fn encode_with(&self, image: &Image, quality: u8, colours: Colours) -> Result<Vec<u8>, VipsError> {
        let Some(saver) = self.encoding.saver_name() else { return Ok(Vec::new()) };
        let is_animation = self.encoding.has_frames() && image.pages() > 1;
        let image = reduced(image, self.metadata, is_animation)?;
        if self.encoding == Encoding::Jpeg {
            // Beside libjpeg with fitted codes: 6 to 15 % smaller, in three quarters of the time. In several passes it would
            // be 2 % smaller still, for twice the time.
            return jpeg::save(&image, quality, self.metadata, self.watch);
        }
        let save = Operation::new(saver)?.image(c"in", &image)?;
        // The fields have been reduced already. Telling the saver as well is not enough for WebP, see `webp_container`.
        let save = match (self.metadata, self.has_keep) {
            (Metadata::None, true) => save.text(c"keep", c"none")?,
            (Metadata::None, false) => save.flag(c"strip", true)?,
            (Metadata::Copyright | Metadata::Keep, _) => save,
        };
        let body = self.set(save, (quality, colours), (is_animation, image.has_alpha()))?.run_to_buffer()?;
        if self.encoding != Encoding::Webp || self.metadata != Metadata::None {
            return Ok(body);
        }
        without_metadata(&body).ok_or_else(|| VipsError::new("webpsave", "the encoder wrote a malformed file"))
    }

    /// The settings. CPU times are of one megapixel of a photograph, bytes are at equal SSIMULACRA2.
    fn set(
        &self,
        save: Operation,
        (quality, colours): (u8, Colours),
        (is_animation, has_alpha): (bool, bool),
    ) -> Result<Operation, VipsError> {
        let q = i32::from(quality);
        Ok(match self.encoding {
            // Lower efforts save little time, higher ones find nothing more.
            Encoding::Webp if self.lossless => save.flag(c"lossless", true)?.int(c"effort", 4)?,
            Encoding::Webp => {
                // 93 ms. 2 takes half of that and is 2 to 10 % larger; 6 takes almost three times as long for 2 %, and with
                // transparency 28 times for 5 %. Smart subsampling takes half as long again for 6 %.
                let save = match self.effort {
                    Effort::Fast => save.int(c"Q", q)?.int(c"effort", 2)?,
                    Effort::Normal => save.int(c"Q", q)?.int(c"effort", 4)?,
                    Effort::Small => {
                        let save = save.int(c"Q", i32::from(small_webp(quality, colours)))?;
                        let save = save.int(c"effort", if has_alpha { 4 } else { 6 })?;
                        if colours == Colours::Sharp { save.flag(c"smart-subsample", true)? } else { save }
                    }
                };
                // 3 % smaller on photographs and 2 % larger on drawings, for nothing: it smooths block edges less. Moving
                // pictures are 3 to 10 % larger with it.
                if is_animation { save } else { save.text(c"preset", c"photo")? }
            }
            Encoding::Avif => save
                .text(c"compression", c"av1")?
                .int(c"Q", q)?
                // 10 and 12 bit, which deep sources would get, are slower everywhere and shown by fewer.
                .int(c"bitdepth", 8)?
                // The encoder's speed 8: 230 ms. 9 takes a third of that and is 25 to 57 % larger; 7 takes half as long
                // again for 1 to 7 %, 6 twice as long for 11 to 14 %: too long for who waits.
                .int(c"effort", 1)?,
            Encoding::Jxl if self.lossless => save.flag(c"lossless", true)?.int(c"effort", 3)?,
            // 136 ms, less than AVIF. 3 takes a quarter of that and is 7 to 18 % larger; 7 takes half as long again for 5 % on
            // drawings alone.
            Encoding::Jxl => save.int(c"Q", q.max(JXL_QUALITY_MIN))?.int(c"effort", 5)?,
            // 137 ms. 6 takes more than twice as long for 2 to 4 %, 3 saves a quarter and is 5 to 7 % larger. A filter chosen for
            // each row is never far from the best one.
            Encoding::Png => save.int(c"compression", 4)?.text(c"filter", c"all")?,
            // Half the dithering is 4 to 5 % smaller than all of it, moving drawings 13 %, and scores no worse; without any, areas
            // turn into bands. 5 and more take two to four times as long, for up to 7 %.
            Encoding::Gif => save.int(c"effort", 3)?.double(c"dither", 0.5)?,
            // What is not written by libvips.
            Encoding::Jpeg | Encoding::Json | Encoding::Blurhash | Encoding::Thumbhash => save,
        })
    }
}
