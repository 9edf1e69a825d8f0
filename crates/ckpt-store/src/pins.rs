//! Pins: what nothing may prune, until somebody takes the pin away.
//!
//! A pin is a file `.ckpt-pins/NAME` beside the checkpoint of that name, so that it goes along when the directory is copied.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use ckpt_core::ErrorKind;

use crate::atomic::{Replacing, Temporary};
use crate::error::{Error, Result};
use crate::fs::{self, Occupant};
use crate::inspect::parent;

const DIRECTORY: &str = ".ckpt-pins";

/// Where the pin of a checkpoint is. A link such as `latest` stands for what it names now.
fn place(checkpoint: &Path) -> Result<(PathBuf, PathBuf)> {
    let path = match fs::canonical(checkpoint) {
        Ok(path) => path,
        // What is gone may still have a pin, and that one a name.
        Err(error) if error.kind() == ErrorKind::NotFound => match checkpoint.file_name() {
            Some(name) => fs::canonical(parent(checkpoint))?.join(name),
            None => return Err(error),
        },
        Err(error) => return Err(error),
    };
    let Some(name) = path.file_name() else {
        return Err(Error::new(ErrorKind::Invalid, checkpoint, "no checkpoint:"));
    };
    let directory = parent(&path).join(DIRECTORY);
    Ok((directory.join(name), path.clone()))
}

/// Pins a checkpoint, durably; gives the path of what is pinned.
///
/// # Errors
/// It is not there, or its directory cannot be written to.
pub fn pin(checkpoint: &Path, reason: &str) -> Result<PathBuf> {
    fs::canonical(checkpoint)?;
    let (at, path) = place(checkpoint)?;
    fs::create_directories(parent(&at))?;
    let temporary = Temporary::file(&at)?;
    fs::write_all(temporary.handle(), temporary.path(), format!("{reason}\n").as_bytes())?;
    temporary.sync()?;
    temporary.commit(&Replacing::Old)?;
    Ok(path)
}

/// Takes a pin away; tells of what, and whether there was one.
///
/// # Errors
/// The checkpoint is not there, or the pin cannot be deleted.
pub fn unpin(checkpoint: &Path) -> Result<(PathBuf, bool)> {
    let (at, path) = place(checkpoint)?;
    if fs::occupant(&at)? == Occupant::Nothing {
        fs::canonical(checkpoint)?;
        return Ok((path, false));
    }
    fs::remove(&at)?;
    fs::sync_directory(parent(&at))?;
    Ok((path, true))
}

/// The names that are pinned in a directory.
///
/// # Errors
/// The pins are there and cannot be listed.
pub fn pinned(directory: &Path) -> Result<BTreeSet<String>> {
    match fs::list(&directory.join(DIRECTORY)) {
        Ok(names) => Ok(names.into_iter().map(|(name, _)| name.to_string_lossy().into_owned()).collect()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(BTreeSet::new()),
        Err(error) => Err(error),
    }
}
