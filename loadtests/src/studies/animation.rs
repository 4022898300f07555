//! An animation of a hundred frames: time and memory, beside libvips' own program.

use std::fs;
use std::path::Path;

use anyhow::{Context, ensure};
use imaging::EncoderDefaults;
use tokio::process::Command;

use super::Desk;
use crate::child;
use crate::gallery::moving_shapes;
use crate::report::{Figure, Goal, Row, Unit};

/// Frames of the source.
const FRAMES: u32 = 100;
/// Side of the source, in pixels.
const SIDE: u32 = 500;
/// Width of the result.
const WIDTH: u32 = 320;
/// Effort of the encoder, as in `crates/imaging/src/encoder.rs`.
const EFFORT: u32 = 4;

/// What one run of a program took.
#[derive(Debug, Clone, Copy, Default)]
struct Took {
    wall_ms: f64,
    cpu_ms: f64,
    peak_megabytes: f64,
    bytes: f64,
}

/// The report.
///
/// # Errors
/// When a program fails or its result is no animation of as many frames.
pub async fn study(desk: &Desk<'_>) -> anyhow::Result<String> {
    let source = desk.folder().join("moving.gif");
    fs::write(&source, moving_shapes(SIDE, FRAMES)?)?;
    let quality = EncoderDefaults::default().webp;
    let out = desk.folder().join("out.webp");
    let mut rounds = Vec::new();
    for number in 0..desk.rounds() {
        eprintln!("  round {} of {}", number + 1, desk.rounds());
        let mut ours = timed(desk);
        ours.arg(std::env::current_exe()?).arg("render").arg(&source);
        ours.args([&format!("w={WIDTH},f=webp"), "0", "1"]).arg(&out);
        let mut libvips = timed(desk);
        libvips.arg(&desk.tools.vipsthumbnail).arg(format!("{}[n=-1]", source.display()));
        libvips.args(["--size", &WIDTH.to_string(), "--output"]);
        libvips.arg(format!("{}[Q={quality},effort={EFFORT},strip]", out.display()));
        let mut took = [Took::default(); 2];
        for turn in 0..2 {
            let at = (turn + number) % 2;
            took[at] = run(desk, if at == 0 { &mut ours } else { &mut libvips }, &out).await?;
        }
        rounds.push(took);
    }
    let rows = rows(&rounds)?;
    let method = vec![
        format!(
            "A GIF of {FRAMES} frames of {SIDE} × {SIDE} pixels, painted, becomes an animated WebP {WIDTH} pixels wide, at quality \
             {quality} and effort {EFFORT}."
        ),
        "Ours is the imaging engine in a process of its own that renders once and ends; libvips is `vipsthumbnail` on all \
         frames. GNU time tells what a process took: user and system time (to 10 ms), and its largest resident set."
            .to_owned(),
        "Both results are decoded and have all frames.".to_owned(),
    ];
    Ok(Figure { method, rows, ..Figure::default() }.to_markdown("."))
}

fn timed(desk: &Desk<'_>) -> Command {
    let mut command = Command::new(&desk.tools.time);
    command.args(["--format", "%e %U %S %M", "--output"]).arg(desk.folder().join("time"));
    command
}

async fn run(desk: &Desk<'_>, command: &mut Command, out: &Path) -> anyhow::Result<Took> {
    child::output(command).await?;
    let text = fs::read_to_string(desk.folder().join("time"))?;
    let numbers: Vec<f64> = text.split_whitespace().map_while(|word| word.parse().ok()).collect();
    let [wall, user, system, kib] = numbers[..] else { anyhow::bail!("GNU time says: {text}") };
    let body = fs::read(out)?.into();
    let frames = desk.darkroom.frames(&body).context("the result cannot be read")?;
    ensure!(frames == FRAMES, "the result has {frames} frames");
    fs::remove_file(out)?;
    Ok(Took {
        wall_ms: wall * 1e3,
        cpu_ms: (user + system) * 1e3,
        peak_megabytes: kib * 1024.0 / 1e6,
        bytes: body.len() as f64,
    })
}

fn rows(rounds: &[[Took; 2]]) -> anyhow::Result<Vec<Row>> {
    let row =
        |what: &str, unit, number: fn(&[Took; 2]) -> f64| Row::median(what, unit, rounds.iter().map(number).collect());
    Ok(vec![
        row("peak memory, ours", Unit::Megabytes, |took| took[0].peak_megabytes)?.with_goal(Goal::Below(200.0)),
        row("peak memory, vipsthumbnail", Unit::Megabytes, |took| took[1].peak_megabytes)?,
        row("CPU, ours", Unit::Milliseconds, |took| took[0].cpu_ms)?,
        row("CPU, vipsthumbnail", Unit::Milliseconds, |took| took[1].cpu_ms)?,
        row("CPU, ours ÷ vipsthumbnail", Unit::Ratio, |took| took[0].cpu_ms / took[1].cpu_ms)?,
        row("on the clock, ours", Unit::Milliseconds, |took| took[0].wall_ms)?,
        row("on the clock, vipsthumbnail", Unit::Milliseconds, |took| took[1].wall_ms)?,
        row("size, ours", Unit::Bytes, |took| took[0].bytes)?,
        row("size, vipsthumbnail", Unit::Bytes, |took| took[1].bytes)?,
    ])
}
