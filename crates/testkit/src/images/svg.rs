//! SVGs that a user may have, and ones that an attacker sends.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// An SVG of `width` × `height` units with this inside.
pub fn with(width: u32, height: u32, inside: &str) -> Vec<u8> {
    format!(
        r#"<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" width="{width}" height="{height}">{inside}</svg>"#
    )
    .into_bytes()
}

/// The inside of a harmless SVG that has a little of everything.
pub const EVERYTHING: &str = r##"<style>.a{filter:url(#f);font-family:'\41 rial'} /* none */ @media print{#b{opacity:.5}}
@font-face{font-family:x;src:url("data:font/woff2;base64,d09GMgAB")}</style>
<defs><filter id="f"><feGaussianBlur stdDeviation="1"/><feTurbulence numOctaves="2"/></filter>
<linearGradient id="g"><stop/><stop offset="1" stop-color="red"/></linearGradient>
<pattern id="p" width="3" height="3" patternUnits="userSpaceOnUse"><rect width="1" height="1"/></pattern>
<marker id="m"><path d="M0 0L1 1"/></marker><mask id="k"><rect width="9" height="9" fill="white"/></mask></defs>
<g id="b" class="a"><rect width="9" height="9" fill="url(#g)" mask="url(#k)"/><use xlink:href="#b2"/></g>
<path id="b2" d="M0 0L9 9L0 9" stroke="url(#p)" marker-end="url(#m)" style="mix-blend-mode:multiply"/>
<image width="5" height="5" href="data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="/>"##;

/// `bytes` as a `data:` URL of this media type.
pub fn data_url(media_type: &str, bytes: &[u8]) -> String {
    format!("data:{media_type};base64,{}", STANDARD.encode(bytes))
}

/// A document type in which each of `levels` entities is ten times the one before, and the use of the last one.
pub fn billion_laughs(levels: u32) -> Vec<u8> {
    let mut entities = String::from("<!ENTITY e0 \"<rect width='9' height='9'/>\">");
    for level in 1..=levels {
        let again = format!("&e{};", level - 1).repeat(10);
        write!(entities, "<!ENTITY e{level} \"{again}\">").expect("a String takes every text");
    }
    let document = with(9, 9, &format!("&e{levels};"));
    let document = String::from_utf8(document).expect("made of text");
    format!("<?xml version=\"1.0\"?><!DOCTYPE svg [{entities}]>{document}").into_bytes()
}

/// The inside of an SVG in which each of `levels` groups is ten uses of the next one, and the first one is used.
pub fn uses_of_uses(levels: u32) -> String {
    let mut text = String::from("<defs>");
    for level in 0..levels {
        let uses = format!("<use xlink:href=\"#u{}\"/>", level + 1).repeat(10);
        write!(text, "<g id=\"u{level}\">{uses}</g>").expect("a String takes every text");
    }
    text + &format!("<rect id=\"u{levels}\" width=\"9\" height=\"9\"/></defs><use xlink:href=\"#u0\"/>")
}

/// The inside of an SVG that draws a rectangle through a filter of these primitives, in a region of 30 times its size.
pub fn filtered(primitives: &str) -> String {
    format!(
        r##"<filter id="f" x="-1000%" y="-1000%" width="3000%" height="3000%">{primitives}</filter><rect width="100%" height="100%" filter="url(#f)"/>"##
    )
}
