//! Owns the making of an overlay's image: read, checked and scaled like any source, once for all frames.

use bytes::Bytes;
use transform_url::Transform;
use transform_url::value::Overlay;

use crate::engine::Engine;
use crate::error::ImagingError;
use crate::format::SourceFormat;
use crate::geometry::{Frame, Geometry, Region, Size};
use crate::limits::Limits;
use crate::pipeline::Pipeline;
use crate::probe::unreadable;
use crate::steps::overlay;
use crate::vips::{Image, Watch};

impl Engine {
    /// The image of `spec`, at the size it has on a picture of the size `picture`.
    pub(crate) fn overlay(
        &self,
        source: &Bytes,
        spec: &Overlay,
        picture: Size,
        limits: &Limits,
        watch: Option<&Watch>,
    ) -> Result<Image, ImagingError> {
        let format = self.sniff(source)?;
        limits.check_bytes(source.len(), format == SourceFormat::Svg)?;
        let header = self.header(source, 0)?;
        limits.check_header(&header.info, 1)?;
        let info = header.info.clone();
        let size = overlay::size(info.upright, picture, spec.scale);
        header.check_drawing(info.upright, size)?;
        let geometry = Geometry {
            region: Region { x: 0, y: 0, size: info.upright },
            resized: size,
            frame: Frame::Keep,
            framed: size,
            output: size,
        };
        let transform = Transform::identity();
        let pipeline =
            Pipeline { info: &info, geometry, transform: &transform, frames: 1, keeps_alpha: true, overlay: None };
        pipeline
            .run(source.into(), header, watch)
            .and_then(|image| overlay::prepare(image, spec.opacity))
            .map_err(|error| unreadable(error, format, source))
    }
}
