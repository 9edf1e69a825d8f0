//! Numbers that must not be mistaken for each other.

use std::fmt;

use serde::{Deserialize, Serialize};

/// How many optimizer steps a run has made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Step(pub u64);

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// An epoch as its trainer wrote it: an integer nearly everywhere, a fraction with Hugging Face's Trainer.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Epoch(f64);

impl Epoch {
    /// An epoch, unless the number is not finite.
    #[must_use]
    pub fn new(number: f64) -> Option<Self> {
        number.is_finite().then_some(Self(number))
    }

    /// The number.
    #[must_use]
    pub fn get(self) -> f64 {
        self.0
    }

    /// The number, where it is a whole one.
    #[must_use]
    pub fn whole(self) -> Option<i64> {
        // 2^53: beyond it not every integer is a float.
        let exact = self.0.fract() == 0.0 && self.0.abs() <= 9_007_199_254_740_992.0;
        #[expect(clippy::cast_possible_truncation, reason = "checked to be a whole number within 53 bits")]
        exact.then_some(self.0 as i64)
    }
}

impl From<i32> for Epoch {
    fn from(number: i32) -> Self {
        Self(f64::from(number))
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.whole() {
            Some(number) => number.fmt(f),
            None => write!(f, "{}", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_epochs_are_shown_without_a_fraction() {
        assert_eq!(Epoch::from(0).to_string(), "0");
        assert_eq!(Epoch::new(2.5).unwrap().to_string(), "2.5");
        assert_eq!(Epoch::new(f64::NAN), None);
        assert_eq!(Epoch::new(1e300).unwrap().whole(), None);
    }
}
