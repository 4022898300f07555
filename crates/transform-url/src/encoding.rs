//! Percent-encoding, read once and written minimally (RFC 3986, section 2).
//!
//! Must not decode twice: `%252e` is the text `%2e`, never a dot.

use std::borrow::Cow;
use std::fmt::{self, Display};

use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};

use crate::UrlError;

/// What a path segment must escape: RFC 3986 `pchar` allows the rest.
const SEGMENT: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'#')
    .add(b'%')
    .add(b'/')
    .add(b'<')
    .add(b'>')
    .add(b'?')
    .add(b'[')
    .add(b'\\')
    .add(b']')
    .add(b'^')
    .add(b'`')
    .add(b'{')
    .add(b'|')
    .add(b'}');

/// What a value inside the ops segment must escape: also the separator of ops.
const VALUE: &AsciiSet = &SEGMENT.add(b',');

/// What a source must escape: a segment's set without the slash.
const SOURCE: &AsciiSet = &SEGMENT.remove(b'/');

/// Decodes `raw` once.
///
/// # Errors
/// [`UrlError::BadEncoding`] for a `%` without two hex digits, for a control character (NUL included) and for
/// bytes that are not UTF-8.
pub fn decode<'a>(raw: &'a str, part: &'static str) -> Result<Cow<'a, str>, UrlError> {
    let bad = |reason| UrlError::BadEncoding { part, reason };
    if !raw.contains('%') {
        return if has_control(raw) { Err(bad("control character")) } else { Ok(Cow::Borrowed(raw)) };
    }
    let bytes = raw.as_bytes();
    let is_hex = |at: usize| bytes.get(at).is_some_and(u8::is_ascii_hexdigit);
    if bytes.iter().enumerate().any(|(at, byte)| *byte == b'%' && !(is_hex(at + 1) && is_hex(at + 2))) {
        return Err(bad("\"%\" must be followed by two hex digits"));
    }
    let text = percent_encoding::percent_decode_str(raw).decode_utf8().map_err(|_| bad("invalid UTF-8"))?;
    if has_control(&text) { Err(bad("control character")) } else { Ok(text) }
}

fn has_control(text: &str) -> bool {
    text.bytes().any(|byte| byte < 0x20 || byte == 0x7f)
}

/// Writes a value of an op so that [`decode`] gives it back and no `,` or `/` appears.
pub(crate) fn encode_value(text: &str) -> impl Display + '_ {
    utf8_percent_encode(text, VALUE)
}

/// Writes one path segment.
pub(crate) fn encode_segment(text: &str) -> impl Display + '_ {
    utf8_percent_encode(text, SEGMENT)
}

/// Writes a path of several segments so that [`decode`] gives it back; slashes stay.
pub fn encode_source(text: &str) -> impl Display + '_ {
    utf8_percent_encode(text, SOURCE)
}

/// Writes a formatted value through [`encode_value`] without an intermediate string per value type.
pub(crate) fn write_value(out: &mut impl fmt::Write, value: &dyn Display) -> fmt::Result {
    struct Encoding<'a, W>(&'a mut W);
    impl<W: fmt::Write> fmt::Write for Encoding<'_, W> {
        fn write_str(&mut self, text: &str) -> fmt::Result {
            write!(self.0, "{}", encode_value(text))
        }
    }
    fmt::Write::write_fmt(&mut Encoding(out), format_args!("{value}"))
}
