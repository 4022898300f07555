//! Owns the list of ops whose pixels this crate makes, so that the others are refused before any work.

use transform_url::Transform;
use transform_url::value::Format;

/// Ops that change the result here, and those that another part answers for (`download`, `v`) or that name what is done
/// anyway: `anim=false` asks for the first frame, and an animation's first frame is what is rendered.
const SUPPORTED: [&str; 13] = [
    "anim",
    "background",
    "download",
    "fit",
    "flip",
    "format",
    "gravity",
    "height",
    "quality",
    "rect",
    "rotate",
    "v",
    "width",
];

/// An op that is valid and whose pixels are not made yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the op {op} is not available yet")]
pub struct UnsupportedOp {
    /// Its full name; for a format that is not written, `format`.
    pub op: &'static str,
}

/// Checks that every op of `transform` can be rendered.
///
/// # Errors
/// The first op, in canonical order, that cannot.
pub fn supports(transform: &Transform) -> Result<(), UnsupportedOp> {
    let known = |name: &&'static str| SUPPORTED.contains(name);
    if let Some(op) = transform.names().find(|name| !known(name)) {
        return Err(UnsupportedOp { op });
    }
    match transform.format() {
        Format::Auto | Format::Avif | Format::Webp | Format::Jpeg | Format::Png | Format::Json => Ok(()),
        Format::Jxl | Format::Gif | Format::Blurhash | Format::Thumbhash => Err(UnsupportedOp { op: "format" }),
    }
}
