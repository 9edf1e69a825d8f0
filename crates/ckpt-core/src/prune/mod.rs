//! prune: which ones may go? A pure decision with all reasons for every checkpoint; nothing is deleted here.
//!
//! Whatever the rules and the clock say, a checkpoint stays that is pinned, that a pointer names, or from which training
//! would go on: the latest valid one. Where checkpoints tell different things (some their step, some only an epoch), it
//! cannot be known which is later, and the rules count each sort by itself.

use std::cmp::Reverse;

use crate::candidate::file_name;
use crate::error::{Error, ErrorKind, Result};
use crate::ids::{Epoch, Step};
use crate::metric::{self, Direction, Metric};
use crate::quantity::{size, span};
use crate::select::Position;
use crate::select::asked::{self, Asked, Telling};
use crate::select::position::{Basis, Finite};
use crate::verify::Verified;

mod age;
mod retention;

use age::Known;
pub use retention::{Best, Retention};

/// Whether a checkpoint can be trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Soundness {
    /// It can be resumed from.
    Valid,
    /// It is damaged.
    Damaged,
    /// It was not judged, is sound and would run dangerous code, or holds no tensor. It never goes and never counts.
    Unjudged,
}

/// One checkpoint, as far as keeping it goes.
#[derive(Clone, Debug, PartialEq)]
pub struct Item {
    /// Its name; no two have the same.
    pub name: String,
    /// Its step.
    pub step: Option<Step>,
    /// Its epoch.
    pub epoch: Option<Epoch>,
    /// The number of its commit, where it has one.
    pub sequence: Option<u64>,
    /// When it was saved, in nanoseconds since 1970.
    pub saved_ns: i64,
    /// How many bytes are freed when it goes.
    pub bytes: u64,
    /// Its metrics.
    pub metrics: Vec<Metric>,
    /// Whether it can be trusted.
    pub soundness: Soundness,
    /// Whether somebody asked to keep it for ever.
    pub is_pinned: bool,
    /// The names of the pointers to it.
    pub pointers: Vec<String>,
}

impl Item {
    /// A verified candidate under the name of its path, not pinned. Its other names, by links, are pointers to it.
    #[must_use]
    pub fn of(item: &Verified) -> Self {
        let soundness = match &item.verdict {
            // A table of results with an epoch is valid, and nothing to go on from.
            verdict if verdict.is_valid && item.inspection.tensors.count == 0 && !item.inspection.parts.model => {
                Soundness::Unjudged
            }
            verdict if verdict.is_valid => Soundness::Valid,
            verdict if verdict.is_damaged() && !verdict.is_only_unsafe() => Soundness::Damaged,
            _ => Soundness::Unjudged,
        };
        Self {
            name: item.candidate.path.display().to_string(),
            step: item.inspection.step,
            epoch: item.inspection.epoch,
            sequence: item.inspection.sequence,
            saved_ns: item.inspection.saved_ns.unwrap_or(item.candidate.modified_ns),
            bytes: item.candidate.bytes,
            metrics: item.inspection.metrics.clone(),
            soundness,
            is_pinned: false,
            pointers: item.candidate.aliases.iter().map(|alias| file_name(alias)).collect(),
        }
    }

    fn position(&self) -> Position {
        Position { step: self.step, epoch: self.epoch }
    }

    fn is_valid(&self) -> bool {
        self.soundness == Soundness::Valid
    }
}

/// What happens to a checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// It stays.
    Keep,
    /// It goes.
    Drop,
}

/// One checkpoint of a plan.
#[derive(Clone, Debug, PartialEq)]
pub struct Planned {
    /// The checkpoint.
    pub item: Item,
    /// What happens to it.
    pub action: Action,
    /// Every reason for that.
    pub reasons: Vec<String>,
    /// Whether it stays as the latest valid one, so that all others lean on it.
    pub is_latest: bool,
}

/// What stays and what goes.
#[derive(Clone, Debug, PartialEq)]
pub struct PrunePlan {
    /// Every checkpoint, the latest first.
    pub items: Vec<Planned>,
    /// What a person should know: a budget that cannot be met, a rule that keeps nothing.
    pub warnings: Vec<String>,
}

impl PrunePlan {
    /// Those that go, the latest first.
    pub fn dropped(&self) -> impl Iterator<Item = &Item> {
        self.with(Action::Drop)
    }

    /// Those that stay, the latest first.
    pub fn kept(&self) -> impl Iterator<Item = &Item> {
        self.with(Action::Keep)
    }

    fn with(&self, action: Action) -> impl Iterator<Item = &Item> {
        self.items.iter().filter(move |planned| planned.action == action).map(|planned| &planned.item)
    }

    /// How many bytes those that go have.
    #[must_use]
    pub fn freed_bytes(&self) -> u64 {
        self.dropped().fold(0, |sum, item| sum.saturating_add(item.bytes))
    }

    /// How many bytes those that stay have.
    #[must_use]
    pub fn kept_bytes(&self) -> u64 {
        self.kept().fold(0, |sum, item| sum.saturating_add(item.bytes))
    }
}

/// A checkpoint while it is thought about.
struct Entry {
    item: Item,
    /// Why it must stay.
    protections: Vec<String>,
    /// Whether one of them is that it is the latest valid one.
    is_latest: bool,
    /// Which rules keep it.
    rules: Vec<String>,
    /// Its best place among the best by some metric, from 0.
    rank: Option<usize>,
    /// Why it goes.
    against: Option<String>,
}

/// Decides what stays and what goes.
///
/// The result does not depend on the order of `items`. The same plan over what it keeps keeps all of it.
///
/// # Errors
/// [`ErrorKind::Invalid`]: a rule says zero; two checkpoints have one name; nobody tells the metric or the step that a
/// rule goes by; the metric may be one of several; its direction is not known, or the checkpoints and the usage of its
/// name do not agree on it.
pub fn plan(mut items: Vec<Item>, retention: &Retention, now_ns: i64) -> Result<PrunePlan> {
    retention.check()?;
    items.sort_by(|left, right| age::later(right, left));
    let mut names: Vec<&str> = items.iter().map(|item| item.name.as_str()).collect();
    names.sort_unstable();
    if let Some([name, _]) = names.windows(2).find(|pair| pair.first() == pair.last()) {
        return Err(Error::new(ErrorKind::Invalid, *name, "two checkpoints have the name"));
    }
    let entry =
        |item| Entry { item, protections: Vec::new(), is_latest: false, rules: Vec::new(), rank: None, against: None };
    let mut entries: Vec<Entry> = items.into_iter().map(entry).collect();
    let mut warnings = Vec::new();
    protect(&mut entries);
    if retention.drop_damaged {
        drop_damaged(&mut entries);
    }
    protect_across_sorts(&mut entries);
    keep_last(&mut entries, retention);
    keep_every(&mut entries, retention)?;
    keep_within(&mut entries, retention, now_ns);
    for best in &retention.keep_best {
        warnings.extend(keep_best(&mut entries, best)?);
    }
    if retention.has_rules() {
        for entry in
            entries.iter_mut().filter(|entry| entry.item.is_valid() && entry.is_free() && entry.rules.is_empty())
        {
            entry.against = Some("no rule keeps it".to_owned());
        }
    }
    warnings.extend(retention.max_bytes.and_then(|budget| fit(&mut entries, budget)));
    let items = entries.into_iter().map(|entry| entry.planned(retention)).collect();
    Ok(PrunePlan { items, warnings })
}

impl Entry {
    fn is_free(&self) -> bool {
        self.protections.is_empty()
    }

    fn planned(self, retention: &Retention) -> Planned {
        if let Some(reason) = self.against {
            return Planned { item: self.item, action: Action::Drop, reasons: vec![reason], is_latest: false };
        }
        let mut reasons = self.protections;
        match self.item.soundness {
            Soundness::Valid => reasons.extend(self.rules),
            Soundness::Damaged if retention.drop_damaged => {
                reasons.push("damaged: kept, for no valid one is surely newer".to_owned());
            }
            Soundness::Damaged => reasons.push("damaged: kept to be looked at".to_owned()),
            Soundness::Unjudged => reasons.push("not judged: kept to be looked at".to_owned()),
        }
        if reasons.is_empty() {
            reasons.push("no rule asks for it to go".to_owned());
        }
        Planned { item: self.item, action: Action::Keep, reasons, is_latest: self.is_latest }
    }
}

/// The valid ones, the latest of each sort first.
fn valid(entries: &mut [Entry], known: Known) -> Vec<&mut Entry> {
    entries.iter_mut().filter(|entry| entry.item.is_valid() && Known::of(&entry.item) == known).collect()
}

fn protect(entries: &mut [Entry]) {
    for entry in entries.iter_mut() {
        if entry.item.is_pinned {
            entry.protections.push("pinned".to_owned());
        }
        let mut pointers: Vec<&String> = entry.item.pointers.iter().collect();
        pointers.sort();
        entry.protections.extend(pointers.into_iter().map(|pointer| format!("`{pointer}` names it")));
    }
    let count = entries.iter().filter(|entry| entry.item.is_valid()).count();
    let sorts: Vec<Known> = Known::ALL.into_iter().filter(|known| !valid(entries, *known).is_empty()).collect();
    for known in &sorts {
        let latest = match (count, sorts.len()) {
            (1, _) => "the only valid one".to_owned(),
            (_, 1) => "the latest valid one".to_owned(),
            _ => format!("the latest valid one of those {}", known.words()),
        };
        if let Some(entry) = valid(entries, *known).first_mut() {
            entry.protections.push(latest);
            entry.is_latest = true;
        }
    }
}

/// `select` lets one number decide for all, and which one depends on how many tell it: so each one's first stays.
fn protect_across_sorts(entries: &mut [Entry]) {
    let sorts = Known::ALL.into_iter().filter(|known| !valid(entries, *known).is_empty()).count();
    let is_epoch_asked = entries.iter().any(|entry| {
        let is_damaged = !entry.item.is_valid() && entry.against.is_none();
        is_damaged && entry.item.step.is_none() && entry.item.epoch.is_some()
    });
    if sorts < 2 && !is_epoch_asked {
        return;
    }
    for basis in [Basis::Step, Basis::Epoch, Basis::Time] {
        let found = entries.iter_mut().filter(|entry| entry.item.is_valid());
        let first = found.max_by(|left, right| age::later_by(basis, &left.item, &right.item));
        if let Some(entry) = first.filter(|entry| entry.is_free()) {
            entry.protections.push("the latest valid one, when one number decides for all".to_owned());
            entry.is_latest = true;
        }
    }
}

fn keep_last(entries: &mut [Entry], retention: &Retention) {
    let Some(count) = retention.keep_last else { return };
    for known in Known::ALL {
        let sort = valid(entries, known);
        let all = sort.len();
        for entry in sort.into_iter().take(count) {
            entry.rules.push(format!("last {} of {all}", count.min(all)));
        }
    }
}

/// By the step, and by the epoch for those that tell no step.
fn keep_every(entries: &mut [Entry], retention: &Retention) -> Result<()> {
    let Some(every) = retention.keep_every else { return Ok(()) };
    let mut is_told = false;
    for entry in entries.iter_mut().filter(|entry| entry.item.is_valid()) {
        let epoch = || entry.item.epoch.and_then(Epoch::whole).and_then(|epoch| u64::try_from(epoch).ok());
        let (what, number) = match (entry.item.step, epoch()) {
            (Some(step), _) => ("step", step.0),
            (None, Some(epoch)) => ("epoch", epoch),
            (None, None) => continue,
        };
        is_told = true;
        if number.is_multiple_of(every) {
            entry.rules.push(format!("{what} {number} is a multiple of {every}"));
        }
    }
    if !is_told && entries.iter().any(|entry| entry.item.is_valid()) {
        let message = "no checkpoint tells its step or epoch, and those at multiples are asked for of";
        return Err(Error::new(ErrorKind::Invalid, every.to_string(), message));
    }
    Ok(())
}

fn keep_within(entries: &mut [Entry], retention: &Retention, now_ns: i64) {
    let Some(within) = retention.keep_within else { return };
    for entry in entries.iter_mut().filter(|entry| entry.item.is_valid()) {
        let age_ns = i128::from(now_ns) - i128::from(entry.item.saved_ns);
        // One from the future is not old: the clock is wrong, then or now.
        if u128::try_from(age_ns).is_ok_and(|age_ns| age_ns >= within.as_nanos()) {
            continue;
        }
        let what = if age_ns < 0 { "saved after now, by the clock" } else { "saved" };
        entry.rules.push(format!("{what} within {}", span(within)));
    }
}

/// A value under which a larger one is better, beside others of its scale: fractions of one and percentages are ranked each
/// by itself. None for what is not finite or cannot be.
fn merit(item: &Item, asked: &Asked) -> Option<(bool, Finite)> {
    let value = asked::value_of(&asked.name, &item.metrics).filter(|value| value.is_finite())?;
    let is_ratio = metric::is_ratio(&asked.name);
    if is_ratio && !(0.0..=100.0).contains(&value) {
        return None;
    }
    Some((is_ratio && value > 1.0, Finite(if asked.direction == Direction::Max { value } else { -value })))
}

/// Keeps the best by one metric; what to say when there is none.
fn keep_best(entries: &mut [Entry], best: &Best) -> Result<Option<String>> {
    if entries.is_empty() {
        return Ok(None);
    }
    let telling: Vec<Telling<'_>> =
        entries.iter().map(|entry| Telling::named(&entry.item.name, &entry.item.metrics)).collect();
    let asked = asked::resolve(&best.metric, best.direction, &telling)?;
    if best.direction.is_none() && !is_agreed(&asked, &telling) {
        return Err(asked::no_direction(&best.metric));
    }
    let mut kept = 0;
    for is_percent in [false, true] {
        let mut ranked: Vec<(Finite, &mut Entry)> = entries
            .iter_mut()
            .filter(|entry| entry.item.is_valid())
            .filter_map(|entry| {
                let (_, value) = merit(&entry.item, &asked).filter(|(scale, _)| *scale == is_percent)?;
                Some((value, entry))
            })
            .collect();
        ranked.sort_by(|(one, left), (two, right)| two.cmp(one).then_with(|| age::later(&right.item, &left.item)));
        for (rank, (_, entry)) in ranked.into_iter().take(best.count).enumerate() {
            let value = asked::value_of(&asked.name, &entry.item.metrics).unwrap_or(f64::NAN);
            entry.rules.push(format!("best {} by {}: {value}", best.count, asked.name));
            entry.rank = Some(entry.rank.map_or(rank, |other| other.min(rank)));
            kept += 1;
        }
    }
    Ok((kept == 0).then(|| format!("no valid checkpoint tells a usable {}: none is kept for it", asked.name)))
}

/// Whether nothing says that the other direction is better. Where something does, the best might be taken for the worst
/// as soon as a few checkpoints are gone.
fn is_agreed(asked: &Asked, telling: &[Telling<'_>]) -> bool {
    let told = telling.iter().flat_map(|item| {
        let names = item.metrics.iter().map(|metric| metric.name.as_str());
        let resolved = metric::resolve(&asked.name, names).ok();
        item.metrics.iter().filter(move |metric| Some(metric.name.as_str()) == resolved)
    });
    let mut directions = told.filter_map(|metric| metric.direction).chain(metric::usual_direction(&asked.name));
    directions.all(|direction| direction == asked.direction)
}

fn drop_damaged(entries: &mut [Entry]) {
    // The latest of each sort always stays.
    let staying: Vec<Item> = Known::ALL
        .into_iter()
        .filter_map(|known| valid(entries, known).first().map(|entry| entry.item.clone()))
        .collect();
    for entry in entries.iter_mut().filter(|entry| entry.item.soundness == Soundness::Damaged && entry.is_free()) {
        if let Some(newer) = staying.iter().find(|valid| age::is_later(valid, &entry.item)) {
            entry.against = Some(format!("damaged, and `{}` is valid and newer", newer.name));
        }
    }
}

/// Takes away until the rest fits; what to say when it does not.
fn fit(entries: &mut [Entry], budget: u64) -> Option<String> {
    let kept = entries.iter().filter(|entry| entry.against.is_none());
    // A sum of at most 2^64 sizes.
    let mut left: u128 = kept.map(|entry| u128::from(entry.item.bytes)).sum();
    // The latest is first: from the end come the oldest, and after all others the best, the worst of them first.
    let mut order: Vec<&mut Entry> = entries.iter_mut().rev().collect();
    order.sort_by_key(|entry| entry.rank.map(Reverse));
    let may_go = |entry: &Entry| entry.item.is_valid() && entry.is_free() && entry.against.is_none();
    for entry in order.into_iter().filter(|entry| may_go(entry)) {
        if left <= u128::from(budget) {
            break;
        }
        left -= u128::from(entry.item.bytes);
        entry.against = Some(format!("over the budget of {}", size(budget)));
    }
    (left > u128::from(budget)).then(|| {
        let (left, budget) = (size(u64::try_from(left).unwrap_or(u64::MAX)), size(budget));
        format!(
            "the budget of {budget} cannot be met: {left} are pinned, named by a pointer, the latest valid one, damaged or not judged"
        )
    })
}
