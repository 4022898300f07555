//! What `calotype up` serves: a folder, as an origin of the demo's tenant, and URLs to try.
//!
//! Must not start anything.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, ensure};
use transform_url::encoding::encode_source;

use crate::private_file;
use crate::sign::Signer;

/// How many example URLs are printed.
const EXAMPLES: usize = 3;

/// URLs to try, without their host.
#[derive(Default)]
pub struct Examples {
    /// Unsigned.
    pub open: Vec<String>,
    /// Signed for an hour.
    pub signed: Option<String>,
}

/// The folder that is served: the given one, or one with painted samples.
pub fn folder(given: Option<&Path>, data: &Path) -> anyhow::Result<PathBuf> {
    let folder = match given {
        Some(folder) => {
            folder.canonicalize().with_context(|| format!("the folder {} cannot be used", folder.display()))?
        }
        None => {
            let samples = data.join("samples");
            devstack::samples::write(&samples)?;
            samples
        }
    };
    ensure!(folder.is_dir(), "{} is not a folder", folder.display());
    ensure!(folder.to_str().is_some(), "the path {} is not UTF-8", folder.display());
    Ok(folder)
}

/// Settings of the edge that no variable can hold: the folder, as an origin of the tenant.
pub fn write_settings(folder: &Path, tenant: &str, data: &Path) -> anyhow::Result<PathBuf> {
    let settings = data.join("edge.toml");
    let folder = quoted(&folder.display().to_string());
    let text = format!(
        "# Written anew by each `calotype up`.\n[proxy.control_plane.folders]\n\"{tenant}/local\" = {folder}\n"
    );
    private_file::write(&settings, &text)?;
    Ok(settings)
}

/// A text as TOML writes it.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

/// URLs of a few files of the folder that are pictures by their first bytes.
pub fn examples(folder: &Path, signer: &Signer) -> anyhow::Result<Examples> {
    let mut names: Vec<String> = std::fs::read_dir(folder)?
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .take(1000)
        .filter(|name| is_picture(&folder.join(name)))
        .collect();
    names.sort();
    names.truncate(EXAMPLES);
    let paths: Vec<String> = names.iter().map(|name| format!("/w=400,f=auto/@local/{}", encode_source(name))).collect();
    let in_an_hour = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs() + 3600;
    let tenant = &signer.tenant;
    Ok(Examples {
        open: paths.iter().map(|path| format!("/{tenant}{path}")).collect(),
        signed: paths.first().map(|path| format!("/{tenant}{}", signer.sign(path, Some(in_an_hour)))),
    })
}

fn is_picture(path: &Path) -> bool {
    // Asked first: opening a pipe would wait for its other end.
    if !path.is_file() {
        return false;
    }
    let mut start = Vec::new();
    let read = File::open(path).and_then(|file| file.take(64).read_to_end(&mut start));
    read.is_ok() && imaging::SourceFormat::sniff(&start).is_some()
}
