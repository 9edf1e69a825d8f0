//! How far training had come, and which of two is further.

use std::cmp::Ordering;

use crate::ids::{Epoch, Step};
use crate::verify::Verified;

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
