//! Transforms pixels: a source picture and a [`Transform`](transform_url::Transform) in, an encoded rendition out.
//!
//! Must not know HTTP, tenants, storage or an async runtime. A call computes on the calling thread and blocks until it is
//! done, has failed, or its deadline has passed.
//!
//! Read in this order: [`Engine`] starts libvips, and `trial` finds out what it can do; `format` tells a picture from its
//! first bytes, `encoding` is what can be written; `probe` reads a header and `limits` refuses what is too big, before any
//! pixel is decoded; `svg` looks into a vector picture, whose header says nothing; `geometry` computes
//! every size from numbers alone; `output` chooses the encoding; `weight` estimates what all of it takes; `render` is one render from beginning to end, `pipeline` the
//! order of the `steps`; `shared` has what renders of one source decode once;
//! `animation` takes frames apart and together; `encoder` holds every encoder setting with its reason, `effort` how long
//! one may look for fewer bytes, `quality` which numbers look alike; `describe` answers with facts instead of pixels. `vips` is the only place that calls
//! libvips.
//!
//! # Order of the pipeline
//! load (shrunk if possible) → rect → trim → colours that cannot be averaged → resize → crop → sRGB → upright (EXIF) →
//! content crop → brightness, contrast, gamma → saturation, filter → pixelate → blur → sharpen → pad → flip → rotate →
//! overlay → border → radius → background → encode. The order of ops in a URL never matters.
//!
//! Gravity, rect and trim are read on the upright picture; flip and rotate then turn the finished picture as a whole.

mod animation;
mod bmp;
mod describe;
mod effort;
mod encoder;
mod encoding;
mod engine;
mod error;
mod format;
mod geometry;
mod jpeg;
mod jpegli;
mod limits;
mod metadata;
mod output;
mod overlay;
mod palette;
mod pipeline;
mod png;
mod probe;
mod quality;
mod render;
mod report;
mod resample;
mod rows;
mod shared;
mod steps;
mod svg;
mod trial;
mod vips;
mod webp_container;
mod weight;

pub use effort::Effort;
pub use encoder::ENCODER_VERSION;
pub use encoding::Encoding;
pub use engine::{Capabilities, Engine, EngineOptions, StartError, thread_finished};
pub use error::ImagingError;
pub use format::SourceFormat;
pub use geometry::{Frame, Geometry, GeometryError, Region, Size, geometry};
pub use limits::Limits;
pub use output::Class;
pub use palette::PaletteColour;
pub use probe::{ColourSpace, ImageInfo};
pub use quality::EncoderDefaults;
pub use render::{Inputs, Rendered};
pub use report::{OriginalReport, Report};
pub use shared::{DecodeLevel, Share, SharedDecodes};
pub use vips::{Version, VipsError};
pub use weight::{Weighed, Weight};
