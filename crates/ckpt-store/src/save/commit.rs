//! One save: everything is written and durable under a temporary name, then it gets its name, then the pointers move.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use ckpt_core::ErrorKind;
use ckpt_core::ids::Step;
use ckpt_core::manifest::{self, Manifest};

use super::draft::{Draft, Source};
use super::root::Root;
use super::write::{self, write};
use super::{Existing, Session};
use crate::atomic::{Replacing, Temporary};
use crate::error::{Error, Result};
use crate::fs::{self, Occupant};
use crate::inspect::parent;

/// Names, headers and the manifest take about so much, and so does every file.
const OVERHEAD_BYTES: u64 = 64 << 10;
const FILE_OVERHEAD_BYTES: u64 = 8 << 10;

/// A checkpoint that is durable under its name.
#[derive(Clone, Debug)]
pub struct Committed {
    /// Its directory, or its file where a single one was saved.
    pub path: PathBuf,
    /// Its step.
    pub step: Step,
    /// Its size, the manifest aside.
    pub bytes: u64,
    /// The metrics by which it is the best one so far.
    pub best_by: Vec<String>,
    /// How long it took until it was durable; for an asynchronous save without the wait for the one before it.
    pub took: Duration,
}

pub(crate) fn now_ns() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

/// Saves a draft as a checkpoint directory.
pub(super) fn directory(root: &Root, session: &Session, draft: &Draft<'_>, existing: Existing) -> Result<Committed> {
    let started = Instant::now();
    let target = root.path.join(manifest::directory_name(draft.step));
    if existing == Existing::Refuse && fs::occupant(&target)? != Occupant::Nothing {
        return Err(Error::new(ErrorKind::AlreadyExists, &target, "this step was saved already:"));
    }
    let overhead = OVERHEAD_BYTES + FILE_OVERHEAD_BYTES * draft.files.len() as u64;
    root.check_space(draft.bytes().saturating_add(overhead))?;
    let temporary = Temporary::directory(&target)?;
    let mut manifest = Manifest {
        run_id: String::new(),
        session_id: session.id.clone(),
        sequence: 1,
        step: draft.step,
        epoch: draft.epoch,
        class: draft.class(),
        world_size: session.world_size,
        metrics: draft.metrics.clone(),
        parent: None,
        created_ns: now_ns(),
        files: files(draft, temporary.path())?.into_iter().collect(),
    };
    let _lock = root.lock()?;
    let before = root.current(draft.metrics.keys())?;
    if let Some(latest) = &before.latest {
        manifest.sequence = latest.sequence.saturating_add(1);
        manifest.parent = Some(latest.checkpoint.clone());
    }
    manifest.run_id = session.run_id(root, before.latest.as_ref())?;
    let at = temporary.path().join(manifest::FILE_NAME);
    let file = fs::create_new(&at)?;
    fs::write_all(&file, &at, &manifest.to_bytes())?;
    fs::sync(&file, &at)?;
    temporary.sync()?;
    let after = root.commit(temporary, &manifest, &before, existing == Existing::Replace)?;
    let is_best = |(metric, pointer): (&String, &manifest::Pointer)| {
        (pointer.sequence == manifest.sequence).then(|| metric.clone())
    };
    remove_moved(draft);
    let best_by = after.best.iter().filter_map(is_best).collect();
    Ok(Committed { path: target, step: draft.step, bytes: manifest.bytes(), best_by, took: started.elapsed() })
}

/// Removes what was saved from its old places. That it is still there as well harms nobody, but what somebody else put there
/// meanwhile was not saved and stays.
fn remove_moved(draft: &Draft<'_>) {
    for (name, from) in &draft.moved {
        let Some(Source::Copied { seen, .. }) = draft.files.get(name) else { continue };
        let removed = match fs::status(from) {
            Ok(now) if write::is_same(&now, seen) => fs::remove(from),
            Ok(_) => {
                tracing::warn!("`{}` is another file by now and stays where it is", from.display());
                continue;
            }
            Err(error) => Err(error),
        };
        if let Err(error) = removed {
            tracing::warn!("what was saved could not be removed from its old place: {error}");
        }
    }
}

/// Writes every file of a draft, durable with the directories below `at`.
fn files(draft: &Draft<'_>, at: &Path) -> Result<Vec<(String, manifest::File)>> {
    let mut directories = BTreeSet::new();
    let mut written = Vec::with_capacity(draft.files.len());
    for (name, source) in &draft.files {
        let path = at.join(name);
        if parent(&path) != at {
            fs::create_directories(parent(&path))?;
            let above = path.ancestors().skip(1).take_while(|above| *above != at);
            directories.extend(above.map(Path::to_owned));
        }
        let is_linked = match draft.moved.get(name) {
            Some(from) => fs::hard_link(from, &path)?,
            None => false,
        };
        let file = if is_linked {
            write::adopt(source, &path)?
        } else {
            write(source, &draft.buffer, &fs::create_new(&path)?, &path)?
        };
        written.push((name.clone(), file));
    }
    directories.iter().try_for_each(|directory| fs::sync_directory(directory))?;
    Ok(written)
}

/// Saves one file of a draft as a file of the root, in the place of an older one; gives what is left to delete.
///
/// The older one changes names with the new one in one step and is deleted by the caller, off the step path: to rename
/// over a file of a gigabyte takes half a second, in which the kernel frees its blocks.
pub(super) fn single(
    root: &Root,
    name: &str,
    source: &Source<'_>,
    draft: &Draft<'_>,
) -> Result<(Committed, Option<Temporary>)> {
    let started = Instant::now();
    let target = root.path.join(name);
    root.check_space(source.bytes().saturating_add(OVERHEAD_BYTES))?;
    let temporary = Temporary::file(&target)?;
    let written = write(source, &draft.buffer, temporary.handle(), temporary.path())?;
    let _lock = root.lock()?;
    let committed = |path| {
        let (bytes, best_by, took) = (written.bytes, Vec::new(), started.elapsed());
        Committed { path, step: draft.step, bytes, best_by, took }
    };
    let is_file = match fs::occupant(&target)? {
        Occupant::Nothing => false,
        Occupant::Something(status) if status.is_file => true,
        _ => {
            let message = "something that is no file has the name of what was to be saved:";
            return Err(Error::new(ErrorKind::AlreadyExists, &target, message));
        }
    };
    if is_file && fs::rename_exchange(temporary.path(), &target)? {
        fs::sync_directory(&root.path)?;
        return Ok((committed(target), Some(temporary)));
    }
    temporary.commit(if is_file { &Replacing::Old } else { &Replacing::Nothing })?;
    Ok((committed(target), None))
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::unwrap_used,
        clippy::disallowed_methods,
        reason = "a test fails by panicking, and prepares its own files"
    )]

    use super::*;

    #[test]
    fn a_file_that_took_the_name_of_a_moved_one_stays() {
        let place = tempfile::TempDir::new().unwrap();
        let (kept, gone) = (place.path().join("kept"), place.path().join("gone"));
        let mut draft = Draft::new(Step(1));
        for path in [&kept, &gone] {
            std::fs::write(path, "old").unwrap();
            let name = path.file_name().unwrap().to_str().unwrap();
            draft.add_file(name, path).unwrap();
            draft.moved.insert(name.to_owned(), path.clone());
        }
        std::fs::write(place.path().join("new"), "new").unwrap();
        std::fs::rename(place.path().join("new"), &kept).unwrap();
        remove_moved(&draft);
        assert_eq!(std::fs::read(&kept).unwrap(), b"new");
        assert!(!gone.exists());
    }
}
