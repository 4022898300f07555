//! Secrets at rest: sealed with a key that the database does not have.
//!
//! XChaCha20-Poly1305 with a random nonce. What a secret belongs to is authenticated with it, so that nobody who writes to the
//! database can put one tenant's secret in the place of another's. A new master key seals from then on, and those before it still
//! open; `control-plane reseal` seals all anew, after which they are not needed any more.
//!
//! Sealed: the format (1 byte), the key's mark (4), the nonce (24), the ciphertext with its tag (16).

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use chacha20poly1305::aead::{Aead, Payload};
use chacha20poly1305::{KeyInit, XChaCha20Poly1305, XNonce};
use isolation::TenantKey;
use sha2::{Digest, Sha256};
use thiserror::Error;

use crate::config::SecretText;

/// What a sealed secret begins with.
const FORMAT: u8 = 1;

const KEY_BYTES: usize = 32;
const MARK_BYTES: usize = 4;
const NONCE_BYTES: usize = 24;

/// What a secret belongs to.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// Whose it is.
    pub tenant: TenantKey,
    /// What it is a part of.
    pub kind: &'static str,
    /// Which of them.
    pub name: &'a str,
}

impl Place<'_> {
    fn to_bytes(self) -> Vec<u8> {
        // A kind has no zero, and a tenant's id is always as long.
        [self.tenant.as_uuid().as_bytes(), self.kind.as_bytes(), &[0], self.name.as_bytes()].concat()
    }
}

/// Why a secret is not sealed or opened.
#[derive(Debug, Error)]
pub enum SealError {
    /// The system has no random numbers.
    #[error("the system has no random numbers")]
    Random(#[from] getrandom::Error),
    /// It was sealed with a key that is not there, is damaged, or belongs to something else.
    #[error("the secret cannot be opened: it was sealed with another master key, for something else, or is damaged")]
    Open,
}

/// The master keys.
#[derive(Clone)]
pub struct Seal {
    /// The first one seals.
    keys: Vec<MasterKey>,
}

#[derive(Clone)]
struct MasterKey {
    mark: [u8; MARK_BYTES],
    cipher: XChaCha20Poly1305,
}

impl MasterKey {
    fn parse(text: &SecretText) -> Option<Self> {
        let bytes: [u8; KEY_BYTES] = STANDARD.decode(text.expose()).ok()?.try_into().ok()?;
        let cipher = XChaCha20Poly1305::new(&bytes.into());
        let digest = Sha256::digest([b"calotype master key".as_slice(), &bytes].concat());
        let mut mark = [0; MARK_BYTES];
        mark.copy_from_slice(&digest[..MARK_BYTES]);
        Some(Self { mark, cipher })
    }
}

impl Seal {
    /// Keys as the settings have them, the newest first: base64 of 32 bytes each.
    ///
    /// # Errors
    /// The number of the first that is no key.
    pub fn new<'a>(keys: impl IntoIterator<Item = &'a SecretText>) -> Result<Self, usize> {
        let keys = keys.into_iter().enumerate().map(|(at, text)| MasterKey::parse(text).ok_or(at));
        Ok(Self { keys: keys.collect::<Result<_, _>>()? })
    }

    /// What a key has to be.
    pub const ALLOWED: &'static str = "base64 of 32 random bytes: openssl rand -base64 32";

    /// The secret, so that only this program opens it, and only in this place. `None` without a master key.
    ///
    /// # Errors
    /// [`SealError::Random`].
    pub fn seal(&self, secret: &[u8], place: Place<'_>) -> Result<Option<Vec<u8>>, SealError> {
        let Some(key) = self.keys.first() else { return Ok(None) };
        let mut nonce = [0; NONCE_BYTES];
        getrandom::fill(&mut nonce)?;
        let payload = Payload { msg: secret, aad: &place.to_bytes() };
        // Fails for more than 256 GiB only.
        let sealed = key.cipher.encrypt(XNonce::from_slice(&nonce), payload).map_err(|_| SealError::Open)?;
        Ok(Some([&[FORMAT], &key.mark[..], &nonce, &sealed].concat()))
    }

    /// The secret as it was before [`Self::seal`].
    ///
    /// # Errors
    /// [`SealError::Open`].
    pub fn open(&self, sealed: &[u8], place: Place<'_>) -> Result<Vec<u8>, SealError> {
        let rest = sealed.strip_prefix(&[FORMAT]).ok_or(SealError::Open)?;
        let (mark, rest) = rest.split_at_checked(MARK_BYTES).ok_or(SealError::Open)?;
        let (nonce, sealed) = rest.split_at_checked(NONCE_BYTES).ok_or(SealError::Open)?;
        let payload = Payload { msg: sealed, aad: &place.to_bytes() };
        let key = self.keys.iter().find(|key| key.mark == mark).ok_or(SealError::Open)?;
        key.cipher.decrypt(XNonce::from_slice(nonce), payload).map_err(|_| SealError::Open)
    }

    /// The same as text that may stand in a URL.
    ///
    /// # Errors
    /// [`SealError::Random`].
    pub fn seal_token(&self, secret: &[u8], place: Place<'_>) -> Result<Option<String>, SealError> {
        Ok(self.seal(secret, place)?.map(|sealed| URL_SAFE_NO_PAD.encode(sealed)))
    }

    /// What was sealed by [`Self::seal_token`], out of a text that anybody may have written: one that is longer is not looked at.
    pub fn open_token(&self, token: &str, characters_max: usize, place: Place<'_>) -> Option<Vec<u8>> {
        let token = Some(token).filter(|token| token.len() <= characters_max)?;
        self.open(&URL_SAFE_NO_PAD.decode(token).ok()?, place).ok()
    }

    /// Whether this was sealed with the newest key.
    pub fn is_newest(&self, sealed: &[u8]) -> bool {
        let newest = self.keys.first().map(|key| key.mark);
        newest.is_some_and(|mark| sealed.get(1..=MARK_BYTES) == Some(&mark[..]))
    }
}

impl fmt::Debug for Seal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Seal({} keys)", self.keys.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(byte: u8) -> SecretText {
        STANDARD.encode([byte; KEY_BYTES]).into()
    }

    fn seal(keys: &[SecretText]) -> Seal {
        Seal::new(keys).expect("good keys")
    }

    #[test]
    fn a_secret_opens_in_its_own_place_only() {
        let seal = seal(&[key(1)]);
        let place = Place { tenant: TenantKey::generate(), kind: "signing_key", name: "a" };
        let sealed = seal.seal(b"secret", place).expect("sealed").expect("there is a key");
        assert_eq!(seal.open(&sealed, place).expect("its place"), b"secret");
        assert!(!sealed.windows(6).any(|part| part == b"secret"));
        let again = seal.seal(b"secret", place).expect("sealed").expect("there is a key");
        assert_ne!(sealed, again, "nobody can tell that it is the same");
        for other in [
            Place { tenant: TenantKey::generate(), ..place },
            Place { kind: "origin", ..place },
            Place { name: "b", ..place },
        ] {
            assert!(seal.open(&sealed, other).is_err(), "{other:?}");
        }
    }

    #[test]
    fn what_is_damaged_does_not_open() {
        let seal = seal(&[key(1)]);
        let place = Place { tenant: TenantKey::generate(), kind: "signing_key", name: "a" };
        let sealed = seal.seal(b"secret", place).expect("sealed").expect("there is a key");
        for length in 0..sealed.len() {
            assert!(seal.open(&sealed[..length], place).is_err(), "{length} bytes of it");
        }
        for at in 0..sealed.len() {
            let mut flipped = sealed.clone();
            flipped[at] ^= 1;
            assert!(seal.open(&flipped, place).is_err(), "byte {at}");
        }
    }

    #[test]
    fn a_new_key_seals_and_those_before_still_open() {
        let place = Place { tenant: TenantKey::generate(), kind: "origin", name: "a" };
        let (old, both, new) = (seal(&[key(1)]), seal(&[key(2), key(1)]), seal(&[key(2)]));
        let sealed = old.seal(b"secret", place).expect("sealed").expect("there is a key");
        assert!(old.is_newest(&sealed) && !both.is_newest(&sealed) && !new.is_newest(&sealed));
        assert_eq!(both.open(&sealed, place).expect("an old key"), b"secret");
        assert!(new.open(&sealed, place).is_err());
        let anew = both.seal(b"secret", place).expect("sealed").expect("there is a key");
        assert_eq!(new.open(&anew, place).expect("the new key"), b"secret");
        assert!(both.is_newest(&anew));
    }

    #[test]
    fn keys_that_are_none_are_told_and_without_any_nothing_is_sealed() {
        let bad = SecretText::from(STANDARD.encode([1; 31]));
        assert_eq!(Seal::new([&key(1), &bad]).map(|_| ()), Err(1));
        assert_eq!(Seal::new([&SecretText::from("§".to_owned())]).map(|_| ()), Err(0));
        let place = Place { tenant: TenantKey::generate(), kind: "origin", name: "a" };
        assert!(seal(&[]).seal(b"x", place).expect("no error").is_none());
    }
}
