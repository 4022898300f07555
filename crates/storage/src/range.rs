//! Byte ranges: what was asked for and what is served.
//!
//! Must not parse HTTP headers: the edge does that and hands over a [`ByteRange`].

/// A range of bytes asked for, as in RFC 9110 §14.1.2.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ByteRange {
    /// Everything from this offset on.
    From(u64),
    /// From the first offset to the second, both included. An end past the object is cut to it.
    Span(u64, u64),
    /// The last so many bytes. More than the object has means all of it.
    Last(u64),
}

/// A range of bytes served: never empty, within the object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServedRange {
    /// Offset of the first byte.
    pub first: u64,
    /// Offset of the last byte, included.
    pub last: u64,
}

impl ServedRange {
    /// How many bytes the range holds. At least 1.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "a served range is never empty")]
    pub fn len(&self) -> u64 {
        self.last - self.first + 1
    }
}

impl ByteRange {
    /// The bytes that this range means in an object of `size` bytes; `None` if there are none.
    #[must_use]
    pub fn within(self, size: u64) -> Option<ServedRange> {
        let end = size.checked_sub(1)?;
        let (first, last) = match self {
            Self::From(first) => (first, end),
            Self::Span(first, last) => (first, last.min(end)),
            Self::Last(0) => return None,
            Self::Last(count) => (size.saturating_sub(count), end),
        };
        (first <= last).then_some(ServedRange { first, last })
    }

    /// Whether no object of any size could satisfy it: asking a server would be a wasted, or misread, request.
    pub(crate) fn is_impossible(self) -> bool {
        self.within(u64::MAX).is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(range: ByteRange, size: u64, expected: Option<(u64, u64)>) {
        let served = range.within(size).map(|range| (range.first, range.last));
        assert_eq!(served, expected, "{range:?} of {size} bytes");
    }

    #[test]
    fn resolves_as_rfc_9110_says() {
        check(ByteRange::From(0), 10, Some((0, 9)));
        check(ByteRange::From(9), 10, Some((9, 9)));
        check(ByteRange::From(10), 10, None);
        check(ByteRange::Span(0, 0), 10, Some((0, 0)));
        check(ByteRange::Span(3, 100), 10, Some((3, 9)));
        check(ByteRange::Span(5, 4), 10, None);
        check(ByteRange::Span(10, 12), 10, None);
        check(ByteRange::Last(1), 10, Some((9, 9)));
        check(ByteRange::Last(11), 10, Some((0, 9)));
        check(ByteRange::Last(0), 10, None);
        for range in [ByteRange::From(0), ByteRange::Span(0, 0), ByteRange::Last(1)] {
            check(range, 0, None);
        }
        check(ByteRange::From(u64::MAX), u64::MAX, None);
    }
}
