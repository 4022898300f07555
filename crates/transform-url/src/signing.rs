//! Signed URLs: what is signed, the signature, and the query that carries it.
//!
//! Must not know which keys a tenant has, and reads no clock: whether an expiry has passed is the caller's to judge.
//!
//! signature = base64url without padding (RFC 4648, section 5) of HMAC-SHA256 (RFC 2104) over five lines that are joined
//! by LF: `calotype-v1`, the tenant's id, the raw path after the tenant part, the expiry or nothing, the key's name. None
//! of them can hold a LF, so no two messages are the same text. The raw path is covered and not its meaning, because
//! whoever signs then needs no parser; `docs/signing.md` shows it in five languages.

use std::borrow::Borrow;
use std::fmt::{self, Display};
use std::ops::RangeInclusive;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, Mac};
use sha2::Sha256;

use crate::{UrlError, ValueError};

/// First line of every message; another contract would have another one.
const VERSION: &str = "calotype-v1";

/// Characters of a signature: 256 bits in base64url without padding.
pub const SIGNATURE_CHARS: usize = 43;

/// Allowed length of a secret, in bytes. Shorter than the hash, it would be the weaker part.
pub const SECRET_BYTES: RangeInclusive<usize> = 32..=256;

/// Longest name of a key, in characters.
const KEY_NAME_CHARS_MAX: usize = 63;

/// The name of a signing key, `kid` in URLs: 1 to 63 of `A-Z a-z 0-9 - _`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyName(String);

impl KeyName {
    /// What [`KeyName::new`] takes, in words.
    pub const ALLOWED: &str = "1 to 63 of A-Z, a-z, 0-9, \"-\" and \"_\"";

    /// Checks the shape.
    ///
    /// # Errors
    /// [`ValueError`] when a character or the length is not allowed.
    pub fn new(text: &str) -> Result<Self, ValueError> {
        if is_key_name(text) { Ok(Self(text.to_owned())) } else { Err(ValueError) }
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Display for KeyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Borrow<str> for KeyName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

pub(crate) fn is_key_name(text: &str) -> bool {
    let shape = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    (1..=KEY_NAME_CHARS_MAX).contains(&text.len()) && text.bytes().all(shape)
}

/// What a signature is made over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Message<'a> {
    /// The tenant's unchanging id, so that a key is worth nothing for another tenant.
    pub tenant_id: &'a str,
    /// The raw path after the tenant part, with its leading slash: [`Request::signed_path`](crate::native::Request).
    pub path: &'a str,
    /// Unix seconds from which on the URL is refused; `None` is never.
    pub expires: Option<u64>,
    /// The key's name.
    pub key: &'a str,
}

impl Message<'_> {
    /// The signature: [`SIGNATURE_CHARS`] characters.
    pub fn sign(&self, secret: &[u8]) -> String {
        URL_SAFE_NO_PAD.encode(self.mac(secret).finalize().into_bytes())
    }

    /// True when `signature` is the one of this message under `secret`, in its one spelling: whole, unpadded, with no
    /// stray bits in its last character. Takes the same time wherever it differs.
    pub fn is_signed_by(&self, secret: &[u8], signature: &str) -> bool {
        if signature.len() != SIGNATURE_CHARS {
            return false;
        }
        // The engine refuses padding and trailing bits that are not zero.
        URL_SAFE_NO_PAD.decode(signature).is_ok_and(|bytes| self.mac(secret).verify_slice(&bytes).is_ok())
    }

    /// The query of the signed URL, without its `?`.
    pub fn query(&self, secret: &[u8]) -> String {
        let expires = self.expires.map(|expires| format!("exp={expires}&")).unwrap_or_default();
        format!("{expires}kid={}&sig={}", self.key, self.sign(secret))
    }

    fn mac(&self, secret: &[u8]) -> Hmac<Sha256> {
        let mut mac = Hmac::<Sha256>::new_from_slice(secret).expect("HMAC takes keys of every length");
        let expires = self.expires.map(|expires| expires.to_string()).unwrap_or_default();
        for (number, line) in [VERSION, self.tenant_id, self.path, &expires, self.key].into_iter().enumerate() {
            if number > 0 {
                mac.update(b"\n");
            }
            mac.update(line.as_bytes());
        }
        mac
    }
}

/// Checks that clients send this path as it stands: one that they would encode first (a space, `ü`) arrives as another
/// text than the one that was signed. For those who sign; the edge compares what came.
///
/// # Errors
/// [`UrlError::BadEncoding`] when a character is not one of a path (RFC 3986, section 3.3).
pub fn check_wire_form(path: &str) -> Result<(), UrlError> {
    let is_sent_as_it_is = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@/%".contains(&byte);
    if path.bytes().all(is_sent_as_it_is) {
        return Ok(());
    }
    let reason =
        "a character must be percent-encoded before it is signed, because clients encode it before they send it";
    Err(UrlError::BadEncoding { part: "the path", reason })
}
