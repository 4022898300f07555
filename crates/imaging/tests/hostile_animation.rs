//! Animations from strangers: too long, cut off, with delays that make no sense.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use imaging::{ImagingError, Limits};
use support::bounded::bounded;
use support::{engine, pixels, render, rgb, try_render, try_render_within};
use testkit::images::{self, frames};

/// Most that an animation within the limits may take, in megabytes.
const MEGABYTES: u64 = 200;

#[test]
fn ten_thousand_frames_are_counted_and_not_decoded() {
    // The library stops counting at some thousands.
    let source = frames::gif(10_000, Some(4));
    for ops in ["f=webp", "f=gif", "w=4"] {
        let error = bounded(ops, MEGABYTES, || try_render(&source, ops)).unwrap_err();
        assert!(matches!(error, ImagingError::TooManyFrames { frames: 4096.., limit: 60 }), "{ops}: {error:?}");
        assert!(error.is_source_fault());
    }
    // What shows one frame does not mind.
    for ops in ["f=jpeg", "f=webp,anim=false", "f=webp,page=4000", "f=json", "f=blurhash"] {
        bounded(ops, MEGABYTES, || render(&source, ops));
    }
    assert_eq!(rgb(&source, "v=1").get_pixel(4, 4).0, [200, 0, 0]);
    assert_eq!(rgb(&source, "page=3998").get_pixel(4, 4).0, [0, 0, 200]);
}

#[test]
fn frames_within_the_limit_may_still_be_too_many_pixels() {
    let source = images::animated_gif(400, 400, 40);
    let limits = Limits { megapixels: 5, ..Limits::default() };
    let error = try_render_within(&source, "w=9,f=webp", &limits).unwrap_err();
    assert!(matches!(error, ImagingError::TooManyPixels { frames: 40, .. }), "{error:?}");
    // Enlarged by the ops, it is not the source's fault.
    let small = frames::gif(50, None);
    let error = try_render(&small, "w=4000,h=4000,fit=contain,f=webp").unwrap_err();
    assert!(matches!(error, ImagingError::AnimationTooLarge { frames: 50, .. }), "{error:?}");
    assert!(!error.is_source_fault());
}

#[test]
fn cut_off_animations_are_refused() {
    let gif = frames::gif(20, None);
    let webp = render(&gif, "f=webp").body;
    assert_eq!(engine().probe(&webp).unwrap().frames, 20);
    for (what, source) in [("GIF", &gif[..]), ("WebP", &webp[..])] {
        for tenths in 1..10 {
            let cut = &source[..source.len() * tenths / 10];
            for ops in ["f=webp", "f=gif", "f=jpeg"] {
                match bounded(what, MEGABYTES, || try_render(cut, ops)) {
                    Err(error) => assert!(
                        matches!(error, ImagingError::Truncated(_) | ImagingError::Corrupt(_)),
                        "{what} {tenths} {ops}: {error:?}"
                    ),
                    // A frame that is there may be shown, alone or with those that are there.
                    Ok(made) => assert_eq!((made.width, made.height), (8, 8), "{what} {tenths} {ops}"),
                }
            }
        }
    }
    let error = try_render(&webp[..webp.len() / 2], "f=webp").unwrap_err();
    assert!(matches!(error, ImagingError::Truncated(_)), "a RIFF tells its length: {error:?}");
}

#[test]
fn delays_that_are_missing_or_absurd() {
    for delay in [None, Some(0), Some(1), Some(u16::MAX)] {
        let source = frames::gif(5, delay);
        for ops in ["f=webp", "f=gif", "w=4,h=4,fit=cover,rotate=90,f=webp", "f=json"] {
            bounded(ops, MEGABYTES, || render(&source, ops));
        }
        for ops in ["f=webp", "f=gif"] {
            let made = render(&source, ops).body;
            assert_eq!(engine().probe(&made).unwrap().frames, 5, "{delay:?} {ops}");
        }
    }
    // A WebP's delay has three bytes (WebP Container Specification, "ANMF").
    let mut webp = render(&frames::gif(3, Some(9)), "f=webp").body.to_vec();
    let places: Vec<_> = (0..webp.len() - 24).filter(|at| &webp[*at..at + 4] == b"ANMF").collect();
    assert_eq!(places.len(), 3);
    for at in places {
        webp[at + 20..at + 23].fill(0xFF);
    }
    for ops in ["f=webp", "f=gif"] {
        let made = bounded(ops, MEGABYTES, || render(&webp, ops)).body;
        assert_eq!(engine().probe(&made).unwrap().frames, 3, "{ops}");
    }
}

#[test]
fn frames_outside_of_the_canvas() {
    // The first frame begins at (60,000, 60,000) of an 8 × 8 canvas, or is as large.
    let source = frames::gif(3, None);
    let at = source.iter().position(|byte| *byte == 0x2C).unwrap();
    for (what, range) in [("place", at + 1..at + 5), ("size", at + 5..at + 9)] {
        let mut moved = source.clone();
        moved[range].fill(0xEA);
        for ops in ["f=webp", "f=jpeg"] {
            if let Err(error) = bounded(what, MEGABYTES, || try_render(&moved, ops)) {
                assert!(error.is_source_fault(), "{what} {ops}: {error:?}");
            }
        }
    }
    // Of a canvas that is far larger than what is on it, the library takes the frame for the picture, or it is too large.
    let mut wide = source;
    wide[6..10].fill(0xFF);
    match bounded("canvas", MEGABYTES, || try_render(&wide, "w=9,f=png")) {
        Ok(made) => assert_eq!((made.width, made.height), (8, 8)),
        Err(error) => assert!(matches!(error, ImagingError::TooManyPixels { width: 65_535, .. }), "{error:?}"),
    }
    assert_eq!(pixels(&frames::gif(1, None), "v=1").width(), 8);
}
