//! The directory of a zip archive, read from its end.
//!
//! PyTorch always writes a zip64 end record next to a 32-bit one that holds real values and no sentinels; readers
//! that derive the directory's place from "end record minus size" miss it by 76 bytes. The order of trust here is:
//! zip64 record where its locator points at one, else the 32-bit record; the directory's announced offset, never a
//! derived one, unless something was prepended to the whole archive.
//! Source of the layout: APPNOTE.TXT 6.3, sections 4.3.7 to 4.3.16.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::collections::HashMap;
use std::io;
use std::sync::Arc;

use crate::limits;
use crate::read::{Cursor, ReadAt, read_up_to};

/// The first bytes of a member.
pub const LOCAL_HEADER: [u8; 4] = *b"PK\x03\x04";
const DIRECTORY_HEADER: [u8; 4] = *b"PK\x01\x02";
const DIRECTORY_HEADER_BYTES: usize = 46;
const END_RECORD: [u8; 4] = *b"PK\x05\x06";
const END_RECORD_64: [u8; 4] = *b"PK\x06\x06";
const END_LOCATOR_64: [u8; 4] = *b"PK\x06\x07";
const END_BYTES: usize = 22;
const LOCATOR_BYTES: usize = 20;
const END_64_BYTES: usize = 56;
const LOCAL_BYTES: u64 = 30;
/// Bytes read of a local header, and the names that surely fit them.
const LOCAL_WINDOW: usize = 512;
const LOCAL_NAME_SHOWN: usize = 400;

/// How a member's bytes are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// As they are.
    Stored,
    /// Deflated.
    Deflated,
    /// Some other method, by its number.
    Other(u16),
}

impl Method {
    /// The number that stands in the archive.
    #[must_use]
    pub fn number(self) -> u16 {
        match self {
            Self::Stored => 0,
            Self::Deflated => 8,
            Self::Other(number) => number,
        }
    }
}

/// One member, as the directory describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The name, lossily decoded.
    pub name: Arc<str>,
    /// How it is stored.
    pub method: Method,
    /// CRC-32 of its bytes; 0 may mean "not recorded".
    pub crc: u32,
    /// Bytes in the archive.
    pub compressed: u64,
    /// Bytes once unpacked.
    pub size: u64,
    /// Where its local header starts.
    pub header_offset: u64,
}

impl Entry {
    /// Whether bytes of this checksum may be the member's.
    ///
    /// PyTorch records 0 where it computes none: everywhere with `compute_crc32=False`, for the storages alone under
    /// `skip_data()`.
    #[must_use]
    pub fn accepts(&self, crc: u32) -> bool {
        self.crc == 0 || self.crc == crc
    }
}

/// The directory of an archive.
#[derive(Debug)]
pub struct Archive {
    /// The members, in the directory's order.
    pub entries: Vec<Entry>,
    /// Bytes after the end record.
    pub trailing: u64,
    /// Where the directory starts.
    pub directory_offset: u64,
    by_name: HashMap<Arc<str>, usize>,
    duplicates: Vec<String>,
}

/// Why there is no directory to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Problem {
    /// No end record: the file was cut off, or is no zip.
    NoEnd,
    /// The directory lies outside the file or is not where the end record says.
    Misplaced(String),
    /// The directory passes the size limits.
    TooLarge,
}

/// Reads the directory.
///
/// # Errors
/// The outer error: the source cannot be read. The inner one: there is no directory.
pub fn open(source: &dyn ReadAt) -> io::Result<Result<Archive, Problem>> {
    let Some(end) = find_end(source)? else { return Ok(Err(Problem::NoEnd)) };
    let end = match widen(source, &end)? {
        Ok(wide) => wide.unwrap_or(end),
        Err(problem) => return Ok(Err(problem)),
    };
    let size = source.size();
    if end.directory_size > limits::ZIP_DIRECTORY_BYTES {
        return Ok(Err(Problem::TooLarge));
    }
    if end.directory_offset.checked_add(end.directory_size).is_none_or(|stop| stop > end.record_offset) {
        return Ok(Err(Problem::Misplaced(format!(
            "the archive's directory should take {} bytes at {}, which is not before its end record at {} of {size}",
            end.directory_size, end.directory_offset, end.record_offset
        ))));
    }
    let length = usize::try_from(end.directory_size).unwrap_or(usize::MAX);
    let bytes = read_up_to(source, end.directory_offset, length)?;
    let entries = match parse_directory(&bytes, end.entries) {
        Ok(entries) => entries,
        Err(message) => return Ok(Err(Problem::Misplaced(message))),
    };
    let mut by_name = HashMap::with_capacity(entries.len());
    let mut duplicates = Vec::new();
    for (index, entry) in entries.iter().enumerate() {
        if by_name.insert(Arc::clone(&entry.name), index).is_some() {
            duplicates.push(entry.name.to_string());
        }
    }
    Ok(Ok(Archive { entries, trailing: end.trailing, directory_offset: end.directory_offset, by_name, duplicates }))
}

struct End {
    record_offset: u64,
    directory_offset: u64,
    directory_size: u64,
    entries: u64,
    trailing: u64,
}

/// Looks for the end record, first where it is without a comment, then as far back as a comment may reach.
fn find_end(source: &dyn ReadAt) -> io::Result<Option<End>> {
    let size = source.size();
    for reach in [1_024_u64, limits::ZIP_COMMENT_BYTES.saturating_add(1_024)] {
        let start = size.saturating_sub(reach);
        let tail = read_up_to(source, start, usize::try_from(reach).unwrap_or(usize::MAX))?;
        for position in (0..tail.len().saturating_sub(END_BYTES.saturating_sub(1))).rev() {
            if let Some(end) = parse_end(&tail, position, start, size) {
                return Ok(Some(end));
            }
        }
        if start == 0 {
            break;
        }
    }
    Ok(None)
}

fn parse_end(tail: &[u8], position: usize, start: u64, size: u64) -> Option<End> {
    let mut cursor = Cursor::at(tail, position);
    if cursor.array::<4>()? != END_RECORD {
        return None;
    }
    cursor.take(4)?;
    cursor.u16()?;
    let entries = u64::from(cursor.u16()?);
    let directory_size = u64::from(cursor.u32()?);
    let directory_offset = u64::from(cursor.u32()?);
    let comment = u64::from(cursor.u16()?);
    let record_offset = start.checked_add(position as u64)?;
    let after = size.checked_sub(record_offset)?.checked_sub(END_BYTES as u64)?;
    Some(End {
        record_offset,
        directory_offset,
        directory_size,
        entries,
        trailing: after.checked_sub(comment).unwrap_or(after),
    })
}

/// The zip64 record, when a locator stands before the end record.
fn widen(source: &dyn ReadAt, end: &End) -> io::Result<Result<Option<End>, Problem>> {
    let Some(locator_offset) = end.record_offset.checked_sub(LOCATOR_BYTES as u64) else { return Ok(Ok(None)) };
    let bytes = read_up_to(source, locator_offset, LOCATOR_BYTES)?;
    let mut cursor = Cursor::new(&bytes);
    if cursor.array::<4>() != Some(END_LOCATOR_64) {
        return Ok(Ok(None));
    }
    cursor.u32();
    let Some(record_offset) = cursor.u64() else { return Ok(Ok(None)) };
    let bytes = read_up_to(source, record_offset, END_64_BYTES)?;
    let parsed = (|| {
        let mut cursor = Cursor::new(&bytes);
        (cursor.array::<4>()? == END_RECORD_64).then_some(())?;
        cursor.take(20)?;
        cursor.u64()?;
        let entries = cursor.u64()?;
        let directory_size = cursor.u64()?;
        let directory_offset = cursor.u64()?;
        Some(End { record_offset, directory_offset, directory_size, entries, trailing: end.trailing })
    })();
    Ok(parsed.map(Some).ok_or_else(|| {
        Problem::Misplaced(format!(
            "the archive's 64-bit end record is not at {record_offset}, where its locator points"
        ))
    }))
}

fn parse_directory(bytes: &[u8], announced: u64) -> Result<Vec<Entry>, String> {
    let mut cursor = Cursor::new(bytes);
    let most = bytes.len() / DIRECTORY_HEADER_BYTES;
    let mut entries = Vec::with_capacity(usize::try_from(announced).unwrap_or(most).min(most));
    while cursor.remaining() > 0 && (entries.len() as u64) < announced {
        let position = cursor.position();
        let entry = parse_entry(&mut cursor)
            .ok_or_else(|| format!("the archive's directory is damaged at entry {}, byte {position}", entries.len()))?;
        entries.push(entry);
    }
    if (entries.len() as u64) < announced {
        return Err(format!("the archive's directory lists {} of {announced} members", entries.len()));
    }
    Ok(entries)
}

fn parse_entry(cursor: &mut Cursor<'_>) -> Option<Entry> {
    (cursor.array::<4>()? == DIRECTORY_HEADER).then_some(())?;
    cursor.take(6)?;
    let method = match cursor.u16()? {
        0 => Method::Stored,
        8 => Method::Deflated,
        other => Method::Other(other),
    };
    cursor.u32()?;
    let crc = cursor.u32()?;
    let mut compressed = u64::from(cursor.u32()?);
    let mut size = u64::from(cursor.u32()?);
    let name_length = usize::from(cursor.u16()?);
    let extra_length = usize::from(cursor.u16()?);
    let comment_length = usize::from(cursor.u16()?);
    cursor.take(8)?;
    let mut header_offset = u64::from(cursor.u32()?);
    let name = cursor.take(name_length)?;
    // Checking a name that is text, as nearly all are, is several times faster than repairing it.
    let name = std::str::from_utf8(name).map_or_else(|_| String::from_utf8_lossy(name).into(), Arc::from);
    let mut extra = Cursor::new(cursor.take(extra_length)?);
    cursor.take(comment_length)?;
    while let (Some(id), Some(length)) = (extra.u16(), extra.u16()) {
        let mut field = Cursor::new(extra.take(usize::from(length))?);
        if id == 1 {
            for value in [&mut size, &mut compressed, &mut header_offset] {
                if *value == u64::from(u32::MAX) {
                    *value = field.u64()?;
                }
            }
        }
    }
    Some(Entry { name, method, crc, compressed, size, header_offset })
}

/// A member's local header, as far as its bytes must be found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalHeader {
    /// The name it repeats.
    pub name: String,
    /// Where the member's bytes start.
    pub data_offset: u64,
    /// How it says they are stored.
    pub method: u16,
}

impl LocalHeader {
    /// Whether it names the member that the directory says is here.
    #[must_use]
    pub fn is_of(&self, entry: &Entry) -> bool {
        // A name longer than what is read of a header is compared as far as it was read, less a cut character.
        let shown = self.name.trim_end_matches(char::REPLACEMENT_CHARACTER);
        self.name == *entry.name || (shown.len() > LOCAL_NAME_SHOWN && entry.name.starts_with(shown))
    }
}

/// Reads the local header at `offset`; `None` when there is none.
///
/// # Errors
/// The source cannot be read.
pub fn local_header(source: &dyn ReadAt, offset: u64) -> io::Result<Option<LocalHeader>> {
    let bytes = read_up_to(source, offset, LOCAL_WINDOW)?;
    Ok((|| {
        let mut cursor = Cursor::new(&bytes);
        (cursor.array::<4>()? == LOCAL_HEADER).then_some(())?;
        cursor.take(4)?;
        let method = cursor.u16()?;
        cursor.take(16)?;
        let name_length = cursor.u16()?;
        let extra_length = cursor.u16()?;
        let shown = usize::from(name_length).min(cursor.remaining());
        if shown < usize::from(name_length) && bytes.len() < LOCAL_WINDOW {
            return None;
        }
        let name = String::from_utf8_lossy(cursor.take(shown)?).into_owned();
        let data_offset = offset
            .checked_add(LOCAL_BYTES)?
            .checked_add(u64::from(name_length))?
            .checked_add(u64::from(extra_length))?;
        Some(LocalHeader { name, data_offset, method })
    })())
}

impl Archive {
    /// The member of exactly this name; of several, the last.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Entry> {
        self.by_name.get(name).and_then(|&index| self.entries.get(index))
    }

    /// Names that stand in the directory more than once. Loaders disagree on which one they read.
    #[must_use]
    pub fn duplicates(&self) -> &[String] {
        &self.duplicates
    }

    /// The members that do not lie between the start of the file and the directory.
    pub fn outside(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter().filter(|entry| {
            entry
                .header_offset
                .checked_add(LOCAL_BYTES)
                .and_then(|start| start.checked_add(entry.compressed))
                .is_none_or(|stop| stop > self.directory_offset)
        })
    }
}

/// What was found where a member's bytes should be.
#[derive(Debug, PartialEq, Eq)]
pub enum Member {
    /// All of its bytes, with the checksum computed over them.
    Whole {
        /// The bytes, unpacked.
        bytes: Vec<u8>,
        /// Their CRC-32.
        crc: u32,
    },
    /// They are not where the directory says, end early, or do not unpack.
    Damaged(String),
    /// They pass `limit`.
    TooLarge,
    /// They are packed in a way that is not read here.
    Unsupported(u16),
}

/// Reads a whole member of at most `limit` bytes.
///
/// # Errors
/// The source cannot be read.
pub fn member(source: &dyn ReadAt, entry: &Entry, limit: u64) -> io::Result<Member> {
    if entry.size > limit || entry.compressed > limit {
        return Ok(Member::TooLarge);
    }
    let Some(header) = local_header(source, entry.header_offset)? else {
        return Ok(Member::Damaged(format!("no member header for `{}` at {}", entry.name, entry.header_offset)));
    };
    let length = usize::try_from(entry.compressed).unwrap_or(usize::MAX);
    let bytes = read_up_to(source, header.data_offset, length)?;
    if bytes.len() != length {
        return Ok(Member::Damaged(format!("`{}` ends after {} of {length} bytes", entry.name, bytes.len())));
    }
    let bytes = match entry.method {
        Method::Stored => bytes,
        Method::Other(method) => return Ok(Member::Unsupported(method)),
        Method::Deflated => {
            let limit = usize::try_from(limit).unwrap_or(usize::MAX);
            match miniz_oxide::inflate::decompress_to_vec_with_limit(&bytes, limit) {
                Ok(bytes) => bytes,
                Err(_) => return Ok(Member::Damaged(format!("`{}` does not unpack", entry.name))),
            }
        }
    };
    if bytes.len() as u64 != entry.size {
        return Ok(Member::Damaged(format!(
            "`{}` has {} bytes, its directory entry says {}",
            entry.name,
            bytes.len(),
            entry.size
        )));
    }
    let crc = crc32fast::hash(&bytes);
    Ok(Member::Whole { bytes, crc })
}
