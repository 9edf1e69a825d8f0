//! The order of wanting: a total one, the same whatever order candidates were found in.

use std::cmp::{Ordering, Reverse};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::asked::{self, Telling};
use super::position::{Basis, Finite};
use super::{Choice, Criteria, Outcome, Position};
use crate::candidate::SourceKind;
use crate::error::Result;
use crate::ids::Epoch;
use crate::metric::{self, Direction};
use crate::verify::Verified;

/// Where a candidate stands: the smallest key is the most wanted.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    priority: usize,
    standing: Standing,
    /// Reversed metric value, smaller is better.
    value: Finite,
    /// How far it had come; for one of a [`Line`] how far the last of the line had.
    reached: Reverse<Reached>,
    source: usize,
    /// What stands together, in the order of its commits; nothing for one that stands alone.
    line: Option<Line>,
    sequence: Reverse<Option<u64>>,
    own: Reverse<Reached>,
}

/// Step and epoch, the deciding one first; then when it was saved.
type Reached = ((Option<Finite>, Option<Finite>), i64);

/// The checkpoints in one directory whose commits are numbered, by the directory: its pointer names the last commit.
///
/// A trainer that went back to step 800 and saved step 900 while step 1200 is still there means step 900. Numbers of
/// different directories have nothing to do with each other. So a line is ranked as a whole among the others, by how far
/// its last commit had come, and within it the numbers decide: comparing two of a line by number and any other two by step
/// would let three of them go round in a circle.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Line(PathBuf);

impl Line {
    fn of(item: &Verified) -> Option<(Self, u64)> {
        let sequence = item.inspection.sequence?;
        let directory = item.candidate.path.parent().map(Path::to_owned).unwrap_or_default();
        Some((Self(directory), sequence))
    }
}

/// How a metric can be compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Standing {
    Comparable,
    OtherScale,
    OutOfRange,
    NotFinite,
    Missing,
}

pub(super) struct Order {
    metric: Option<(String, Direction)>,
    /// The scale that ratios are compared on: fractions of one, or percentages.
    is_percent: Option<bool>,
    basis: Basis,
    by_priority: bool,
    priority: Vec<SourceKind>,
    /// The last commit of each line, and how far it had come.
    lines: BTreeMap<Line, (u64, Reached)>,
    pub(super) rule: String,
}

impl Order {
    pub(super) fn new(
        all: &[Verified],
        criteria: &Criteria,
        is_considered: &dyn Fn(&Verified) -> bool,
    ) -> Result<Self> {
        let considered: Vec<&Verified> = all.iter().filter(|item| is_considered(item)).collect();
        let mut priority = criteria.priority.clone();
        priority.extend(SourceKind::ALL.into_iter().filter(|kind| !criteria.priority.contains(kind)));
        let basis = Basis::of(considered.iter().map(|item| Position::of(item)));
        let lines = lines(&considered, basis);
        let by = by(&considered, basis, &lines);
        let mut order = Self {
            metric: None,
            is_percent: None,
            basis,
            by_priority: criteria.choice == Choice::Priority,
            priority,
            lines,
            rule: match &criteria.choice {
                Choice::Latest => format!("latest ({by})"),
                _ => format!("source priority, then latest ({by})"),
            },
        };
        if let Choice::Best { metric, direction } = &criteria.choice
            && !considered.is_empty()
        {
            let telling: Vec<Telling<'_>> = considered.iter().map(|item| Telling::of(item)).collect();
            let asked = asked::resolve(metric, *direction, &telling)?;
            order.rule = format!("best {} ({}, {})", asked.name, better(asked.direction), asked.why);
            order.is_percent = scale(&asked.name, &considered);
            order.metric = Some((asked.name, asked.direction));
        }
        Ok(order)
    }

    fn value(&self, item: &Verified) -> (Standing, f64) {
        let Some((name, _)) = &self.metric else { return (Standing::Comparable, 0.0) };
        match value_of(name, item) {
            None => (Standing::Missing, 0.0),
            Some(value) if !value.is_finite() => (Standing::NotFinite, 0.0),
            Some(value) if metric::is_ratio(name) && !(0.0..=100.0).contains(&value) => (Standing::OutOfRange, value),
            Some(value) if self.is_percent.is_some_and(|is_percent| is_percent != (value > 1.0)) => {
                (Standing::OtherScale, value)
            }
            Some(value) => (Standing::Comparable, value),
        }
    }

    pub(super) fn key(&self, item: &Verified) -> Key {
        let (standing, value) = self.value(item);
        let is_max = self.metric.as_ref().is_some_and(|(_, direction)| *direction == Direction::Max);
        let own = reached(item, self.basis);
        let (line, sequence) = Line::of(item).unzip();
        let last = line.as_ref().and_then(|line| self.lines.get(line)).map_or(own, |(_, reached)| *reached);
        let source = self.priority.iter().position(|kind| *kind == item.candidate.source.kind).unwrap_or(usize::MAX);
        Key {
            priority: if self.by_priority { source } else { 0 },
            standing,
            value: Finite(if is_max { -value } else { value }),
            reached: Reverse(last),
            source,
            line,
            sequence: Reverse(sequence),
            own: Reverse(own),
        }
    }

    /// Why a considered candidate was taken or passed over.
    pub(super) fn reason(
        &self,
        item: &Verified,
        key: &Key,
        place: Option<(usize, usize)>,
        criteria: &Criteria,
    ) -> String {
        if !item.verdict.is_valid {
            return match item.verdict.reason() {
                Some(finding) => format!("invalid, {}: {}", finding.code.name(), finding.message),
                None => "not inspected".to_owned(),
            };
        }
        if let Some(failure) = criteria.conditions.iter().find_map(|condition| condition.failure(&item.inspection)) {
            return failure;
        }
        let told = self.told(item, key);
        match place {
            Some((taken, index)) if taken == index => format!("taken: {}; {told}", self.rule),
            _ => format!("passed over: {told}"),
        }
    }

    /// What a person should know: see [`Selection::warnings`].
    pub(super) fn warnings<'a>(
        &self,
        all: impl Iterator<Item = ((&'a Verified, &'a Key), &'a Outcome)> + Clone,
        taken: Option<usize>,
    ) -> Vec<String> {
        let Some((name, _)) = &self.metric else { return Vec::new() };
        let mut warnings = Vec::new();
        if let Some(((_, key), _)) = taken.and_then(|taken| all.clone().nth(taken))
            && key.standing != Standing::Comparable
        {
            warnings.push(format!("no valid checkpoint tells a comparable {name}: the choice is by position alone"));
        }
        let odd = all.filter(|((item, key), outcome)| {
            outcome.is_considered && item.verdict.is_valid && key.standing == Standing::OtherScale
        });
        warnings.extend(odd.take(8).map(|((item, _), _)| {
            let value = value_of(name, item).unwrap_or(f64::NAN);
            let path = item.candidate.path.display();
            format!("`{path}` tells {name} {value}, on another scale than its rivals: not compared")
        }));
        warnings
    }

    /// What decided about its rank.
    fn told(&self, item: &Verified, key: &Key) -> String {
        let position = match (item.inspection.step, item.inspection.epoch) {
            (Some(step), Some(epoch)) => format!("step {step}, epoch {epoch}"),
            (Some(step), None) => format!("step {step}"),
            (None, Some(epoch)) => format!("epoch {epoch}"),
            (None, None) => "no step or epoch told".to_owned(),
        };
        let position = match item.inspection.sequence {
            Some(sequence) => format!("{position}, commit {sequence}"),
            None => position,
        };
        let kind = item.candidate.source.kind.name();
        let Some((name, _)) = &self.metric else { return format!("{kind}, {position}") };
        match (key.standing, value_of(name, item)) {
            (Standing::Comparable, Some(value)) => format!("{name} {value}, {position}"),
            (Standing::OtherScale, Some(value)) => format!("{name} {value} is on another scale than its rivals"),
            (Standing::OutOfRange, Some(value)) => format!("{name} {value} is outside 0 to 1"),
            (Standing::NotFinite, Some(value)) => format!("{name} is {value}"),
            _ => format!("it tells no {name}"),
        }
    }
}

/// How far a candidate had come.
fn reached(item: &Verified, basis: Basis) -> Reached {
    // What it says itself outlasts copies and mounts, which make new times.
    (Position::of(item).key(basis), item.inspection.saved_ns.unwrap_or(item.candidate.modified_ns))
}

/// The last commit of each line.
fn lines(considered: &[&Verified], basis: Basis) -> BTreeMap<Line, (u64, Reached)> {
    let mut lines = BTreeMap::new();
    for item in considered {
        let Some((line, sequence)) = Line::of(item) else { continue };
        let this = (sequence, reached(item, basis));
        let last = lines.entry(line).or_insert(this);
        // Copies may have the same number: the larger of two, so that their order does not matter.
        *last = (*last).max(this);
    }
    lines
}

/// How "later" is told, in words.
fn by(considered: &[&Verified], basis: Basis, lines: &BTreeMap<Line, (u64, Reached)>) -> String {
    let basis = match basis {
        Basis::Step => "by step",
        Basis::Epoch => "by epoch",
        Basis::Time => "by time of modification: none tells its step or epoch",
    };
    let in_lines = considered.iter().filter(|item| item.inspection.sequence.is_some()).count();
    match (lines.len(), in_lines) {
        (1, count) if count > 1 && count == considered.len() => "by commit".to_owned(),
        (lines, count) if count > lines => format!("{basis}, within one directory by commit"),
        _ => basis.to_owned(),
    }
}

fn better(direction: Direction) -> &'static str {
    if direction == Direction::Max { "larger is better" } else { "smaller is better" }
}

/// The value under the metric's name, or under the one name that ends with it.
pub(super) fn value_of(name: &str, item: &Verified) -> Option<f64> {
    asked::value_of(name, &item.inspection.metrics)
}

/// For a ratio that some tell as a fraction and others as a percentage: whether the percentage is the scale of most.
/// On a draw fractions of one win: they are the convention.
fn scale(name: &str, considered: &[&Verified]) -> Option<bool> {
    if !metric::is_ratio(name) {
        return None;
    }
    let values: Vec<f64> = considered
        .iter()
        .filter(|item| item.verdict.is_valid)
        .filter_map(|item| value_of(name, item))
        .filter(|value| (0.0..=100.0).contains(value))
        .collect();
    let percentages = values.iter().filter(|value| **value > 1.0).count();
    let fractions = values.len() - percentages;
    let is_percent = match percentages.cmp(&fractions) {
        Ordering::Equal => percentages > 1 && is_early(name, considered),
        order => order == Ordering::Greater,
    };
    (percentages > 0 && fractions > 0).then_some(is_percent)
}

/// Whether all values up to 1 come before all larger ones: a run that tells percentages begins low.
fn is_early(name: &str, considered: &[&Verified]) -> bool {
    let epochs = |is_wanted: &dyn Fn(f64) -> bool| {
        let wanted = considered.iter().filter(|item| value_of(name, item).is_some_and(is_wanted));
        wanted.map(|item| item.inspection.epoch.map(Epoch::get)).collect::<Option<Vec<f64>>>()
    };
    let (Some(low), Some(high)) = (epochs(&|value| value <= 1.0), epochs(&|value| value > 1.0)) else { return false };
    low.iter().copied().fold(f64::NEG_INFINITY, f64::max) < high.iter().copied().fold(f64::INFINITY, f64::min)
}
