//! A directory seen as one checkpoint.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

use ckpt_core::limits;
use ckpt_core::members::Members;
use ckpt_core::read::ReadAt;

use super::{Status, canonical, list, open_regular, status};
use crate::error::Result;

/// The files below a directory.
#[derive(Debug)]
pub struct DirectoryMembers {
    root: PathBuf,
    sizes: BTreeMap<String, u64>,
    /// Where each member lies below the root: its name where that is valid UTF-8.
    paths: BTreeMap<String, PathBuf>,
    statuses: Vec<(String, Status)>,
    dangling: Vec<PathBuf>,
    problem: Option<String>,
}

impl DirectoryMembers {
    /// Lists the files below `root`, to the depth and number that [`limits`] allow. A directory that is reached on two
    /// ways, by links, is listed once, under its own name where that is in `root`. A link to a directory outside `root` is not followed: what lies there is no part
    /// of the checkpoint, and could be anything. A link to a file is that file, as in the caches of Hugging Face.
    ///
    /// What cannot be looked at is left out, and [`Self::problem`] says so.
    ///
    /// # Errors
    /// `root` itself cannot be listed.
    pub fn open(root: &Path) -> Result<Self> {
        let mut members = Self::empty(root);
        let mut seen = BTreeSet::from([status(root)?.identity]);
        let mut pending = vec![(PathBuf::new(), 0)];
        let mut linked = Vec::new();
        while let Some((directory, depth)) = pending.pop().or_else(|| next_unseen(&mut linked, &mut seen)) {
            let entries = match list(&root.join(&directory)) {
                Ok(entries) => entries,
                Err(error) if directory.as_os_str().is_empty() => return Err(error),
                Err(error) => {
                    members.note(format!("`{}` in it cannot be listed: {}", directory.display(), cause(&error)));
                    continue;
                }
            };
            for (name, is_link) in entries {
                let relative = directory.join(&name);
                // A dangling link is a missing member, which the inspection reports.
                let Ok(status) = status(&root.join(&relative)) else {
                    members.dangling.push(relative);
                    continue;
                };
                if status.is_file {
                    members.add(relative, status);
                } else if status.is_directory && is_link && !is_inside(root, &relative) {
                    members.note(format!("`{}` in it is a link out of it, which is not followed", relative.display()));
                } else if status.is_directory && depth >= limits::MEMBER_DEPTH {
                    members.note(format!(
                        "it is deeper than {} levels at `{}`",
                        limits::MEMBER_DEPTH,
                        relative.display()
                    ));
                } else if status.is_directory && is_link {
                    linked.push((relative, depth + 1, status.identity));
                } else if status.is_directory && seen.insert(status.identity) {
                    pending.push((relative, depth + 1));
                }
            }
        }
        members.statuses.sort_by(|left, right| left.0.cmp(&right.0));
        Ok(members)
    }

    /// Lists one directory without what is below it.
    ///
    /// # Errors
    /// The directory cannot be listed.
    pub fn flat(root: &Path) -> Result<Self> {
        let mut members = Self::empty(root);
        for (name, _) in list(root)? {
            if let Ok(status) = status(&root.join(&name))
                && status.is_file
            {
                members.add(PathBuf::from(name), status);
            }
        }
        members.statuses.sort_by(|left, right| left.0.cmp(&right.0));
        Ok(members)
    }

    fn empty(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
            sizes: BTreeMap::new(),
            paths: BTreeMap::new(),
            statuses: Vec::new(),
            dangling: Vec::new(),
            problem: None,
        }
    }

    fn add(&mut self, relative: PathBuf, status: Status) {
        if self.sizes.len() >= limits::MEMBERS {
            return self.note(format!("it holds more than {} files", limits::MEMBERS));
        }
        let mut name = relative.to_string_lossy().into_owned();
        // Two names that are no UTF-8 can look the same.
        while self.sizes.contains_key(&name) {
            name.push(char::REPLACEMENT_CHARACTER);
        }
        self.sizes.insert(name.clone(), status.size);
        self.paths.insert(name.clone(), relative);
        self.statuses.push((name, status));
    }

    fn note(&mut self, problem: String) {
        self.problem.get_or_insert(problem);
    }

    /// Every file with its status, sorted by name.
    #[must_use]
    pub fn statuses(&self) -> &[(String, Status)] {
        &self.statuses
    }

    /// Where a listed file lies below the directory.
    #[must_use]
    pub fn relative_path(&self, name: &str) -> Option<&Path> {
        self.paths.get(name).map(PathBuf::as_path)
    }

    /// Links to nowhere, and what else could not be looked at, below the directory.
    #[must_use]
    pub fn dangling(&self) -> &[PathBuf] {
        &self.dangling
    }

    /// Why the list is not complete, when it is not.
    #[must_use]
    pub fn problem(&self) -> Option<&str> {
        self.problem.as_deref()
    }
}

/// The next directory behind a link that was not listed under another name.
fn next_unseen(
    linked: &mut Vec<(PathBuf, usize, (u64, u64))>,
    seen: &mut BTreeSet<(u64, u64)>,
) -> Option<(PathBuf, usize)> {
    std::iter::from_fn(|| linked.pop())
        .find(|(_, _, identity)| seen.insert(*identity))
        .map(|(path, depth, _)| (path, depth))
}

/// Whether what a link stands for lies below the directory.
fn is_inside(root: &Path, link: &Path) -> bool {
    let target = canonical(&root.join(link));
    matches!((canonical(root), target), (Ok(root), Ok(target)) if target.starts_with(&root))
}

fn cause(error: &crate::Error) -> String {
    std::error::Error::source(error).map_or_else(|| error.to_string(), ToString::to_string)
}

impl Members for DirectoryMembers {
    fn list(&self) -> &BTreeMap<String, u64> {
        &self.sizes
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn ReadAt + '_>> {
        let relative = self.paths.get(name).ok_or(io::ErrorKind::NotFound)?;
        Ok(Box::new(open_regular(&self.root.join(relative))?))
    }
}
