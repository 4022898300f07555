//! Owns the painted scenes. A scene is a function from a place to a colour, so it can be painted at any size.

use image::{Rgb, RgbImage};

use super::noise::{hash, layered, smooth};

/// Red, green and blue in 0..1, as sRGB numbers.
type Colour = [f32; 3];

/// From a place (x from 0 to the width over the height, y from 0 at the top to 1) to its colour.
pub type Scene = fn(f32, f32) -> [f32; 3];

/// A beach in the afternoon: sky and clouds, a sailing boat, sea, sand and a parasol.
pub const BEACH: Scene = beach;
/// Mountain ranges behind one another in the morning, a lake and firs.
pub const MOUNTAINS: Scene = mountains;
/// Hot air balloons in the evening; best upright.
pub const BALLOONS: Scene = balloons;

/// How strong the grain is: a camera's at a low ISO.
const GRAIN: f32 = 0.012;

/// Paints `scene` with grain.
pub fn paint(scene: Scene, width: u32, height: u32) -> RgbImage {
    let scale = 1.0 / height.max(1) as f32;
    RgbImage::from_fn(width, height, |x, y| {
        let colour = scene((x as f32 + 0.5) * scale, (y as f32 + 0.5) * scale);
        let grain = (hash(x as i32, y as i32, 99) - 0.5) * 2.0 * GRAIN;
        // Clamped to 0..=255, so the cast only drops the fraction.
        Rgb(colour.map(|part| ((part + grain) * 255.0 + 0.5).clamp(0.0, 255.0) as u8))
    })
}

fn mix(a: Colour, b: Colour, t: f32) -> Colour {
    let t = t.clamp(0.0, 1.0);
    [0, 1, 2].map(|i| a[i] + (b[i] - a[i]) * t)
}

/// 0 below `from`, 1 above `to`, soft between.
fn step(from: f32, to: f32, at: f32) -> f32 {
    let t = ((at - from) / (to - from)).clamp(0.0, 1.0);
    t * t * (3.0 - 2.0 * t)
}

/// 1 inside a disc, 0 outside, soft over `soft`.
fn disc(x: f32, y: f32, radius: f32, soft: f32) -> f32 {
    1.0 - step(radius - soft, radius + soft, (x * x + y * y).sqrt())
}

fn beach(x: f32, y: f32) -> Colour {
    const HORIZON: f32 = 0.46;
    let shore = 0.70 + 0.035 * (x * 2.3 + 0.4).sin() + 0.012 * (smooth(x * 14.0, 3.0, 5) - 0.5);
    let ground = if y < HORIZON {
        beach_sky(x, y / HORIZON)
    } else if y < shore {
        let depth = (y - HORIZON) / (shore - HORIZON);
        let far = mix([0.05, 0.33, 0.55], [0.16, 0.66, 0.70], depth);
        let stretch = 6.0 + 60.0 * (1.0 - depth);
        let waves = layered(x * 9.0 + depth, y * stretch * 3.0, 4, 21);
        let glitter = step(0.70, 0.86, layered(x * 60.0, y * 420.0, 2, 33)) * (1.0 - (x - 1.05).abs() * 1.4).max(0.0);
        let water = mix(mix(far, [0.02, 0.22, 0.42], (0.55 - waves) * 1.4), [1.0, 0.97, 0.86], glitter * 0.8);
        let foam = step(0.035, 0.0, shore - y) * step(0.35, 0.62, layered(x * 26.0, y * 70.0, 3, 8));
        mix(water, [0.97, 0.98, 0.96], foam)
    } else {
        let wet = step(0.07, 0.0, y - shore);
        let ripples = layered(x * 7.0, y * 40.0, 4, 13) - 0.5;
        let grains = hash((x * 1600.0) as i32, (y * 1600.0) as i32, 3) - 0.5;
        let dry = [0.90 + 0.10 * ripples, 0.79 + 0.11 * ripples, 0.58 + 0.12 * ripples];
        let sand = mix(dry, [0.62, 0.52, 0.38], wet * 0.75);
        sand.map(|part| part + grains * 0.05)
    };
    parasol(x, y, boat(x, y, ground))
}

fn beach_sky(x: f32, down: f32) -> Colour {
    let clear = mix([0.16, 0.45, 0.82], [0.78, 0.90, 0.97], down.powf(1.3));
    let (sun_x, sun_y) = (x - 1.08, (down - 0.38) * 0.46);
    let glow = (-(sun_x * sun_x + sun_y * sun_y) * 18.0).exp();
    let clear = mix(clear, [1.0, 0.95, 0.80], glow * 0.75);
    let clear = mix(clear, [1.0, 0.99, 0.93], disc(sun_x, sun_y, 0.045, 0.006));
    let cloud = step(0.50, 0.78, layered(x * 2.6, down * 3.6, 6, 42));
    let lit = mix([0.72, 0.77, 0.84], [1.0, 1.0, 0.99], layered(x * 4.0 + 0.3, down * 5.0 - 0.4, 3, 43));
    mix(clear, lit, cloud * (1.0 - down * 0.35))
}

fn boat(x: f32, y: f32, under: Colour) -> Colour {
    let (x, y) = ((x - 0.42) / 0.085, (y - 0.47) / 0.085);
    let hull = (0.0..0.28).contains(&y) && x.abs() < 0.75 - y * 0.9;
    let main = (-1.9..-0.08).contains(&y) && x > 0.03 && x < (y + 1.9) * 0.36;
    let jib = (-1.6..-0.08).contains(&y) && x < -0.03 && x > -(y + 1.6) * 0.33;
    let mast = (-2.0..0.0).contains(&y) && x.abs() < 0.02;
    if hull {
        [0.55, 0.13, 0.12]
    } else if mast {
        [0.35, 0.25, 0.18]
    } else if main {
        mix([0.99, 0.98, 0.95], [0.80, 0.82, 0.88], x * 1.3)
    } else if jib {
        [0.93, 0.42, 0.20]
    } else {
        under
    }
}

fn parasol(x: f32, y: f32, under: Colour) -> Colour {
    let (x, y) = (x - 0.30, y - 0.74);
    let shadow = disc(x * 0.55 - 0.09, (y - 0.17) * 2.4, 0.085, 0.03);
    let under = mix(under, [0.33, 0.29, 0.28], shadow * 0.55);
    let pole = (0.0..0.18).contains(&y) && (x - y * 0.12).abs() < 0.004;
    if pole {
        return [0.93, 0.92, 0.90];
    }
    let inside = x * x / 0.030 + (y + 0.02) * (y + 0.02) / 0.0115 < 1.0 && y < 0.012 * (x * 90.0).cos();
    if !inside {
        return under;
    }
    let stripe = ((x / (0.18 - y * 0.2)) * 5.5).floor() as i32;
    let cloth = if stripe.rem_euclid(2) == 0 { [0.90, 0.18, 0.22] } else { [0.98, 0.96, 0.91] };
    mix(cloth, [0.30, 0.08, 0.12], step(-0.02, 0.22, x + y * 0.6) * 0.5)
}

fn mountains(x: f32, y: f32) -> Colour {
    const LAKE: f32 = 0.74;
    if y <= LAKE {
        return mountain_view(x, y);
    }
    // The lake mirrors what is above it, darker and rippled the nearer it is.
    let depth = (y - LAKE) / (1.0 - LAKE);
    let ripple = (layered(x * 12.0, y * 160.0, 3, 71) - 0.5) * (0.01 + 0.05 * depth);
    let mirrored = mountain_view(x + ripple, (LAKE - (y - LAKE) * 1.5 + ripple * 0.5).max(0.0));
    let water = mix(mirrored, [0.06, 0.16, 0.24], 0.28 + 0.35 * depth);
    let shimmer = step(0.72, 0.90, layered(x * 50.0, y * 600.0, 2, 72)) * (1.0 - depth);
    mix(water, [0.98, 0.87, 0.72], shimmer * 0.5)
}

fn mountain_view(x: f32, y: f32) -> Colour {
    let sky = mix([0.23, 0.42, 0.72], [1.0, 0.82, 0.62], (y / 0.42).powf(1.25));
    let cirrus = step(0.55, 0.85, layered(x * 1.8 + y, y * 9.0, 5, 51));
    let mut colour = mix(sky, [1.0, 0.90, 0.86], cirrus * 0.6);
    for range in 0..4_u16 {
        let near = f32::from(range) / 3.0;
        let rough = layered(x * (1.6 + near * 2.0) + near * 17.0, near, 7, 60 + u32::from(range));
        let ridge = 0.30 + 0.13 * near + (0.62 - rough) * (0.46 - 0.22 * near);
        if y < ridge {
            continue;
        }
        let far = [0.62, 0.60, 0.70];
        let rock = mix(far, [0.19, 0.31, 0.25], near.powf(0.8));
        let face = layered(x * 16.0 + y * 9.0, y * 22.0 - x * 6.0, 5, 80 + u32::from(range)) - 0.5;
        let snow = (1.0 - near) * step(0.13, 0.02, y - ridge) * step(0.42, 0.52, face + 0.5);
        let lit = rock.map(|part| part + face * (0.10 + 0.14 * near));
        let haze = step(0.0, 0.5, y - ridge) * (1.0 - near) * 0.8;
        colour = mix(mix(lit, [0.97, 0.95, 0.95], snow), [0.95, 0.82, 0.74], haze);
    }
    firs(x, y, colour)
}

/// A dark line of trees at the far shore, each a tooth with ragged edges.
fn firs(x: f32, y: f32, under: Colour) -> Colour {
    for row in 0..2_i32 {
        let spacing = 0.016 + 0.008 * row as f32;
        let index = (x / spacing).floor() as i32;
        let tall = 0.03 + 0.05 * hash(index, row, 90) + 0.02 * row as f32;
        let top = 0.74 - tall;
        if y < top {
            continue;
        }
        let along = (x / spacing - index as f32 - 0.5).abs();
        let ragged = 0.12 * ((y * 900.0).sin() * 0.5 + 0.5);
        if along < ((y - top) / tall) * 0.62 + ragged - 0.08 {
            let shade = hash((x * 3000.0) as i32, (y * 3000.0) as i32, 91) * 0.05;
            return [0.06 + shade, 0.15 + shade, 0.12 + shade * 0.6];
        }
    }
    under
}

fn balloons(x: f32, y: f32) -> Colour {
    let mut sky = mix([0.20, 0.24, 0.48], [0.98, 0.62, 0.42], y.powf(1.4));
    let cloud = step(0.48, 0.80, layered(x * 3.0, y * 8.0, 6, 101));
    sky = mix(sky, mix([0.62, 0.38, 0.52], [1.0, 0.84, 0.66], y), cloud * 0.7);
    let hills = 0.86 - 0.06 * layered(x * 3.2, 0.0, 5, 110);
    if y > hills {
        let furrows = (y * 260.0 + 30.0 * smooth(x * 5.0, y * 4.0, 111)).sin() * 0.04;
        let field = mix([0.30, 0.24, 0.16], [0.46, 0.40, 0.16], layered(x * 6.0, y * 20.0, 4, 112));
        return field.map(|part| part + furrows + 0.06 * (hash((x * 1500.0) as i32, (y * 1500.0) as i32, 113) - 0.5));
    }
    // Far ones first.
    let fleet: [(f32, f32, f32, Colour, Colour); 4] = [
        (0.16, 0.62, 0.045, [0.86, 0.72, 0.30], [0.55, 0.20, 0.40]),
        (0.53, 0.55, 0.060, [0.30, 0.60, 0.62], [0.95, 0.90, 0.80]),
        (0.46, 0.17, 0.085, [0.92, 0.48, 0.18], [0.98, 0.86, 0.52]),
        (0.25, 0.36, 0.155, [0.82, 0.14, 0.20], [0.97, 0.92, 0.84]),
    ];
    fleet.into_iter().fold(sky, |under, (at_x, at_y, radius, first, second)| {
        balloon((x - at_x) / radius, (y - at_y) / radius, first, second, under)
    })
}

/// A balloon of radius 1 around the origin.
fn balloon(x: f32, y: f32, first: Colour, second: Colour, under: Colour) -> Colour {
    let basket = x.abs() < 0.15 && (1.72..1.96).contains(&y);
    let rope = (1.2..1.72).contains(&y) && (x.abs() - (0.15 + (1.72 - y) * 0.32)).abs() < 0.012;
    if basket {
        let weave = if ((x * 60.0) as i32 + (y * 60.0) as i32) % 2 == 0 { 0.05 } else { 0.0 };
        return [0.38 + weave, 0.24 + weave, 0.12];
    }
    if rope {
        return [0.16, 0.12, 0.12];
    }
    // A sphere above, drawn together to the mouth below.
    let half = if y < 0.25 { (1.0 - y * y).max(0.0).sqrt() } else { (0.968 - (y - 0.25) * 0.78).max(0.0) };
    if !(-1.0..1.32).contains(&y) || x.abs() > half {
        return under;
    }
    // Gores are even on the sphere, so they crowd towards its edges.
    let around = (x / half.max(0.001)).clamp(-1.0, 1.0).asin();
    let gore = (around * 3.2 + 50.0).floor() as i32;
    let cloth = if gore % 2 == 0 { first } else { second };
    let seam = if (around * 3.2 + 50.0).fract() < 0.05 { 0.8 } else { 1.0 };
    let light = 0.62 + 0.45 * ((x * 0.5 - y * 0.45 + 0.6) * 0.8).clamp(0.0, 1.0) - 0.22 * (around * around) * 0.5;
    let warm = mix(cloth, [1.0, 0.78, 0.40], step(1.4, 0.2, (1.3 - y).abs() + x.abs()) * 0.35);
    warm.map(|part| part * light * seam)
}
