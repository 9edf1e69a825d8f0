//! verify: can it be trusted? Findings are collected, never thrown: a bad checkpoint is an answer, not an error.

use std::fmt;
use std::str::FromStr;

use crate::candidate::Candidate;
use crate::error::{Error, ErrorKind, Result};
use crate::finding::{Code, Finding, Severity};
use crate::inspect::Inspection;
use crate::layout::Class;
use crate::metric::{self, is_ratio};

/// What the caller demands of a checkpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Expectations {
    /// Top-level keys that must be there.
    pub keys: Vec<String>,
    /// Whether training must be able to go on from it.
    pub resumable: bool,
    /// Whether dangerous imports are accepted.
    pub allow_unsafe: bool,
}

/// What was found about a checkpoint, all of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Everything noticed, the worst first.
    pub findings: Vec<Finding>,
    /// Whether it may be used.
    pub is_valid: bool,
}

impl Verdict {
    /// The finding that decided against it.
    #[must_use]
    pub fn reason(&self) -> Option<&Finding> {
        self.findings
            .iter()
            .find(|finding| finding.severity == Severity::Error)
            .or_else(|| self.findings.iter().find(|finding| finding.code == Code::Unsupported && !self.is_valid))
    }

    /// Whether it is refused only because of what loading it would run.
    #[must_use]
    pub fn is_only_unsafe(&self) -> bool {
        let mut errors = self.findings.iter().filter(|finding| finding.severity == Severity::Error).peekable();
        errors.peek().is_some() && errors.all(|finding| finding.code == Code::Unsafe)
    }

    /// Whether its bytes are damaged, as opposed to not being what the caller asked for.
    #[must_use]
    pub fn is_damaged(&self) -> bool {
        self.findings.iter().any(|finding| {
            finding.severity == Severity::Error
                && !matches!(
                    finding.code,
                    Code::MissingKeys | Code::BadValue | Code::Unsupported | Code::NotACheckpoint
                )
        })
    }
}

/// A candidate, what it says, and whether it can be trusted. The only thing that [`crate::select`] takes.
#[derive(Clone, Debug, PartialEq)]
pub struct Verified {
    /// Where it is.
    pub candidate: Candidate,
    /// What it says.
    pub inspection: Inspection,
    /// Whether it can be trusted.
    pub verdict: Verdict,
    /// Whether every byte was checked.
    pub is_deep: bool,
}

impl Verified {
    /// Judges an inspected candidate. `deep` is what a check of every byte found, if one was made.
    #[must_use]
    pub fn new(
        candidate: Candidate,
        inspection: Inspection,
        deep: Option<Vec<Finding>>,
        expected: &Expectations,
    ) -> Self {
        let is_deep = deep.is_some();
        let verdict = judge(&inspection, deep.unwrap_or_default(), expected);
        Self { candidate, inspection, verdict, is_deep }
    }

    /// Adds what a check of every byte found.
    #[must_use]
    pub fn with_deep(self, deep: Vec<Finding>, expected: &Expectations) -> Self {
        Self::new(self.candidate, self.inspection, Some(deep), expected)
    }
}

/// Collects every finding against what is expected.
#[must_use]
pub fn judge(inspection: &Inspection, deep: Vec<Finding>, expected: &Expectations) -> Verdict {
    let mut findings = inspection.findings.clone();
    for finding in deep {
        if !findings.contains(&finding) {
            findings.push(finding);
        }
    }
    if expected.allow_unsafe {
        for finding in findings.iter_mut().filter(|finding| finding.code == Code::Unsafe) {
            finding.severity = Severity::Warning;
        }
    }
    let missing: Vec<&str> =
        expected.keys.iter().filter(|key| !inspection.keys.contains(key)).map(String::as_str).collect();
    if !missing.is_empty() {
        findings.push(Finding::error(Code::MissingKeys, format!("it lacks the required keys {}", missing.join(", "))));
    }
    if expected.resumable && inspection.class != Class::Resumable {
        let why = match (inspection.parts.model, inspection.parts.optimizer) {
            (true, true) => "it says so itself",
            (true, false) => "it holds no optimizer state",
            (false, _) => "it holds no model weights",
        };
        findings.push(Finding::error(Code::MissingKeys, format!("it is {}: {why}", inspection.class.name())));
    }
    if let Some(epoch) = inspection.epoch.filter(|epoch| epoch.get() < 0.0 && !inspection.is_finished) {
        findings.push(Finding::error(Code::BadValue, format!("its epoch is {epoch}")));
    }
    for metric in &inspection.metrics {
        if !metric.value.is_finite() {
            findings.push(Finding::warning(Code::NonFinite, format!("its {} is {}", metric.name, metric.value)));
        } else if is_ratio(&metric.name) && !(0.0..=100.0).contains(&metric.value) {
            findings.push(Finding::warning(
                Code::BadValue,
                format!("its {} is {}, outside 0 to 1", metric.name, metric.value),
            ));
        }
    }
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    let is_valid =
        inspection.format.is_inspected() && findings.iter().all(|finding| finding.severity < Severity::Error);
    Verdict { findings, is_valid }
}

/// A comparison of a metric with a number: `accuracy>=0.8`.
#[derive(Clone, Debug, PartialEq)]
pub struct Condition {
    /// The metric's name.
    pub metric: String,
    comparison: Comparison,
    bound: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Comparison {
    AtLeast,
    Above,
    AtMost,
    Below,
    Equal,
}

impl FromStr for Condition {
    type Err = Error;

    /// ```
    /// use ckpt_core::verify::Condition;
    /// let condition: Condition = "accuracy >= 0.8".parse()?;
    /// assert_eq!(condition.to_string(), "accuracy>=0.8");
    /// assert!("accuracy".parse::<Condition>().is_err());
    /// assert!("accuracy=>0.8".parse::<Condition>().is_err());
    /// # Ok::<(), ckpt_core::Error>(())
    /// ```
    fn from_str(text: &str) -> Result<Self> {
        let operators = [
            (">=", Comparison::AtLeast),
            ("<=", Comparison::AtMost),
            ("==", Comparison::Equal),
            (">", Comparison::Above),
            ("<", Comparison::Below),
            ("=", Comparison::Equal),
        ];
        let parsed = operators.into_iter().find_map(|(operator, comparison)| {
            let (metric, bound) = text.split_once(operator)?;
            let bound: f64 = bound.trim().parse().ok()?;
            let metric = metric.trim();
            (!metric.is_empty() && !metric.contains(['<', '>', '=', '!']) && !bound.is_nan()).then(|| Self {
                metric: metric.to_owned(),
                comparison,
                bound,
            })
        });
        parsed.ok_or_else(|| Error::new(ErrorKind::Invalid, text, "not a condition such as accuracy>=0.8:"))
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let operator = match self.comparison {
            Comparison::AtLeast => ">=",
            Comparison::Above => ">",
            Comparison::AtMost => "<=",
            Comparison::Below => "<",
            Comparison::Equal => "==",
        };
        write!(f, "{}{operator}{}", self.metric, self.bound)
    }
}

impl Condition {
    /// Why the checkpoint does not meet it; `None` when it does. A missing metric and NaN meet nothing.
    #[must_use]
    pub fn failure(&self, inspection: &Inspection) -> Option<String> {
        let names = inspection.metrics.iter().map(|metric| metric.name.as_str());
        let value = metric::resolve(&self.metric, names)
            .ok()
            .and_then(|name| inspection.metrics.iter().find(|metric| metric.name == name))
            .map(|metric| metric.value);
        let Some(value) = value else { return Some(format!("it tells no {}, and {self} is asked for", self.metric)) };
        let is_met = match self.comparison {
            Comparison::AtLeast => value >= self.bound,
            Comparison::Above => value > self.bound,
            Comparison::AtMost => value <= self.bound,
            Comparison::Below => value < self.bound,
            #[expect(clippy::float_cmp, reason = "the caller asks for equality")]
            Comparison::Equal => value == self.bound,
        };
        (!is_met).then(|| format!("its {} is {value}, and {self} is asked for", self.metric))
    }
}
