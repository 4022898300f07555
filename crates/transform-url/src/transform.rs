//! The canonical transform: what is done to the original, one form for every way of asking for it.
//!
//! Invariant: holds no default value, no preset and no dpr, so equal results have equal transforms, equal
//! texts and equal cache keys.

use std::fmt::{self, Display, Write};

use crate::Ops;
use crate::encoding::write_value;
use crate::table::TABLE;
use crate::value::{
    Angle, Border, Bounded, Color, Filter, Fit, Flip, Format, Gravity, Integer, Metadata, Name, Overlay, Quality,
    Radius, Rect, Switch, Trim,
};

/// A validated, canonical transform. [`Ops::resolve`] is the only way to one.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Transform(Ops);

impl Transform {
    pub(crate) fn from_canonical(ops: Ops) -> Self {
        Self(ops)
    }

    /// The transform that changes nothing.
    pub fn identity() -> Self {
        Self(Ops::default())
    }

    /// This transform for a result of at most `side` pixels a side (1..=8192), instead of what it says of the size.
    #[must_use]
    pub fn within(&self, side: u32) -> Self {
        let side = Integer::new(side).ok();
        Self(Ops { width: side, height: side, fit: None, ..self.0.clone() })
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

    /// The border that is cut away.
    pub fn trim(&self) -> Option<Trim> {
        self.0.trim
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

    /// Standard deviation of the blur in device pixels, 0.3..=250.
    pub fn blur(&self) -> Option<f64> {
        self.0.blur.map(Bounded::to_f64)
    }

    /// Standard deviation of the sharpening in device pixels, 0.1..=10.
    pub fn sharpen(&self) -> Option<f64> {
        self.0.sharpen.map(Bounded::to_f64)
    }

    /// Factor of the brightness, 0..=10; 1 is unchanged.
    pub fn brightness(&self) -> f64 {
        self.0.brightness.map_or(1.0, Bounded::to_f64)
    }

    /// Factor of the contrast, 0..=10; 1 is unchanged.
    pub fn contrast(&self) -> f64 {
        self.0.contrast.map_or(1.0, Bounded::to_f64)
    }

    /// Factor of the saturation, 0..=10; 1 is unchanged.
    pub fn saturation(&self) -> f64 {
        self.0.saturation.map_or(1.0, Bounded::to_f64)
    }

    /// Gamma, 0..=10; 1 is unchanged.
    pub fn gamma(&self) -> f64 {
        self.0.gamma.map_or(1.0, Bounded::to_f64)
    }

    /// The colour filter, if any.
    pub fn filter(&self) -> Option<Filter> {
        self.0.filter
    }

    /// Side of a block in device pixels, 2..=512.
    pub fn pixelate(&self) -> Option<u32> {
        self.0.pixelate.map(Integer::get)
    }

    /// How round the corners are.
    pub fn radius(&self) -> Option<Radius> {
        self.0.radius
    }

    /// The frame inside the edge.
    pub fn border(&self) -> Option<Border> {
        self.0.border
    }

    /// The registered image that is laid over the picture.
    pub fn overlay(&self) -> Option<&Overlay> {
        self.0.overlay.as_ref()
    }

    /// The registered image that takes the place of a source that is missing or broken.
    pub fn fallback(&self) -> Option<&Name> {
        self.0.fallback.as_ref()
    }

    /// Whether nothing may be lost in encoding.
    pub fn is_lossless(&self) -> bool {
        self.0.lossless == Some(Switch::True)
    }

    /// Most bytes of the answer, 1..=100,000,000.
    pub fn max_bytes(&self) -> Option<usize> {
        self.0.max_bytes.map(|bytes| usize::try_from(bytes.get()).unwrap_or(usize::MAX))
    }

    /// Whether an animation stays one.
    pub fn is_animated(&self) -> bool {
        self.0.anim != Some(Switch::False) && self.0.page.is_none()
    }

    /// The frame or page that is used, counted from 0.
    pub fn page(&self) -> Option<u32> {
        self.0.page.map(Integer::get)
    }

    /// Which metadata is kept.
    pub fn metadata(&self) -> Metadata {
        self.0.metadata.unwrap_or(Metadata::None)
    }

    /// The moment of a video that is asked for.
    pub fn moment(&self) -> Option<f64> {
        self.0.t.map(Bounded::to_f64)
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

    /// The ops as such, each by its name.
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
