//! Cache keys: 128 bits of keyed BLAKE3 over length-prefixed parts.
//!
//! Must not know what the parts mean; the caller lists everything that changes the bytes of a rendition.

use std::fmt;

/// Domain separation: these hashes cannot be confused with any other use of BLAKE3 on the same parts.
const HASH_KEY: &[u8; blake3::KEY_LEN] = b"calotype rendition cache key v01";

const KIND_BYTES: u8 = 0;
const KIND_NUMBER: u8 = 1;

/// Names one cached rendition. Equal keys mean interchangeable renditions.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CacheKey(u128);

impl CacheKey {
    pub(crate) fn as_u128(self) -> u128 {
        self.0
    }

    pub(crate) fn from_u128(number: u128) -> Self {
        Self(number)
    }
}

impl fmt::Display for CacheKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for CacheKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CacheKey({self})")
    }
}

/// Collects the parts of a [`CacheKey`], in an order the caller fixes.
///
/// Each part is hashed with its kind and length, so moving a byte from one part to its neighbour, joining two parts or
/// writing a number as bytes gives another key. The entry format's version is always the first part: entries that this
/// build cannot read are never looked up.
#[derive(Clone, Debug)]
#[must_use]
pub struct KeyBuilder(blake3::Hasher);

impl KeyBuilder {
    /// Starts a key with the version of the entry format as its first part.
    pub fn new() -> Self {
        Self(blake3::Hasher::new_keyed(HASH_KEY)).number(u64::from(crate::entry_format::FORMAT_VERSION))
    }

    /// Adds a part of any bytes and any length.
    pub fn part(mut self, bytes: &[u8]) -> Self {
        let mut prefix = [KIND_BYTES; 9];
        prefix[1..].copy_from_slice(&(bytes.len() as u64).to_le_bytes());
        self.0.update(&prefix);
        self.0.update(bytes);
        self
    }

    /// Adds a number as a part. Distinct from the same eight bytes given to [`KeyBuilder::part`].
    pub fn number(mut self, n: u64) -> Self {
        let mut part = [KIND_NUMBER; 9];
        part[1..].copy_from_slice(&n.to_le_bytes());
        self.0.update(&part);
        self
    }

    /// The key over all parts so far.
    #[must_use]
    pub fn finish(self) -> CacheKey {
        let mut half = [0; 16];
        half.copy_from_slice(&self.0.finalize().as_bytes()[..16]);
        CacheKey(u128::from_le_bytes(half))
    }
}

impl Default for KeyBuilder {
    fn default() -> Self {
        Self::new()
    }
}
