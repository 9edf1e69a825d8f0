//! Packs a `torch.save` archive again that Kaggle unpacked into a directory.
//!
//! The members go back as PyTorch's own writer puts them: `data.pkl` first, nothing compressed, every member's bytes
//! aligned to 64, so that `torch.load(mmap=True)` works too. `version`, without which torch.load refuses an archive, is
//! added where it was lost.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use ckpt_core::ErrorKind;
use ckpt_core::members::Members;
use ckpt_core::progress::{Progress, Unit};
use ckpt_core::read::{ReadAt, stream};

use crate::atomic::{Replacing, Temporary};
use crate::error::{Error, Result};
use crate::fs::{DirectoryMembers, FileReader};
use crate::inspect;

const ALIGNMENT: u64 = 64;
/// From here on sizes and offsets need the 64-bit fields.
const WIDE: u64 = 0xffff_ffff;

/// Packs the directory `from` into the new file `to`.
///
/// # Errors
/// `from` is no unpacked archive, is incomplete, or `to` exists.
pub fn repack(from: &Path, to: &Path, progress: &dyn Progress) -> Result<()> {
    let members = DirectoryMembers::open(from)?;
    let inspection = inspect::inspect(&inspect::candidate(from)?)?;
    if let Some(finding) =
        inspection.findings.iter().find(|finding| finding.severity == ckpt_core::finding::Severity::Error)
    {
        let kind =
            if finding.code == ckpt_core::finding::Code::Unsafe { ErrorKind::Refused } else { ErrorKind::Incomplete };
        return Err(Error::new(kind, from, format!("not packed, because {}:", finding.message)));
    }
    progress.begin("packing", members.list().values().sum(), Unit::Bytes);
    let temporary = Temporary::file(to)?;
    let files: Vec<(String, PathBuf)> = members.list().keys().map(|name| (name.clone(), from.join(name))).collect();
    write(&files, to, temporary.handle(), temporary.path(), &|count| progress.advance(count))?;
    temporary.sync()?;
    temporary.commit(&Replacing::Nothing)?;
    progress.end();
    Ok(())
}

/// The order in which PyTorch writes: the pickle, facts about the archive, storages by number, version, identity.
fn order(name: &str) -> (u8, u64) {
    match name {
        "data.pkl" => (0, 0),
        ".format_version" => (1, 0),
        ".storage_alignment" => (2, 0),
        "byteorder" => (3, 0),
        "version" => (5, 0),
        ".data/serialization_id" => (6, 0),
        _ => match name.strip_prefix("data/").map(str::parse) {
            Some(Ok(number)) => (4, number),
            _ => (4, u64::MAX),
        },
    }
}

/// Writes the archive. `members` are names relative to the unpacked directory, with what holds them.
pub(crate) fn write(
    members: &[(String, PathBuf)],
    target: &Path,
    file: &File,
    path: &Path,
    advance: &dyn Fn(u64),
) -> Result<()> {
    let main = members
        .iter()
        .map(|(name, _)| name.as_str())
        .filter(|name| name.ends_with("data.pkl"))
        .min_by_key(|name| name.len());
    let Some(prefix) = main.and_then(|name| name.strip_suffix("data.pkl")) else {
        return Err(Error::new(ErrorKind::NotFound, target, "there is no data.pkl to pack into"));
    };
    let mut inside: Vec<(&str, &Path)> =
        members.iter().filter_map(|(name, path)| Some((name.strip_prefix(prefix)?, path.as_path()))).collect();
    inside.sort_by_key(|(name, _)| (order(name), *name));
    let stem = target.file_stem().unwrap_or_default().to_string_lossy();
    let root = if stem.is_empty() { "archive" } else { &stem };
    let mut archive =
        Writer { out: std::io::BufWriter::with_capacity(1 << 20, file), path, position: 0, entries: Vec::new() };
    let has_version = inside.iter().any(|(name, _)| *name == "version");
    for (name, from) in inside {
        archive.member(&format!("{root}/{name}"), &FileReader::open(from)?, from, advance)?;
    }
    if !has_version {
        archive.member(&format!("{root}/version"), &b"3\n".as_slice(), target, advance)?;
    }
    archive.finish()
}

struct Entry {
    name: String,
    crc: u32,
    size: u64,
    offset: u64,
}

struct Writer<'a> {
    out: std::io::BufWriter<&'a File>,
    path: &'a Path,
    position: u64,
    entries: Vec<Entry>,
}

impl Writer<'_> {
    fn put(&mut self, bytes: &[u8]) -> Result<()> {
        self.out.write_all(bytes).map_err(|error| Error::io("write", self.path, error))?;
        self.position += bytes.len() as u64;
        Ok(())
    }

    /// A member as PyTorch's writer makes it: sizes and checksum in a descriptor after the bytes, a padding field before.
    fn member(&mut self, name: &str, from: &dyn ReadAt, from_path: &Path, advance: &dyn Fn(u64)) -> Result<()> {
        let offset = self.position;
        let size = from.size();
        let wide_fields = wide_fields(size, offset);
        let name_bytes = name.as_bytes();
        let before = offset + 30 + name_bytes.len() as u64 + wide_fields.len() as u64 + 4;
        let padding = before.next_multiple_of(ALIGNMENT) - before;
        let extra = u16::try_from(wide_fields.len() as u64 + 4 + padding).unwrap_or(u16::MAX);
        let mut header = Vec::with_capacity(128);
        header.extend(b"PK\x03\x04");
        // Version 0, flags: descriptor follows, name is UTF-8; method: stored; no time; checksum and sizes follow.
        header.extend([0, 0, 0x08, 0x08, 0, 0, 0, 0, 0, 0]);
        header.extend([0; 12]);
        header.extend(short(name_bytes.len(), self.path)?.to_le_bytes());
        header.extend(extra.to_le_bytes());
        header.extend(name_bytes);
        header.extend(&wide_fields);
        header.extend(b"FB");
        header.extend(u16::try_from(padding).unwrap_or(0).to_le_bytes());
        header.extend(std::iter::repeat_n(b'Z', usize::try_from(padding).unwrap_or(0)));
        self.put(&header)?;
        let mut hasher = crc32fast::Hasher::new();
        let mut written = Ok(());
        let is_whole = stream(from, 0, size, |part| {
            hasher.update(part);
            if written.is_ok() {
                written = self.put(part);
            }
            advance(part.len() as u64);
        })
        .map_err(|error| Error::io("read", from_path, error))?;
        written?;
        if !is_whole {
            return Err(Error::new(ErrorKind::Incomplete, from_path, "it became shorter while it was read:"));
        }
        let crc = hasher.finalize();
        let mut descriptor = b"PK\x07\x08".to_vec();
        descriptor.extend(crc.to_le_bytes());
        for _ in 0..2 {
            if wide_fields.is_empty() {
                descriptor.extend(narrow(size).to_le_bytes());
            } else {
                descriptor.extend(size.to_le_bytes());
            }
        }
        self.put(&descriptor)?;
        self.entries.push(Entry { name: name.to_owned(), crc, size, offset });
        Ok(())
    }

    fn finish(mut self) -> Result<()> {
        let start = self.position;
        let entries = std::mem::take(&mut self.entries);
        for entry in &entries {
            let extra = wide_fields(entry.size, entry.offset);
            let mut record = b"PK\x01\x02".to_vec();
            record.extend([0, 0, 0, 0, 0x08, 0x08, 0, 0, 0, 0, 0, 0]);
            record.extend(entry.crc.to_le_bytes());
            record.extend(narrow(entry.size).to_le_bytes());
            record.extend(narrow(entry.size).to_le_bytes());
            record.extend(short(entry.name.len(), self.path)?.to_le_bytes());
            record.extend(short(extra.len(), self.path)?.to_le_bytes());
            record.extend([0; 10]);
            record.extend(narrow(entry.offset).to_le_bytes());
            record.extend(entry.name.as_bytes());
            record.extend(extra);
            self.put(&record)?;
        }
        let size = self.position - start;
        let count = entries.len() as u64;
        let record_offset = self.position;
        let mut end = b"PK\x06\x06".to_vec();
        end.extend(44_u64.to_le_bytes());
        end.extend([0x1e, 0x03, 0x2d, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        for field in [count, count, size, start] {
            end.extend(field.to_le_bytes());
        }
        end.extend(b"PK\x06\x07");
        end.extend(0_u32.to_le_bytes());
        end.extend(record_offset.to_le_bytes());
        end.extend(1_u32.to_le_bytes());
        end.extend(b"PK\x05\x06");
        end.extend([0; 4]);
        let short_count = u16::try_from(count).unwrap_or(u16::MAX);
        end.extend(short_count.to_le_bytes());
        end.extend(short_count.to_le_bytes());
        end.extend(narrow(size).to_le_bytes());
        end.extend(narrow(start).to_le_bytes());
        end.extend([0; 2]);
        self.put(&end)?;
        self.out.flush().map_err(|error| Error::io("write", self.path, error))
    }
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

fn short(value: usize, path: &Path) -> Result<u16> {
    u16::try_from(value).map_err(|_| Error::new(ErrorKind::Unsupported, path, "a member's name is too long for"))
}
