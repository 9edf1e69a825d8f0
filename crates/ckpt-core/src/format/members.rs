//! Reading a zip member of any size in pieces.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::io;

use miniz_oxide::inflate::stream::{InflateState, inflate};
use miniz_oxide::{DataFormat, MZError, MZFlush, MZStatus};

use super::zip::{self, Entry, Method};
use crate::finding::{Code, Finding};
use crate::read::{ReadAt, stream};

/// Unpacked bytes handed on at once.
const OUTPUT_BYTES: usize = 64 << 10;

/// What reading a member to its end gave.
#[derive(Debug, PartialEq, Eq)]
enum Read {
    /// As many bytes as its directory entry says, with this CRC-32.
    Whole {
        /// The checksum.
        crc: u32,
    },
    /// Another number of bytes: this one, or more.
    Short(u64),
    /// They do not unpack.
    Malformed,
    /// They are packed in a way that is not read here.
    Unsupported(u16),
}

/// Feeds a member's bytes to `each`.
///
/// # Errors
/// The source cannot be read.
fn read(source: &dyn ReadAt, entry: &Entry, data_offset: u64, mut each: impl FnMut(&[u8])) -> io::Result<Read> {
    let mut hasher = crc32fast::Hasher::new();
    let mut length = 0_u64;
    let mut take = |bytes: &[u8]| {
        hasher.update(bytes);
        length = length.saturating_add(bytes.len() as u64);
        each(bytes);
    };
    match entry.method {
        Method::Stored => {
            stream(source, data_offset, entry.compressed, take)?;
        }
        Method::Deflated => {
            let mut unpacker = Unpacker::new(entry.size);
            stream(source, data_offset, entry.compressed, |bytes| unpacker.feed(bytes, &mut take))?;
            if !unpacker.is_finished {
                return Ok(Read::Malformed);
            }
        }
        Method::Other(method) => return Ok(Read::Unsupported(method)),
    }
    Ok(if length == entry.size { Read::Whole { crc: hasher.finalize() } } else { Read::Short(length) })
}

/// Reads one member, feeds its bytes to `each` and compares it with its directory entry.
///
/// # Errors
/// The source cannot be read.
pub(super) fn checked(source: &dyn ReadAt, entry: &Entry, each: impl FnMut(&[u8])) -> io::Result<Option<Finding>> {
    let name = &entry.name;
    let Some(header) = zip::local_header(source, entry.header_offset)? else {
        let message = format!("no member header for `{name}` at {}", entry.header_offset);
        return Ok(Some(Finding::error(Code::OutOfBounds, message)));
    };
    if !header.is_of(entry) || header.method != entry.method.number() {
        let message = format!("the archive's directory and the header of the member itself disagree on `{name}`");
        return Ok(Some(Finding::error(Code::OutOfBounds, message)));
    }
    Ok(match read(source, entry, header.data_offset, each)? {
        Read::Whole { crc } if entry.accepts(crc) => None,
        Read::Whole { crc } => Some(Finding::error(
            Code::CrcMismatch,
            format!("`{name}` has checksum {crc:08x}, the archive says {:08x}", entry.crc),
        )),
        Read::Short(length) => Some(Finding::error(
            Code::Truncated,
            format!("`{name}` has {length} bytes, its directory entry says {}", entry.size),
        )),
        Read::Malformed => Some(Finding::error(Code::CrcMismatch, format!("`{name}` does not unpack"))),
        Read::Unsupported(method) => Some(Finding::warning(
            Code::Unsupported,
            format!("`{name}` is packed with zip method {method} and was not checked"),
        )),
    })
}

struct Unpacker {
    state: Box<InflateState>,
    output: Vec<u8>,
    /// Bytes that may still come: more than the directory entry says is not worth unpacking.
    left: u64,
    is_finished: bool,
    is_broken: bool,
}

impl Unpacker {
    fn new(size: u64) -> Self {
        Self {
            state: InflateState::new_boxed(DataFormat::Raw),
            output: vec![0; OUTPUT_BYTES],
            left: size.saturating_add(1),
            is_finished: false,
            is_broken: false,
        }
    }

    fn feed(&mut self, mut input: &[u8], each: &mut impl FnMut(&[u8])) {
        while !self.is_finished && !self.is_broken {
            let result = inflate(&mut self.state, input, &mut self.output, MZFlush::None);
            input = input.get(result.bytes_consumed..).unwrap_or_default();
            each(self.output.get(..result.bytes_written).unwrap_or_default());
            self.left = self.left.saturating_sub(result.bytes_written as u64);
            match result.status {
                Ok(MZStatus::StreamEnd) => self.is_finished = true,
                Ok(_) if self.left == 0 => self.is_finished = true,
                // Output may wait behind a full buffer even when the input is used up.
                Ok(_) if input.is_empty() && result.bytes_written < OUTPUT_BYTES => return,
                Ok(_) => {}
                Err(MZError::Buf) => return,
                Err(_) => self.is_broken = true,
            }
        }
    }
}
