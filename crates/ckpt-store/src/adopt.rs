//! Files that any trainer wrote, on their way into a checkpoint of ours: under which names, whether they are sound, and what
//! they say.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::path::{Path, PathBuf};

use ckpt_core::candidate::{Candidate, Shape, file_name};
use ckpt_core::finding::{Code, Finding, Severity};
use ckpt_core::format::Format;
use ckpt_core::ids::{Epoch, Step};
use ckpt_core::inspect::{DirectoryKind, Inspection, index_shards};
use ckpt_core::layout::{Class, Parts};
use ckpt_core::metric::Metric;
use ckpt_core::name::{self, Claim};
use ckpt_core::verify::{Expectations, Verified};
use ckpt_core::{ErrorKind, limits, manifest};

use crate::error::{Error, Result};
use crate::fs::{self, DirectoryMembers, Status};
use crate::inspect;
use crate::save::PendingSave;
use crate::verify;

mod place;

/// One file to adopt.
#[derive(Clone, Debug)]
pub struct Adopted {
    /// Where it is.
    pub from: PathBuf,
    seen: Status,
}

/// Files that were found to be sound.
#[derive(Clone, Debug, Default)]
pub struct Adoption {
    /// The files by the names that they get, relative to the checkpoint.
    pub files: BTreeMap<String, Adopted>,
    /// Whether files of a checkpoint that is committed already are among them.
    pub is_committed: bool,
    /// Those whose content says nothing that is understood here.
    pub unread: Vec<PathBuf>,
    /// Links to nowhere, which are left out.
    pub dangling: Vec<PathBuf>,
    told: Vec<(PathBuf, Inspection)>,
}

/// Looks at files, and at directories with everything in them, reading every byte of what is understood. A file gets its own
/// name, a file in a directory its name relative to that.
///
/// # Errors
/// [`ErrorKind::Corrupt`]: one is damaged. [`ErrorKind::Refused`]: loading one would run dangerous code, and that is not
/// allowed. [`ErrorKind::Invalid`]: two have one name, there is no file at all, a directory holds `root` or several checkpoints, or
/// `root` is a file. [`ErrorKind::Incomplete`]: a part is missing. One cannot be read, or a directory not as a whole.
pub fn adopt(paths: &[PathBuf], root: &Path, allow_unsafe: bool) -> Result<Adoption> {
    place::check_root(paths, root)?;
    let expected = Expectations { allow_unsafe, ..Expectations::default() };
    let mut adoption = Adoption::default();
    for path in paths {
        if fs::status(path)?.is_directory {
            adoption.directory(path, &expected)?;
        } else {
            adoption.add(file_name(path), path.clone())?;
            let inspection = adoption.file(path, (true, true), &expected)?;
            adoption.told.extend(inspection.map(|inspection| (path.clone(), inspection)));
        }
    }
    if adoption.files.is_empty() {
        let first = paths.first().map_or(Path::new("."), PathBuf::as_path);
        return Err(Error::new(ErrorKind::Invalid, first, "there is nothing to save in"));
    }
    adoption.require_shards()?;
    Ok(adoption)
}

impl Adoption {
    fn add(&mut self, name: String, from: PathBuf) -> Result<()> {
        let seen = fs::status(&from)?;
        if let Some(other) = self.files.get(&name) {
            let message = format!("the name `{name}` is taken by `{}`, so there is none for", other.from.display());
            return Err(Error::new(ErrorKind::Invalid, &from, message));
        }
        self.is_committed = self.is_committed || place::is_committed(&from)?;
        self.files.insert(name, Adopted { from, seen });
        Ok(())
    }

    /// What one file says; `None` when it is no checkpoint and does not claim to be one. One that the user names may be a
    /// checkpoint whatever its name claims.
    fn file(
        &mut self,
        path: &Path,
        (is_named, is_deep): (bool, bool),
        expected: &Expectations,
    ) -> Result<Option<Inspection>> {
        let name = file_name(path);
        let claim = name::claim(&name);
        if claim.is_none() && !is_named {
            return Ok(None);
        }
        let candidate = inspect::candidate(path)?;
        let inspection = inspect::inspect(&candidate)?;
        if inspection.format == Format::Unknown && claim != Some(Claim::Strong) {
            let is_cut = claim.is_some() && name.contains('.') && is_cut(&inspection);
            if !is_cut {
                self.unread.extend(claim.map(|_| path.to_owned()));
                return Ok(None);
            }
        } else if !inspection.format.is_inspected() && inspection.format != Format::Unknown {
            self.unread.push(path.to_owned());
        }
        judged(candidate, inspection, is_deep, expected).map(Some)
    }

    fn directory(&mut self, path: &Path, expected: &Expectations) -> Result<()> {
        let candidate = inspect::candidate(path)?;
        let inspection = inspect::inspect(&candidate)?;
        let is_whole = inspect::directory_kind(path)?.is_some() && !inspect::is_no_checkpoint(&candidate, &inspection);
        let is_ours = is_whole && candidate.shape == Shape::Directory(DirectoryKind::Ckpt);
        self.is_committed |= is_ours;
        if is_whole {
            let inspection = judged(candidate, inspection, true, expected)?;
            self.told.push((path.to_owned(), inspection));
        }
        let members = DirectoryMembers::open(path)?;
        if let Some(problem) = members.problem() {
            return Err(Error::new(ErrorKind::Invalid, path, format!("not adopted, because {problem}:")));
        }
        self.check_members(path, &members)?;
        for (name, _) in members.statuses() {
            // The new checkpoint gets a manifest of its own.
            if is_ours && name == manifest::FILE_NAME {
                continue;
            }
            let from = path.join(members.relative_path(name).unwrap_or(name.as_ref()));
            if name == manifest::FILE_NAME {
                let message = "a checkpoint's own manifest has the name of another program's file:";
                return Err(Error::new(ErrorKind::Invalid, &from, message));
            }
            self.add(name.clone(), from.clone())?;
            // A part of a whole says what it says there: the state of a scheduler counts steps of its own.
            let told = self.file(&from, (false, !is_whole), expected)?.filter(|_| !is_whole);
            self.told.extend(told.map(|inspection| (from, inspection)));
        }
        Ok(())
    }

    /// Refuses a directory of several checkpoints, and one of which a part is gone.
    fn check_members(&mut self, path: &Path, members: &DirectoryMembers) -> Result<()> {
        let inner = members.statuses().iter().filter_map(|(name, _)| name.strip_suffix(manifest::FILE_NAME));
        for directory in inner.filter_map(|name| name.strip_suffix('/')) {
            if place::is_checkpoint(&path.join(directory)) {
                let message =
                    format!("a committed checkpoint, `{directory}`, lies in it, so it is not one checkpoint:");
                return Err(Error::new(ErrorKind::Invalid, path, message));
            }
        }
        for link in members.dangling() {
            let from = path.join(link);
            if name::claim(&file_name(link)).is_some() {
                return Err(Error::new(ErrorKind::Incomplete, &from, "a part is missing, because nothing is behind"));
            }
            self.dangling.push(from);
        }
        Ok(())
    }

    /// Whether any of the files is of a format that is recognised.
    #[must_use]
    pub fn is_recognised(&self) -> bool {
        !self.told.is_empty()
    }

    /// The shards that an index names lie beside it, and must come along.
    fn require_shards(&self) -> Result<()> {
        for (name, adopted) in self.files.iter().filter(|(name, _)| name::is_index(name)) {
            let directory = name.rsplit_once('/').map(|(directory, _)| format!("{directory}/")).unwrap_or_default();
            let shards = index_shards(&fs::read(&adopted.from, limits::INDEX_BYTES)?);
            if let Some(shard) = shards.iter().find(|shard| !self.files.contains_key(&format!("{directory}{shard}"))) {
                let message = format!("its shard `{shard}` is not among the files, and incomplete without it is");
                return Err(Error::new(ErrorKind::Incomplete, &adopted.from, message));
            }
        }
        Ok(())
    }

    /// Adds all files to a save.
    ///
    /// # Errors
    /// As [`PendingSave::file`]. [`ErrorKind::Conflict`]: one changed since it was looked at.
    pub fn add_to(&self, pending: &mut PendingSave<'_, '_>, is_moved: bool) -> Result<()> {
        for (name, Adopted { from, seen }) in &self.files {
            if is_moved {
                pending.moved_file(name, from)?
            } else {
                pending.file(name, from)?
            };
            if fs::status(from)? != *seen {
                return Err(Error::new(ErrorKind::Conflict, from, "somebody wrote to it while it was looked at:"));
            }
        }
        Ok(())
    }

    /// The step that the files tell.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`]: they tell different ones.
    pub fn step(&self) -> Result<Option<Step>> {
        self.agreed("step", |inspection| inspection.step)
    }

    /// The epoch that the files tell.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`]: they tell different ones.
    pub fn epoch(&self) -> Result<Option<Epoch>> {
        self.agreed("epoch", |inspection| inspection.epoch)
    }

    fn agreed<T: PartialEq + Display + Copy>(
        &self,
        what: &str,
        tell: impl Fn(&Inspection) -> Option<T>,
    ) -> Result<Option<T>> {
        let mut told = self.told.iter().filter_map(|(path, inspection)| Some((path, tell(inspection)?)));
        let Some((first, value)) = told.next() else { return Ok(None) };
        match told.find(|(_, other)| *other != value) {
            None => Ok(Some(value)),
            Some((path, other)) => {
                let message = format!("`{}` is of {what} {value}, and of {what} {other} is", first.display());
                Err(Error::new(ErrorKind::Invalid, path, message))
            }
        }
    }

    /// The metrics that the files tell; of one name, that of the first file.
    #[must_use]
    pub fn metrics(&self) -> Vec<&Metric> {
        let mut metrics: Vec<&Metric> = Vec::new();
        for metric in self.told.iter().flat_map(|(_, inspection)| &inspection.metrics) {
            if metrics.iter().all(|known| known.name != metric.name) {
                metrics.push(metric);
            }
        }
        metrics
    }

    /// What training can do with all of it together; `None` when no file tells.
    #[must_use]
    pub fn class(&self) -> Option<Class> {
        let parts = self.told.iter().map(|(_, inspection)| inspection.parts);
        parts.reduce(Parts::union).map(Class::of)
    }
}

/// Whether the save of a file was killed at its first bytes.
fn is_cut(inspection: &Inspection) -> bool {
    inspection.findings.iter().any(|finding| matches!(finding.code, Code::Empty | Code::Truncated))
}

/// Hands on what is neither damaged nor dangerous. A part of a state, such as a scaler's, may be no checkpoint by itself.
fn judged(candidate: Candidate, inspection: Inspection, is_deep: bool, expected: &Expectations) -> Result<Inspection> {
    let is_unknown = inspection.format == Format::Unknown;
    let is_tolerated = |code| match code {
        Code::NotACheckpoint => !is_unknown,
        Code::MissingKeys | Code::BadValue | Code::Unsupported => true,
        _ => false,
    };
    let deep = if is_deep { Some(verify::deep(&candidate)?) } else { None };
    let Verified { candidate, inspection, verdict, .. } = Verified::new(candidate, inspection, deep, expected);
    let errors = || verdict.findings.iter().filter(|finding| finding.severity == Severity::Error);
    let refuse = |kind, finding: &Finding| {
        let message = format!("nothing was saved, because of {} ({}) in", finding.code.name(), finding.message);
        Err(Error::new(kind, &candidate.path, message))
    };
    let damaged = errors().find(|finding| finding.code != Code::Unsafe && !is_tolerated(finding.code));
    match (damaged, errors().find(|finding| finding.code == Code::Unsafe)) {
        (Some(finding), _) => refuse(ErrorKind::Corrupt, finding),
        (None, Some(finding)) => refuse(ErrorKind::Refused, finding),
        (None, None) => Ok(inspection),
    }
}
