//! Where something lies on a picture: gravity, rectangles, overlays.

use std::fmt::{self, Display};

use super::number::parse_digits;
use super::{Compass, Decimal, Name, OpValue};
use crate::ValueError;

/// Largest coordinate of a rectangle or offset, in pixels.
const COORDINATE_MAX: u32 = 65_535;

/// Which part of the picture stays when some of it is cut off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Gravity {
    /// An edge, a corner or the middle.
    Compass(Compass),
    /// This point stays as near to the middle as it can; fractions 0..=1 from the top left.
    Focal {
        /// From the left.
        x: Decimal,
        /// From the top.
        y: Decimal,
    },
    /// What draws the eye (libvips "attention").
    Auto,
    /// The part with most detail.
    Entropy,
}

impl Gravity {
    /// The middle.
    pub const CENTER: Self = Self::Compass(Compass::Center);
}

impl OpValue for Gravity {
    fn parse(text: &str) -> Result<Self, ValueError> {
        match text {
            "auto" => return Ok(Self::Auto),
            "entropy" => return Ok(Self::Entropy),
            _ => {}
        }
        match text.split_once('x') {
            Some((x, y)) => Ok(Self::Focal { x: fraction(x)?, y: fraction(y)? }),
            None => Compass::parse(text).map(Self::Compass),
        }
    }

    fn allowed() -> String {
        format!(
            "auto, entropy, a point like 0.3x0.7 (fractions from the top left), {}, or top, right, bottom, left",
            Compass::allowed()
        )
    }

    fn choices() -> &'static [&'static str] {
        &[
            "auto",
            "entropy",
            "center",
            "north",
            "north-east",
            "east",
            "south-east",
            "south",
            "south-west",
            "west",
            "north-west",
        ]
    }
}

fn fraction(text: &str) -> Result<Decimal, ValueError> {
    Decimal::parse_text(text).ok().filter(|number| *number <= Decimal::ONE).ok_or(ValueError)
}

impl Display for Gravity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Compass(compass) => compass.fmt(f),
            Self::Focal { x, y } => write!(f, "{x}x{y}"),
            Self::Auto => f.write_str("auto"),
            Self::Entropy => f.write_str("entropy"),
        }
    }
}

/// The part of the oriented original that is used, before any resize.
///
/// The four numbers are pixels when all are whole; when one has a fraction they are all fractions of the
/// picture's size, and 1 is the whole side.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "x and y from the top left, width and height")]
pub enum Rect {
    /// In pixels; width and height at least 1.
    Pixels { x: u32, y: u32, w: u32, h: u32 },
    /// In fractions of the size, each 0..=1; width and height above 0.
    Fractions { x: Decimal, y: Decimal, w: Decimal, h: Decimal },
}

impl OpValue for Rect {
    fn parse(text: &str) -> Result<Self, ValueError> {
        let parts: Vec<&str> = text.split(';').collect();
        let [x, y, w, h] = parts[..] else { return Err(ValueError) };
        let rect = if [x, y, w, h].iter().all(|part| !part.contains('.')) {
            let side = |text| parse_digits(text).ok().filter(|n| *n <= COORDINATE_MAX).ok_or(ValueError);
            Self::Pixels { x: side(x)?, y: side(y)?, w: side(w)?, h: side(h)? }
        } else {
            Self::Fractions { x: fraction(x)?, y: fraction(y)?, w: fraction(w)?, h: fraction(h)? }
        };
        match rect {
            Self::Pixels { w: 0, .. } | Self::Pixels { h: 0, .. } => Err(ValueError),
            Self::Fractions { x, y, w, h } if [x, y, w, h].iter().all(|n| n.is_whole()) => Err(ValueError),
            Self::Fractions { w: Decimal::ZERO, .. } | Self::Fractions { h: Decimal::ZERO, .. } => Err(ValueError),
            rect => Ok(rect),
        }
    }

    fn allowed() -> String {
        "x;y;w;h in whole pixels, or all as fractions when one of them has a decimal point (0.5;0;0.5;1 is the right half)".to_owned()
    }
}

impl Display for Rect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pixels { x, y, w, h } => write!(f, "{x};{y};{w};{h}"),
            Self::Fractions { x, y, w, h } => write!(f, "{x};{y};{w};{h}"),
        }
    }
}

/// Where an overlay lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum OverlayPlace {
    /// Once, at a point of the compass.
    At(Compass),
    /// Repeated over the whole picture.
    Tile,
}

/// A registered image laid over the picture.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Overlay {
    /// Its registered name.
    pub name: Name,
    /// Where it lies.
    pub place: OverlayPlace,
    /// Distance from the place's vertical edge, in pixels.
    pub x: u32,
    /// Distance from the place's horizontal edge, in pixels.
    pub y: u32,
    /// Its width as a fraction of the result's; 0 keeps its own size.
    pub scale: Decimal,
    /// 0 invisible to 1 opaque.
    pub opacity: Decimal,
}

impl OpValue for Overlay {
    fn parse(text: &str) -> Result<Self, ValueError> {
        let mut parts = text.split(';');
        let name = Name::parse(parts.next().unwrap_or_default())?;
        let mut next = || parts.next().filter(|part| !part.is_empty());
        let offset = |text| parse_digits(text).ok().filter(|n| *n <= COORDINATE_MAX).ok_or(ValueError);
        let place = match next() {
            None => OverlayPlace::At(Compass::Center),
            Some("tile") => OverlayPlace::Tile,
            Some(compass) => OverlayPlace::At(Compass::parse(compass)?),
        };
        let overlay = Self {
            name,
            place,
            x: next().map_or(Ok(0), offset)?,
            y: next().map_or(Ok(0), offset)?,
            scale: next().map_or(Ok(Decimal::ZERO), fraction)?,
            opacity: next().map_or(Ok(Decimal::ONE), fraction)?,
        };
        if parts.next().is_some() { Err(ValueError) } else { Ok(overlay) }
    }

    fn allowed() -> String {
        "name;place;x;y;scale;opacity, all but the name optional: place a compass point or tile, x and y in pixels, scale 0 to 1 of the width, opacity 0 to 1".to_owned()
    }
}

/// All six parts, so that omitted and spelled-out defaults are the same text.
impl Display for Overlay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = match self.place {
            OverlayPlace::At(compass) => compass.word(),
            OverlayPlace::Tile => "tile",
        };
        write!(f, "{};{place};{};{};{};{}", self.name, self.x, self.y, self.scale, self.opacity)
    }
}

impl Overlay {
    /// The overlay for a picture of `factor` times the pixels: offsets grow with it.
    pub(crate) fn scaled(self, factor: Decimal) -> Result<Self, ValueError> {
        let offset = |n: u32| super::Integer::<0, COORDINATE_MAX>::new(n)?.scaled(factor).map(super::Integer::get);
        Ok(Self { x: offset(self.x)?, y: offset(self.y)?, ..self })
    }
}
