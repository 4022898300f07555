//! Links to downloads: good for one archive of one tenant, and for a while, without a key.
//!
//! All that a link is good for is in it, sealed with the master key, so that nothing is kept of it.

use isolation::TenantKey;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use super::{Downloads, Wanted};
use crate::problem::ApiError;
use crate::sealing::{Place, Seal};

/// What is sealed.
const KIND: &str = "download";

/// Longest time that a link is good for, in seconds.
pub const LINK_SECONDS_MAX: u32 = 7 * 24 * 3600;

/// Longest token that is looked at, in characters: that of the longest path of a folder.
const TOKEN_CHARACTERS_MAX: usize = 4096;

#[derive(Serialize, Deserialize)]
struct Link {
    wanted: Wanted,
    /// In Unix seconds.
    until: i64,
}

impl Downloads {
    /// What makes a link good for this archive until then.
    ///
    /// # Errors
    /// [`ApiError::NoMasterKey`].
    pub fn token(&self, tenant: TenantKey, wanted: &Wanted, until: OffsetDateTime) -> Result<String, ApiError> {
        token(&self.seal, tenant, wanted.clone(), until)
    }

    /// The archive that a token is good for.
    ///
    /// # Errors
    /// [`ApiError::UrlRefused`].
    pub fn wanted(&self, tenant: TenantKey, token: &str, now: OffsetDateTime) -> Result<Wanted, ApiError> {
        opened(&self.seal, tenant, token)
            .filter(|link| now.unix_timestamp() < link.until)
            .map(|link| link.wanted)
            .ok_or(ApiError::UrlRefused)
    }
}

fn token(seal: &Seal, tenant: TenantKey, wanted: Wanted, until: OffsetDateTime) -> Result<String, ApiError> {
    let link = Link { wanted, until: until.unix_timestamp() };
    let link = serde_json::to_vec(&link).map_err(|_| ApiError::Internal)?;
    seal.seal_token(&link, Place { tenant, kind: KIND, name: "" })?.ok_or(ApiError::NoMasterKey)
}

fn opened(seal: &Seal, tenant: TenantKey, token: &str) -> Option<Link> {
    let link = seal.open_token(token, TOKEN_CHARACTERS_MAX, Place { tenant, kind: KIND, name: "" })?;
    serde_json::from_slice(&link).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::SecretText;
    use crate::downloads::{Format, Source};

    #[test]
    fn a_token_says_what_it_is_good_for_to_us_alone() {
        let key = |text: &str| Seal::new([&SecretText::from(text.to_owned())]).expect("a key");
        let seal = key("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=");
        let tenant = TenantKey::generate();
        // The longest that there is: each of these takes six characters of JSON.
        let source = Source::Folder { path: Some("\"".repeat(512)), subfolders: true };
        let wanted = Wanted { source, format: Format::Tar, skip_missing: false };
        let token = token(&seal, tenant, wanted.clone(), OffsetDateTime::UNIX_EPOCH).expect("a key is there");
        assert!(token.len() <= TOKEN_CHARACTERS_MAX, "{}", token.len());
        assert_eq!(opened(&seal, tenant, &token).expect("good").wanted, wanted);
        assert!(opened(&seal, TenantKey::generate(), &token).is_none());
        assert!(opened(&key("AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE="), tenant, &token).is_none());
        for bad in ["", "§", &token[1..], &token[..token.len() - 4], &"A".repeat(92), &"A".repeat(8192)] {
            assert!(opened(&seal, tenant, bad).is_none(), "{bad}");
        }
    }
}
