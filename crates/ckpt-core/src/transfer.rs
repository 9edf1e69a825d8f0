//! fetch: bring it where training may write. The decision: copy, use what is there, or refuse.

use std::cmp::Ordering;

use crate::select::Position;
use crate::verify::Verified;

/// What is at the place to copy to.
#[derive(Clone, Copy, Debug)]
pub enum Existing<'a> {
    /// Nothing.
    Nothing,
    /// The very same bytes.
    Same,
    /// Another checkpoint.
    Other(&'a Verified),
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TransferPlan {
    /// Nothing needs copying: the same bytes are there.
    AlreadyThere,
    /// Copy to where nothing is.
    Copy,
    /// Copy over what is there: it is older.
    Replace {
        /// Why that loses nothing.
        reason: String,
    },
    /// Copy, and keep what is there under another name: it is damaged, and may still be salvaged.
    SetAside {
        /// What is wrong with it.
        reason: String,
    },
    /// Do not copy: something newer would be lost.
    Refuse {
        /// What would be lost.
        reason: String,
    },
}

/// Decides about copying `source` to a place where `existing` is.
#[must_use]
pub fn plan(source: &Verified, existing: Existing<'_>, is_forced: bool) -> TransferPlan {
    let other = match existing {
        Existing::Nothing => return TransferPlan::Copy,
        Existing::Same => return TransferPlan::AlreadyThere,
        Existing::Other(other) => other,
    };
    if !other.verdict.is_valid {
        let reason =
            other.verdict.reason().map_or_else(|| "it was not inspected".to_owned(), |finding| finding.message.clone());
        return TransferPlan::SetAside { reason };
    }
    let (ours, theirs) = (Position::of(source), Position::of(other));
    let described = |position: Position| match (position.step, position.epoch) {
        (Some(step), _) => format!("step {step}"),
        (None, Some(epoch)) => format!("epoch {epoch}"),
        (None, None) => "an unknown epoch".to_owned(),
    };
    let both = format!("the one there is at {}, the one to copy at {}", described(theirs), described(ours));
    match ours.compare(&theirs) {
        _ if is_forced => TransferPlan::SetAside { reason: format!("forced: {both}") },
        Some(Ordering::Greater) => TransferPlan::Replace { reason: format!("it is older: {both}") },
        Some(Ordering::Equal) => {
            TransferPlan::Refuse { reason: format!("another one of the same age is there: {both}") }
        }
        Some(Ordering::Less) => TransferPlan::Refuse { reason: format!("a newer one is there: {both}") },
        None => TransferPlan::Refuse { reason: format!("which one is newer cannot be told: {both}") },
    }
}
