//! Owns a look at a PNG's chunks, before the library makes room for what they claim to hold.
//!
//! Must not read what is in them.

/// Bytes of the magic number that a PNG begins with.
const MAGIC_BYTES: usize = 8;
/// Bytes of a chunk beside its data: length, name, checksum (PNG Specification §5.3).
const FRAME_BYTES: u64 = 12;

/// Whether a chunk claims more bytes than the file has: libpng makes room for all of them before it reads the first.
pub(crate) fn claims_too_much(bytes: &[u8]) -> bool {
    let mut rest = bytes.get(MAGIC_BYTES..).unwrap_or_default();
    while let Some(head) = rest.first_chunk::<8>() {
        let length = u64::from(u32::from_be_bytes([head[0], head[1], head[2], head[3]]));
        // What comes after the end does not matter, and the library puts up with an end without a checksum.
        if head.ends_with(b"IEND") {
            return false;
        }
        let Some(next) = usize::try_from(length + FRAME_BYTES).ok().and_then(|end| rest.get(end..)) else {
            return true;
        };
        rest = next;
    }
    false
}
