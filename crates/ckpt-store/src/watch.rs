//! Watches the clock, the signals and the deadline for a [`Schedule`], which decides.
//!
//! ```
//! use ckpt_core::ids::Step;
//! use ckpt_core::schedule::Schedule;
//! use ckpt_store::save::{Policy, Saver, Tensor};
//! use ckpt_store::watch::Watch;
//!
//! # let directory = tempfile::tempdir()?;
//! let saver = Saver::open(directory.path(), Policy::default())?;
//! let schedule = Schedule { every_steps: Some(100), on_signal: true, ..Schedule::default() };
//! let mut watch = Watch::new(schedule, saver.resume()?.as_ref())?;
//! for step in 1..=1000 {
//!     // … train …
//!     let decision = watch.after(Step(step), None);
//!     if decision.save {
//!         let pending = saver.begin(Step(step))?;
//!         // … add tensors …
//!         watch.saved(&pending.commit()?);
//!     }
//!     if decision.stop {
//!         break;
//!     }
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use ckpt_core::ids::Step;
use ckpt_core::manifest::Manifest;
use ckpt_core::metric::Direction;
use ckpt_core::schedule::{Decision, LastSave, Observed, Schedule};
use signal_hook::consts::{SIGTERM, SIGUSR1};

use crate::error::{Error, Result};
use crate::load::Checkpoint;
use crate::save::{Committed, now_ns};
use crate::surroundings;

/// What a schedule needs to know, kept from step to step.
#[derive(Debug)]
pub struct Watch {
    schedule: Schedule,
    started_ns: i64,
    last_save: Option<LastSave>,
    /// The asynchronous save that was begun last and has not been told to have ended.
    under_way: Option<Step>,
    best: Option<f64>,
    save_took: Option<Duration>,
    last_step: Option<Instant>,
    step_took: Option<Duration>,
    signal: Arc<AtomicBool>,
}

impl Watch {
    /// Begins to watch. Of the checkpoint that the run was `resumed` from it takes the last save and, for a metric to watch,
    /// its value; [`Self::best`] tells of a better one.
    ///
    /// With `on_signal`, SIGTERM and SIGUSR1 no longer end the process: they are for the schedule to act on. Without a
    /// deadline in the schedule, that of SLURM (`SLURM_JOB_END_TIME`) or Kaggle is taken, counted from now.
    ///
    /// # Errors
    /// The system does not let signals be handled.
    pub fn new(mut schedule: Schedule, resumed: Option<&Checkpoint>) -> Result<Self> {
        let signal = Arc::new(AtomicBool::new(false));
        for number in [SIGTERM, SIGUSR1].into_iter().filter(|_| schedule.on_signal) {
            signal_hook::flag::register(number, Arc::clone(&signal))
                .map_err(|error| Error::io("listen to the signals of", Path::new("this process"), error))?;
        }
        let started_ns = now_ns();
        schedule.deadline_ns = schedule.deadline_ns.or_else(|| Some(surroundings::deadline(started_ns)?.at_ns));
        let manifest = resumed.map(Checkpoint::manifest);
        let last_save =
            manifest.map(|manifest| LastSave { step: manifest.step, at_ns: manifest.created_ns.min(started_ns) });
        let metric = schedule.on_better.as_ref().map(|better| better.metric.clone());
        let value = |manifest: &Manifest| Some(manifest.metrics.get(metric.as_ref()?)?.value);
        let (best, save_took, last_step, step_took) = (manifest.and_then(value), None, None, None);
        let under_way = None;
        Ok(Self { schedule, started_ns, last_save, under_way, best, save_took, last_step, step_took, signal })
    }

    /// The best value before this session, where it is not that of the checkpoint resumed from: see `Saver::best`.
    pub fn best(&mut self, value: f64) {
        self.best = Some(value);
    }

    /// Decides after a step. `value` is that of the metric to watch, where it was measured.
    #[must_use]
    pub fn after(&mut self, step: Step, value: Option<f64>) -> Decision {
        let now = Instant::now();
        let took = self.last_step.map(|last| now - last);
        // The longest: the last one before a deadline may be as long.
        self.step_took = self.step_took.max(took);
        self.last_step = Some(now);
        let decision = self.schedule.decide(&self.observed(step, value));
        if let Some(value) = value.filter(|value| self.is_better(*value)) {
            self.best = Some(value);
        }
        decision
    }

    /// Decides after the last step.
    #[must_use]
    pub fn finish(&mut self, step: Step) -> Decision {
        self.schedule.finish(&self.observed(step, None))
    }

    /// Takes note of a save that was done, and of how long it took.
    pub fn saved(&mut self, committed: &Committed) {
        // The ticket of an older save may be looked at after a newer one was begun.
        if self.last_save.is_none_or(|last| last.step != committed.step && self.under_way.is_none()) {
            self.last_save = Some(LastSave { step: committed.step, at_ns: now_ns() });
        }
        self.under_way = self.under_way.filter(|step| *step != committed.step);
        self.save_took = self.save_took.max(Some(committed.took));
        // A step does not take longer because a save came in between.
        self.last_step = None;
    }

    /// Takes note of an asynchronous save that is under way. Keep its ticket, and once it is done hand what it gives to
    /// [`Self::saved`]: only that tells how long a save takes, by which a deadline is met.
    ///
    /// ```no_run
    /// # fn step(watch: &mut ckpt_store::watch::Watch, pending: ckpt_store::save::PendingSave<'_, '_>, step: ckpt_core::ids::Step,
    /// #         under_way: &mut Option<ckpt_store::save::Ticket>) -> ckpt_store::Result<()> {
    /// if let Some(ticket) = under_way.take() {
    ///     watch.saved(&ticket.wait()?); // the one before; it has long ended, as a rule
    /// }
    /// *under_way = Some(pending.commit_async()?);
    /// watch.saving(step);
    /// # Ok(()) }
    /// ```
    pub fn saving(&mut self, step: Step) {
        self.last_save = Some(LastSave { step, at_ns: now_ns() });
        self.under_way = Some(step);
        self.last_step = None;
    }

    fn observed(&self, step: Step, value: Option<f64>) -> Observed {
        Observed {
            step,
            now_ns: now_ns(),
            started_ns: self.started_ns,
            last_save: self.last_save,
            value,
            best: self.best,
            has_signal: self.signal.load(Ordering::Relaxed),
            save_took: self.save_took,
            step_took: self.step_took,
        }
    }

    fn is_better(&self, value: f64) -> bool {
        let Some(better) = self.schedule.on_better.as_ref().filter(|_| value.is_finite()) else { return false };
        self.best.filter(|best| best.is_finite()).is_none_or(|best| match better.direction {
            Direction::Max => value > best,
            Direction::Min => value < best,
        })
    }
}
