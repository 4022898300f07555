//! The op reference of the documentation, written from the table.

use std::fmt::Write;

use crate::table::{OpSpec, TABLE};

/// The Markdown table of every op: name, short name, values, default, meaning.
pub fn markdown_table() -> String {
    let mut text = String::from("| op | short | values | default | what it does |\n|---|---|---|---|---|\n");
    for spec in TABLE {
        write_row(&mut text, spec);
    }
    text
}

fn write_row(text: &mut String, spec: &OpSpec) {
    let short = spec.short.map(|short| format!("`{short}`")).unwrap_or_default();
    let default = (spec.default)().map(|default| format!("`{default}`")).unwrap_or_default();
    let doc = spec.doc.trim().replace('\n', " ");
    let allowed = (spec.allowed)();
    writeln!(text, "| `{}` | {short} | {allowed} | {default} | {} |", spec.name, doc.trim())
        .expect("a String takes every text");
}
