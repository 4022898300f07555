//! The peers: how each is called as a program, and what a request to it looks like.

use std::net::SocketAddr;
use std::path::Path;

use anyhow::Context;
use tokio::process::Command;

use super::{Installed, Place, Wanted, give_up_root};
use crate::bench::Bench;

/// A peer with one of its settings.
#[derive(Debug)]
pub struct Kind {
    /// For the report.
    pub name: &'static str,
    /// Its folder in `peers/`, and where it was installed.
    pub folder: &'static str,
    /// The file of its settings in that folder.
    pub settings_file: &'static str,
    /// What is in there.
    pub settings: &'static str,
    /// Whether libvips does the work.
    pub is_libvips: bool,
    /// Starts it.
    pub command: fn(&Bench, &Start<'_>) -> anyhow::Result<Command>,
    /// Asks for a picture that fits into 512 × 512 pixels.
    pub target: fn(&Place, Wanted<'_>) -> String,
}

/// What a start needs.
#[derive(Debug)]
pub struct Start<'a> {
    /// Where the program is.
    pub installed: &'a Installed,
    /// A folder for its files.
    pub home: &'a Path,
    /// Where it is to listen.
    pub address: SocketAddr,
    /// Its settings, filled in.
    pub settings: &'a str,
}

/// All peers, in the order of reports.
pub static ALL: [Kind; 6] = [
    Kind {
        name: "oximg",
        folder: "oximg",
        settings_file: "default.env",
        settings: include_str!("../../peers/oximg/default.env"),
        is_libvips: false,
        command: oximg,
        target: oximg_target,
    },
    Kind {
        name: "oximg, PRESET=fast",
        folder: "oximg",
        settings_file: "fast.env",
        settings: include_str!("../../peers/oximg/fast.env"),
        is_libvips: false,
        command: oximg,
        target: oximg_target,
    },
    Kind {
        name: "imgforge",
        folder: "imgforge",
        settings_file: "settings.env",
        settings: include_str!("../../peers/imgforge/settings.env"),
        is_libvips: true,
        command: imgforge,
        target: |place, wanted| {
            let Wanted { source, format, quality } = wanted;
            let web = place.web();
            format!("/unsafe/resize:fit:512:512/quality:{quality}/plain/http://{web}/{source}@{format}")
        },
    },
    Kind {
        name: "ipx",
        folder: "ipx",
        settings_file: "settings.env",
        settings: include_str!("../../peers/ipx/settings.env"),
        is_libvips: true,
        command: ipx,
        target: |_, Wanted { source, format, quality }| {
            format!("/s_512x512,fit_inside,q_{quality},f_{format}/{source}")
        },
    },
    Kind {
        name: "thumbor",
        folder: "thumbor",
        settings_file: "settings.env",
        settings: include_str!("../../peers/thumbor/settings.env"),
        is_libvips: false,
        command: thumbor,
        target: |_, Wanted { source, format, quality }| {
            format!("/unsafe/fit-in/512x512/filters:format({format}):quality({quality})/{source}")
        },
    },
    Kind {
        name: "nginx image_filter",
        folder: "nginx-image-filter",
        settings_file: "nginx.conf",
        settings: include_str!("../../peers/nginx-image-filter/nginx.conf"),
        is_libvips: false,
        command: nginx,
        target: |_, Wanted { source, quality, .. }| format!("/{quality}/{source}"),
    },
];

/// `program` on the server's core, with nothing of the environment but what its settings say.
fn with_environment(bench: &Bench, program: &Path, start: &Start<'_>) -> Command {
    let mut command = bench.cores.server_command(program);
    command.env_clear().envs(std::env::vars_os().filter(|(name, _)| name == "PATH"));
    command.env("HOME", start.home).current_dir(start.home).envs(variables(start.settings));
    command
}

/// The `NAME=value` lines of a file of settings.
fn variables(settings: &str) -> impl Iterator<Item = (&str, &str)> {
    settings.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.split_once('='))
}

fn oximg(bench: &Bench, start: &Start<'_>) -> anyhow::Result<Command> {
    Ok(with_environment(bench, &start.installed.folder.join("bin/oximg"), start))
}

fn oximg_target(_: &Place, Wanted { source, format, quality }: Wanted<'_>) -> String {
    format!("/image/width=512,height=512,quality={quality},format={format}/{source}")
}

fn imgforge(bench: &Bench, start: &Start<'_>) -> anyhow::Result<Command> {
    let mut command = with_environment(bench, &start.installed.folder.join("bin/imgforge"), start);
    if let Some(libvips) = start.installed.libvips() {
        command.env("LD_LIBRARY_PATH", libvips);
    }
    Ok(command)
}

fn ipx(bench: &Bench, start: &Start<'_>) -> anyhow::Result<Command> {
    let mut command = with_environment(bench, Path::new("node"), start);
    command.arg(start.installed.folder.join("server.mjs"));
    Ok(command)
}

fn thumbor(bench: &Bench, start: &Start<'_>) -> anyhow::Result<Command> {
    let mut command = with_environment(bench, &start.installed.folder.join("venv/bin/python"), start);
    command.args(["-m", "thumbor.server", "--processes", "1", "--ip", &start.address.ip().to_string()]);
    command.args(["--port", &start.address.port().to_string()]);
    command.arg("--conf").arg(start.installed.folder.join("thumbor.conf"));
    Ok(command)
}

fn nginx(bench: &Bench, start: &Start<'_>) -> anyhow::Result<Command> {
    let settings = start.home.join("nginx.conf");
    std::fs::write(&settings, start.settings).context("nginx's settings cannot be written")?;
    let mut command = bench.cores.server_command(&bench.tools.nginx);
    command.arg("-c").arg(&settings).arg("-p").arg(start.home).arg("-e").arg(start.home.join("error.log"));
    give_up_root(&mut command, start.home)?;
    Ok(command)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_variables_and_comments_are_not() {
        let all: Vec<_> = variables("# a=b\nPORT=1\nX_Y=a=b c\n\n").collect();
        assert_eq!(all, [("PORT", "1"), ("X_Y", "a=b c")]);
    }

    #[test]
    fn settings_ask_only_for_what_a_start_fills_in() {
        for kind in &ALL {
            let filled = ["{{port}}", "{{address}}", "{{photos}}", "{{folder}}"]
                .iter()
                .fold(kind.settings.to_owned(), |text, name| text.replace(name, ""));
            assert!(!filled.contains("{{"), "{}: {filled}", kind.name);
        }
    }
}
