//! Owns the arithmetic of sizes: from a source's size and a transform to every size on the way. Pure numbers, no pixels.
//!
//! Everything is in the upright picture, that is after the EXIF orientation is applied. `width` and `height` name the axes
//! of the *result*, so a quarter turn by `rotate` swaps what they mean for the picture before it is turned.

use transform_url::Transform;
use transform_url::value::{Compass, Decimal, Fit, Gravity, Rect, Trim};

/// Longest side of a picture that is only ever cut from, in pixels. A 20000×1 source that has to cover a square would need
/// a side of millions; libvips computes only what is cut out, but its coordinates end.
const RESIZED_PX_MAX: u32 = 1_000_000;
/// Most pixels of a picture whose content decides where it is cut: all of it has to be in memory.
const CONTENT_CROP_PIXELS_MAX: u64 = 64_000_000;

/// A size in pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Size {
    /// Pixels across.
    pub width: u32,
    /// Pixels down.
    pub height: u32,
}

impl Size {
    /// Width and height.
    pub const fn new(width: u32, height: u32) -> Self {
        Self { width, height }
    }

    /// Number of pixels.
    pub fn pixels(self) -> u64 {
        u64::from(self.width) * u64::from(self.height)
    }

    /// With the axes exchanged.
    #[must_use]
    pub fn swapped(self) -> Self {
        Self { width: self.height, height: self.width }
    }

    /// Shrunk to at most `limit_px` a side if it is larger.
    #[must_use]
    pub(crate) fn within(self, limit_px: u32) -> Self {
        let frame = Self::new(limit_px, limit_px);
        if is_inside(self, frame) { self } else { contained(self, frame).unwrap_or(frame) }
    }

    fn swapped_if(self, swap: bool) -> Self {
        if swap { self.swapped() } else { self }
    }
}

impl std::fmt::Display for Size {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}x{}", self.width, self.height)
    }
}

/// A part of a picture, in pixels from the top left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Region {
    /// From the left.
    pub x: u32,
    /// From the top.
    pub y: u32,
    /// How big it is.
    pub size: Size,
}

/// What is done to the resized picture to get the frame it is shown in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Frame {
    /// Nothing.
    Keep,
    /// This part is cut out.
    Crop(Region),
    /// A part of this size is cut out, where its content decides.
    ContentCrop(Size),
    /// The picture is laid on a canvas of `canvas`, its top left corner at (`x`, `y`).
    Pad {
        /// The canvas.
        canvas: Size,
        /// From its left.
        x: u32,
        /// From its top.
        y: u32,
    },
}

/// Every size between source and result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Geometry {
    /// The part of the upright source that is used.
    pub region: Region,
    /// What that part is scaled to.
    pub resized: Size,
    /// What becomes of it.
    pub frame: Frame,
    /// Size of the framed picture, before it is turned.
    pub framed: Size,
    /// Size of the result.
    pub output: Size,
}

/// Why a transform cannot be applied to a source of some size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum GeometryError {
    /// The rect lies outside of the picture altogether.
    #[error("the rect lies outside of the {source_size} picture")]
    RectOutside {
        /// Size of the upright source.
        source_size: Size,
    },
    /// The trim leaves nothing of the picture.
    #[error("the trim leaves nothing of the {source_size} picture")]
    TrimmedAway {
        /// Size of the upright source, or of its rect.
        source_size: Size,
    },
    /// The result, or the picture it would be cut from, is too large.
    #[error("the result would have {width}x{height} pixels, more than {limit_px} a side")]
    OutputTooLarge {
        /// Its width in pixels.
        width: u64,
        /// Its height in pixels.
        height: u64,
        /// The longest side allowed, in pixels.
        limit_px: u32,
    },
}

/// The sizes for a source of the upright size `source`; no side of the result is longer than `limit_px`.
///
/// `width` and `height` are the box of the result. With both given:
///
/// | fit | result |
/// |---|---|
/// | `scale-down` | inside the box, aspect kept, never enlarged |
/// | `contain` | inside the box, touching it, aspect kept, enlarged if needed |
/// | `scale-up` | as `contain` if that enlarges; otherwise the source's own size |
/// | `cover` | exactly the box: scaled until it is covered, the rest cut off, enlarged if needed |
/// | `crop` | as `cover`, but never enlarged: each side is the box's or the source's, whichever is shorter |
/// | `pad` | exactly the box: as `contain`, the rest filled with the background |
/// | `squeeze` | exactly the box, aspect not kept |
///
/// With one of them the other follows from the aspect ratio. With none the picture keeps its size, or is shrunk to
/// `limit_px`. A side is rounded to the nearest pixel and never below 1. A `rotate` that is no quarter turn comes last and
/// grows the result to hold the turned picture. A rect that lies partly outside is clipped to the picture. A trim by colour
/// is left out: it needs the pixels.
///
/// # Errors
/// [`GeometryError`] if the rect misses the picture, the trim leaves nothing of it, or the result is too large.
pub fn geometry(source: Size, transform: &Transform, limit_px: u32) -> Result<Geometry, GeometryError> {
    sizes(region(source, transform)?, transform, limit_px)
}

/// The part of an upright source of the size `source` that `transform` uses, as far as numbers alone decide.
pub(crate) fn region(source: Size, transform: &Transform) -> Result<Region, GeometryError> {
    let region = match transform.rect() {
        Some(rect) => clip(rect, source)?,
        None => Region { x: 0, y: 0, size: source },
    };
    match transform.trim() {
        Some(Trim::Sides { top, right, bottom, left }) => {
            let size = region.size;
            let trimmed_away = GeometryError::TrimmedAway { source_size: size };
            let rest = |side: u32, from: u32, to: u32| side.checked_sub(from)?.checked_sub(to).filter(|rest| *rest > 0);
            let width = rest(size.width, left, right).ok_or(trimmed_away)?;
            let height = rest(size.height, top, bottom).ok_or(trimmed_away)?;
            Ok(Region { x: region.x + left, y: region.y + top, size: Size::new(width, height) })
        }
        Some(Trim::Border { .. }) | None => Ok(region),
    }
}

/// The sizes from a part of the source on.
pub(crate) fn sizes(region: Region, transform: &Transform, limit_px: u32) -> Result<Geometry, GeometryError> {
    let angle = transform.rotate();
    let (width, height) = match (transform.width(), transform.height()) {
        (width, height) if is_swapping(angle) => (height, width),
        sides => sides,
    };
    let (resized, framed) = match (width, height) {
        (Some(width), Some(height)) => in_box(region.size, Size::new(width, height), transform.fit())?,
        (None, None) => {
            let resized = region.size.within(limit_px);
            (resized, resized)
        }
        (width, height) => {
            let resized = to_side(region.size, width, height, transform.fit())?;
            (resized, resized)
        }
    };
    let output = turned(framed, angle);
    if output.width > limit_px || output.height > limit_px {
        return Err(too_large(output.width.into(), output.height.into(), limit_px));
    }
    let frame = place(resized, framed, transform.gravity())?;
    Ok(Geometry { region, resized, frame, framed, output })
}

/// Whether turning by `angle` degrees exchanges the axes.
pub(crate) fn is_swapping(angle: u16) -> bool {
    angle == 90 || angle == 270
}

fn too_large(width: u64, height: u64, limit_px: u32) -> GeometryError {
    GeometryError::OutputTooLarge { width, height, limit_px }
}

/// `length × numerator ÷ denominator`, rounded half up, at least 1. In whole numbers: equal on every machine.
fn scaled(length: u32, numerator: u32, denominator: u32) -> u64 {
    let denominator = u64::from(denominator.max(1));
    ((u64::from(length) * u64::from(numerator) + denominator / 2) / denominator).max(1)
}

fn bounded(width: u64, height: u64) -> Result<Size, GeometryError> {
    let side = |length: u64| u32::try_from(length).ok().filter(|length| *length <= RESIZED_PX_MAX);
    match (side(width), side(height)) {
        (Some(width), Some(height)) => Ok(Size { width, height }),
        _ => Err(too_large(width, height, RESIZED_PX_MAX)),
    }
}

/// `size` scaled so that its width is `width`.
fn to_width(size: Size, width: u32) -> Result<Size, GeometryError> {
    bounded(width.into(), scaled(size.height, width, size.width))
}

/// `size` scaled so that its height is `height`.
fn to_height(size: Size, height: u32) -> Result<Size, GeometryError> {
    bounded(scaled(size.width, height, size.height), height.into())
}

/// Whether `a` is relatively wider than `b`.
fn is_wider(a: Size, b: Size) -> bool {
    u64::from(a.width) * u64::from(b.height) > u64::from(b.width) * u64::from(a.height)
}

fn is_inside(size: Size, frame: Size) -> bool {
    size.width <= frame.width && size.height <= frame.height
}

/// Scaled to touch the box from inside.
fn contained(size: Size, frame: Size) -> Result<Size, GeometryError> {
    if is_wider(size, frame) { to_width(size, frame.width) } else { to_height(size, frame.height) }
}

/// Scaled to touch the box from outside.
fn covering(size: Size, frame: Size) -> Result<Size, GeometryError> {
    if is_wider(size, frame) { to_height(size, frame.height) } else { to_width(size, frame.width) }
}

/// (resized, framed) for a box with both sides given.
fn in_box(size: Size, frame: Size, fit: Fit) -> Result<(Size, Size), GeometryError> {
    Ok(match fit {
        Fit::ScaleDown if is_inside(size, frame) => (size, size),
        Fit::ScaleUp if !is_inside(size, frame) => (size, size),
        Fit::ScaleDown | Fit::ScaleUp | Fit::Contain => {
            let resized = contained(size, frame)?;
            (resized, resized)
        }
        Fit::Cover => (covering(size, frame)?, frame),
        Fit::Crop => {
            let shrinks = size.width >= frame.width && size.height >= frame.height;
            let resized = if shrinks { covering(size, frame)? } else { size };
            (resized, Size::new(resized.width.min(frame.width), resized.height.min(frame.height)))
        }
        Fit::Pad => (contained(size, frame)?, frame),
        Fit::Squeeze => (frame, frame),
    })
}

/// The size for one given side.
fn to_side(size: Size, width: Option<u32>, height: Option<u32>, fit: Fit) -> Result<Size, GeometryError> {
    let grows = width.is_some_and(|width| width > size.width) || height.is_some_and(|height| height > size.height);
    let keeps = match fit {
        Fit::ScaleDown | Fit::Crop => grows,
        Fit::ScaleUp => !grows,
        Fit::Contain | Fit::Cover | Fit::Pad | Fit::Squeeze => false,
    };
    match (width, height) {
        _ if keeps => Ok(size),
        (Some(width), _) => to_width(size, width),
        (None, Some(height)) => to_height(size, height),
        (None, None) => Ok(size),
    }
}

fn clip(rect: Rect, source: Size) -> Result<Region, GeometryError> {
    let outside = GeometryError::RectOutside { source_size: source };
    let (left, top, right, bottom) = match rect {
        Rect::Pixels { x, y, w, h } => (x, y, x.saturating_add(w), y.saturating_add(h)),
        Rect::Fractions { x, y, w, h } => {
            let edge = |at: f64, side: u32| {
                // At most 2 × 10,000,000 and never negative, so the cast is exact.
                (at * f64::from(side)).round() as u32
            };
            let span = |from: Decimal, length: Decimal, side: u32| {
                let end = if from < Decimal::ONE { side.saturating_sub(1) } else { side };
                let start = edge(from.to_f64(), side).min(end);
                (start, edge(from.to_f64() + length.to_f64(), side).max(start + 1))
            };
            let ((left, right), (top, bottom)) = (span(x, w, source.width), span(y, h, source.height));
            (left, top, right, bottom)
        }
    };
    if left >= source.width || top >= source.height {
        return Err(outside);
    }
    let (right, bottom) = (right.min(source.width), bottom.min(source.height));
    Ok(Region { x: left, y: top, size: Size::new(right - left, bottom - top) })
}

/// The size of what holds a `size` picture turned by `angle` degrees.
fn turned(size: Size, angle: u16) -> Size {
    if angle.is_multiple_of(90) {
        return size.swapped_if(is_swapping(angle));
    }
    let (sin, cos) = f64::from(angle).to_radians().sin_cos();
    let (width, height) = (f64::from(size.width), f64::from(size.height));
    let (sin, cos) = (sin.abs(), cos.abs());
    // Both sides are at most RESIZED_PX_MAX, so the sums fit.
    Size::new((width * cos + height * sin).round() as u32, (width * sin + height * cos).round() as u32)
}

fn place(resized: Size, framed: Size, gravity: Gravity) -> Result<Frame, GeometryError> {
    if resized == framed {
        return Ok(Frame::Keep);
    }
    if is_inside(resized, framed) {
        let x = pad_offset(framed.width - resized.width, gravity, Axis::Horizontal);
        let y = pad_offset(framed.height - resized.height, gravity, Axis::Vertical);
        return Ok(Frame::Pad { canvas: framed, x, y });
    }
    if matches!(gravity, Gravity::Auto | Gravity::Entropy) {
        if resized.pixels() > CONTENT_CROP_PIXELS_MAX {
            return Err(too_large(resized.width.into(), resized.height.into(), RESIZED_PX_MAX));
        }
        return Ok(Frame::ContentCrop(framed));
    }
    let x = crop_offset(resized.width, framed.width, gravity, Axis::Horizontal);
    let y = crop_offset(resized.height, framed.height, gravity, Axis::Vertical);
    Ok(Frame::Crop(Region { x, y, size: framed }))
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Axis {
    Horizontal,
    Vertical,
}

/// How much of the free length lies before the picture: 0 none, 1 half, 2 all.
pub(crate) fn halves_before(compass: Compass, axis: Axis) -> u32 {
    use Compass::{Center, East, North, NorthEast, NorthWest, South, SouthEast, SouthWest, West};
    match (axis, compass) {
        (Axis::Horizontal, West | NorthWest | SouthWest) | (Axis::Vertical, North | NorthEast | NorthWest) => 0,
        (Axis::Horizontal, North | Center | South) | (Axis::Vertical, West | Center | East) => 1,
        (Axis::Horizontal, East | NorthEast | SouthEast) | (Axis::Vertical, South | SouthEast | SouthWest) => 2,
    }
}

fn focal_along(x: Decimal, y: Decimal, axis: Axis) -> f64 {
    match axis {
        Axis::Horizontal => x.to_f64(),
        Axis::Vertical => y.to_f64(),
    }
}

/// Where the cut begins on a side of `length` of which `kept` stays.
fn crop_offset(length: u32, kept: u32, gravity: Gravity, axis: Axis) -> u32 {
    let free = length.saturating_sub(kept);
    match gravity {
        Gravity::Compass(compass) => free * halves_before(compass, axis) / 2,
        Gravity::Focal { x, y } => {
            let centre = focal_along(x, y, axis) * f64::from(length);
            // Clamped to 0..=free, so the cast is exact.
            (centre - f64::from(kept) / 2.0).round().clamp(0.0, f64::from(free)) as u32
        }
        Gravity::Auto | Gravity::Entropy => free / 2,
    }
}

/// Where the picture begins on a side with `free` pixels to spare. Content has no say in where padding goes.
fn pad_offset(free: u32, gravity: Gravity, axis: Axis) -> u32 {
    match gravity {
        Gravity::Compass(compass) => free * halves_before(compass, axis) / 2,
        // At most `free`.
        Gravity::Focal { x, y } => (focal_along(x, y, axis) * f64::from(free)).round() as u32,
        Gravity::Auto | Gravity::Entropy => free / 2,
    }
}
