//! What `docs/migrating.md` says to write is read and rendered.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::collections::HashSet;

use bytes::Bytes;
use imaging::{Class, EncoderDefaults, Inputs, Limits};
use support::engine;
use testkit::images::{self, frames, jpeg, png};
use transform_url::{Ops, native};

/// The head of the column whose code is ours.
const COLUMN: &str = "Calotype";

/// Every code span in that column, with the number of its line.
fn examples(document: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut column = None;
    for (number, line) in document.lines().enumerate() {
        if !line.starts_with('|') {
            column = None;
            continue;
        }
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let Some(column) = column else {
            column = cells.iter().position(|cell| *cell == COLUMN);
            assert!(column.is_some(), "line {} begins a table without a column {COLUMN}", number + 1);
            continue;
        };
        found.extend(cells[column].split('`').skip(1).step_by(2).map(|code| (number + 1, code.to_owned())));
    }
    found
}

/// The ops of an example, which is a whole URL or ops alone; nothing if it asks for the original.
fn ops(example: &str) -> Option<Ops> {
    if !example.starts_with('/') {
        return Some(Ops::parse(example).unwrap_or_else(|error| panic!("{example}: {error}")));
    }
    let request = native::parse(example.as_bytes(), None).unwrap_or_else(|error| panic!("{example}: {error}"));
    request.ops().cloned()
}

#[test]
fn every_example_is_rendered() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/migrating.md");
    let document = std::fs::read_to_string(path).unwrap();
    let examples = examples(&document);
    assert!(examples.len() > 150, "{} examples", examples.len());

    let photo = Bytes::from(jpeg::rgb(&images::photo(320, 240), &jpeg::Extras::default()));
    let pages = Bytes::from(frames::gif(3, None));
    let logo = Bytes::from(png::rgba(&images::hard_edged(60, [9, 9, 9], [0; 3])));
    let preset = Ops::parse("w=120,h=80,fit=cover").unwrap();
    let mut done = HashSet::new();
    for (line, example) in examples {
        let Some(ops) = ops(&example) else { continue };
        if !done.insert(example.clone()) {
            continue;
        }
        let transform =
            ops.resolve(|_| Some(&preset)).unwrap_or_else(|error| panic!("line {line}, {example}: {error}"));
        let source = if transform.page().is_some() { &pages } else { &photo };
        let inputs = Inputs { source, overlay: Some(&logo), share: None };
        let made =
            engine().render(inputs, &transform, Some(Class::Webp), &EncoderDefaults::default(), &Limits::default());
        let made = made.unwrap_or_else(|error| panic!("line {line}, {example}: {error:?}"));
        assert!(!made.body.is_empty(), "line {line}, {example}");
    }
}
