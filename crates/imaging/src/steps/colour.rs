//! Brings colours to sRGB: before the resize what cannot be averaged, after it what can, when there is little left.

use std::ffi::CStr;

use crate::vips::{BandFormat, Image, Interpretation, Operation, VipsError};

/// The intent whose table every profile made of tables has (ICC.1:2022 §8.4); for the others intents are alike.
const INTENT: &CStr = c"perceptual";

/// How a source's colours become sRGB, decided from its header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ColourPath {
    /// They are 8-bit sRGB or grey.
    Keep,
    /// Deeper or wider numbers that mean sRGB or grey: narrowed after the resize.
    Narrow,
    /// An RGB profile: transformed after the resize.
    Rgb,
    /// A grey profile: transformed after the resize, and grey again.
    Grey,
    /// Inks with a profile: transformed before the resize.
    Inks,
    /// Inks without a profile: as the library's built-in profile, before the resize.
    PlainInks,
    /// Another space: converted before the resize.
    Convert,
}

/// The path for a source with this header.
pub(crate) fn path(header: &Image) -> ColourPath {
    let profile = header.icc_profile().and_then(Profile::read);
    match (header.interpretation(), profile) {
        (Interpretation::Cmyk, Some(profile)) if profile.space == *b"CMYK" => ColourPath::Inks,
        (Interpretation::Cmyk, _) => ColourPath::PlainInks,
        (Interpretation::Srgb, Some(profile)) if profile.is_srgb && is_8_bit(header) => ColourPath::Keep,
        (Interpretation::Srgb | Interpretation::Rgb16, Some(profile))
            if profile.space == *b"RGB " && !profile.is_srgb =>
        {
            ColourPath::Rgb
        }
        (Interpretation::Grey | Interpretation::Grey16, Some(profile)) if profile.space == *b"GRAY" => ColourPath::Grey,
        (Interpretation::Srgb | Interpretation::Grey, _) if is_8_bit(header) => ColourPath::Keep,
        (Interpretation::Srgb | Interpretation::Grey | Interpretation::Rgb16 | Interpretation::Grey16, _) => {
            ColourPath::Narrow
        }
        (Interpretation::ScRgb | Interpretation::Lab | Interpretation::Other, _) => ColourPath::Convert,
    }
}

/// The part that comes before the resize.
pub(crate) fn before_resize(image: Image, path: ColourPath) -> Result<Image, VipsError> {
    match path {
        ColourPath::Inks => with_profile(&image).or_else(|_| plain_inks(&image)),
        ColourPath::PlainInks => plain_inks(&image),
        ColourPath::Convert => to_space(&image, c"srgb"),
        ColourPath::Keep | ColourPath::Narrow | ColourPath::Rgb | ColourPath::Grey => Ok(image),
    }
}

/// The part that comes after the resize.
///
/// A profile the library cannot use is left out, as browsers do: a picture in slightly wrong colours beats none.
pub(crate) fn after_resize(image: Image, path: ColourPath) -> Result<Image, VipsError> {
    match path {
        ColourPath::Rgb => with_profile(&image).or_else(|_| narrow(image)),
        ColourPath::Grey => import(&image).and_then(|lab| to_space(&lab, c"b-w")).or_else(|_| narrow(image)),
        ColourPath::Narrow => narrow(image),
        ColourPath::Keep | ColourPath::Inks | ColourPath::PlainInks | ColourPath::Convert => Ok(image),
    }
}

/// The embedded profile → 8-bit sRGB.
fn with_profile(image: &Image) -> Result<Image, VipsError> {
    to_8_bit_srgb(image)?.flag(c"embedded", true)?.run()
}

fn plain_inks(image: &Image) -> Result<Image, VipsError> {
    to_8_bit_srgb(image)?.text(c"input-profile", c"cmyk")?.run()
}

fn to_8_bit_srgb(image: &Image) -> Result<Operation, VipsError> {
    Operation::new(c"icc_transform")?
        .image(c"in", image)?
        .text(c"output-profile", c"srgb")?
        .text(c"intent", INTENT)?
        .int(c"depth", 8)
}

/// The embedded profile → Lab.
fn import(image: &Image) -> Result<Image, VipsError> {
    Operation::new(c"icc_import")?.image(c"in", image)?.flag(c"embedded", true)?.text(c"intent", INTENT)?.run()
}

fn narrow(image: Image) -> Result<Image, VipsError> {
    match image.interpretation() {
        _ if is_8_bit(&image) => Ok(image),
        Interpretation::Grey | Interpretation::Grey16 => to_space(&image, c"b-w"),
        _ => to_space(&image, c"srgb"),
    }
}

fn to_space(image: &Image, space: &'static CStr) -> Result<Image, VipsError> {
    Operation::new(c"colourspace")?.image(c"in", image)?.text(c"space", space)?.run()
}

fn is_8_bit(image: &Image) -> bool {
    image.band_format() == BandFormat::U8
}

/// What decides the path, out of a profile's header (ICC.1:2022 §7.2).
struct Profile {
    /// The data colour space, bytes 16..20.
    space: [u8; 4],
    /// Whether it is the sRGB profile that most cameras and editors embed, by the maker and model in its header: such a
    /// picture needs no transform.
    is_srgb: bool,
}

impl Profile {
    fn read(bytes: &[u8]) -> Option<Self> {
        if bytes.get(36..40) != Some(b"acsp") {
            return None;
        }
        let space = bytes.get(16..20)?.try_into().ok()?;
        let is_srgb = bytes.get(48..56) == Some(b"IEC sRGB");
        Some(Self { space, is_srgb })
    }
}
