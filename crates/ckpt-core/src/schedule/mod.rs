//! When to save, and when to stop: a pure policy over what was observed after a step.
//!
//! Nothing is counted here. What decides is the step itself, the time of the last save and the deadline, so that a resumed
//! run goes on as if it had never ended.

use std::fmt;
use std::time::Duration;

use crate::ids::Step;
use crate::metric::Direction;
use crate::quantity::span;

pub mod deadline;

/// What a save is taken to last before one was measured. Larger states take longer: a deadline that comes before the first
/// save is better met too early than missed.
pub const UNMEASURED_SAVE: Duration = Duration::from_secs(120);
/// What a step is taken to last before one was measured.
pub const UNMEASURED_STEP: Duration = Duration::from_secs(60);

/// When to save. Any of these is reason enough.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Schedule {
    /// At every multiple of so many steps, or at the first step after it. Zero is never.
    pub every_steps: Option<u64>,
    /// When the last save, or the start of the session, is so long ago.
    pub every: Option<Duration>,
    /// When a metric is better than ever before.
    pub on_better: Option<Better>,
    /// When a signal asks to end; otherwise signals are ignored.
    pub on_signal: bool,
    /// Before this moment, in nanoseconds since 1970.
    pub deadline_ns: Option<i64>,
}

/// A metric to watch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Better {
    /// Its name.
    pub metric: String,
    /// Which way is better.
    pub direction: Direction,
}

/// The last save of the run: of this session, or the one it was resumed from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LastSave {
    /// Its step.
    pub step: Step,
    /// When it was made, in nanoseconds since 1970.
    pub at_ns: i64,
}

/// What is known after a step.
#[derive(Clone, Debug, PartialEq)]
pub struct Observed {
    /// The steps made, over all sessions of the run.
    pub step: Step,
    /// The time, in nanoseconds since 1970.
    pub now_ns: i64,
    /// When this session started, in nanoseconds since 1970.
    pub started_ns: i64,
    /// The last save; none in a new run.
    pub last_save: Option<LastSave>,
    /// The value of the metric to watch, where this step has one.
    pub value: Option<f64>,
    /// The best value so far, over all sessions.
    pub best: Option<f64>,
    /// Whether a signal asked to end.
    pub has_signal: bool,
    /// How long the last save took.
    pub save_took: Option<Duration>,
    /// How long the last step took.
    pub step_took: Option<Duration>,
}

/// Why to save or to stop.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Reason {
    /// A multiple of so many steps was reached.
    Steps {
        /// The multiple.
        multiple: u64,
    },
    /// The last save is long ago, or later than now: then the clock was set back, and it is not known how long ago.
    Time {
        /// How long ago; none when the clock was set back.
        since: Option<Duration>,
    },
    /// The metric is better than ever.
    Better {
        /// Its name.
        metric: String,
        /// Its value.
        value: f64,
        /// The best value before; none when this is the first.
        best: Option<f64>,
    },
    /// A signal asks to end.
    Signal,
    /// The deadline is so near that another step and a save might not be done in time.
    Deadline {
        /// How long is left.
        left: Duration,
    },
    /// Training is over.
    Finish,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Steps { multiple } => write!(f, "step {multiple} was reached"),
            Self::Time { since: Some(since) } => write!(f, "the last save was {} ago", span(*since)),
            Self::Time { since: None } => f.write_str("the last save is later than now: the clock was set back"),
            Self::Better { metric, value, best: Some(best) } => write!(f, "{metric} {value} is better than {best}"),
            Self::Better { metric, value, best: None } => write!(f, "{metric} {value} is the first"),
            Self::Signal => f.write_str("a signal asks to end"),
            Self::Deadline { left } => write!(f, "the deadline is in {}", span(*left)),
            Self::Finish => f.write_str("training is over"),
        }
    }
}

/// What to do now.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Decision {
    /// Whether to save.
    pub save: bool,
    /// Whether to stop after that.
    pub stop: bool,
    /// Every reason for either.
    pub reasons: Vec<Reason>,
}

impl Schedule {
    /// Decides after a step.
    ///
    /// What was saved at this very step is not saved again, unless its metric has turned out to be the best.
    ///
    /// ```
    /// use ckpt_core::ids::Step;
    /// use ckpt_core::schedule::{LastSave, Observed, Reason, Schedule};
    ///
    /// let schedule = Schedule { every_steps: Some(1000), ..Schedule::default() };
    /// // Resumed from step 950; steps may be made several at a time.
    /// let mut observed = Observed::new(Step(1003), 0);
    /// observed.last_save = Some(LastSave { step: Step(950), at_ns: 0 });
    /// let decision = schedule.decide(&observed);
    /// assert!(decision.save && !decision.stop);
    /// assert_eq!(decision.reasons, [Reason::Steps { multiple: 1000 }]);
    /// ```
    #[must_use]
    pub fn decide(&self, observed: &Observed) -> Decision {
        let mut decision = Decision::default();
        let mut add = |reason: Option<Reason>, saves: bool, stops: bool| {
            if let Some(reason) = reason {
                decision.save |= saves;
                decision.stop |= stops;
                decision.reasons.push(reason);
            }
        };
        let is_new = !observed.is_saved();
        add(self.steps(observed).filter(|_| is_new), true, false);
        add(self.time(observed).filter(|_| is_new), true, false);
        add(self.better(observed), true, false);
        add((self.on_signal && observed.has_signal).then_some(Reason::Signal), is_new, true);
        let deadline = self.deadline(observed);
        add(
            deadline.as_ref().map(|(reason, _)| reason.clone()),
            deadline.is_some_and(|(_, saves)| saves && is_new),
            true,
        );
        decision
    }

    /// Decides when training is over: the last step is saved, unless it was.
    #[must_use]
    pub fn finish(&self, observed: &Observed) -> Decision {
        Decision { save: !observed.is_saved(), stop: true, reasons: vec![Reason::Finish] }
    }

    fn steps(&self, observed: &Observed) -> Option<Reason> {
        let every = self.every_steps?;
        let step = observed.step.0;
        let reached = step.checked_div(every)?;
        let is_due = match observed.last_save {
            // Training went back behind the last save.
            Some(last) if last.step.0 > step => step.is_multiple_of(every),
            Some(last) => reached > last.step.0 / every,
            None => reached > 0,
        };
        is_due.then_some(Reason::Steps { multiple: reached.saturating_mul(every) })
    }

    fn time(&self, observed: &Observed) -> Option<Reason> {
        let every = self.every?;
        let since = observed.since(observed.last_save.map_or(observed.started_ns, |last| last.at_ns));
        since.is_none_or(|since| since >= every).then_some(Reason::Time { since })
    }

    fn better(&self, observed: &Observed) -> Option<Reason> {
        let Better { metric, direction } = self.on_better.as_ref()?;
        let value = observed.value.filter(|value| value.is_finite())?;
        let best = observed.best.filter(|best| best.is_finite());
        let is_better = best.is_none_or(|best| match direction {
            Direction::Max => value > best,
            Direction::Min => value < best,
        });
        is_better.then(|| Reason::Better { metric: metric.clone(), value, best })
    }

    /// Whether to stop for the deadline, and whether to save before that: not when it was done since it became near.
    fn deadline(&self, observed: &Observed) -> Option<(Reason, bool)> {
        let deadline_ns = i128::from(self.deadline_ns?);
        let save = observed.save_took.unwrap_or(UNMEASURED_SAVE).as_nanos();
        let step = observed.step_took.unwrap_or(UNMEASURED_STEP).as_nanos();
        // A save that comes when others save too may take twice as long.
        let margin = i128::try_from(save.saturating_mul(2).saturating_add(step)).unwrap_or(i128::MAX);
        let near_ns = deadline_ns.saturating_sub(margin);
        let now_ns = i128::from(observed.now_ns);
        if now_ns < near_ns {
            return None;
        }
        let is_done = observed.last_save.is_some_and(|last| (near_ns..=now_ns).contains(&i128::from(last.at_ns)));
        let left = u64::try_from(deadline_ns.saturating_sub(now_ns)).unwrap_or(0);
        Some((Reason::Deadline { left: Duration::from_nanos(left) }, !is_done))
    }
}

impl Observed {
    /// After `step` of a new run that started at `now_ns`: nothing was saved or measured, and no metric is known.
    #[must_use]
    pub fn new(step: Step, now_ns: i64) -> Self {
        Self {
            step,
            now_ns,
            started_ns: now_ns,
            last_save: None,
            value: None,
            best: None,
            has_signal: false,
            save_took: None,
            step_took: None,
        }
    }

    fn is_saved(&self) -> bool {
        self.last_save.is_some_and(|last| last.step == self.step)
    }

    /// How long ago something was; none when it is in the future.
    fn since(&self, then_ns: i64) -> Option<Duration> {
        let nanoseconds = i128::from(self.now_ns) - i128::from(then_ns);
        Some(Duration::from_nanos(u64::try_from(nanoseconds).ok()?))
    }
}
