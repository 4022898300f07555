//! From an `Accept` header to one class of clients (RFC 9110, section 12.5.1).
//!
//! Three classes instead of the header's text, so that thousands of different headers share three renditions.

use imaging::Class;

/// The best class that the client accepts. Wildcards mean nothing here: every client sends them.
///
/// A type with `q=0` is refused; among accepted types the higher `q` wins, AVIF before WebP before the rest.
pub fn classify(accept: &[u8]) -> Class {
    let (mut avif, mut webp, mut legacy) = (0, 0, 0);
    for item in accept.split(|byte| *byte == b',') {
        let mut parts = item.split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
        let kind = parts.next().unwrap_or_default();
        let weight = parts.find_map(quality).unwrap_or(1000);
        let best = if kind.eq_ignore_ascii_case(b"image/avif") {
            &mut avif
        } else if kind.eq_ignore_ascii_case(b"image/webp") {
            &mut webp
        } else if kind.eq_ignore_ascii_case(b"image/jpeg") || kind.eq_ignore_ascii_case(b"image/png") {
            &mut legacy
        } else {
            continue;
        };
        *best = weight.max(*best);
    }
    if avif > 0 && avif >= webp && avif >= legacy {
        Class::Avif
    } else if webp > 0 && webp >= legacy {
        Class::Webp
    } else {
        Class::Legacy
    }
}

/// `q=0.5` in thousandths; `None` for another parameter, 0 for a broken weight.
fn quality(parameter: &[u8]) -> Option<u16> {
    let text = parameter.strip_prefix(b"q=").or_else(|| parameter.strip_prefix(b"Q="))?;
    let weight = std::str::from_utf8(text).ok().and_then(|text| text.parse::<f32>().ok());
    // The range check also turns NaN into a refusal.
    Some(weight.filter(|weight| (0.0..=1.0).contains(weight)).map_or(0, |weight| (weight * 1000.0) as u16))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(accept: &str, expected: Class) {
        assert_eq!(classify(accept.as_bytes()), expected, "{accept}");
    }

    #[test]
    fn what_browsers_send() {
        check("image/avif,image/webp,image/apng,image/svg+xml,image/*,*/*;q=0.8", Class::Avif);
        check("image/avif,image/webp,*/*", Class::Avif);
        check("image/webp,image/png,image/svg+xml,image/*;q=0.8,video/*;q=0.8,*/*;q=0.5", Class::Webp);
        check("image/png,image/svg+xml,image/*;q=0.8,*/*;q=0.5", Class::Legacy);
        check("*/*", Class::Legacy);
        check("image/*", Class::Legacy);
        check("", Class::Legacy);
    }

    #[test]
    fn weights_are_honoured() {
        check("image/avif;q=0, image/webp", Class::Webp);
        check("image/avif;q=0,image/webp;q=0.0", Class::Legacy);
        check("image/avif;q=0.5,image/webp;q=0.9", Class::Webp);
        check("image/avif;q=0.5,image/jpeg", Class::Legacy);
        check("IMAGE/AVIF;Q=0.5", Class::Avif);
        check("image/avif;v=b3;q=0,image/webp;v=1", Class::Webp);
        check("image/webp ; q=0.001", Class::Webp);
    }

    #[test]
    fn nonsense_is_refused_quietly() {
        check("image/avif;q=nan", Class::Legacy);
        check("image/avif;q=2", Class::Legacy);
        check("image/avif;q=-1", Class::Legacy);
        check("ximage/avif", Class::Legacy);
        check("image/avifx, ,;;;,q=1", Class::Legacy);
        assert_eq!(classify(b"\xff\xfe;q=\xff,image/webp"), Class::Webp);
    }
}
