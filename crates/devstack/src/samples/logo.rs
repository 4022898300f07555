//! Paints the logo: a camera's shutter on a transparent ground, with soft edges and a faint shadow.

use image::{Rgba, RgbaImage};

/// How many times finer than the result the edges are computed, on each axis.
const SUBSAMPLES: u32 = 3;

/// The logo, `side` pixels square.
pub(super) fn paint(side: u32) -> RgbaImage {
    RgbaImage::from_fn(side, side, |x, y| {
        let mut sum = [0.0_f32; 4];
        for sub in 0..SUBSAMPLES * SUBSAMPLES {
            let at = |pixel: u32, sub: u32| {
                let fine = pixel as f32 + (sub as f32 + 0.5) / SUBSAMPLES as f32;
                fine / side.max(1) as f32 * 2.0 - 1.0
            };
            let [r, g, b, a] = at_place(at(x, sub % SUBSAMPLES), at(y, sub / SUBSAMPLES));
            // Averaged with alpha multiplied in, so that the ground's colour does not bleed into the edges.
            for (part, value) in sum.iter_mut().zip([r * a, g * a, b * a, a]) {
                *part += value;
            }
        }
        let alpha = sum[3].max(f32::EPSILON);
        let byte = |value: f32| (value * 255.0 + 0.5).clamp(0.0, 255.0) as u8;
        let count = (SUBSAMPLES * SUBSAMPLES) as f32;
        Rgba([byte(sum[0] / alpha), byte(sum[1] / alpha), byte(sum[2] / alpha), byte(sum[3] / count)])
    })
}

/// Colour and alpha in 0..1, at a place in -1..1.
fn at_place(x: f32, y: f32) -> [f32; 4] {
    const BLADES: f32 = 6.0;
    let radius = (x * x + y * y).sqrt();
    let shadow = (1.0 - ((x * x + (y - 0.05) * (y - 0.05)).sqrt() - 0.84) / 0.13).clamp(0.0, 1.0) * 0.30;
    if radius > 0.86 {
        return [0.05, 0.06, 0.12, shadow];
    }
    if radius > 0.77 {
        let shine = 0.5 + 0.5 * (x * 0.6 - y * 0.8) / radius;
        return [0.12 + 0.16 * shine, 0.13 + 0.18 * shine, 0.20 + 0.22 * shine, 1.0];
    }
    // The opening is a hexagon, and each blade ends on a line along one of its sides.
    let sector = std::f32::consts::TAU / BLADES;
    let angle = y.atan2(x) + 0.35;
    let local = angle.rem_euclid(sector) - sector / 2.0;
    let edge = radius * local.cos();
    if edge < 0.30 {
        return [0.0, 0.0, 0.0, 0.0];
    }
    // Blades overlap like the petals of a fan: which one is seen turns with the distance.
    let swirl = angle - (0.30 / radius).clamp(-1.0, 1.0).acos();
    let blade = (swirl / sector).floor().rem_euclid(BLADES);
    let along = (swirl / sector).rem_euclid(1.0);
    let shade = 0.72 + 0.28 * along;
    let hue = blade / BLADES;
    let base = [0.98 - 0.35 * hue, 0.56 - 0.38 * hue, 0.20 + 0.48 * hue];
    let line = if along < 0.018 { 0.55 } else { 1.0 };
    [base[0] * shade * line, base[1] * shade * line, base[2] * shade * line, 1.0]
}
