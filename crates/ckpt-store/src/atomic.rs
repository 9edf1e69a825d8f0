//! temp → commit: a file or directory appears under its name whole and durable, or not at all.
//!
//! The steps: write under a temporary name beside the target, make the contents durable, rename, make the directory
//! durable. A process that dies leaves the target as it was and at most a temporary behind, which [`clean`] removes: the
//! lock on it has died with its writer.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::Result;
use crate::fs;
use crate::inspect::parent;

const MARK: &str = ".ckpt-tmp-";

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
    /// It goes.
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
    let moment =
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.subsec_nanos());
    parent(target).join(format!(".{name}{MARK}{}-{unique}-{moment:x}", std::process::id()))
}

impl Temporary {
    /// A new file.
    ///
    /// # Errors
    /// The directory of `target` is not there or cannot be written to.
    pub fn file(target: &Path) -> Result<Self> {
        let path = temporary_name(target);
        let handle = fs::create_locked(&path)?;
        Ok(Self { path, target: target.to_owned(), handle, is_committed: false })
    }

    /// A new directory.
    ///
    /// # Errors
    /// The directory of `target` is not there or cannot be written to.
    pub fn directory(target: &Path) -> Result<Self> {
        let path = temporary_name(target);
        let handle = fs::create_directory_locked(&path)?;
        Ok(Self { path, target: target.to_owned(), handle, is_committed: false })
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
        match replacing {
            Replacing::Nothing => fs::rename_new(&self.path, &self.target)?,
            Replacing::Aside(aside) => fs::rename_aside(&self.path, &self.target, aside)?,
            Replacing::Old if fs::status(&self.target).is_ok_and(|status| status.is_directory) => {
                // A directory cannot be renamed over another: they change names, and the old one goes.
                let old = temporary_name(&self.target);
                fs::rename_aside(&self.path, &self.target, &old)?;
                self.is_committed = true;
                fs::sync_directory(parent(&self.target))?;
                return fs::remove(&old);
            }
            Replacing::Old => fs::rename_over(&self.path, &self.target)?,
        }
        self.is_committed = true;
        fs::sync_directory(parent(&self.target))
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if !self.is_committed
            && let Err(error) = fs::remove(&self.path)
        {
            // The next call of `clean` finds it.
            tracing::debug!(%error, "a temporary is left behind");
        }
    }
}

/// Deletes the temporaries in `directory` whose writers are dead; returns how many.
///
/// # Errors
/// The directory cannot be listed, or a leftover not deleted.
pub fn clean(directory: &Path) -> Result<usize> {
    let mut cleaned = 0;
    for (name, _) in fs::list(directory)? {
        let text = name.to_string_lossy();
        let path = directory.join(&name);
        let Some((_, tail)) = text.split_once(MARK).filter(|_| text.starts_with('.')) else { continue };
        // Both signs, because a writer that has just made its file has not locked it yet, and a process number may
        // belong to another machine.
        let writer = tail.split('-').next().and_then(|number| number.parse().ok());
        if !writer.is_some_and(fs::process_is_alive) && !fs::lock_is_held(&path) {
            fs::remove(&path)?;
            cleaned += 1;
        }
    }
    Ok(cleaned)
}

/// Replaces a file that can be made again: atomically, and not durably.
///
/// # Errors
/// The directory cannot be written to.
pub fn replace_text(target: &Path, bytes: &[u8]) -> Result<()> {
    let mut temporary = Temporary::file(target)?;
    fs::write_all(temporary.handle(), temporary.path(), bytes)?;
    fs::rename_over(&temporary.path, target)?;
    temporary.is_committed = true;
    Ok(())
}
