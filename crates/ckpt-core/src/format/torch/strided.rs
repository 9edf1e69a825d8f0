//! The elements of a view in the order of their indices, whatever their strides, in bounded memory.
//!
//! A slab of the result is filled at a time, by reading what it needs of the storage in the storage's own order: a transposed
//! matrix is read in runs of many elements, not element by element across the whole storage.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::io;

use super::tensor::TensorRef;
use crate::read::ReadAt;

/// Largest part of the result that is held.
pub const SLAB_BYTES: usize = 8 << 20;
/// Least that is read at once.
const READ_BYTES: usize = 16 << 10;

/// One side of the part that is being filled.
#[derive(Clone, Copy, Debug)]
struct Side {
    length: u64,
    /// Distance of neighbours in the storage and in the slab, in elements.
    from: u64,
    to: u64,
}

/// Hands the elements of `view` to `each`, in pieces; false when the storage ended early.
///
/// `storage` is the whole storage of the view, whose elements must take whole bytes.
///
/// # Errors
/// The storage cannot be read.
pub fn copy(view: &TensorRef, storage: &dyn ReadAt, each: &mut dyn FnMut(&[u8])) -> io::Result<bool> {
    copy_in_slabs(view, storage, SLAB_BYTES, each)
}

fn copy_in_slabs(
    view: &TensorRef,
    storage: &dyn ReadAt,
    slab_bytes: usize,
    each: &mut dyn FnMut(&[u8]),
) -> io::Result<bool> {
    let width = view.dtype.bytes(1).and_then(|width| usize::try_from(width).ok()).unwrap_or(1).max(1);
    if view.shape.contains(&0) || view.shape.len() != view.strides.len() {
        return Ok(view.shape.contains(&0));
    }
    let (split, rows) = slabs(view, slab_bytes.checked_div(width).unwrap_or(1).max(1) as u64);
    let mut reader = Reader { storage, width, start: 0, window: Vec::new() };
    let mut slab = Vec::new();
    // The indices of the sides up to the split one; the last of them counts rows.
    let mut index = vec![0_u64; split.saturating_add(1).min(view.shape.len())];
    loop {
        let offset = index
            .iter()
            .zip(&view.strides)
            .fold(view.offset, |offset, (index, stride)| offset.saturating_add(index.saturating_mul(*stride)));
        let left = match (view.shape.get(split), index.last()) {
            (Some(side), Some(row)) => side.saturating_sub(*row).min(rows),
            _ => 1,
        };
        let sides = sides(view, split, left);
        let count = sides.iter().fold(1_u64, |count, side| count.saturating_mul(side.length));
        slab.clear();
        slab.resize(usize::try_from(count).unwrap_or(usize::MAX).saturating_mul(width), 0);
        if !fill(&mut reader, offset, &sides, &mut slab)? {
            return Ok(false);
        }
        each(&slab);
        if !advance(&mut index, &view.shape, left) {
            return Ok(true);
        }
    }
}

/// The outermost side that has to be cut for a slab to hold at most `elements`, and how many of its rows one holds.
fn slabs(view: &TensorRef, elements: u64) -> (usize, u64) {
    let mut inner = 1_u64;
    for (side, length) in view.shape.iter().enumerate().rev() {
        let whole = inner.saturating_mul(*length);
        if whole > elements || side == 0 {
            return (side, elements.checked_div(inner).unwrap_or(1).max(1).min(*length));
        }
        inner = whole;
    }
    (0, 1)
}

/// The sides of one slab, those that are far apart in the storage first.
fn sides(view: &TensorRef, split: usize, rows: u64) -> Vec<Side> {
    let mut sides = Vec::with_capacity(view.shape.len());
    let mut to = 1_u64;
    for (index, (length, from)) in view.shape.iter().zip(&view.strides).enumerate().rev() {
        let length = if index == split { rows } else { *length };
        if index >= split {
            sides.push(Side { length, from: *from, to });
            to = to.saturating_mul(length);
        }
    }
    sides.retain(|side| side.length != 1);
    sides.sort_by_key(|side| std::cmp::Reverse(side.from));
    sides
}

/// The next position: `rows` further in the last side, carried over; false after the last one.
fn advance(index: &mut [u64], shape: &[u64], rows: u64) -> bool {
    let mut step = rows;
    for (index, side) in index.iter_mut().zip(shape).rev() {
        *index = index.saturating_add(step);
        if *index < *side {
            return true;
        }
        *index = 0;
        step = 1;
    }
    false
}

fn fill(reader: &mut Reader<'_>, offset: u64, sides: &[Side], slab: &mut [u8]) -> io::Result<bool> {
    let single = [Side { length: 1, from: 1, to: 1 }];
    let (outer, inner) = match sides.split_last() {
        Some((inner, outer)) => (outer, *inner),
        None => (&[][..], single[0]),
    };
    let mut index = vec![0_u64; outer.len()];
    let lengths: Vec<u64> = outer.iter().map(|side| side.length).collect();
    loop {
        let at = |distance: fn(&Side) -> u64, start: u64| {
            index
                .iter()
                .zip(outer)
                .fold(start, |sum, (index, side)| sum.saturating_add(index.saturating_mul(distance(side))))
        };
        let (from, to) = (at(|side| side.from, offset), at(|side| side.to, 0));
        if !reader.run(from, to, inner, slab)? {
            return Ok(false);
        }
        if !advance(&mut index, &lengths, 1) {
            return Ok(true);
        }
    }
}

/// Reads elements through a small window, which moves forward most of the time.
struct Reader<'a> {
    storage: &'a dyn ReadAt,
    width: usize,
    start: u64,
    window: Vec<u8>,
}

impl Reader<'_> {
    /// Copies the elements of one side.
    fn run(&mut self, from: u64, to: u64, side: Side, slab: &mut [u8]) -> io::Result<bool> {
        let width = self.width as u64;
        let byte = |element: u64| element.saturating_mul(width);
        if side.from == 1 && side.to == 1 {
            let to = usize::try_from(byte(to)).unwrap_or(usize::MAX);
            let length = usize::try_from(byte(side.length)).unwrap_or(usize::MAX);
            let Some(place) = slab.get_mut(to..to.saturating_add(length)) else { return Ok(false) };
            return self.read_into(byte(from), place);
        }
        for index in 0..side.length {
            let start = byte(from.saturating_add(index.saturating_mul(side.from)));
            let to = usize::try_from(byte(to.saturating_add(index.saturating_mul(side.to)))).unwrap_or(usize::MAX);
            let left = usize::try_from(side.length.saturating_sub(index)).unwrap_or(usize::MAX);
            let ahead = if side.from == 1 { left.saturating_mul(self.width) } else { 0 };
            if !self.has(start) && !self.read(start, ahead)? {
                return Ok(false);
            }
            let at = usize::try_from(start.saturating_sub(self.start)).unwrap_or(usize::MAX);
            let (Some(element), Some(place)) =
                (self.window.get(at..at.saturating_add(self.width)), slab.get_mut(to..to.saturating_add(self.width)))
            else {
                return Ok(false);
            };
            place.copy_from_slice(element);
        }
        Ok(true)
    }

    fn has(&self, start: u64) -> bool {
        let end = self.start.saturating_add(self.window.len() as u64);
        self.start <= start && start.saturating_add(self.width as u64) <= end
    }

    /// Reads a window from `start` on; false when not even one element is there.
    fn read(&mut self, start: u64, wanted: usize) -> io::Result<bool> {
        self.window.resize(wanted.clamp(READ_BYTES, SLAB_BYTES), 0);
        self.start = start;
        let count = fill_from(self.storage, start, &mut self.window)?;
        self.window.truncate(count);
        Ok(count >= self.width)
    }

    fn read_into(&mut self, start: u64, place: &mut [u8]) -> io::Result<bool> {
        // Short runs close to each other come from one read.
        if place.len() >= READ_BYTES {
            return Ok(fill_from(self.storage, start, place)? == place.len());
        }
        let end = start.saturating_add(place.len() as u64);
        let is_inside = self.start <= start && end <= self.start.saturating_add(self.window.len() as u64);
        if !is_inside && !self.read(start, place.len())? {
            return Ok(false);
        }
        let at = usize::try_from(start.saturating_sub(self.start)).unwrap_or(usize::MAX);
        let Some(bytes) = self.window.get(at..at.saturating_add(place.len())) else { return Ok(false) };
        place.copy_from_slice(bytes);
        Ok(true)
    }
}

/// Reads until the buffer is full or the source ends; gives how much that was.
fn fill_from(source: &dyn ReadAt, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
    let mut done = 0_usize;
    while let Some(rest) = buffer.get_mut(done..).filter(|rest| !rest.is_empty()) {
        match source.read_at(offset.saturating_add(done as u64), rest) {
            Ok(0) => break,
            Ok(count) => done = done.saturating_add(count),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(done)
}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects, clippy::indexing_slicing, reason = "numbers of a test")]
mod tests {
    use super::*;
    use crate::format::dtype::Dtype;
    use crate::format::torch::tensor::StorageRef;
    use proptest::prelude::*;

    fn view(shape: &[u64], strides: &[u64], offset: u64) -> TensorRef {
        let storage = StorageRef { key: "0".to_owned(), dtype: None, count: 0 };
        TensorRef {
            dtype: Dtype::of_torch("int16"),
            shape: shape.to_vec(),
            storage: Some(storage),
            offset,
            strides: strides.to_vec(),
        }
    }

    /// Element by element, as the definition says.
    fn expected(view: &TensorRef, storage: &[u8]) -> Vec<u8> {
        let count: u64 = view.shape.iter().product();
        let mut out = Vec::new();
        for flat in 0..count {
            let (mut rest, mut element) = (flat, view.offset);
            for (side, stride) in view.shape.iter().zip(&view.strides).rev() {
                element += rest % side * stride;
                rest /= side;
            }
            let at = usize::try_from(element).unwrap() * 2;
            out.extend(&storage[at..at + 2]);
        }
        out
    }

    fn copied(view: &TensorRef, storage: &[u8], slab: usize) -> Option<Vec<u8>> {
        let mut out = Vec::new();
        let is_whole = copy_in_slabs(view, &storage, slab, &mut |bytes| {
            assert!(bytes.len() <= slab.max(2), "{} bytes at once", bytes.len());
            out.extend(bytes);
        });
        is_whole.unwrap().then_some(out)
    }

    proptest! {
        #[test]
        fn every_view_is_copied_element_by_element_whatever_the_slab(
            sides in proptest::collection::vec((0_u64..6, 0_u64..9), 0..5),
            offset in 0_u64..5,
            slab in 1_usize..200,
        ) {
            let shape: Vec<u64> = sides.iter().map(|(side, _)| *side).collect();
            let strides: Vec<u64> = sides.iter().map(|(_, stride)| *stride).collect();
            let view = view(&shape, &strides, offset);
            let storage: Vec<u8> = (0..400_u16).flat_map(u16::to_le_bytes).collect();
            prop_assert_eq!(copied(&view, &storage, slab), Some(expected(&view, &storage)));
        }

        #[test]
        fn a_permuted_tensor_is_copied_in_its_own_order(
            shape in proptest::collection::vec(1_u64..7, 1..4),
            rotation in 0_usize..4,
            slab in 2_usize..300,
        ) {
            let mut strides: Vec<u64> = shape.iter().rev().scan(1, |product, side| {
                let stride = *product;
                *product *= side;
                Some(stride)
            }).collect();
            strides.reverse();
            let (mut shape, rotation) = (shape.clone(), rotation % shape.len());
            shape.rotate_left(rotation);
            strides.rotate_left(rotation);
            let view = view(&shape, &strides, 0);
            let storage: Vec<u8> = (0..400_u16).flat_map(u16::to_le_bytes).collect();
            let elements = expected(&view, &storage);
            prop_assert_eq!(view.is_contiguous(), elements == storage[..elements.len()]);
            prop_assert_eq!(copied(&view, &storage, slab), Some(expected(&view, &storage)));
        }
    }

    #[test]
    fn a_storage_that_ends_early_is_told() {
        let view = view(&[4, 4], &[1, 4], 0);
        assert_eq!(copied(&view, &[0; 31], 64), None);
        assert!(copied(&view, &[0; 32], 64).is_some());
    }
}
