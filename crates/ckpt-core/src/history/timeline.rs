//! The order of records in time, and the rule by which rows of one moment become one record.

use std::collections::BTreeMap;

use super::Record;
use crate::ids::{Epoch, Step};

/// Where in its epoch a record stands. Without a step it speaks of the whole epoch, after all steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Within {
    Step(Step),
    End,
}

/// An epoch in a form that sorts and hashes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Rank(u64);

impl Rank {
    pub(super) fn of(epoch: Epoch) -> Self {
        // Adding zero makes one of the two zeros. The bits of positive floats sort like their values, those of negative
        // ones the other way round.
        let bits = (epoch.get() + 0.0).to_bits();
        Self(if bits >> 63 == 1 { !bits } else { bits | (1 << 63) })
    }
}

/// Collects rows in the order they were written; see the [module](super) for the rule.
#[derive(Debug, Default)]
pub(super) struct Timeline {
    epochs: BTreeMap<(Rank, Within, String), Record>,
    steps: BTreeMap<(Step, String), Record>,
    others: Vec<Record>,
    superseded: usize,
}

impl Timeline {
    pub(super) fn add(&mut self, record: Record) {
        match (record.epoch, record.step) {
            (Some(epoch), step) => self.add_of_epoch(epoch, step, record),
            (None, Some(step)) => self.add_of_step(step, record),
            (None, None) => self.others.push(record),
        }
    }

    /// How many rows were replaced, or dropped as an abandoned branch.
    pub(super) fn superseded(&self) -> usize {
        self.superseded
    }

    pub(super) fn into_records(self) -> Vec<Record> {
        self.epochs.into_values().chain(self.steps.into_values()).chain(self.others).collect()
    }

    fn add_of_epoch(&mut self, epoch: Epoch, step: Option<Step>, mut record: Record) {
        let rank = Rank::of(epoch);
        let series = record.series();
        let key = (rank, step.map_or(Within::End, Within::Step), series);
        if let Some(known) = self.epochs.get_mut(&key) {
            if complete_each_other(known, &record) {
                known.absorb(record);
                return;
            }
            self.epochs.remove(&key);
            self.superseded = self.superseded.saturating_add(1);
            self.abandon_after(Some((rank, key.1)), step);
        }
        if let Some(step) = step {
            // Rows that knew only the epoch or only the step are part of this one.
            let vague = (rank, Within::End, key.2.clone());
            record = take_up(&mut self.epochs, &vague, record);
            let vague = (step, key.2.clone());
            record = take_up(&mut self.steps, &vague, record);
        } else {
            let first = (rank, Within::Step(Step(0)), String::new());
            let end = (rank, Within::End, String::new());
            if let Some((at, known)) = self.epochs.range_mut(first..end).next_back()
                && at.2 == key.2
                && complete_each_other(known, &record)
            {
                known.absorb(record);
                return;
            }
        }
        self.epochs.insert(key, record);
    }

    fn add_of_step(&mut self, step: Step, record: Record) {
        let key = (step, record.series());
        let Some(known) = self.steps.get_mut(&key) else {
            self.steps.insert(key, record);
            return;
        };
        if complete_each_other(known, &record) {
            known.absorb(record);
        } else {
            *known = record;
            self.superseded = self.superseded.saturating_add(1);
            self.abandon_after(None, Some(step));
        }
    }

    /// Drops what is later than a moment. Each record is dropped once, so that going back often costs no more.
    fn abandon_after(&mut self, moment: Option<(Rank, Within)>, step: Option<Step>) {
        let after = |(rank, within): (Rank, Within)| match (moment, step) {
            (Some(moment), _) => (rank, within) > moment,
            (None, Some(step)) => matches!(within, Within::Step(at) if at > step),
            (None, None) => false,
        };
        while let Some(last) = self.epochs.last_entry().filter(|last| after((last.key().0, last.key().1))) {
            last.remove();
            self.superseded = self.superseded.saturating_add(1);
        }
        while let Some(last) = self.steps.last_entry().filter(|last| step.is_some_and(|step| last.key().0 > step)) {
            last.remove();
            self.superseded = self.superseded.saturating_add(1);
        }
    }
}

/// Joins a record with the one under `key`, unless they contradict each other.
fn take_up<K: Ord>(known: &mut BTreeMap<K, Record>, key: &K, record: Record) -> Record {
    match known.remove_entry(key) {
        Some((_, mut earlier)) if complete_each_other(&earlier, &record) => {
            earlier.absorb(record);
            earlier
        }
        Some((key, earlier)) => {
            known.insert(key, earlier);
            record
        }
        None => record,
    }
}

fn complete_each_other(known: &Record, record: &Record) -> bool {
    known.contradictions(record).next().is_none()
}
