//! Weighs the rows of a source into the rows of a result, while they come in.

use std::collections::VecDeque;

use multiversion::multiversion;

use super::light::{self, Channels};
use super::taps::Taps;
use crate::geometry::Size;

/// Most rows that are taken at once: as many as a JPEG decoder makes at a time.
pub(crate) const STRIP_ROWS: usize = 16;

/// Numbers that are worked on at once; with those of a strip they stay in the nearest cache. A multiple of every count of
/// channels but three, which needs none, and of [`BLOCK`].
const CHUNK: usize = 256;

/// Numbers that are summed up at once, in registers.
const BLOCK: usize = 64;

/// Rows under way.
pub(super) struct Vertical {
    taps: Taps,
    channels: Channels,
    /// Numbers of a row, and the same rounded up to whole blocks.
    row: usize,
    padded: usize,
    /// Rows that came in.
    seen: usize,
    /// The row of the result that `under_way` begins with.
    first: usize,
    under_way: VecDeque<Vec<f32>>,
    /// Rows that may be written over.
    spare: Vec<Vec<f32>>,
    /// The light of a chunk of each row of a strip.
    light: Vec<f32>,
}

impl Vertical {
    pub(super) fn new(from: Size, to_height: u32, channels: Channels) -> Self {
        let row = from.width as usize * channels.count();
        Self {
            taps: Taps::new(from.height, to_height),
            channels,
            row,
            padded: row.next_multiple_of(BLOCK),
            seen: 0,
            first: 0,
            under_way: VecDeque::new(),
            spare: Vec::new(),
            light: vec![0.0; STRIP_ROWS * CHUNK],
        }
    }

    /// Takes the next rows.
    pub(super) fn push(&mut self, rows: &[&[u8]]) {
        let (from, until) = (self.seen, self.seen + rows.len());
        self.seen = until;
        while self.taps.get(self.first + self.under_way.len()).is_some_and(|tap| tap.start < until) {
            let mut row = self.spare.pop().unwrap_or_default();
            row.clear();
            row.resize(self.padded, 0.0);
            self.under_way.push_back(row);
        }
        for at in (0..self.row).step_by(CHUNK) {
            let chunk = at..(at + CHUNK).min(self.row);
            for (row, into) in rows.iter().zip(self.light.chunks_exact_mut(CHUNK)) {
                read(&row[chunk.clone()], self.channels, into);
            }
            let sums = at..(at + CHUNK).min(self.padded);
            for (index, under_way) in self.under_way.iter_mut().enumerate() {
                let Some(tap) = self.taps.get(self.first + index) else { continue };
                let (start, end) = (tap.start.max(from), tap.end().min(until));
                if start < end {
                    let weights = &tap.weights[start - tap.start..end - tap.start];
                    add(&mut under_way[sums.clone()], &self.light[(start - from) * CHUNK..], weights);
                }
            }
        }
    }

    /// The next row of the result, if all that it is made of came in.
    pub(super) fn pop(&mut self) -> Option<Vec<f32>> {
        if self.taps.get(self.first)?.end() > self.seen {
            return None;
        }
        self.first += 1;
        self.under_way.pop_front()
    }

    /// Takes a row back that is no longer needed.
    pub(super) fn take_back(&mut self, row: Vec<f32>) {
        self.spare.push(row);
    }
}

/// The light of `bytes`.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
fn read(bytes: &[u8], channels: Channels, into: &mut [f32]) {
    light::read(bytes, channels, into);
}

/// Adds rows, which are [`CHUNK`] apart in `light`, as much of each as `weights` say.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
fn add(sums: &mut [f32], light: &[f32], weights: &[f32]) {
    for (at, sums) in (0..).step_by(BLOCK).zip(sums.as_chunks_mut::<BLOCK>().0) {
        let mut block = *sums;
        for (row, weight) in light.chunks_exact(CHUNK).zip(weights) {
            let Some(row) = row[at..].first_chunk::<BLOCK>() else { continue };
            for (sum, light) in block.iter_mut().zip(row) {
                *sum += light * weight;
            }
        }
        *sums = block;
    }
}
