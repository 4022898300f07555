//! The arithmetic beside one that is slow and plain.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use proptest::prelude::*;

use super::*;

/// What the pieces make of a picture given in strips of `strip` rows.
fn resampled(pixels: &[u8], from: Size, to: Size, bands: u32, strip: usize) -> Vec<u8> {
    let mut resampler = Resampler::new(Pixels::all(from), to, bands).unwrap();
    let rows: Vec<&[u8]> = pixels.chunks_exact((from.width * bands) as usize).collect();
    for strip in rows.chunks(strip) {
        resampler.push(strip);
    }
    resampler.finish()
}

/// The same in double precision, pixel by pixel.
fn expected(pixels: &[u8], from: Size, to: Size, bands: u32) -> Vec<f64> {
    let (width, bands) = (from.width as usize, bands as usize);
    let curve = |u: f64| u * (u * (u * 0.305_306 + 0.682_171_1) + 0.012_522_9);
    let (across, down) = (
        taps::Taps::new(from.width, from.width.into(), to.width),
        taps::Taps::new(from.height, from.height.into(), to.height),
    );
    let has_alpha = bands % 2 == 0;
    let light = |x: usize, y: usize, band: usize| {
        let pixel = &pixels[(y * width + x) * bands..][..bands];
        let alpha = if has_alpha { f64::from(pixel[bands - 1]) / 255.0 } else { 1.0 };
        if has_alpha && band == bands - 1 { alpha } else { curve(f64::from(pixel[band]) / 255.0) * alpha }
    };
    let mut out = Vec::new();
    for column in down.iter() {
        for row in across.iter() {
            let mut sums = vec![0.0; bands];
            for (y, v) in (column.start..).zip(column.weights) {
                for (x, h) in (row.start..).zip(row.weights) {
                    for (band, sum) in sums.iter_mut().enumerate() {
                        *sum += light(x, y, band) * f64::from(*v) * f64::from(*h);
                    }
                }
            }
            let alpha = if has_alpha { sums[bands - 1].clamp(0.0, 1.0) } else { 1.0 };
            out.extend(sums.iter().enumerate().map(|(band, sum)| {
                if has_alpha && band == bands - 1 {
                    return alpha * 255.0;
                }
                let wanted = if alpha > 0.0 { (sum / alpha).clamp(0.0, 1.0) } else { 0.0 };
                // The curve rises, so its inverse is found by halving.
                let (mut low, mut high) = (0.0, 1.0);
                for _ in 0..40 {
                    let middle = f64::midpoint(low, high);
                    if curve(middle) < wanted { low = middle } else { high = middle }
                }
                low * 255.0
            }));
        }
    }
    out
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn every_picture_is_what_plain_arithmetic_says(
        (from, to, bands, strip, seed) in (1u32..90, 1u32..60, 1u32..=4, 1usize..=STRIP_ROWS, any::<u64>())
            .prop_flat_map(|(width, height, bands, strip, seed)| {
                (Just(Size::new(width, height)), (1..=width, 1..=height), Just(bands), Just(strip), Just(seed))
            })
            .prop_map(|(from, (width, height), bands, strip, seed)| (from, Size::new(width, height), bands, strip, seed))
    ) {
        let mut state = seed | 1;
        let pixels: Vec<u8> = (0..from.pixels() * u64::from(bands))
            .map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (state >> 56) as u8
            })
            .collect();
        let found = resampled(&pixels, from, to, bands, strip);
        let wanted = expected(&pixels, from, to, bands);
        prop_assert_eq!(found.len(), wanted.len());
        let pixels = found.chunks_exact(bands as usize).zip(wanted.chunks_exact(bands as usize));
        for (found, wanted) in pixels {
            let alpha = if bands % 2 == 0 { wanted[bands as usize - 1] } else { 255.0 };
            for (found, wanted) in found.iter().zip(wanted) {
                // Half a byte is rounding; near black the table tells thirds. What can hardly be seen has few bits of colour.
                prop_assert!(alpha < 2.0 || (f64::from(*found) - wanted).abs() <= 0.7 + 2.0 / alpha, "{} {}", found, wanted);
            }
        }
    }
}

#[test]
fn one_colour_stays_itself() {
    for bands in 1..=4u32 {
        for byte in [0, 1, 2, 7, 60, 128, 254, 255] {
            let (from, to) = (Size::new(83, 61), Size::new(17, 9));
            let pixels = vec![byte; (from.pixels() * u64::from(bands)) as usize];
            let found = resampled(&pixels, from, to, bands, STRIP_ROWS);
            assert!(found.iter().all(|found| *found == byte), "{bands} bands of {byte}");
        }
    }
}

#[test]
fn a_fine_grid_keeps_its_light() {
    let pixels: Vec<u8> = (0..64 * 64).map(|at| if at % 2 == 0 { 255 } else { 0 }).collect();
    let found = resampled(&pixels, Size::new(64, 64), Size::new(4, 4), 1, STRIP_ROWS);
    // Half the light; half the byte would be 128.
    assert!(found.iter().all(|found| (186..=189).contains(found)), "{found:?}");
}

#[test]
fn what_it_is_not_for() {
    let size = Size::new(10, 10);
    assert!(Resampler::new(Pixels::all(size), Size::new(11, 5), 3).is_none());
    assert!(Resampler::new(Pixels::all(size), Size::new(5, 11), 3).is_none());
    assert!(Resampler::new(Pixels::all(size), Size::new(0, 5), 3).is_none());
    assert!(Resampler::new(Pixels::all(size), Size::new(5, 5), 5).is_none());
}
