//! Strong entity tags of renditions.
//!
//! Must not parse what clients send; comparing with If-None-Match belongs to the server.

use std::fmt;

use sha2::{Digest, Sha256};

const DIGEST_BYTES: usize = 16;
const TEXT_BYTES: usize = DIGEST_BYTES * 2 + 2;
const HEX: &[u8; 16] = b"0123456789abcdef";

/// A strong entity tag: the first 128 bits of the SHA-256 of the body, as the quoted hexadecimal text of the header
/// (RFC 9110 §8.8.3). Kept as text, because every hit needs the text and nothing needs the bits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ETag([u8; TEXT_BYTES]);

impl ETag {
    /// The tag of a body.
    #[must_use]
    pub fn of(body: &[u8]) -> Self {
        let mut digest = [0; DIGEST_BYTES];
        digest.copy_from_slice(&Sha256::digest(body)[..DIGEST_BYTES]);
        Self::from_digest(digest)
    }

    /// The header value, quotes included: 34 ASCII bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The header value, quotes included.
    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("quotes and hexadecimal digits are ASCII")
    }

    pub(crate) fn from_digest(digest: [u8; DIGEST_BYTES]) -> Self {
        let mut text = [b'"'; TEXT_BYTES];
        for (pair, byte) in text[1..=DIGEST_BYTES * 2].chunks_exact_mut(2).zip(digest) {
            pair[0] = HEX[usize::from(byte >> 4)];
            pair[1] = HEX[usize::from(byte & 15)];
        }
        Self(text)
    }

    pub(crate) fn to_digest(self) -> [u8; DIGEST_BYTES] {
        let nibble = |digit: u8| if digit <= b'9' { digit - b'0' } else { digit - b'a' + 10 };
        let mut digest = [0; DIGEST_BYTES];
        for (byte, pair) in digest.iter_mut().zip(self.0[1..=DIGEST_BYTES * 2].chunks_exact(2)) {
            *byte = nibble(pair[0]) << 4 | nibble(pair[1]);
        }
        digest
    }
}

impl fmt::Display for ETag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for ETag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ETag({self})")
    }
}
