//! Which of two checkpoints is later, whatever else is there: so that what a plan keeps is kept by the same plan again.

use std::cmp::Ordering;

use super::Item;
use crate::name::natural_cmp;
use crate::select::position::{Basis, Finite};

/// The most telling number that a checkpoint has. Checkpoints with different ones cannot be compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Known {
    Time,
    Epoch,
    Step,
    Sequence,
}

impl Known {
    pub(super) const ALL: [Self; 4] = [Self::Time, Self::Epoch, Self::Step, Self::Sequence];

    pub(super) fn of(item: &Item) -> Self {
        match (item.sequence, item.step, item.epoch) {
            (Some(_), _, _) => Self::Sequence,
            (None, Some(_), _) => Self::Step,
            (None, None, Some(_)) => Self::Epoch,
            (None, None, None) => Self::Time,
        }
    }

    /// What they tell, in words.
    pub(super) fn words(self) -> &'static str {
        match self {
            Self::Time => "that tell neither step nor epoch",
            Self::Epoch => "that tell an epoch and no step",
            Self::Step => "that tell a step",
            Self::Sequence => "that tell the number of their commit",
        }
    }
}

/// Time, then the name as people count: what is left when the numbers do not tell two apart.
fn rest(left: &Item, right: &Item) -> Ordering {
    left.saved_ns
        .cmp(&right.saved_ns)
        .then_with(|| natural_cmp(&left.name, &right.name))
        .then_with(|| left.name.cmp(&right.name))
}

fn key(item: &Item, basis: Basis) -> (Option<Finite>, Option<Finite>) {
    item.position().key(basis)
}

/// A total order, the later the larger. Of those that tell different things it says nothing useful.
pub(super) fn later(left: &Item, right: &Item) -> Ordering {
    let known = Known::of(left);
    known
        .cmp(&Known::of(right))
        .then_with(|| left.sequence.cmp(&right.sequence))
        .then_with(|| left.step.cmp(&right.step))
        .then_with(|| key(left, Basis::Epoch).cmp(&key(right, Basis::Epoch)))
        .then_with(|| rest(left, right))
}

/// The order in which [`crate::select`] wants the latest, when that number decides for all.
pub(super) fn later_by(basis: Basis, left: &Item, right: &Item) -> Ordering {
    key(left, basis).cmp(&key(right, basis)).then_with(|| rest(left, right))
}

/// Whether `item` is later than `other`, by the first number that both tell, and by time where none decides.
pub(super) fn is_later(item: &Item, other: &Item) -> bool {
    let by_sequence = item.sequence.zip(other.sequence).map(|(one, two)| one.cmp(&two));
    let order = by_sequence.or_else(|| item.position().compare(&other.position()));
    let order = order.filter(|order| order.is_ne()).unwrap_or_else(|| item.saved_ns.cmp(&other.saved_ns));
    order.is_gt()
}
