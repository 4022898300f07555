//! Renditions without a server around them: the imaging engine as the edge has it, with limits out of the way.
//!
//! Must not choose settings: what comes out is what a URL with the same ops gives.

use std::fs;
use std::io::Write as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Context;
use bytes::Bytes;
use clap::Args;
use image::{RgbImage, RgbaImage};
use imaging::{Class, Effort, EncoderDefaults, Engine, EngineOptions, Inputs, Limits, Rendered};
use rustix::time::{ClockId, clock_gettime};
use transform_url::{Ops, Transform};

/// Most frames of an animation here.
const FRAMES_MAX: u32 = 1000;

/// Most megapixels of a source here, over all frames.
const MEGAPIXELS_MAX: u32 = 500;

/// A started engine.
#[derive(Debug)]
pub struct Darkroom {
    engine: Engine,
    limits: Limits,
}

impl Darkroom {
    /// Starts libvips.
    ///
    /// # Errors
    /// When it does not start.
    pub fn open() -> anyhow::Result<Self> {
        let limits = Limits { frames: FRAMES_MAX, megapixels: MEGAPIXELS_MAX, ..Limits::default() };
        Ok(Self { engine: Engine::start(&EngineOptions::default())?, limits })
    }

    /// The version of libvips.
    pub fn libvips(&self) -> String {
        self.engine.version().to_string()
    }

    /// What `ops`, as in a URL, make of `source`, for a client that shows everything.
    ///
    /// # Errors
    /// When the ops or the source are refused.
    pub fn render(&self, source: &Bytes, ops: &str) -> anyhow::Result<Rendered> {
        self.render_for(Class::Avif, source, ops)
    }

    /// The same for a client of `class`.
    ///
    /// # Errors
    /// When the ops or the source are refused.
    pub fn render_for(&self, class: Class, source: &Bytes, ops: &str) -> anyhow::Result<Rendered> {
        self.make(class, Inputs::from(source), &transform(ops)?).with_context(|| ops.to_owned())
    }

    /// The same with more or less time for the encoder, for a client that shows everything.
    ///
    /// # Errors
    /// When the ops or the source are refused.
    pub fn render_with(&self, effort: Effort, source: &Bytes, ops: &str) -> anyhow::Result<Rendered> {
        let defaults = EncoderDefaults { effort, ..EncoderDefaults::default() };
        let transform = transform(ops)?;
        let rendered = self.engine.render(source.into(), &transform, Some(Class::Avif), &defaults, &self.limits);
        rendered.with_context(|| ops.to_owned())
    }

    /// How many frames `source` has.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn frames(&self, source: &Bytes) -> anyhow::Result<u32> {
        Ok(self.engine.probe(source)?.frames)
    }

    /// Whether `source` can be read and has no colour profile.
    pub fn is_plain(&self, source: &Bytes) -> bool {
        self.engine.probe(source).is_ok_and(|info| !info.icc)
    }

    /// The pixels of `source`, on white.
    ///
    /// # Errors
    /// When it cannot be decoded.
    pub fn pixels(&self, source: &Bytes) -> anyhow::Result<RgbImage> {
        self.frame(source, 0)
    }

    /// The pixels of one frame of `source`, on white.
    ///
    /// # Errors
    /// When it cannot be decoded.
    pub fn frame(&self, source: &Bytes, frame: u32) -> anyhow::Result<RgbImage> {
        let ops = if frame == 0 { "f=png,bg=white".to_owned() } else { format!("f=png,bg=white,page={frame}") };
        let png = self.render(source, &ops)?;
        Ok(image::load_from_memory(&png.body)?.into_rgb8())
    }

    /// The pixels of `source` with their alpha.
    ///
    /// # Errors
    /// When it cannot be decoded.
    pub fn pixels_with_alpha(&self, source: &Bytes) -> anyhow::Result<RgbaImage> {
        Ok(image::load_from_memory(&self.render(source, "f=png")?.body)?.into_rgba8())
    }

    fn make(&self, class: Class, inputs: Inputs<'_>, transform: &Transform) -> anyhow::Result<Rendered> {
        Ok(self.engine.render(inputs, transform, Some(class), &EncoderDefaults::default(), &self.limits)?)
    }
}

fn transform(ops: &str) -> anyhow::Result<Transform> {
    Ok(Ops::parse(ops)?.resolve(|_| None)?)
}

/// The same rendition again and again, in a process of its own: CPU time and memory are then of nothing else.
#[derive(Debug, Args)]
pub struct RenderLoop {
    source: PathBuf,
    ops: String,
    warm_ups: u32,
    count: u32,
    out: PathBuf,
    /// The image that the op `overlay` names.
    #[arg(long)]
    overlay: Option<PathBuf>,
}

impl RenderLoop {
    /// Writes the last rendition and prints one line of JSON, as the C programs do.
    ///
    /// # Errors
    /// When a file cannot be read or a rendition cannot be made.
    pub fn run(&self) -> anyhow::Result<()> {
        let darkroom = Darkroom::open()?;
        let source = Bytes::from(fs::read(&self.source)?);
        let overlay = self.overlay.as_ref().map(fs::read).transpose()?.map(Bytes::from);
        let inputs = Inputs { source: &source, overlay: overlay.as_ref(), share: None };
        let transform = transform(&self.ops)?;
        for _ in 0..self.warm_ups {
            darkroom.make(Class::Avif, inputs, &transform)?;
        }
        let (cpu, wall) = (cpu_time()?, Instant::now());
        let mut last = None;
        for _ in 0..self.count {
            last = Some(darkroom.make(Class::Avif, inputs, &transform)?);
        }
        let (cpu, wall) = (cpu_time()?.saturating_sub(cpu), wall.elapsed());
        fs::write(&self.out, last.context("nothing was to be rendered")?.body)?;
        let printed = serde_json::json!({
            "count": self.count, "cpu_seconds": cpu.as_secs_f64(), "wall_seconds": wall.as_secs_f64(),
        });
        Ok(writeln!(std::io::stdout(), "{printed}")?)
    }
}

/// User and system time of this process so far.
fn cpu_time() -> anyhow::Result<Duration> {
    let now = clock_gettime(ClockId::ProcessCPUTime);
    Ok(Duration::new(u64::try_from(now.tv_sec)?, u32::try_from(now.tv_nsec)?))
}
