//! The text of a tenant's key.
//!
//! `cal_` and 32 random bytes. They cannot be guessed, so a plain hash keeps them: a slow one would only cost each request.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};

/// What tells a key from other secrets, to people and to scanners for leaked ones.
const MARK: &str = "cal_";

/// Random bytes of a secret.
const SECRET_BYTES: usize = 32;

/// Characters of the random part that are shown in lists.
const SHOWN: usize = 6;

/// 32 random bytes, as text: nobody guesses them.
///
/// # Errors
/// When the system has no random numbers.
pub fn random_secret() -> Result<String, getrandom::Error> {
    let mut secret = [0; SECRET_BYTES];
    getrandom::fill(&mut secret)?;
    Ok(URL_SAFE_NO_PAD.encode(secret))
}

/// A tenant's key.
pub struct ApiKey(String);

impl ApiKey {
    /// A new one.
    ///
    /// # Errors
    /// When the system has no random numbers.
    pub fn generate() -> Result<Self, getrandom::Error> {
        Ok(Self(format!("{MARK}{}", random_secret()?)))
    }

    /// The one that a request came with, if it has the form of one.
    pub fn parse(text: &str) -> Option<Self> {
        let secret = URL_SAFE_NO_PAD.decode(text.strip_prefix(MARK)?).ok()?;
        (secret.len() == SECRET_BYTES).then(|| Self(text.to_owned()))
    }

    /// The key itself. It is told once, to whoever made it.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Its start, to tell keys apart by.
    pub fn prefix(&self) -> &str {
        &self.0[..MARK.len() + SHOWN]
    }

    /// What the database keeps of it.
    pub fn hash(&self) -> [u8; 32] {
        Sha256::digest(&self.0).into()
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ApiKey({}…)", self.prefix())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_differ_and_are_known_by_their_form() {
        let (one, other) = (ApiKey::generate().expect("random"), ApiKey::generate().expect("random"));
        assert_ne!(one.hash(), other.hash());
        assert_eq!(ApiKey::parse(one.expose()).expect("a key").hash(), one.hash());
        assert!(one.expose().starts_with(one.prefix()) && one.prefix().len() == 10);
        assert!(!format!("{one:?}").contains(&one.expose()[12..]));
        for no in ["", "cal_", "cal_abc", &one.expose()[..46], &format!("{}a", one.expose()), &one.expose()[4..]] {
            assert!(ApiKey::parse(no).is_none(), "{no}");
        }
    }
}
