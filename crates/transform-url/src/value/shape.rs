//! What is cut from or drawn around the edge: trim, radius, border.

use std::fmt::{self, Display};

use super::number::parse_digits;
use super::{Color, Decimal, Integer, NumberRange, OpValue};
use crate::ValueError;

/// A length at the edge, 1..=8192 px.
type Length = Integer<1, 8192>;

/// What is cut away around the picture, before the resize.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the four sides")]
pub enum Trim {
    /// A border of one colour, found with this tolerance.
    Border {
        /// How far a pixel may be from the border's colour, 0..=255.
        tolerance: u8,
    },
    /// So many pixels of each side, 0..=65535.
    Sides { top: u32, right: u32, bottom: u32, left: u32 },
}

impl OpValue for Trim {
    fn parse(text: &str) -> Result<Self, ValueError> {
        let parts: Vec<&str> = text.split(';').collect();
        let side = |text| Integer::<0, 65_535>::parse(text).map(Integer::get);
        match parts[..] {
            [tolerance] => {
                let tolerance = u8::try_from(parse_digits(tolerance)?).map_err(|_| ValueError)?;
                Ok(Self::Border { tolerance })
            }
            [top, right, bottom, left] => {
                Ok(Self::Sides { top: side(top)?, right: side(right)?, bottom: side(bottom)?, left: side(left)? })
            }
            _ => Err(ValueError),
        }
    }

    fn allowed() -> String {
        "a tolerance from 0 to 255, or top;right;bottom;left in whole pixels".to_owned()
    }
}

impl Display for Trim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Border { tolerance } => tolerance.fmt(f),
            Self::Sides { top, right, bottom, left } => write!(f, "{top};{right};{bottom};{left}"),
        }
    }
}

/// How round the corners are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Radius {
    /// In pixels of the result, 1..=8192.
    Pixels(u32),
    /// As round as the picture allows: a circle or a pill.
    Max,
}

impl Radius {
    pub(crate) fn scaled(self, factor: Decimal) -> Result<Self, ValueError> {
        match self {
            Self::Pixels(px) => Length::new(px)?.scaled(factor).map(|px| Self::Pixels(px.get())),
            Self::Max => Ok(Self::Max),
        }
    }
}

impl OpValue for Radius {
    fn parse(text: &str) -> Result<Self, ValueError> {
        if text == "max" { Ok(Self::Max) } else { Length::parse(text).map(|px| Self::Pixels(px.get())) }
    }

    fn allowed() -> String {
        format!("{} in pixels, or max", Length::allowed())
    }

    fn choices() -> &'static [&'static str] {
        &["max"]
    }

    fn range() -> Option<NumberRange> {
        Length::range()
    }
}

impl Display for Radius {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pixels(px) => px.fmt(f),
            Self::Max => f.write_str("max"),
        }
    }
}

/// A frame drawn inside the edge of the result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Border {
    /// Its thickness in pixels, 1..=8192.
    pub px: u32,
    /// Its colour.
    pub color: Color,
}

impl Border {
    pub(crate) fn scaled(self, factor: Decimal) -> Result<Self, ValueError> {
        Ok(Self { px: Length::new(self.px)?.scaled(factor)?.get(), ..self })
    }
}

impl OpValue for Border {
    fn parse(text: &str) -> Result<Self, ValueError> {
        let (px, color) = text.split_once(';').ok_or(ValueError)?;
        Ok(Self { px: Length::parse(px)?.get(), color: Color::parse(color)? })
    }

    fn allowed() -> String {
        format!("px;colour: {} and {}", Length::allowed(), Color::allowed())
    }
}

impl Display for Border {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{};{}", self.px, self.color)
    }
}
