//! Whole numbers, decimals and angles.
//!
//! Must not use floating point: equal texts must give equal values and equal cache keys.

use std::fmt::{self, Display};

use super::OpValue;
use crate::ValueError;

/// Which numbers an op takes, both ends included; as texts, because they are for showing and for controls of a page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NumberRange {
    /// The smallest.
    pub min: String,
    /// The largest.
    pub max: String,
    /// Whether only whole numbers are allowed.
    pub is_whole: bool,
}

impl NumberRange {
    pub(super) fn whole(min: u32, max: u32) -> Self {
        Self { min: min.to_string(), max: max.to_string(), is_whole: true }
    }
}

/// A whole number from `MIN` to `MAX`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Integer<const MIN: u32, const MAX: u32>(u32);

impl<const MIN: u32, const MAX: u32> Integer<MIN, MAX> {
    /// Checks the range.
    ///
    /// # Errors
    /// [`ValueError`] outside of it.
    pub fn new(number: u32) -> Result<Self, ValueError> {
        if (MIN..=MAX).contains(&number) { Ok(Self(number)) } else { Err(ValueError) }
    }

    /// The number.
    pub fn get(self) -> u32 {
        self.0
    }

    /// The number times `factor`, at most `MAX`: for strengths, whose greatest looks like any greater.
    #[must_use]
    pub(crate) fn scaled_up_to_max(self, factor: Decimal) -> Self {
        self.scaled(factor).unwrap_or(Self(MAX))
    }

    /// The number times `factor`, rounded half up.
    ///
    /// # Errors
    /// [`ValueError`] when the product leaves the range.
    pub fn scaled(self, factor: Decimal) -> Result<Self, ValueError> {
        let product =
            (u64::from(self.0) * u64::from(factor.0) + u64::from(Decimal::ONE.0) / 2) / u64::from(Decimal::ONE.0);
        u32::try_from(product).map_err(|_| ValueError).and_then(Self::new)
    }
}

impl<const MIN: u32, const MAX: u32> OpValue for Integer<MIN, MAX> {
    fn parse(text: &str) -> Result<Self, ValueError> {
        Self::new(parse_digits(text)?)
    }

    fn allowed() -> String {
        format!("a whole number from {MIN} to {MAX}")
    }

    fn range() -> Option<NumberRange> {
        Some(NumberRange::whole(MIN, MAX))
    }
}

impl<const MIN: u32, const MAX: u32> Display for Integer<MIN, MAX> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Digits only: no sign, space or exponent, as `u32::from_str` would let a `+` through.
pub(super) fn parse_digits(text: &str) -> Result<u32, ValueError> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(ValueError);
    }
    text.parse().map_err(|_| ValueError)
}

/// A number of at least 0 in steps of 1/10,000.
///
/// More digits are rounded half up, so that a script's `0.30000000000000004` is `0.3`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Decimal(u32);

impl Decimal {
    /// 0.
    pub const ZERO: Self = Self(0);
    /// 1.
    pub const ONE: Self = Self(Self::SCALE);
    const SCALE: u32 = 10_000;
    const DIGITS: usize = 4;
    /// Longest text read, in bytes: what the longest JavaScript number needs.
    const TEXT_BYTES_MAX: usize = 24;

    /// A number from its count of 1/10,000.
    pub const fn from_ten_thousandths(count: u32) -> Self {
        Self(count)
    }

    /// The value for computing with.
    pub fn to_f64(self) -> f64 {
        f64::from(self.0) / f64::from(Self::SCALE)
    }

    /// True for whole numbers.
    pub fn is_whole(self) -> bool {
        self.0.is_multiple_of(Self::SCALE)
    }

    /// Reads `12`, `0.5`, `.5`; not `5.`, signs or exponents.
    pub(super) fn parse_text(text: &str) -> Result<Self, ValueError> {
        let (whole, fraction) = match text.split_once('.') {
            Some((_, "")) => return Err(ValueError),
            Some((whole, fraction)) => (if whole.is_empty() { "0" } else { whole }, fraction),
            None => (text, ""),
        };
        if text.len() > Self::TEXT_BYTES_MAX || !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(ValueError);
        }
        let kept = &fraction[..fraction.len().min(Self::DIGITS)];
        let rounded_up = fraction.as_bytes().get(Self::DIGITS).is_some_and(|digit| *digit >= b'5');
        let below_one = format!("{kept:0<4}").parse::<u32>().map_err(|_| ValueError)? + u32::from(rounded_up);
        parse_digits(whole)?.checked_mul(Self::SCALE).and_then(|n| n.checked_add(below_one)).map(Self).ok_or(ValueError)
    }
}

/// The minimal text: no trailing zeros, a leading zero before the point.
impl Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, below_one) = (self.0 / Self::SCALE, self.0 % Self::SCALE);
        if below_one == 0 {
            return write!(f, "{whole}");
        }
        let digits = format!("{below_one:04}");
        write!(f, "{whole}.{}", digits.trim_end_matches('0'))
    }
}

/// A [`Decimal`] from `MIN` to `MAX`, both in 1/10,000.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Bounded<const MIN: u32, const MAX: u32>(Decimal);

impl<const MIN: u32, const MAX: u32> Bounded<MIN, MAX> {
    /// Checks the range.
    ///
    /// # Errors
    /// [`ValueError`] outside of it.
    pub fn new(number: Decimal) -> Result<Self, ValueError> {
        if (MIN..=MAX).contains(&number.0) { Ok(Self(number)) } else { Err(ValueError) }
    }

    /// The number.
    pub fn get(self) -> Decimal {
        self.0
    }

    /// The number for computing with.
    pub fn to_f64(self) -> f64 {
        self.0.to_f64()
    }

    /// The number times `factor`, at most `MAX`: for strengths, whose greatest looks like any greater.
    #[must_use]
    pub(crate) fn scaled_up_to_max(self, factor: Decimal) -> Self {
        let product = u64::from(self.0.0) * u64::from(factor.0) / u64::from(Decimal::SCALE);
        Self(Decimal(u32::try_from(product).unwrap_or(MAX).clamp(MIN, MAX)))
    }

    /// 1, for the ops where that means "unchanged".
    pub(crate) const ONE: Self = {
        assert!(MIN <= Decimal::SCALE && Decimal::SCALE <= MAX);
        Self(Decimal::ONE)
    };
}

impl<const MIN: u32, const MAX: u32> OpValue for Bounded<MIN, MAX> {
    fn parse(text: &str) -> Result<Self, ValueError> {
        Self::new(Decimal::parse_text(text)?)
    }

    fn allowed() -> String {
        format!("a number from {} to {}", Decimal(MIN), Decimal(MAX))
    }

    fn range() -> Option<NumberRange> {
        Some(NumberRange { min: Decimal(MIN).to_string(), max: Decimal(MAX).to_string(), is_whole: false })
    }
}

impl<const MIN: u32, const MAX: u32> Display for Bounded<MIN, MAX> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// An angle in whole degrees clockwise, kept modulo 360.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Angle(u16);

impl Angle {
    /// Degrees, 0..=359.
    pub fn degrees(self) -> u16 {
        self.0
    }
}

impl OpValue for Angle {
    fn parse(text: &str) -> Result<Self, ValueError> {
        let (negative, digits) = match text.strip_prefix('-') {
            Some(digits) => (true, digits),
            None => (false, text),
        };
        let turned = parse_digits(digits)? % 360;
        let degrees = if negative { (360 - turned) % 360 } else { turned };
        Ok(Self(u16::try_from(degrees).map_err(|_| ValueError)?))
    }

    fn allowed() -> String {
        "an angle in whole degrees clockwise, 0 to 359 (others are taken modulo 360)".to_owned()
    }

    fn range() -> Option<NumberRange> {
        Some(NumberRange::whole(0, 359))
    }
}

impl Display for Angle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
