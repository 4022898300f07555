//! Owns the reading of `data:` URLs, and the size of the pictures in them.
//!
//! Must not trust the media type: what counts is what the bytes begin like.

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use bytes::Bytes;

use super::refused;
use crate::Engine;
use crate::error::ImagingError;
use crate::format::SourceFormat;

/// As forgiving as the renderer: with or without padding, with stray bits (Infra Standard §7, "forgiving-base64").
const FORGIVING: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// Whether a reference is a `data:` URL. URL parsers leave out controls and spaces in front, and tabs and line ends anywhere
/// (URL Standard §4.4).
pub(super) fn is_data_url(reference: &str) -> bool {
    stripped(reference).get(..5).is_some_and(|scheme| scheme.eq_ignore_ascii_case("data:"))
}

/// Pixels of the picture in `reference`, over all its frames; 0 if it is no `data:` URL, since nothing else is loaded.
///
/// # Errors
/// [`ImagingError::SvgRefused`] if it is no common picture, or the picture's own error.
pub(super) fn pixels(engine: &Engine, reference: &str) -> Result<u64, ImagingError> {
    if !is_data_url(reference) {
        return Ok(0);
    }
    let bytes = decoded(&stripped(reference)).ok_or(refused("embeds data that cannot be decoded"))?;
    match SourceFormat::sniff(&bytes) {
        Some(SourceFormat::Jpeg | SourceFormat::Png | SourceFormat::Gif | SourceFormat::Webp) => {}
        _ => return Err(refused("embeds something else than JPEG, PNG, GIF and WebP")),
    }
    let info = engine.header(&Bytes::from(bytes), 0)?.info;
    Ok(info.pixels())
}

fn stripped(reference: &str) -> String {
    let reference = reference.trim_matches(|c: char| c <= ' ');
    reference.chars().filter(|c| !matches!(c, '\t' | '\n' | '\r')).collect()
}

/// The body of a `data:` URL (RFC 2397).
fn decoded(url: &str) -> Option<Vec<u8>> {
    let (head, body) = url.split_once(',')?;
    let body = body.split('#').next().unwrap_or_default();
    let body: Vec<u8> = percent_encoding::percent_decode_str(body).collect();
    if !head.trim_end().to_ascii_lowercase().ends_with("base64") {
        return Some(body);
    }
    let body: Vec<u8> = body.into_iter().filter(|byte| !byte.is_ascii_whitespace()).collect();
    FORGIVING.decode(body).ok()
}
