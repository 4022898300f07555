//! Studies, one folder or file each, which write reports of their own: of the imaging engine alone, what settings are chosen by and
//! what ops cost; and of the control plane.
//!
//! Those of the engine start no server. Must not change a setting; `crates/imaging` holds them.

mod animation;
mod api;
mod collections;
mod efforts;
mod encoders;
mod ops;
mod quality;
mod uploads;
mod usage;
mod webhooks;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;
use bytes::Bytes;
use clap::{Args, ValueEnum};
use tempfile::{NamedTempFile, TempDir};
use tokio::process::Command;

use crate::child::{self, Took};
use crate::darkroom::Darkroom;
use crate::gallery::{self, Picture};
use crate::machine::Machine;

/// The programs that studies measure with. `script/loadtest` builds and installs them.
#[derive(Debug, Args)]
pub struct StudyTools {
    /// The compiled ceiling/encode.c.
    #[arg(long, value_name = "FILE", default_value = "target/release/encode")]
    pub encode: PathBuf,
    /// The compiled ceiling/ops.c.
    #[arg(long, value_name = "FILE", default_value = "target/release/ops")]
    pub libvips_ops: PathBuf,
    /// The compiled ceiling/shrink.c.
    #[arg(long, value_name = "FILE", default_value = "target/release/shrink")]
    pub shrink: PathBuf,
    /// libvips' own program for thumbnails.
    #[arg(long, value_name = "FILE", default_value = "/usr/bin/vipsthumbnail")]
    pub vipsthumbnail: PathBuf,
    /// GNU time.
    #[arg(long, value_name = "FILE", default_value = "/usr/bin/time")]
    pub time: PathBuf,
    /// The control plane, built for release.
    #[arg(long, value_name = "FILE", default_value = "target/release/control-plane")]
    pub control_plane: PathBuf,
    /// A folder of photographs and drawings that join the painted pictures.
    #[arg(long, value_name = "FOLDER", env = "CALOTYPE_CORPUS")]
    pub corpus: Option<PathBuf>,
}

/// What can be studied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum StudyName {
    /// Which qualities of which encoder look alike.
    Quality,
    /// What encoder settings cost.
    Encoders,
    /// What the small encode saves beside the fast one.
    Efforts,
    /// What each op costs.
    Ops,
    /// What an animation costs in time and memory.
    Animation,
    /// What the API of the control plane takes.
    Api,
    /// What a collection takes as one archive.
    Collections,
    /// What a large upload over a link that breaks takes.
    Uploads,
    /// What it takes to count what tenants use.
    Usage,
    /// What comes of events whose endpoints fail now and then.
    Webhooks,
}

/// Everything that a study needs.
pub struct Desk<'a> {
    /// The programs.
    pub tools: &'a StudyTools,
    /// Fewer rounds and pictures.
    pub quick: bool,
    /// The engine.
    pub darkroom: Darkroom,
    folder: TempDir,
}

impl Desk<'_> {
    /// A folder for files.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Rounds of what is timed.
    pub fn rounds(&self) -> usize {
        if self.quick { 2 } else { 5 }
    }

    /// The pictures that encoders are judged by.
    fn stills(&self) -> anyhow::Result<Vec<Picture>> {
        eprintln!("  making the pictures");
        gallery::stills(&self.darkroom, self.folder(), self.tools.corpus.as_deref(), self.quick)
    }

    /// Encodes `file`, a libvips file name, so many times with `saver`, an ending with options.
    async fn encode(&self, file: &str, saver: &str, count: usize) -> anyhow::Result<(Took, Bytes)> {
        let out = NamedTempFile::new_in(self.folder())?.into_temp_path();
        let warm_ups = if count > 1 { "1" } else { "0" };
        let mut command = Command::new(&self.tools.encode);
        command.args([file, saver, warm_ups, &count.to_string()]).arg(&out);
        let took = child::measured(&mut command).await.with_context(|| saver.to_owned())?;
        Ok((took, fs::read(&out)?.into()))
    }

    /// This program as a loop of one rendition.
    pub fn render_loop(&self) -> anyhow::Result<Command> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("render");
        Ok(command)
    }
}

impl StudyName {
    /// What it is called on the command line.
    fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }

    /// The name of its report.
    pub fn file(self) -> &'static str {
        match self {
            Self::Quality => "QUALITY.md",
            Self::Encoders => "ENCODERS.md",
            Self::Efforts => "EFFORTS.md",
            Self::Ops => "OPS.md",
            Self::Animation => "ANIMATION.md",
            Self::Api => "API.md",
            Self::Collections => "COLLECTIONS.md",
            Self::Uploads => "UPLOADS.md",
            Self::Usage => "USAGE.md",
            Self::Webhooks => "WEBHOOKS.md",
        }
    }

    /// Makes the study; its report.
    ///
    /// # Errors
    /// When something cannot be measured.
    pub async fn study(self, tools: &StudyTools, proxy: &PathBuf, quick: bool) -> anyhow::Result<String> {
        let programs = match self {
            Self::Api => vec![&tools.control_plane, proxy],
            Self::Collections | Self::Usage | Self::Uploads | Self::Webhooks => vec![&tools.control_plane],
            _ => vec![&tools.encode, &tools.libvips_ops, &tools.shrink, &tools.vipsthumbnail, &tools.time],
        };
        for program in programs {
            anyhow::ensure!(program.is_file(), "{} is missing; script/loadtest sees to it", program.display());
        }
        let folder = tempfile::Builder::new().prefix("calotype-study-").tempdir().context("no temporary folder")?;
        let desk = Desk { tools, quick, darkroom: Darkroom::open()?, folder };
        let (title, body) = match self {
            Self::Quality => ("Equal quality", quality::study(&desk).await?),
            Self::Encoders => ("Encoder settings", encoders::study(&desk).await?),
            Self::Efforts => ("Fast and small encodes", efforts::study(&desk).await?),
            Self::Ops => ("What each op costs", ops::study(&desk).await?),
            Self::Animation => ("What an animation costs", animation::study(&desk).await?),
            Self::Api => {
                let study = api::study(&tools.control_plane, proxy, quick);
                return of_control_plane(self, "The API of the control plane", study, quick).await;
            }
            Self::Webhooks => {
                let study = webhooks::study(&tools.control_plane, quick);
                return of_control_plane(self, "Webhooks", study, quick).await;
            }
            Self::Usage => {
                let study = usage::study(&tools.control_plane, quick);
                return of_control_plane(self, "Counting what tenants use", study, quick).await;
            }
            Self::Collections => {
                let study = collections::study(&tools.control_plane, quick);
                return of_control_plane(self, "A collection as one archive", study, quick).await;
            }
            Self::Uploads => {
                let study = uploads::study(&tools.control_plane, quick);
                return of_control_plane(self, "A large upload over a link that breaks", study, quick).await;
            }
        };
        let machine = Machine::look().await;
        Ok(format!(
            "# {title}\n\nWritten by `script/loadtest --only {name}`; do not edit.\n\n{warning}{machine} libvips {libvips}.\n\n\
             CPU time is user and system time. The machine may be shared: CPU times are medians of interleaved rounds, and \
             differences of less than 10 % mean nothing.\n\n{body}",
            name = self.name(),
            warning = warning(quick),
            machine = machine.describe(),
            libvips = desk.darkroom.libvips(),
        ))
    }
}

/// The report of a study that starts servers.
async fn of_control_plane(
    of: StudyName,
    title: &str,
    study: impl Future<Output = anyhow::Result<String>>,
    quick: bool,
) -> anyhow::Result<String> {
    let before = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let body = study.await?;
    Ok(format!(
        "# {title}\n\nWritten by `script/loadtest --only {name}`; do not edit.\n\n{warning}{machine} The load \
         average before was {before}: where that is not near 0, others were at work, and waits are longer than they need be.\n\n{body}",
        name = of.name(),
        warning = warning(quick),
        machine = Machine::look().await.describe(),
        before = before.split(' ').next().unwrap_or("unknown"),
    ))
}

fn warning(quick: bool) -> &'static str {
    if quick { "**A quick run**: few rounds. Run without `--quick` before quoting a number.\n\n" } else { "" }
}
