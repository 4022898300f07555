//! One render as a job of the pool: all that a libvips thread needs, and nothing of who asked.

use bytes::Bytes;
use imaging::{Class, EncoderDefaults, Engine, ImagingError, Inputs, Limits, Rendered, Weight};
use transform_url::Transform;

use crate::pool::Work;

/// A rendition to make.
pub struct RenderJob {
    /// What makes it.
    pub engine: Engine,
    /// The original.
    pub source: Bytes,
    /// What is laid over it.
    pub overlay: Option<Bytes>,
    /// What is done to it.
    pub transform: Transform,
    /// What the client can show.
    pub class: Class,
    /// What it may take, with the deadline.
    pub limits: Limits,
}

impl RenderJob {
    fn inputs(&self) -> Inputs<'_> {
        Inputs { source: &self.source, overlay: self.overlay.as_ref() }
    }
}

impl Work for RenderJob {
    type Output = Result<Rendered, ImagingError>;

    fn header_weight(&self) -> Weight {
        Weight::of_header(&self.source)
    }

    fn weigh(&self) -> Weight {
        // What cannot be weighed fails before anything is decoded, which takes next to nothing.
        self.engine.weigh(self.inputs(), &self.transform, Some(self.class), &self.limits).unwrap_or_default()
    }

    fn run(self) -> Self::Output {
        self.engine.render(self.inputs(), &self.transform, Some(self.class), &EncoderDefaults::default(), &self.limits)
    }
}
