//! Large files written from front to back: the disk starts while the writer still writes.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use super::allowed;
use crate::error::{Error, Result};

/// Small slices are gathered up to this size; larger ones are not copied.
const GATHERED_BYTES: usize = 1 << 20;
/// How much is written by one call.
const WRITE_BYTES: usize = 4 << 20;
/// How much is written before the disk is told to start on it.
const STARTED_BYTES: u64 = 8 << 20;

/// Writes slices one after the other to an empty file.
///
/// What is left for the later `fsync` is a few megabytes: the kernel is told to write back as it goes, where otherwise
/// it would begin when asked to finish.
///
/// # Errors
/// The system refuses; no space is left.
pub fn write_slices<'a>(file: &File, path: &Path, slices: impl Iterator<Item = &'a [u8]>) -> Result<()> {
    let mut out = BufWriter::with_capacity(GATHERED_BYTES, Started { file, written: 0, started: 0 });
    for slice in slices {
        for part in slice.chunks(WRITE_BYTES) {
            out.write_all(part).map_err(|error| Error::io("write", path, error))?;
        }
    }
    out.flush().map_err(|error| Error::io("write", path, error))
}

struct Started<'a> {
    file: &'a File,
    written: u64,
    started: u64,
}

impl Write for Started<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.file.write(&bytes[..allowed(bytes.len())?])?;
        self.written += count as u64;
        if self.written - self.started >= STARTED_BYTES {
            start_writeback(self.file, self.started, self.written - self.started);
            self.started = self.written;
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Best effort: the `fsync` that follows is what makes it durable, and what reports a failing disk.
#[cfg(target_os = "linux")]
#[expect(unsafe_code, reason = "no safe crate offers sync_file_range")]
fn start_writeback(file: &File, start: u64, count: u64) {
    use std::os::fd::AsRawFd;
    let (Ok(start), Ok(count)) = (i64::try_from(start), i64::try_from(count)) else { return };
    // SAFETY: the descriptor is open for as long as `file` is borrowed, and no memory is passed.
    let result = unsafe { libc::sync_file_range(file.as_raw_fd(), start, count, libc::SYNC_FILE_RANGE_WRITE) };
    if result != 0 {
        tracing::trace!(error = %io::Error::last_os_error(), "write-back not started early");
    }
}

#[cfg(not(target_os = "linux"))]
fn start_writeback(_: &File, _: u64, _: u64) {}
