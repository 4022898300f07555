//! Owns the look into an SVG before it is drawn: what must not be in it, and what drawing it costs.
//!
//! Must not change the document: one that is not let through is refused. Needed because its renderer, once begun, cannot be
//! stopped before a tile of 2000 × 2000 pixels is done, decodes embedded pictures of any size, and reads documents inside of
//! documents. References to the outside are no matter: nothing is loaded, and the rest is drawn.
//!
//! The document is read by a strict parser that resolves entities as the renderer's does, so that nothing hides in them; text
//! in which the two could differ (other encodings, declarations of attributes and of parameter entities) is refused.
//! The costs are estimates, measured on librsvg 2.54. They stop what takes minutes, not what takes a second too long.

mod cost;
mod embedded;
mod style;

use std::borrow::Cow;

use roxmltree::{Document, Node, NodeType, ParsingOptions};

pub(crate) use cost::Drawing;

use crate::Engine;
use crate::error::ImagingError;
use crate::format::SourceFormat;
use crate::probe::unreadable;
use crate::vips::VipsError;
use style::Sheet;

/// Most elements, texts and comments of a document.
const NODES_MAX: u32 = 300_000;

/// Most rows and columns of a filter's matrix.
const MATRIX_MAX: u8 = 15;
/// Longest text of a filter's matrix, in bytes: less than 400 numbers.
const MATRIX_BYTES_MAX: usize = 798;

/// The refusal of an SVG; `reason` continues "the source is an SVG that ".
pub(crate) fn refused(reason: &'static str) -> ImagingError {
    ImagingError::SvgRefused { reason }
}

/// Reads `bytes`, refuses what must not be in it, and estimates the rest.
///
/// # Errors
/// [`ImagingError::SvgRefused`], or an embedded picture's own error.
pub(crate) fn inspect(engine: &Engine, bytes: &[u8]) -> Result<Drawing, ImagingError> {
    let text = text(bytes)?;
    let options = ParsingOptions { allow_dtd: true, nodes_limit: NODES_MAX, ..ParsingOptions::default() };
    let document = Document::parse_with_options(&text, options).map_err(|error| match error {
        roxmltree::Error::NodesLimitReached => refused("has too many elements"),
        roxmltree::Error::EntityReferenceLoop(_) => refused("has entities that expand without end"),
        roxmltree::Error::UnknownEntityReference(..) => refused("uses an entity that is external or not declared"),
        error => unreadable(VipsError::new("svg parser", &error.to_string()), SourceFormat::Svg, bytes),
    })?;
    check_prologue(&document)?;
    let mut sheet = Sheet::default();
    for node in document.descendants() {
        match node.node_type() {
            // Its attributes are in a syntax of their own. Other style sheets than files, which are not loaded, are rare.
            NodeType::PI if node.pi().is_some_and(|pi| pi.target == "xml-stylesheet") => check_sheet_link(node)?,
            NodeType::Element => check_element(node, &mut sheet)?,
            _ => {}
        }
    }
    cost::drawing(&document, sheet, |url| embedded::pixels(engine, url))
}

/// The document as text. The renderer goes by the declared encoding, so only what means the same here is let through.
fn text(bytes: &[u8]) -> Result<Cow<'_, str>, ImagingError> {
    let bytes = bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(bytes).trim_ascii_start();
    let end = bytes.windows(2).position(|pair| pair == b"?>").unwrap_or(0);
    let declaration = String::from_utf8_lossy(if bytes.starts_with(b"<?xml") { &bytes[..end] } else { b"" });
    let declared = declaration
        .split_once("encoding")
        .map(|(_, rest)| rest.trim_matches(|c: char| c.is_ascii_whitespace() || c == '=').to_ascii_lowercase());
    let is = |name: &str| {
        declared.as_ref().is_none_or(|rest| {
            rest.get(1..).and_then(|rest| rest.strip_prefix(name)).is_some_and(|rest| rest.starts_with(['"', '\'']))
        })
    };
    if declared.is_some() && ["iso-8859-1", "us-ascii"].into_iter().any(is) {
        return Ok(bytes.iter().copied().map(char::from).collect());
    }
    if !is("utf-8") {
        return Err(refused("is neither in UTF-8 nor in ISO-8859-1"));
    }
    std::str::from_utf8(bytes).map(Cow::Borrowed).map_err(|_| refused("is not valid UTF-8"))
}

/// Refuses a document type that declares what the parser here does not follow: parameter entities and default attributes.
fn check_prologue(document: &Document<'_>) -> Result<(), ImagingError> {
    let prologue = &document.input_text()[..document.root_element().range().start];
    let declares_parameter =
        prologue.split("<!ENTITY").skip(1).any(|declaration| declaration.trim_start().starts_with('%'));
    if declares_parameter || prologue.contains("<!ATTLIST") {
        return Err(refused("declares attributes or parameter entities"));
    }
    Ok(())
}

fn check_sheet_link(node: Node<'_, '_>) -> Result<(), ImagingError> {
    let link = node.pi().and_then(|pi| pi.value).unwrap_or_default().to_ascii_lowercase();
    if link.contains("data") || link.contains('&') { Err(refused("embeds a style sheet")) } else { Ok(()) }
}

/// Refuses documents inside of this one, wherever a reference can stand; notes what a `style` says.
fn check_element(node: Node<'_, '_>, sheet: &mut Sheet) -> Result<(), ImagingError> {
    let name = node.tag_name().name();
    if node.tag_name().namespace() == Some("http://www.w3.org/2001/XInclude") {
        return Err(refused("includes another document"));
    }
    match name {
        "feConvolveMatrix" => check_matrix(node)?,
        // Of nothing it is fatal in librsvg 2.54, and what is nothing only drawing shows.
        "feTile" => return Err(refused("has a filter of tiles")),
        _ => {}
    }
    let shows_pictures = matches!(name, "image" | "feImage");
    for attribute in node.attributes() {
        let value = style::plain(attribute.value());
        let is_drawn = attribute.namespace().is_none() && !is_name(attribute.name());
        if is_drawn && style::has_huge_number(&value) {
            return Err(refused("has numbers that are too large"));
        }
        let is_embedding = if attribute.name() == "href" {
            // A picture's is looked at where it is drawn.
            embedded::is_data_url(attribute.value()) && !(shows_pictures || name == "a")
        } else {
            style::embeds_document(&value)
        };
        if is_embedding {
            return Err(refused("embeds another document"));
        }
    }
    if name == "style" {
        let text: String =
            node.descendants().filter_map(|part| part.is_text().then(|| part.text()).flatten()).collect();
        let text = style::plain(&text);
        if style::embeds_document(&text) || text.contains("@import") && text.contains("data:") {
            return Err(refused("embeds another document"));
        }
        if style::has_huge_number(&text) {
            return Err(refused("has numbers that are too large"));
        }
        sheet.add(&text);
    }
    Ok(())
}

/// Whether an attribute names something, so that digits in it are no numbers.
fn is_name(attribute: &str) -> bool {
    matches!(attribute, "id" | "class" | "href") || attribute.starts_with("data-")
}

/// Refuses a matrix that the renderer might take for one of another size: librsvg 2.54 reads 400 numbers of a longer list, and
/// then ends the process.
fn check_matrix(node: Node<'_, '_>) -> Result<(), ImagingError> {
    let order = node.attribute("order").unwrap_or("3");
    let sides = order.split([' ', ',']).filter(|side| !side.is_empty());
    let is_order =
        sides.clone().count() <= 2 && sides.into_iter().all(|side| side.parse().is_ok_and(|n: u8| n <= MATRIX_MAX));
    // A number and what separates it from the next one take two bytes and more.
    let is_short = node.attribute("kernelMatrix").unwrap_or_default().len() <= MATRIX_BYTES_MAX;
    if is_order && is_short { Ok(()) } else { Err(refused("has a filter with a matrix that is too large")) }
}
