//! The one table of ops: name, short name, type with its limits, default, documentation.
//!
//! The parser, the printer, [`Ops`] and the reference in the docs derive from it; an op is added by one
//! entry here. Must not hold behaviour: what an op does to pixels is in the pipeline.

use std::fmt::Display;

use crate::ValueError;
use crate::value::{
    Angle, Border, Bounded, Color, FileName, Filter, Fit, Flip, Format, Gravity, Integer, Metadata, Name, NumberRange,
    OpValue, Overlay, Quality, Radius, Rect, Switch, Trim, Version,
};

/// A side of the result, 1..=8192 px.
pub type Side = Integer<1, 8192>;
/// Device pixels per CSS pixel, 1..=4.
pub type Dpr = Bounded<10_000, 40_000>;
/// A factor 0..=10, 1 = unchanged.
pub type Factor = Bounded<0, 100_000>;
/// Standard deviation of a blur, 0.3..=250 px.
pub type BlurSigma = Bounded<3_000, 2_500_000>;
/// Standard deviation of a sharpening, 0.1..=10 px.
pub type SharpenSigma = Bounded<1_000, 100_000>;
/// A frame or page, from 0.
pub type Page = Integer<0, 9_999>;
/// A size limit of the answer, up to 100 MB.
pub type MaxBytes = Integer<1, 100_000_000>;
/// A block of pixels, 2..=512 px.
pub type Block = Integer<2, 512>;
/// A moment of a video, up to a day.
pub type Seconds = Bounded<0, 864_000_000>;

/// One row of the table.
pub struct OpSpec {
    /// The full name, as in the canonical form.
    pub name: &'static str,
    /// The short name, if it has one.
    pub short: Option<&'static str>,
    /// What the documentation says, in Markdown.
    pub doc: &'static str,
    /// The canonical text of the default; `None` when leaving the op out has no equivalent value.
    pub default: fn() -> Option<String>,
    /// The allowed values in words, with unit and range.
    pub allowed: fn() -> String,
    /// The words among the allowed values, in their canonical text.
    pub choices: fn() -> &'static [&'static str],
    /// The numbers among the allowed values.
    pub range: fn() -> Option<NumberRange>,
    pub(crate) set: fn(&mut Ops, &str) -> Result<(), ValueError>,
    pub(crate) get: fn(&Ops) -> Option<&dyn Display>,
}

/// The row of an op by its full or short name.
pub fn find(name: &str) -> Option<&'static OpSpec> {
    TABLE.iter().find(|spec| spec.name == name || spec.short == Some(name))
}

macro_rules! short_name {
    () => {
        None
    };
    ($short:literal) => {
        Some($short)
    };
}

/// Turns the entries below into the fields of [`Ops`] and the rows of [`TABLE`].
macro_rules! table {
    ($( $(#[doc = $doc:literal])+ $field:ident: $type:ty = $name:literal $(/ $short:literal)? $(, default $default:expr)?; )+) => {
        /// Every op, in the order of the documentation.
        pub static TABLE: &[OpSpec] = &[$(
            OpSpec {
                name: $name,
                short: short_name!($($short)?),
                doc: concat!($($doc, "\n"),+),
                default: || None::<String> $(.or_else(|| Some($default.to_string())))?,
                allowed: <$type as OpValue>::allowed,
                choices: <$type as OpValue>::choices,
                range: <$type as OpValue>::range,
                set: |ops, text| {
                    ops.$field = Some(<$type as OpValue>::parse(text)?);
                    Ok(())
                },
                get: |ops| ops.$field.as_ref().map(|value| value as &dyn Display),
            }
        ),+];

        /// The given ops; one field for each row of [`TABLE`].
        #[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
        pub struct Ops {
            $( $(#[doc = $doc])+ pub $field: Option<$type>, )+
        }

        impl Ops {
            /// These ops over `base`: what is given here wins.
            pub(crate) fn over(self, base: &Self) -> Self {
                Self { $( $field: self.$field.or_else(|| base.$field.clone()), )+ }
            }

            /// Drops every value that is the same as leaving the op out.
            pub(crate) fn drop_defaults(&mut self) {
                $( $( if self.$field == Some($default) { self.$field = None; } )? )+
            }
        }
    };
}

table! {
    /// Width of the result in pixels, before `dpr`. Left out: follows from the height and the aspect ratio.
    width: Side = "width" / "w";
    /// Height of the result in pixels, before `dpr`. Left out: follows from the width and the aspect ratio.
    height: Side = "height" / "h";
    /// How the picture fills `width` × `height`; see the table of sizes.
    fit: Fit = "fit", default Fit::ScaleDown;
    /// What stays when `fit` cuts something off, and where the picture lies in a padded box.
    gravity: Gravity = "gravity" / "g", default Gravity::CENTER;
    /// Device pixels per CSS pixel: multiplies `width`, `height`, `radius`, `border`, `blur`, `pixelate` and overlay offsets.
    dpr: Dpr = "dpr", default Dpr::ONE;
    /// Uses only this part of the picture, counted after EXIF orientation and before any resize.
    rect: Rect = "rect";
    /// Cuts a border away, after `rect` and before any resize: what is within the tolerance of the top left pixel, or so many pixels a side. A picture that is border all over stays as it is.
    trim: Trim = "trim";
    /// Turns clockwise, after EXIF orientation, the resize and `flip`; corners show the background.
    rotate: Angle = "rotate", default Angle::default();
    /// Mirrors, before `rotate`.
    flip: Flip = "flip";
    /// Colour under transparent pixels, of padding and of the corners of a rotation.
    background: Color = "background" / "bg";
    /// Gaussian blur with this standard deviation in pixels of the result, times `dpr`.
    blur: BlurSigma = "blur";
    /// Sharpens what is lighter or darker than its surroundings, which are a blur of this standard deviation in pixels of the result.
    sharpen: SharpenSigma = "sharpen";
    /// Multiplies each channel; 1 is unchanged, 0 is black.
    brightness: Factor = "brightness", default Factor::ONE;
    /// Multiplies the distance from middle grey, after `brightness`; 1 is unchanged, 0 is grey.
    contrast: Factor = "contrast", default Factor::ONE;
    /// Multiplies the colourfulness, after `gamma`; 1 is unchanged, 0 is grey.
    saturation: Factor = "saturation", default Factor::ONE;
    /// Raises each channel (0 to 1) to the power 1/gamma, after `contrast`; above 1 lightens, 1 is unchanged.
    gamma: Factor = "gamma", default Factor::ONE;
    /// A colour filter, after `saturation`: luma only, old photo brown, or every channel inverted.
    filter: Filter = "filter";
    /// Replaces blocks of this many pixels a side, times `dpr`, by their mean.
    pixelate: Block = "pixelate";
    /// Rounds the corners; more than half the shorter side is that half. What is cut off is transparent, or shows the background.
    radius: Radius = "radius";
    /// Draws a frame inside the edge, along the rounded corners of `radius`.
    border: Border = "border";
    /// Lays a registered image over the picture: once at a place, so many pixels away from its edges, or tiled with so many pixels between. What is larger than the picture is shrunk to fit.
    overlay: Overlay = "overlay" / "ol";
    /// A word that means about the same look in every format, or a number: on the encoder's own scale when the URL names the format, on JPEG's scale with `format=auto`.
    quality: Quality = "quality" / "q";
    /// The output format. `auto` picks what the client accepts; `json`, `blurhash` and `thumbhash` describe the picture instead.
    format: Format = "format" / "f", default Format::Auto;
    /// Encodes without loss: WebP, JPEG XL, PNG; with `format=auto` WebP or PNG. Refused for the other formats.
    lossless: Switch = "lossless", default Switch::False;
    /// Lowers the quality until the answer has at most so many bytes, in up to five tries; refused when not even the lowest gets there, and for formats without a quality.
    max_bytes: MaxBytes = "max-bytes";
    /// Keeps an animation moving where the format can; `false` gives its first frame.
    anim: Switch = "anim", default Switch::True;
    /// Uses this frame of an animation or page of a TIFF or HEIC only, counted from 0.
    page: Page = "page";
    /// Which metadata of the original is kept: nothing, artist and copyright, or all of EXIF, XMP and IPTC, position included. Orientation is always applied and profiles always converted.
    metadata: Metadata = "metadata", default Metadata::None;
    /// A registered set of ops that is expanded first; ops in the URL win over it.
    preset: Name = "preset" / "p";
    /// A registered image that is shown when the source is missing or broken; kept for ten seconds only.
    fallback: Name = "fallback";
    /// A version: any text. The answer is then marked as never changing.
    v: Version = "v";
    /// Sends the answer as a download under this file name.
    download: FileName = "download" / "dl";
    /// The moment of a video the frame is taken from, in seconds. Refused for pictures; videos are not read yet.
    t: Seconds = "t";
}
