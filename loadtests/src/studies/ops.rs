//! What each op costs, beside a rendition without it and beside what libvips itself takes for the same.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;
use tokio::process::Command;

use super::Desk;
use crate::child::{self, Took};
use crate::pictures;
use crate::score::score;
use crate::statistics::Samples;
use crate::table::Table;

/// Renditions in one measurement, after one that is not counted.
const COUNT: usize = 5;

/// Size of the overlay.
const OVERLAY: (u32, u32) = (160, 107);

/// How much more than libvips itself an op may cost.
const RATIO_MAX: f64 = 1.05;

struct Case {
    /// Ops beside `f=jpeg`.
    ops: &'static str,
    /// The same in ceiling/ops.c.
    libvips: &'static str,
}

const fn case(ops: &'static str, libvips: &'static str) -> Case {
    Case { ops, libvips }
}

/// The first is the plain resize.
const CASES: [Case; 24] = [
    case("w=800", "plain"),
    case("w=800,rect=0.25;0.25;0.5;0.5", "rect"),
    case("w=800,trim=10", "trim"),
    case("w=800,h=300,fit=cover", "crop"),
    case("w=800,h=300,fit=cover,g=auto", "attention"),
    case("w=800,h=300,fit=cover,g=entropy", "entropy"),
    case("w=800,h=800,fit=pad,bg=white", "pad"),
    case("w=800,flip=h", "flip"),
    case("w=600,rotate=90", "quarter-turn"),
    case("w=800,rotate=30,bg=white", "turn"),
    case("w=800,brightness=1.2", "brightness"),
    case("w=800,contrast=1.2", "contrast"),
    case("w=800,gamma=1.5", "gamma"),
    case("w=800,saturation=1.5", "saturation"),
    case("w=800,filter=grayscale", "greyscale"),
    case("w=800,filter=sepia", "sepia"),
    case("w=800,filter=invert", "invert"),
    case("w=800,pixelate=16", "pixelate"),
    case("w=800,blur=2", "blur"),
    case("w=800,blur=20", "wide-blur"),
    case("w=800,sharpen=1", "sharpen"),
    case("w=800,border=10;red", "border"),
    case("w=800,radius=40,bg=white", "radius"),
    case("w=800,overlay=cut-out;north-west;10;10;0;1", "overlay"),
];

/// CPU milliseconds of one rendition in a round.
#[derive(Debug, Clone, Copy, Default)]
struct Round {
    ours: f64,
    libvips: f64,
}

/// The pictures and where renditions are written.
struct Inputs {
    source: PathBuf,
    overlay: PathBuf,
    ours: PathBuf,
    libvips: PathBuf,
}

/// The report.
///
/// # Errors
/// When something cannot be rendered or the two do not make pictures of one size.
pub async fn study(desk: &Desk<'_>) -> anyhow::Result<String> {
    let folder = desk.folder();
    pictures::write(folder)?;
    let inputs = Inputs {
        source: folder.join(pictures::CAMERA),
        overlay: folder.join("overlay.png"),
        ours: folder.join("ours.jpg"),
        libvips: folder.join("libvips.jpg"),
    };
    fs::write(&inputs.overlay, pictures::cut_out(OVERLAY.0, OVERLAY.1)?)?;

    let mut rounds = Vec::new();
    let mut likeness = [0.0; CASES.len()];
    for number in 0..desk.rounds() {
        eprintln!("  round {} of {}", number + 1, desk.rounds());
        let mut round = [Round::default(); CASES.len()];
        for turn in 0..CASES.len() {
            let at = (turn + number) % CASES.len();
            round[at] = measure(desk, &inputs, &CASES[at], number % 2 == 0).await.context(CASES[at].libvips)?;
            if number == 0 {
                likeness[at] = compare(&inputs.ours, &inputs.libvips).context(CASES[at].libvips)?;
            }
        }
        rounds.push(round);
    }
    Ok(METHOD.to_owned() + &table(&rounds, &likeness)?)
}

const METHOD: &str = "Renditions of a painted 12-megapixel JPEG of 5 MB, 800 pixels wide, with one op more than the first row has. Ours is the imaging engine in a loop \
    in a process of its own; libvips is `ceiling/ops.c`, the libvips calls that the op needs in a loop, with the same jemalloc, \
    one thread, the same resize before and the same encoder after. *Plain* is the first row. *The op alone* is the difference to \
    plain, in one round. *Alike* is SSIMULACRA2 of ours beside that of libvips. Ratios are made within a round, and the medians \
    of the rounds are shown. The goal is no more than 1.05 of libvips.\n\n";

async fn measure(desk: &Desk<'_>, inputs: &Inputs, case: &Case, ours_first: bool) -> anyhow::Result<Round> {
    let (ours, libvips);
    if ours_first {
        ours = self::ours(desk, inputs, case).await?;
        libvips = self::libvips(desk, inputs, case).await?;
    } else {
        libvips = self::libvips(desk, inputs, case).await?;
        ours = self::ours(desk, inputs, case).await?;
    }
    Ok(Round { ours: ours.cpu * 1e3, libvips: libvips.cpu * 1e3 })
}

async fn ours(desk: &Desk<'_>, inputs: &Inputs, case: &Case) -> anyhow::Result<Took> {
    let mut command = desk.render_loop()?;
    command.arg("--overlay").arg(&inputs.overlay).arg(&inputs.source);
    command.args([&format!("f=jpeg,{}", case.ops), "1", &COUNT.to_string()]).arg(&inputs.ours);
    child::measured(&mut command).await
}

async fn libvips(desk: &Desk<'_>, inputs: &Inputs, case: &Case) -> anyhow::Result<Took> {
    let mut command = Command::new(&desk.tools.libvips_ops);
    command.arg(&inputs.source).arg(&inputs.overlay);
    command.args([case.libvips, "1", &COUNT.to_string()]).arg(&inputs.libvips);
    child::measured(&mut command).await
}

fn compare(ours: &Path, libvips: &Path) -> anyhow::Result<f64> {
    let (ours, libvips) = (image::open(ours)?.into_rgb8(), image::open(libvips)?.into_rgb8());
    // The corners of a turned picture are rounded to a pixel more or less.
    let (width, height) = (ours.width().min(libvips.width()), ours.height().min(libvips.height()));
    anyhow::ensure!(
        ours.width().abs_diff(libvips.width()) <= 1 && ours.height().abs_diff(libvips.height()) <= 1,
        "the pictures have other sizes: {:?} and {:?}",
        ours.dimensions(),
        libvips.dimensions(),
    );
    let cut = |picture: &image::RgbImage| image::imageops::crop_imm(picture, 0, 0, width, height).to_image();
    score(&cut(&ours), &cut(&libvips))
}

fn table(rounds: &[[Round; CASES.len()]], likeness: &[f64; CASES.len()]) -> anyhow::Result<String> {
    let mut table = Table::new(&[
        "op",
        "CPU",
        "÷ plain",
        "libvips",
        "÷ libvips",
        "lowest – highest",
        "≤ 1.05",
        "the op alone",
        "of libvips",
        "alike",
    ]);
    let mut missed = Vec::new();
    for (at, case) in CASES.iter().enumerate() {
        let samples = |of: &dyn Fn(&[Round; CASES.len()]) -> f64| {
            Samples::new(rounds.iter().map(of).collect()).context("there were no rounds")
        };
        let median = |of: &dyn Fn(&[Round; CASES.len()]) -> f64| Ok::<_, anyhow::Error>(samples(of)?.median());
        let ratio = samples(&|round| round[at].ours / round[at].libvips)?;
        let spread = ratio.spread();
        let is_met = ratio.median() <= RATIO_MAX;
        if !is_met {
            missed.push(format!("`{}`", case.ops));
        }
        table.row(&[
            format!("`{}`", case.ops),
            format!("{:.1} ms", median(&|round| round[at].ours)?),
            format!("{:.2}", median(&|round| round[at].ours / round[0].ours)?),
            format!("{:.1} ms", median(&|round| round[at].libvips)?),
            format!("{:.3}", ratio.median()),
            format!("{:.3} – {:.3}", spread.lowest, spread.highest),
            if is_met { "yes" } else { "**no**" }.to_owned(),
            format!("{:.1} ms", median(&|round| round[at].ours - round[0].ours)?),
            format!("{:.1} ms", median(&|round| round[at].libvips - round[0].libvips)?),
            format!("{:.1}", likeness[at]),
        ]);
    }
    let summary = match missed.len() {
        0 => "All ops meet the goal.".to_owned(),
        _ => format!("Above the goal: {}.", missed.join(", ")),
    };
    Ok(format!("{}\n{summary}\n", table.into_text()))
}
