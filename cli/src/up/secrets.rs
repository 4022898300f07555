//! `secrets.json` in the state folder: what the parts know of each other and nobody else has to.
//!
//! Must not print a secret. Without this file, what is sealed in the database is lost.

use std::io::ErrorKind;
use std::path::Path;

use anyhow::Context;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use crate::credentials::{random_bytes, random_word};
use crate::private_file;

/// The file as it is. No `Debug`: it is secret.
#[derive(Serialize, Deserialize)]
pub struct Secrets {
    /// What the edge says to be told of tenants.
    pub edge_token: String,
    /// What secrets are sealed with in the database.
    pub master_key: String,
}

impl Secrets {
    /// Reads the file, or makes it if there is none.
    pub fn read_or_make(data: &Path) -> anyhow::Result<Self> {
        let path = data.join("secrets.json");
        match std::fs::read_to_string(&path) {
            // Not the parser's text, which may quote a secret.
            Ok(text) => serde_json::from_str(&text)
                .map_err(|error| anyhow::anyhow!("line {}, column {}", error.line(), error.column()))
                .with_context(|| format!("{} is not a file of secrets", path.display())),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let made = Self { edge_token: random_word()?, master_key: STANDARD.encode(random_bytes()?) };
                private_file::write(&path, &format!("{}\n", serde_json::to_string_pretty(&made)?))?;
                Ok(made)
            }
            Err(error) => Err(error).with_context(|| format!("{} cannot be read", path.display())),
        }
    }
}
