//! A rendition in a form for other nodes: what an object store holds of it.
//!
//! Magic (8 bytes), key u128, when its inputs were asked for u64, the entry as on disk, and a BLAKE3 hash over all of that;
//! little endian. Must not trust what it reads: whatever is not exactly what was written under this key is nothing.

use bytes::Bytes;
use foyer::Code;

use crate::entry_format::StoredRendition;
use crate::key::CacheKey;
use crate::rendition::{NOT_HELD_BEFORE, Rendition, UnixMillis};
use crate::write_log::LogPosition;

const MAGIC: &[u8; 8] = b"calorend";
const HEADER_BYTES: usize = 32;
const HASH_BYTES: usize = blake3::OUT_LEN;

/// What an encoded rendition has beside its body, in bytes, at the most.
pub const PORTABLE_OVERHEAD_BYTES_MAX: usize = 4096;

/// A rendition that may have been made elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Portable {
    /// The rendition. Its number of the newest ban is of another node, so it is not taken over.
    pub rendition: Rendition,
    /// All its inputs were asked for then or later, by the clock of who made it.
    pub asked: UnixMillis,
}

impl Portable {
    /// As bytes, under a key.
    #[must_use]
    pub fn to_bytes(&self, key: CacheKey) -> Bytes {
        let stored = StoredRendition { rendition: self.rendition.clone(), position: LogPosition::default() };
        let mut bytes = Vec::with_capacity(HEADER_BYTES + stored.estimated_size() + HASH_BYTES);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&key.as_u128().to_le_bytes());
        bytes.extend_from_slice(&self.asked.0.to_le_bytes());
        stored.encode(&mut bytes).expect("a vector takes everything");
        let hash = blake3::hash(&bytes);
        bytes.extend_from_slice(hash.as_bytes());
        bytes.into()
    }

    /// What was written under this key; `None` if it is anything else.
    #[must_use]
    pub fn from_bytes(key: CacheKey, bytes: &[u8]) -> Option<Self> {
        let (written, hash) = bytes.split_last_chunk::<HASH_BYTES>()?;
        let (header, entry) = written.split_first_chunk::<HEADER_BYTES>()?;
        let (magic, rest) = header.split_first_chunk::<8>()?;
        let (found, asked) = rest.split_first_chunk::<16>()?;
        let is_it = magic == MAGIC && u128::from_le_bytes(*found) == key.as_u128() && blake3::hash(written) == *hash;
        let stored = StoredRendition::decode(&mut is_it.then_some(entry)?).ok()?;
        let asked = UnixMillis(u64::from_le_bytes(*asked.first_chunk()?));
        Some(Self { rendition: stored.rendition.with_begun(NOT_HELD_BEFORE), asked })
    }
}
