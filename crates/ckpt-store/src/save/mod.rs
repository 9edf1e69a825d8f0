//! save: a new checkpoint that survives a power cut.
//!
//! A save writes a whole directory under a temporary name, makes every file and every directory durable, renames it,
//! makes the name durable, and only then moves the pointers `latest` and `best-METRIC`. A process or a machine that
//! dies at any moment leaves the old checkpoint or the new one, both of which can be verified, and the next
//! [`Saver::open`] cleans up. `docs/format.md` describes what is written.
//!
//! ```
//! use ckpt_core::format::dtype::Dtype;
//! use ckpt_core::ids::Step;
//! use ckpt_store::save::{Policy, Saver, Tensor};
//!
//! # let directory = tempfile::tempdir()?;
//! # let root = directory.path();
//! let saver = Saver::open(root, Policy::default())?;
//! let weights: Vec<u8> = [1.0_f32, 2.0].iter().flat_map(|value| value.to_le_bytes()).collect();
//! let momentum = vec![0; 8];
//!
//! let mut pending = saver.begin(Step(1200))?;
//! pending.metric("loss", 0.25, None)?;
//! pending.tensors("model", [Tensor::new("weight", Dtype::of_torch("float32"), [2], &weights)])?;
//! pending.tensors("optimizer", [Tensor::new("momentum.weight", Dtype::of_torch("float32"), [2], &momentum)])?;
//! pending.json("trainer_state", &serde_json::json!({"epoch": 3, "seed": 17}))?;
//! let committed = pending.commit()?;
//! assert_eq!(committed.path, root.join("step-00001200"));
//!
//! // Tomorrow, in another process:
//! let found = Saver::open(root, Policy::default())?.latest()?.expect("it was saved");
//! assert_eq!(&*found.tensors("model")?.get("weight").expect("it was saved").bytes, weights);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::path::Path;
use std::sync::Arc;

use ckpt_core::ErrorKind;
use ckpt_core::ids::{Epoch, Step};
use ckpt_core::layout::Class;
use ckpt_core::manifest::{METRICS, Pointer, Recorded, best_name, directory_name};
use ckpt_core::metric::Direction;
use ckpt_core::prune::{self, Retention};
use serde::Serialize;

use crate::error::{Error, Result};
use crate::load::Checkpoint;

mod background;
mod commit;
mod draft;
mod pointers;
mod retain;
mod root;
mod write;

#[cfg(test)]
mod crash;

pub use background::Ticket;
pub use commit::Committed;
pub(crate) use commit::now_ns;
pub use draft::Tensor;
pub use pointers::Tracked;
pub(crate) use root::{LOCK, pointed_at};

use background::Background;
use draft::{Draft, Source};
use root::Root;

/// What to do when the step was saved already.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Existing {
    /// Refuse: the save fails with [`ErrorKind::AlreadyExists`].
    #[default]
    Refuse,
    /// Put the new one in its place, in one step. For a run that went back to an older checkpoint and comes by again.
    Replace,
}

/// What to do when an asynchronous save comes while another one is still written. They are never interleaved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Overlap {
    /// It waits in a second buffer; a third one waits for a buffer.
    #[default]
    Queue,
    /// It fails with [`ErrorKind::Conflict`], at once.
    Refuse,
}

/// How a run saves.
#[derive(Clone, Debug)]
pub struct Policy {
    /// The name of the run; that of the latest checkpoint in the root when none is given, else a new one.
    pub run_id: Option<String>,
    /// How many ranks the run has.
    pub world_size: u32,
    /// By which metrics the best is pointed at.
    pub best: Tracked,
    /// What to do when the step was saved already.
    pub existing: Existing,
    /// What to do when asynchronous saves meet.
    pub overlap: Overlap,
    /// What goes after each commit, off the step path. Never what a pointer or a pin names, nor the latest whole one.
    pub retention: Retention,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            run_id: None,
            world_size: 1,
            best: Tracked::default(),
            existing: Existing::default(),
            overlap: Overlap::default(),
            retention: Retention::default(),
        }
    }
}

/// Who saves.
#[derive(Debug)]
struct Session {
    id: String,
    world_size: u32,
    run_id: Option<String>,
}

impl Session {
    fn new(policy: &Policy) -> Result<Self> {
        if let Some(run_id) = &policy.run_id
            && (run_id.is_empty() || run_id.len() > 256)
        {
            return Err(Error::new(ErrorKind::Invalid, Path::new(run_id), "a run's name has 1 to 256 bytes, unlike"));
        }
        Ok(Self { id: new_id(), world_size: policy.world_size, run_id: policy.run_id.clone() })
    }

    /// The run that the latest checkpoint belongs to goes on, unless the policy names another.
    fn run_id(&self, root: &Root, latest: Option<&Pointer>) -> Result<String> {
        let going_on = match (&self.run_id, latest) {
            (None, Some(latest)) => root.whole(&latest.checkpoint)?.map(|found| found.manifest().run_id.clone()),
            _ => self.run_id.clone(),
        };
        Ok(going_on.unwrap_or_else(|| self.id.clone()))
    }
}

/// A name that no other session has: the time, for people, and chance.
fn new_id() -> String {
    let mut chance = [0_u8; 4];
    // Without a source of chance the time in nanoseconds still tells sessions apart.
    let filled = rustix::rand::getrandom(&mut chance, rustix::rand::GetRandomFlags::NONBLOCK);
    if !matches!(filled, Ok(4)) {
        chance = std::process::id().to_le_bytes();
    }
    let now = jiff::Timestamp::from_nanosecond(i128::from(commit::now_ns())).unwrap_or_default();
    format!("{}-{:08x}", now.strftime("%Y%m%dT%H%M%S%f"), u32::from_le_bytes(chance))
}

/// Saves the checkpoints of one run into one directory, its root.
///
/// Dropping it waits for what is still written in the background; [`Self::finish`] also tells how that ended.
#[derive(Debug)]
pub struct Saver {
    background: Background,
    existing: Existing,
    overlap: Overlap,
}

impl Saver {
    /// Opens a root, which is made where it is missing. Leftovers of dead savers are cleaned away, and pointers that are
    /// missing or wrong are found anew from the manifests.
    ///
    /// # Errors
    /// The root cannot be written to. [`ErrorKind::Conflict`]: another process has held it for long.
    pub fn open(root: &Path, policy: Policy) -> Result<Self> {
        let session = Session::new(&policy)?;
        // Rules that contradict themselves are told now, and not by a thread in the night.
        prune::plan(Vec::new(), &policy.retention, 0)?;
        let (root, _) = Root::open(root, policy.best)?;
        let background = Background::new(Arc::new((root, session)), policy.retention);
        Ok(Self { background, existing: policy.existing, overlap: policy.overlap })
    }

    fn root(&self) -> &Root {
        self.background.root()
    }

    /// The latest checkpoint: the one that was committed last, whatever its step. Its files are there in their sizes;
    /// their digests are checked when they are read.
    ///
    /// # Errors
    /// The root cannot be read.
    pub fn latest(&self) -> Result<Option<Checkpoint>> {
        let _lock = self.root().lock()?;
        let pointers = self.root().current(std::iter::empty())?;
        pointers.latest.map_or(Ok(None), |pointer| self.root().whole(&pointer.checkpoint))
    }

    /// The best checkpoint by a metric, among those in the root.
    ///
    /// # Errors
    /// The root cannot be read.
    pub fn best(&self, metric: &str) -> Result<Option<Checkpoint>> {
        let _lock = self.root().lock()?;
        let pointers = self.root().current(std::iter::once(&metric.to_owned()))?;
        pointers.best.get(metric).map_or(Ok(None), |pointer| self.root().whole(&pointer.checkpoint))
    }

    /// The newest checkpoint whose every byte is as it was saved, to resume from. Damaged ones are passed over, with a
    /// warning in the log.
    ///
    /// # Errors
    /// The root cannot be read. [`ErrorKind::Corrupt`]: there are checkpoints, and none of them is whole.
    pub fn resume(&self) -> Result<Option<Checkpoint>> {
        let listing = self.root().list()?;
        let whole = |name: &str| {
            self.root().whole(name).unwrap_or_else(|error| {
                tracing::warn!("passing over `{name}`: {error}");
                None
            })
        };
        let mut found: Vec<Checkpoint> = listing.steps.iter().filter_map(|(_, name)| whole(name)).collect();
        found.sort_by_key(|checkpoint| std::cmp::Reverse(checkpoint.manifest().sequence));
        for checkpoint in found {
            match checkpoint.verify() {
                Ok(()) => return Ok(Some(checkpoint)),
                Err(error) => tracing::warn!("passing over `{}`: {error}", checkpoint.path().display()),
            }
        }
        if listing.steps.is_empty() {
            return Ok(None);
        }
        let message = format!("none of {} checkpoints is whole in", listing.steps.len());
        Err(Error::new(ErrorKind::Corrupt, &self.root().path, message))
    }

    /// Takes the memory for asynchronous saves of a state of `bytes` now, twice, instead of during the first two saves,
    /// which would hold the training ten times longer than the later ones.
    pub fn reserve(&self, bytes: usize) {
        self.background.reserve(bytes);
    }

    /// Begins a save. Nothing is written before it is committed, and dropping it leaves no trace.
    ///
    /// # Errors
    /// That of an earlier asynchronous save which nobody has been told of yet; the next call begins.
    pub fn begin<'a>(&self, step: Step) -> Result<PendingSave<'_, 'a>> {
        self.background.check()?;
        Ok(PendingSave { saver: self, draft: Draft::new(step) })
    }

    /// Prunes the root now, and not off the step path as [`Policy::retention`] does; gives the names of what went.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`]: the rules do not fit what is there, see [`prune::plan`]. The system refuses.
    pub fn prune(&self, retention: &Retention) -> Result<Vec<String>> {
        self.background.wait_for_all();
        retain::retain(self.root(), retention)
    }

    /// Waits until everything is written.
    ///
    /// # Errors
    /// That of an asynchronous save which nobody has been told of yet.
    pub fn finish(self) -> Result<()> {
        self.background.wait_for_all();
        self.background.check()
    }
}

/// A save that collects what it consists of. It borrows the tensors until it is committed.
#[derive(Debug)]
#[must_use = "nothing is saved before `commit`"]
pub struct PendingSave<'s, 'a> {
    saver: &'s Saver,
    draft: Draft<'a>,
}

impl<'a> PendingSave<'_, 'a> {
    /// The last finished epoch.
    pub fn epoch(&mut self, epoch: Epoch) -> &mut Self {
        self.draft.epoch = Some(epoch);
        self
    }

    /// Whether training can go on from it. Where this is not called: with a file `optimizer…` it can.
    pub fn class(&mut self, class: Class) -> &mut Self {
        self.draft.class = Some(class);
        self
    }

    /// Records a metric. Without a direction, usual names know theirs: less of `val_loss` is better.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`]: the name is empty or far too long, or there are more than [`METRICS`].
    pub fn metric(&mut self, name: &str, value: f64, direction: Option<Direction>) -> Result<&mut Self> {
        if best_name(name).is_none() || self.draft.metrics.len() >= METRICS {
            let message =
                format!("a checkpoint has at most {METRICS} metrics, with names of 1 to some 100 bytes, unlike");
            return Err(Error::new(ErrorKind::Invalid, Path::new(name), message));
        }
        self.draft.metrics.insert(name.to_owned(), Recorded { value, direction });
        Ok(self)
    }

    /// Adds the file `STEM.safetensors`. By convention the weights are `model`, the optimizer's state `optimizer`.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`]: a tensor's bytes do not fit its shape, two have the same name, or the file was added
    /// already. [`ErrorKind::Unsupported`]: safetensors does not have that element type.
    pub fn tensors(&mut self, stem: &str, tensors: impl IntoIterator<Item = Tensor<'a>>) -> Result<&mut Self> {
        self.draft.add_tensors(stem, tensors.into_iter().collect())?;
        Ok(self)
    }

    /// Adds the file `STEM.json`. By convention `trainer_state` holds what the trainer needs to go on: `epoch`, `step`,
    /// `rng`, `loader` (the position in the data), and `history`, a list of objects, one for each epoch or evaluation.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`]: it cannot be written as JSON, or the file was added already.
    pub fn json(&mut self, stem: &str, value: &impl Serialize) -> Result<&mut Self> {
        let name = format!("{stem}.json");
        let text = serde_json::to_vec_pretty(value).map_err(|error| {
            Error::new(ErrorKind::Invalid, Path::new(&name), format!("cannot be written as JSON ({error}):"))
        })?;
        self.draft.add(&name, Source::Text(text))?;
        Ok(self)
    }

    /// Moves a file into the checkpoint. As [`Self::file`], but the file is not copied where both lie in one file system,
    /// and it loses its old name after the commit, not before. Only for a file that nobody has open for writing.
    ///
    /// # Errors
    /// As [`Self::file`].
    pub fn moved_file(&mut self, name: &str, from: &Path) -> Result<&mut Self> {
        self.draft.add_file(name, from)?;
        self.draft.moved.insert(name.to_owned(), from.to_owned());
        Ok(self)
    }

    /// Adds a copy of a file. `name` is relative to the checkpoint, with `/` between its parts. The file must be left
    /// alone until the save is done: one that changes meanwhile fails it.
    ///
    /// # Errors
    /// It is no regular file; [`ErrorKind::Invalid`]: the name leads out of the checkpoint or is taken.
    pub fn file(&mut self, name: &str, from: &Path) -> Result<&mut Self> {
        self.draft.add_file(name, from)?;
        Ok(self)
    }

    /// Saves: when this returns, the checkpoint survives a power cut.
    ///
    /// # Errors
    /// [`ErrorKind::NoSpace`]: found before anything is written, where the file system tells. [`ErrorKind::AlreadyExists`]:
    /// the step was saved already. [`ErrorKind::Conflict`]: a file changed while it was copied, or another save is under
    /// way and the policy refuses. After an error the earlier checkpoints are as they were.
    pub fn commit(self) -> Result<Committed> {
        let Self { saver, draft } = self;
        saver.wait_or_refuse(draft.step)?;
        let (root, session) = saver.background.place();
        let committed = commit::directory(root, session, &draft, saver.existing)?;
        saver.background.retain();
        Ok(committed)
    }

    /// Copies the tensors into a buffer of the saver and returns; a thread writes, commits and moves the pointers. The
    /// tensors may change as soon as this returns.
    ///
    /// At most two buffers are kept and reused, each of the size of the state.
    ///
    /// # Errors
    /// [`ErrorKind::Conflict`]: another save is under way and the policy refuses. Everything else the [`Ticket`] tells,
    /// and if nobody asks it, the next [`Saver::begin`] or [`Saver::finish`].
    pub fn commit_async(self) -> Result<Ticket> {
        let Self { saver, draft } = self;
        if saver.overlap == Overlap::Refuse {
            saver.wait_or_refuse(draft.step)?;
        }
        Ok(saver.background.save(draft, saver.existing))
    }

    /// Saves as one safetensors file of the root, `best.safetensors` for example, in the place of the older one. Epoch,
    /// step and metrics go into its metadata, as do the JSON values; of several groups of tensors, each name gets the
    /// group's name in front. Neither manifest nor pointers are written.
    ///
    /// # Errors
    /// As [`Self::commit`]; [`ErrorKind::Invalid`]: files were added, or `name` is none for a safetensors file.
    pub fn commit_file(self, name: &str) -> Result<Committed> {
        let Self { saver, draft } = self;
        saver.wait_or_refuse(draft.step)?;
        saver.background.single(name, draft)
    }
}

impl Saver {
    fn wait_or_refuse(&self, step: Step) -> Result<()> {
        if self.overlap == Overlap::Refuse && self.background.is_busy() {
            let path = self.root().path.join(directory_name(step));
            return Err(Error::new(ErrorKind::Conflict, &path, "another save is under way; this one was refused:"));
        }
        self.background.wait();
        Ok(())
    }
}
