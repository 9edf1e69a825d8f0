//! prune: deletes what the plan says, and nothing that changed since.
//!
//! The decision is [`ckpt_core::prune::plan`], made for each directory by itself: two runs side by side do not compete. A
//! checkpoint loses its name first, durably, and its bytes afterwards, so that none is ever half deleted.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use ckpt_core::ErrorKind;
use ckpt_core::candidate::Shape;
use ckpt_core::candidate::file_name;
use ckpt_core::ids::{Epoch, Step};
use ckpt_core::inspect::index_shards;
use ckpt_core::progress::{Progress, Unit};
use ckpt_core::prune::{self, Action, Best, Item, PrunePlan, Retention, Soundness};
use ckpt_core::select::NamePattern;
use ckpt_core::select::{Choice, Criteria, select};
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

/// Plans for every directory that holds checkpoints, and in it for each series by itself: files whose names differ in more
/// than the step, the epoch and the metrics they tell are never compared, be they of another network, rank or fold. What lies
/// in read-only places, or is reached through a link to a directory, is left out.
///
/// A file whose name tells neither step nor epoch (`best.pt`, `last.ckpt`) is of no series: it stays and takes nobody's
/// place, unless it was named. What has the step and epoch of one that stays in another series stays with it. Of a budget in
/// bytes, each series gets an equal share of what those of no series leave.
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
        if is_reached_by_link(directory)? {
            tracing::warn!("`{}` is reached by a link: nothing goes there", directory.display());
            continue;
        }
        let pinned = pins::pinned(directory)?;
        let named = named_in(directory)?;
        let foreign = foreign(&found)?;
        let found: Vec<&Verified> =
            found.into_iter().filter(|verified| rules.are_about(&verified.candidate.name())).collect();
        let resumed = resumed(&found)?;
        let mut groups: BTreeMap<String, Vec<Item>> = BTreeMap::new();
        let mut seen = BTreeMap::new();
        for verified in found {
            let mut item = Item::of(verified);
            if resumed.as_ref() == Some(&verified.candidate.path) {
                item.pointers.push("ckpt latest".to_owned());
            }
            let paths = paths(verified, &foreign)?;
            let names = || verified.candidate.names().chain(paths.iter().map(|path| file_name(path)));
            item.is_pinned = names().any(|name| pinned.contains(&name)) || has_pins(&paths)?;
            item.pointers.extend(names().filter_map(|name| named.get(&name)).flatten().cloned());
            item.pointers.sort();
            item.pointers.dedup();
            let statuses = statuses(&paths)?;
            item.bytes = statuses.iter().filter(|(_, status)| status.is_file).map(|(_, status)| status.size).sum();
            seen.insert(item.name.clone(), Seen { statuses, paths });
            groups.entry(rules.series(verified)).or_default().push(item);
        }
        if let Some(plan) = plan_series(groups, rules)? {
            prunings.push(Pruning { directory: directory.to_owned(), plan, seen });
        }
    }
    Ok(prunings)
}

/// Plans each series by itself; `None` when there is none.
fn plan_series(groups: BTreeMap<String, Vec<Item>>, rules: &Rules<'_>) -> Result<Option<PrunePlan>> {
    let is_told = |best: &Best, items: &[Item]| items.iter().any(|item| tells(best, item));
    let several = groups.values().filter(|items| items.len() > 1).count() as u64;
    let alone = groups.values().filter(|items| items.len() == 1).flatten().map(|item| item.bytes).sum();
    let told: Vec<&Best> =
        rules.retention.keep_best.iter().filter(|best| groups.values().any(|items| is_told(best, items))).collect();
    let is_counted = |items: &[Item]| items.iter().any(|item| item.step.is_some() || item.epoch.is_some());
    let is_any_counted = groups.values().any(|items| is_counted(items));
    let mut plans = Vec::new();
    for items in groups.into_values() {
        let mut retention = rules.retention.clone();
        // What no checkpoint of the directory tells is for the plan to complain about.
        retention.keep_best.retain(|best| !told.contains(&best) || is_told(best, &items));
        retention.keep_every = retention.keep_every.filter(|_| !is_any_counted || is_counted(&items));
        retention.max_bytes = match retention.max_bytes {
            Some(budget) if items.len() > 1 => Some((budget.saturating_sub(alone) / several).max(1)),
            budget => budget.filter(|_| several == 0),
        };
        plans.push(prune::plan(items, &retention, rules.now_ns)?);
    }
    let companions: Vec<Vec<(Option<Step>, Option<Epoch>)>> = plans.iter().map(staying).collect();
    for (index, plan) in plans.iter_mut().enumerate() {
        let others = companions.iter().enumerate().filter(|(other, _)| *other != index).flat_map(|(_, told)| told);
        let others: Vec<_> = others.collect();
        for planned in plan.items.iter_mut().filter(|planned| planned.action == Action::Drop) {
            if others.contains(&&(planned.item.step, planned.item.epoch)) {
                planned.action = Action::Keep;
                planned.reasons = vec!["it goes with another one that stays, of the same step or epoch".to_owned()];
            }
        }
    }
    Ok(plans.into_iter().reduce(|mut all, more| {
        all.items.extend(more.items);
        all.warnings.extend(more.warnings);
        all
    }))
}

fn tells(best: &Best, item: &Item) -> bool {
    ckpt_core::metric::resolve(&best.metric, item.metrics.iter().map(|metric| metric.name.as_str())).is_ok()
}

/// What the ones that stay tell of themselves, where they tell anything.
fn staying(plan: &PrunePlan) -> Vec<(Option<Step>, Option<Epoch>)> {
    let kept = plan.kept().filter(|item| item.soundness == Soundness::Valid);
    kept.map(|item| (item.step, item.epoch)).filter(|told| *told != (None, None)).collect()
}

/// Whether a directory is another one's, and only seen through a link.
fn is_reached_by_link(directory: &Path) -> Result<bool> {
    Ok(fs::read_link(directory)?.is_some())
}

/// Whether something inside the checkpoint is pinned, as its files can be.
fn has_pins(paths: &[PathBuf]) -> Result<bool> {
    for path in paths {
        if fs::status(path)?.is_directory && !pins::pinned(path)?.is_empty() {
            return Ok(true);
        }
    }
    Ok(false)
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
            .flat_map(|pruning| pruning.plan.items.iter().filter(|planned| planned.is_latest))
            .map(|planned| planned.item.name.as_str())
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

    /// What a checkpoint is compared within. Those of no series that were named are compared with each other.
    fn series(&self, verified: &Verified) -> String {
        let name = verified.candidate.name();
        let told = name::facts(&name);
        let is_of_series = told.step.is_some() || told.epoch.is_some() || verified.inspection.sequence.is_some();
        match (is_of_series, self.names.is_empty()) {
            (false, false) => String::new(),
            _ => name::series(&name),
        }
    }
}

fn shards(index: &Path) -> Result<BTreeSet<String>> {
    Ok(index_shards(&fs::read(index, limits::INDEX_BYTES)?).into_iter().collect())
}

/// The one from which training would go on now. Where some tell their step and others only an epoch or a commit, that is
/// for `select` to say.
fn resumed(found: &[&Verified]) -> Result<Option<PathBuf>> {
    let criteria = Criteria { choice: Choice::Latest, ..Criteria::default() };
    let selection = select(found.iter().map(|verified| (*verified).clone()).collect(), &criteria)?;
    Ok(selection.selected().map(|chosen| chosen.candidate.path.clone()))
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
        if self.paths.iter().any(|path| wanted.contains(&file_name(path))) {
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
    wanted.extend(named_in(directory)?.into_keys());
    Ok(wanted)
}

/// What pointers say and links lead to, links of links too: the name in `directory` that it is or lies in, and who names it. The
/// links of the directory itself and of the one above it count.
pub(crate) fn named_in(directory: &Path) -> Result<BTreeMap<String, Vec<String>>> {
    let mut named = save::pointed_at(directory)?;
    let here = fs::canonical(directory)?;
    let places = [here.as_path(), parent(&here)];
    for place in places.iter().take(if places[0] == places[1] { 1 } else { 2 }) {
        let entries = match fs::list(place) {
            Ok(entries) => entries,
            // The one above may be closed to this user.
            Err(error) if error.kind() == ErrorKind::Denied => continue,
            Err(error) => return Err(error),
        };
        for (link, _) in entries.into_iter().filter(|(_, is_link)| *is_link) {
            // One that leads nowhere keeps nothing.
            let Ok(target) = fs::canonical(&place.join(&link)) else { continue };
            let inside = target.strip_prefix(&here).ok().and_then(|inside| inside.components().next());
            if let Some(name) = inside {
                let name = name.as_os_str().to_string_lossy().into_owned();
                named.entry(name).or_default().push(link.to_string_lossy().into_owned());
            }
        }
    }
    Ok(named)
}
