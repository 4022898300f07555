//! Owns the fixed order of the steps, for a still and for each frame of an animation.
//!
//! Must not decide anything: sizes, frames and encoding are settled before the first step runs.

use std::cell::Cell;

use transform_url::Transform;

use crate::animation::{self, Timing};
use crate::geometry::{Geometry, Size};
use crate::probe::{Header, ImageInfo};
use crate::render::Inputs;
use crate::resample::Pixels;
use crate::steps::load::Still;
use crate::steps::{adjust, background, blur, colour, edge, frame, load, overlay, resize, turn, upright};
use crate::vips::{Image, VipsError, Watch};

/// Everything the steps need to know.
pub(crate) struct Pipeline<'a> {
    /// What the header says.
    pub(crate) info: &'a ImageInfo,
    /// Every size.
    pub(crate) geometry: Geometry,
    /// What is to be done.
    pub(crate) transform: &'a Transform,
    /// How many frames come out; 1 is a still.
    pub(crate) frames: u32,
    /// Whether the result can be transparent.
    pub(crate) keeps_alpha: bool,
    /// The finished overlay.
    pub(crate) overlay: Option<Image>,
}

impl Pipeline<'_> {
    /// Makes the picture. What comes out is 8-bit sRGB or grey; an animation is one tall picture with its timing.
    pub(crate) fn run(&self, inputs: Inputs<'_>, header: Header, watch: Option<&Watch>) -> Result<Image, VipsError> {
        let decided = Cell::default();
        let guard = |image: &Image| watch.into_iter().for_each(|watch| watch.guard(image));
        if self.frames == 1 {
            let still = load::still(
                inputs,
                self.info,
                &self.geometry,
                header,
                load::level(self.info, &self.geometry, self.transform),
            )?;
            guard(&still.image);
            let path = colour::path(&still.image);
            let image = self.frame(still, path, &decided, watch)?;
            return background::background(image, self.transform.background(), self.keeps_alpha, false);
        }
        let image = load::frames(inputs.source, self.info, self.frames)?;
        guard(&image);
        let path = colour::path(&image);
        let timing = Timing::read(&image, self.frames);
        let frames = (0..self.frames)
            .map(|index| {
                let image = animation::frame(&image, index, self.info.stored)?;
                self.frame(Still { image, shrunk_by: None, rows: None }, path, &decided, watch)?.to_memory()
            })
            .collect::<Result<Vec<_>, _>>()?;
        drop(image);
        let height = frames.first().map_or(0, Image::height);
        let tall = background::background(timing.join(&frames)?, self.transform.background(), self.keeps_alpha, true)?;
        timing.write(&tall, height)
    }

    /// The steps in their order. `decided` is what the first frame decided for all.
    fn frame(
        &self,
        still: Still,
        path: colour::ColourPath,
        decided: &Cell<Option<(u32, u32)>>,
        watch: Option<&Watch>,
    ) -> Result<Image, VipsError> {
        let Self { info, geometry, transform, .. } = self;
        let orientation = info.orientation;
        let rect = upright::stored_region(geometry.region, info.upright, orientation);
        let is_whole = rect.size == info.stored;
        // Rows come from top to bottom, and whole.
        let rows = still.rows.filter(|_| is_whole);
        let image = resize::cut(still.image, rect, info.stored)?;
        let size = Size::new(image.width(), image.height());
        let from = match still.shrunk_by {
            Some(by) if is_whole => Pixels::shrunk(size, info.stored, by),
            _ => Pixels::all(size),
        };
        let image = colour::before_resize(image, path)?;
        let image = resize::resize(image, (from, rows), upright::stored_size(geometry.resized, orientation), watch)?;
        let seen = frame::region(geometry.frame, geometry.resized);
        let image = resize::extract(image, upright::stored_region(seen, geometry.resized, orientation))?;
        let image = colour::after_resize(image, path)?;
        let image = upright::upright(image, orientation)?;
        let image = frame::content_crop(image, geometry.frame, transform.gravity(), decided)?;
        let image = adjust::adjust(image, transform)?;
        let image = self.soften(image)?;
        let image = frame::pad(image, geometry.frame)?;
        let ground = background::ground(transform.background(), self.keeps_alpha);
        let image = turn::turn(image, transform.flip(), transform.rotate(), ground, geometry.output)?;
        self.decorate(image)
    }

    /// What looks at the surroundings of a pixel.
    fn soften(&self, image: Image) -> Result<Image, VipsError> {
        let (block, sigma, sharpen) = (self.transform.pixelate(), self.transform.blur(), self.transform.sharpen());
        if block.is_none() && sigma.is_none() && sharpen.is_none() {
            return Ok(image);
        }
        // Rows are read more than once from here on, which a decoder that runs from top to bottom does not allow.
        let mut image = image.to_memory()?;
        if let Some(block) = block {
            image = blur::pixelate(&image, block)?;
        }
        if let Some(sigma) = sigma {
            image = blur::blur(&image, sigma)?;
        }
        if let Some(sigma) = sharpen {
            image = blur::sharpen(&image.to_memory()?, sigma)?;
        }
        Ok(image)
    }

    /// What is drawn on the finished picture.
    fn decorate(&self, image: Image) -> Result<Image, VipsError> {
        let mut image = image;
        if let (Some(layer), Some(spec)) = (&self.overlay, self.transform.overlay()) {
            image = overlay::overlay(&image, layer, spec)?;
        }
        if let Some(border) = self.transform.border() {
            image = edge::border(image, border, self.transform.radius())?;
        }
        if let Some(radius) = self.transform.radius() {
            image = edge::round_corners(image, radius)?;
        }
        Ok(image)
    }
}
