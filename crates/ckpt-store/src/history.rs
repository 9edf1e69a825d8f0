//! Finding and reading the histories that lie beside checkpoints.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use ckpt_core::candidate::{Source, file_name};
use ckpt_core::history::{self, History};
use ckpt_core::location::Location;
use ckpt_core::manifest::{LATEST, Pointer};
use ckpt_core::select::NamePattern;

use crate::error::Result;
use crate::fs;
use crate::inspect::parent;
use crate::scan::leads_astray;

/// Largest history that is read. Parsed, it takes several times its size in memory; a record of every step of a long
/// training takes less.
const BYTES: u64 = 32 << 20;

/// Largest pointer that is read.
const POINTER_BYTES: u64 = 64 << 10;

/// The names that trainers give to their histories.
pub const NAMES: [&str; 7] = [
    "*history*.json",
    "*history*.jsonl",
    "*history*.csv",
    "trainer_state.json",
    "results.csv",
    "metrics.csv",
    "metrics.jsonl",
];

/// A file that may be a history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Where it is.
    pub path: PathBuf,
    /// Where it comes from.
    pub source: Source,
}

/// Walks the locations for files whose names match; a location that is a file is taken whatever its name.
#[must_use]
pub fn find(locations: &[Location], names: &[NamePattern], depth: usize) -> Vec<Found> {
    let mut found = Vec::new();
    let mut seen = HashSet::new();
    for location in locations {
        for root in location.roots() {
            if fs::status(&root).is_ok_and(|status| status.is_file) {
                found.push(Found { source: location.source(parent(&root)), path: root });
                continue;
            }
            let mut pending = vec![(root, 0)];
            while let Some((directory, level)) = pending.pop() {
                // What cannot be listed holds no history; `ckpt scan` reports such places.
                let (Ok(status), Ok(entries)) = (fs::status(&directory), fs::list(&directory)) else { continue };
                if !seen.insert(status.identity) {
                    continue;
                }
                let (mut below, mut linked) = (Vec::new(), Vec::new());
                for (name, is_link) in entries {
                    let path = directory.join(&name);
                    let Ok(status) = fs::status(&path) else { continue };
                    let name = file_name(&path);
                    if status.is_directory {
                        let is_walked = level < depth && !name.starts_with('.');
                        if is_walked && !(is_link && leads_astray(location, &path)) {
                            // Links come last, so that what they lead to has the name of where it lies.
                            if is_link { &mut linked } else { &mut below }.push((path, level + 1));
                        }
                    } else if status.is_file && names.iter().any(|pattern| pattern.matches(&name)) {
                        found.push(Found { path, source: location.source(&directory) });
                    }
                }
                put_latest_first(&directory, &mut below);
                pending.extend(below.into_iter().chain(linked).rev());
            }
        }
    }
    found
}

/// Of the histories in checkpoints of ours, that of the latest tells what became of the run: where a trainer went back,
/// others tell of what it left.
fn put_latest_first(directory: &Path, below: &mut [(PathBuf, usize)]) {
    // Without a pointer that can be read, the order of the names has to do.
    let pointer = fs::read(&directory.join(format!("{LATEST}.json")), POINTER_BYTES);
    let Some(pointer) = pointer.ok().and_then(|bytes| Pointer::parse(&bytes).ok()) else { return };
    below.sort_by_key(|(path, _)| file_name(path) != pointer.checkpoint);
}

/// Reads one history.
///
/// # Errors
/// It cannot be read, or is no history.
pub fn read(path: &Path) -> Result<History> {
    let bytes = fs::read(path, BYTES)?;
    Ok(history::parse(&path.display().to_string(), &bytes)?)
}
