//! What to choose from, and how: as the caller says it.

use globset::{Glob, GlobMatcher};

use crate::candidate::SourceKind;
use crate::error::{Error, ErrorKind, Result};
use crate::metric::Direction;
use crate::verify::Condition;

/// How to choose among the valid ones.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Choice {
    /// By the priority of source kinds, then the latest.
    #[default]
    Priority,
    /// The latest: by step, then epoch, then the time that the checkpoint tells, else that of its last modification.
    ///
    /// Among the checkpoints in one directory whose commits are numbered, the last commit is the latest, whatever the
    /// steps say; against others such a directory stands where its last commit does.
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
            Some((_, other)) if other.bytes().all(|byte| byte.is_ascii_alphabetic()) => {
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
