//! The documentation is true: the table of sizes in `docs/sizes.md` is what the geometry says (`UPDATE_DOCS=1` writes it), and
//! every example of ops in the guides makes a picture.

mod support;

use std::fmt::Write;
use std::path::Path;

use imaging::{Encoding, Size, geometry};
use support::{engine, render_with_overlay, transform};
use testkit::images::{self, png};
use transform_url::Ops;
use transform_url::value::Fit;

const SOURCES: [(&str, Size); 4] = [
    ("wide", Size::new(1600, 800)),
    ("tall", Size::new(800, 1600)),
    ("small", Size::new(200, 100)),
    ("equal", Size::new(400, 300)),
];

const BOXES: [&str; 3] = ["w=400,h=300", "w=400", "h=300"];

fn tables() -> String {
    let mut text = String::new();
    for ops in BOXES {
        let heads: String =
            SOURCES.iter().map(|(name, size)| format!(" {name} {} × {} |", size.width, size.height)).collect();
        writeln!(text, "`{ops}`\n\n| fit |{heads}\n|---|---|---|---|---|").expect("a String takes every text");
        for fit in Fit::ALL {
            let transform =
                Ops::parse(&format!("{ops},fit={fit}")).and_then(|ops| ops.resolve(|_| None)).expect("is allowed");
            let cells: String = SOURCES
                .iter()
                .map(|(_, source)| geometry(*source, &transform, 8192).expect("fits").output)
                .map(|size| format!(" {} × {} |", size.width, size.height))
                .collect();
            writeln!(text, "| `{fit}` |{cells}").expect("a String takes every text");
        }
        text.push('\n');
    }
    text
}

#[test]
fn the_sizes_are_current() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/sizes.md");
    let text = std::fs::read_to_string(&path).expect("the table is there");
    let (before, rest) = text.split_once("<!-- generated: sizes -->\n").expect("has the start mark");
    let (_, after) = rest.split_once("<!-- end -->").expect("has the end mark");
    let current = format!("{before}<!-- generated: sizes -->\n{}<!-- end -->{after}", tables());
    let update = std::env::var_os("UPDATE_DOCS").is_some();
    if update {
        std::fs::write(&path, &current).expect("is written");
    }
    assert!(text == current || update, "out of date: run this test with UPDATE_DOCS=1");
}

/// Guides whose examples are run.
const GUIDES: [&str; 2] = ["README.md", "docs/ops.md"];
/// Fewest examples that the guides have together: finding none must not look like success.
const EXAMPLES_MIN: usize = 40;

/// The ops in code spans of table rows, which is where examples are; `name=…` and the like are no examples.
fn examples(text: &str) -> Vec<&str> {
    text.lines()
        .filter(|line| line.starts_with('|'))
        .flat_map(|line| line.split('`').skip(1).step_by(2))
        .filter(|span| span.contains('=') && !span.contains([' ', '/', '…']) && !span.ends_with('='))
        .collect()
}

#[test]
fn every_example_makes_a_picture() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let three_pages = images::tiff(&[images::places(90, 60), images::places(90, 60), images::places(90, 60)]);
    let mark = png::rgba(&images::hard_edged(24, [220, 20, 60], [0; 3]));
    let can = engine().capabilities().clone();
    let mut count = 0;
    for guide in GUIDES {
        let text = std::fs::read_to_string(folder.join(guide)).expect("the guide is there");
        for example in examples(&text) {
            let parsed = Ops::parse(example).unwrap_or_else(|error| panic!("{guide}: {example}: {error}"));
            // Presets are a tenant's own.
            if parsed.preset.is_none() && !needs_what_is_missing(example, &can.cannot_write) {
                let rendered = render_with_overlay(&three_pages, &mark, example);
                rendered.unwrap_or_else(|error| panic!("{guide}: {example}: {error:?}"));
            }
            count += 1;
        }
    }
    assert!(count >= EXAMPLES_MIN, "only {count} examples were found");
}

fn needs_what_is_missing(ops: &str, missing: &std::collections::BTreeMap<Encoding, &'static str>) -> bool {
    missing.keys().any(|encoding| transform(ops).format().word() == encoding.name())
}
