//! The thread that saves while training goes on.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use ckpt_core::ErrorKind;
use ckpt_core::prune::Retention;

use super::commit::{self, Committed};
use super::draft::Draft;
use super::retain::retain;
use super::root::Root;
use super::{Existing, Session};
use crate::atomic::Temporary;
use crate::error::{Error, Result};

/// One is written while the next is filled.
const BUFFERS: usize = 2;

#[derive(Debug)]
pub(super) struct Background {
    shared: Arc<Shared>,
    worker: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Debug)]
struct Shared {
    place: Arc<(Root, Session)>,
    retention: Retention,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    queue: VecDeque<Job>,
    /// Saves that wait or are written.
    saves: usize,
    is_working: bool,
    is_closing: bool,
    /// Buffers that no save uses.
    free: Vec<Vec<u8>>,
    /// Buffers there are, used ones included.
    buffers: usize,
    /// Failures that nobody may have been told of.
    failed: Vec<Arc<Outcome>>,
}

#[derive(Debug)]
enum Job {
    Save {
        draft: Draft<'static>,
        existing: Existing,
        outcome: Arc<Outcome>,
    },
    /// Deletes what the retention lets go.
    Retain,
    /// What a new file replaced; deleting a large file takes long.
    Delete(Temporary),
}

/// How a save ended, once it has.
#[derive(Debug, Default)]
struct Outcome {
    result: Mutex<Option<Result<Committed>>>,
    done: Condvar,
    is_told: AtomicBool,
}

impl Outcome {
    fn set(&self, result: Result<Committed>) {
        *lock(&self.result) = Some(result);
        self.done.notify_all();
    }

    /// The failure, if it is one that nobody was told of.
    fn untold(&self) -> Option<Error> {
        let result = lock(&self.result);
        let error = result.as_ref()?.as_ref().err()?;
        (!self.is_told.swap(true, Ordering::Relaxed)).then(|| error.again())
    }
}

/// A panic elsewhere leaves nothing half done behind these locks.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A save under way.
#[derive(Clone, Debug)]
pub struct Ticket {
    outcome: Arc<Outcome>,
}

impl Ticket {
    /// Whether the save has ended, one way or the other.
    #[must_use]
    pub fn is_done(&self) -> bool {
        lock(&self.outcome.result).is_some()
    }

    /// Waits until the checkpoint is durable under its name.
    ///
    /// # Errors
    /// Why it could not be saved, as `PendingSave::commit`.
    pub fn wait(&self) -> Result<Committed> {
        let mut result = lock(&self.outcome.result);
        loop {
            match &*result {
                None => result = self.outcome.done.wait(result).unwrap_or_else(PoisonError::into_inner),
                Some(Ok(committed)) => return Ok(committed.clone()),
                Some(Err(error)) => {
                    self.outcome.is_told.store(true, Ordering::Relaxed);
                    return Err(error.again());
                }
            }
        }
    }
}

impl Background {
    pub(super) fn new(place: Arc<(Root, Session)>, retention: Retention) -> Self {
        let shared = Shared { place, retention, state: Mutex::default(), changed: Condvar::new() };
        Self { shared: Arc::new(shared), worker: Mutex::new(None) }
    }

    pub(super) fn place(&self) -> (&Root, &Session) {
        (&self.shared.place.0, &self.shared.place.1)
    }

    pub(super) fn root(&self) -> &Root {
        self.place().0
    }

    /// Whether a save waits or is written.
    pub(super) fn is_busy(&self) -> bool {
        lock(&self.shared.state).saves > 0
    }

    /// Waits until no save waits or is written. What is deleted meanwhile is not waited for.
    pub(super) fn wait(&self) {
        let state = lock(&self.shared.state);
        drop(self.shared.changed.wait_while(state, |state| state.saves > 0));
    }

    /// Waits until the thread has nothing more to do.
    pub(super) fn wait_for_all(&self) {
        let state = lock(&self.shared.state);
        let is_busy = |state: &mut State| state.is_working || !state.queue.is_empty();
        drop(self.shared.changed.wait_while(state, is_busy));
    }

    /// The first failure that nobody was told of.
    pub(super) fn check(&self) -> Result<()> {
        let mut state = lock(&self.shared.state);
        while !state.failed.is_empty() {
            if let Some(error) = state.failed.remove(0).untold() {
                return Err(error);
            }
        }
        Ok(())
    }

    /// Snapshots a draft and hands it to the thread.
    pub(super) fn save(&self, draft: Draft<'_>, existing: Existing) -> Ticket {
        let draft = draft.snapshot(self.buffer());
        let outcome = Arc::new(Outcome::default());
        let job = Job::Save { draft, existing, outcome: Arc::clone(&outcome) };
        if let Err(error) = self.push(job) {
            outcome.set(Err(error));
            lock(&self.shared.state).failed.push(Arc::clone(&outcome));
        }
        Ticket { outcome }
    }

    /// A free buffer, a new one as long as there are few, or the next that becomes free.
    fn buffer(&self) -> Vec<u8> {
        let mut state = lock(&self.shared.state);
        loop {
            if let Some(buffer) = state.free.pop() {
                return buffer;
            }
            if state.buffers < BUFFERS {
                state.buffers += 1;
                return Vec::new();
            }
            state = self.shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Takes the memory of both buffers now.
    pub(super) fn reserve(&self, bytes: usize) {
        let mut state = lock(&self.shared.state);
        while state.buffers < BUFFERS {
            state.buffers += 1;
            state.free.push(Vec::new());
        }
        for buffer in &mut state.free {
            buffer.clear();
            // Written to, and not only asked for: a page is had at its first touch.
            buffer.resize(bytes, 0);
        }
    }

    /// Saves a draft as one file; what it replaces is deleted by the thread.
    pub(super) fn single(&self, name: &str, draft: Draft<'_>) -> Result<Committed> {
        let (root, session) = self.place();
        let draft = draft.into_single(root, session, name)?;
        let Some(source) = draft.files.get(name) else { unreachable!("the draft was made of this file") };
        let (committed, old) = commit::single(root, name, source, &draft)?;
        if let Some(old) = old {
            // Where no thread can be had, the file is deleted here.
            self.push(Job::Delete(old)).unwrap_or_else(|error| tracing::debug!(%error, "deleted at once"));
        }
        Ok(committed)
    }

    /// Has the retention done by the thread.
    pub(super) fn retain(&self) {
        if let Err(error) = self.push(Job::Retain) {
            tracing::warn!("nothing is pruned for now: {error}");
        }
    }

    fn push(&self, job: Job) -> Result<()> {
        let mut worker = lock(&self.worker);
        if worker.is_none() {
            let shared = Arc::clone(&self.shared);
            let spawned = std::thread::Builder::new().name("ckpt-save".to_owned()).spawn(move || shared.work());
            let failed = |error| Error::io("start a thread to save into", &self.root().path, error);
            *worker = Some(spawned.map_err(failed)?);
        }
        let mut state = lock(&self.shared.state);
        state.saves += usize::from(matches!(job, Job::Save { .. }));
        state.queue.push_back(job);
        drop(state);
        self.shared.changed.notify_all();
        Ok(())
    }
}

impl Shared {
    fn work(&self) {
        let mut state = lock(&self.state);
        loop {
            match state.queue.pop_front() {
                Some(job) => {
                    state.is_working = true;
                    drop(state);
                    self.run(job);
                    state = lock(&self.state);
                    state.is_working = false;
                    self.changed.notify_all();
                }
                None if state.is_closing => return,
                None => state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }

    /// What cannot be deleted stays, and is tried again after the next commit: the save itself is good.
    fn retain(&self) {
        match retain(&self.place.0, &self.retention) {
            Ok(dropped) => tracing::debug!(?dropped, "pruned"),
            Err(error) => tracing::warn!("nothing more is pruned for now: {error}"),
        }
    }

    fn run(&self, job: Job) {
        match job {
            Job::Save { draft, existing, outcome } => {
                self.save(draft, existing, &outcome);
                self.retain();
            }
            Job::Delete(old) => drop(old),
            Job::Retain => self.retain(),
        }
    }

    fn save(&self, draft: Draft<'static>, existing: Existing, outcome: &Arc<Outcome>) {
        let (root, session) = &*self.place;
        let save = || commit::directory(root, session, &draft, existing);
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(save)).unwrap_or_else(|_| {
            Err(Error::new(ErrorKind::Internal, &root.path, "the saving thread panicked over a checkpoint for"))
        });
        let is_failed = result.is_err();
        // Under the lock: who saw that it ended and asks for failures at once must find this one.
        let mut state = lock(&self.state);
        outcome.set(result);
        state.saves -= 1;
        state.free.push(draft.buffer);
        state.failed.extend(is_failed.then(|| Arc::clone(outcome)));
        self.changed.notify_all();
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        lock(&self.shared.state).is_closing = true;
        self.shared.changed.notify_all();
        if let Some(worker) = lock(&self.worker).take()
            && worker.join().is_err()
        {
            tracing::error!("the saving thread panicked");
        }
        if let Err(error) = self.check() {
            tracing::error!(%error, "a save failed, and nobody asked");
        }
    }
}
