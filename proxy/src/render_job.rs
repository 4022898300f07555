//! One render as a job of the pool: all that a libvips thread needs, and nothing of who asked.

use std::sync::Arc;

use bytes::Bytes;
use imaging::{
    Class, Effort, EncoderDefaults, Engine, ImagingError, Inputs, Limits, Rendered, Share, SharedDecodes, Weighed,
    Weight,
};
use prometheus::{IntCounter, Registry};
use transform_url::Transform;

use crate::pool::{Work, may_be_idle};

/// An image to be transformed.
#[derive(Clone)]
pub struct NamedSource {
    /// What names it, with its tenant: renders of the same one may decode it together.
    pub mark: u64,
    /// The file.
    pub bytes: Bytes,
}

/// What renders of one source have in common while they are under way together.
#[derive(Clone)]
pub struct Sharing {
    decodes: Arc<SharedDecodes>,
    reused: IntCounter,
}

impl Sharing {
    /// With memory for so many bytes of decoded pictures; 0 shares nothing.
    ///
    /// # Errors
    /// When the metric's name is taken.
    pub fn new(limit_bytes: u64, registry: &Registry) -> prometheus::Result<Self> {
        let reused = IntCounter::new(
            "calotype_transform_shared_decodes_total",
            "Renditions that were made from what another one had decoded.",
        )?;
        registry.register(Box::new(reused.clone()))?;
        Ok(Self { decodes: SharedDecodes::new(limit_bytes), reused })
    }
}

/// A rendition to make.
pub struct RenderJob {
    /// What makes it.
    pub engine: Engine,
    /// The original, or what takes its place.
    pub source: NamedSource,
    /// What is laid over it.
    pub overlay: Option<Bytes>,
    /// What is done to it.
    pub transform: Transform,
    /// What the client can show.
    pub class: Class,
    /// How long the encoder may take.
    pub effort: Effort,
    /// What it may take, with the deadline.
    pub limits: Limits,
    /// What it may share, and with whom.
    pub sharing: Sharing,
    /// Its part in that, once it was weighed.
    pub share: Option<Share>,
}

impl RenderJob {
    fn inputs(&self) -> Inputs<'_> {
        Inputs { source: &self.source.bytes, overlay: self.overlay.as_ref(), share: self.share.as_ref() }
    }

    fn defaults(&self) -> EncoderDefaults {
        EncoderDefaults { effort: self.effort, ..EncoderDefaults::default() }
    }

    fn weighed(&self) -> Result<Weighed, ImagingError> {
        self.engine.weigh(self.inputs(), &self.transform, Some(self.class), &self.defaults(), &self.limits)
    }
}

impl Work for RenderJob {
    type Output = Result<Rendered, ImagingError>;

    fn header_weight(&self) -> Weight {
        Weight::of_header(&self.source.bytes)
    }

    fn weigh(&mut self) -> Weight {
        let mut weighed = self.weighed();
        let small = weighed.as_ref().ok().and_then(|weighed| weighed.small);
        if small.is_some_and(|small| !may_be_idle(small)) {
            // It would never be made better.
            self.effort = Effort::Normal;
            weighed = self.weighed();
        }
        // What cannot be weighed fails before anything is decoded, which takes next to nothing.
        let Ok(weighed) = weighed else { return Weight::default() };
        self.share =
            weighed.level.and_then(|level| self.sharing.decodes.join(self.source.mark, &self.source.bytes, level));
        weighed.weight
    }

    fn run(self) -> Self::Output {
        let defaults = self.defaults();
        let rendered = self.engine.render(self.inputs(), &self.transform, Some(self.class), &defaults, &self.limits);
        if self.share.as_ref().is_some_and(Share::has_reused) {
            self.sharing.reused.inc();
        }
        rendered
    }
}
