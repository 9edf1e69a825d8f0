//! select: which one? A pure choice over verified candidates, with a reason for every one of them.

use std::cmp::{Ordering, Reverse};

use globset::{Glob, GlobMatcher};

use crate::candidate::SourceKind;
use crate::error::{Error, ErrorKind, Result};
use crate::ids::{Epoch, Step};
use crate::metric::{self, Direction};
use crate::name::natural_cmp;
use crate::verify::{Condition, Verified};

/// How to choose among the valid ones.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Choice {
    /// By the priority of source kinds, then the latest.
    #[default]
    Priority,
    /// The latest: by step, then epoch, then time of modification.
    Latest,
    /// The best value of a metric.
    Best {
        /// Its name, or the end of it after a dot or slash.
        metric: String,
        /// Which way is better; `None` asks the files, then the usage of the name.
        direction: Option<Direction>,
    },
}

impl std::str::FromStr for Choice {
    type Err = Error;

    /// Parses `METRIC`, `METRIC:max` or `METRIC:min`.
    fn from_str(text: &str) -> Result<Self> {
        let (metric, direction) = match text.rsplit_once(':') {
            Some((metric, "max")) => (metric, Some(Direction::Max)),
            Some((metric, "min")) => (metric, Some(Direction::Min)),
            Some((_, other)) if !other.is_empty() && other.bytes().all(|byte| byte.is_ascii_alphabetic()) => {
                return Err(Error::new(ErrorKind::Invalid, text, "a direction is `max` or `min`, not what is in"));
            }
            _ => (text, None),
        };
        if metric.is_empty() {
            return Err(Error::new(ErrorKind::Invalid, text, "no metric in"));
        }
        Ok(Self::Best { metric: metric.to_owned(), direction })
    }
}

/// What to choose from, and how.
#[derive(Clone, Debug, Default)]
pub struct Criteria {
    /// How to choose.
    pub choice: Choice,
    /// Only candidates whose file name matches one of these; all when empty.
    pub names: Vec<NamePattern>,
    /// Only candidates from these kinds of source; all when empty.
    pub kinds: Vec<SourceKind>,
    /// Only candidates that meet all of these.
    pub conditions: Vec<Condition>,
    /// Kinds of source, the most wanted first; kinds not named follow in their default order.
    pub priority: Vec<SourceKind>,
}

/// A pattern for file names: `checkpoint_*.pth`.
#[derive(Clone, Debug)]
pub struct NamePattern(GlobMatcher);

impl std::str::FromStr for NamePattern {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match Glob::new(text) {
            Ok(glob) => Ok(Self(glob.compile_matcher())),
            Err(error) => Err(Error::new(ErrorKind::Invalid, text, format!("bad name pattern ({}):", error.kind()))),
        }
    }
}

impl NamePattern {
    /// Whether a file name matches.
    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        self.0.is_match(name)
    }
}

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
                Nothing::Found => "no checkpoint of the wanted names, sources and conditions was found".to_owned(),
                Nothing::Valid => "checkpoints were found, and none of them is valid".to_owned(),
                Nothing::Safe => "the only checkpoints left would run dangerous code when loaded".to_owned(),
            },
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
/// [`ErrorKind::Invalid`]: the metric is unknown (the message lists those seen), ambiguous, or its direction is.
pub fn select(verified: Vec<Verified>, criteria: &Criteria) -> Result<Selection> {
    let is_considered = |item: &Verified| refusal(item, criteria).is_none();
    let order = Order::new(&verified, criteria, &is_considered)?;
    let mut keyed: Vec<(Key, Verified)> = verified.into_iter().map(|item| (order.key(&item), item)).collect();
    keyed.sort_by(|(left_key, left), (right_key, right)| {
        left_key.cmp(right_key).then_with(|| {
            natural_cmp(&right.candidate.name(), &left.candidate.name())
                .then_with(|| left.candidate.path.cmp(&right.candidate.path))
        })
    });
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
    Ok(Selection { ranked, outcomes, taken, rule: order.rule })
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

/// A float that is finite, so that it has a total order.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Finite(f64);

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

/// Where a candidate stands: the smallest key is the most wanted.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    priority: usize,
    standing: Standing,
    /// Reversed metric value, smaller is better.
    value: Finite,
    position: Reverse<(Option<Finite>, Option<Finite>)>,
    modified: Reverse<i64>,
    source: usize,
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

/// Which number tells "later" for all candidates alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Basis {
    Step,
    Epoch,
    Time,
}

struct Order {
    metric: Option<(String, Direction)>,
    /// The scale that ratios are compared on: fractions of one, or percentages.
    is_percent: Option<bool>,
    basis: Basis,
    by_priority: bool,
    priority: Vec<SourceKind>,
    rule: String,
}

impl Order {
    fn new(all: &[Verified], criteria: &Criteria, is_considered: &dyn Fn(&Verified) -> bool) -> Result<Self> {
        let considered: Vec<&Verified> = all.iter().filter(|item| is_considered(item)).collect();
        let mut priority = criteria.priority.clone();
        priority.extend(SourceKind::ALL.into_iter().filter(|kind| !criteria.priority.contains(kind)));
        let basis = basis(&considered);
        let by = match basis {
            Basis::Step => "by step",
            Basis::Epoch => "by epoch",
            Basis::Time => "by time of modification: none tells its step or epoch",
        };
        let mut order = Self {
            metric: None,
            is_percent: None,
            basis,
            by_priority: criteria.choice == Choice::Priority,
            priority,
            rule: match &criteria.choice {
                Choice::Latest => format!("latest ({by})"),
                _ => format!("source priority, then latest ({by})"),
            },
        };
        if let Choice::Best { metric, direction } = &criteria.choice
            && !considered.is_empty()
        {
            let (name, direction, why) = self::direction(metric, *direction, &considered)?;
            let better = if direction == Direction::Max { "larger" } else { "smaller" };
            order.rule = format!("best {name} ({better} is better, {why})");
            order.is_percent = scale(&name, &considered);
            order.metric = Some((name, direction));
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

    fn key(&self, item: &Verified) -> Key {
        let (standing, value) = self.value(item);
        let is_max = self.metric.as_ref().is_some_and(|(_, direction)| *direction == Direction::Max);
        #[expect(clippy::cast_precision_loss, reason = "steps beyond 2^53 are not reached")]
        let step = item.inspection.step.map(|step| Finite(step.0 as f64));
        let epoch = item.inspection.epoch.map(|epoch| Finite(epoch.get()));
        let position = match self.basis {
            Basis::Step => (step, epoch),
            Basis::Epoch => (epoch, step),
            Basis::Time => (None, None),
        };
        let source = self.priority.iter().position(|kind| *kind == item.candidate.source.kind).unwrap_or(usize::MAX);
        Key {
            priority: if self.by_priority { source } else { 0 },
            standing,
            value: Finite(if is_max { -value } else { value }),
            position: Reverse(position),
            modified: Reverse(item.candidate.modified_ns),
            source,
        }
    }

    /// Why a considered candidate was taken or passed over.
    fn reason(&self, item: &Verified, key: &Key, place: Option<(usize, usize)>, criteria: &Criteria) -> String {
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

    /// What decided about its rank.
    fn told(&self, item: &Verified, key: &Key) -> String {
        let position = match (item.inspection.step, item.inspection.epoch) {
            (Some(step), Some(epoch)) => format!("step {step}, epoch {epoch}"),
            (Some(step), None) => format!("step {step}"),
            (None, Some(epoch)) => format!("epoch {epoch}"),
            (None, None) => "no step or epoch told".to_owned(),
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

/// Step where every candidate that has come any way tells it, else epoch likewise, else whichever more of them tell.
fn basis(considered: &[&Verified]) -> Basis {
    let positions: Vec<Position> = considered
        .iter()
        .map(|item| Position::of(item))
        .filter(|position| position.step.is_some() || position.epoch.is_some())
        .collect();
    let steps = positions.iter().filter(|position| position.step.is_some()).count();
    let epochs = positions.iter().filter(|position| position.epoch.is_some()).count();
    if positions.is_empty() {
        Basis::Time
    } else if steps == positions.len() || (epochs < positions.len() && steps >= epochs) {
        Basis::Step
    } else {
        Basis::Epoch
    }
}

/// The value under the metric's name, or under the one name that ends with it.
fn value_of(name: &str, item: &Verified) -> Option<f64> {
    let known = item.inspection.metrics.iter().map(|metric| metric.name.as_str());
    let resolved = metric::resolve(name, known).ok()?;
    item.inspection.metrics.iter().find(|metric| metric.name == resolved).map(|metric| metric.value)
}

/// The metric's name as the files have it, its direction, and how that is known.
fn direction(
    wanted: &str,
    explicit: Option<Direction>,
    considered: &[&Verified],
) -> Result<(String, Direction, &'static str)> {
    let mut seen: Vec<&str> =
        considered.iter().flat_map(|item| &item.inspection.metrics).map(|metric| metric.name.as_str()).collect();
    seen.sort_unstable();
    seen.dedup();
    let listed = if seen.is_empty() { "none at all".to_owned() } else { seen.join(", ") };
    let mut told = Vec::new();
    let mut name = None;
    for item in considered {
        let known = item.inspection.metrics.iter().map(|metric| metric.name.as_str());
        match metric::resolve(wanted, known) {
            Ok(resolved) => {
                name.get_or_insert_with(|| resolved.to_owned());
                let metric = item.inspection.metrics.iter().find(|metric| metric.name == resolved);
                told.extend(metric.and_then(|metric| metric.direction));
            }
            Err(close) if close.is_empty() => {}
            Err(close) => {
                let message = format!(
                    "`{}` tells several metrics of that name ({}); say which instead of",
                    item.candidate.name(),
                    close.join(", ")
                );
                return Err(Error::new(ErrorKind::Invalid, wanted, message));
            }
        }
    }
    // The shortest form that finds it everywhere is the one that was asked for.
    let Some(name) = name.map(|name| if seen.contains(&wanted) { wanted.to_owned() } else { name }) else {
        return Err(Error::new(
            ErrorKind::Invalid,
            wanted,
            format!("no checkpoint tells that metric; those seen are {listed}: unknown metric"),
        ));
    };
    if let Some(direction) = explicit {
        return Ok((name, direction, "as asked"));
    }
    let agreed = told.first().copied().filter(|first| told.iter().all(|direction| direction == first));
    match (agreed, metric::usual_direction(&name)) {
        (Some(direction), _) => Ok((name, direction, "as the files tell")),
        (None, Some(direction)) => Ok((name, direction, "known by its name")),
        (None, None) => Err(Error::new(
            ErrorKind::Invalid,
            wanted,
            format!(
                "whether more or less of it is better is not known; say `{wanted}:max` or `{wanted}:min` instead of"
            ),
        )),
    }
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
    (percentages > 0 && fractions > 0).then_some(percentages > fractions)
}
