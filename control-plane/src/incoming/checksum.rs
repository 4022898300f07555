//! What the bytes of one request have to have (tus, "Checksum"). Until that is known nothing of them counts.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha1::Digest;

use crate::problem::ApiError;

/// A hash that is being made, and what has to come out.
pub struct Checksum {
    hash: Hash,
    expected: Vec<u8>,
}

enum Hash {
    Sha1(sha1::Sha1),
    Sha256(Box<sha2::Sha256>),
    Md5(md5::Md5),
}

impl Checksum {
    /// The algorithms, as `Tus-Checksum-Algorithm` lists them.
    pub const ALGORITHMS: &str = "sha1,sha256,md5";

    /// What `Upload-Checksum` says: an algorithm, and base64 of what has to come out.
    ///
    /// # Errors
    /// [`ApiError::BadChecksum`].
    pub fn parse(header: &str) -> Result<Self, ApiError> {
        let (algorithm, expected) = header.split_once(' ').ok_or(ApiError::BadChecksum)?;
        let (hash, bytes) = match algorithm {
            "sha1" => (Hash::Sha1(sha1::Sha1::new()), 20),
            "sha256" => (Hash::Sha256(Box::default()), 32),
            "md5" => (Hash::Md5(md5::Md5::new()), 16),
            _ => return Err(ApiError::BadChecksum),
        };
        let expected = STANDARD.decode(expected).map_err(|_| ApiError::BadChecksum)?;
        if expected.len() == bytes { Ok(Self { hash, expected }) } else { Err(ApiError::BadChecksum) }
    }

    pub(super) fn update(&mut self, piece: &[u8]) {
        match &mut self.hash {
            Hash::Sha1(hash) => hash.update(piece),
            Hash::Sha256(hash) => sha2::Digest::update(&mut **hash, piece),
            Hash::Md5(hash) => hash.update(piece),
        }
    }

    /// Whether that is what came out.
    pub(super) fn holds(self) -> bool {
        match self.hash {
            Hash::Sha1(hash) => hash.finalize()[..] == self.expected[..],
            Hash::Sha256(hash) => sha2::Digest::finalize(*hash)[..] == self.expected[..],
            Hash::Md5(hash) => hash.finalize()[..] == self.expected[..],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_algorithm_knows_its_own() {
        for (header, holds) in [
            ("sha1 Kq5sNclPz7QV2+lfQIuc6R7oRu0=", true),
            ("md5 XrY7u+Ae7tCTyyK7j1rNww==", true),
            ("sha256 uU0nuZNNPgilLlLX2n2r+sSE7+N6U4DukIj3rOLvzek=", true),
            ("sha1 AAAAAAAAAAAAAAAAAAAAAAAAAAA=", false),
        ] {
            let mut checksum = Checksum::parse(header).expect(header);
            checksum.update(b"hello ");
            checksum.update(b"world");
            assert_eq!(checksum.holds(), holds, "{header}");
        }
        for bad in [
            "",
            "sha1",
            "sha1 ",
            "sha1 Kq5s",
            "crc32 AAAA",
            "sha1 Kq5sNclPz7QV2+lfQIuc6R7oRu0",
            "SHA1 Kq5sNclPz7QV2+lfQIuc6R7oRu0=",
        ] {
            assert!(Checksum::parse(bad).is_err(), "{bad}");
        }
        for algorithm in Checksum::ALGORITHMS.split(',') {
            assert!(Checksum::parse(&format!("{algorithm} {}", STANDARD.encode([0; 64]))).is_err(), "too long");
        }
    }
}
