//! Packs a `torch.save` archive again that Kaggle unpacked into a directory.
//!
//! The members go back as PyTorch's own writer puts them: `data.pkl` first, nothing compressed, every member's bytes
//! aligned to 64, so that `torch.load(mmap=True)` works too. `version`, without which torch.load refuses an archive, is
//! added where it was lost. The same members always give the same bytes.

use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use ckpt_core::ErrorKind;
use ckpt_core::finding::{Code, Severity};
use ckpt_core::members::Members;
use ckpt_core::progress::{Progress, Unit};
use ckpt_core::read::ReadAt;

use crate::archive::Archive;
use crate::atomic::{self, Replacing, Temporary};
use crate::error::{Error, Result};
use crate::fs::{self, DirectoryMembers, FileReader, Occupant, Sink};
use crate::inspect::{self, parent};

const BUFFER_BYTES: usize = 1 << 20;

/// Packs the directory `from` into the new file `to`.
///
/// # Errors
/// `from` is no unpacked archive, is incomplete, or would run dangerous code; [`ErrorKind::AlreadyExists`]: something is
/// at `to`; [`ErrorKind::NoSpace`]; [`ErrorKind::Corrupt`]: what was written differs from the members.
pub fn repack(from: &Path, to: &Path, progress: &dyn Progress) -> Result<()> {
    let members = DirectoryMembers::open(from)?;
    let inspection = inspect::inspect(&inspect::candidate(from)?)?;
    if let Some(finding) = inspection.findings.iter().find(|finding| finding.severity == Severity::Error) {
        let kind = if finding.code == Code::Unsafe { ErrorKind::Refused } else { ErrorKind::Incomplete };
        return Err(Error::new(kind, from, format!("not packed, because {}:", finding.message)));
    }
    if let Some(problem) = members.problem() {
        return Err(Error::new(ErrorKind::Incomplete, from, format!("not packed, because {problem}:")));
    }
    if fs::occupant(to)? != Occupant::Nothing {
        return Err(Error::new(ErrorKind::AlreadyExists, to, "not packed over what is there:"));
    }
    atomic::clean(parent(to))?;
    let total = members.list().values().fold(0_u64, |total, size| total.saturating_add(*size));
    let free = fs::free_bytes(parent(to))?;
    if free < total {
        let message = format!("{total} bytes are needed and {free} are free; nothing was packed to");
        return Err(Error::new(ErrorKind::NoSpace, parent(to), message));
    }
    let files = members.list().keys().filter_map(|name| Some((name.clone(), from.join(members.relative_path(name)?))));
    progress.begin("packing", total, Unit::Bytes);
    let packed = pack(&files.collect::<Vec<_>>(), to, &|count| progress.advance(count));
    progress.end();
    packed?.commit(&Replacing::Nothing)
}

/// Packs members, which are names relative to the unpacked directory with what holds them, into a temporary beside
/// `target`: durable, read back and compared.
pub(crate) fn pack(members: &[(String, PathBuf)], target: &Path, advance: &dyn Fn(u64)) -> Result<Temporary> {
    let temporary = Temporary::file(target)?;
    let mut out = BufWriter::with_capacity(BUFFER_BYTES, Sink(temporary.handle()));
    write(members, target, &mut out, advance)?;
    drop(out);
    temporary.sync()?;
    if is_packed(members, target, &FileReader::of(temporary.handle(), temporary.path())?)? {
        return Ok(temporary);
    }
    let message = "what was written differs from the members, which changed meanwhile or lie on a failing disk:";
    Err(Error::new(ErrorKind::Corrupt, target, message))
}

/// Whether `file` is what packing the members into `target` gives.
pub(crate) fn is_packed(members: &[(String, PathBuf)], target: &Path, file: &FileReader) -> Result<bool> {
    let mut comparison = Comparison { file, position: 0, differs: false };
    let written = write(members, target, &mut BufWriter::with_capacity(BUFFER_BYTES, &mut comparison), &|_| ());
    match written {
        Err(_) if comparison.differs => Ok(false),
        Err(error) => Err(error),
        Ok(()) => Ok(comparison.position == file.size()),
    }
}

/// Takes what would be written and compares it with what a file holds.
struct Comparison<'a> {
    file: &'a FileReader,
    position: u64,
    differs: bool,
}

impl Write for Comparison<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let held = ckpt_core::read::read_up_to(self.file, self.position, bytes.len())?;
        if held != bytes {
            self.differs = true;
            return Err(std::io::ErrorKind::InvalidData.into());
        }
        self.position += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
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

/// Writes the archive. Its root is the stem of `target`'s name.
fn write(members: &[(String, PathBuf)], target: &Path, out: &mut dyn Write, advance: &dyn Fn(u64)) -> Result<()> {
    let is_pickle = |name: &&str| *name == "data.pkl" || name.ends_with("/data.pkl");
    let main = members.iter().map(|(name, _)| name.as_str()).filter(is_pickle).min_by_key(|name| name.len());
    let Some(prefix) = main.and_then(|name| name.strip_suffix("data.pkl")) else {
        return Err(Error::new(ErrorKind::NotFound, target, "there is no data.pkl to pack into"));
    };
    let mut inside: Vec<(&str, &Path)> =
        members.iter().filter_map(|(name, path)| Some((name.strip_prefix(prefix)?, path.as_path()))).collect();
    inside.sort_by_key(|(name, _)| (order(name), *name));
    let stem = target.file_stem().unwrap_or_default().to_string_lossy();
    let root = if stem.is_empty() { "archive" } else { &stem };
    let mut archive = Archive::new(out, target);
    let has_version = inside.iter().any(|(name, _)| *name == "version");
    for (name, from) in inside {
        archive.member(&format!("{root}/{name}"), &FileReader::open(from)?, from, advance)?;
    }
    if !has_version {
        archive.member(&format!("{root}/version"), &b"3\n".as_slice(), target, advance)?;
    }
    archive.finish()?;
    // A buffer that is dropped would hide that its last bytes were not written.
    out.flush().map_err(|error| Error::io("write", target, error))
}
