//! Owns one render from beginning to end: check, settle every number, run the pipeline, encode, explain a failure.

use bytes::Bytes;
use transform_url::Transform;
use transform_url::value::Trim;

use crate::effort::Effort;
use crate::encoder::Encoder;
use crate::encoding::Encoding;
use crate::engine::Engine;
use crate::error::ImagingError;
use crate::format::SourceFormat;
use crate::geometry::{Geometry, Region, Size, region, sizes};
use crate::limits::Limits;
use crate::output::{Class, Output, Wanted};
use crate::pipeline::Pipeline;
use crate::probe::{Header, ImageInfo, Pages, Scale, open, unreadable};
use crate::quality::EncoderDefaults;
use crate::shared::Share;
use crate::steps::{load, resize, trim, upright};
use crate::vips::{Image, Operation, VipsError, Watch};
use crate::weight::{Weighed, Work, Written, encodes};

/// Longest side of a vector picture that is drawn to find out whether it can be, in pixels.
const DRAWN_AGAIN_PX: f64 = 256.0;

/// What a rendition is made of.
#[derive(Debug, Clone, Copy)]
pub struct Inputs<'a> {
    /// The original.
    pub source: &'a Bytes,
    /// The image that the op `overlay` names; without it the op is refused.
    pub overlay: Option<&'a Bytes>,
    /// What is decoded together with other renders of the original. Makes no difference to the result.
    pub share: Option<&'a Share>,
}

impl<'a> From<&'a Bytes> for Inputs<'a> {
    /// The original alone.
    fn from(source: &'a Bytes) -> Self {
        Self { source, overlay: None, share: None }
    }
}

/// A finished rendition.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Rendered {
    /// The encoded bytes.
    pub body: Bytes,
    /// What they are.
    pub encoding: Encoding,
    /// Width of the picture in pixels; for a description, of the picture that the same ops would make.
    pub width: u32,
    /// Height of the picture in pixels; for a description, of the picture that the same ops would make.
    pub height: u32,
    /// How long the encoder looked for fewer bytes: what was asked for, if the encoding leaves it open.
    pub effort: Effort,
}

impl Rendered {
    pub(crate) fn new(body: Vec<u8>, encoding: Encoding, size: Size) -> Self {
        let effort = Effort::Normal;
        Self { body: Bytes::from(body), encoding, width: size.width, height: size.height, effort }
    }

    /// The media type of the body.
    pub fn content_type(&self) -> &'static str {
        self.encoding.content_type()
    }
}

impl Engine {
    /// Makes what `transform` asks for out of `inputs`. With `f=auto` the encoding is the best that a client of `class`
    /// can show, or without a class that every client can.
    ///
    /// Blocks the calling thread. Everything the header tells is checked before a pixel is decoded. The same input gives
    /// the same bytes on the same library.
    ///
    /// # Errors
    /// [`ImagingError`]. Past `limits.deadline` the running evaluation is stopped.
    pub fn render(
        &self,
        inputs: Inputs<'_>,
        transform: &Transform,
        class: Option<Class>,
        defaults: &EncoderDefaults,
        limits: &Limits,
    ) -> Result<Rendered, ImagingError> {
        let output = Output::new(transform, class)?;
        let job = Job::new(self, inputs, transform, limits);
        let header = job.header(output.has_frames())?;
        if let Output::Exactly(encoding) = output
            && encoding.is_description()
        {
            return job.describe(header, encoding);
        }
        let geometry = job.geometry(&header, transform)?;
        let (encoding, frames) = job.encoding(&header.info, &geometry, output)?;
        let picture = job.picture(header, geometry, frames, encoding.has_alpha())?;
        let effort = defaults.effort.of(encoding, transform, frames);
        let defaults = EncoderDefaults { effort, ..*defaults };
        let encoder = Encoder::new(self, encoding, output, transform, &defaults, job.watch.as_ref());
        let body = encoder.encode_within(&picture, transform.max_bytes()).map_err(|error| match error {
            ImagingError::Library(error) => job.explain(error),
            error => error,
        })?;
        Ok(Rendered { effort, ..Rendered::new(body, encoding, geometry.output) })
    }
}

/// One render: what is asked, of what, and how much it may take.
pub(crate) struct Job<'a> {
    pub(crate) engine: &'a Engine,
    pub(crate) inputs: Inputs<'a>,
    pub(crate) transform: &'a Transform,
    pub(crate) limits: &'a Limits,
    pub(crate) watch: Option<Watch>,
}

impl<'a> Job<'a> {
    pub(crate) fn new(engine: &'a Engine, inputs: Inputs<'a>, transform: &'a Transform, limits: &'a Limits) -> Self {
        Self { engine, inputs, transform, limits, watch: limits.deadline.map(Watch::new) }
    }
}

impl Job<'_> {
    /// What all of it takes, told by the headers.
    pub(crate) fn weigh(&self, class: Option<Class>, effort: Effort) -> Result<Weighed, ImagingError> {
        let output = Output::new(self.transform, class)?;
        let info = self.header(output.has_frames())?.info;
        let described = match output {
            Output::Exactly(encoding) if encoding.is_description() => Some(encoding),
            Output::Exactly(_) | Output::Best(_) => None,
        };
        let transform = match described {
            Some(_) => &self.described(),
            None => self.transform,
        };
        // A border that is trimmed away makes the rest smaller, which only decoding would tell.
        let geometry = sizes(region(info.upright, transform)?, transform, self.limits.output_px)?;
        let (encoding, frames) = match described {
            Some(encoding) => (encoding, 1),
            None => self.encoding(&info, &geometry, output)?,
        };
        let work = Work::new(&info, &geometry, transform, frames);
        let overlay = self.inputs.overlay.map(|source| self.engine.weigh_overlay(source)).transpose()?;
        let weight = |effort| {
            let written = Written { encoding, lossless: transform.is_lossless(), effort };
            let picture = work.weight(&info, written, encodes(transform, written));
            overlay.map_or(picture, |overlay| picture.and(overlay))
        };
        let effort = effort.of(encoding, transform, frames);
        Ok(Weighed {
            weight: weight(effort),
            small: (effort == Effort::Fast).then(|| weight(Effort::Small)),
            level: load::is_shared(&info, &geometry, frames).then(|| load::level(&info, &geometry, transform)),
        })
    }

    /// The encoding of a result that is a picture, and how many frames it has.
    fn encoding(&self, info: &ImageInfo, geometry: &Geometry, output: Output) -> Result<(Encoding, u32), ImagingError> {
        let transform = self.transform;
        let wanted = Wanted {
            size: geometry.output,
            alpha: (info.alpha || transform.radius().is_some())
                && !transform.background().is_some_and(|c| c.is_opaque()),
            animated: transform.is_animated() && info.frames > 1,
            lossless: transform.is_lossless(),
            has_quality: transform.max_bytes().is_some(),
        };
        let encoding = output.choose(&wanted, self.engine.capabilities())?;
        let frames = if wanted.animated && encoding.has_frames() { info.frames } else { 1 };
        self.limits.check_animation(geometry.output, frames)?;
        Ok((encoding, frames))
    }

    /// The header, within the limits for what is wanted of the source.
    fn header(&self, takes_frames: bool) -> Result<Header, ImagingError> {
        let source = self.inputs.source;
        let format = self.engine.sniff(source)?;
        self.limits.check_bytes(source.len(), format == SourceFormat::Svg)?;
        self.check_time()?;
        let header = self.engine.header(source, self.transform.page().unwrap_or(0))?;
        let frames = if takes_frames && self.transform.is_animated() { header.info.frames } else { 1 };
        self.limits.check_header(&header.info, frames)?;
        Ok(header)
    }

    /// Every size for `transform`, which is the job's own or one that differs in size only.
    pub(crate) fn geometry(&self, header: &Header, transform: &Transform) -> Result<Geometry, ImagingError> {
        let used = region(header.info.upright, transform)?;
        let used = match transform.trim() {
            Some(Trim::Border { tolerance }) => {
                self.limits.check_pixels(&header.info, 1)?;
                header.check_drawing(header.info.stored, header.info.stored)?;
                self.without_border(&header.info, used, tolerance).map_err(|error| self.explain(error))?
            }
            Some(Trim::Sides { .. }) | None => used,
        };
        Ok(sizes(used, transform, self.limits.output_px)?)
    }

    /// The part of `used` that is no border. Every pixel of it is decoded for that.
    fn without_border(&self, info: &ImageInfo, used: Region, tolerance: u8) -> Result<Region, VipsError> {
        let image = open(self.inputs.source, info.format, Scale::Full, self.page())?;
        self.guard(&image);
        // Only the first frame of an animation was opened, and a vector picture has the size that it was probed at.
        let image = resize::cut(image, upright::stored_region(used, info.upright, info.orientation), info.stored)?;
        let inside = trim::find(&upright::upright(image, info.orientation)?, tolerance)?;
        Ok(Region { x: used.x + inside.x, y: used.y + inside.y, size: inside.size })
    }

    /// The finished pixels.
    pub(crate) fn picture(
        &self,
        header: Header,
        geometry: Geometry,
        frames: u32,
        keeps_alpha: bool,
    ) -> Result<Image, ImagingError> {
        let overlay = match (self.transform.overlay(), self.inputs.overlay) {
            (None, _) => None,
            (Some(spec), Some(source)) => {
                let made = self.engine.overlay(source, spec, geometry.output, self.limits, self.watch.as_ref());
                Some(made.map_err(|error| ImagingError::Overlay(Box::new(error)))?)
            }
            (Some(_), None) => {
                return Err(ImagingError::NotApplicable { op: "overlay", reason: "its image was not given" });
            }
        };
        header.check_drawing(geometry.region.size, geometry.resized)?;
        let info = header.info.clone();
        let pipeline = Pipeline { info: &info, geometry, transform: self.transform, frames, keeps_alpha, overlay };
        let picture = pipeline.run(self.inputs, header, self.watch.as_ref()).map_err(|error| self.explain(error))?;
        // Encoding what is in memory already is to end at the deadline too.
        self.guard(&picture);
        Ok(picture)
    }

    fn page(&self) -> Pages {
        Pages::One(self.transform.page().unwrap_or(0))
    }

    fn guard(&self, image: &Image) {
        if let Some(watch) = &self.watch {
            watch.guard(image);
        }
    }

    fn is_late(&self) -> bool {
        self.watch.as_ref().is_some_and(Watch::is_expired)
    }

    pub(crate) fn check_time(&self) -> Result<(), ImagingError> {
        if self.is_late() { Err(ImagingError::DeadlineExceeded) } else { Ok(()) }
    }

    /// Whose fault it was. The library's text cannot tell (it is shared between threads), so the source is decoded once
    /// more on its own: if that fails too, it is the source's.
    pub(crate) fn explain(&self, error: VipsError) -> ImagingError {
        if self.is_late() {
            return ImagingError::DeadlineExceeded;
        }
        let source = self.inputs.source;
        let Ok(format) = self.engine.sniff(source) else { return ImagingError::Library(error) };
        let decodes = || {
            let image = self.everything(format)?;
            self.guard(&image);
            Operation::new(c"avg")?.image(c"in", &image)?.run_to_double()
        };
        match decodes() {
            _ if self.is_late() => ImagingError::DeadlineExceeded,
            Ok(_) => ImagingError::Library(error),
            Err(decode_error) => unreadable(decode_error, format, source),
        }
    }

    /// The source with as many of its frames as were wanted.
    fn everything(&self, format: SourceFormat) -> Result<Image, VipsError> {
        let source = self.inputs.source;
        let first = open(source, format, Scale::Full, self.page())?;
        if format == SourceFormat::Svg {
            // Its own size may be any, and how large it is drawn makes no difference to whether it can be.
            let longest = first.width().max(first.height()).max(1);
            return open(
                source,
                format,
                Scale::Factor(DRAWN_AGAIN_PX.min(f64::from(longest)) / f64::from(longest)),
                self.page(),
            );
        }
        if format.pages_are_frames() && self.transform.is_animated() && first.pages() > 1 {
            return open(source, format, Scale::Full, Pages::First(first.pages().min(self.limits.frames)));
        }
        Ok(first)
    }
}
