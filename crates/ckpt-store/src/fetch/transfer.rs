//! Copying: temp, digests of source and copy compared, durable, renamed.

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use ckpt_core::ErrorKind;
use ckpt_core::progress::{Progress, Unit};
use ckpt_core::read::ReadAt;

use super::job::{Item, Job, Whole, changed};
use super::trimmed;
use crate::atomic::{Replacing, Temporary};
use crate::error::{Error, Result};
use crate::fs::{self, FileReader};
use crate::inspect::parent;
use crate::repack;

/// How much is read between two looks at whether the digest is still wanted.
const DIGEST_BYTES: usize = 8 << 20;
/// Smaller files are digested where they are: starting a thread takes longer.
const SMALL_BYTES: u64 = 256 << 10;
/// A file takes at least about so much space: its blocks and its entry.
const FILE_OVERHEAD: u64 = 4096;

/// A question to ask just before the commit.
type Check<'a> = &'a dyn Fn() -> Result<bool>;

/// Copies; false when the target is no longer `as seen` when all was ready for the commit.
pub(super) fn transfer(
    job: &Job,
    target: &Path,
    replacing: &Replacing,
    (is_unchanged, is_as_seen, progress): (Check<'_>, Check<'_>, &dyn Progress),
) -> Result<bool> {
    progress.begin("copying", job.total(), Unit::Bytes);
    let made = match job.whole {
        Whole::File => file(job, target, progress),
        Whole::Directory => directory(job, target, progress),
        Whole::Packed => packed(job, target, progress),
    };
    progress.end();
    let temporary = made?;
    if !is_unchanged()? {
        return Err(changed(job.items.first().map_or(target, |item| &item.from)));
    }
    if !is_as_seen()? {
        return Ok(false);
    }
    temporary.commit(replacing)?;
    Ok(true)
}

/// Whether the target holds the same files with the same bytes.
pub(super) fn is_there(job: &Job, target: &Path) -> Result<bool> {
    if job.whole == Whole::Packed {
        return match fs::status(target)?.is_file {
            true => repack::is_packed(&packed_members(job), target, &FileReader::open(target)?),
            false => Ok(false),
        };
    }
    for item in &job.items {
        let there = trimmed(&target.join(&item.to));
        match fs::status(&there) {
            Ok(status) if status.is_file && status.size == item.size => {}
            Ok(_) => return Ok(false),
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(error),
        }
    }
    for item in &job.items {
        let (from, there) = (FileReader::open(&item.from)?, FileReader::open(&trimmed(&target.join(&item.to)))?);
        let (left, right) = rayon::join(|| digest(&from), || digest(&there));
        let left = left.map_err(|error| Error::io("read", &item.from, error))?;
        if left != right.map_err(|error| Error::io("read", target, error))? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The space that is still needed; asked before the first byte is copied, and not where blocks are shared.
struct Space<'a> {
    directory: &'a Path,
    needed: u64,
    is_checked: bool,
}

impl<'a> Space<'a> {
    fn new(job: &Job, target: &'a Path) -> Self {
        let needed = job.items.iter().map(|item| item.size.saturating_add(FILE_OVERHEAD)).sum();
        Self { directory: parent(target), needed, is_checked: false }
    }

    fn check(&mut self) -> Result<()> {
        let free = if self.is_checked { u64::MAX } else { fs::free_bytes(self.directory)? };
        self.is_checked = true;
        if free < self.needed {
            let message = format!("{} bytes are needed and {free} are free; nothing was copied to", self.needed);
            return Err(Error::new(ErrorKind::NoSpace, self.directory, message));
        }
        Ok(())
    }

    fn spend(&mut self, item: &Item) {
        self.needed = self.needed.saturating_sub(item.size.saturating_add(FILE_OVERHEAD));
    }
}

fn file(job: &Job, target: &Path, progress: &dyn Progress) -> Result<Temporary> {
    let temporary = Temporary::file(target)?;
    for item in &job.items {
        copy_item(item, temporary.handle(), temporary.path(), (&mut Space::new(job, target), progress))?;
    }
    Ok(temporary)
}

fn directory(job: &Job, target: &Path, progress: &dyn Progress) -> Result<Temporary> {
    let temporary = Temporary::directory(target)?;
    let mut space = Space::new(job, target);
    let mut directories = BTreeSet::new();
    for item in &job.items {
        let to_path = temporary.path().join(&item.to);
        let below = parent(&to_path);
        if directories.insert(below.to_owned()) {
            fs::create_directories(below)?;
        }
        copy_item(item, &fs::create_new(&to_path)?, &to_path, (&mut space, progress))?;
    }
    directories.iter().try_for_each(|directory| fs::sync_directory(directory))?;
    temporary.sync()?;
    Ok(temporary)
}

fn packed(job: &Job, target: &Path, progress: &dyn Progress) -> Result<Temporary> {
    Space::new(job, target).check()?;
    repack::pack(&packed_members(job), target, &|count| progress.advance(count))
}

fn packed_members(job: &Job) -> Vec<(String, PathBuf)> {
    job.items.iter().map(|item| (item.name.clone(), item.from.clone())).collect()
}

/// Copies one file, makes it durable, and compares digests.
///
/// The source is digested while the kernel copies, the copy while the disk writes. The copy is not read back from the
/// disk itself: that a disk stored what it acknowledged, `fsync` tells.
fn copy_item(item: &Item, to: &File, to_path: &Path, (space, progress): (&mut Space<'_>, &dyn Progress)) -> Result<()> {
    let from = FileReader::open(&item.from)?;
    let copied =
        copy_durably((&from, &item.from), (to, to_path), || copy_bytes(&from, to, to_path, (&mut *space, progress)))?;
    space.spend(item);
    item.check(copied.into())
}

/// Runs `copy`, makes what it copied durable and compares it with its source; gives the digest of both.
pub(crate) fn copy_durably(
    (from, from_path): (&FileReader, &Path),
    (to, to_path): (&File, &Path),
    copy: impl FnOnce() -> Result<()>,
) -> Result<blake3::Hash> {
    let is_small = from.size() <= SMALL_BYTES;
    let (copied, source) = with_digest(from, is_small, copy);
    copied?;
    let (synced, copy) = with_digest(&FileReader::of(to, to_path)?, is_small, || fs::sync(to, to_path));
    synced?;
    let source = source.map_err(|error| Error::io("read", from_path, error))?;
    if source == copy.map_err(|error| Error::io("read the copy", to_path, error))? {
        return Ok(source);
    }
    let message = "the copy differs from its source, which changed meanwhile or lies on a failing disk:";
    Err(Error::new(ErrorKind::Corrupt, from_path, message))
}

/// Digests `file` while `work` is done; the digest is given up when the work fails.
fn with_digest(
    file: &FileReader,
    is_small: bool,
    work: impl FnOnce() -> Result<()>,
) -> (Result<()>, io::Result<blake3::Hash>) {
    if is_small {
        return (work(), digest(file));
    }
    let is_unwanted = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let digest = scope.spawn(|| digest_unless(file, &is_unwanted));
        let worked = work();
        is_unwanted.store(worked.is_err(), Ordering::Relaxed);
        (worked, digest.join().unwrap_or_else(|_| Err(io::Error::other("a thread died"))))
    })
}

fn copy_bytes(
    from: &FileReader,
    to: &File,
    to_path: &Path,
    (space, progress): (&mut Space<'_>, &dyn Progress),
) -> Result<()> {
    if fs::reflink(from, to, to_path)? {
        progress.advance(from.size());
    } else {
        space.check()?;
        fs::copy(from, to, to_path, |count| progress.advance(count))?;
    }
    Ok(())
}

/// The BLAKE3 digest of a file.
///
/// # Errors
/// It cannot be read.
pub fn digest(file: &FileReader) -> io::Result<blake3::Hash> {
    digest_unless(file, &AtomicBool::new(false))
}

fn digest_unless(file: &FileReader, is_unwanted: &AtomicBool) -> io::Result<blake3::Hash> {
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; DIGEST_BYTES.min(usize::try_from(file.size()).unwrap_or(usize::MAX))];
    let mut offset = 0;
    while offset < file.size() && !is_unwanted.load(Ordering::Relaxed) {
        match file.read_at(offset, &mut buffer) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => {
                hasher.update_rayon(&buffer[..count]);
                offset += count as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(hasher.finalize())
}
