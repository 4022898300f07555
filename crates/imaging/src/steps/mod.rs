//! Owns the steps of the pipeline, one file each, in the order they run.
//!
//! A step takes an image and numbers and gives an image; it must not know URLs, limits or encoders.

pub(crate) mod background;
pub(crate) mod colour;
pub(crate) mod frame;
pub(crate) mod load;
pub(crate) mod resize;
pub(crate) mod turn;
pub(crate) mod upright;
