//! Training histories: read from the files that trainers keep, and merged across runs.
//!
//! [`parse`] reads one file, [`merge`] joins those of several places, [`to_json`], [`to_json_lines`] and [`to_csv`]
//! write the result. Nothing here reads a file.
//!
//! ```
//! use ckpt_core::history::{self, ResumePoint, Source};
//!
//! // The run of this session went on from epoch 1; the run before it had gone up to epoch 3.
//! let now = history::parse("metrics.jsonl", b"{\"epoch\": 2, \"loss\": 0.4}\n")?;
//! let before = history::parse("history.csv", b"epoch,loss\n0,0.9\n1,0.7\n2,0.6\n3,0.5\n")?;
//! let merged = history::merge(
//!     vec![
//!         Source { resumed_at: Some(ResumePoint::of_epoch(1.into())), ..Source::new("working", 0, now) },
//!         Source::new("previous", 1, before),
//!     ],
//!     None,
//! );
//! assert_eq!(history::to_csv(merged.records()), "epoch,loss\n0,0.9\n1,0.7\n2,0.4\n");
//! assert_eq!(merged.cut, 2);
//! # Ok::<(), ckpt_core::Error>(())
//! ```
//!
//! # When two rows are one record
//!
//! Trainers write several rows about one moment (training, then validation) and, after a resume, a moment again.
//! Within one history, in the order of its rows:
//!
//! - A row of the same epoch and step that contradicts no value of the earlier row completes it.
//! - A row of the same epoch and step that does contradict it was written by a run that was resumed before that
//!   moment: it replaces the earlier row, and all rows later than the moment are dropped, since they tell of an
//!   abandoned branch. [`History::superseded`] counts both.
//! - A row that lacks the step joins the last row of its epoch, and a row with epoch and step takes up an earlier one
//!   that had only one of them, unless they contradict each other; then both stay.
//! - Rows that differ in `phase`, `split`, `mode`, `stage`, `fold`, `subset`, `event`, `type`, `tag` or `rank` are of
//!   different series, and neither complete nor contradict each other. Times of day and durations contradict nothing.
//! - Rows with neither epoch nor step are never joined.

mod merge;
mod parse;
mod render;
mod table;
mod timeline;

use std::collections::HashMap;
use std::collections::hash_map::Entry as Slot;
use std::sync::Arc;

use serde::{Serialize, Serializer};
use serde_json::Value;

pub use self::merge::{Conflict, Entry, Merged, Source, merge};
pub use self::parse::parse;
pub use self::render::{to_csv, to_json, to_json_lines};
use self::timeline::Timeline;
use crate::ids::{Epoch, Step};
use crate::json;

/// The names of the epoch and of the step; the earlier name wins.
const EPOCH: &[&str] = &["epoch", "current_epoch", "epoch_idx", "epoch_num", "epochs", "ep"];
const STEP: &[&str] = &["global_step", "trainer/global_step", "step", "_step", "iteration", "iter"];
/// The fields that tell apart rows of one moment.
const SERIES: &[&str] = &["phase", "split", "mode", "stage", "fold", "subset", "event", "type", "tag", "rank"];
/// The words that mark a field as telling the time, which is another one in every row.
const CLOCK: &[&str] = &[
    "time",
    "timestamp",
    "ts",
    "runtime",
    "walltime",
    "asctime",
    "datetime",
    "date",
    "elapsed",
    "duration",
    "eta",
    "seconds",
];

/// What one epoch or step left behind: named values in the order they were written, epoch and step among them.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    epoch: Option<Epoch>,
    step: Option<Step>,
    fields: Vec<(Arc<str>, Value)>,
}

impl Record {
    /// A record of these fields; of fields with the same name the last value stays, at the first one's place.
    pub fn new<N: Into<Arc<str>>>(fields: impl IntoIterator<Item = (N, Value)>) -> Self {
        let mut places: HashMap<Arc<str>, usize> = HashMap::new();
        let mut unique: Vec<(Arc<str>, Value)> = Vec::new();
        for (name, value) in fields {
            let name = name.into();
            match places.entry(Arc::clone(&name)) {
                Slot::Occupied(place) => {
                    if let Some(field) = unique.get_mut(*place.get()) {
                        field.1 = value;
                    }
                }
                Slot::Vacant(place) => {
                    place.insert(unique.len());
                    unique.push((name, value));
                }
            }
        }
        Self::of_unique(unique)
    }

    /// A record of fields that are known to have different names.
    fn of_unique(fields: Vec<(Arc<str>, Value)>) -> Self {
        let mut record = Self { epoch: None, step: None, fields };
        record.epoch = record.named(EPOCH).and_then(epoch_of);
        record.step = record.named(STEP).and_then(step_of);
        record
    }

    /// The epoch, where a field tells it.
    #[must_use]
    pub fn epoch(&self) -> Option<Epoch> {
        self.epoch
    }

    /// The step, where a field tells it.
    #[must_use]
    pub fn step(&self) -> Option<Step> {
        self.step
    }

    /// All fields in their order.
    pub fn fields(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.fields.iter().map(|(name, value)| (&**name, value))
    }

    /// The value of a field. `NaN` and the infinities are texts; [`json::number`] reads them.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.fields().find(|(field, _)| *field == name).map(|(_, value)| value)
    }

    /// Whether the record is later than `point`; `None` when the two have neither epoch nor step in common.
    ///
    /// Epochs are compared first, and steps where the epochs are equal or one of the two has none.
    #[must_use]
    pub fn is_after(&self, point: &ResumePoint) -> Option<bool> {
        let by_step = self.step.zip(point.step).map(|(step, limit)| step > limit);
        match self.epoch.zip(point.epoch) {
            Some((epoch, limit)) if epoch != limit => Some(epoch > limit),
            Some(_) => Some(by_step.unwrap_or(false)),
            None => by_step,
        }
    }

    /// The value of the first of `names` that is there.
    fn named(&self, names: &[&str]) -> Option<&Value> {
        names.iter().find_map(|name| {
            { self.fields().find(|(field, value)| field.eq_ignore_ascii_case(name) && !value.is_null()) }
                .map(|(_, value)| value)
        })
    }

    /// What tells the record apart from others of the same moment; empty nearly everywhere.
    fn series(&self) -> String {
        let mut series = String::new();
        for name in SERIES {
            if let Some(value) = self.named(&[name]) {
                series.push_str(name);
                series.push('=');
                series.push_str(&value.to_string());
                series.push(' ');
            }
        }
        series
    }

    /// The fields that both have and in which they differ, clocks aside.
    fn contradictions<'a>(&'a self, other: &'a Self) -> impl Iterator<Item = &'a str> {
        let own: HashMap<&str, &Value> = self.fields().collect();
        other.fields().filter_map(move |(name, value)| {
            let before = own.get(name)?;
            let differ = !value.is_null() && !before.is_null() && !same_value(before, value);
            (differ && !is_clock(name)).then_some(name)
        })
    }

    /// Takes over what `other` says in addition.
    fn absorb(&mut self, other: Self) {
        let places: HashMap<Arc<str>, usize> =
            self.fields.iter().enumerate().map(|(place, (name, _))| (Arc::clone(name), place)).collect();
        for (name, value) in other.fields {
            match places.get(&name).and_then(|place| self.fields.get_mut(*place)) {
                Some(field) if !value.is_null() => field.1 = value,
                Some(_) => {}
                None => self.fields.push((name, value)),
            }
        }
        self.epoch = self.epoch.or(other.epoch);
        self.step = self.step.or(other.step);
    }
}

impl Serialize for Record {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.fields())
    }
}

/// The history of one run or one file: its records sorted by epoch and step, and what had to be left out.
///
/// Records with an epoch come first, then those with a step only, then the others in their order. No two records
/// have the same epoch, step and series (see the [module](self)).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct History {
    records: Vec<Record>,
    warnings: Vec<String>,
    superseded: usize,
}

impl History {
    /// The history of records given in the order in which they were written.
    #[must_use]
    pub fn new(records: impl IntoIterator<Item = Record>) -> Self {
        Self::with_warnings(records, Vec::new())
    }

    fn with_warnings(records: impl IntoIterator<Item = Record>, mut warnings: Vec<String>) -> Self {
        let mut timeline = Timeline::default();
        for record in records {
            timeline.add(record);
        }
        let superseded = timeline.superseded();
        if superseded > 0 {
            warnings.push(format!("records left out, as the run went back and recorded anew: {superseded}"));
        }
        Self { records: timeline.into_records(), warnings, superseded }
    }

    /// The records, sorted.
    #[must_use]
    pub fn records(&self) -> &[Record] {
        &self.records
    }

    /// What was left out of the file and why, for people.
    #[must_use]
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// How many records were dropped because the same run later went back behind them.
    #[must_use]
    pub fn superseded(&self) -> usize {
        self.superseded
    }

    /// The point that the run must have been resumed from, told from the epoch its records begin with.
    ///
    /// `None` for histories that begin with epoch 0 or 1 (counting may start with either) or within an epoch.
    #[must_use]
    pub fn implied_resume(&self) -> Option<ResumePoint> {
        let first = self.records.first()?.epoch?;
        let whole = first.whole().filter(|whole| *whole > 1)?;
        // A whole epoch fits 53 bits: what is one less is a float, too.
        #[expect(clippy::cast_precision_loss, reason = "within 53 bits")]
        Epoch::new(whole.saturating_sub(1) as f64).map(ResumePoint::of_epoch)
    }
}

/// The moment of the checkpoint that a run went on from, in the numbering that the histories use.
///
/// Trainers that count the epochs of their history from 1 often store them from 0 in the checkpoint.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ResumePoint {
    /// The last epoch that the checkpoint contains.
    pub epoch: Option<Epoch>,
    /// The last step that the checkpoint contains.
    pub step: Option<Step>,
}

impl ResumePoint {
    /// The end of an epoch.
    #[must_use]
    pub fn of_epoch(epoch: Epoch) -> Self {
        Self { epoch: Some(epoch), step: None }
    }

    /// A step.
    #[must_use]
    pub fn of_step(step: Step) -> Self {
        Self { epoch: None, step: Some(step) }
    }
}

/// Whether a column of this name tells the epoch or the step.
fn is_key(name: &str) -> bool {
    EPOCH.iter().chain(STEP).any(|known| known.eq_ignore_ascii_case(name))
}

fn is_clock(name: &str) -> bool {
    name.split(|char: char| !char.is_ascii_alphanumeric())
        .any(|word| CLOCK.iter().any(|clock| clock.eq_ignore_ascii_case(word)))
}

/// Equality of values, for which a number is the same however it is written, and NaN equals itself.
fn same_value(one: &Value, other: &Value) -> bool {
    match (json::number(one), json::number(other)) {
        (Some(one), Some(other)) => one == other || (one.is_nan() && other.is_nan()),
        _ => one == other,
    }
}

fn number_of(value: &Value) -> Option<f64> {
    json::number(value).or_else(|| value.as_str()?.trim().parse().ok())
}

fn epoch_of(value: &Value) -> Option<Epoch> {
    number_of(value).and_then(Epoch::new)
}

fn step_of(value: &Value) -> Option<Step> {
    let whole = || number_of(value).and_then(Epoch::new)?.whole();
    value.as_u64().or_else(|| u64::try_from(whole()?).ok()).map(Step)
}

#[cfg(test)]
mod tests;
