//! Owns one render from beginning to end: check, plan, run the steps in order, encode, explain a failure.

use bytes::Bytes;
use transform_url::Transform;

use crate::encoder::{EncoderDefaults, encode, quality};
use crate::engine::Engine;
use crate::error::ImagingError;
use crate::format::{Encoding, SourceFormat};
use crate::geometry::{Geometry, Size, geometry};
use crate::limits::Limits;
use crate::output::{Class, Output};
use crate::probe::{ImageInfo, Scale, describe, open, unreadable};
use crate::report::Report;
use crate::steps::{background, colour, frame, load, resize, turn, upright};
use crate::support::supports;
use crate::vips::{Image, Operation, VipsError, Watch};

/// A finished rendition.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Rendered {
    /// The encoded bytes.
    pub body: Bytes,
    /// What they are.
    pub encoding: Encoding,
    /// Width of the picture in pixels; for JSON, of the upright source.
    pub width: u32,
    /// Height of the picture in pixels; for JSON, of the upright source.
    pub height: u32,
}

impl Rendered {
    fn new(body: Vec<u8>, encoding: Encoding, size: Size) -> Self {
        Self { body: Bytes::from(body), encoding, width: size.width, height: size.height }
    }

    /// The media type of the body.
    pub fn content_type(&self) -> &'static str {
        self.encoding.content_type()
    }
}

impl Engine {
    /// Makes what `transform` asks for out of `source`. With `f=auto` the encoding is the best that a client of `class`
    /// can show, or without a class that every client can.
    ///
    /// Blocks the calling thread. Everything the header tells is checked before a pixel is decoded. The same input gives
    /// the same bytes on the same library.
    ///
    /// # Errors
    /// [`ImagingError`]. Past `limits.deadline` the running evaluation is stopped.
    pub fn render(
        &self,
        source: &Bytes,
        transform: &Transform,
        class: Option<Class>,
        defaults: &EncoderDefaults,
        limits: &Limits,
    ) -> Result<Rendered, ImagingError> {
        supports(transform)?;
        let output = Output::new(transform, class)?;
        let format = self.sniff(source)?;
        limits.check_bytes(source.len(), format == SourceFormat::Svg)?;
        let watch = limits.deadline.map(Watch::new);
        check_time(watch.as_ref())?;
        let header = open(source, format, Scale::Full).map_err(|error| unreadable(error, format, source))?;
        let info = describe(&header, format, source.len());
        limits.check_header(&info)?;
        if output == Output::Exactly(Encoding::Json) {
            return Ok(Rendered::new(Report::new(&info).to_json(), Encoding::Json, info.upright));
        }
        let geometry = geometry(info.upright, transform, limits.output_px)?;
        let encoding = output.choose(geometry.output, info.alpha, self.capabilities())?;
        let plan = Plan { info, geometry, transform, keeps_alpha: encoding.has_alpha() };
        plan.run(source, header, watch.as_ref())
            .and_then(|image| encode(self, &image, encoding, quality(transform.quality(), encoding, output, defaults)))
            .map(|body| Rendered::new(body, encoding, plan.geometry.output))
            .map_err(|error| explain(error, watch.as_ref(), format, source))
    }
}

/// Everything the steps need to know, settled before the first one runs.
struct Plan<'a> {
    info: ImageInfo,
    geometry: Geometry,
    transform: &'a Transform,
    keeps_alpha: bool,
}

impl Plan<'_> {
    /// The fixed order of the steps.
    fn run(&self, source: &Bytes, header: Image, watch: Option<&Watch>) -> Result<Image, VipsError> {
        let Self { info, geometry, transform, .. } = self;
        let orientation = info.orientation;
        let path = colour::path(&header);
        let image = load::load(source, info, header, load::scale(info, geometry))?;
        if let Some(watch) = watch {
            watch.guard(&image);
        }
        let rect = upright::stored_region(geometry.region, info.upright, orientation);
        let image = resize::cut(image, rect, info.stored)?;
        let image = colour::before_resize(image, path)?;
        let image = resize::resize(image, upright::stored_size(geometry.resized, orientation))?;
        let seen = frame::region(geometry.frame, geometry.resized);
        let image = resize::extract(image, upright::stored_region(seen, geometry.resized, orientation))?;
        let image = colour::after_resize(image, path)?;
        let image = upright::upright(image, orientation)?;
        let image = frame::frame(image, geometry.frame, transform.gravity())?;
        let image = turn::turn(image, transform.flip(), transform.rotate(), geometry.output)?;
        background::background(image, transform.background(), self.keeps_alpha)
    }
}

fn check_time(watch: Option<&Watch>) -> Result<(), ImagingError> {
    if watch.is_some_and(Watch::is_expired) { Err(ImagingError::DeadlineExceeded) } else { Ok(()) }
}

/// Whose fault it was. The library's text cannot tell (it is shared between threads), so the source is decoded once more
/// on its own: if that fails too, it is the source's.
fn explain(error: VipsError, watch: Option<&Watch>, format: SourceFormat, source: &Bytes) -> ImagingError {
    if watch.is_some_and(Watch::is_expired) {
        return ImagingError::DeadlineExceeded;
    }
    let decodes = || {
        let image = open(source, format, Scale::Full)?;
        if let Some(watch) = watch {
            watch.guard(&image);
        }
        Operation::new(c"avg")?.image(c"in", &image)?.run_to_double()
    };
    match decodes() {
        _ if watch.is_some_and(Watch::is_expired) => ImagingError::DeadlineExceeded,
        Ok(_) => ImagingError::Library(error),
        Err(decode_error) => unreadable(decode_error, format, source),
    }
}
