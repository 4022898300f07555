//! Weighs the rows of a source into the rows of a result, while they come in.

use std::collections::VecDeque;

use multiversion::multiversion;

use super::Planes;
use super::light::{self, Channels};
use super::taps::Taps;

/// Most rows that are taken at once: as many as a JPEG decoder makes at a time.
pub(crate) const STRIP_ROWS: usize = 16;

/// Numbers that are worked on at once; with those of a strip they stay in the nearest cache. A multiple of every count of
/// channels but three, which needs none, and of [`BLOCK`].
const CHUNK: usize = 256;

/// The chunks of a strip.
const PLANE: usize = STRIP_ROWS * CHUNK;

/// Numbers that are summed up at once, in registers.
const BLOCK: usize = 64;

/// How the numbers of a row lie in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Layout {
    /// Pixel by pixel.
    Pixels,
    /// Red, green and blue, each by itself, one third of the row.
    Planes,
}

/// Rows under way.
pub(super) struct Vertical {
    taps: Taps,
    channels: Channels,
    layout: Layout,
    /// Numbers of a row, or of each of its planes, and the same in whole blocks.
    row: usize,
    padded: usize,
    /// Rows that came in.
    seen: usize,
    /// The row of the result that `under_way` begins with.
    first: usize,
    under_way: VecDeque<Vec<f32>>,
    /// Rows that may be written over.
    spare: Vec<Vec<f32>>,
    /// The light of a chunk of each row of a strip, plane by plane.
    light: Vec<f32>,
}

impl Vertical {
    /// For rows of so many pixels of `channels`.
    pub(super) fn new(taps: Taps, width: u32, channels: Channels) -> Self {
        Self::with_layout(taps, channels, width as usize * channels.count(), Layout::Pixels)
    }

    /// For planes whose rows have so many places.
    pub(super) fn of_planes(taps: Taps, width: u32) -> Self {
        Self::with_layout(taps, Channels::Rgb, width as usize, Layout::Planes)
    }

    fn with_layout(taps: Taps, channels: Channels, row: usize, layout: Layout) -> Self {
        Self {
            taps,
            channels,
            layout,
            row,
            padded: row.next_multiple_of(BLOCK),
            seen: 0,
            first: 0,
            under_way: VecDeque::new(),
            spare: Vec::new(),
            light: vec![0.0; layout.planes() * PLANE],
        }
    }

    /// How rows lie in memory.
    pub(super) fn layout(&self) -> Layout {
        self.layout
    }

    /// Takes the next rows.
    pub(super) fn push(&mut self, rows: &[&[u8]]) {
        let until = self.begin(rows.len());
        for at in (0..self.row).step_by(CHUNK) {
            let chunk = at..(at + CHUNK).min(self.row);
            for (row, into) in rows.iter().zip(self.light.chunks_exact_mut(CHUNK)) {
                read(&row[chunk.clone()], self.channels, into);
            }
            self.add(at, until);
        }
        self.seen = until;
    }

    /// Takes the next rows as planes, halved.
    pub(super) fn push_planes(&mut self, planes: &Planes<'_>) {
        let until = self.begin(planes.rows);
        for at in (0..self.row).step_by(CHUNK) {
            let chunk = at..(at + CHUNK).min(self.row);
            for row in 0..planes.rows {
                let (luma, blue, red) = planes.row(row, chunk.clone());
                let (reds, rest) = self.light.split_at_mut(PLANE);
                let (greens, blues) = rest.split_at_mut(PLANE);
                let into = [reds, greens, blues].map(|plane| &mut plane[row * CHUNK..][..chunk.len()]);
                read_halved(luma, blue, red, into);
            }
            self.add(at, until);
        }
        self.seen = until;
    }

    /// Makes room for the rows that begin with the next `count`; returns how many will have come in.
    fn begin(&mut self, count: usize) -> usize {
        let until = self.seen + count;
        while self.taps.get(self.first + self.under_way.len()).is_some_and(|tap| tap.start < until) {
            let mut row = self.spare.pop().unwrap_or_default();
            row.clear();
            row.resize(self.layout.planes() * self.padded, 0.0);
            self.under_way.push_back(row);
        }
        until
    }

    /// Adds the light of the chunk that begins with `at`, of all rows from `seen` to `until`.
    fn add(&mut self, at: usize, until: usize) {
        let chunk = at..(at + CHUNK).min(self.padded);
        for (index, under_way) in self.under_way.iter_mut().enumerate() {
            let Some(tap) = self.taps.get(self.first + index) else { continue };
            let (start, end) = (tap.start.max(self.seen), tap.end().min(until));
            if start >= end {
                continue;
            }
            let weights = &tap.weights[start - tap.start..end - tap.start];
            for (sums, light) in under_way.chunks_exact_mut(self.padded).zip(self.light.chunks_exact(PLANE)) {
                add(&mut sums[chunk.clone()], &light[(start - self.seen) * CHUNK..], weights);
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

impl Layout {
    fn planes(self) -> usize {
        match self {
            Self::Pixels => 1,
            Self::Planes => 3,
        }
    }
}

/// The light of planes, halved.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
fn read_halved(luma: [&[u8]; 2], blue: &[u8], red: &[u8], into: [&mut [f32]; 3]) {
    light::read_halved(luma, blue, red, into);
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
