//! prune: deletes what the plan says, and nothing that changed since.
//!
//! The decision is [`ckpt_core::prune::plan`], made for each directory by itself: two runs side by side do not compete. A
//! checkpoint loses its name first, durably, and its bytes afterwards, so that none is ever half deleted.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use ckpt_core::ErrorKind;
use ckpt_core::candidate::Shape;
use ckpt_core::inspect::index_shards;
use ckpt_core::progress::{Progress, Unit};
use ckpt_core::prune::{self, Item, PrunePlan, Retention, Soundness};
use ckpt_core::select::NamePattern;
use ckpt_core::verify::{Expectations, Verified};
use ckpt_core::{limits, name};

use crate::atomic;
use crate::error::{Error, Result};
use crate::fs::{self, DirectoryMembers, Lock, Occupant, Status};
use crate::inspect::parent;
use crate::survey::deep_findings;
use crate::{pins, save};

#[cfg(test)]
mod crash;

/// How long a saver may hold a directory.
const LOCK_DEADLINE: Duration = Duration::from_secs(30);

/// What is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Rules<'a> {
    /// What to keep.
    pub retention: &'a Retention,
    /// Only files of these names; all when empty. Who names a file means it, so that it may go even where its name tells
    /// neither step nor epoch.
    pub names: &'a [NamePattern],
    /// The time now, in nanoseconds since 1970.
    pub now_ns: i64,
}

/// What is planned for one directory.
#[derive(Debug)]
pub struct Pruning {
    /// The directory.
    pub directory: PathBuf,
    /// What stays and what goes, with reasons. The names of items are their paths.
    pub plan: PrunePlan,
    seen: BTreeMap<String, Seen>,
}

/// What a checkpoint was when the plan was made.
#[derive(Debug)]
struct Seen {
    /// What is deleted, in this order: what makes it a checkpoint comes first.
    paths: Vec<PathBuf>,
    statuses: Vec<(String, Status)>,
}

/// What became of a plan.
#[derive(Debug, Default)]
pub struct Pruned {
    /// What was deleted.
    pub removed: Vec<PathBuf>,
    /// How many bytes that were.
    pub bytes: u64,
    /// What could not be deleted, or changed after the plan was made, and so stays.
    pub failed: Vec<(PathBuf, Error)>,
}

/// The time now, in nanoseconds since 1970, for [`Rules`].
#[must_use]
pub fn now_ns() -> i64 {
    save::now_ns()
}

/// Plans for every directory that holds checkpoints. What lies in read-only places is left out.
///
/// A file whose name tells neither step nor epoch (`best.pt`, `last.ckpt`) is none of a series: it stays, unless it was
/// named.
///
/// # Errors
/// [`ErrorKind::Invalid`]: the rules do not fit what is there, see [`prune::plan`]. Pins cannot be read.
pub fn plan(verified: &[Verified], rules: &Rules<'_>) -> Result<Vec<Pruning>> {
    let mut directories: BTreeMap<&Path, Vec<&Verified>> = BTreeMap::new();
    for item in verified.iter().filter(|item| !item.candidate.source.is_read_only) {
        directories.entry(parent(&item.candidate.path)).or_default().push(item);
    }
    let mut prunings = Vec::new();
    for (directory, found) in directories {
        let pinned = pins::pinned(directory)?;
        let pointed = save::pointed_at(directory)?;
        let foreign = foreign(&found)?;
        let (mut items, mut seen) = (Vec::new(), BTreeMap::new());
        for verified in found.into_iter().filter(|verified| rules.are_about(&verified.candidate.name())) {
            let mut item = Item::of(verified);
            let file_name = verified.candidate.name();
            let paths = paths(verified, &foreign)?;
            let own = paths.iter().skip(1).map(|path| ckpt_core::candidate::file_name(path));
            item.is_pinned = verified.candidate.names().chain(own).any(|name| pinned.contains(&name));
            for pointer in pointed.get(&file_name).into_iter().flatten() {
                if !item.pointers.contains(pointer) {
                    item.pointers.push(pointer.clone());
                }
            }
            let told = name::facts(&file_name);
            let is_of_series = told.step.is_some() || told.epoch.is_some() || item.sequence.is_some();
            if !is_of_series && rules.names.is_empty() {
                item.pointers.push(file_name);
            }
            seen.insert(item.name.clone(), Seen { statuses: statuses(&paths)?, paths });
            items.push(item);
        }
        if !items.is_empty() {
            let plan = prune::plan(items, rules.retention, rules.now_ns)?;
            prunings.push(Pruning { directory: directory.to_owned(), plan, seen });
        }
    }
    Ok(prunings)
}

/// As [`plan`], after every byte was checked of the newest one that stays wherever something goes: what is damaged there
/// is no reason to let an older one go.
///
/// # Errors
/// As [`plan`].
pub fn plan_checked(verified: &mut [Verified], rules: &Rules<'_>, progress: &dyn Progress) -> Result<Vec<Pruning>> {
    loop {
        let prunings = plan(verified, rules)?;
        let going_on: BTreeSet<&str> = prunings
            .iter()
            .filter(|pruning| pruning.plan.dropped().next().is_some())
            .filter_map(|pruning| pruning.plan.kept().find(|item| item.soundness == Soundness::Valid))
            .map(|item| item.name.as_str())
            .collect();
        let mut is_sound = true;
        for item in verified.iter_mut().filter(|item| !item.is_deep) {
            if going_on.contains(&*item.candidate.path.display().to_string()) {
                progress.begin("checking every byte of what stays", 0, Unit::Bytes);
                *item = item.clone().with_deep(deep_findings(&item.candidate), &Expectations::default());
                progress.end();
                is_sound &= item.verdict.is_valid;
            }
        }
        if is_sound {
            return Ok(prunings);
        }
    }
}

impl Rules<'_> {
    fn are_about(&self, name: &str) -> bool {
        self.names.is_empty() || self.names.iter().any(|pattern| pattern.matches(name))
    }
}

fn shards(index: &Path) -> Result<BTreeSet<String>> {
    Ok(index_shards(&fs::read(index, limits::INDEX_BYTES)?).into_iter().collect())
}

/// What an index names and what does not go with it: the shards of more than one index, and what is a checkpoint itself.
fn foreign(found: &[&Verified]) -> Result<BTreeSet<String>> {
    let mut foreign: BTreeSet<String> = found.iter().flat_map(|item| item.candidate.names()).collect();
    let mut once = BTreeSet::new();
    for item in found.iter().filter(|item| item.candidate.shape == Shape::Index) {
        for shard in shards(&item.candidate.path)? {
            if !once.insert(shard.clone()) {
                foreign.insert(shard);
            }
        }
    }
    Ok(foreign)
}

/// What a checkpoint consists of, in the order of deletion. An index may name anything: only files beside it go with it.
fn paths(verified: &Verified, foreign: &BTreeSet<String>) -> Result<Vec<PathBuf>> {
    let path = &verified.candidate.path;
    let mut paths = vec![path.clone()];
    if verified.candidate.shape == Shape::Index {
        for shard in shards(path)?.into_iter().filter(|shard| !shard.contains('/') && !foreign.contains(shard)) {
            let shard = parent(path).join(shard);
            if matches!(fs::occupant(&shard)?, Occupant::Something(status) if status.is_file) {
                paths.push(shard);
            }
        }
    }
    Ok(paths)
}

/// What the files of a checkpoint are now; of a directory, also what is in it.
fn statuses(paths: &[PathBuf]) -> Result<Vec<(String, Status)>> {
    let mut statuses = Vec::new();
    for path in paths {
        let status = fs::status(path)?;
        if status.is_directory {
            statuses.extend_from_slice(DirectoryMembers::open(path)?.statuses());
        }
        statuses.push((path.display().to_string(), status));
    }
    Ok(statuses)
}

/// Deletes what a plan drops. What changed since, got a pin or a link, stays and is told.
///
/// # Errors
/// [`ErrorKind::Conflict`]: a saver has held the directory for long.
pub fn apply(pruning: &Pruning) -> Result<Pruned> {
    let directory = &pruning.directory;
    let _lock = lock(directory)?;
    // What an earlier one left when it died.
    atomic::clean(directory)?;
    let mut pruned = Pruned::default();
    let wanted = wanted(directory)?;
    for item in pruning.plan.dropped() {
        let Some(seen) = pruning.seen.get(&item.name) else { continue };
        let Some(path) = seen.paths.first() else { continue };
        match seen.remove(path, &wanted) {
            Ok(()) => {
                pruned.removed.push(path.clone());
                pruned.bytes = pruned.bytes.saturating_add(item.bytes);
            }
            Err(error) => pruned.failed.push((path.clone(), error)),
        }
    }
    Ok(pruned)
}

impl Seen {
    /// Removes the checkpoint at `path`, unless it is wanted or not any more what it was.
    fn remove(&self, path: &Path, wanted: &BTreeSet<String>) -> Result<()> {
        if self.paths.iter().any(|path| wanted.contains(&ckpt_core::candidate::file_name(path))) {
            return Err(Error::new(ErrorKind::Conflict, path, "pinned or linked to after the plan was made:"));
        }
        if statuses(&self.paths)? != self.statuses {
            return Err(Error::new(ErrorKind::Conflict, path, "changed after the plan was made:"));
        }
        self.paths.iter().try_for_each(|path| remove(path))
    }
}

fn remove(path: &Path) -> Result<()> {
    if fs::occupant(path)? == Occupant::Nothing { Ok(()) } else { atomic::discard(path) }
}

/// The lock of a directory in which our savers work; others have none.
fn lock(directory: &Path) -> Result<Option<Lock>> {
    let at = directory.join(save::LOCK);
    if fs::occupant(&at)? == Occupant::Nothing { Ok(None) } else { fs::lock_file(&at, LOCK_DEADLINE).map(Some) }
}

/// The names in a directory that pins, links and pointers mean.
fn wanted(directory: &Path) -> Result<BTreeSet<String>> {
    let mut wanted = pins::pinned(directory)?;
    wanted.extend(save::pointed_at(directory)?.into_keys());
    for (name, _) in fs::list(directory)?.into_iter().filter(|(_, is_link)| *is_link) {
        if let Some(target) = fs::read_link(&directory.join(name))?
            && let Some(target) = target.file_name()
        {
            wanted.insert(target.to_string_lossy().into_owned());
        }
    }
    Ok(wanted)
}
