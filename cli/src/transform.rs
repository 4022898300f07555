//! `calotype transform IN OPS OUT`: one rendition, without a server.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use bytes::Bytes;
use clap::Args;
use imaging::{Class, EncoderDefaults, Engine, EngineOptions, Inputs, Limits};
use transform_url::value::{Format, OpValue};
use transform_url::{Ops, Transform};

/// Arguments of `calotype transform`.
#[derive(Args)]
pub struct TransformArguments {
    /// The original.
    #[arg(value_name = "IN")]
    input: PathBuf,
    /// What to do with it, as in a URL: w=400,fit=cover,q=70.
    ops: String,
    /// Where the rendition goes; "-" is standard output. Without a format in OPS, the file extension decides.
    #[arg(value_name = "OUT")]
    output: PathBuf,
    /// The image that the op "overlay" lays over the picture, whatever name OPS gives it.
    #[arg(long, value_name = "FILE")]
    overlay: Option<PathBuf>,
}

/// Runs the command.
pub fn run(arguments: &TransformArguments) -> anyhow::Result<()> {
    let transform = read_ops(&arguments.ops, &arguments.output)?;
    let source = read(&arguments.input)?;
    let overlay = arguments.overlay.as_deref().map(read).transpose()?;
    let inputs = Inputs { source: &source, overlay: overlay.as_ref(), share: None };
    let engine = Engine::start(&EngineOptions::default())?;
    let rendered = engine
        .render(inputs, &transform, Some(Class::Legacy), &EncoderDefaults::default(), &Limits::default())
        .with_context(|| arguments.input.display().to_string())?;
    if arguments.output == Path::new("-") {
        std::io::stdout().lock().write_all(&rendered.body)?;
        return Ok(());
    }
    std::fs::write(&arguments.output, &rendered.body)
        .with_context(|| format!("{} cannot be written", arguments.output.display()))?;
    println!("{}: {} × {}, {} bytes", arguments.output.display(), rendered.width, rendered.height, rendered.body.len());
    Ok(())
}

fn read(path: &Path) -> anyhow::Result<Bytes> {
    std::fs::read(path).map(Bytes::from).with_context(|| format!("{} cannot be read", path.display()))
}

/// The transform; a format that is left to chance is taken from the file's extension.
fn read_ops(text: &str, output: &Path) -> anyhow::Result<Transform> {
    let mut ops = Ops::parse(text)?;
    if ops.preset.is_some() {
        bail!("presets belong to a tenant's policy; write their ops out");
    }
    let extension = output.extension().and_then(|extension| extension.to_str());
    if ops.format.is_none()
        && let Some(extension) = extension
    {
        ops.format = match Format::parse(&extension.to_ascii_lowercase()) {
            Ok(format) => Some(format),
            Err(_) => bail!("no format has the extension .{extension}; write f=… into the ops"),
        };
    }
    Ok(ops.resolve(|_| None)?)
}
