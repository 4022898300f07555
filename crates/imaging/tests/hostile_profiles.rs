//! ICC profiles from strangers: bombs, lies, and ones of another kind than the picture. A picture without its profile is
//! better than none, so most are shown.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use support::bounded::bounded;
use support::{assert_near, rgb, stripes, try_render};
use testkit::images::{self, colour, jpeg, png};

/// Most that a small picture with any profile may take, in megabytes.
const MEGABYTES: u64 = 120;
const COLOURS: [[u8; 3]; 3] = [[220, 30, 30], [30, 200, 40], [40, 50, 220]];

fn jpeg_with(icc: Vec<u8>) -> Vec<u8> {
    jpeg::rgb(&images::swatches(&COLOURS, 16), &jpeg::Extras { icc: Some(icc), ..jpeg::Extras::default() })
}

fn png_with(icc: Vec<u8>) -> Vec<u8> {
    png::rgb(&images::swatches(&COLOURS, 16), &png::Extras { icc: Some(icc), ..png::Extras::default() })
}

/// The picture is shown, in about the colours of its numbers.
#[track_caller]
fn is_shown(source: &[u8], tolerance: u8, what: &str) {
    let shown = bounded(what, MEGABYTES, || rgb(source, "v=1"));
    for (found, wanted) in stripes(&shown, 3).into_iter().zip(COLOURS) {
        assert_near(found, wanted, tolerance, what);
    }
}

#[test]
fn a_profile_that_inflates_to_hundreds_of_megabytes() {
    let bomb = png::with_compressed_profile(&png::zlib_zeros(400_000_000));
    assert!(bomb.len() < 3_000_000, "{}", bomb.len());
    for ops in ["f=png", "f=json", "w=9,fit=contain,f=jpeg", "metadata=keep,f=webp"] {
        // Shown or refused is the library's choice; it must not take the memory.
        if let Err(error) = bounded(ops, MEGABYTES, || try_render(&bomb, ops)) {
            assert!(error.is_source_fault(), "{ops}: {error:?}");
        }
    }
}

#[test]
fn a_profile_of_ten_megabytes() {
    let padded = |to: usize, tells: bool| {
        let mut profile = colour::display_p3();
        profile.resize(to, 0);
        if tells {
            profile[..4].copy_from_slice(&u32::try_from(to).unwrap().to_be_bytes());
        }
        profile
    };
    for (what, profile) in [("honest", padded(10_000_000, true)), ("with a tail", padded(10_000_000, false))] {
        is_shown(&jpeg_with(profile.clone()), 60, what);
        is_shown(&png_with(profile), 60, what);
    }
}

#[test]
fn profiles_that_lie() {
    let good = colour::display_p3();
    let patched = |at: usize, bytes: &[u8]| {
        let mut profile = good.clone();
        profile[at..at + bytes.len()].copy_from_slice(bytes);
        profile
    };
    let all = u32::MAX.to_be_bytes();
    for (what, profile) in [
        ("cut in the header", good[..100].to_vec()),
        ("cut in its tags", good[..200].to_vec()),
        ("cut at the end", good[..good.len() - 8].to_vec()),
        ("a length of 4 GB", patched(0, &all)),
        ("a length of nothing", patched(0, &[0; 4])),
        ("4 billion tags", patched(128, &all)),
        ("no tags", patched(128, &[0; 4])),
        ("a tag at 4 GB", patched(136, &all)),
        ("a tag of 4 GB", patched(140, &all)),
        ("a tag in the header", patched(136, &[0, 0, 0, 4])),
        ("no signature", patched(36, b"abcd")),
        ("zeros", vec![0; 4096]),
        ("text", b"This is no profile. ".repeat(50)),
    ] {
        is_shown(&jpeg_with(profile.clone()), 60, what);
        is_shown(&png_with(profile), 60, what);
    }
}

#[test]
fn profiles_of_another_kind() {
    for (what, profile) in [
        ("inks", colour::ink_profile()),
        ("grey", colour::grey(2.2)),
        ("inks that say they are RGB", {
            let mut profile = colour::ink_profile();
            profile[16..20].copy_from_slice(b"RGB ");
            profile
        }),
        ("RGB that says it is inks", {
            let mut profile = colour::display_p3();
            profile[16..20].copy_from_slice(b"CMYK");
            profile
        }),
    ] {
        is_shown(&jpeg_with(profile.clone()), 10, what);
        is_shown(&png_with(profile), 10, what);
    }
    // Inks with a profile for light, and with one that is cut off.
    let inks = [[0; 4], [255, 0, 0, 0], [0, 255, 0, 0]];
    for profile in [colour::display_p3(), colour::ink_profile()[..300].to_vec()] {
        let shown = bounded("inks", MEGABYTES, || rgb(&jpeg::cmyk(&inks, 16, Some(profile)), "v=1"));
        assert_near(stripes(&shown, 3)[0], [255; 3], 10, "no ink is white");
    }
}
