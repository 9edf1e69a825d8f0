//! What changes the file system.
#![expect(clippy::disallowed_methods, reason = "this file is the door through which files are changed")]

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::time::{Duration, Instant};

use ckpt_core::{ErrorKind, limits};
use rustix::fs::{CWD, FlockOperation, OFlags, RenameFlags};
use rustix::io::Errno;

use super::{FileReader, allowed, flags, point, point_of_removal};
use crate::error::{Error, Result};
use crate::inspect::parent;

/// How long to wait between two looks at a lock: a commit holds one for a few milliseconds.
const LOCK_POLL: Duration = Duration::from_millis(2);

/// Makes a directory and those above it, their names durable.
///
/// # Errors
/// The system refuses.
pub fn create_directories(path: &Path) -> Result<()> {
    let is_missing = |path: &&Path| !path.as_os_str().is_empty() && fs::symlink_metadata(path).is_err();
    let missing: Vec<&Path> = path.ancestors().take_while(is_missing).collect();
    point().and_then(|()| fs::create_dir_all(path)).map_err(|error| Error::io("create the directory", path, error))?;
    missing.into_iter().rev().try_for_each(|directory| sync_directory(parent(directory)))
}

/// Makes one directory that must not exist yet, and locks it against [`remove_leftover`].
///
/// # Errors
/// It exists, or the system refuses. [`ErrorKind::Conflict`]: another process took it for a leftover.
pub fn create_directory_locked(path: &Path) -> Result<File> {
    point().and_then(|()| fs::create_dir(path)).map_err(|error| Error::io("create the directory", path, error))?;
    let opened = point().and_then(|()| File::open(path)).map_err(|error| match error.kind() {
        // Between the making and the opening there is no lock yet.
        io::ErrorKind::NotFound => taken(path),
        _ => Error::io("open", path, error),
    });
    let locked = opened.and_then(|directory| lock(&directory, path).map(|()| directory));
    if locked.is_err()
        && let Err(error) = remove(path)
    {
        tracing::debug!(%error, "a temporary is left behind");
    }
    locked
}

/// Makes a file that must not exist yet.
///
/// # Errors
/// It exists, or the system refuses.
pub fn create_new(path: &Path) -> Result<File> {
    point()
        .and_then(|()| OpenOptions::new().read(true).write(true).create_new(true).open(path))
        .map_err(|error| Error::io("create", path, error))
}

/// Makes a file that must not exist yet, and locks it against [`remove_leftover`].
///
/// # Errors
/// It exists, or the system refuses. [`ErrorKind::Conflict`]: another process took it for a leftover.
pub fn create_locked(path: &Path) -> Result<File> {
    let file = create_new(path)?;
    lock(&file, path)?;
    Ok(file)
}

fn taken(path: &Path) -> Error {
    Error::new(ErrorKind::Conflict, path, "another process took for a leftover what was just made:")
}

/// Best effort: some file systems have no locks, and there a leftover is simply kept longer.
fn lock(file: &File, path: &Path) -> Result<()> {
    match rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive) {
        // Between the making and the locking, somebody may have deleted it.
        Ok(()) if is_at(file, path) => Ok(()),
        Ok(()) | Err(Errno::WOULDBLOCK) => Err(taken(path)),
        Err(error) => {
            tracing::debug!(%error, "no lock on a temporary file");
            Ok(())
        }
    }
}

/// Whether an open file is still what a path stands for.
fn is_at(file: &File, path: &Path) -> bool {
    let identity = |metadata: &fs::Metadata| (metadata.dev(), metadata.ino());
    matches!((file.metadata(), fs::symlink_metadata(path)), (Ok(open), Ok(there)) if identity(&open) == identity(&there))
}

/// Deletes a temporary file or directory unless the process that made it still writes it; tells whether it did.
///
/// The lock tells: it dies with its process, whatever number that had. Where there are no locks, `is_given_up` decides.
///
/// # Errors
/// It could not be deleted.
pub fn remove_leftover(path: &Path, is_given_up: bool) -> Result<bool> {
    let opened = OpenOptions::new().read(true).custom_flags(flags(OFlags::NOFOLLOW | OFlags::NONBLOCK)).open(path);
    // Gone, or a link, which no temporary is.
    let Ok(file) = opened else { return Ok(false) };
    let is_dead = match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        // The lock is held until it is deleted, so that a writer that has not locked it yet notices.
        Ok(()) => is_at(&file, path),
        Err(Errno::WOULDBLOCK) => false,
        Err(_) => is_given_up,
    };
    if is_dead {
        remove(path)?;
    }
    Ok(is_dead)
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
pub fn write_all(file: &File, path: &Path, bytes: &[u8]) -> Result<()> {
    Sink(file).write_all(bytes).map_err(|error| Error::io("write", path, error))
}

/// A file to write to from its beginning.
#[derive(Debug)]
pub struct Sink<'a>(pub &'a File);

impl Write for Sink<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(&bytes[..allowed(bytes.len())?])
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// `fsync`. XFS that shut itself down over a failing disk lets it succeed on a directory whose changes it has dropped:
/// only looking at it fails.
fn sync_all(file: &File) -> io::Result<()> {
    file.sync_all()?;
    file.metadata().map(drop)
}

/// Makes a file's contents durable.
///
/// # Errors
/// The system could not write them all.
pub fn sync(file: &File, path: &Path) -> Result<()> {
    point().and_then(|()| sync_all(file)).map_err(|error| Error::io("make durable", path, error))
}

/// Makes the names in a directory durable, where the file system can.
///
/// # Errors
/// The system could not write them all.
pub fn sync_directory(path: &Path) -> Result<()> {
    sync_directory_if_able(path).map(|_| ())
}

/// Makes the names in a directory durable; tells whether the file system knows how to.
///
/// # Errors
/// The system could not write them all.
pub fn sync_directory_if_able(path: &Path) -> Result<bool> {
    let directory = File::open(path).map_err(|error| Error::io("open", path, error))?;
    match point().and_then(|()| sync_all(&directory)) {
        Ok(()) => Ok(true),
        // Some network and FUSE file systems have nothing to sync here.
        Err(error)
            if matches!(error.raw_os_error().map(Errno::from_raw_os_error), Some(Errno::INVAL | Errno::NOTSUP)) =>
        {
            Ok(false)
        }
        Err(error) => Err(Error::io("make durable", path, error)),
    }
}

/// `renameat2`; `None` where the file system does not know the flag.
fn rename_with(from: &Path, to: &Path, flag: RenameFlags) -> Option<io::Result<()>> {
    #[cfg(test)]
    if !super::fault::knows_rename_flags() {
        return None;
    }
    match rustix::fs::renameat_with(CWD, from, CWD, to, flag) {
        Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => None,
        result => Some(result.map_err(Into::into)),
    }
}

/// Gives `from` the name `to`, where nothing may be.
///
/// # Errors
/// [`ErrorKind::AlreadyExists`] when something is there.
pub fn rename_new(from: &Path, to: &Path) -> Result<()> {
    let renamed = point().and_then(|()| {
        rename_with(from, to, RenameFlags::NOREPLACE).unwrap_or_else(|| {
            // The file system cannot promise it. Looking first leaves a gap of microseconds.
            match fs::symlink_metadata(to) {
                Ok(_) => Err(io::ErrorKind::AlreadyExists.into()),
                Err(error) if error.kind() == io::ErrorKind::NotFound => fs::rename(from, to),
                Err(error) => Err(error),
            }
        })
    });
    renamed.map_err(|error| Error::io("rename to", to, error))
}

/// Gives `from` the name `to` unless something is there, in one step; false, and nothing done, where the file system has no
/// such step.
///
/// # Errors
/// [`ErrorKind::AlreadyExists`] when something is there.
pub fn rename_new_in_one_step(from: &Path, to: &Path) -> Result<bool> {
    let renamed = point().map_or_else(|error| Some(Err(error)), |()| rename_with(from, to, RenameFlags::NOREPLACE));
    renamed.transpose().map(|done| done.is_some()).map_err(|error| Error::io("rename to", to, error))
}

/// Whether a lock on a file keeps a second one away.
///
/// # Errors
/// The file cannot be opened.
pub fn has_locks(path: &Path) -> Result<bool> {
    let open = || point().and_then(|()| File::open(path)).map_err(|error| Error::io("open", path, error));
    let (one, other) = (open()?, open()?);
    let lock = |file: &File| rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive);
    Ok(lock(&one).is_ok() && lock(&other) == Err(Errno::WOULDBLOCK))
}

/// Gives the file `from` the name `to`, in one step with the loss of what was there.
///
/// # Errors
/// The system refuses.
pub fn rename_over(from: &Path, to: &Path) -> Result<()> {
    point().and_then(|()| fs::rename(from, to)).map_err(|error| Error::io("rename to", to, error))
}

/// Gives `from` the name `to`, and what was there the name `aside`, where nothing may be.
///
/// The new one takes the name `aside` first, then the two change names in one step. So the old one is never under a
/// name that is cleaned away, and `to` is never without a file: a process that dies in between leaves the old one where
/// it was. Where the file system cannot exchange names, the old one is moved away first.
///
/// # Errors
/// The system refuses; what was there is still under `to`, or, where names cannot be exchanged and moving it back failed
/// too, under `aside`.
pub fn rename_aside(from: &Path, to: &Path, aside: &Path) -> Result<()> {
    rename_new(from, aside)?;
    let failed = match point().map_or_else(|error| Some(Err(error)), |()| rename_with(aside, to, RenameFlags::EXCHANGE))
    {
        Some(Ok(())) => return Ok(()),
        Some(Err(error)) => Some(Error::io("rename to", to, error)),
        None => None,
    };
    rename_new(aside, from)?;
    if let Some(error) = failed {
        return Err(error);
    }
    rename_new(to, aside)?;
    rename_new(from, to).map_err(|error| match rename_new(aside, to) {
        Ok(()) => error,
        Err(_) => {
            let message = "what was there was moved away and could not be moved back; it is now";
            Error::new(error.kind(), aside, message)
        }
    })
}

/// Lets `one` and `other` change names, in one step; false where the file system cannot.
///
/// # Errors
/// The system refuses; both are as they were.
pub fn rename_exchange(one: &Path, other: &Path) -> Result<bool> {
    let exchanged = point().map_or_else(|error| Some(Err(error)), |()| rename_with(one, other, RenameFlags::EXCHANGE));
    match exchanged {
        Some(result) => result.map(|()| true).map_err(|error| Error::io("rename to", other, error)),
        None => Ok(false),
    }
}

/// Makes a symbolic link that must not exist yet; false where the file system has none.
///
/// # Errors
/// It exists, or the system refuses.
pub fn make_link(to: &Path, at: &Path) -> Result<bool> {
    match point().and_then(|()| std::os::unix::fs::symlink(to, at)) {
        Ok(()) => Ok(true),
        Err(error) => match error.raw_os_error().map(Errno::from_raw_os_error) {
            // What file systems without symbolic links answer, FUSE ones among them.
            Some(Errno::PERM | Errno::NOTSUP | Errno::NOSYS) => Ok(false),
            _ => Err(Error::io("make a link", at, error)),
        },
    }
}

/// What a symbolic link says; `None` when something else or nothing is there.
///
/// # Errors
/// The system refuses to tell.
pub fn read_link(path: &Path) -> Result<Option<std::path::PathBuf>> {
    match fs::read_link(path) {
        Ok(target) => Ok(Some(target)),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::InvalidInput) => Ok(None),
        Err(error) => Err(Error::io("look at", path, error)),
    }
}

/// Gives a file one more name, which must not exist yet; false where the file system cannot, and for a link or a file
/// that has several names already: others may change it under those.
///
/// # Errors
/// The name is taken, or the system refuses.
pub fn hard_link(from: &Path, to: &Path) -> Result<bool> {
    let metadata = fs::symlink_metadata(from).map_err(|error| Error::io("look at", from, error))?;
    if !metadata.is_file() || metadata.nlink() != 1 {
        return Ok(false);
    }
    match point().and_then(|()| fs::hard_link(from, to)) {
        Ok(()) => Ok(true),
        Err(error) => match error.raw_os_error().map(Errno::from_raw_os_error) {
            Some(Errno::XDEV | Errno::PERM | Errno::NOTSUP | Errno::NOSYS | Errno::MLINK) => Ok(false),
            _ => Err(Error::io("link to", to, error)),
        },
    }
}

/// A lock on a file, held until dropped. It dies with its process.
#[derive(Debug)]
pub struct Lock {
    _file: Option<File>,
}

/// Waits until no other process holds the lock on a file, which is made where it is missing.
///
/// Where the file system has no locks, the lock is had at once: such places have one writer.
///
/// # Errors
/// [`ErrorKind::Conflict`]: another process holds it until the `deadline`. The system refuses to make the file.
pub fn lock_file(path: &Path, deadline: Duration) -> Result<Lock> {
    let open = || OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path);
    let file = point().and_then(|()| open()).map_err(|error| Error::io("open", path, error))?;
    let started = Instant::now();
    loop {
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(Lock { _file: Some(file) }),
            Err(Errno::WOULDBLOCK | Errno::INTR) if started.elapsed() < deadline => {
                std::thread::sleep(LOCK_POLL);
            }
            Err(Errno::WOULDBLOCK | Errno::INTR) => {
                let message = format!("another process has held for more than {} s the lock", deadline.as_secs());
                return Err(Error::new(ErrorKind::Conflict, path, message));
            }
            Err(error) => {
                tracing::debug!(%error, "no lock here");
                return Ok(Lock { _file: None });
            }
        }
    }
}

/// Deletes a file or a whole directory.
///
/// # Errors
/// The system refuses.
pub fn remove(path: &Path) -> Result<()> {
    let metadata = fs::symlink_metadata(path).map_err(|error| Error::io("look at", path, error))?;
    point_of_removal(path)
        .and_then(|()| if metadata.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) })
        .map_err(|error| Error::io("delete", path, error))
}

/// Lets `to` share the blocks of `from`; false where the file system cannot.
///
/// # Errors
/// It can, and no space is left.
pub fn reflink(from: &FileReader, to: &File, to_path: &Path) -> Result<bool> {
    match rustix::fs::ioctl_ficlone(to, &from.file) {
        Ok(()) => Ok(true),
        Err(error @ (Errno::NOSPC | Errno::DQUOT)) => Err(Error::io("copy to", to_path, error)),
        // A failing disk shows again when the bytes are copied.
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
        point().map_err(write_error)?;
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
