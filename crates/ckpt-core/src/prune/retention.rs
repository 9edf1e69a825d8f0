//! What to keep: as the caller says it.

use std::str::FromStr;
use std::time::Duration;

use crate::error::{Error, ErrorKind, Result};
use crate::metric::Direction;
use crate::select::Choice;

/// Which checkpoints stay. One that any rule keeps stays, unless the budget takes it.
///
/// Without any rule nothing goes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Retention {
    /// The last so many valid ones.
    pub keep_last: Option<usize>,
    /// Those whose step is a multiple of this.
    pub keep_every: Option<u64>,
    /// The best by some metrics.
    pub keep_best: Vec<Best>,
    /// Those saved less than this long ago.
    pub keep_within: Option<Duration>,
    /// All that stay together have at most so many bytes; what is protected may have more.
    pub max_bytes: Option<u64>,
    /// Whether damaged ones go, where a newer valid one stays.
    pub drop_damaged: bool,
}

/// How many of the best by a metric stay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Best {
    /// The metric's name, or the end of it after a dot or slash.
    pub metric: String,
    /// Which way is better; `None` asks the checkpoints, then the usage of the name.
    pub direction: Option<Direction>,
    /// How many.
    pub count: usize,
}

impl FromStr for Best {
    type Err = Error;

    /// Parses `METRIC=COUNT` or `METRIC:max=COUNT`; without a count it is one.
    ///
    /// ```
    /// use ckpt_core::{metric::Direction, prune::Best};
    /// let best: Best = "val/loss:min=2".parse()?;
    /// assert_eq!((best.metric.as_str(), best.direction, best.count), ("val/loss", Some(Direction::Min), 2));
    /// # Ok::<(), ckpt_core::Error>(())
    /// ```
    fn from_str(text: &str) -> Result<Self> {
        let (choice, count) = match text.rsplit_once('=') {
            Some((choice, count)) => (choice, number(count, text)?),
            None => (text, 1),
        };
        let Choice::Best { metric, direction } = choice.parse()? else {
            return Err(Error::new(ErrorKind::Invalid, text, "no metric in"));
        };
        Ok(Self { metric, direction, count })
    }
}

fn number(count: &str, text: &str) -> Result<usize> {
    let is_number = !count.is_empty() && count.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| count.parse().ok()).flatten().filter(|count| *count > 0).ok_or_else(|| {
        Error::new(ErrorKind::Invalid, text, "how many of the best to keep is a number from 1, as in accuracy=2, not")
    })
}

impl Retention {
    /// Whether any rule tells valid ones to keep from those that may go.
    #[must_use]
    pub fn has_rules(&self) -> bool {
        self.keep_last.is_some()
            || self.keep_every.is_some()
            || !self.keep_best.is_empty()
            || self.keep_within.is_some()
    }

    /// A zero is more likely a mistake in a launch script than the wish to lose everything.
    pub(super) fn check(&self) -> Result<()> {
        let zeros = [
            ("keep_last", self.keep_last == Some(0)),
            ("keep_every", self.keep_every == Some(0)),
            ("keep_best", self.keep_best.iter().any(|best| best.count == 0)),
            ("keep_within", self.keep_within == Some(Duration::ZERO)),
            ("max_bytes", self.max_bytes == Some(0)),
        ];
        match zeros.iter().find(|(_, is_zero)| *is_zero) {
            Some((rule, _)) => Err(Error::new(ErrorKind::Invalid, *rule, "zero would keep nothing; leave out")),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_are_asked_for_by_metric_direction_and_count() {
        let parsed = |text: &str| text.parse::<Best>().map(|best| (best.metric, best.direction, best.count)).ok();
        assert_eq!(parsed("accuracy=2"), Some(("accuracy".to_owned(), None, 2)));
        assert_eq!(parsed("accuracy:max=2"), Some(("accuracy".to_owned(), Some(Direction::Max), 2)));
        assert_eq!(parsed("a=b:min=3"), Some(("a=b".to_owned(), Some(Direction::Min), 3)));
        assert_eq!(parsed("accuracy"), Some(("accuracy".to_owned(), None, 1)));
        for text in [
            "accuracy=0",
            "accuracy=",
            "accuracy=+2",
            "accuracy=-1",
            "=2",
            "accuracy:up=2",
            "",
            "accuracy=99999999999999999999",
        ] {
            assert_eq!(parsed(text), None, "{text}");
        }
    }
}
