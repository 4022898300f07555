//! The bytes of one entry on disk.
//!
//! Owns the layout and its version. Must not trust what it reads: foyer's checksum catches damage, but an older or newer
//! build may have written something else entirely. Whatever does not fit exactly is reported as `MagicMismatch`, one of
//! the few kinds that foyer treats as "forget the entry and miss"; any other kind would fail every later read of the key.
//!
//! Layout, little endian: version u8, flags u8, status u16, log position u64, created u64, fresh until u64,
//! stale until u64, error until u64, seq u64, begun u64, tenant u64, source u64, entity tag 16 bytes, source's modification time u64, body length u32,
//! content type length u16, source's entity tag length u16, number of tags u16; then content type, source's entity tag,
//! tags (u64 each), body, and nothing after it.

use std::io::{Read, Write};

use bytes::Bytes;
use foyer::{Code, Error, ErrorKind};

use crate::etag::ETag;
use crate::rendition::{
    BODY_BYTES_MAX, CONTENT_TYPE_BYTES_MAX, Lifetime, Rendition, RenditionParts, SOURCE_ETAG_BYTES_MAX,
    SourceValidators, TAGS_MAX, UnixMillis,
};
use crate::write_log::LogPosition;

/// Raise with any change of the layout. Part of every cache key, and the first byte of every entry.
pub(crate) const FORMAT_VERSION: u8 = 3;

const HEADER_BYTES: usize = 110;

const FLAG_VARY_ACCEPT: u8 = 1;
const FLAG_SOURCE_ETAG: u8 = 2;
const FLAG_LAST_MODIFIED: u8 = 4;
const FLAG_DRAFT: u8 = 8;
const FLAGS_ALL: u8 = FLAG_VARY_ACCEPT | FLAG_SOURCE_ETAG | FLAG_LAST_MODIFIED | FLAG_DRAFT;

/// What foyer holds: a rendition, and where in the disk's write log its latest copy was put. What is held because its
/// source failed stays in memory, so that is not written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StoredRendition {
    pub(crate) rendition: Rendition,
    pub(crate) position: LogPosition,
}

impl Code for StoredRendition {
    fn encode(&self, writer: &mut impl Write) -> foyer::Result<()> {
        let rendition = &self.rendition;
        let source_etag = rendition.validators.etag.as_deref().unwrap_or_default();
        writer.write_all(&self.header()).map_err(Error::io_error)?;
        writer.write_all(rendition.content_type.as_bytes()).map_err(Error::io_error)?;
        writer.write_all(source_etag.as_bytes()).map_err(Error::io_error)?;
        for tag in &rendition.tags {
            writer.write_all(&tag.to_le_bytes()).map_err(Error::io_error)?;
        }
        writer.write_all(&rendition.body).map_err(Error::io_error)
    }

    fn decode(reader: &mut impl Read) -> foyer::Result<Self> {
        let mut header = [0; HEADER_BYTES];
        reader.read_exact(&mut header).map_err(|_| unreadable("header cut short"))?;
        let mut fields = Fields(&header);
        if fields.take::<1>() != [FORMAT_VERSION] {
            return Err(unreadable("other format version"));
        }
        let [flags] = fields.take::<1>();
        if flags & !FLAGS_ALL != 0 {
            return Err(unreadable("unknown flag"));
        }
        let status = fields.u16();
        let position = LogPosition(fields.u64());
        let times = [fields.u64(), fields.u64(), fields.u64(), fields.u64()].map(UnixMillis);
        let lifetime = Lifetime::from_times(times).ok_or_else(|| unreadable("times out of order"))?;
        let (seq, begun) = (fields.u64(), fields.u64());
        let (tenant, source) = (fields.u64(), fields.u64());
        let etag = ETag::from_digest(fields.take());
        let last_modified = fields.u64();
        let body_bytes = u32::from_le_bytes(fields.take());

        let content_type = read_text(reader, fields.u16(), CONTENT_TYPE_BYTES_MAX)?;
        let source_etag = read_text(reader, fields.u16(), SOURCE_ETAG_BYTES_MAX)?;
        let tags = read_tags(reader, fields.u16())?;
        let body = read_to_end(reader, body_bytes)?;
        let parts = RenditionParts {
            status,
            content_type,
            body,
            is_draft: flags & FLAG_DRAFT != 0,
            vary_accept: flags & FLAG_VARY_ACCEPT != 0,
            validators: SourceValidators {
                etag: (flags & FLAG_SOURCE_ETAG != 0).then_some(source_etag),
                last_modified: (flags & FLAG_LAST_MODIFIED != 0).then_some(UnixMillis(last_modified)),
            },
            lifetime,
            seq,
            begun,
            tenant,
            source,
            tags,
        };
        let rendition = Rendition::with_etag(parts, etag).map_err(|_| unreadable("beyond the limits"))?;
        Ok(Self { rendition, position })
    }

    fn estimated_size(&self) -> usize {
        HEADER_BYTES + variable_bytes(&self.rendition)
    }
}

impl StoredRendition {
    fn header(&self) -> [u8; HEADER_BYTES] {
        let rendition = &self.rendition;
        let validators = &rendition.validators;
        let flag = |set: bool, bit: u8| if set { bit } else { 0 };
        let flags = flag(rendition.vary_accept, FLAG_VARY_ACCEPT)
            | flag(validators.etag.is_some(), FLAG_SOURCE_ETAG)
            | flag(validators.last_modified.is_some(), FLAG_LAST_MODIFIED)
            | flag(rendition.is_draft, FLAG_DRAFT);

        let mut header = [0; HEADER_BYTES];
        let mut rest = &mut header[..];
        let mut put = |bytes: &[u8]| {
            rest.write_all(bytes).expect("the fields add up to HEADER_BYTES");
        };
        put(&[FORMAT_VERSION, flags]);
        put(&rendition.status.to_le_bytes());
        for number in [
            self.position.0,
            rendition.lifetime.created().0,
            rendition.lifetime.fresh_until().0,
            rendition.lifetime.stale_until().0,
            rendition.lifetime.error_until().0,
            rendition.seq,
            rendition.begun,
            rendition.tenant,
            rendition.source,
        ] {
            put(&number.to_le_bytes());
        }
        put(&rendition.etag().to_digest());
        put(&validators.last_modified.unwrap_or_default().0.to_le_bytes());
        let body_bytes = u32::try_from(rendition.body.len()).expect("BODY_BYTES_MAX fits 32 bits");
        put(&body_bytes.to_le_bytes());
        for length in
            [rendition.content_type.len(), validators.etag.as_deref().map_or(0, str::len), rendition.tags.len()]
        {
            put(&u16::try_from(length).expect("the limits of a rendition fit 16 bits").to_le_bytes());
        }
        header
    }
}

/// The bytes of a rendition that are not in the fixed header.
fn variable_bytes(rendition: &Rendition) -> usize {
    bytes_beside_body(rendition) + rendition.body.len()
}

/// The bytes of a rendition that are neither in the fixed header nor in its body.
pub(crate) fn bytes_beside_body(rendition: &Rendition) -> usize {
    rendition.content_type.len() + rendition.validators.etag.as_deref().map_or(0, str::len) + rendition.tags.len() * 8
}

struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> [u8; N] {
        let (field, rest) = self.0.split_first_chunk().expect("the fields add up to HEADER_BYTES");
        self.0 = rest;
        *field
    }

    fn u16(&mut self) -> u16 {
        u16::from_le_bytes(self.take())
    }

    fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.take())
    }
}

fn read_text(reader: &mut impl Read, bytes: u16, bytes_max: usize) -> foyer::Result<Box<str>> {
    let bytes = usize::from(bytes);
    if bytes > bytes_max {
        return Err(unreadable("text beyond its limit"));
    }
    let mut text = vec![0; bytes];
    reader.read_exact(&mut text).map_err(|_| unreadable("text cut short"))?;
    let text = String::from_utf8(text).map_err(|_| unreadable("text is not UTF-8"))?;
    Ok(text.into_boxed_str())
}

fn read_tags(reader: &mut impl Read, tags: u16) -> foyer::Result<Box<[u64]>> {
    if usize::from(tags) > TAGS_MAX {
        return Err(unreadable("too many tags"));
    }
    let mut tag = [0; 8];
    (0..tags)
        .map(|_| {
            reader.read_exact(&mut tag).map_err(|_| unreadable("tags cut short"))?;
            Ok(u64::from_le_bytes(tag))
        })
        .collect()
}

fn read_to_end(reader: &mut impl Read, bytes: u32) -> foyer::Result<Bytes> {
    let bytes = bytes as usize;
    if bytes > BODY_BYTES_MAX {
        return Err(unreadable("body beyond its limit"));
    }
    let mut body = vec![0; bytes];
    reader.read_exact(&mut body).map_err(|_| unreadable("body cut short"))?;
    match reader.read(&mut [0]) {
        Ok(0) => Ok(body.into()),
        _ => Err(unreadable("bytes after the body")),
    }
}

fn unreadable(why: &'static str) -> Error {
    Error::new(ErrorKind::MagicMismatch, why)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn encoded(stored: &StoredRendition) -> Vec<u8> {
        let mut bytes = Vec::new();
        stored.encode(&mut bytes).expect("a vector takes everything");
        bytes
    }

    fn decode(bytes: &[u8]) -> foyer::Result<StoredRendition> {
        StoredRendition::decode(&mut &bytes[..])
    }

    fn any_stored() -> impl Strategy<Value = StoredRendition> {
        let validators =
            (proptest::option::of("[ -~]{0,60}"), proptest::option::of(any::<u64>())).prop_map(|(etag, modified)| {
                SourceValidators { etag: etag.map(String::into_boxed_str), last_modified: modified.map(UnixMillis) }
            });
        let times = (any::<u64>(), any::<[u64; 3]>()).prop_map(|(created, spans_ms)| {
            let [fresh, stale, error] = spans_ms.map(Duration::from_millis);
            Lifetime::new(UnixMillis(created), fresh, stale).or_on_error(error)
        });
        let ids = (any::<u64>(), any::<u64>(), any::<u64>(), any::<u64>(), any::<u64>());
        let tags = vec(any::<u64>(), 0..=TAGS_MAX);
        (100u16..600, "[ -~]{0,255}", vec(any::<u8>(), 0..2000), any::<[bool; 2]>(), validators, times, ids, tags)
            .prop_map(
                |(
                    status,
                    content_type,
                    body,
                    [vary_accept, is_draft],
                    validators,
                    lifetime,
                    (seq, begun, tenant, source, position),
                    tags,
                )| {
                    let parts = RenditionParts {
                        status,
                        content_type: content_type.into(),
                        body: body.into(),
                        is_draft,
                        vary_accept,
                        validators,
                        lifetime,
                        seq,
                        begun,
                        tenant,
                        source,
                        tags: tags.into(),
                    };
                    let rendition = Rendition::new(parts).expect("generated within the limits");
                    StoredRendition { rendition, position: LogPosition(position) }
                },
            )
    }

    proptest! {
        #[test]
        fn what_was_written_is_read(stored in any_stored()) {
            let bytes = encoded(&stored);
            prop_assert_eq!(bytes.len(), stored.estimated_size());
            prop_assert_eq!(decode(&bytes).expect("just written"), stored);
        }

        #[test]
        fn other_versions_and_other_lengths_are_misses(
            stored in any_stored(), version in any::<u8>(), cut in any::<prop::sample::Index>(), more in vec(any::<u8>(), 1..9)
        ) {
            let bytes = encoded(&stored);
            prop_assume!(version != FORMAT_VERSION);
            let mut other_version = bytes.clone();
            other_version[0] = version;
            let cut_short = &bytes[..cut.index(bytes.len())];
            let with_more = [&bytes[..], &more[..]].concat();
            for unreadable in [&other_version[..], cut_short, &with_more[..]] {
                prop_assert_eq!(decode(unreadable).expect_err("unreadable").kind(), ErrorKind::MagicMismatch);
            }
        }

        #[test]
        fn noise_never_panics_and_never_fails_as_anything_but_a_miss(mut noise in vec(any::<u8>(), 0..400)) {
            if let Some(version) = noise.first_mut() {
                *version = FORMAT_VERSION;
            }
            if let Err(error) = decode(&noise) {
                prop_assert_eq!(error.kind(), ErrorKind::MagicMismatch);
            }
        }
    }
}
