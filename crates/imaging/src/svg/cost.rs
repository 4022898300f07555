//! Owns the estimate of what drawing an SVG costs: every element that is drawn, through references too, has a weight.
//!
//! Must not be exact: what an element covers is not known here, so each counts as if it covered the picture.

use std::collections::HashMap;

use roxmltree::{Document, Node};

use super::refused;
use super::style::{Sheet, declarations, font_px, plain};
use crate::error::ImagingError;

/// Most elements that are drawn, each as often as it is referred to.
const ELEMENTS_MAX: u64 = 100_000;
/// Most elements inside of each other, through references too.
const DEPTH_MAX: u32 = 100;
/// Most elements inside of each other that are drawn on a surface of their own, each of which takes 16 MB.
const LAYERS_MAX: u32 = 16;
/// Most primitives of one filter, each of which may keep a surface.
const PRIMITIVES_MAX: usize = 50;
/// Most pixels of all embedded pictures, each as often as it is drawn: twice 4 bytes each in memory, one after the other.
const EMBEDDED_PIXELS_MAX: u64 = 50_000_000;
/// Largest text, in pixels: at sizes of no use librsvg 2.54 ends the process.
const FONT_PX_MAX: f64 = 1e8;
/// Size of text that has none, in pixels, and more than that.
const FONT_PX: f64 = 16.0;
/// Most time that drawing may be estimated at, in units of a tenth of a millisecond: ten seconds.
const UNITS_MAX: f64 = 100_000.0;

/// Weights in units for a megapixel.
const PLAIN: u64 = 1;
const GRADIENT: u64 = 20;
const LAYER: u64 = 10;
const BLENDED: u64 = 80;
const BLUR: u64 = 750;
const LIGHT: u64 = 600;
const OCTAVE: u64 = 500;
/// For each pixel of the neighbourhood that a filter looks at.
const NEIGHBOUR: u64 = 60;

/// What drawing a document costs.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Drawing {
    /// Units for a megapixel.
    units: u64,
    /// Squared radii of what looks at a neighbourhood in units of the document, which grows with the size it is drawn at.
    squared_radii: f64,
}

impl Drawing {
    /// Refuses what would take too long at `pixels`, `scale` times the document's own size.
    pub(crate) fn check(&self, pixels: u64, scale: f64) -> Result<(), ImagingError> {
        let neighbours = self.squared_radii * (2.0 * scale).powi(2) * NEIGHBOUR as f64;
        let units = (self.units as f64 + neighbours) * pixels as f64 / 1e6;
        if units > UNITS_MAX { Err(refused("would take too long to draw at this size")) } else { Ok(()) }
    }
}

/// The cost of `document`; `pixels` tells the size of an embedded picture.
pub(super) fn drawing(
    document: &Document<'_>,
    sheet: Sheet,
    mut pixels: impl FnMut(&str) -> Result<u64, ImagingError>,
) -> Result<Drawing, ImagingError> {
    let sheet = sheet.only(|body| declarations(body).any(|(name, _)| is_costly(name)));
    let mut known = Known { ids: HashMap::new(), sheet, marker_elements: 0, marks_vertices: false };
    known.read(document);
    let mut pictures: HashMap<u32, u64> = HashMap::new();
    let (mut drawing, mut elements, mut embedded) = (Drawing::default(), 0, 0_u64);
    let mut open = vec![Place { node: document.root_element(), depth: 0, layers: 0, font: FONT_PX }];
    while let Some(place) = open.pop() {
        let node = place.node;
        let costs = known.costs(node, place.font)?;
        elements += 1 + costs.marks;
        if elements > ELEMENTS_MAX {
            return Err(refused("draws too many elements"));
        }
        if place.depth > DEPTH_MAX || place.layers > LAYERS_MAX {
            return Err(refused("is nested too deeply"));
        }
        drawing.units = drawing.units.saturating_add(PLAIN + costs.units);
        drawing.squared_radii += costs.squared_radii;
        if matches!(node.tag_name().name(), "image" | "feImage") {
            for href in hrefs(node) {
                let own = match pictures.get(&node.id().get()) {
                    Some(own) => *own,
                    None => pixels(href)?,
                };
                pictures.insert(node.id().get(), own);
                embedded = embedded.saturating_add(own);
            }
        }
        if embedded > EMBEDDED_PIXELS_MAX {
            return Err(refused("embeds pictures of too many pixels"));
        }
        if costs.font > FONT_PX_MAX {
            return Err(refused("has text that is too large"));
        }
        let layers = place.layers + u32::from(costs.has_layer);
        let inside = |node| Place { node, depth: place.depth + 1, layers, font: costs.font };
        open.extend(costs.draws.into_iter().map(inside));
        open.extend(node.children().filter(Node::is_element).map(inside));
    }
    Ok(drawing)
}

/// An element to be drawn.
struct Place<'a, 'input> {
    node: Node<'a, 'input>,
    depth: u32,
    layers: u32,
    /// Size of text, in pixels.
    font: f64,
}

/// What one element adds.
#[derive(Default)]
struct Costs<'a, 'input> {
    units: u64,
    squared_radii: f64,
    /// Elements of markers at its vertices.
    marks: u64,
    has_layer: bool,
    /// Size of text in it, in pixels.
    font: f64,
    /// What it draws beside its children.
    draws: Vec<Node<'a, 'input>>,
}

/// What has to be known of the whole document.
struct Known<'a, 'input> {
    /// By lower-case id; one that is given twice means both.
    ids: HashMap<String, Vec<Node<'a, 'input>>>,
    sheet: Sheet,
    /// Elements in the largest marker.
    marker_elements: u64,
    /// Whether markers may stand at every vertex.
    marks_vertices: bool,
}

impl<'a, 'input> Known<'a, 'input> {
    fn read(&mut self, document: &'a Document<'input>) {
        for node in document.descendants().filter(Node::is_element) {
            if let Some(id) = node.attribute("id") {
                self.ids.entry(id.to_ascii_lowercase()).or_default().push(node);
            }
            if node.tag_name().name() == "marker" {
                self.marker_elements = self.marker_elements.max(node.descendants().count() as u64);
            }
            self.marks_vertices |= node.attribute("marker-mid").is_some()
                || node.attribute("style").is_some_and(|style| plain(style).contains("marker"));
        }
        self.marks_vertices |= self.sheet.mentions("marker");
    }

    /// The elements that `url(#id)` in `value` names.
    fn referred(&self, value: &str) -> impl Iterator<Item = Node<'a, 'input>> {
        value.split("url(").skip(1).flat_map(|url| {
            let id = url.trim_start_matches(['"', '\'', ' ']).trim_start_matches('#');
            let id = id.split([')', '"', '\'']).next().unwrap_or_default().trim();
            self.ids.get(id).into_iter().flatten().copied()
        })
    }

    /// What `node` adds in a place where text has the size `font`.
    fn costs(&self, node: Node<'a, 'input>, font: f64) -> Result<Costs<'a, 'input>, ImagingError> {
        let mut costs = Costs { font, ..Costs::default() };
        for attribute in node.attributes().filter(|attribute| is_costly(attribute.name())) {
            self.add(attribute.name(), &plain(attribute.value()), font, &mut costs)?;
        }
        let style = node.attribute("style").map(plain).unwrap_or_default();
        for (name, value) in self.sheet.of(node).chain([style.as_str()]).flat_map(declarations) {
            self.add(name, value, font, &mut costs)?;
        }
        if matches!(node.tag_name().name(), "use" | "feImage") {
            for href in hrefs(node) {
                let id = href.trim().trim_start_matches('#').to_ascii_lowercase();
                costs.draws.extend(self.ids.get(&id).into_iter().flatten());
            }
        }
        if self.marker_elements > 0 {
            let shape = node.attribute("d").or_else(|| node.attribute("points"));
            // A vertex takes four bytes and more.
            let vertices = shape.map_or(2, |shape| if self.marks_vertices { shape.len() as u64 / 4 } else { 2 });
            costs.marks = vertices * if shape.is_some() { self.marker_elements } else { 0 };
        }
        Ok(costs)
    }

    /// Adds what the declaration of `name` as `value` costs.
    fn add(&self, name: &str, value: &str, font: f64, costs: &mut Costs<'a, 'input>) -> Result<(), ImagingError> {
        let is_off = matches!(value, "1" | "none" | "normal" | "auto" | "");
        match name {
            _ if is_off => {}
            "opacity" | "isolation" => costs.layer(LAYER),
            "mix-blend-mode" => costs.layer(BLENDED),
            "mask" => {
                costs.layer(BLENDED);
                costs.draws.extend(self.referred(value));
            }
            // The largest of what may apply.
            "font" | "font-size" => costs.font = costs.font.max(font_px(font, name, value)),
            "clip-path" => costs.draws.extend(self.referred(value)),
            "fill" | "stroke" => {
                for paint in self.referred(value) {
                    if paint.tag_name().name() == "pattern" {
                        costs.layer(BLENDED);
                        costs.draws.push(paint);
                    } else {
                        costs.units += GRADIENT;
                    }
                }
            }
            "filter" => {
                let functions = value.matches('(').count() - value.matches("url(").count();
                costs.layer(LAYER + functions as u64 * BLUR);
                for filter in self.referred(value) {
                    let primitives: Vec<_> = filter.children().filter(Node::is_element).collect();
                    if functions + primitives.len() > PRIMITIVES_MAX {
                        return Err(refused("has a filter of too many steps"));
                    }
                    for primitive in primitives {
                        costs.primitive(primitive, filter)?;
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }
}

impl Costs<'_, '_> {
    fn layer(&mut self, units: u64) {
        self.units = self.units.saturating_add(units);
        self.has_layer = true;
    }

    fn primitive(&mut self, node: Node<'_, '_>, filter: Node<'_, '_>) -> Result<(), ImagingError> {
        let numbers = |name: &str| -> (f64, f64) {
            let mut numbers = node
                .attribute(name)
                .unwrap_or_default()
                .split([' ', ',', '\t', '\n', '\r'])
                .filter_map(|number| number.parse::<f64>().ok())
                .filter(|number| number.is_finite());
            let first = numbers.next();
            (first.unwrap_or(1.0).abs(), numbers.next().or(first).unwrap_or(1.0).abs())
        };
        // Casts of floats saturate.
        self.units = self.units.saturating_add(match node.tag_name().name() {
            "feGaussianBlur" | "feDropShadow" => BLUR,
            "feTurbulence" => (numbers("numOctaves").0 as u64).saturating_add(1).saturating_mul(OCTAVE),
            "feConvolveMatrix" => {
                let (columns, rows) = numbers("order");
                ((columns * rows) as u64).max(9).saturating_mul(NEIGHBOUR)
            }
            "feMorphology" if filter.attribute("primitiveUnits") == Some("objectBoundingBox") => {
                return Err(refused("has a filter whose radius is not known"));
            }
            "feMorphology" => {
                let (across, down) = numbers("radius");
                self.squared_radii += across * down;
                NEIGHBOUR
            }
            "feDiffuseLighting" | "feSpecularLighting" => LIGHT,
            _ => LAYER,
        });
        Ok(())
    }
}

fn is_costly(name: &str) -> bool {
    matches!(
        name,
        "opacity"
            | "isolation"
            | "mix-blend-mode"
            | "mask"
            | "clip-path"
            | "fill"
            | "stroke"
            | "filter"
            | "font"
            | "font-size"
            | "marker"
            | "marker-mid"
    )
}

fn hrefs<'a>(node: Node<'a, '_>) -> impl Iterator<Item = &'a str> {
    node.attributes().filter(|attribute| attribute.name() == "href").map(|attribute| attribute.value())
}
