//! Owns the noise that clouds, water and grain are made of: a hash of coordinates, so the same everywhere.

/// A number in 0..1 for a point of the grid.
pub(super) fn hash(x: i32, y: i32, seed: u32) -> f32 {
    let mut n =
        (x as u32).wrapping_mul(0x9E37_79B1) ^ (y as u32).wrapping_mul(0x85EB_CA77) ^ seed.wrapping_mul(0xC2B2_AE3D);
    n = (n ^ (n >> 15)).wrapping_mul(0x2C1B_3C6D);
    n = (n ^ (n >> 12)).wrapping_mul(0x297A_2D39);
    // The upper 24 bits fit a float exactly.
    ((n ^ (n >> 15)) >> 8) as f32 / 16_777_216.0
}

/// Smooth noise in 0..1 with features about 1 wide.
pub(super) fn smooth(x: f32, y: f32, seed: u32) -> f32 {
    let (left, top) = (x.floor(), y.floor());
    let ease = |t: f32| t * t * (3.0 - 2.0 * t);
    let (across, down) = (ease(x - left), ease(y - top));
    let (left, top) = (left as i32, top as i32);
    let row = |y: i32| {
        let (a, b) = (hash(left, y, seed), hash(left + 1, y, seed));
        a + (b - a) * across
    };
    let (above, below) = (row(top), row(top + 1));
    above + (below - above) * down
}

/// Noise in about 0..1 with `octaves` layers of ever finer features.
pub(super) fn layered(x: f32, y: f32, octaves: u32, seed: u32) -> f32 {
    let (mut sum, mut weight, mut total) = (0.0, 0.5, 0.0);
    let (mut x, mut y) = (x, y);
    for octave in 0..octaves {
        sum += weight * smooth(x, y, seed + octave);
        total += weight;
        weight *= 0.5;
        // Turned a little each time, so that the grid does not show.
        (x, y) = (1.6 * x + 1.2 * y, 1.6 * y - 1.2 * x);
    }
    sum / total
}
