//! One type for each kind of value an op takes; each knows its limits and its canonical text.
//!
//! Must not know which op uses it: defaults and documentation are in the table.

mod choice;
mod color;
mod number;
mod placement;
mod shape;
mod text;

use std::fmt::Display;

pub use choice::{Compass, Filter, Fit, Flip, Format, Metadata, Quality, Switch};
pub use color::Color;
pub use number::{Angle, Bounded, Decimal, Integer, NumberRange};
pub use placement::{Gravity, Overlay, OverlayPlace, Rect};
pub use shape::{Border, Radius, Trim};
pub use text::{FileName, Name, Version};

use crate::ValueError;

/// A value of an op: read from decoded text, written back as its one canonical text.
///
/// For every value `v`: `Self::parse(&v.to_string()) == Ok(v)`.
pub trait OpValue: Sized + PartialEq + Display {
    /// Reads decoded text.
    ///
    /// # Errors
    /// [`ValueError`] when the text is not one of [`Self::allowed`].
    fn parse(text: &str) -> Result<Self, ValueError>;

    /// What is allowed, in words, with unit and range.
    fn allowed() -> String;

    /// The words that may be chosen, each in its one canonical text; other values may be allowed beside them.
    fn choices() -> &'static [&'static str] {
        &[]
    }

    /// Smallest and largest number, where numbers are allowed.
    fn range() -> Option<NumberRange> {
        None
    }
}
