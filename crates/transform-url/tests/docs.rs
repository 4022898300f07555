//! The op reference in `docs/ops.md` is the table. `UPDATE_DOCS=1` writes it.

use std::path::Path;

#[test]
fn the_reference_is_current() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/ops.md");
    let text = std::fs::read_to_string(&path).expect("the reference is there");
    let (before, rest) = text.split_once("<!-- generated: ops -->\n").expect("has the start mark");
    let (_, after) = rest.split_once("<!-- end -->").expect("has the end mark");
    let table = transform_url::reference::markdown_table();
    let current = format!("{before}<!-- generated: ops -->\n{table}<!-- end -->{after}");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, &current).expect("is written");
    }
    assert!(
        text == current || std::env::var_os("UPDATE_DOCS").is_some(),
        "out of date: run this test with UPDATE_DOCS=1"
    );
}
