//! Encoder settings: which qualities look alike, what each setting costs, and how ours compare with another server's.

mod alike;
mod candidates;
mod peers;
mod settings;

use std::fs;

use anyhow::Context;
use bytes::Bytes;
use tokio::process::Command;

use super::Desk;
use crate::child::{self, Took};
use crate::gallery::{self, Kind, Picture};

/// Frames of the animations.
const FRAMES: u32 = 24;

/// The formats that have a quality, as URLs name them.
const FORMATS: [&str; 4] = ["jpeg", "webp", "avif", "jxl"];

/// The report.
///
/// # Errors
/// When a picture cannot be made, encoded or scored.
pub async fn study(desk: &Desk<'_>) -> anyhow::Result<String> {
    eprintln!("  making the pictures");
    let corpus = desk.tools.corpus.as_deref();
    let stills = gallery::stills(&desk.darkroom, desk.folder(), corpus, desk.quick)?;
    let animations = gallery::animations(&desk.darkroom, desk.folder(), FRAMES)?;
    let names = |kind| {
        let names: Vec<&str> = stills.iter().filter(|p| p.kind == kind).map(|p| p.name.as_str()).collect();
        names.join(", ")
    };
    let mut text = format!(
        "Pictures are fitted into 500 × 500 pixels, without loss, by our own engine, encoded from there, decoded by our \
         engine, and scored beside the lossless ones, on white, by SSIMULACRA2 (ssimulacra2 0.5): 90 is not told apart, 70 is \
         high quality, 50 medium, 30 low. Bytes of several pictures are geometric means.\n\n\
         Photographs: {}. Drawings: {}. Files that scripts do not paint are of public test suites of image libraries.\n",
        names(Kind::Photo),
        names(Kind::Drawing),
    );
    let settings = settings::study(desk, &stills, &animations).await?;
    text.push_str(&alike::study(desk, &stills)?);
    text.push_str(&settings);
    text.push_str(&peers::study(desk).await?);
    Ok(text)
}

/// The pictures of one kind.
fn of_kind(pictures: &[Picture], kind: Kind) -> impl Iterator<Item = &Picture> {
    pictures.iter().filter(move |picture| picture.kind == kind)
}

/// Encodes `file`, a libvips file name, so many times with `saver`, an ending with options.
async fn encode(desk: &Desk<'_>, file: &str, saver: &str, count: usize) -> anyhow::Result<(Took, Bytes)> {
    let out = tempfile::NamedTempFile::new_in(desk.folder())?.into_temp_path();
    let warm_ups = if count > 1 { "1" } else { "0" };
    let mut command = Command::new(&desk.tools.encode);
    command.args([file, saver, warm_ups, &count.to_string()]).arg(&out);
    let took = child::measured(&mut command).await.with_context(|| saver.to_owned())?;
    Ok((took, fs::read(&out)?.into()))
}
