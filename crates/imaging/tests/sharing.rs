//! Renders of one source that decode it together: the same bytes as alone, from one decode.

mod support;

use std::sync::Arc;

use bytes::Bytes;
use image::DynamicImage;
use imaging::{Class, EncoderDefaults, Inputs, Limits, Share, SharedDecodes};
use support::{engine, transform};
use testkit::images::{self, jpeg, png};

const KEY: u64 = 7;
const MIB: u64 = 1 << 20;

/// Takes part for a render with these ops.
fn join(decodes: &Arc<SharedDecodes>, source: &Bytes, ops: &str) -> Option<Share> {
    let weighed = engine().weigh(
        source.into(),
        &transform(ops),
        Some(Class::Avif),
        &EncoderDefaults::default(),
        &Limits::default(),
    );
    decodes.join(KEY, source, weighed.expect("can be weighed").level?)
}

fn render(source: &Bytes, ops: &str, share: Option<&Share>) -> Bytes {
    let inputs = Inputs { source, overlay: None, share };
    let defaults = EncoderDefaults::default();
    let rendered = engine().render(inputs, &transform(ops), Some(Class::Avif), &defaults, &Limits::default());
    rendered.unwrap_or_else(|error| panic!("{ops}: {error:?}")).body
}

/// Renders all `ops` in company, and checks that so many bytes were decoded in common and that nobody gets other bytes than
/// alone.
#[track_caller]
fn check(source: &[u8], ops: &[&str], common_bytes: u64) {
    let (source, decodes) = (Bytes::copy_from_slice(source), SharedDecodes::new(64 * MIB));
    let shares: Vec<Option<Share>> = ops.iter().map(|ops| join(&decodes, &source, ops)).collect();
    for (ops, share) in ops.iter().zip(&shares) {
        assert_eq!(render(&source, ops, share.as_ref()), render(&source, ops, None), "{ops}");
    }
    assert_eq!(decodes.used_bytes(), common_bytes);
    assert_eq!(shares.iter().flatten().any(Share::has_reused), common_bytes > 0);
    drop(shares);
    assert_eq!(decodes.used_bytes(), 0);
}

#[test]
fn a_jpeg_is_decoded_once_for_each_scale_and_gives_the_bytes_it_gives_alone() {
    let source = jpeg::rgb(&images::photo(1200, 800), &jpeg::Extras::default());
    // Of a whole picture, and of one shrunk by two.
    let ops = ["w=700,f=webp", "w=600,f=jpeg", "w=500,f=avif", "w=140,f=webp", "w=100,f=jpeg", "w=60,f=png"];
    check(&source, &ops, 1200 * 800 * 3 + 600 * 400 * 3);
}

#[test]
fn what_is_halved_on_its_way_is_nobody_elses() {
    // Written by the engine itself: with colours of half the resolution, as by a camera.
    let photo = Bytes::from(png::rgb(&images::photo(1200, 800), &png::Extras::default()));
    let source = render(&photo, "f=jpeg,q=85", None);
    check(&source, &["w=290,f=webp", "w=200,f=jpeg", "w=100,f=jpeg"], 0);
    // Larger ones are made of the whole picture, and so is a part of it.
    check(&source, &["w=700,f=webp", "w=310,f=jpeg", "rect=0;0;800;800,w=100,f=png"], 1200 * 800 * 3);
}

#[test]
fn everything_that_is_done_to_a_picture_is_done_to_a_shared_one() {
    let source = jpeg::oriented(&images::photo(900, 600), 6);
    let ops = [
        "w=400,f=png",
        "w=400,h=300,fit=cover,g=auto,f=webp",
        "w=400,f=png,metadata=keep",
        "w=400,f=jpeg,metadata=copyright",
        "rect=100;100;300;400,w=280,f=webp,blur=3,rotate=30",
        "w=390,f=jpeg,trim=10,sharpen=1,border=4;red",
        "w=380,f=json",
        "w=370,f=jpeg,max-bytes=20000",
    ];
    check(&source, &ops, 900 * 600 * 3);
}

#[test]
fn other_formats_and_depths_are_shared_too() {
    let picture = images::photo(600, 400);
    let alpha = DynamicImage::from(picture.clone()).into_rgba8();
    let ops = ["w=500,f=webp", "w=400,f=jpeg", "w=100,f=png"];
    check(&png::rgba(&alpha), &ops, 600 * 400 * 4);
    check(&png::rgb16(&picture, &png::Extras::default()), &ops, 600 * 400 * 6);
    check(&png::interlaced(&picture), &ops, 600 * 400 * 3);
    check(&images::bmp(&DynamicImage::from(picture)), &ops, 600 * 400 * 3);
    // A WebP's decoder scales to what each needs; only what needs the same is shared.
    check(&images::webp(&alpha), &["w=100,f=webp", "w=100,f=jpeg", "w=50,f=webp"], 402 * 268 * 4);
}

#[test]
fn pages_drawings_and_animations_are_nobody_elses() {
    let pages: Vec<_> = (0..2).map(|_| images::photo(200, 100)).collect();
    check(&images::tiff(&pages), &["page=0,w=90,f=png", "page=1,w=90,f=png"], 0);
    check(&images::animated_gif(60, 40, 3), &["w=50,f=webp", "w=40,f=webp"], 0);
    check(&images::svg::with(40, 30, "<circle r=\"9\"/>"), &["w=50,f=webp", "w=40,f=webp"], 0);
}

#[test]
fn whoever_is_alone_decodes_row_by_row() {
    let source = Bytes::from(jpeg::rgb(&images::photo(600, 400), &jpeg::Extras::default()));
    let decodes = SharedDecodes::new(64 * MIB);
    let share = join(&decodes, &source, "w=500,f=jpeg").expect("can be shared");
    render(&source, "w=500,f=jpeg", Some(&share));
    assert_eq!(decodes.used_bytes(), 0);
    // The other one has begun already and needs nothing any more.
    let second = join(&decodes, &source, "w=400,f=jpeg").expect("can be shared");
    render(&source, "w=400,f=jpeg", Some(&second));
    assert_eq!(decodes.used_bytes(), 0);
}

#[test]
fn a_picture_beyond_the_budget_is_decoded_by_each() {
    let source = Bytes::from(jpeg::rgb(&images::photo(600, 400), &jpeg::Extras::default()));
    let decodes = SharedDecodes::new(600 * 400 * 3 - 1);
    let shares = ["w=500,f=jpeg", "w=400,f=jpeg"].map(|ops| (ops, join(&decodes, &source, ops)));
    for (ops, share) in &shares {
        assert_eq!(render(&source, ops, share.as_ref()), render(&source, ops, None));
        assert_eq!(decodes.used_bytes(), 0);
    }
    assert!(join(&SharedDecodes::new(0), &source, "w=500,f=jpeg").is_none(), "turned off");
}

#[test]
fn another_content_under_the_same_name_is_kept_apart() {
    let [old, new] =
        [600, 610].map(|width| Bytes::from(jpeg::rgb(&images::photo(width, 400), &jpeg::Extras::default())));
    let decodes = SharedDecodes::new(64 * MIB);
    let share = join(&decodes, &old, "w=500,f=jpeg");
    assert!(share.is_some());
    assert!(join(&decodes, &new, "w=500,f=jpeg").is_none());
    drop(share);
    assert!(join(&decodes, &new, "w=500,f=jpeg").is_some());
}

#[test]
fn a_broken_picture_fails_as_it_does_alone() {
    let mut bytes = jpeg::rgb(&images::photo(600, 400), &jpeg::Extras::default());
    bytes.truncate(bytes.len() / 2);
    let (source, decodes) = (Bytes::from(bytes), SharedDecodes::new(64 * MIB));
    let shares = ["w=500,f=jpeg", "w=400,f=jpeg"].map(|ops| (ops, join(&decodes, &source, ops)));
    for (ops, share) in &shares {
        let render = |share| {
            let inputs = Inputs { source: &source, overlay: None, share };
            let defaults = EncoderDefaults::default();
            engine().render(inputs, &transform(ops), None, &defaults, &Limits::default()).expect_err("is broken")
        };
        let (with, without) = (render(share.as_ref()), render(None));
        assert_eq!(std::mem::discriminant(&with), std::mem::discriminant(&without), "{with:?} {without:?}");
    }
    assert_eq!(decodes.used_bytes(), 0);
}

#[test]
fn threads_that_share_get_what_they_get_alone() {
    const WIDTHS: std::ops::Range<u32> = 300..312;
    let source = Bytes::from(jpeg::rgb(&images::photo(900, 600), &jpeg::Extras::default()));
    let decodes = SharedDecodes::new(64 * MIB);
    let alone: Vec<Bytes> = WIDTHS.map(|width| render(&source, &format!("w={width},f=webp"), None)).collect();
    let shares: Vec<_> = WIDTHS.map(|width| join(&decodes, &source, &format!("w={width},f=webp"))).collect();
    let together: Vec<Bytes> = std::thread::scope(|scope| {
        let threads: Vec<_> = WIDTHS
            .zip(shares)
            .map(|(width, share)| {
                let source = &source;
                scope.spawn(move || render(source, &format!("w={width},f=webp"), share.as_ref()))
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
    });
    assert!(alone == together);
    assert_eq!(decodes.used_bytes(), 0);
}
