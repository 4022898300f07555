//! What ops on the file do: nothing lost, few bytes, metadata kept.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use imaging::{Encoding, ImagingError};
use support::{render, rgb, rgba, try_render};
use testkit::images::{self, jpeg, metadata, png};

/// Formats that can be written without loss, if the library has them.
fn lossless_formats() -> Vec<&'static str> {
    let can = support::engine().capabilities().clone();
    let wanted = [Encoding::Png, Encoding::Webp, Encoding::Jxl];
    wanted.into_iter().filter(|encoding| can.writes.contains(encoding)).map(Encoding::name).collect()
}

#[test]
fn nothing_is_lost_without_loss() {
    let photo = png::rgb(&images::photo(64, 48), &png::Extras::default());
    for format in lossless_formats() {
        let body = render(&photo, &format!("lossless=true,f={format}")).body;
        assert!(rgb(&body, "v=1") == images::photo(64, 48), "{format}");
    }
    let disc = images::hard_edged(40, [9, 200, 30], [0; 3]);
    let body = render(&png::rgba(&disc), "lossless=true,f=webp").body;
    let seen = |picture: image::RgbaImage| {
        picture.pixels().map(|p| if p.0[3] == 0 { [0; 4] } else { p.0 }).collect::<Vec<_>>()
    };
    assert!(seen(rgba(&body, "v=1")) == seen(disc));
}

#[test]
fn a_limit_on_bytes_is_kept_with_the_best_quality_that_fits() {
    let photo = jpeg::rgb(&images::photo(300, 200), &jpeg::Extras::default());
    for format in ["jpeg", "webp", "avif"] {
        let bytes = |ops: &str| render(&photo, &format!("w=300,{ops},f={format}")).body.len();
        let (whole, least) = (bytes("v=1"), bytes("q=1"));
        assert_eq!(bytes(&format!("max-bytes={whole}")), whole, "{format}: nothing to do");
        for limit in [whole - 1, whole * 3 / 4, whole / 2, least.midpoint(whole / 3), least] {
            let found = bytes(&format!("max-bytes={limit}"));
            assert!(found <= limit, "{format}: {found} bytes of {limit}");
        }
        // A search of five steps comes near: at half the bytes, no more than a quarter of them is given away.
        let half = bytes(&format!("max-bytes={}", whole / 2));
        assert!(half * 4 >= whole / 2 * 3, "{format}: {half} of {}", whole / 2);
        for limit in [1, least - 1] {
            let error = try_render(&photo, &format!("w=300,max-bytes={limit},f={format}")).unwrap_err();
            match error {
                ImagingError::BytesOutOfReach { limit: said, bytes } => assert_eq!((said, bytes), (limit, least)),
                other => panic!("{format}: {other:?}"),
            }
        }
    }
}

fn contains(bytes: &[u8], wanted: &str) -> bool {
    bytes.windows(wanted.len()).any(|window| window == wanted.as_bytes())
}

#[test]
fn metadata_is_kept_as_far_as_it_is_asked_for() {
    let source = metadata::tell_tale_jpeg(&images::photo(120, 90));
    for format in ["jpeg", "webp", "avif"] {
        let body = |metadata: &str| render(&source, &format!("w=60,metadata={metadata},f={format}")).body;
        let (none, copyright, keep) = (body("none"), body("copyright"), body("keep"));
        for owner in metadata::OWNERS {
            assert!(
                !contains(&none, owner) && contains(&copyright, owner) && contains(&keep, owner),
                "{format} {owner}"
            );
        }
        for secret in metadata::TELL_TALES {
            assert!(!contains(&none, secret) && !contains(&copyright, secret), "{format} {secret}");
        }
        assert!(contains(&keep, metadata::TELL_TALES[0]), "{format}");
        // The profile's pixels are sRGB by now, whatever is kept.
        for body in [&copyright, &keep] {
            assert!(!support::engine().probe(body).unwrap().icc, "{format}");
        }
    }
    assert!(contains(&render(&source, "metadata=keep,f=jpeg").body, metadata::TELL_TALES[2]), "XMP");
}

#[test]
fn a_kept_orientation_is_upright() {
    let exif = devstack::samples::exif::Exif {
        orientation: 6,
        artist: Some(metadata::OWNERS[0].to_owned()),
        ..Default::default()
    };
    let stored = jpeg::stored(&images::places(60, 90), 6);
    let source = jpeg::rgb(&stored, &jpeg::Extras { exif: Some(exif.to_bytes()), ..jpeg::Extras::default() });
    for format in ["jpeg", "webp", "avif"] {
        for keep in ["keep", "copyright"] {
            let body = render(&source, &format!("metadata={keep},f={format}")).body;
            let info = support::engine().probe(&body).unwrap();
            assert_eq!((info.orientation, info.upright.width, info.upright.height), (1, 60, 90), "{format} {keep}");
        }
    }
}
