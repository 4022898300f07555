//! What bytes are: found in them, never taken from a name or from what a client says.
//!
//! Must not name a type under which a browser would run what is in it, but for SVG, which edges send with a policy that forbids it:
//! HTML, XML and scripts are plain text here.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

/// How far into a text the root of an SVG is looked for, in bytes.
const SVG_ROOT_MAX: usize = 16 * 1024;

/// What sort of thing a medium is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A picture.
    Image,
    /// A film.
    Video,
    /// Something to listen to.
    Audio,
    /// Something to read.
    Document,
    /// Anything else.
    File,
}

impl Kind {
    const ALL: [Self; 5] = [Self::Image, Self::Video, Self::Audio, Self::Document, Self::File];

    /// Its name in the API and in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Image => "image",
            Self::Video => "video",
            Self::Audio => "audio",
            Self::Document => "document",
            Self::File => "file",
        }
    }

    fn of(content_type: &str) -> Self {
        match content_type.split('/').next() {
            Some("image") => Self::Image,
            Some("video") => Self::Video,
            Some("audio") => Self::Audio,
            Some("text") => Self::Document,
            _ if is_document(content_type) => Self::Document,
            _ => Self::File,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Kind {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text).ok_or(())
    }
}

fn is_document(content_type: &str) -> bool {
    let office = ["application/vnd.openxmlformats-", "application/vnd.oasis.", "application/vnd.ms-"];
    let others = ["application/pdf", "application/rtf", "application/msword", "application/epub+zip"];
    let is_office = office.iter().any(|start| content_type.starts_with(start)) && !content_type.contains("ms-cab");
    is_office || others.contains(&content_type) || content_type == "application/postscript"
}

/// A content type, and the kind that it is of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Content {
    /// The content type.
    pub content_type: Cow<'static, str>,
    /// The kind.
    pub kind: Kind,
}

/// What bytes are that begin with these. `is_text`: all of them are text.
pub fn of(beginning: &[u8], is_text: bool) -> Content {
    let found = infer::get(beginning).map(|found| found.mime_type());
    let content_type = match found {
        _ if is_text && is_svg(beginning) => "image/svg+xml",
        // Marks of other formats are words in a text.
        Some(found @ ("application/pdf" | "application/rtf" | "application/postscript")) => found,
        _ if is_text => "text/plain",
        Some(found) if !found.starts_with("text/") => usual(found),
        _ => "application/octet-stream",
    };
    Content { content_type: content_type.into(), kind: Kind::of(content_type) }
}

/// What names of files of a type end with, of the types that people meet.
pub fn extension(content_type: &str) -> Option<&'static str> {
    Some(match content_type {
        "image/jpeg" => "jpg",
        "image/png" => "png",
        "image/gif" => "gif",
        "image/webp" => "webp",
        "image/avif" => "avif",
        "image/heif" | "image/heic" => "heic",
        "image/jxl" => "jxl",
        "image/svg+xml" => "svg",
        "image/tiff" => "tiff",
        "image/bmp" => "bmp",
        "image/x-icon" => "ico",
        "image/vnd.adobe.photoshop" => "psd",
        "video/mp4" => "mp4",
        "video/webm" => "webm",
        "video/quicktime" => "mov",
        "video/x-matroska" => "mkv",
        "audio/mpeg" => "mp3",
        "audio/mp4" => "m4a",
        "audio/ogg" => "ogg",
        "audio/flac" => "flac",
        "audio/wav" => "wav",
        "application/pdf" => "pdf",
        "application/zip" => "zip",
        "text/plain" => "txt",
        _ => return None,
    })
}

/// The name that browsers know a type by.
fn usual(content_type: &'static str) -> &'static str {
    match content_type {
        "image/vnd.microsoft.icon" => "image/x-icon",
        "audio/m4a" => "audio/mp4",
        "audio/x-flac" => "audio/flac",
        "audio/x-wav" => "audio/wav",
        "audio/opus" => "audio/ogg",
        "video/x-m4v" => "video/mp4",
        other => other,
    }
}

/// Whether the first element of a text is `svg`, after what may come before it in XML.
fn is_svg(beginning: &[u8]) -> bool {
    let beginning = &beginning[..beginning.len().min(SVG_ROOT_MAX)];
    let text = String::from_utf8_lossy(beginning);
    let mut rest = text.trim_start_matches('\u{feff}').trim_start();
    loop {
        let end = match rest {
            _ if rest.starts_with("<?") => "?>",
            _ if rest.starts_with("<!--") => "-->",
            // Its declarations, if there are some, are in brackets.
            _ if rest.starts_with("<!") => match rest.find('[').filter(|at| rest[..*at].find('>').is_none()) {
                Some(_) => "]",
                None => ">",
            },
            _ => break,
        };
        let Some(at) = rest.find(end) else { return false };
        rest = rest[at + end.len()..].trim_start();
        if end == "]" {
            rest = rest.strip_prefix('>').unwrap_or(rest).trim_start();
        }
    }
    let name = rest.strip_prefix("<svg").and_then(|rest| rest.strip_prefix(":svg").or(Some(rest)));
    name.and_then(|rest| rest.chars().next()).is_some_and(|next| next.is_whitespace() || matches!(next, '>' | '/'))
}

/// Tells whether a stream of bytes is text: UTF-8 without NUL.
#[derive(Debug, Default)]
pub struct TextCheck {
    /// The start of a character that ends in the next piece.
    open: Vec<u8>,
    is_other: bool,
}

impl TextCheck {
    /// Looks at the next piece.
    pub fn update(&mut self, piece: &[u8]) {
        if self.is_other {
            return;
        }
        let mut piece = piece;
        while !self.open.is_empty() && !piece.is_empty() {
            self.open.push(piece[0]);
            piece = &piece[1..];
            match std::str::from_utf8(&self.open) {
                Ok(_) => self.open.clear(),
                Err(error) if error.error_len().is_none() => {}
                Err(_) => return self.is_other = true,
            }
        }
        match std::str::from_utf8(piece) {
            Ok(_) => {}
            Err(error) if error.error_len().is_none() => self.open.extend_from_slice(&piece[error.valid_up_to()..]),
            Err(_) => self.is_other = true,
        }
        self.is_other |= piece.contains(&0);
    }

    /// Whether all of it was text.
    pub fn is_text(&self) -> bool {
        !self.is_other && self.open.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content(bytes: &[u8]) -> (Cow<'static, str>, Kind) {
        let mut check = TextCheck::default();
        check.update(bytes);
        let found = of(bytes, check.is_text());
        (found.content_type, found.kind)
    }

    #[test]
    fn types_are_found_in_the_bytes() {
        for (bytes, expected, kind) in [
            (&b"\xff\xd8\xff\xe0\0\x10JFIF\0"[..], "image/jpeg", Kind::Image),
            (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "image/png", Kind::Image),
            (b"GIF89a\x01\0\x01\0\x80\xff", "image/gif", Kind::Image),
            (b"RIFF\x24\0\0\0WEBPVP8 ", "image/webp", Kind::Image),
            (b"RIFF\x24\0\0\0WAVEfmt ", "audio/wav", Kind::Audio),
            (b"\0\0\0\x20ftypisom\0\0\x02\0isomiso2avc1mp41", "video/mp4", Kind::Video),
            (b"\0\0\0\x18ftypavif\0\0\0\0avifmif1", "image/avif", Kind::Image),
            (b"fLaC\0\0\0\x22\xff", "audio/flac", Kind::Audio),
            (b"%PDF-1.7\n", "application/pdf", Kind::Document),
            (b"PK\x03\x04\x14\0\0\0", "application/zip", Kind::File),
            (b"hello", "text/plain", Kind::Document),
            (b"BMW and \xc3\xa9t\xc3\xa9", "text/plain", Kind::Document),
            (b"BM\x3a\0\0\0\0\0\0\0", "image/bmp", Kind::Image),
            (b"\x01\x02\xff", "application/octet-stream", Kind::File),
        ] {
            assert_eq!(content(bytes), (expected.into(), kind), "{bytes:?}");
        }
    }

    #[test]
    fn an_extension_is_that_of_what_is_found_in_the_bytes() {
        for (bytes, expected) in [
            (&b"\xff\xd8\xff\xe0\0\x10JFIF\0"[..], Some("jpg")),
            (b"RIFF\x24\0\0\0WEBPVP8 ", Some("webp")),
            (b"\0\0\0\x20ftypisom\0\0\x02\0isomiso2avc1mp41", Some("mp4")),
            (b"<svg xmlns=\"http://www.w3.org/2000/svg\"/>", Some("svg")),
            (b"hello", Some("txt")),
            (b"\x01\x02\xff", None),
        ] {
            assert_eq!(extension(&content(bytes).0), expected, "{bytes:?}");
        }
    }

    #[test]
    fn what_a_browser_would_run_is_text() {
        for text in [
            "<!DOCTYPE html><script>alert(1)</script>",
            "<html><svg></svg></html>",
            "  <script>1</script>",
            "#!/bin/sh\nrm -rf /",
            "<?xml version=\"1.0\"?><html xmlns=\"http://www.w3.org/1999/xhtml\"><script/></html>",
            "<!-- <svg> --><html>",
            "<!doctype svg",
            "<svgx>",
        ] {
            assert_eq!(content(text.as_bytes()).0, "text/plain", "{text}");
        }
        // Not even when it is no text.
        assert_eq!(content(b"<html>\xff\0</html>").0, "application/octet-stream");
    }

    #[test]
    fn svg_is_known_by_its_root() {
        for text in [
            "<svg xmlns=\"http://www.w3.org/2000/svg\"/>",
            "\u{feff}<?xml version=\"1.0\"?>\n<!-- <html> -->\n<!DOCTYPE svg PUBLIC \"x\" \"y\">\n<svg>",
            "<!DOCTYPE svg [ <!ENTITY a \"b\"> ]>\n<svg:svg >",
        ] {
            assert_eq!(content(text.as_bytes()), ("image/svg+xml".into(), Kind::Image), "{text}");
        }
    }

    #[test]
    fn text_is_text_however_it_is_cut() {
        let text = "aé€😀z".repeat(3);
        for size in 1..=5 {
            let mut check = TextCheck::default();
            text.as_bytes().chunks(size).for_each(|piece| check.update(piece));
            assert!(check.is_text(), "{size}");
        }
        for other in [&b"\xc3"[..], b"a\0b", b"\xed\xa0\x80", b"\xc3\x28", b"ok\xff"] {
            for size in 1..=3 {
                let mut check = TextCheck::default();
                other.chunks(size).for_each(|piece| check.update(piece));
                assert!(!check.is_text(), "{other:?} {size}");
            }
        }
    }
}
