//! Any bytes as a request target: nothing panics, and what is accepted can be printed and read back as the same.
//!
//! Must not accept what the properties in `transform-url/tests` forbid; it looks for what their generators never make.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use transform_url::native::{self, Request};
use transform_url::{Ops, TenantSlug, URL_BYTES_MAX};

static HOST: LazyLock<TenantSlug> = LazyLock::new(|| TenantSlug::new("demo").expect("a name"));
static PRESET: LazyLock<Ops> =
    LazyLock::new(|| Ops::parse("w=300,h=200,dpr=2,fit=cover,overlay=logo;tile;9;9,border=3;red").expect("ops"));

fuzz_target!(|target: &[u8]| {
    if let Ok(request) = native::parse(target, None) {
        check(target, &request);
    }
    // A tenant's own host: all of the path is signed.
    if let Ok(request) = native::parse(target, Some(&HOST)) {
        let path = target.split(|byte| *byte == b'?').next().unwrap_or_default();
        assert_eq!(request.signed_path.as_bytes(), path);
        check(target, &request);
    }
});

fn check(target: &[u8], request: &Request<'_>) {
    let path = target.split(|byte| *byte == b'?').next().unwrap_or_default();
    assert!(path.ends_with(request.signed_path.as_bytes()), "what is signed is the end of the path");
    assert!(request.signed_path.starts_with('/'));

    let source = format!("/demo/-/{}", request.source);
    // Encoding may make it longer than a URL can be.
    if source.len() <= URL_BYTES_MAX {
        let again = native::parse(source.as_bytes(), None).expect("a printed source is read back");
        assert_eq!(again.source, request.source);
    }
    let Some(ops) = request.ops() else { return };
    let Ok(transform) = ops.resolve(|_| Some(&PRESET)) else { return };
    let text = transform.to_string();
    let again = Ops::parse(&text).expect("the canonical text is read back");
    let again = again.resolve(|_| None).expect("it names no preset");
    assert_eq!(again, transform, "{text}");
    assert_eq!(again.to_string(), text, "the canonical text is a fixed point");
    assert_eq!(again.cache_text(), transform.cache_text());
    let cached = Ops::parse(&transform.cache_text()).and_then(|ops| ops.resolve(|_| None));
    assert_eq!(cached.expect("a cache text is ops").cache_text(), transform.cache_text());
}
