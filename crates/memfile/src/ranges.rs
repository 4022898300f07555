//! Which parts of the file are taken.
//!
//! Must not know what a range is for.

use crate::{BODY_BYTES_MAX, BODY_BYTES_MIN};

/// Length of the shortest ranges, as a power of two.
const SHORTEST: u32 = BODY_BYTES_MIN.ilog2();

/// How many lengths of ranges there are, each twice the one before.
const CLASSES: usize = (BODY_BYTES_MAX.ilog2() - SHORTEST + 1) as usize;

/// A part of the file: from a byte on, as long as its class says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Range {
    pub(crate) start: u64,
    class: u8,
}

impl Range {
    pub(crate) fn length(self) -> u64 {
        1 << (SHORTEST + u32::from(self.class))
    }
}

/// The ranges of a file that are free, and what was never taken.
#[derive(Debug)]
pub(crate) struct Ranges {
    free: [Vec<u64>; CLASSES],
    /// Everything from here to the end was never taken.
    untouched: u64,
    end: u64,
}

impl Ranges {
    /// All of a file of so many bytes.
    pub(crate) fn new(end: u64) -> Self {
        Self { free: Default::default(), untouched: 0, end }
    }

    /// A range that holds so many bytes, at most [`BODY_BYTES_MAX`]; the one that was given back last, if there is one.
    /// `None` when the file is used up.
    pub(crate) fn take(&mut self, bytes: u64) -> Option<Range> {
        let power = bytes.next_power_of_two().ilog2().max(SHORTEST);
        let class = (power - SHORTEST) as usize;
        let start = match self.free.get_mut(class)?.pop() {
            Some(start) => start,
            None => {
                let start = self.untouched;
                let end = start.checked_add(1 << power).filter(|end| *end <= self.end)?;
                self.untouched = end;
                start
            }
        };
        Some(Range { start, class: class as u8 })
    }

    pub(crate) fn give_back(&mut self, range: Range) {
        self.free[usize::from(range.class)].push(range.start);
    }
}
