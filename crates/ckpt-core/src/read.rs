//! Reading bytes at an offset: a file now, a ranged request over HTTP later, a slice in tests.

use std::cell::Cell;
use std::io;

/// A thing whose bytes can be read at any offset.
///
/// The contract: `size` does not change while the value lives; `read_at` fills as much of `buffer` as the
/// source has from `offset` on and returns how much that was; it returns 0 only at or past the end.
pub trait ReadAt {
    /// The size in bytes.
    fn size(&self) -> u64;

    /// Reads up to `buffer.len()` bytes from `offset`.
    ///
    /// # Errors
    /// The source could not be read (not: it ended early).
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize>;
}

impl ReadAt for &[u8] {
    fn size(&self) -> u64 {
        self.len() as u64
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let rest = usize::try_from(offset).ok().and_then(|start| self.get(start..)).unwrap_or(&[]);
        let count = rest.len().min(buffer.len());
        if let (Some(to), Some(from)) = (buffer.get_mut(..count), rest.get(..count)) {
            to.copy_from_slice(from);
        }
        Ok(count)
    }
}

impl<R: ReadAt + ?Sized> ReadAt for &R {
    fn size(&self) -> u64 {
        (**self).size()
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        (**self).read_at(offset, buffer)
    }
}

impl<R: ReadAt + ?Sized> ReadAt for Box<R> {
    fn size(&self) -> u64 {
        (**self).size()
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        (**self).read_at(offset, buffer)
    }
}

/// Counts the bytes that pass through it.
#[derive(Debug)]
pub struct Counted<'a, R> {
    inner: R,
    bytes: &'a Cell<u64>,
}

impl<'a, R: ReadAt> Counted<'a, R> {
    /// Adds what is read from `inner` to `bytes`.
    pub fn new(inner: R, bytes: &'a Cell<u64>) -> Self {
        Self { inner, bytes }
    }
}

impl<R: ReadAt> ReadAt for Counted<'_, R> {
    fn size(&self) -> u64 {
        self.inner.size()
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read_at(offset, buffer)?;
        self.bytes.set(self.bytes.get().saturating_add(count as u64));
        Ok(count)
    }
}

/// A window of another source, read as if it were a whole one.
pub struct Window<'a> {
    inner: &'a dyn ReadAt,
    start: u64,
    size: u64,
}

impl<'a> Window<'a> {
    /// The `size` bytes of `inner` from `start` on, cut where `inner` ends.
    #[must_use]
    pub fn new(inner: &'a dyn ReadAt, start: u64, size: u64) -> Self {
        let size = size.min(inner.size().saturating_sub(start));
        Self { inner, start, size }
    }
}

impl ReadAt for Window<'_> {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.size.saturating_sub(offset)).unwrap_or(usize::MAX);
        let wanted = buffer.len().min(left);
        match buffer.get_mut(..wanted) {
            Some(part) if !part.is_empty() => self.inner.read_at(self.start.saturating_add(offset), part),
            _ => Ok(0),
        }
    }
}

/// Reads `length` bytes from `offset`, or fewer where the source ends first.
///
/// # Errors
/// The source could not be read.
pub fn read_up_to(source: &dyn ReadAt, offset: u64, length: usize) -> io::Result<Vec<u8>> {
    let available = usize::try_from(source.size().saturating_sub(offset)).unwrap_or(usize::MAX);
    let mut buffer = vec![0; length.min(available)];
    let mut filled = 0_usize;
    while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match source.read_at(offset.saturating_add(filled as u64), rest) {
            Ok(0) => break,
            Ok(count) => filled = filled.saturating_add(count),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    buffer.truncate(filled);
    Ok(buffer)
}

/// Feeds the `length` bytes from `offset` to `each` in pieces; false when the source ended early.
///
/// # Errors
/// The source could not be read.
pub fn stream(source: &dyn ReadAt, offset: u64, length: u64, mut each: impl FnMut(&[u8])) -> io::Result<bool> {
    let mut buffer = vec![0; crate::limits::CHUNK_BYTES.min(usize::try_from(length).unwrap_or(usize::MAX))];
    let mut done = 0_u64;
    while done < length {
        let wanted = buffer.len().min(usize::try_from(length.saturating_sub(done)).unwrap_or(usize::MAX));
        let Some(part) = buffer.get_mut(..wanted) else { break };
        match source.read_at(offset.saturating_add(done), part) {
            Ok(0) => return Ok(false),
            Ok(count) => {
                each(part.get(..count).unwrap_or_default());
                done = done.saturating_add(count as u64);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(true)
}

/// Reads little-endian fields from a slice; every method returns `None` at the end.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cursor<'a> {
    bytes: &'a [u8],
    position: usize,
}

impl<'a> Cursor<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, position: 0 }
    }

    pub(crate) fn at(bytes: &'a [u8], position: usize) -> Self {
        Self { bytes, position }
    }

    /// All of the bytes, whatever the position.
    pub(crate) fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    pub(crate) fn position(&self) -> usize {
        self.position
    }

    pub(crate) fn remaining(&self) -> usize {
        self.bytes.len().saturating_sub(self.position)
    }

    pub(crate) fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let end = self.position.checked_add(count)?;
        let part = self.bytes.get(self.position..end)?;
        self.position = end;
        Some(part)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    pub(crate) fn u8(&mut self) -> Option<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub(crate) fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }

    pub(crate) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    /// The bytes up to the next line feed, which is consumed and not returned.
    pub(crate) fn line(&mut self) -> Option<&'a [u8]> {
        let rest = self.bytes.get(self.position..)?;
        let length = rest.iter().position(|&byte| byte == b'\n')?;
        let line = self.take(length)?;
        self.position = self.position.saturating_add(1);
        Some(line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_never_shows_bytes_outside_it() {
        let bytes: &[u8] = b"0123456789";
        let window = Window::new(&bytes, 3, 4);
        assert_eq!(read_up_to(&window, 0, 100).unwrap(), b"3456");
        assert_eq!(read_up_to(&window, 2, 100).unwrap(), b"56");
        assert_eq!(read_up_to(&window, 9, 1).unwrap(), b"");
        assert_eq!(Window::new(&bytes, 8, 40).size(), 2);
    }

    #[test]
    fn streaming_tells_when_the_source_ended_early() {
        let bytes: &[u8] = &[7; 10];
        let mut seen = 0;
        assert!(stream(&bytes, 2, 8, |part| seen += part.len()).unwrap());
        assert_eq!(seen, 8);
        assert!(!stream(&bytes, 2, 9, |_| ()).unwrap());
    }
}
