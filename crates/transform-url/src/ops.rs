//! Reading the ops of one URL, and resolving presets and defaults into the canonical form.
//!
//! [`Ops`] itself comes from the table. Must not be what a pipeline reads: that is [`Transform`], which only
//! [`Ops::resolve`] makes.

use crate::encoding::decode;
use crate::error::shown;
use crate::table::{self, OpSpec, Ops, TABLE};
use crate::value::{Decimal, Name};
use crate::{Transform, UrlError};

impl Ops {
    /// Reads `name=value,name=value`, each value percent-encoded; short names are known.
    ///
    /// # Errors
    /// [`UrlError::UnknownOp`], [`UrlError::DuplicateOp`], [`UrlError::BadValue`] or [`UrlError::BadEncoding`],
    /// each naming the op.
    pub fn parse(segment: &str) -> Result<Self, UrlError> {
        let mut ops = Self::default();
        for op in segment.split(',') {
            let (name, raw) = op.split_once('=').unwrap_or((op, ""));
            let spec = table::find(name).ok_or_else(|| unknown(name))?;
            let value = decode(raw, spec.name)?;
            if (spec.get)(&ops).is_some() {
                return Err(UrlError::DuplicateOp { name: spec.name });
            }
            (spec.set)(&mut ops, &value).map_err(|_| bad_value(spec, &value))?;
        }
        Ok(ops)
    }

    /// Full names of the ops that are given, defaults spelled out included.
    pub fn names(&self) -> impl Iterator<Item = &'static str> + '_ {
        TABLE.iter().filter(|spec| (spec.get)(self).is_some()).map(|spec| spec.name)
    }

    /// The canonical transform: the preset expanded, `dpr` multiplied in, defaults dropped.
    ///
    /// # Errors
    /// [`UrlError::UnknownPreset`], [`UrlError::NestedPreset`], or [`UrlError::BadValue`] of `dpr` when a size
    /// leaves its range by it.
    pub fn resolve<'a>(&self, preset: impl FnOnce(&Name) -> Option<&'a Self>) -> Result<Transform, UrlError> {
        let mut ops = self.clone();
        if let Some(name) = ops.preset.take() {
            let base = preset(&name).ok_or_else(|| UrlError::UnknownPreset { name: name.to_string() })?;
            if base.preset.is_some() {
                return Err(UrlError::NestedPreset { name: name.to_string() });
            }
            ops = ops.over(base);
        }
        if let Some(dpr) = ops.dpr.take() {
            ops.scale(dpr.get()).map_err(|_| UrlError::BadValue {
                op: "dpr",
                value: dpr.to_string(),
                allowed: "what keeps width and height at 8192 px or less".to_owned(),
            })?;
        }
        ops.drop_defaults();
        Ok(Transform::from_canonical(ops))
    }

    fn scale(&mut self, dpr: Decimal) -> Result<(), crate::ValueError> {
        self.width = self.width.map(|side| side.scaled(dpr)).transpose()?;
        self.height = self.height.map(|side| side.scaled(dpr)).transpose()?;
        self.radius = self.radius.map(|radius| radius.scaled(dpr)).transpose()?;
        self.border = self.border.map(|border| border.scaled(dpr)).transpose()?;
        self.blur = self.blur.map(|blur| blur.scaled_up_to_max(dpr));
        self.pixelate = self.pixelate.map(|block| block.scaled_up_to_max(dpr));
        self.overlay = self.overlay.take().map(|overlay| overlay.scaled(dpr)).transpose()?;
        Ok(())
    }
}

fn bad_value(spec: &OpSpec, value: &str) -> UrlError {
    UrlError::BadValue { op: spec.name, value: shown(value), allowed: (spec.allowed)() }
}

fn unknown(name: &str) -> UrlError {
    // Longer texts are no typing mistake, and the distance costs their length squared.
    let nearest = if name.len() > 20 {
        None
    } else {
        TABLE
            .iter()
            .map(|spec| (strsim::damerau_levenshtein(name, spec.name), spec.name))
            .min()
            .filter(|(distance, _)| *distance <= 2)
    };
    UrlError::UnknownOp { name: shown(name), nearest: nearest.map(|(_, name)| name) }
}
