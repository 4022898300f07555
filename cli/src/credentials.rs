//! `credentials.json` in the state folder: whom `calotype up` has made, and the key that signs for them.
//!
//! Must not print a secret.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::Context;
use serde::{Deserialize, Serialize};
use transform_url::TenantSlug;

use crate::private_file;

/// The tenant of `calotype up`.
const DEMO: &str = "demo";

/// The name of its first key.
const FIRST_KEY: &str = "demo-1";

/// Random bytes of a secret; it is written as twice as many hexadecimal digits.
const SECRET_RANDOM_BYTES: usize = 32;

/// The file as it is. No `Debug`: it is secret.
#[derive(Serialize, Deserialize)]
pub struct Credentials {
    /// The tenant's name, which is its id too.
    pub tenant: String,
    /// What signs its URLs.
    pub signing: SigningCredentials,
    /// What purges at the edge; files of older versions have none.
    #[serde(default)]
    pub admin_token: Option<String>,
}

/// A key.
#[derive(Serialize, Deserialize)]
pub struct SigningCredentials {
    /// The key's name.
    pub kid: String,
    /// Its secret.
    pub secret: String,
}

impl Credentials {
    /// Where the file is in the state folder.
    pub fn path(data: &Path) -> PathBuf {
        data.join("credentials.json")
    }

    /// Reads the file; `None` when there is none.
    pub fn read(data: &Path) -> anyhow::Result<Option<Self>> {
        let path = Self::path(data);
        let text = match std::fs::read_to_string(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            text => text.with_context(|| format!("{} cannot be read", path.display()))?,
        };
        // Not the parser's text, which may quote a secret.
        let place = |error: serde_json::Error| anyhow::anyhow!("line {}, column {}", error.line(), error.column());
        serde_json::from_str(&text)
            .map_err(place)
            .with_context(|| format!("{} is not a file of credentials; remove it for a new one", path.display()))
            .map(Some)
    }

    /// Reads the file and makes the secrets that are missing.
    pub fn read_or_make(data: &Path) -> anyhow::Result<Self> {
        let mut credentials = match Self::read(data)? {
            Some(credentials) if credentials.admin_token.is_some() => return Ok(credentials),
            Some(credentials) => credentials,
            None => {
                let signing = SigningCredentials { kid: FIRST_KEY.to_owned(), secret: random_secret()? };
                Self { tenant: DEMO.to_owned(), signing, admin_token: None }
            }
        };
        credentials.admin_token = Some(random_secret()?);
        private_file::write(&Self::path(data), &format!("{}\n", serde_json::to_string_pretty(&credentials)?))?;
        Ok(credentials)
    }

    /// The tenant's name.
    pub fn tenant(&self) -> anyhow::Result<TenantSlug> {
        TenantSlug::new(&self.tenant).with_context(|| format!("{:?} is not a tenant's name", self.tenant))
    }
}

fn random_secret() -> anyhow::Result<String> {
    let mut bytes = [0; SECRET_RANDOM_BYTES];
    getrandom::fill(&mut bytes).context("the system gives no random bytes")?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}
