//! How far training had come, and which of two is further.

use std::cmp::Ordering;

use crate::ids::{Epoch, Step};
use crate::verify::Verified;

/// A float that is finite, so that it has a total order.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Finite(pub f64);

impl Eq for Finite {}

impl PartialOrd for Finite {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Finite {
    fn cmp(&self, other: &Self) -> Ordering {
        // -0.0 and 0.0 are one value to a metric.
        (self.0 + 0.0).total_cmp(&(other.0 + 0.0))
    }
}

/// Which number tells "later" for all checkpoints alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Basis {
    Step,
    Epoch,
    Time,
}

impl Basis {
    /// Step where every checkpoint that has come any way tells it, else epoch likewise, else whichever more of them tell.
    pub(crate) fn of(positions: impl Iterator<Item = Position>) -> Self {
        let positions: Vec<Position> =
            positions.filter(|position| position.step.is_some() || position.epoch.is_some()).collect();
        let steps = positions.iter().filter(|position| position.step.is_some()).count();
        let epochs = positions.iter().filter(|position| position.epoch.is_some()).count();
        if positions.is_empty() {
            Self::Time
        } else if steps == positions.len() || (epochs < positions.len() && steps >= epochs) {
            Self::Step
        } else {
            Self::Epoch
        }
    }
}

/// How far training had come.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Position {
    /// Its step.
    pub step: Option<Step>,
    /// Its epoch.
    pub epoch: Option<Epoch>,
}

impl Position {
    /// Of a verified candidate.
    #[must_use]
    pub fn of(item: &Verified) -> Self {
        Self { step: item.inspection.step, epoch: item.inspection.epoch }
    }

    /// What it is compared by where `basis` decides; the larger is further.
    pub(crate) fn key(&self, basis: Basis) -> (Option<Finite>, Option<Finite>) {
        #[expect(clippy::cast_precision_loss, reason = "steps beyond 2^53 are not reached")]
        let step = self.step.map(|step| Finite(step.0 as f64));
        let epoch = self.epoch.map(|epoch| Finite(epoch.get()));
        match basis {
            Basis::Step => (step, epoch),
            Basis::Epoch => (epoch, step),
            Basis::Time => (None, None),
        }
    }

    /// Which of two is further; `None` when they have nothing in common to compare.
    #[must_use]
    pub fn compare(&self, other: &Self) -> Option<Ordering> {
        match (self.step.zip(other.step), self.epoch.zip(other.epoch)) {
            (Some((left, right)), _) if left != right => Some(left.cmp(&right)),
            (_, Some((left, right))) => left.partial_cmp(&right),
            (Some(_), None) => Some(Ordering::Equal),
            (None, None) => None,
        }
    }
}
