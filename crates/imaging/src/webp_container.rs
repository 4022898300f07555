//! Owns the removal of metadata from a finished WebP file.
//!
//! libvips 8.14 writes an EXIF block into every WebP, told to strip or not, and makes one up if there is none: 170 bytes in
//! each thumbnail, and whatever the source's block said. So the file is taken apart once more (RFC 9649 §2).

/// Flags of the extended header: which chunks follow.
const FLAG_ALPHA: u8 = 0x10;
const FLAG_ANIMATION: u8 = 0x02;
/// Length of a chunk's name and size, in bytes.
const HEAD_BYTES: usize = 8;

/// `file` with nothing but the chunks that pixels need; `None` if it is no well-formed WebP.
pub(crate) fn without_metadata(file: &[u8]) -> Option<Vec<u8>> {
    let mut rest = file.strip_prefix(b"RIFF")?.get(4..)?.strip_prefix(b"WEBP")?;
    let mut kept = Vec::with_capacity(file.len());
    kept.extend_from_slice(b"RIFF\0\0\0\0WEBP");
    while !rest.is_empty() {
        let size = u32::from_le_bytes(*rest.get(4..)?.first_chunk()?);
        // A chunk of odd length is followed by one byte of padding.
        let whole = HEAD_BYTES.checked_add(usize::try_from(size).ok()?)?.checked_next_multiple_of(2)?;
        let (chunk, after) = rest.split_at_checked(whole)?;
        match chunk.first_chunk::<4>()? {
            b"EXIF" | b"XMP " | b"ICCP" => {}
            b"VP8X" => {
                let flags = chunk.get(HEAD_BYTES)? & (FLAG_ALPHA | FLAG_ANIMATION);
                // Without either the simple format holds the picture, and needs no extended header.
                if flags != 0 {
                    let at = kept.len() + HEAD_BYTES;
                    kept.extend_from_slice(chunk);
                    kept[at] = flags;
                }
            }
            _ => kept.extend_from_slice(chunk),
        }
        rest = after;
    }
    let size = u32::try_from(kept.len() - HEAD_BYTES).ok()?;
    kept[4..HEAD_BYTES].copy_from_slice(&size.to_le_bytes());
    Some(kept)
}

#[cfg(test)]
mod tests {
    use super::without_metadata;

    fn chunk(name: &[u8; 4], body: &[u8]) -> Vec<u8> {
        let mut bytes = name.to_vec();
        bytes.extend((body.len() as u32).to_le_bytes());
        bytes.extend(body);
        bytes.extend(vec![0; body.len() % 2]);
        bytes
    }

    fn file(chunks: &[Vec<u8>]) -> Vec<u8> {
        let body = [b"WEBP".to_vec(), chunks.concat()].concat();
        [b"RIFF".to_vec(), (body.len() as u32).to_le_bytes().to_vec(), body].concat()
    }

    fn extended(flags: u8) -> Vec<u8> {
        chunk(b"VP8X", &[flags, 0, 0, 0, 9, 0, 0, 9, 0, 0])
    }

    #[test]
    fn only_pixels_stay() {
        let (pixels, secret) = (chunk(b"VP8 ", &[1, 2, 3]), chunk(b"EXIF", b"where"));
        let found = without_metadata(&file(&[extended(0x2C), chunk(b"ICCP", b"p"), pixels.clone(), secret.clone()]));
        assert_eq!(found, Some(file(std::slice::from_ref(&pixels))), "the simple format");

        let alpha = chunk(b"ALPH", &[7]);
        let found =
            without_metadata(&file(&[extended(0x1C), alpha.clone(), pixels.clone(), secret, chunk(b"XMP ", b"x")]));
        assert_eq!(found, Some(file(&[extended(0x10), alpha, pixels.clone()])), "alpha needs the extended header");
        assert_eq!(without_metadata(&file(std::slice::from_ref(&pixels))), Some(file(&[pixels])), "nothing to do");
    }

    #[test]
    fn what_is_malformed_is_refused() {
        let whole = file(&[extended(0x08), chunk(b"VP8 ", &[1, 2, 3, 4])]);
        for length in 0..whole.len() {
            // A cut at the end of a chunk is a whole file of fewer chunks.
            if ![12, 30].contains(&length) {
                assert_eq!(without_metadata(&whole[..length]), None, "{length} bytes");
            }
        }
        assert_eq!(without_metadata(&file(&[b"VP8 \xff\xff\xff\xff".to_vec()])), None, "a size beyond the file");
    }
}
