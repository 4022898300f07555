//! Any bytes as a picture: nothing panics or crashes, and a refusal blames the source.
//!
//! Sees the branches of our code only; libvips and its decoders are not instrumented.
#![no_main]

use std::sync::LazyLock;
use std::time::{Duration, Instant};

use bytes::Bytes;
use imaging::{EncoderDefaults, Engine, EngineOptions, ImagingError, Limits};
use libfuzzer_sys::fuzz_target;
use transform_url::{Ops, Transform};

static ENGINE: LazyLock<Engine> = LazyLock::new(|| Engine::start(&EngineOptions::default()).expect("libvips"));
static TINY: LazyLock<Transform> =
    LazyLock::new(|| Ops::parse("w=16,f=png").and_then(|ops| ops.resolve(|_| None)).expect("ops"));

fuzz_target!(|bytes: &[u8]| {
    let source = Bytes::copy_from_slice(bytes);
    let probed = ENGINE.probe(&source);
    let limits = Limits {
        source_bytes: 1_000_000,
        megapixels: 1,
        frames: 4,
        output_px: 256,
        svg_bytes: 50_000,
        deadline: Some(Instant::now() + Duration::from_secs(5)),
    };
    match ENGINE.render((&source).into(), &TINY, None, &EncoderDefaults::default(), &limits) {
        Ok(rendered) => {
            assert!(probed.is_ok(), "what can be rendered can be probed");
            assert!(rendered.width <= 16 && rendered.height <= 256);
            assert!(rendered.body.starts_with(b"\x89PNG\r\n\x1a\n"));
        }
        Err(error) => assert!(!matches!(error, ImagingError::Library(_)), "{error:?}"),
    }
});
