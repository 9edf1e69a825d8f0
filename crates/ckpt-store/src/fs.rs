//! The only door to the file system: every error carries its path, and nothing else in this crate changes a file.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use ckpt_core::limits;
use ckpt_core::members::Members;
use ckpt_core::read::ReadAt;
use rustix::fs::{Advice, CWD, FlockOperation, RenameFlags};
use rustix::io::Errno;

use crate::error::{Error, Result};

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
        // Opening a FIFO for reading would wait for a writer for ever.
        let file = OpenOptions::new()
            .read(true)
            .custom_flags(i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).unwrap_or(0))
            .open(path)
            .map_err(|error| Error::io("open", path, error))?;
        let metadata = file.metadata().map_err(|error| Error::io("look at", path, error))?;
        if !metadata.is_file() {
            return Err(Error::new(ckpt_core::ErrorKind::Invalid, path, "not a regular file:"));
        }
        Ok(Self { file, size: metadata.len() })
    }
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

/// Looks at a path, links followed.
///
/// # Errors
/// It is not there, or may not be looked at.
pub fn status(path: &Path) -> Result<Status> {
    let metadata = fs::metadata(path).map_err(|error| Error::io("look at", path, error))?;
    let nanoseconds = |seconds: i64, rest: i64| seconds.saturating_mul(1_000_000_000).saturating_add(rest);
    Ok(Status {
        is_directory: metadata.is_dir(),
        is_file: metadata.is_file(),
        size: metadata.len(),
        modified_ns: nanoseconds(metadata.mtime(), metadata.mtime_nsec()),
        changed_ns: nanoseconds(metadata.ctime(), metadata.ctime_nsec()),
        identity: (metadata.dev(), metadata.ino()),
    })
}

/// The entries of a directory, sorted by name: name and whether it is a link.
///
/// # Errors
/// It cannot be listed, or no longer.
pub fn list(path: &Path) -> Result<Vec<(std::ffi::OsString, bool)>> {
    let mut entries = Vec::new();
    for entry in fs::read_dir(path).map_err(|error| Error::io("list", path, error))? {
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
    let file = FileReader::open(path)?;
    if file.size() > limit {
        return Err(Error::new(ckpt_core::ErrorKind::Invalid, path, format!("larger than {limit} bytes:")));
    }
    let mut bytes = Vec::new();
    (&file.file).take(limit).read_to_end(&mut bytes).map_err(|error| Error::io("read", path, error))?;
    Ok(bytes)
}

/// The files below a directory.
#[derive(Debug)]
pub struct DirectoryMembers {
    root: PathBuf,
    sizes: BTreeMap<String, u64>,
    fingerprint: Vec<(String, Status)>,
}

impl DirectoryMembers {
    /// Lists the files below `root`, to the depth and number that [`limits`] allow.
    ///
    /// # Errors
    /// A directory cannot be listed.
    pub fn open(root: &Path) -> Result<Self> {
        let mut members = Self { root: root.to_owned(), sizes: BTreeMap::new(), fingerprint: Vec::new() };
        let mut pending = vec![(root.to_owned(), String::new(), 0)];
        let mut seen = BTreeSet::new();
        while let Some((directory, prefix, depth)) = pending.pop() {
            for (name, _) in list(&directory)? {
                let path = directory.join(&name);
                let relative = format!("{prefix}{}", name.to_string_lossy());
                // A dangling link is a missing member, which the inspection reports.
                let Ok(status) = status(&path) else { continue };
                if status.is_directory && depth < limits::MEMBER_DEPTH && seen.insert(status.identity) {
                    pending.push((path, format!("{relative}/"), depth + 1));
                } else if status.is_file && members.sizes.len() < limits::MEMBERS {
                    members.sizes.insert(relative.clone(), status.size);
                    members.fingerprint.push((relative, status));
                }
            }
        }
        members.fingerprint.sort_by(|left, right| left.0.cmp(&right.0));
        Ok(members)
    }

    /// Lists one directory without what is below it.
    ///
    /// # Errors
    /// The directory cannot be listed.
    pub fn flat(root: &Path) -> Result<Self> {
        let mut members = Self { root: root.to_owned(), sizes: BTreeMap::new(), fingerprint: Vec::new() };
        for (name, _) in list(root)? {
            if let Ok(status) = status(&root.join(&name))
                && status.is_file
            {
                let name = name.to_string_lossy().into_owned();
                members.sizes.insert(name.clone(), status.size);
                members.fingerprint.push((name, status));
            }
        }
        Ok(members)
    }

    /// Every file with its status, sorted by name.
    #[must_use]
    pub fn statuses(&self) -> &[(String, Status)] {
        &self.fingerprint
    }
}

impl Members for DirectoryMembers {
    fn list(&self) -> &BTreeMap<String, u64> {
        &self.sizes
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn ReadAt + '_>> {
        if !self.sizes.contains_key(name) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let file = File::open(self.root.join(name))?;
        let size = file.metadata()?.len();
        Ok(Box::new(FileReader { file, size }))
    }
}

/// Makes a directory and those above it.
///
/// # Errors
/// The system refuses.
pub fn create_directories(path: &Path) -> Result<()> {
    fs::create_dir_all(path).map_err(|error| Error::io("create the directory", path, error))
}

/// Makes one directory that must not exist yet, and locks it against [`lock_is_held`].
///
/// # Errors
/// It exists, or the system refuses.
pub fn create_directory_locked(path: &Path) -> Result<File> {
    fs::create_dir(path).map_err(|error| Error::io("create the directory", path, error))?;
    let directory = File::open(path).map_err(|error| Error::io("open", path, error))?;
    lock(&directory);
    Ok(directory)
}

/// Makes a file that must not exist yet, and locks it against [`lock_is_held`].
///
/// # Errors
/// It exists, or the system refuses.
pub fn create_locked(path: &Path) -> Result<File> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .open(path)
        .map_err(|error| Error::io("create", path, error))?;
    lock(&file);
    Ok(file)
}

/// Best effort: some file systems have no locks, and there a leftover is simply kept longer.
fn lock(file: &File) {
    if let Err(error) = rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive) {
        tracing::debug!(%error, "no lock on a temporary file");
    }
}

/// Whether the process that made a temporary file or directory is still writing it.
#[must_use]
pub fn lock_is_held(path: &Path) -> bool {
    let Ok(file) = File::open(path) else { return true };
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => false,
        Err(error) => error == Errno::WOULDBLOCK,
    }
}

/// Whether a process of this number runs on this machine.
#[must_use]
pub fn process_is_alive(number: i32) -> bool {
    let Some(process) = rustix::process::Pid::from_raw(number) else { return false };
    !matches!(rustix::process::test_kill_process(process), Err(Errno::SRCH))
}

/// Writes all of `bytes`.
///
/// # Errors
/// The system refuses; no space is left.
pub fn write_all(mut file: &File, path: &Path, bytes: &[u8]) -> Result<()> {
    file.write_all(bytes).map_err(|error| Error::io("write", path, error))
}

/// Makes a file's contents durable.
///
/// # Errors
/// The system could not write them all.
pub fn sync(file: &File, path: &Path) -> Result<()> {
    file.sync_all().map_err(|error| Error::io("make durable", path, error))
}

/// Makes the names in a directory durable.
///
/// # Errors
/// The system could not write them all.
pub fn sync_directory(path: &Path) -> Result<()> {
    let directory = File::open(path).map_err(|error| Error::io("open", path, error))?;
    match directory.sync_all() {
        // Some network and FUSE file systems have nothing to sync here.
        Err(error)
            if matches!(error.raw_os_error().map(Errno::from_raw_os_error), Some(Errno::INVAL | Errno::NOTSUP)) =>
        {
            Ok(())
        }
        result => result.map_err(|error| Error::io("make durable", path, error)),
    }
}

/// Gives `from` the name `to`, where nothing may be.
///
/// # Errors
/// [`ckpt_core::ErrorKind::AlreadyExists`] when something is there.
pub fn rename_new(from: &Path, to: &Path) -> Result<()> {
    match rustix::fs::renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => {
            // The file system cannot promise it. Looking first leaves a gap of microseconds.
            if fs::symlink_metadata(to).is_ok() {
                return Err(Error::io("rename to", to, io::Error::from(io::ErrorKind::AlreadyExists)));
            }
            fs::rename(from, to).map_err(|error| Error::io("rename to", to, error))
        }
        result => result.map_err(|error| Error::io("rename to", to, error)),
    }
}

/// Gives the file `from` the name `to`, in one step with the loss of what was there.
///
/// # Errors
/// The system refuses.
pub fn rename_over(from: &Path, to: &Path) -> Result<()> {
    fs::rename(from, to).map_err(|error| Error::io("rename to", to, error))
}

/// Gives `from` the name `to`, and what was there the name `aside`.
///
/// At no moment is `to` without a file, where the file system can exchange two names; elsewhere the old one is moved away
/// first.
///
/// # Errors
/// The system refuses; what was there is then under `to`, or under `aside`.
pub fn rename_aside(from: &Path, to: &Path, aside: &Path) -> Result<()> {
    match rustix::fs::renameat_with(CWD, from, CWD, to, RenameFlags::EXCHANGE) {
        Ok(()) => rename_new(from, aside),
        Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => {
            rename_new(to, aside)?;
            rename_new(from, to)
        }
        Err(error) => Err(Error::io("rename to", to, error)),
    }
}

/// Deletes a file or a whole directory.
///
/// # Errors
/// The system refuses.
pub fn remove(path: &Path) -> Result<()> {
    let metadata = fs::symlink_metadata(path).map_err(|error| Error::io("look at", path, error))?;
    if metadata.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) }
        .map_err(|error| Error::io("delete", path, error))
}

/// The free bytes that this user may fill where `path` is.
///
/// # Errors
/// The system does not tell.
pub fn free_bytes(path: &Path) -> Result<u64> {
    let space = rustix::fs::statvfs(path).map_err(|error| Error::io("ask the free space of", path, error))?;
    Ok(space.f_bavail.saturating_mul(space.f_frsize))
}

/// Whether this user may write into a directory.
#[must_use]
pub fn is_writable(path: &Path) -> bool {
    rustix::fs::access(path, rustix::fs::Access::WRITE_OK).is_ok()
}

/// Lets `to` share the blocks of `from`; false where the file system cannot.
///
/// # Errors
/// It can, and failed.
pub fn reflink(from: &FileReader, to: &File, to_path: &Path) -> Result<bool> {
    match rustix::fs::ioctl_ficlone(to, &from.file) {
        Ok(()) => Ok(true),
        Err(error @ (Errno::NOSPC | Errno::DQUOT | Errno::IO)) => Err(Error::io("copy to", to_path, error)),
        Err(_) => Ok(false),
    }
}

/// How much is copied between two reports of progress.
const COPY_BYTES: usize = 16 << 20;

/// Copies all of `from`, inside the kernel where the file systems can; returns the bytes copied.
///
/// # Errors
/// A read or a write failed; no space is left.
pub fn copy(from: &FileReader, to: &File, to_path: &Path, mut copied: impl FnMut(u64)) -> Result<u64> {
    let write_error = |error: io::Error| Error::io("copy to", to_path, error);
    let mut offset = 0_u64;
    loop {
        match rustix::fs::copy_file_range(&from.file, Some(&mut offset.clone()), to, None, COPY_BYTES) {
            Ok(0) if offset < from.size => break,
            Ok(0) => return Ok(offset),
            Ok(count) => {
                offset += count as u64;
                copied(count as u64);
            }
            Err(Errno::INTR) => {}
            Err(
                Errno::XDEV | Errno::INVAL | Errno::NOSYS | Errno::NOTSUP | Errno::PERM | Errno::IO | Errno::OVERFLOW,
            ) => break,
            Err(error) => return Err(write_error(error.into())),
        }
    }
    let mut buffer = vec![0; limits::CHUNK_BYTES];
    loop {
        match from.file.read_at(&mut buffer, offset) {
            Ok(0) => return Ok(offset),
            Ok(count) => {
                to.write_all_at(&buffer[..count], offset).map_err(write_error)?;
                offset += count as u64;
                copied(count as u64);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(Error::io("read the source of", to_path, error)),
        }
    }
}

/// Asks the system to forget the cached pages of a durable file, so that reading it again reads the disk.
pub fn drop_cache(file: &File) {
    if let Err(error) = rustix::fs::fadvise(file, 0, None, Advice::DontNeed) {
        tracing::debug!(%error, "the page cache is kept");
    }
}
