//! Nothing but pixels leaves: no place, no camera, no comment, no profile.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use support::render;
use testkit::images::{self, metadata};

#[test]
fn no_metadata_is_in_any_rendition() {
    let picture = images::photo(200, 150);
    for (name, source) in [("JPEG", metadata::tell_tale_jpeg(&picture)), ("PNG", metadata::tell_tale_png(&picture))] {
        // The fixture has what is looked for.
        assert!(contains(&source, metadata::TELL_TALES[0].as_bytes()), "{name}");
        for format in ["jpeg", "png", "webp", "avif", "json"] {
            for ops in ["w=100", "v=1", "w=80,h=80,fit=cover,g=auto,rotate=90"] {
                let body = render(&source, &format!("{ops},f={format}")).body;
                let traces = metadata::TELL_TALES.iter().map(|word| word.as_bytes()).chain(metadata::MARKERS);
                for trace in traces {
                    let text = String::from_utf8_lossy(trace);
                    assert!(!contains(&body, trace), "{name} → {format}, {ops}: {text}");
                }
            }
        }
    }
}

fn contains(bytes: &[u8], wanted: &[u8]) -> bool {
    bytes.windows(wanted.len()).any(|window| window == wanted)
}
