//! Weighs rows of light along themselves, and makes bytes of them.

use multiversion::multiversion;

use super::light::{self, Bytes, Channels};
use super::taps::Taps;
use super::vertical::Layout;

/// Rows that are worked on at once, a lane of a register each: enough of them that no sum waits for the one before.
pub(super) const GROUP: usize = 16;

/// From rows of the source's width to rows of the result's.
pub(super) struct Horizontal {
    taps: Taps,
    channels: Channels,
    /// A group of rows, turned: place by place, the numbers of all rows.
    turned: Vec<[f32; GROUP]>,
}

impl Horizontal {
    pub(super) fn new(taps: Taps, from: u32, channels: Channels) -> Self {
        let numbers = from as usize * channels.count();
        Self { taps, channels, turned: vec![[0.0; GROUP]; numbers] }
    }

    /// Appends what becomes of `rows`, at most [`GROUP`].
    pub(super) fn run(&mut self, rows: &[Vec<f32>], layout: Layout, out: &mut Vec<u8>) {
        match layout {
            Layout::Pixels => turn(rows, &mut self.turned),
            Layout::Planes => turn_planes(rows, &mut self.turned),
        }
        let from = out.len();
        out.resize(from + rows.len() * self.taps.len() * self.channels.count(), 0);
        let out = &mut out[from..];
        match self.channels {
            Channels::Grey => weigh::<1>(&self.taps, &self.turned, out),
            Channels::GreyAlpha => weigh::<2>(&self.taps, &self.turned, out),
            Channels::Rgb => weigh::<3>(&self.taps, &self.turned, out),
            Channels::Rgba => weigh::<4>(&self.taps, &self.turned, out),
        }
    }
}

/// Turns rows into places. In tiles, so that what is written stays near.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
fn turn(rows: &[Vec<f32>], turned: &mut [[f32; GROUP]]) {
    for (at, tile) in (0..).step_by(GROUP).zip(turned.chunks_mut(GROUP)) {
        for (lane, row) in rows.iter().enumerate() {
            for (place, number) in tile.iter_mut().zip(&row[at..]) {
                place[lane] = *number;
            }
        }
    }
}

/// The same of red, green and blue that lie by themselves.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
fn turn_planes(rows: &[Vec<f32>], turned: &mut [[f32; GROUP]]) {
    let pixels = turned.as_chunks_mut::<3>().0;
    for (at, tile) in (0..).step_by(GROUP).zip(pixels.chunks_mut(GROUP)) {
        for (lane, row) in rows.iter().enumerate() {
            for (channel, plane) in row.chunks_exact(row.len() / 3).enumerate() {
                for (pixel, number) in tile.iter_mut().zip(&plane[at..]) {
                    pixel[channel][lane] = *number;
                }
            }
        }
    }
}

/// Writes as many rows as `out` has room for.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
fn weigh<const CHANNELS: usize>(taps: &Taps, turned: &[[f32; GROUP]], out: &mut [u8]) {
    let bytes = Bytes::get();
    let row = taps.len() * CHANNELS;
    let pixels = turned.as_chunks::<CHANNELS>().0;
    for (at, tap) in taps.iter().enumerate() {
        let window = &pixels[tap.start..tap.end()];
        let mut sums = [[0.0; GROUP]; CHANNELS];
        // One channel after the other: all at once, they would be taken for the lanes.
        for (channel, sum) in sums.iter_mut().enumerate() {
            *sum = weighed(window, tap.weights, channel);
        }
        for (lane, row) in out.chunks_exact_mut(row).enumerate() {
            let Some(pixel) = row[at * CHANNELS..].first_chunk_mut::<CHANNELS>() else { continue };
            let mut light = [0.0; CHANNELS];
            for (light, sums) in light.iter_mut().zip(&sums) {
                *light = sums[lane];
            }
            *pixel = light::write(light, bytes);
        }
    }
}

/// The sums of a channel of `window`. Even and odd places are summed apart, so that neither waits for the other.
#[inline(always)]
fn weighed<const CHANNELS: usize>(
    window: &[[[f32; GROUP]; CHANNELS]],
    weights: &[f32],
    channel: usize,
) -> [f32; GROUP] {
    let (mut even, mut odd) = ([0.0; GROUP], [0.0; GROUP]);
    let add = |sums: &mut [f32; GROUP], pixel: &[[f32; GROUP]; CHANNELS], weight: f32| {
        for (sum, light) in sums.iter_mut().zip(&pixel[channel]) {
            *sum += light * weight;
        }
    };
    let (pairs, last) = window.as_chunks::<2>();
    let (pair_weights, last_weight) = weights.as_chunks::<2>();
    for (pair, weights) in pairs.iter().zip(pair_weights) {
        add(&mut even, &pair[0], weights[0]);
        add(&mut odd, &pair[1], weights[1]);
    }
    for (pixel, weight) in last.iter().zip(last_weight) {
        add(&mut even, pixel, *weight);
    }
    for (sum, odd) in even.iter_mut().zip(odd) {
        *sum += odd;
    }
    even
}
