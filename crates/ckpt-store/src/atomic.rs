//! temp → commit: a file or directory appears under its name whole and durable, or not at all.
//!
//! The steps: write under a temporary name beside the target, make the contents durable, rename, make the directory
//! durable. A process that dies leaves the target as it was and at most a temporary behind, which [`clean`] removes: the
//! lock on it has died with its writer. What was under the target's name never goes through a temporary one.

use std::collections::BTreeSet;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ckpt_core::ErrorKind;

use crate::error::Result;
use crate::fs;
use crate::inspect::parent;

const MARK: &str = ".ckpt-tmp-";
/// Where there are no locks, a temporary that was not written to for so long is given up.
const GIVEN_UP: Duration = Duration::from_secs(3600);
/// How often a new name is tried when another process took the new file for a leftover.
const ATTEMPTS: usize = 8;

/// The temporaries that this process writes. Whoever renames one holds it, so that [`abandon_all`] deletes nothing that is
/// on its way to its name.
static LIVE: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

fn live() -> MutexGuard<'static, BTreeSet<PathBuf>> {
    LIVE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Deletes every temporary that this process has not given its name yet; returns how many.
///
/// For a process that is about to end because of a signal: end it right afterwards. What still writes to a temporary then
/// fails to give it its name and leaves the target as it was.
pub fn abandon_all() -> usize {
    let mut live = live();
    let abandoned = std::mem::take(&mut *live);
    let is_deleted = |path: &PathBuf| match fs::remove(path) {
        Ok(()) => true,
        // One that was not made yet, or a directory that another thread just wrote to: the next `clean` finds it.
        Err(error) => {
            tracing::debug!(%error, "a temporary is left behind");
            false
        }
    };
    abandoned.iter().filter(|path| is_deleted(path) || is_deleted(path)).count()
}

/// A temporary name beside a target. Dropping it deletes what was written.
#[derive(Debug)]
pub struct Temporary {
    path: PathBuf,
    target: PathBuf,
    handle: File,
    is_committed: bool,
}

/// What to do with what is under the target's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Replacing {
    /// Nothing may be there.
    Nothing,
    /// It goes; it must be a file or a link.
    Old,
    /// It is kept under this name.
    Aside(PathBuf),
}

fn temporary_name(target: &Path) -> PathBuf {
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    let name = target.file_name().unwrap_or_default().to_string_lossy();
    // Names are at most 255 bytes; the mark and the numbers take less than 50.
    let name: String = name.chars().take(50).collect();
    let unique = COUNTER.fetch_add(1, Ordering::Relaxed);
    let moment = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.subsec_nanos());
    parent(target).join(format!(".{name}{MARK}{}-{unique}-{moment:x}", std::process::id()))
}

impl Temporary {
    /// A new file.
    ///
    /// # Errors
    /// The directory of `target` is not there or cannot be written to.
    pub fn file(target: &Path) -> Result<Self> {
        Self::new(target, fs::create_locked)
    }

    /// A new directory.
    ///
    /// # Errors
    /// The directory of `target` is not there or cannot be written to.
    pub fn directory(target: &Path) -> Result<Self> {
        Self::new(target, fs::create_directory_locked)
    }

    fn new(target: &Path, create: fn(&Path) -> Result<File>) -> Result<Self> {
        let mut attempt = 1;
        loop {
            let path = temporary_name(target);
            // Before it is there: a signal in between would leave it behind.
            live().insert(path.clone());
            let error = match create(&path) {
                Ok(handle) => return Ok(Self { path, target: target.to_owned(), handle, is_committed: false }),
                Err(error) => error,
            };
            live().remove(&path);
            if error.kind() != ErrorKind::Conflict || attempt == ATTEMPTS {
                return Err(error);
            }
            attempt += 1;
        }
    }

    /// The temporary path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The open file or directory.
    #[must_use]
    pub fn handle(&self) -> &File {
        &self.handle
    }

    /// Makes the contents durable.
    ///
    /// # Errors
    /// The system could not write them all; no space is left.
    pub fn sync(&self) -> Result<()> {
        fs::sync(&self.handle, &self.path)
    }

    /// Gives it its name, durably. The contents must be durable already.
    ///
    /// # Errors
    /// [`ckpt_core::ErrorKind::AlreadyExists`] when something appeared under a name where nothing may be. The target
    /// is as it was, or complete.
    pub fn commit(mut self, replacing: &Replacing) -> Result<()> {
        self.rename(replacing)?;
        fs::sync_directory(parent(&self.target))
    }

    /// Gives it its name. That the name survives a power cut, the caller sees to by [`fs::sync_directory`].
    ///
    /// # Errors
    /// As [`Self::commit`].
    pub fn give_name(mut self, replacing: &Replacing) -> Result<()> {
        self.rename(replacing)
    }

    fn rename(&mut self, replacing: &Replacing) -> Result<()> {
        let mut live = live();
        match replacing {
            Replacing::Nothing => fs::rename_new(&self.path, &self.target)?,
            Replacing::Aside(aside) => fs::rename_aside(&self.path, &self.target, aside)?,
            Replacing::Old => fs::rename_over(&self.path, &self.target)?,
        }
        live.remove(&self.path);
        self.is_committed = true;
        Ok(())
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if self.is_committed {
            return;
        }
        if let Err(error) = fs::remove(&self.path) {
            // The next call of `clean` finds it.
            tracing::debug!(%error, "a temporary is left behind");
        }
        live().remove(&self.path);
    }
}

/// Deletes the temporaries in `directory` whose writers are dead; returns how many.
///
/// One that cannot be deleted is left: somebody else's leftover must not keep anybody from working.
///
/// # Errors
/// The directory cannot be listed.
pub fn clean(directory: &Path) -> Result<usize> {
    let mut cleaned = 0;
    for (name, _) in fs::list(directory)? {
        let text = name.to_string_lossy();
        let Some(writer) = writer_of(&text) else { continue };
        let path = directory.join(&name);
        let writer = writer.parse().ok();
        let is_given_up = !writer.is_some_and(fs::process_is_alive) && is_old(&path);
        match fs::remove_leftover(&path, is_given_up) {
            Ok(is_removed) => cleaned += usize::from(is_removed),
            Err(error) => tracing::debug!(%error, "a leftover stays"),
        }
    }
    Ok(cleaned)
}

/// How many temporaries lie in `directory`, of dead writers and of living ones.
///
/// # Errors
/// The directory cannot be listed.
pub fn count(directory: &Path) -> Result<usize> {
    Ok(fs::list(directory)?.iter().filter(|(name, _)| writer_of(&name.to_string_lossy()).is_some()).count())
}

/// The number of the process that writes a temporary, as its name tells it.
fn writer_of(name: &str) -> Option<&str> {
    let (_, tail) = name.split_once(MARK).filter(|_| name.starts_with('.'))?;
    tail.split('-').next()
}

/// Deletes the links that a dead [`replace_link`] left in `directory`. Links have no locks: the caller must hold the one
/// under which links are replaced there.
///
/// # Errors
/// The directory cannot be listed.
pub fn clean_links(directory: &Path) -> Result<()> {
    for (name, is_link) in fs::list(directory)? {
        let text = name.to_string_lossy();
        if is_link
            && text.starts_with('.')
            && text.contains(MARK)
            && let Err(error) = fs::remove(&directory.join(&name))
        {
            tracing::debug!(%error, "a leftover stays");
        }
    }
    Ok(())
}

/// Puts a symbolic link to `target` at `at`, in one step with the loss of the link or file that was there; false where
/// the file system has no links. Not durable before [`fs::sync_directory`].
///
/// # Errors
/// The system refuses; what was there is still there.
pub fn replace_link(target: &Path, at: &Path) -> Result<bool> {
    let temporary = temporary_name(at);
    if !fs::make_link(target, &temporary)? {
        return Ok(false);
    }
    let renamed = fs::rename_over(&temporary, at);
    if renamed.is_err()
        && let Err(error) = fs::remove(&temporary)
    {
        tracing::debug!(%error, "a leftover stays");
    }
    renamed.map(|()| true)
}

/// Deletes a file or directory that has a name: the name goes first and durably, then the contents. A process that dies
/// in between leaves a leftover that [`clean`] removes, and never half of what was there under its name.
///
/// # Errors
/// It could not be renamed; it is still there, whole.
pub fn discard(path: &Path) -> Result<()> {
    delete(&take_name(path)?);
    Ok(())
}

/// The first half of [`discard`]: takes the name away, durably; gives the path to [`delete`].
///
/// # Errors
/// As [`discard`].
pub fn take_name(path: &Path) -> Result<PathBuf> {
    let temporary = temporary_name(path);
    fs::rename_new(path, &temporary)?;
    fs::sync_directory(parent(path))?;
    Ok(temporary)
}

/// The second half of [`discard`]. What cannot be deleted is a leftover, which [`clean`] tries again.
pub fn delete(temporary: &Path) {
    match fs::remove(temporary) {
        Err(error) if error.kind() != ErrorKind::NotFound => tracing::debug!(%error, "a leftover stays"),
        _ => {}
    }
}

fn is_old(path: &Path) -> bool {
    let Ok(status) = fs::status(path) else { return false };
    let modified = UNIX_EPOCH + Duration::from_nanos(u64::try_from(status.modified_ns).unwrap_or(0));
    SystemTime::now().duration_since(modified).is_ok_and(|age| age > GIVEN_UP)
}

/// Replaces a file that can be made again: atomically, and not durably.
///
/// # Errors
/// The directory cannot be written to.
pub fn replace_text(target: &Path, bytes: &[u8]) -> Result<()> {
    let mut temporary = Temporary::file(target)?;
    fs::write_all(temporary.handle(), temporary.path(), bytes)?;
    temporary.rename(&Replacing::Old)
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "tests prepare files")]
mod tests {
    use super::*;

    fn temporary(target: &Path) -> Temporary {
        let temporary = Temporary::file(target).unwrap();
        fs::write_all(temporary.handle(), temporary.path(), b"new").unwrap();
        temporary
    }

    #[test]
    fn where_nothing_may_be_nothing_is_overwritten() {
        for has_flags in [true, false] {
            fs::fault::forget_rename_flags(!has_flags);
            let directory = tempfile::tempdir().unwrap();
            let target = directory.path().join("x");
            std::fs::write(&target, "old").unwrap();
            let error = temporary(&target).commit(&Replacing::Nothing).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::AlreadyExists);
            assert_eq!(std::fs::read(&target).unwrap(), b"old");
            assert_eq!(fs::list(directory.path()).unwrap().len(), 1);
        }
        fs::fault::forget_rename_flags(false);
    }

    #[test]
    fn a_name_aside_that_is_taken_meanwhile_is_not_overwritten() {
        for has_flags in [true, false] {
            fs::fault::forget_rename_flags(!has_flags);
            let directory = tempfile::tempdir().unwrap();
            let (target, aside) = (directory.path().join("x"), directory.path().join("aside"));
            std::fs::write(&target, "old").unwrap();
            std::fs::write(&aside, "other").unwrap();
            let error = temporary(&target).commit(&Replacing::Aside(aside.clone())).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::AlreadyExists);
            assert_eq!(std::fs::read(&target).unwrap(), b"old");
            assert_eq!(std::fs::read(&aside).unwrap(), b"other");
            assert_eq!(fs::list(directory.path()).unwrap().len(), 2);
        }
        fs::fault::forget_rename_flags(false);
    }

    #[test]
    fn old_means_a_file_and_never_a_directory() {
        let directory = tempfile::tempdir().unwrap();
        let target = directory.path().join("x");
        std::fs::create_dir(&target).unwrap();
        assert!(temporary(&target).commit(&Replacing::Old).is_err());
        assert!(target.is_dir());
    }
}
