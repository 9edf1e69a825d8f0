//! One history out of those of several runs and places.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use super::timeline::{Rank, Within};
use super::{History, Record, ResumePoint};
use crate::ids::{Epoch, Step};

/// A history and where it comes from.
#[derive(Clone, Debug)]
pub struct Source {
    /// What results and conflicts call it.
    pub label: String,
    /// Whose word counts where sources differ: the lowest number's.
    pub priority: u32,
    /// Its records.
    pub history: History,
    /// The checkpoint that this run went on from, where it is known.
    pub resumed_at: Option<ResumePoint>,
}

impl Source {
    /// A source of which it is not known whether it was resumed.
    pub fn new(label: impl Into<String>, priority: u32, history: History) -> Self {
        Self { label: label.into(), priority, history, resumed_at: None }
    }
}

/// A record of a merged history.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// The record, as its source has it.
    pub record: Record,
    /// The label of its source.
    pub source: Arc<str>,
}

/// An epoch, or a step without epoch, for which sources have different values.
#[derive(Clone, Debug, PartialEq)]
pub struct Conflict {
    /// The epoch.
    pub epoch: Option<Epoch>,
    /// The step, where the records have no epoch.
    pub step: Option<Step>,
    /// The label of the source whose records were kept.
    pub kept: Arc<str>,
    /// The labels of the sources that say otherwise, sorted.
    pub passed_over: BTreeSet<Arc<str>>,
    /// The names of the fields they differ in, sorted.
    pub fields: BTreeSet<String>,
}

/// What [`merge`] made of its sources.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Merged {
    /// The records, sorted by epoch, then step; those with a step only follow, then those with neither.
    pub entries: Vec<Entry>,
    /// The missing whole epochs between the first and the last, each as first and last of a stretch.
    ///
    /// A record within an epoch (2.5 is within the third, which ends at 3.0) counts for it.
    pub gaps: Vec<(i64, i64)>,
    /// How many records were dropped because a source of higher priority has their epoch.
    pub duplicates: usize,
    /// How many records were dropped as later than a resume point.
    pub cut: usize,
    /// How many records were kept though a resume point applies to them: they tell neither its epoch nor its step.
    pub undecided: usize,
    /// Where a dropped duplicate has other values than what was kept, sorted by epoch.
    pub conflicts: Vec<Conflict>,
}

impl Merged {
    /// The records without their labels.
    pub fn records(&self) -> impl Iterator<Item = &Record> {
        self.entries.iter().map(|entry| &entry.record)
    }

    /// The records as a history, to be merged again.
    #[must_use]
    pub fn into_history(self) -> History {
        let records = self.entries.into_iter().map(|entry| entry.record).collect();
        History { records, ..History::default() }
    }
}

/// Merges histories: each epoch from one source, and nothing of branches that were abandoned.
///
/// 1. **Cut.** A record later than `cut`, the checkpoint from which training is going to resume, is dropped, whichever
///    source it is from. A record later than a source's `resumed_at` is dropped if it is from a source of lower
///    priority: the run went on from there, so what others recorded after it belongs to another branch, also beyond
///    the epochs that the run itself has reached. The run's own later records stay, unless `cut` drops them.
/// 2. **Deduplicate.** Of each epoch the source of highest priority gives all its records, one per step where it
///    recorded steps, and nobody else's are mixed in. Records without an epoch are deduplicated by step in the same
///    way. Records with neither are all kept.
///
/// Among sources of equal priority the label that sorts first counts more. The result does not depend on the order of
/// `sources`, except among those with the same priority and label.
#[must_use]
pub fn merge(mut sources: Vec<Source>, cut: Option<ResumePoint>) -> Merged {
    sources.sort_by(|one, other| (one.priority, &one.label).cmp(&(other.priority, &other.label)));
    let resumed: Vec<(u32, ResumePoint)> =
        sources.iter().filter_map(|source| Some((source.priority, source.resumed_at?))).collect();

    let mut merge = Merge::default();
    for source in sources {
        let label = Arc::from(source.label);
        let mut points: Vec<ResumePoint> =
            resumed.iter().filter(|(priority, _)| *priority < source.priority).map(|(_, point)| *point).collect();
        points.extend(cut);
        for record in source.history.records {
            let after = |wanted| points.iter().any(|point| record.is_after(point) == wanted);
            if after(Some(true)) {
                merge.result.cut = merge.result.cut.saturating_add(1);
                continue;
            }
            if after(None) {
                merge.result.undecided = merge.result.undecided.saturating_add(1);
            }
            merge.add(Entry { record, source: Arc::clone(&label) });
        }
        merge.next_source = merge.next_source.saturating_add(1);
    }
    merge.finish()
}

/// What a source owns with one of its records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Place {
    Epoch(Rank),
    Step(Step),
}

impl Place {
    fn of(record: &Record) -> Option<Self> {
        let epoch = record.epoch.map(|epoch| Self::Epoch(Rank::of(epoch)));
        epoch.or_else(|| record.step.map(Self::Step))
    }
}

#[derive(Debug, Default)]
struct Merge {
    result: Merged,
    /// Counts the sources, whose labels need not differ.
    next_source: usize,
    owners: HashMap<Place, usize>,
    /// The kept entries by their moment and series; under `End` also the last one of each epoch.
    kept: HashMap<(Place, Within, String), usize>,
    conflicts: BTreeMap<Place, Conflict>,
}

impl Merge {
    fn add(&mut self, entry: Entry) {
        if let Some(place) = Place::of(&entry.record) {
            if *self.owners.entry(place).or_insert(self.next_source) != self.next_source {
                self.result.duplicates = self.result.duplicates.saturating_add(1);
                self.compare(place, &entry);
                return;
            }
            let series = entry.record.series();
            let index = self.result.entries.len();
            if let Some(step) = entry.record.step {
                self.kept.insert((place, Within::Step(step), series.clone()), index);
            }
            self.kept.insert((place, Within::End, series), index);
        }
        self.result.entries.push(entry);
    }

    /// Notes where a duplicate differs from the record that was kept, if both are of the same moment.
    fn compare(&mut self, place: Place, passed_over: &Entry) {
        let series = passed_over.record.series();
        let step = passed_over.record.step;
        let exact = step.and_then(|step| self.kept.get(&(place, Within::Step(step), series.clone())));
        let Some(kept) =
            exact.or_else(|| self.kept.get(&(place, Within::End, series))).and_then(|at| self.result.entries.get(*at))
        else {
            return;
        };
        if kept.record.step.zip(step).is_some_and(|(one, other)| one != other) {
            return;
        }
        let mut fields = kept.record.contradictions(&passed_over.record).peekable();
        if fields.peek().is_none() {
            return;
        }
        let conflict = self.conflicts.entry(place).or_insert_with(|| Conflict {
            epoch: kept.record.epoch,
            step: kept.record.step.filter(|_| kept.record.epoch.is_none()),
            kept: Arc::clone(&kept.source),
            passed_over: BTreeSet::new(),
            fields: BTreeSet::new(),
        });
        conflict.passed_over.insert(Arc::clone(&passed_over.source));
        conflict.fields.extend(fields.map(str::to_owned));
    }

    fn finish(mut self) -> Merged {
        self.result.entries.sort_by_cached_key(|entry| match Place::of(&entry.record) {
            Some(Place::Epoch(rank)) => (0, Some(rank), Some(entry.record.step.map_or(Within::End, Within::Step))),
            Some(Place::Step(step)) => (1, None, Some(Within::Step(step))),
            None => (2, None, None),
        });
        self.result.gaps = gaps(self.result.records());
        self.result.conflicts = self.conflicts.into_values().collect();
        self.result
    }
}

/// The stretches of whole epochs that no record speaks of.
fn gaps<'a>(sorted: impl Iterator<Item = &'a Record>) -> Vec<(i64, i64)> {
    let mut gaps = Vec::new();
    let mut last: Option<i64> = None;
    for number in sorted.filter_map(|record| Epoch::new(record.epoch?.get().ceil())?.whole()) {
        if let Some(next) = last.map(|last| last.saturating_add(1)).filter(|next| *next < number) {
            gaps.push((next, number.saturating_sub(1)));
        }
        last = Some(number);
    }
    gaps
}
