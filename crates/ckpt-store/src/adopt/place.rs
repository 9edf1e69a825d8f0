//! Where files lie that are to be adopted: none of a root may go into the root, and none of a checkpoint may be moved out.

use std::path::{Path, PathBuf};

use ckpt_core::manifest::{self, Manifest};
use ckpt_core::{ErrorKind, limits};

use crate::error::{Error, Result};
use crate::fs::{self, Occupant};
use crate::inspect::parent;

/// Refuses a root that is no directory, and directories that hold the root: they would be saved into themselves.
///
/// # Errors
/// [`ErrorKind::Invalid`]: it is so. A path cannot be looked at.
pub(super) fn check_root(paths: &[PathBuf], root: &Path) -> Result<()> {
    match fs::occupant(root)? {
        Occupant::DeadLink => {
            return Err(Error::new(ErrorKind::Invalid, root, "no root, but a link to nowhere, is"));
        }
        Occupant::Something(status) if !status.is_directory => {
            return Err(Error::new(ErrorKind::Invalid, root, "no root, but a file, is"));
        }
        _ => {}
    }
    let whole = canonical(root)?;
    for path in paths {
        if fs::status(path)?.is_directory && whole.starts_with(fs::canonical(path)?) {
            let message = format!("the root `{}` is or lies in it, and cannot be saved into itself:", root.display());
            return Err(Error::new(ErrorKind::Invalid, path, message));
        }
    }
    Ok(())
}

/// The path without links and dots, of which the end may not be there yet.
fn canonical(path: &Path) -> Result<PathBuf> {
    if fs::occupant(path)? == Occupant::Nothing
        && let Some(name) = path.file_name()
    {
        return Ok(canonical(parent(path))?.join(name));
    }
    fs::canonical(path)
}

/// Whether a file is one of a committed checkpoint, under its own name or by a link.
pub(super) fn is_committed(path: &Path) -> Result<bool> {
    let (file, link) = (fs::canonical(path)?, fs::canonical(parent(path))?);
    let mut above = file.ancestors().skip(1).chain(link.ancestors());
    Ok(above.any(is_checkpoint))
}

/// Whether a directory holds a manifest of ours.
pub(super) fn is_checkpoint(directory: &Path) -> bool {
    // What cannot be read is no manifest that anybody could have checked.
    let bytes = fs::read(&directory.join(manifest::FILE_NAME), limits::JSON_BYTES);
    bytes.is_ok_and(|bytes| Manifest::parse(&bytes).is_ok())
}
