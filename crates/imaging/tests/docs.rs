//! The table of sizes in `docs/sizes.md` is what the geometry says. `UPDATE_DOCS=1` writes it.

use std::fmt::Write;
use std::path::Path;

use imaging::{Size, geometry};
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
