//! The canonical transform: what is done to the original, one form for every way of asking for it.
//!
//! Invariant: holds no default value, no preset and no dpr, so equal results have equal transforms, equal
//! texts and equal cache keys.

use std::fmt::{self, Display, Write};

use crate::Ops;
use crate::encoding::write_value;
use crate::table::TABLE;
use crate::value::{Angle, Color, Fit, Flip, Format, Gravity, Integer, Quality, Rect};

/// A validated, canonical transform. [`Ops::resolve`] is the only way to one.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Transform(Ops);

impl Transform {
    pub(crate) fn from_canonical(ops: Ops) -> Self {
        Self(ops)
    }

    /// Width of the box in device pixels, 1..=8192.
    pub fn width(&self) -> Option<u32> {
        self.0.width.map(Integer::get)
    }

    /// Height of the box in device pixels, 1..=8192.
    pub fn height(&self) -> Option<u32> {
        self.0.height.map(Integer::get)
    }

    /// How the box is filled.
    pub fn fit(&self) -> Fit {
        self.0.fit.unwrap_or(Fit::ScaleDown)
    }

    /// What stays when something is cut off.
    pub fn gravity(&self) -> Gravity {
        self.0.gravity.unwrap_or(Gravity::CENTER)
    }

    /// The part of the original that is used.
    pub fn rect(&self) -> Option<Rect> {
        self.0.rect
    }

    /// Degrees clockwise, 0..=359.
    pub fn rotate(&self) -> u16 {
        self.0.rotate.map_or(0, Angle::degrees)
    }

    /// Mirroring, if any.
    pub fn flip(&self) -> Option<Flip> {
        self.0.flip
    }

    /// The asked background, if any.
    pub fn background(&self) -> Option<Color> {
        self.0.background
    }

    /// The asked quality, if any.
    pub fn quality(&self) -> Option<Quality> {
        self.0.quality
    }

    /// The asked format.
    pub fn format(&self) -> Format {
        self.0.format.unwrap_or(Format::Auto)
    }

    /// The file name of a download, if one is asked for.
    pub fn download(&self) -> Option<&str> {
        self.0.download.as_ref().map(|name| name.as_str())
    }

    /// True when the URL carries a version, so that its answer never changes.
    pub fn is_versioned(&self) -> bool {
        self.0.v.is_some()
    }

    /// The other ops, for a pipeline that knows them.
    pub fn ops(&self) -> &Ops {
        &self.0
    }

    /// Full names of the ops that are not at their default, sorted.
    pub fn names(&self) -> impl Iterator<Item = &'static str> + '_ {
        self.sorted().map(|(name, _)| name)
    }

    /// The canonical text without `download`: what belongs in a cache key, because it changes the bytes.
    pub fn cache_text(&self) -> String {
        let mut text = String::with_capacity(64);
        self.write(&mut text, "download").expect("a String takes every text");
        text
    }

    /// Name and value of each op that is set, in the order of the canonical form.
    fn sorted(&self) -> impl Iterator<Item = (&'static str, &dyn Display)> + '_ {
        let mut set: Vec<_> = TABLE.iter().filter_map(|spec| Some((spec.name, (spec.get)(&self.0)?))).collect();
        set.sort_unstable_by_key(|(name, _)| *name);
        set.into_iter()
    }

    fn write(&self, out: &mut impl Write, without: &str) -> fmt::Result {
        let mut empty = true;
        for (name, value) in self.sorted().filter(|(name, _)| *name != without) {
            out.write_str(if empty { "" } else { "," })?;
            write!(out, "{name}=")?;
            write_value(out, value)?;
            empty = false;
        }
        // The ops segment of a URL is never empty, so "nothing but the defaults" spells one of them out.
        if empty { out.write_str("format=auto") } else { Ok(()) }
    }
}

/// The canonical text: full names, sorted, minimal values; [`Ops::parse`] reads it back to the same transform.
impl Display for Transform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write(f, "")
    }
}
