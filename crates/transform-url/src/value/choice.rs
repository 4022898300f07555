//! Values that are one of a few words.
//!
//! Must not hold any meaning beyond the words: what they do is in the pipeline.

use std::fmt::{self, Display};

use super::number::parse_digits;
use super::{NumberRange, OpValue};
use crate::ValueError;

/// Defines an enum with one canonical word for each variant, further accepted words, and its [`OpValue`].
macro_rules! choice {
    ($(#[$doc:meta])* $type:ident { $( $(#[$variant_doc:meta])* $variant:ident = $word:literal $(| $also:literal)* ),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum $type { $( $(#[$variant_doc])* $variant ),+ }

        impl $type {
            /// Every variant, in the order of the documentation.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The canonical word.
            pub fn word(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }
        }

        impl OpValue for $type {
            fn parse(text: &str) -> Result<Self, ValueError> {
                match text {
                    $($word $(| $also)* => Ok(Self::$variant),)+
                    _ => Err(ValueError),
                }
            }

            fn allowed() -> String {
                Self::choices().join(", ")
            }

            fn choices() -> &'static [&'static str] {
                &[$($word),+]
            }
        }

        impl Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.word())
            }
        }
    };
}

choice! {
    /// How a picture fills the asked width and height.
    Fit {
        /// Inside the box, never enlarged.
        ScaleDown = "scale-down",
        /// Inside the box, enlarged if smaller.
        Contain = "contain",
        /// Covers the box exactly, the rest cut off; enlarged if smaller.
        Cover = "cover",
        /// Covers the box, the rest cut off; never enlarged.
        Crop = "crop",
        /// Inside the box, the rest of it filled with the background.
        Pad = "pad",
        /// Exactly the box, without keeping the aspect ratio.
        Squeeze = "squeeze",
        /// Inside the box, only ever enlarged.
        ScaleUp = "scale-up",
    }
}

choice! {
    /// Mirroring, before the rotation.
    Flip {
        /// Left and right change places.
        Horizontal = "h",
        /// Top and bottom change places.
        Vertical = "v",
        /// Both.
        Both = "hv" | "vh",
    }
}

choice! {
    /// The output format, or the information wanted instead of a picture.
    Format {
        /// The best one the client accepts.
        Auto = "auto",
        /// AVIF.
        Avif = "avif",
        /// WebP.
        Webp = "webp",
        /// JPEG XL.
        Jxl = "jxl",
        /// JPEG.
        Jpeg = "jpeg" | "jpg",
        /// PNG.
        Png = "png",
        /// GIF.
        Gif = "gif",
        /// Facts about the picture, as JSON.
        Json = "json",
        /// The BlurHash text.
        Blurhash = "blurhash",
        /// The ThumbHash, base64.
        Thumbhash = "thumbhash",
    }
}

choice! {
    /// A colour filter.
    Filter {
        /// Luma only.
        Grayscale = "grayscale" | "greyscale",
        /// Old photo brown.
        Sepia = "sepia",
        /// Every channel but alpha inverted.
        Invert = "invert",
    }
}

choice! {
    /// Which metadata of the original the rendition keeps.
    Metadata {
        /// None.
        None = "none",
        /// Copyright and artist.
        Copyright = "copyright",
        /// Everything.
        Keep = "keep",
    }
}

choice! {
    /// On or off.
    Switch {
        /// On.
        True = "true",
        /// Off.
        False = "false",
    }
}

choice! {
    /// A point of the compass on the picture.
    Compass {
        /// The middle.
        Center = "center" | "centre",
        /// Top edge.
        North = "north" | "top",
        /// Top right corner.
        NorthEast = "north-east" | "top-right",
        /// Right edge.
        East = "east" | "right",
        /// Bottom right corner.
        SouthEast = "south-east" | "bottom-right",
        /// Bottom edge.
        South = "south" | "bottom",
        /// Bottom left corner.
        SouthWest = "south-west" | "bottom-left",
        /// Left edge.
        West = "west" | "left",
        /// Top left corner.
        NorthWest = "north-west" | "top-left",
    }
}

/// The encoder's quality.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Quality {
    /// 1..=100, on the encoder's own scale when the format is named, else on JPEG's.
    Exact(u8),
    /// Visibly compressed, smallest.
    Low,
    /// Between low and medium-high.
    MediumLow,
    /// About the default.
    MediumHigh,
    /// Hard to tell from the original.
    High,
}

impl OpValue for Quality {
    fn parse(text: &str) -> Result<Self, ValueError> {
        match text {
            "low" => Ok(Self::Low),
            "medium-low" => Ok(Self::MediumLow),
            "medium-high" => Ok(Self::MediumHigh),
            "high" => Ok(Self::High),
            _ => match u8::try_from(parse_digits(text)?) {
                Ok(number @ 1..=100) => Ok(Self::Exact(number)),
                _ => Err(ValueError),
            },
        }
    }

    fn allowed() -> String {
        format!("a whole number from 1 to 100, or {}", Self::choices().join(", "))
    }

    fn choices() -> &'static [&'static str] {
        &["low", "medium-low", "medium-high", "high"]
    }

    fn range() -> Option<NumberRange> {
        Some(NumberRange::whole(1, 100))
    }
}

impl Display for Quality {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(number) => number.fmt(f),
            Self::Low => f.write_str("low"),
            Self::MediumLow => f.write_str("medium-low"),
            Self::MediumHigh => f.write_str("medium-high"),
            Self::High => f.write_str("high"),
        }
    }
}
