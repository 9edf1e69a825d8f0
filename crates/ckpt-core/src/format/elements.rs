//! Counting NaN and infinities in a stream of elements.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use super::dtype::Dtype;

/// A range of a storage and what its bytes are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Part {
    /// The element type.
    pub(super) dtype: Dtype,
    /// First byte.
    pub(super) start: u64,
    /// The byte after the last.
    pub(super) end: u64,
}

impl Part {
    pub(super) fn elements(&self) -> u64 {
        let width = self.dtype.bytes(1).unwrap_or(1).max(1);
        self.end.saturating_sub(self.start).checked_div(width).unwrap_or(0)
    }
}

/// Counts non-finite elements of a part while the whole storage passes in pieces of any length.
pub(super) struct Counter<'a> {
    part: &'a Part,
    width: usize,
    position: u64,
    /// The beginning of an element whose rest is in the next piece.
    carried: Vec<u8>,
    count: u64,
}

impl<'a> Counter<'a> {
    pub(super) fn new(part: &'a Part) -> Self {
        let width = part.dtype.bytes(1).and_then(|width| usize::try_from(width).ok()).unwrap_or(1).max(1);
        Self { part, width, position: 0, carried: Vec::with_capacity(width), count: 0 }
    }

    pub(super) fn count(&self) -> u64 {
        self.count
    }

    /// The next bytes of the storage.
    pub(super) fn feed(&mut self, bytes: &[u8]) {
        let begin = self.position;
        self.position = begin.saturating_add(bytes.len() as u64);
        let clamp = |edge: u64| usize::try_from(edge.saturating_sub(begin)).unwrap_or(usize::MAX).min(bytes.len());
        let mut rest = bytes.get(clamp(self.part.start)..clamp(self.part.end)).unwrap_or_default();
        if !self.carried.is_empty() {
            let missing = self.width.saturating_sub(self.carried.len()).min(rest.len());
            let (head, tail) = rest.split_at_checked(missing).unwrap_or((rest, &[]));
            self.carried.extend_from_slice(head);
            rest = tail;
            if self.carried.len() < self.width {
                return;
            }
            self.count = self.count.saturating_add(self.part.dtype.count_non_finite(&self.carried));
            self.carried.clear();
        }
        self.count = self.count.saturating_add(self.part.dtype.count_non_finite(rest));
        let left = rest.len().checked_rem(self.width).unwrap_or(0);
        self.carried.extend_from_slice(rest.get(rest.len().saturating_sub(left)..).unwrap_or_default());
    }
}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects, reason = "numbers of a test")]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_count_does_not_depend_on_how_the_bytes_arrive(
            values in proptest::collection::vec(prop_oneof![any::<f32>(), Just(f32::NAN), Just(f32::INFINITY)], 0..40),
            cuts in proptest::collection::vec(1_usize..9, 1..60),
            from in 0_usize..4,
        ) {
            let from = from.min(values.len());
            let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
            let part = Part { dtype: Dtype::of_torch("float"), start: from as u64 * 4, end: bytes.len() as u64 };
            let mut counter = Counter::new(&part);
            let mut rest = bytes.as_slice();
            for cut in cuts.iter().cycle() {
                let (head, tail) = rest.split_at((*cut).min(rest.len()));
                counter.feed(head);
                rest = tail;
                if rest.is_empty() {
                    break;
                }
            }
            let expected = values.iter().skip(from).filter(|value| !value.is_finite()).count() as u64;
            prop_assert_eq!(counter.count(), expected);
            prop_assert_eq!(part.elements(), (values.len() - from) as u64);
        }
    }
}
