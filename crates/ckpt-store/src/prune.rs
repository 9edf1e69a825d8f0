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
use ckpt_core::prune::{self, Item, PrunePlan, Retention};
use ckpt_core::verify::Verified;
use ckpt_core::{limits, name};

use crate::atomic;
use crate::error::{Error, Result};
use crate::fs::{self, Lock, Occupant, Status};
use crate::inspect::parent;
use crate::{pins, save};

/// How long a saver may hold a directory.
const LOCK_DEADLINE: Duration = Duration::from_secs(30);

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
    status: Status,
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

/// Plans for every directory that holds checkpoints. What lies in read-only places is left out.
///
/// A file whose name tells neither step nor epoch (`best.pt`, `last.ckpt`) is none of a series: it stays, unless
/// `is_named` says that the caller named it.
///
/// # Errors
/// [`ErrorKind::Invalid`]: the rules do not fit what is there, see [`prune::plan`]. Pins cannot be read.
pub fn plan(
    verified: &[Verified],
    retention: &Retention,
    is_named: &dyn Fn(&str) -> bool,
    now_ns: i64,
) -> Result<Vec<Pruning>> {
    let mut directories: BTreeMap<&Path, Vec<&Verified>> = BTreeMap::new();
    for item in verified.iter().filter(|item| !item.candidate.source.is_read_only) {
        directories.entry(parent(&item.candidate.path)).or_default().push(item);
    }
    let mut prunings = Vec::new();
    for (directory, found) in directories {
        let pinned = pins::pinned(directory)?;
        let shared = shared_shards(&found)?;
        let (mut items, mut seen) = (Vec::new(), BTreeMap::new());
        for verified in found {
            let mut item = Item::of(verified);
            let file_name = verified.candidate.name();
            item.is_pinned =
                pinned.contains(&file_name) || verified.candidate.names().any(|name| pinned.contains(&name));
            let told = name::facts(&file_name);
            let is_of_series = told.step.is_some() || told.epoch.is_some() || item.sequence.is_some();
            if !is_of_series && !is_named(&file_name) {
                item.pointers.push(file_name);
            }
            let status = fs::status(&verified.candidate.path)?;
            seen.insert(item.name.clone(), Seen { paths: paths(verified, &shared)?, status });
            items.push(item);
        }
        let plan = prune::plan(items, retention, now_ns)?;
        prunings.push(Pruning { directory: directory.to_owned(), plan, seen });
    }
    Ok(prunings)
}

fn shards(index: &Path) -> Result<BTreeSet<String>> {
    Ok(index_shards(&fs::read(index, limits::INDEX_BYTES)?).into_iter().collect())
}

/// The shards that more than one index of a directory names.
fn shared_shards(found: &[&Verified]) -> Result<BTreeSet<String>> {
    let (mut once, mut twice) = (BTreeSet::new(), BTreeSet::new());
    for item in found.iter().filter(|item| item.candidate.shape == Shape::Index) {
        for shard in shards(&item.candidate.path)? {
            if !once.insert(shard.clone()) {
                twice.insert(shard);
            }
        }
    }
    Ok(twice)
}

/// What a checkpoint consists of, in the order of deletion.
fn paths(verified: &Verified, shared: &BTreeSet<String>) -> Result<Vec<PathBuf>> {
    let path = &verified.candidate.path;
    let mut paths = vec![path.clone()];
    if verified.candidate.shape == Shape::Index {
        let own = shards(path)?.into_iter().filter(|shard| !shared.contains(shard) && !shard.contains('/'));
        paths.extend(own.map(|shard| parent(path).join(shard)));
    }
    Ok(paths)
}

/// Deletes what a plan drops. What changed since, got a pin or a link, stays and is told.
///
/// # Errors
/// [`ErrorKind::Conflict`]: a saver has held the directory for long.
pub fn apply(pruning: &Pruning) -> Result<Pruned> {
    let directory = &pruning.directory;
    let _lock = lock(directory)?;
    let mut pruned = Pruned::default();
    let named = linked(directory)?;
    let pinned = pins::pinned(directory)?;
    for item in pruning.plan.dropped() {
        let Some(seen) = pruning.seen.get(&item.name) else { continue };
        let Some(path) = seen.paths.first() else { continue };
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let is_wanted = named.contains(&*name) || pinned.contains(&*name);
        let result = match fs::status(path) {
            Ok(_) if is_wanted => {
                Err(Error::new(ErrorKind::Conflict, path, "pinned or linked to after the plan was made:"))
            }
            Ok(status) if status != seen.status => {
                Err(Error::new(ErrorKind::Conflict, path, "changed after the plan was made:"))
            }
            Ok(_) => seen.paths.iter().try_for_each(|path| remove(path)),
            Err(error) => Err(error),
        };
        match result {
            Ok(()) => {
                pruned.removed.push(path.clone());
                pruned.bytes = pruned.bytes.saturating_add(item.bytes);
            }
            Err(error) => pruned.failed.push((path.clone(), error)),
        }
    }
    Ok(pruned)
}

fn remove(path: &Path) -> Result<()> {
    if fs::occupant(path)? == Occupant::Nothing { Ok(()) } else { atomic::discard(path) }
}

/// The lock of a directory in which our savers work; others have none.
fn lock(directory: &Path) -> Result<Option<Lock>> {
    let at = directory.join(save::LOCK);
    if fs::occupant(&at)? == Occupant::Nothing { Ok(None) } else { fs::lock_file(&at, LOCK_DEADLINE).map(Some) }
}

/// The names that links in a directory stand for.
fn linked(directory: &Path) -> Result<BTreeSet<String>> {
    let mut named = BTreeSet::new();
    for (name, _) in fs::list(directory)?.into_iter().filter(|(_, is_link)| *is_link) {
        if let Some(target) = fs::read_link(&directory.join(name))?
            && let Some(target) = target.file_name()
        {
            named.insert(target.to_string_lossy().into_owned());
        }
    }
    Ok(named)
}
