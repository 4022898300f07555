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
    /// What administers tenants at the control plane; files of older versions have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub admin_key: Option<String>,
    /// The tenant's name.
    pub tenant: String,
    /// Its unchanging id at the control plane, which signatures are for; outside of one the name is the id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant_id: Option<String>,
    /// Its key at the control plane, once it was made there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_key: Option<String>,
    /// What signs its URLs.
    pub signing: SigningCredentials,
    /// What purges at the edge; files of older versions have none.
    #[serde(default)]
    pub admin_token: Option<String>,
    /// Where the control plane is, or was when it last ran.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<String>,
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
            Some(credentials) => credentials,
            None => Self {
                admin_key: None,
                tenant: DEMO.to_owned(),
                tenant_id: None,
                api_key: None,
                signing: SigningCredentials { kid: FIRST_KEY.to_owned(), secret: random_word()? },
                admin_token: None,
                server: None,
            },
        };
        let missing =
            [&mut credentials.admin_key, &mut credentials.admin_token].into_iter().filter(|key| key.is_none());
        let mut is_new = false;
        for key in missing {
            *key = Some(random_word()?);
            is_new = true;
        }
        if is_new {
            credentials.write(data)?;
        }
        Ok(credentials)
    }

    /// Replaces the file.
    pub fn write(&self, data: &Path) -> anyhow::Result<()> {
        private_file::write(&Self::path(data), &format!("{}\n", serde_json::to_string_pretty(self)?))
    }

    /// The tenant's name.
    pub fn tenant(&self) -> anyhow::Result<TenantSlug> {
        TenantSlug::new(&self.tenant).with_context(|| format!("{:?} is not a tenant's name", self.tenant))
    }
}

/// A word that nobody can guess, of hexadecimal digits.
pub fn random_word() -> anyhow::Result<String> {
    Ok(random_bytes()?.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Bytes that nobody can guess.
pub fn random_bytes() -> anyhow::Result<[u8; SECRET_RANDOM_BYTES]> {
    let mut bytes = [0; SECRET_RANDOM_BYTES];
    getrandom::fill(&mut bytes).context("the system gives no random bytes")?;
    Ok(bytes)
}
