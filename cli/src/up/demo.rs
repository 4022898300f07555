//! What `calotype up` serves: a folder, as an origin of the demo's tenant, and URLs to try.
//!
//! Must not start anything.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, bail};
use transform_url::encoding::encode_source;

use crate::credentials::Credentials;
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

/// Writes the demo's policy; returns it and what can be tried with it.
pub fn policy(folder: Option<&Path>, data: &Path) -> anyhow::Result<(PathBuf, Examples)> {
    let folder = match folder {
        Some(folder) => {
            folder.canonicalize().with_context(|| format!("the folder {} cannot be used", folder.display()))?
        }
        None => {
            let samples = data.join("samples");
            devstack::samples::write(&samples)?;
            samples
        }
    };
    if !folder.is_dir() {
        bail!("{} is not a folder", folder.display());
    }
    let Some(text) = folder.to_str() else { bail!("the path {} is not UTF-8", folder.display()) };
    let signer = Signer::of_credentials(Credentials::read_or_make(data)?)
        .with_context(|| Credentials::path(data).display().to_string())?;
    let policy = data.join("policy.toml");
    let content = format!(
        "# Written anew by each `calotype up`. To keep changes, copy it and start with: calotype up --policy FILE\n\
         [tenants.{}]\nopen = true\noriginals = true\norigins.local.folder = {}\n{}keys.{} = {}\n",
        signer.tenant,
        quoted(text),
        registered_logo(&folder),
        signer.key,
        quoted(signer.secret.expose()),
    );
    private_file::write(&policy, &content)?;
    Ok((policy, examples(&folder, &signer)?))
}

/// A logo in the folder is registered, so that overlays can be tried.
fn registered_logo(folder: &Path) -> String {
    let logo = ["logo.svg", "logo.png"].into_iter().find(|name| folder.join(name).is_file());
    logo.map(|name| format!("images.logo = \"@local/{name}\"\n")).unwrap_or_default()
}

/// A text as TOML writes it.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

/// URLs of a few files of the folder that are pictures by their first bytes.
fn examples(folder: &Path, signer: &Signer) -> anyhow::Result<Examples> {
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
