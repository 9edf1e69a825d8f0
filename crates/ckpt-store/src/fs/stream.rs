//! Large files written from front to back, past the page cache where the file system can.
//!
//! The calling thread gathers and digests while a second one writes. Past the page cache a save costs a tenth of the CPU
//! time, evicts nothing of what the trainer has cached, and leaves nothing for the `fsync` at its end.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};

use rustix::fs::{FallocateFlags, OFlags};
use rustix::io::Errno;

use super::{allowed, flags};
use crate::error::{Error, Result};

/// How much is written by one call, and digested while it is still in the processor's cache.
const BLOCK_BYTES: usize = 4 << 20;
/// One is filled, one is written, one is in between.
const BLOCKS: usize = 3;
/// What addresses, offsets and lengths past the page cache are multiples of, on every disk of today.
const ALIGNMENT: usize = 4096;
/// Below this a second thread and a second descriptor cost more than they save.
const LARGE_BYTES: usize = 2 * BLOCK_BYTES;

/// Writes parts one after the other to an empty file; `each` sees all bytes, in order.
///
/// # Errors
/// The system refuses; no space is left.
pub fn write_parts(file: &File, path: &Path, parts: &[&[u8]], mut each: impl FnMut(&[u8])) -> Result<()> {
    let total: usize = parts.iter().map(|part| part.len()).sum();
    let written = if total < LARGE_BYTES {
        parts.iter().try_fold(0, |offset, part| {
            each(part);
            write_all_at(file, part, offset)?;
            Ok(offset + part.len() as u64)
        })
    } else {
        reserve(file, total as u64).and_then(|()| write_large(file, path, parts, &mut each))
    };
    written.map(|_| ()).map_err(|error| Error::io("write", path, error))
}

fn write_all_at(file: &File, mut bytes: &[u8], mut offset: u64) -> io::Result<()> {
    while !bytes.is_empty() {
        match file.write_at(&bytes[..allowed(bytes.len())?], offset) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => {
                bytes = &bytes[count..];
                offset += count as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Takes the blocks at once: a full disk is known before the first byte, and the file lies together.
fn reserve(file: &File, bytes: u64) -> io::Result<()> {
    match rustix::fs::fallocate(file, FallocateFlags::empty(), 0, bytes) {
        Err(error @ (Errno::NOSPC | Errno::DQUOT | Errno::FBIG | Errno::IO)) => Err(error.into()),
        // Not every file system can.
        _ => Ok(()),
    }
}

/// A descriptor that writes past the page cache, where the file system has such.
fn open_direct(path: &Path) -> Option<File> {
    OpenOptions::new().write(true).custom_flags(flags(OFlags::DIRECT)).open(path).ok()
}

/// Memory that starts at a multiple of [`ALIGNMENT`].
struct Block {
    memory: Vec<u8>,
    start: usize,
    length: usize,
}

impl Block {
    fn new() -> Self {
        let memory = vec![0; BLOCK_BYTES + ALIGNMENT];
        let start = memory.as_ptr().align_offset(ALIGNMENT);
        Self { memory, start, length: 0 }
    }

    fn bytes(&self) -> &[u8] {
        &self.memory[self.start..self.start + self.length]
    }

    /// Takes as much of `bytes` as has room; gives the rest.
    fn fill<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let (now, rest) = bytes.split_at(bytes.len().min(BLOCK_BYTES - self.length));
        let end = self.start + self.length;
        self.memory[end..end + now.len()].copy_from_slice(now);
        self.length += now.len();
        rest
    }
}

fn write_large(file: &File, path: &Path, parts: &[&[u8]], each: &mut impl FnMut(&[u8])) -> io::Result<u64> {
    let direct = open_direct(path);
    let (full, to_write) = sync_channel::<Block>(BLOCKS);
    let (empty, to_fill) = channel();
    for _ in 0..BLOCKS {
        // The other end is held below.
        empty.send(Block::new()).map_err(|_| io::Error::other("a thread died"))?;
    }
    std::thread::scope(|scope| {
        let writing = scope.spawn(move || write_blocks(file, direct.as_ref(), &to_write, &empty));
        let filled = fill_blocks(parts, each, (&to_fill, &full));
        drop(full);
        let written = writing.join().unwrap_or_else(|_| Err(io::Error::other("a thread died")))?;
        filled.map(|()| written)
    })
}

/// Fills block after block. When the writing thread has ended, so does this: that one has the reason.
fn fill_blocks(
    parts: &[&[u8]],
    each: &mut impl FnMut(&[u8]),
    (to_fill, full): (&Receiver<Block>, &SyncSender<Block>),
) -> io::Result<()> {
    let mut current: Option<Block> = None;
    for part in parts {
        let mut rest = *part;
        while !rest.is_empty() {
            let mut block = match current.take().map_or_else(|| to_fill.recv(), Ok) {
                Ok(block) => block,
                Err(_) => return Ok(()),
            };
            rest = block.fill(rest);
            if block.length < BLOCK_BYTES {
                current = Some(block);
            } else if !hand_over(block, each, full)? {
                return Ok(());
            }
        }
    }
    if let Some(block) = current {
        hand_over(block, each, full)?;
    }
    Ok(())
}

fn hand_over(block: Block, each: &mut impl FnMut(&[u8]), full: &SyncSender<Block>) -> io::Result<bool> {
    // Where a test lets the system refuse: the other thread is not the one that the test runs in.
    allowed(block.length)?;
    each(block.bytes());
    Ok(full.send(block).is_ok())
}

fn write_blocks(
    file: &File,
    direct: Option<&File>,
    to_write: &Receiver<Block>,
    empty: &Sender<Block>,
) -> io::Result<u64> {
    let mut offset = 0;
    for mut block in to_write {
        write_block(file, direct, block.bytes(), offset)?;
        offset += block.length as u64;
        block.length = 0;
        // When nothing is left to fill, nobody takes it.
        let _ = empty.send(block);
    }
    Ok(offset)
}

/// The end of a file is seldom a multiple of anything, and some file systems want more than [`ALIGNMENT`]: what cannot go past
/// the page cache goes through it.
fn write_block(file: &File, direct: Option<&File>, bytes: &[u8], offset: u64) -> io::Result<()> {
    let aligned = if direct.is_some() { bytes.len() - bytes.len() % ALIGNMENT } else { 0 };
    let (body, tail) = bytes.split_at(aligned);
    if let Some(direct) = direct {
        match write_all_at(direct, body, offset) {
            Err(error) if error.raw_os_error() == Some(Errno::INVAL.raw_os_error()) => {
                write_all_at(file, body, offset)?;
            }
            result => result?,
        }
    }
    write_all_at(file, tail, offset + aligned as u64)
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "tests look at files")]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_and_what_is_seen_are_the_parts_in_order() {
        let place = tempfile::tempdir().unwrap();
        let sizes = [0, 1, 4095, 4097, BLOCK_BYTES - 1, BLOCK_BYTES, BLOCK_BYTES + 1, 3 * BLOCK_BYTES + 77];
        for count in 1..=sizes.len() {
            let parts: Vec<Vec<u8>> =
                sizes[..count].iter().map(|size| (0..*size).map(|at| at.to_le_bytes()[0]).collect()).collect();
            let parts: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
            let path = place.path().join(count.to_string());
            let file = File::create(&path).unwrap();
            let mut seen = Vec::new();
            write_parts(&file, &path, &parts, |bytes| seen.extend_from_slice(bytes)).unwrap();
            let expected = parts.concat();
            assert!(seen == expected, "{count} parts: seen");
            assert!(std::fs::read(&path).unwrap() == expected, "{count} parts: written");
        }
    }

    #[test]
    fn without_a_descriptor_past_the_cache_the_same_is_written() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("x");
        let file = File::create(&path).unwrap();
        let bytes: Vec<u8> = (0..10_000_u32).map(|at| (at % 253) as u8).collect();
        write_block(&file, None, &bytes[..5000], 0).unwrap();
        // A descriptor for reading stands for a file system that wants another alignment.
        write_block(&file, open_direct(&path).as_ref(), &bytes[5000..], 5000).unwrap();
        assert!(std::fs::read(&path).unwrap() == bytes);
    }
}
