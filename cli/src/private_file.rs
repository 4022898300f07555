//! Files that only their owner may read.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use anyhow::Context;

/// Writes a file with mode 0600, or replaces it as a whole. The mode holds from the first byte on, whatever the old file
/// had: it is written beside and renamed.
pub fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    let beside = Path::new(&name);
    let written = remove_old(beside)
        .and_then(|()| OpenOptions::new().write(true).create_new(true).mode(0o600).open(beside))
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .and_then(|()| fs::rename(beside, path));
    written.with_context(|| format!("{} cannot be written", path.display()))
}

/// What an interrupted run has left. Removed and not written to: its mode and owner are unknown.
fn remove_old(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
