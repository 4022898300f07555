//! Owns the steps of the pipeline, one file each; `pipeline` has the order they run in.
//!
//! A step takes an image and numbers and gives an image; it must not know URLs, limits or encoders.

pub(crate) mod adjust;
pub(crate) mod background;
pub(crate) mod bands;
pub(crate) mod blur;
pub(crate) mod colour;
pub(crate) mod edge;
pub(crate) mod frame;
pub(crate) mod load;
pub(crate) mod overlay;
pub(crate) mod resize;
pub(crate) mod trim;
pub(crate) mod turn;
pub(crate) mod upright;
