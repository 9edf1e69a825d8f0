//! The only door to the file system: every error carries its path, and nothing else in this crate changes a file.
//!
//! This file looks, `change.rs` changes, and `members.rs` sees a directory as one checkpoint.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use ckpt_core::ErrorKind;
use ckpt_core::read::ReadAt;
use rustix::io::Errno;

use crate::error::{Error, Result};

mod change;
#[cfg(test)]
pub(crate) mod fault;
mod members;
mod stream;

pub use change::{
    Lock, Sink, copy, create_directories, create_directory_locked, create_locked, create_new, hard_link, has_locks,
    lock_file, make_link, process_is_alive, read_link, reflink, remove, remove_leftover, rename_aside, rename_exchange,
    rename_new, rename_new_in_one_step, rename_over, sync, sync_directory, sync_directory_if_able, write_all,
};
pub use members::DirectoryMembers;
pub use stream::write_parts;

/// Where a test makes the system refuse; see `fault.rs`.
#[cfg(not(test))]
#[expect(clippy::unnecessary_wraps, reason = "it fails under test")]
#[inline]
fn point() -> io::Result<()> {
    Ok(())
}
/// How much of a write the system takes; see `fault.rs`.
#[cfg(not(test))]
#[expect(clippy::unnecessary_wraps, reason = "it fails under test")]
#[inline]
fn allowed(count: usize) -> io::Result<usize> {
    Ok(count)
}
/// Where a removal ends half way; see `fault.rs`.
#[cfg(not(test))]
#[expect(clippy::unnecessary_wraps, reason = "it fails under test")]
#[inline]
fn point_of_removal(_: &Path) -> io::Result<()> {
    Ok(())
}
#[cfg(test)]
use fault::{allowed, point, point_of_removal};

/// A file open for reading at any offset.
#[derive(Debug)]
pub struct FileReader {
    file: File,
    size: u64,
}

impl FileReader {
    /// Opens a regular file.
    ///
    /// # Errors
    /// It is not there, not a regular file, or may not be read.
    pub fn open(path: &Path) -> Result<Self> {
        match open_regular(path) {
            Ok(reader) => Ok(reader),
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
                Err(Error::new(ErrorKind::Invalid, path, "not a regular file:"))
            }
            Err(error) => Err(Error::io("open", path, error)),
        }
    }

    /// Tells the system that a few places of a large file will be read and not what follows them: without that it reads
    /// megabytes ahead from a cold disk.
    #[must_use]
    pub fn for_facts(self) -> Self {
        if let Err(error) = rustix::fs::fadvise(&self.file, 0, None, rustix::fs::Advice::Random) {
            tracing::debug!(%error, "no advice taken");
        }
        self
    }

    /// The open file.
    #[must_use]
    pub fn handle(&self) -> &File {
        &self.file
    }

    /// Reads what `file` holds now.
    ///
    /// # Errors
    /// The system refuses a second handle on it.
    pub fn of(file: &File, path: &Path) -> Result<Self> {
        let file = file.try_clone().map_err(|error| Error::io("open", path, error))?;
        let size = file.metadata().map_err(|error| Error::io("look at", path, error))?.len();
        Ok(Self { file, size })
    }
}

/// Opens a regular file; [`io::ErrorKind::InvalidInput`] for anything else.
fn open_regular(path: &Path) -> io::Result<FileReader> {
    point()?;
    // Opening a FIFO for reading would wait for a writer for ever.
    let file = OpenOptions::new().read(true).custom_flags(flags(rustix::fs::OFlags::NONBLOCK)).open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    Ok(FileReader { file, size: metadata.len() })
}

fn flags(flags: rustix::fs::OFlags) -> i32 {
    i32::try_from(flags.bits()).unwrap_or(0)
}

impl ReadAt for FileReader {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        self.file.read_at(buffer, offset)
    }
}

/// What the file system says about a path, links followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status {
    /// Whether it is a directory.
    pub is_directory: bool,
    /// Whether it is a regular file.
    pub is_file: bool,
    /// Size in bytes.
    pub size: u64,
    /// Time of the last modification, in nanoseconds since 1970.
    pub modified_ns: i64,
    /// Time of the last change of contents or attributes, in nanoseconds since 1970.
    pub changed_ns: i64,
    /// Device and inode.
    pub identity: (u64, u64),
}

impl Status {
    fn of(metadata: &fs::Metadata) -> Self {
        let nanoseconds = |seconds: i64, rest: i64| seconds.saturating_mul(1_000_000_000).saturating_add(rest);
        Self {
            is_directory: metadata.is_dir(),
            is_file: metadata.is_file(),
            size: metadata.len(),
            modified_ns: nanoseconds(metadata.mtime(), metadata.mtime_nsec()),
            changed_ns: nanoseconds(metadata.ctime(), metadata.ctime_nsec()),
            identity: (metadata.dev(), metadata.ino()),
        }
    }
}

/// Looks at a path, links followed.
///
/// # Errors
/// It is not there, or may not be looked at.
pub fn status(path: &Path) -> Result<Status> {
    let metadata = point().and_then(|()| fs::metadata(path)).map_err(|error| Error::io("look at", path, error))?;
    Ok(Status::of(&metadata))
}

/// What a name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Occupant {
    /// The name is free.
    Nothing,
    /// A link to nowhere, or one that goes in circles.
    DeadLink,
    /// A file, a directory, or something else that exists, links followed.
    Something(Status),
}

/// Looks at what a name stands for.
///
/// # Errors
/// It may not be looked at: whether the name is free is not known.
pub fn occupant(path: &Path) -> Result<Occupant> {
    let refuse = |error| Err(Error::io("look at", path, error));
    let is_dead = |error: &io::Error| {
        error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(Errno::LOOP.raw_os_error())
    };
    match point().and_then(|()| fs::metadata(path)) {
        Ok(metadata) => Ok(Occupant::Something(Status::of(&metadata))),
        Err(error) if is_dead(&error) => match fs::symlink_metadata(path) {
            Ok(_) => Ok(Occupant::DeadLink),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Occupant::Nothing),
            Err(error) => refuse(error),
        },
        Err(error) => refuse(error),
    }
}

/// The path without links and dots.
///
/// # Errors
/// It is not there, or may not be looked at.
pub fn canonical(path: &Path) -> Result<PathBuf> {
    fs::canonicalize(path).map_err(|error| Error::io("look at", path, error))
}

/// The entries of a directory, sorted by name: name and whether it is a link.
///
/// # Errors
/// It cannot be listed, or no longer.
pub fn list(path: &Path) -> Result<Vec<(OsString, bool)>> {
    let mut entries = Vec::new();
    for entry in point().and_then(|()| fs::read_dir(path)).map_err(|error| Error::io("list", path, error))? {
        let entry = entry.map_err(|error| Error::io("list", path, error))?;
        let is_link = entry.file_type().is_ok_and(|kind| kind.is_symlink());
        entries.push((entry.file_name(), is_link));
    }
    entries.sort();
    Ok(entries)
}

/// Reads a whole file of at most `limit` bytes.
///
/// # Errors
/// It cannot be read, or is larger.
pub fn read(path: &Path, limit: u64) -> Result<Vec<u8>> {
    let too_large = || Error::new(ErrorKind::Invalid, path, format!("larger than {limit} bytes:"));
    let file = FileReader::open(path)?;
    if file.size() > limit {
        return Err(too_large());
    }
    let mut bytes = Vec::new();
    // One byte more than allowed, so that a file that grows meanwhile is refused and not cut.
    (&file.file)
        .take(limit.saturating_add(1))
        .read_to_end(&mut bytes)
        .map_err(|error| Error::io("read", path, error))?;
    if bytes.len() as u64 > limit { Err(too_large()) } else { Ok(bytes) }
}

/// The free bytes that this user may fill where `path` is; `u64::MAX` where the file system does not count.
///
/// # Errors
/// The system does not tell.
pub fn free_bytes(path: &Path) -> Result<u64> {
    let space = rustix::fs::statvfs(path).map_err(|error| Error::io("ask the free space of", path, error))?;
    // Some FUSE file systems answer with zeros throughout.
    if space.f_blocks == 0 {
        return Ok(u64::MAX);
    }
    Ok(space.f_bavail.saturating_mul(space.f_frsize))
}

/// How many more files and directories may be made where `path` is; none where the file system does not count.
///
/// # Errors
/// The system does not tell.
pub fn free_inodes(path: &Path) -> Result<Option<u64>> {
    let space = rustix::fs::statvfs(path).map_err(|error| Error::io("ask the free space of", path, error))?;
    Ok((space.f_files > 0).then_some(space.f_favail))
}

/// The number by which the kernel knows the kind of file system that `path` is on.
///
/// # Errors
/// The system does not tell.
pub fn file_system_number(path: &Path) -> Result<u64> {
    let told = rustix::fs::statfs(path).map_err(|error| Error::io("ask the file system of", path, error))?;
    // The width and the sign of the field differ between machines; the numbers have 32 bits.
    #[allow(clippy::unnecessary_cast, reason = "it is of this type on some machines")]
    Ok(told.f_type as u64 & 0xffff_ffff)
}

/// Whether this user may write into a directory: the permissions allow it, and it is not mounted read-only.
#[must_use]
pub fn is_writable(path: &Path) -> bool {
    use rustix::fs::{Access, StatVfsMountFlags, access, statvfs};
    let is_mounted_read_only = statvfs(path).is_ok_and(|mount| mount.f_flag.contains(StatVfsMountFlags::RDONLY));
    !is_mounted_read_only && access(path, Access::WRITE_OK | Access::EXEC_OK).is_ok()
}
