//! The canonical rules for generated URLs, and that no input makes the parser panic.

use proptest::prelude::*;
use transform_url::table::TABLE;
use transform_url::{Ops, Source, native};

/// Canonical name and one spelling of a value that the op takes.
fn op() -> impl Strategy<Value = (&'static str, String)> {
    let number = |min: u32, max: u32| (min..=max, 0usize..3).prop_map(|(n, zeros)| format!("{}{n}", "0".repeat(zeros)));
    let decimal = |min: u32, max: u32| (min..max, 0u32..10_000).prop_map(|(whole, part)| format!("{whole}.{part:04}"));
    let word = |words: &'static [&'static str]| proptest::sample::select(words).prop_map(str::to_owned);
    prop_oneof![
        number(1, 2048).prop_map(|v| ("width", v)),
        number(1, 2048).prop_map(|v| ("height", v)),
        word(&["scale-down", "contain", "cover", "crop", "pad", "squeeze", "scale-up"]).prop_map(|v| ("fit", v)),
        word(&["center", "top", "north-west", "auto", "entropy", "0.30x0.7", "1x.25"]).prop_map(|v| ("gravity", v)),
        decimal(1, 4).prop_map(|v| ("dpr", v)),
        (-2000i32..2000).prop_map(|v| ("rotate", v.to_string())),
        word(&["h", "v", "hv", "vh"]).prop_map(|v| ("flip", v)),
        word(&["red", "%23abc", "12345678", "transparent"]).prop_map(|v| ("background", v)),
        decimal(1, 250).prop_map(|v| ("blur", v)),
        decimal(0, 10).prop_map(|v| ("saturation", v)),
        number(1, 100).prop_map(|v| ("quality", v)),
        word(&["auto", "jpg", "jpeg", "webp", "avif", "json"]).prop_map(|v| ("format", v)),
        word(&["3;red", "10;%2300ff00"]).prop_map(|v| ("border", v)),
        word(&["0;0;10;10", "0.25;0;.5;1"]).prop_map(|v| ("rect", v)),
        "[a-z0-9%]{1,20}".prop_map(|v| ("v", v.replace('%', "%2C"))),
        word(&["true", "false"]).prop_map(|v| ("lossless", v)),
    ]
}

/// A set of ops, one spelling each, in some order.
fn ops() -> impl Strategy<Value = Vec<(&'static str, String)>> {
    proptest::collection::vec(op(), 1..8).prop_map(|mut ops| {
        let mut seen = std::collections::HashSet::new();
        ops.retain(|(name, _)| seen.insert(*name));
        ops
    })
}

fn text(ops: &[(&'static str, String)], short: bool) -> String {
    let name = |full: &'static str| {
        TABLE.iter().find(|spec| spec.name == full && short).and_then(|spec| spec.short).unwrap_or(full)
    };
    ops.iter().map(|(full, value)| format!("{}={value}", name(full))).collect::<Vec<_>>().join(",")
}

fn canonical(text: &str) -> String {
    Ops::parse(text).expect("parses").resolve(|_| None).expect("resolves").to_string()
}

proptest! {
    #[test]
    fn the_canonical_form_is_a_fixed_point(ops in ops()) {
        let once = canonical(&text(&ops, false));
        prop_assert_eq!(canonical(&once), once);
    }

    #[test]
    fn order_and_short_names_do_not_matter(ops in ops(), seed in any::<usize>()) {
        let mut turned = ops.clone();
        turned.rotate_left(seed % ops.len());
        prop_assert_eq!(canonical(&text(&turned, true)), canonical(&text(&ops, false)));
    }

    #[test]
    fn the_canonical_form_is_sorted_full_and_without_defaults(ops in ops()) {
        let canonical = canonical(&text(&ops, true));
        prop_assume!(canonical != "format=auto");
        let pairs: Vec<(&str, &str)> = canonical.split(',').map(|op| op.split_once('=').expect("name=value")).collect();
        prop_assert!(pairs.windows(2).all(|pair| pair[0].0 < pair[1].0));
        for (name, value) in pairs {
            let spec = TABLE.iter().find(|spec| spec.name == name).expect("a full name");
            prop_assert!(name != "dpr" && name != "preset");
            let default = (spec.default)();
            prop_assert_ne!(default.as_deref(), Some(value));
        }
    }

    #[test]
    fn different_pictures_have_different_texts(a in ops(), b in ops()) {
        let resolve = |ops: &[_]| Ops::parse(&text(ops, false)).expect("parses").resolve(|_| None).expect("resolves");
        let (a, b) = (resolve(&a), resolve(&b));
        prop_assert_eq!(a == b, a.to_string() == b.to_string());
    }

    #[test]
    fn a_printed_source_is_read_back(segments in proptest::collection::vec("[^/\\x00-\\x1f\\x7f]{1,12}", 1..4), at in any::<bool>()) {
        let path = segments.join("/");
        prop_assume!(!segments.iter().any(|s| s == "." || s == "..") && path.len() <= 1024);
        let lower = path.to_ascii_lowercase();
        let source = if at {
            Source::Origin { origin: transform_url::OriginName::new("local").expect("a name"), path }
        } else {
            prop_assume!(!lower.starts_with("http:/") && !lower.starts_with("https:/"));
            Source::Upload(path)
        };
        let target = format!("/demo/w=1/{source}");
        prop_assert_eq!(native::parse(target.as_bytes(), None).expect("parses").source, source);
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = native::parse(&bytes, None);
    }

    #[test]
    fn no_near_miss_makes_it_panic(target in "/demo/([a-z]{1,8}=[-0-9a-z.;x%]{0,12},?){0,4}/[@%a-z0-9./:]{0,20}(\\?[a-z=&0-9]{0,12})?") {
        if let Ok(request) = native::parse(target.as_bytes(), None) {
            // What is accepted can be printed and read again.
            if let Some(ops) = request.ops() && let Ok(transform) = ops.resolve(|_| None) {
                let printed = format!("/{}/{transform}/{}", request.tenant, request.source);
                let again = native::parse(printed.as_bytes(), None).expect("the printed form parses");
                prop_assert_eq!(&again.source, &request.source);
                prop_assert_eq!(again.ops().expect("ops").resolve(|_| None).expect("resolves"), transform);
            }
        }
    }
}
