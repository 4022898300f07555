//! CSS colours (CSS Color Module Level 4: hex, names, `rgb()`, `hsl()` and the like).

use std::fmt::{self, Display};

use super::OpValue;
use crate::ValueError;

/// Longest colour text read, in bytes.
const TEXT_BYTES_MAX: usize = 64;

/// An sRGB colour with alpha, 8 bits a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Color {
    /// Red.
    pub r: u8,
    /// Green.
    pub g: u8,
    /// Blue.
    pub b: u8,
    /// Opacity, 255 = opaque.
    pub a: u8,
}

impl Color {
    /// True when nothing shines through.
    pub fn is_opaque(self) -> bool {
        self.a == u8::MAX
    }
}

impl OpValue for Color {
    fn parse(text: &str) -> Result<Self, ValueError> {
        if text.len() > TEXT_BYTES_MAX {
            return Err(ValueError);
        }
        let [r, g, b, a] = csscolorparser::parse(text).map_err(|_| ValueError)?.to_rgba8();
        Ok(Self { r, g, b, a })
    }

    fn allowed() -> String {
        "a CSS colour: a name, hex digits (# as %23 or left out), rgb() or hsl() with commas as %2C".to_owned()
    }
}

/// Always `rrggbbaa`.
impl Display for Color {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02x}{:02x}{:02x}{:02x}", self.r, self.g, self.b, self.a)
    }
}
