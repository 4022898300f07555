//! `calotype`: starts the parts on one machine, and does by hand what the edge does.
//!
//! Must not hold logic of its own: pixels are `imaging`'s, URLs and signatures are `transform-url`'s, policy files are
//! `tenancy`'s, processes are `devstack`'s.
#![allow(clippy::print_stdout, reason = "a command speaks on standard output")]
#![allow(unreachable_pub, reason = "in a program, pub means: for the other modules")]

mod api;
mod client;
mod credentials;
mod keys;
mod mcp;
mod media;
mod private_file;
mod purge;
mod sign;
mod transform;
mod up;
mod upload;
mod usage;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// The edge's allocator, so that pictures are made in the same conditions.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Self-hosted delivery of images.
#[derive(Parser)]
#[command(name = "calotype", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Starts everything on this machine and serves a folder of pictures until Ctrl-C.
    Up(up::UpArguments),
    /// Makes one rendition of a file, with the same pixels as the edge.
    Transform(transform::TransformArguments),
    /// Signs a delivery URL and prints it.
    Sign(sign::SignArguments),
    /// Uploads files and prints where they are delivered.
    Upload(upload::UploadArguments),
    /// Takes pictures back: they are made anew when they are next asked for.
    Purge(purge::PurgeArguments),
    /// Lists, shows and deletes what was uploaded.
    Media(media::MediaArguments),
    /// Makes, lists and revokes API keys.
    Keys(keys::KeysArguments),
    /// Tells what was used, by day or month.
    Usage(usage::UsageArguments),
    /// Serves the Model Context Protocol on standard input and output, for an assistant's tools.
    Mcp(mcp::McpArguments),
}

fn main() -> ExitCode {
    let done = match Arguments::parse().command {
        Command::Up(arguments) => up::run(&arguments),
        Command::Transform(arguments) => transform::run(&arguments),
        Command::Sign(arguments) => sign::run(&arguments),
        Command::Upload(arguments) => upload::run(&arguments),
        Command::Purge(arguments) => purge::run(&arguments),
        Command::Media(arguments) => media::run(&arguments),
        Command::Keys(arguments) => keys::run(&arguments),
        Command::Usage(arguments) => usage::run(&arguments),
        Command::Mcp(arguments) => mcp::run(&arguments),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            #[allow(clippy::print_stderr, reason = "a command tells its errors there")]
            {
                eprintln!("calotype: {error:#}");
            }
            ExitCode::FAILURE
        }
    }
}
