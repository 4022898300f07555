//! Transforms pixels: a source picture and a [`Transform`](transform_url::Transform) in, an encoded rendition out.
//!
//! Must not know HTTP, tenants, storage or an async runtime. A call computes on the calling thread and blocks until it is
//! done, has failed, or its deadline has passed.
//!
//! Read in this order: [`Engine`] starts libvips; `format` tells a picture from its first bytes; `probe` reads its header
//! and `limits` refuses what is too big, before any pixel is decoded; `geometry` computes every size from numbers alone;
//! `output` chooses the encoding; `render` runs the `steps` in their fixed order; `encoder` holds every encoder setting
//! with its reason. `vips` is the only place that calls libvips.
//!
//! # Order of the pipeline
//! load (shrunk if possible) → rect → colours that cannot be averaged → resize → crop → sRGB → upright (EXIF) → content
//! crop → pad → flip → rotate → background → encode. The order of ops in a URL never matters.
//!
//! Gravity and rect are read on the upright picture; flip and rotate then turn the finished result as a whole.

mod encoder;
mod engine;
mod error;
mod format;
mod geometry;
mod limits;
mod output;
mod probe;
mod render;
mod report;
mod steps;
mod support;
mod vips;
mod webp_container;

pub use encoder::{ENCODER_VERSION, EncoderDefaults};
pub use engine::{Capabilities, Engine, EngineOptions, StartError, thread_finished};
pub use error::ImagingError;
pub use format::{Encoding, SourceFormat};
pub use geometry::{Frame, Geometry, GeometryError, Region, Size, geometry};
pub use limits::Limits;
pub use output::Class;
pub use probe::{ColourSpace, ImageInfo};
pub use render::Rendered;
pub use report::{OriginalReport, Report};
pub use support::{UnsupportedOp, supports};
pub use vips::{Version, VipsError};
