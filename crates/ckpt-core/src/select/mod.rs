//! select: which one? A pure choice over verified candidates, with a reason for every one of them.

use std::path::PathBuf;

use crate::candidate::file_name;
use crate::error::Result;
use crate::name::natural_cmp;
use crate::verify::Verified;

pub(crate) mod asked;
mod criteria;
mod order;
pub(crate) mod position;

pub use criteria::{Choice, Criteria, NamePattern};
use order::{Key, Order, value_of};
pub use position::Position;

/// Why a candidate was taken or passed over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Why.
    pub reason: String,
    /// Whether its name and source were asked for at all.
    pub is_considered: bool,
    /// Whether it would have been taken, had it been valid.
    pub is_fallen_back_from: bool,
}

/// The choice.
#[derive(Clone, Debug, PartialEq)]
pub struct Selection {
    /// Every candidate, the most wanted first.
    pub ranked: Vec<Verified>,
    /// One outcome for each of [`Self::ranked`].
    pub outcomes: Vec<Outcome>,
    /// The one taken: its place in [`Self::ranked`].
    pub taken: Option<usize>,
    /// The rule that chose, in words: `best accuracy (larger is better, known by its name)`.
    pub rule: String,
    /// What a person should know about the choice: rivals on another scale, a metric that no valid one tells.
    pub warnings: Vec<String>,
}

/// Why nothing was selected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nothing {
    /// No candidate of the wanted names and sources meets the conditions.
    Found,
    /// There are such candidates, and none is valid.
    Valid,
    /// The only obstacle to some of them is what loading them would run.
    Safe,
}

impl Selection {
    /// The one taken.
    #[must_use]
    pub fn selected(&self) -> Option<&Verified> {
        self.taken.and_then(|index| self.ranked.get(index))
    }

    /// Why it was taken, or why none was.
    #[must_use]
    pub fn reason(&self) -> String {
        match self.taken.and_then(|index| self.outcomes.get(index)) {
            Some(outcome) => outcome.reason.clone(),
            None => match self.nothing() {
                Nothing::Found => self.not_found(),
                Nothing::Valid => "checkpoints were found, and none of them is valid".to_owned(),
                Nothing::Safe => "the only checkpoints left would run dangerous code when loaded".to_owned(),
            },
        }
    }

    fn not_found(&self) -> String {
        let passed = self.outcomes.iter().filter(|outcome| !outcome.is_considered).count();
        let unmet = self
            .ranked
            .iter()
            .zip(&self.outcomes)
            .filter(|(item, outcome)| outcome.is_considered && item.verdict.is_valid);
        match (passed, unmet.count()) {
            (0, 0) => "no checkpoint was found".to_owned(),
            (passed, 0) => format!("none of the {passed} checkpoints found has a wanted name and source"),
            (_, unmet) => {
                format!("none of the {unmet} valid checkpoints of the wanted names and sources meets the conditions")
            }
        }
    }

    /// The damaged ones that would have been taken first.
    pub fn fell_back_from(&self) -> impl Iterator<Item = &Verified> {
        self.ranked
            .iter()
            .zip(&self.outcomes)
            .filter(|(_, outcome)| outcome.is_fallen_back_from)
            .map(|(verified, _)| verified)
    }

    /// Why nothing was selected.
    #[must_use]
    pub fn nothing(&self) -> Nothing {
        let mut considered = self
            .ranked
            .iter()
            .zip(&self.outcomes)
            .filter(|(_, outcome)| outcome.is_considered)
            .map(|(verified, _)| verified)
            .peekable();
        if considered.peek().is_none()
            || self
                .ranked
                .iter()
                .zip(&self.outcomes)
                .any(|(verified, outcome)| outcome.is_considered && verified.verdict.is_valid)
        {
            return Nothing::Found;
        }
        if considered.any(|verified| verified.verdict.is_only_unsafe()) { Nothing::Safe } else { Nothing::Valid }
    }
}

/// Chooses one of the verified candidates.
///
/// The result does not depend on the order of `verified`.
///
/// # Errors
/// [`Invalid`](crate::ErrorKind::Invalid): the metric is unknown (the message lists those seen), ambiguous, or its direction is.
pub fn select(mut verified: Vec<Verified>, criteria: &Criteria) -> Result<Selection> {
    for item in &mut verified {
        prefer_wanted_name(item, criteria);
    }
    let is_considered = |item: &Verified| refusal(item, criteria).is_none();
    let order = Order::new(&verified, criteria, &is_considered)?;
    let mut keyed: Vec<(Key, Verified)> = verified.into_iter().map(|item| (order.key(&item), item)).collect();
    keyed.sort_by(|(left_key, left), (right_key, right)| {
        left_key.cmp(right_key).then_with(|| {
            natural_cmp(&right.candidate.name(), &left.candidate.name())
                .then_with(|| left.candidate.path.cmp(&right.candidate.path))
        })
    });
    check_conditions(keyed.iter().map(|(_, item)| item).filter(|item| is_considered(item)), criteria)?;
    let (keys, ranked): (Vec<Key>, Vec<Verified>) = keyed.into_iter().unzip();
    let is_eligible = |item: &Verified| {
        item.verdict.is_valid
            && is_considered(item)
            && criteria.conditions.iter().all(|condition| condition.failure(&item.inspection).is_none())
    };
    let taken = ranked.iter().position(is_eligible);
    let outcomes = ranked
        .iter()
        .enumerate()
        .map(|(index, item)| {
            let refusal = refusal(item, criteria);
            Outcome {
                is_considered: refusal.is_none(),
                is_fallen_back_from: refusal.is_none()
                    && taken.is_none_or(|taken| index < taken)
                    && (item.verdict.is_damaged() || item.verdict.is_only_unsafe()),
                reason: refusal
                    .unwrap_or_else(|| order.reason(item, &keys[index], taken.map(|taken| (taken, index)), criteria)),
            }
        })
        .collect();
    let warnings = order.warnings(ranked.iter().zip(&keys).zip(&outcomes), taken);
    Ok(Selection { ranked, outcomes, taken, rule: order.rule, warnings })
}

/// Calls a file by the one of its names that was asked for.
fn prefer_wanted_name(item: &mut Verified, criteria: &Criteria) {
    let is_wanted = |path: &PathBuf| criteria.names.iter().any(|pattern| pattern.matches(&file_name(path)));
    let candidate = &mut item.candidate;
    if !is_wanted(&candidate.path)
        && let Some(alias) = candidate.aliases.iter_mut().find(|alias| is_wanted(alias))
    {
        std::mem::swap(alias, &mut candidate.path);
    }
}

/// A condition on a metric that no candidate tells is a mistake, and not a reason to start afresh.
fn check_conditions<'a>(considered: impl Iterator<Item = &'a Verified> + Clone, criteria: &Criteria) -> Result<()> {
    let Some(_) = considered.clone().next() else { return Ok(()) };
    for condition in &criteria.conditions {
        if !considered.clone().any(|item| value_of(&condition.metric, item).is_some()) {
            return Err(asked::unknown(&condition.metric, considered.map(|item| item.inspection.metrics.as_slice())));
        }
    }
    Ok(())
}

/// Why a candidate was not asked for.
fn refusal(item: &Verified, criteria: &Criteria) -> Option<String> {
    let candidate = &item.candidate;
    if !criteria.names.is_empty()
        && !candidate.names().any(|name| criteria.names.iter().any(|pattern| pattern.matches(&name)))
    {
        return Some("its name is not among the wanted ones".to_owned());
    }
    if !criteria.kinds.is_empty() && !criteria.kinds.contains(&candidate.source.kind) {
        return Some(format!("it comes from {}, which is not among the wanted sources", candidate.source.kind.name()));
    }
    None
}
