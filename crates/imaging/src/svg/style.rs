//! Owns the reading of CSS in an SVG, as far as it makes drawing costly or refers to something.
//!
//! Must not be exact where that takes a CSS engine: a rule may be taken to apply to more elements than it does, never to fewer.

use roxmltree::Node;

/// Largest number that is let through: coordinates on a map of the Earth in centimetres are twice as large.
const NUMBER_MAX: f64 = 1e9;
/// Pixels of an inch, the longest unit.
const INCH_PX: f64 = 96.0;

/// `text` as CSS means it: escapes resolved, comments gone, in lower case (CSS Syntax Module Level 3 §4.3.7).
pub(super) fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(['\\', '/']) {
        plain.push_str(&rest[..at]);
        rest = &rest[at..];
        if let Some(comment) = rest.strip_prefix("/*") {
            rest = comment.split_once("*/").map_or("", |(_, after)| after);
        } else if let Some(escaped) = rest.strip_prefix('\\') {
            let digits = escaped.bytes().take(6).take_while(u8::is_ascii_hexdigit).count();
            let code = u32::from_str_radix(&escaped[..digits], 16).ok();
            plain.extend(code.and_then(char::from_u32));
            rest = &escaped[digits..];
            if digits > 0 {
                rest = rest.strip_prefix([' ', '\t', '\n', '\r']).unwrap_or(rest);
            }
        } else {
            plain.push('/');
            rest = &rest[1..];
        }
    }
    plain.push_str(rest);
    plain.make_ascii_lowercase();
    plain
}

/// Whether CSS refers into a document that is in a `data:` URL: one that is followed by more than a font or picture has.
pub(super) fn embeds_document(plain: &str) -> bool {
    let dense: String = plain.chars().filter(|c| *c > ' ').collect();
    dense.match_indices("url(").any(|(at, _)| {
        let url = dense[at + 4..].trim_start_matches(['"', '\'']);
        url.strip_prefix("data:").is_some_and(|data| {
            let is_data = |c: char| c.is_ascii_alphanumeric() || "+/=;,.-_%".contains(c);
            !data.trim_start_matches(is_data).starts_with([')', '"', '\''])
        })
    })
}

/// Whether there is a number in `plain` that no picture needs. Digits in the middle of a name are none.
pub(super) fn has_huge_number(plain: &str) -> bool {
    let bytes = plain.as_bytes();
    let mut at = 0;
    while let Some(found) = bytes[at..].iter().position(u8::is_ascii_digit) {
        let start = at + found;
        let end = start + number_bytes(&bytes[start..]);
        at = end;
        let before = |count: usize| start.checked_sub(count).map(|place| bytes[place]);
        let is_word = |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_alphabetic() || byte == b'_');
        // A path's commands stand right before its numbers, and are one letter.
        let in_name = is_word(before(1)) && is_word(before(2)) || before(1) == Some(b'#') || {
            before(1) == Some(b'-') && is_word(before(2)) && is_word(before(3))
        };
        if !in_name && plain[start..end].parse::<f64>().is_ok_and(|number| number > NUMBER_MAX) {
            return true;
        }
    }
    false
}

/// Bytes of the number that begins with a digit: digits, a fraction, an exponent.
fn number_bytes(bytes: &[u8]) -> usize {
    let digits = |from: usize| bytes[from..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    let mut end = digits(0);
    if bytes.get(end) == Some(&b'.') {
        end += 1 + digits(end + 1);
    }
    if bytes.get(end).is_some_and(|byte| byte.eq_ignore_ascii_case(&b'e')) {
        let sign = usize::from(bytes.get(end + 1).is_some_and(|byte| matches!(byte, b'+' | b'-')));
        let exponent = digits(end + 1 + sign);
        if exponent > 0 {
            end += 1 + sign + exponent;
        }
    }
    end
}

/// The size that text has by the declaration of `name` as `value`, in pixels, if its parent's is `font`.
pub(super) fn font_px(font: f64, name: &str, value: &str) -> f64 {
    let size = |word: &str| {
        let end = word.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(word.len());
        let number: f64 = word[..end].parse().ok()?;
        match &word[end..] {
            "em" | "ex" | "ch" | "rem" => Some(font * number),
            "%" => Some(font * number / 100.0),
            // Of the shorthand these are weights.
            "" if name == "font" => None,
            // Whatever the unit, it is no longer than that.
            _ => Some(number * INCH_PX),
        }
    };
    match value {
        "larger" => font * 1.2,
        _ => value.split([' ', '/']).filter_map(size).fold(0.0, f64::max),
    }
}

/// Name and value of the declarations in a list of them.
pub(super) fn declarations(plain: &str) -> impl Iterator<Item = (&str, &str)> {
    plain
        .split(';')
        .filter_map(|declaration| declaration.split_once(':'))
        .map(|(name, value)| (name.trim(), value.trim()))
}

/// The rules of all `style` elements.
#[derive(Default)]
pub(super) struct Sheet {
    /// Selectors and declarations.
    rules: Vec<(String, String)>,
}

impl Sheet {
    /// Adds the rules in `plain`. Of nested blocks the inner selector counts.
    pub(super) fn add(&mut self, plain: &str) {
        let mut selector = String::new();
        for block in plain.split_inclusive(['{', '}']) {
            match block.strip_suffix('{') {
                Some(head) => selector = head.rsplit(';').next().unwrap_or_default().trim().to_owned(),
                None => {
                    let body = block.trim_end_matches('}').to_owned();
                    if body.contains(':') {
                        self.rules.push((selector.clone(), body));
                    }
                }
            }
        }
    }

    /// Only the rules for which `is_wanted` says yes, so that looking them up is fast.
    pub(super) fn only(mut self, is_wanted: impl Fn(&str) -> bool) -> Self {
        self.rules.retain(|(_, body)| is_wanted(body));
        self
    }

    /// Whether any rule has this word.
    pub(super) fn mentions(&self, word: &str) -> bool {
        self.rules.iter().any(|(_, body)| body.contains(word))
    }

    /// Declarations of all rules that may apply to `node`.
    pub(super) fn of(&self, node: Node<'_, '_>) -> impl Iterator<Item = &str> {
        let names = |attribute: &str, mark: char| {
            let value = node.attribute(attribute).unwrap_or_default().to_ascii_lowercase();
            value.split_ascii_whitespace().map(|name| format!("{mark}{name}")).collect::<Vec<_>>()
        };
        let names: Vec<_> = [names("class", '.'), names("id", '#')].concat();
        self.rules
            .iter()
            .filter(move |(selector, _)| {
                selector.split(',').any(|selector| {
                    let names_one = selector.contains(['.', '#']) && !selector.contains([':', '[']);
                    !names_one || names.iter().any(|name| selector.contains(name.as_str()))
                })
            })
            .map(|(_, body)| body.as_str())
    }
}
