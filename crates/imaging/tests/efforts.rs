//! What more or less effort of an encoder changes: time and bytes, hardly the look, and nothing where it plays no part.

mod support;

use bytes::Bytes;
use devstack::samples::scene;
use imaging::{Class, Effort, EncoderDefaults, Limits, Rendered};
use support::{engine, render, rgb, score, transform};
use testkit::images::{self, jpeg, png};

/// How far the scores of two efforts may lie apart, as the mean of three painted photographs. Of the more and real ones of
/// `loadtests/results/EFFORTS.md` it is half a point.
const SCORE_GAP_MAX: f64 = 2.0;

fn made(source: &[u8], ops: &str, effort: Effort) -> Rendered {
    let (source, defaults) = (Bytes::copy_from_slice(source), EncoderDefaults { effort, ..EncoderDefaults::default() });
    let made = engine().render((&source).into(), &transform(ops), Some(Class::Avif), &defaults, &Limits::default());
    made.unwrap_or_else(|error| panic!("{ops}: {error:?}"))
}

fn cost(source: &[u8], ops: &str, effort: Effort) -> u64 {
    let (source, defaults) = (Bytes::copy_from_slice(source), EncoderDefaults { effort, ..EncoderDefaults::default() });
    let weighed = engine().weigh((&source).into(), &transform(ops), None, &defaults, &Limits::default());
    weighed.unwrap_or_else(|error| panic!("{ops}: {error:?}")).weight.cost_ms
}

fn scene(what: scene::Scene) -> Vec<u8> {
    jpeg::rgb(&scene::paint(what, 600, 400), &jpeg::Extras { quality: 95, ..jpeg::Extras::default() })
}

fn photo() -> Vec<u8> {
    scene(scene::MOUNTAINS)
}

#[test]
fn small_is_smaller_than_fast_and_looks_the_same() {
    let sources = [scene::BEACH, scene::MOUNTAINS, scene::BALLOONS].map(scene);
    for quality in ["medium-low", "high"] {
        let ops = format!("w=400,f=webp,q={quality}");
        let mut gaps = Vec::new();
        for source in &sources {
            let reference = rgb(source, "w=400");
            let [fast, small] = [Effort::Fast, Effort::Small].map(|effort| made(source, &ops, effort));
            assert_eq!([fast.effort, small.effort], [Effort::Fast, Effort::Small]);
            let saved = 1.0 - small.body.len() as f64 / fast.body.len() as f64;
            assert!(saved >= 0.05, "{ops}: {saved:.3}");
            let [of_fast, of_small] = [fast, small].map(|made| score(&reference, &rgb(&made.body, "v=1")));
            gaps.push(of_small - of_fast);
        }
        let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
        assert!(mean.abs() <= SCORE_GAP_MAX, "{ops}: {gaps:.1?}");
    }
}

#[test]
fn without_being_asked_for_it_changes_nothing() {
    let source = photo();
    for format in ["jpeg", "webp"] {
        let ops = format!("w=200,f={format}");
        assert_eq!(made(&source, &ops, Effort::Normal), render(&source, &ops));
    }
}

#[test]
fn what_has_no_choice_is_made_as_ever() {
    let source = photo();
    let formats =
        ["f=jpeg", "f=png", "f=webp,lossless=true", "f=webp,max-bytes=9000", "f=json", "f=blurhash", "f=avif"];
    for ops in formats.map(|ops| format!("w=60,{ops}")) {
        for effort in [Effort::Fast, Effort::Small] {
            assert_eq!(made(&source, &ops, effort), render(&source, &ops), "{ops}");
        }
    }
    let moving = images::frames::gif(3, Some(5));
    assert_eq!(made(&moving, "f=webp", Effort::Fast).effort, Effort::Normal);
}

#[test]
fn transparency_is_kept_and_does_not_take_minutes() {
    let source = png::rgba(&images::hard_edged(64, [9, 200, 30], [0; 3]));
    let [fast, small] = [Effort::Fast, Effort::Small].map(|effort| made(&source, "f=webp", effort));
    let [fast, small] = [fast, small].map(|made| support::rgba(&made.body, "v=1"));
    assert!(fast.pixels().zip(small.pixels()).all(|(a, b)| a.0[3] == b.0[3]), "alpha has no loss");
}

#[test]
fn effort_is_weighed_where_it_plays_a_part() {
    let source = photo();
    let costs = |ops| [Effort::Fast, Effort::Normal, Effort::Small].map(|effort| cost(&source, ops, effort));
    let [fast, normal, small] = costs("f=webp");
    assert!(fast < normal && normal < small, "{fast}, {normal}, {small}");
    for ops in ["f=jpeg", "f=avif"] {
        assert!(costs(ops).windows(2).all(|pair| pair[0] == pair[1]), "{ops}");
    }
}
