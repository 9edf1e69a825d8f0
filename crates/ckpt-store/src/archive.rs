//! A zip archive as PyTorch's own writer lays it out; only the parts of the format that it uses.

use std::io::Write;
use std::path::Path;

use ckpt_core::ErrorKind;
use ckpt_core::read::{ReadAt, stream};

use crate::error::{Error, Result};

const ALIGNMENT: u64 = 64;
/// From here on sizes and offsets need the 64-bit fields.
const WIDE: u64 = 0xffff_ffff;

struct Entry {
    name: String,
    crc: u32,
    size: u64,
    offset: u64,
}

/// An archive that is being written.
pub(crate) struct Archive<'a> {
    out: &'a mut dyn Write,
    path: &'a Path,
    position: u64,
    entries: Vec<Entry>,
}

impl<'a> Archive<'a> {
    /// An empty one; `path` is what errors are about.
    pub(crate) fn new(out: &'a mut dyn Write, path: &'a Path) -> Self {
        Self { out, path, position: 0, entries: Vec::new() }
    }

    fn put(&mut self, bytes: &[u8]) -> Result<()> {
        self.out.write_all(bytes).map_err(|error| Error::io("write", self.path, error))?;
        self.position += bytes.len() as u64;
        Ok(())
    }

    /// A member with the bytes of `from`.
    pub(crate) fn member(
        &mut self,
        name: &str,
        from: &dyn ReadAt,
        from_path: &Path,
        advance: &dyn Fn(u64),
    ) -> Result<()> {
        let size = from.size();
        let mut member = self.begin(name, size)?;
        let mut written = Ok(());
        let is_whole = stream(from, 0, size, |part| {
            if written.is_ok() {
                written = member.put(part);
            }
            advance(part.len() as u64);
        })
        .map_err(|error| Error::io("read", from_path, error))?;
        written?;
        if !is_whole {
            return Err(Error::new(ErrorKind::Incomplete, from_path, "it became shorter while it was read:"));
        }
        member.end()
    }

    /// Begins a member of exactly `size` bytes, as PyTorch's writer makes it: sizes and checksum in a descriptor after the
    /// bytes, a padding field before.
    pub(crate) fn begin<'b>(&'b mut self, name: &str, size: u64) -> Result<Member<'a, 'b>> {
        let offset = self.position;
        let header = local_header(name, size, offset).ok_or_else(|| too_long(self.path))?;
        self.put(&header)?;
        let entry = Entry { name: name.to_owned(), crc: 0, size, offset };
        Ok(Member { start: self.position, archive: self, entry, hasher: crc32fast::Hasher::new() })
    }

    /// Writes the directory.
    pub(crate) fn finish(mut self) -> Result<()> {
        let start = self.position;
        let entries = std::mem::take(&mut self.entries);
        for entry in &entries {
            let record = directory_record(entry).ok_or_else(|| too_long(self.path))?;
            self.put(&record)?;
        }
        self.put(&end(entries.len() as u64, start, self.position - start))
    }
}

/// A member that is being written.
pub(crate) struct Member<'a, 'b> {
    archive: &'b mut Archive<'a>,
    entry: Entry,
    start: u64,
    hasher: crc32fast::Hasher,
}

impl Member<'_, '_> {
    /// Writes its next bytes.
    pub(crate) fn put(&mut self, bytes: &[u8]) -> Result<()> {
        self.hasher.update(bytes);
        self.archive.put(bytes)
    }

    /// Ends it.
    pub(crate) fn end(self) -> Result<()> {
        let Self { archive, mut entry, start, hasher } = self;
        if archive.position - start != entry.size {
            let message = format!("{} bytes were announced of `{}` and others written to", entry.size, entry.name);
            return Err(Error::new(ErrorKind::Internal, archive.path, message));
        }
        entry.crc = hasher.finalize();
        archive.put(&descriptor(entry.crc, entry.size, entry.offset))?;
        archive.entries.push(entry);
        Ok(())
    }
}

fn too_long(path: &Path) -> Error {
    Error::new(ErrorKind::Unsupported, path, "a member's name is too long for")
}

/// What stands before a member's bytes, which then begin at a multiple of [`ALIGNMENT`].
fn local_header(name: &str, size: u64, offset: u64) -> Option<Vec<u8>> {
    let wide_fields = wide_fields(size, offset);
    let before = offset + 30 + name.len() as u64 + wide_fields.len() as u64 + 4;
    let padding = before.next_multiple_of(ALIGNMENT) - before;
    let mut header = Vec::with_capacity(256);
    header.extend(b"PK\x03\x04");
    // Version 0, flags: descriptor follows, name is UTF-8; method: stored; no time; checksum and sizes follow.
    header.extend([0, 0, 0x08, 0x08, 0, 0, 0, 0, 0, 0]);
    header.extend([0; 12]);
    header.extend(u16::try_from(name.len()).ok()?.to_le_bytes());
    header.extend(u16::try_from(wide_fields.len() as u64 + 4 + padding).ok()?.to_le_bytes());
    header.extend(name.as_bytes());
    header.extend(&wide_fields);
    header.extend(b"FB");
    header.extend(u16::try_from(padding).ok()?.to_le_bytes());
    header.extend(std::iter::repeat_n(b'Z', usize::try_from(padding).ok()?));
    Some(header)
}

/// What stands after a member's bytes. Its sizes have 64 bits where the header has a 64-bit field.
fn descriptor(crc: u32, size: u64, offset: u64) -> Vec<u8> {
    let mut descriptor = b"PK\x07\x08".to_vec();
    descriptor.extend(crc.to_le_bytes());
    for _ in 0..2 {
        if wide_fields(size, offset).is_empty() {
            descriptor.extend(narrow(size).to_le_bytes());
        } else {
            descriptor.extend(size.to_le_bytes());
        }
    }
    descriptor
}

fn directory_record(entry: &Entry) -> Option<Vec<u8>> {
    let extra = wide_fields(entry.size, entry.offset);
    let mut record = b"PK\x01\x02".to_vec();
    record.extend([0, 0, 0, 0, 0x08, 0x08, 0, 0, 0, 0, 0, 0]);
    record.extend(entry.crc.to_le_bytes());
    record.extend(narrow(entry.size).to_le_bytes());
    record.extend(narrow(entry.size).to_le_bytes());
    record.extend(u16::try_from(entry.name.len()).ok()?.to_le_bytes());
    record.extend(u16::try_from(extra.len()).ok()?.to_le_bytes());
    record.extend([0; 10]);
    record.extend(narrow(entry.offset).to_le_bytes());
    record.extend(entry.name.as_bytes());
    record.extend(extra);
    Some(record)
}

/// The end of an archive: the 64-bit record, where to find it, the 32-bit record.
fn end(count: u64, start: u64, size: u64) -> Vec<u8> {
    let mut end = b"PK\x06\x06".to_vec();
    end.extend(44_u64.to_le_bytes());
    end.extend([0x1e, 0x03, 0x2d, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    for field in [count, count, size, start] {
        end.extend(field.to_le_bytes());
    }
    end.extend(b"PK\x06\x07");
    end.extend(0_u32.to_le_bytes());
    end.extend((start + size).to_le_bytes());
    end.extend(1_u32.to_le_bytes());
    end.extend(b"PK\x05\x06");
    end.extend([0; 4]);
    let short_count = u16::try_from(count).unwrap_or(u16::MAX);
    end.extend(short_count.to_le_bytes());
    end.extend(short_count.to_le_bytes());
    end.extend(narrow(size).to_le_bytes());
    end.extend(narrow(start).to_le_bytes());
    end.extend([0; 2]);
    end
}

/// The zip64 field, where the 32-bit ones do not suffice: size twice, then offset, each only where needed.
fn wide_fields(size: u64, offset: u64) -> Vec<u8> {
    let mut values = Vec::new();
    if size >= WIDE {
        values.extend(size.to_le_bytes());
        values.extend(size.to_le_bytes());
    }
    if offset >= WIDE {
        values.extend(offset.to_le_bytes());
    }
    if values.is_empty() {
        return values;
    }
    let mut field = vec![1, 0];
    field.extend(u16::try_from(values.len()).unwrap_or(0).to_le_bytes());
    field.extend(values);
    field
}

fn narrow(value: u64) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The values of the zip64 field in an extra block.
    fn zip64(mut extra: &[u8]) -> Option<Vec<u64>> {
        while extra.len() >= 4 {
            let length = usize::from(u16::from_le_bytes([extra[2], extra[3]]));
            if extra[..2] == [1, 0] {
                let values = extra[4..4 + length].chunks(8);
                return Some(values.map(|value| u64::from_le_bytes(value.try_into().unwrap())).collect());
            }
            extra = &extra[4 + length..];
        }
        None
    }

    fn extra_of(header: &[u8], fixed: usize, name: usize) -> &[u8] {
        let length = usize::from(u16::from_le_bytes([header[fixed - 2], header[fixed - 1]]));
        &header[fixed + name..fixed + name + length]
    }

    #[test]
    fn every_member_begins_at_a_multiple_of_64() {
        for offset in (0..300).chain((1 << 32) - 200..(1 << 32) + 200) {
            for size in [0, 5, WIDE - 1, WIDE, 1 << 40] {
                let header = local_header("root/data/12", size, offset).unwrap();
                assert_eq!((offset + header.len() as u64) % ALIGNMENT, 0, "{offset} {size}");
            }
        }
    }

    #[test]
    fn sizes_and_offsets_beyond_32_bits_stand_in_the_zip64_field_and_only_those() {
        let wide = 5 << 32;
        let record =
            |size, offset| directory_record(&Entry { name: "r/data/0".to_owned(), crc: 7, size, offset }).unwrap();
        for (size, offset, expected) in [
            (9, 9, None),
            (WIDE - 1, WIDE - 1, None),
            (WIDE, 9, Some(vec![WIDE, WIDE])),
            (9, wide, Some(vec![wide])),
            (wide, wide + 1, Some(vec![wide, wide, wide + 1])),
        ] {
            let record = record(size, offset);
            let extra = u16::from_le_bytes([record[30], record[31]]);
            assert_eq!(record.len(), 46 + 8 + usize::from(extra));
            assert_eq!(zip64(&record[54..]), expected, "{size} {offset}");
            let stored = |at: usize| u32::from_le_bytes(record[at..at + 4].try_into().unwrap());
            let is_wide = |value: u64| value >= WIDE;
            assert_eq!(stored(20) == u32::MAX, is_wide(size));
            assert_eq!(stored(24) == u32::MAX, is_wide(size));
            assert_eq!(stored(42) == u32::MAX, is_wide(offset));
            let header = local_header("r/data/0", size, offset).unwrap();
            assert_eq!(zip64(extra_of(&header, 30, 8)), expected, "{size} {offset}");
            let sizes = if expected.is_some() { 16 } else { 8 };
            assert_eq!(descriptor(1, size, offset).len(), 8 + sizes, "{size} {offset}");
        }
    }

    #[test]
    fn the_end_record_tells_more_members_and_bytes_than_32_bits_hold() {
        let end = end(70_000, 6 << 32, 1 << 20);
        let long = |at: usize| u64::from_le_bytes(end[at..at + 8].try_into().unwrap());
        assert_eq!((long(24), long(32), long(40), long(48)), (70_000, 70_000, 1 << 20, 6 << 32));
        assert_eq!(long(56 + 8), (6 << 32) + (1 << 20));
        assert_eq!(&end[76..80], b"PK\x05\x06");
        assert_eq!(&end[84..88], [0xff; 4]);
    }

    #[test]
    fn a_name_longer_than_the_format_allows_is_refused() {
        assert!(local_header(&"x".repeat(65_536), 1, 0).is_none());
    }
}
