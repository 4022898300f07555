//! The pictures that encoders are judged by, as renditions without loss.
//!
//! Painted scenes are the same everywhere; real photographs and drawings join them if the environment names a folder of
//! them, because painted grain is not that of a camera.

use std::fs;
use std::io::Cursor;
use std::path::Path;

use anyhow::Context;
use bytes::Bytes;
use devstack::samples::{self, scene};
use image::codecs::gif::{GifEncoder, Repeat};
use image::{Delay, Frame, Rgba, RgbaImage};
use image::{RgbImage, imageops};

use crate::darkroom::Darkroom;
use crate::pictures;
use crate::score::score;

/// What each picture is fitted into.
const BOX: &str = "w=500,h=500";

/// Width of animations.
const ANIMATION_WIDTH: u32 = 320;

/// Pictures of the folder that `CALOTYPE_CORPUS` names, all out of public test suites of image libraries: photographs of
/// several cameras, and drawings with and without transparency. Those that are missing are left out.
const CORPUS: [(&str, Kind); 9] = [
    ("2569067123_aca715a2ee_o.jpg", Kind::Photo),
    ("4.webp", Kind::Photo),
    ("gain-map.jpg", Kind::Photo),
    ("pitm.avif", Kind::Photo),
    ("sdr_cosmos12920_cicp1-13-6_yuv444_full_qp10.avif", Kind::Photo),
    ("Landscape_1.jpg", Kind::Photo),
    ("alpha-premultiply-1024x768-paper.png", Kind::Drawing),
    ("blackbug.png", Kind::Drawing),
    ("test-pattern.png", Kind::Drawing),
];

/// What a picture is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Photographed, or painted to look so.
    Photo,
    /// Lines, areas and letters.
    Drawing,
}

/// A rendition without loss.
#[derive(Debug)]
pub struct Picture {
    /// For the report.
    pub name: String,
    /// What it is of.
    pub kind: Kind,
    /// Millions of pixels, over all frames.
    pub megapixels: f64,
    /// As a libvips file name, with transparency if it has any.
    pub file: String,
    /// The same on white, for what cannot be transparent.
    pub opaque_file: String,
    own: Bytes,
    opaque: Bytes,
    /// Frames that are looked at, with their numbers, on white.
    references: Vec<(u32, RgbImage)>,
}

impl Picture {
    /// The lossless file that is encoded as `format`.
    pub fn source(&self, format: &str) -> &Bytes {
        if has_alpha(format) { &self.own } else { &self.opaque }
    }

    /// The name of that file.
    pub fn source_file(&self, format: &str) -> &str {
        if has_alpha(format) { &self.file } else { &self.opaque_file }
    }

    /// SSIMULACRA2 of `encoded` beside this; of an animation, the mean over some frames.
    ///
    /// # Errors
    /// When it cannot be decoded or has another size.
    pub fn score(&self, darkroom: &Darkroom, encoded: &Bytes) -> anyhow::Result<f64> {
        let mut sum = 0.0;
        for (frame, reference) in &self.references {
            sum += score(reference, &darkroom.frame(encoded, *frame)?)?;
        }
        Ok(sum / self.references.len() as f64)
    }
}

/// Whether `format` holds more transparency than none or all.
fn has_alpha(format: &str) -> bool {
    !matches!(format, "jpeg" | "gif")
}

/// The stills, written into `folder`. `quick` takes three of them.
///
/// # Errors
/// When one cannot be made.
pub fn stills(darkroom: &Darkroom, folder: &Path, corpus: Option<&Path>, quick: bool) -> anyhow::Result<Vec<Picture>> {
    let painted = folder.join("painted");
    let mut sources = if quick { Vec::new() } else { corpus.map(from_corpus).unwrap_or_default() };
    for name in samples::write(&painted)? {
        let kind = if name == "logo.png" { Kind::Drawing } else { Kind::Photo };
        sources.push((name.to_owned(), kind, fs::read(painted.join(name))?));
    }
    sources.push(("cut-out.png".to_owned(), Kind::Photo, pictures::cut_out(1500, 1000)?));
    if quick {
        sources.retain(|(name, ..)| ["beach.jpg", "logo.png", "cut-out.png"].contains(&name.as_str()));
    }
    sources.into_iter().map(|(name, kind, bytes)| still(darkroom, folder, name, kind, bytes)).collect()
}

/// The pictures of one kind.
pub fn of_kind(pictures: &[Picture], kind: Kind) -> impl Iterator<Item = &Picture> {
    pictures.iter().filter(move |picture| picture.kind == kind)
}

/// What the pictures are and how they are judged, for a report.
pub fn describe(stills: &[Picture]) -> String {
    let names = |kind| of_kind(stills, kind).map(|picture| picture.name.as_str()).collect::<Vec<_>>().join(", ");
    format!(
        "Pictures are fitted into 500 × 500 pixels, without loss, by our own engine, encoded from there, decoded by our \
         engine, and scored beside the lossless ones, on white, by SSIMULACRA2 (ssimulacra2 0.5): 90 is not told apart, 70 is \
         high quality, 50 medium, 30 low. Bytes of several pictures are geometric means.\n\n\
         Photographs: {}. Drawings: {}. What scripts do not paint is of public test suites of image libraries.\n",
        names(Kind::Photo),
        names(Kind::Drawing),
    )
}

fn from_corpus(folder: &Path) -> Vec<(String, Kind, Vec<u8>)> {
    let read = |name: &str| [folder.join(name), folder.join("images").join(name)].iter().find_map(|p| fs::read(p).ok());
    CORPUS.iter().filter_map(|(name, kind)| Some(((*name).to_owned(), *kind, read(name)?))).collect()
}

fn still(darkroom: &Darkroom, folder: &Path, name: String, kind: Kind, source: Vec<u8>) -> anyhow::Result<Picture> {
    let source = Bytes::from(source);
    let render = |ops: &str| darkroom.render(&source, &format!("{BOX},f=png{ops}")).with_context(|| name.clone());
    let (own, opaque) = (render("")?, render(",bg=white")?);
    let (file, opaque_file) = (folder.join(format!("{name}.own.png")), folder.join(format!("{name}.opaque.png")));
    fs::write(&file, &own.body)?;
    fs::write(&opaque_file, &opaque.body)?;
    Ok(Picture {
        kind,
        megapixels: f64::from(own.width) * f64::from(own.height) / 1e6,
        file: text(&file)?,
        opaque_file: text(&opaque_file)?,
        references: vec![(0, darkroom.pixels(&opaque.body)?)],
        own: own.body,
        opaque: opaque.body,
        name,
    })
}

/// Two animations: shapes that move on one colour, and a photograph that slides by.
///
/// # Errors
/// When one cannot be made.
pub fn animations(darkroom: &Darkroom, folder: &Path, frames: u32) -> anyhow::Result<Vec<Picture>> {
    let sources = [("shapes", Kind::Drawing, moving_shapes(500, frames)?), ("slide", Kind::Photo, slide(500, frames)?)];
    let made = sources.into_iter().map(|(name, kind, gif)| {
        let small = darkroom.render(&gif.into(), &format!("w={ANIMATION_WIDTH},f=webp,lossless=true"))?;
        let file = folder.join(format!("{name}.webp"));
        fs::write(&file, &small.body)?;
        let looked_at = [frames / 3, 2 * frames / 3];
        let references = looked_at.map(|frame| Ok((frame, darkroom.frame(&small.body, frame)?)));
        Ok(Picture {
            name: name.to_owned(),
            kind,
            megapixels: f64::from(small.width) * f64::from(small.height) * f64::from(frames) / 1e6,
            file: format!("{}[n=-1]", text(&file)?),
            opaque_file: format!("{}[n=-1]", text(&file)?),
            references: references.into_iter().collect::<anyhow::Result<_>>()?,
            opaque: small.body.clone(),
            own: small.body,
        })
    });
    made.collect()
}

fn text(path: &Path) -> anyhow::Result<String> {
    path.to_str().map(str::to_owned).context("a folder's name is no text")
}

/// A GIF of a square of `side`, in which a disc, a box and a bar go their ways.
///
/// # Errors
/// When it cannot be encoded.
pub fn moving_shapes(side: u32, frames: u32) -> anyhow::Result<Vec<u8>> {
    gif((0..frames).map(|number| {
        let turn = f64::from(number) / f64::from(frames) * std::f64::consts::TAU;
        let middle = f64::from(side) / 2.0;
        let (disc_x, disc_y) = (middle + turn.cos() * middle * 0.6, middle + turn.sin() * middle * 0.6);
        let (box_x, bar_y) = (middle * (1.0 + 0.7 * (2.0 * turn).sin()), middle * (1.0 - 0.8 * turn.cos()));
        RgbaImage::from_fn(side, side, |x, y| {
            let (x, y) = (f64::from(x), f64::from(y));
            if (x - disc_x).hypot(y - disc_y) < middle * 0.25 {
                Rgba([200, 60, 40, 255])
            } else if (x - box_x).abs() < middle * 0.15 && (y - middle).abs() < middle * 0.15 {
                Rgba([40, 120, 70, 255])
            } else if (y - bar_y).abs() < middle * 0.04 {
                Rgba([30, 60, 160, 255])
            } else {
                Rgba([240, 236, 224, 255])
            }
        })
    }))
}

/// A GIF of a square of `side` that slides over a painted scene.
fn slide(side: u32, frames: u32) -> anyhow::Result<Vec<u8>> {
    let scene = scene::paint(scene::BEACH, side + frames * 3, side);
    gif((0..frames).map(|number| {
        let part = imageops::crop_imm(&scene, number * 3, 0, side, side).to_image();
        image::DynamicImage::from(part).into_rgba8()
    }))
}

fn gif(frames: impl Iterator<Item = RgbaImage>) -> anyhow::Result<Vec<u8>> {
    /// Of the encoder, 1 to 30; the palette gets no better below.
    const SPEED: i32 = 20;
    let mut bytes = Vec::new();
    let mut encoder = GifEncoder::new_with_speed(Cursor::new(&mut bytes), SPEED);
    encoder.set_repeat(Repeat::Infinite)?;
    for frame in frames {
        encoder.encode_frame(Frame::from_parts(frame, 0, 0, Delay::from_numer_denom_ms(40, 1)))?;
    }
    drop(encoder);
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn animations_have_their_frames_and_move() {
        let darkroom = Darkroom::open().expect("libvips starts");
        let gif = Bytes::from(moving_shapes(60, 4).expect("encodes"));
        let frames: Vec<RgbImage> = (0..4).map(|frame| darkroom.frame(&gif, frame).expect("decodes")).collect();
        assert!(frames.windows(2).all(|pair| pair[0] != pair[1]));
    }
}
