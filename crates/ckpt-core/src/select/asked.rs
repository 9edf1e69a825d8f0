//! The metric that a request names: under which name, and which way is better.

use std::borrow::Cow;
use std::collections::BTreeSet;

use crate::error::{Error, ErrorKind, Result};
use crate::metric::{self, Direction, Metric};
use crate::verify::Verified;

/// A checkpoint as far as its metrics go.
#[derive(Clone, Debug)]
pub(crate) struct Telling<'a> {
    /// Its name.
    pub name: Cow<'a, str>,
    /// What it tells.
    pub metrics: &'a [Metric],
}

impl<'a> Telling<'a> {
    pub(crate) fn named(name: &'a str, metrics: &'a [Metric]) -> Self {
        Self { name: name.into(), metrics }
    }

    pub(crate) fn of(item: &'a Verified) -> Self {
        Self { name: item.candidate.name().into(), metrics: &item.inspection.metrics }
    }
}

/// A metric that checkpoints can be compared by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Asked {
    /// Its name, as the checkpoints have it.
    pub name: String,
    /// Which way is better.
    pub direction: Direction,
    /// How that is known.
    pub why: &'static str,
}

/// The value under the metric's name, or under the one name that ends with it.
pub(crate) fn value_of(name: &str, metrics: &[Metric]) -> Option<f64> {
    let resolved = metric::resolve(name, metrics.iter().map(|metric| metric.name.as_str())).ok()?;
    metrics.iter().find(|metric| metric.name == resolved).map(|metric| metric.value)
}

/// Finds the metric that is `wanted`, and its direction unless that is `explicit`.
///
/// # Errors
/// [`ErrorKind::Invalid`]: nobody tells it (the message lists what is told), it may be one of several, or its direction
/// is not known.
pub(crate) fn resolve(wanted: &str, explicit: Option<Direction>, all: &[Telling<'_>]) -> Result<Asked> {
    let mut told = Vec::new();
    let mut names = BTreeSet::new();
    for item in all {
        match metric::resolve(wanted, item.metrics.iter().map(|metric| metric.name.as_str())) {
            Ok(resolved) => {
                names.insert(resolved);
                let metric = item.metrics.iter().find(|metric| metric.name == resolved);
                told.extend(metric.and_then(|metric| metric.direction));
            }
            Err(close) if close.is_empty() => {}
            Err(close) => {
                let message = format!(
                    "`{}` tells several metrics of that name ({}); say which instead of",
                    item.name,
                    close.join(", ")
                );
                return Err(Error::new(ErrorKind::Invalid, wanted, message));
            }
        }
    }
    // The shortest form that finds it everywhere is the one that was asked for.
    let name = match (names.contains(wanted), names.first()) {
        (true, _) => wanted,
        (false, Some(name)) if names.iter().all(|other| other.eq_ignore_ascii_case(name)) => *name,
        (false, Some(_)) => {
            let listed = Vec::from_iter(names).join(", ");
            let message = format!("the checkpoints tell several metrics of that name ({listed}); say which instead of");
            return Err(Error::new(ErrorKind::Invalid, wanted, message));
        }
        (false, None) => return Err(unknown(wanted, all.iter().map(|item| item.metrics))),
    };
    let asked = |direction, why| Ok(Asked { name: name.to_owned(), direction, why });
    if let Some(direction) = explicit {
        return asked(direction, "as asked");
    }
    let agreed = told.first().copied().filter(|first| told.iter().all(|direction| direction == first));
    match (agreed, metric::usual_direction(name)) {
        (Some(direction), _) => asked(direction, "as the files tell"),
        (None, Some(direction)) => asked(direction, "known by its name"),
        (None, None) => Err(no_direction(wanted)),
    }
}

/// The error that asks for the direction.
pub(crate) fn no_direction(wanted: &str) -> Error {
    let message =
        format!("whether more or less of it is better is not known; say `{wanted}:max` or `{wanted}:min` instead of");
    Error::new(ErrorKind::Invalid, wanted, message)
}

/// The error that lists the metrics that there are.
pub(crate) fn unknown<'a>(wanted: &str, all: impl Iterator<Item = &'a [Metric]>) -> Error {
    let seen: BTreeSet<&str> = all.flatten().map(|metric| metric.name.as_str()).collect();
    let listed = if seen.is_empty() { "none at all".to_owned() } else { Vec::from_iter(seen).join(", ") };
    Error::new(ErrorKind::Invalid, wanted, format!("the metrics that the checkpoints tell are {listed}; there is no"))
}
