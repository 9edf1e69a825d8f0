//! A root: committed checkpoints, and the pointers to the latest and the best of them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ckpt_core::ids::Step;
use ckpt_core::manifest::{self, LATEST, Manifest, Pointer, REPLACED};
use ckpt_core::{ErrorKind, limits};
use rustix::io::Errno;

use super::pointers::{Pointers, Tracked};
use crate::atomic::{self, Replacing, Temporary};
use crate::error::{Error, Result};
use crate::fs::{self, Lock, Occupant};
use crate::load::Checkpoint;
use crate::pins;

/// The file that is locked while names in a root change.
pub(crate) const LOCK: &str = ".ckpt-lock";
/// How long another process may hold a root. It does so for a few file operations on names, not while it writes.
const LOCK_DEADLINE: Duration = Duration::from_secs(30);
/// A pointer file takes less than this.
const POINTER_BYTES: u64 = 64 << 10;

#[derive(Debug)]
pub(super) struct Root {
    pub path: PathBuf,
    tracked: Tracked,
}

/// What a file under a pointer's name says.
enum Said {
    /// There is none.
    Nothing,
    /// It is no pointer of ours, and never touched.
    Foreign,
    /// It names something that is not there, or not any more what it was.
    Wrong,
    /// It names a whole checkpoint.
    True(Pointer),
}

/// What lies in a root.
#[derive(Debug, Default)]
pub(super) struct Listing {
    pub steps: Vec<(Step, String)>,
    metrics: Vec<String>,
    replaced: Vec<String>,
}

/// The checkpoints of a directory that pointer files name, each with the names of those. Where links are not kept, nothing
/// else says so. Whether what a pointer says is true is not looked at.
pub(crate) fn pointed_at(directory: &Path) -> Result<BTreeMap<String, Vec<String>>> {
    let mut pointed: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (name, _) in fs::list(directory)? {
        let Ok(name) = name.into_string() else { continue };
        let Some(pointer_name) = name.strip_suffix(".json") else { continue };
        if pointer_name != LATEST && manifest::metric_of(pointer_name).is_none() {
            continue;
        }
        // What is too large or no file is none of our pointers.
        match fs::read(&directory.join(&name), POINTER_BYTES) {
            Ok(bytes) => {
                if let Ok(pointer) = Pointer::parse(&bytes) {
                    pointed.entry(pointer.checkpoint).or_default().push(pointer_name.to_owned());
                }
            }
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Invalid) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(pointed)
}

impl Root {
    /// Opens a root, makes it where it is missing, cleans what dead savers left, and mends the pointers.
    pub(super) fn open(path: &Path, tracked: Tracked) -> Result<(Self, Pointers)> {
        fs::create_directories(path)?;
        let root = Self { path: path.to_owned(), tracked };
        let _lock = root.lock()?;
        atomic::clean(path)?;
        atomic::clean_links(path)?;
        let pointers = root.heal()?;
        Ok((root, pointers))
    }

    pub(super) fn lock(&self) -> Result<Lock> {
        fs::lock_file(&self.path.join(LOCK), LOCK_DEADLINE)
    }

    pub(super) fn list(&self) -> Result<Listing> {
        let mut listing = Listing::default();
        for (name, _) in fs::list(&self.path)? {
            let Ok(name) = name.into_string() else { continue };
            if let Some(step) = manifest::step_of(&name) {
                listing.steps.push((step, name));
            } else if let Some(pointer) = name.strip_suffix(".json") {
                listing.metrics.extend(manifest::metric_of(pointer));
            } else if name.strip_suffix(REPLACED).and_then(manifest::step_of).is_some() {
                listing.replaced.push(name);
            }
        }
        Ok(listing)
    }

    /// The checkpoint of a name, when it is whole as far as its manifest and the sizes tell.
    ///
    /// One that cannot be looked at may be whole: no pointer may move away from it for that.
    pub(super) fn whole(&self, name: &str) -> Result<Option<Checkpoint>> {
        match Checkpoint::open(&self.path.join(name)) {
            Ok(checkpoint) => Ok(Some(checkpoint)),
            Err(error) if is_unseen(&error) => Err(error),
            Err(error) => {
                tracing::debug!(%error, "not a whole checkpoint");
                Ok(None)
            }
        }
    }

    /// What a pointer file says.
    fn pointer(&self, name: &str) -> Result<Said> {
        let bytes = match fs::read(&self.file_of(name), POINTER_BYTES) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Said::Nothing),
            Err(error) if error.kind() == ErrorKind::Invalid => return Ok(Said::Foreign),
            Err(error) => return Err(error),
        };
        Ok(match Pointer::parse(&bytes) {
            Ok(pointer) => match self.whole(&pointer.checkpoint)? {
                Some(found) if found.digest() == pointer.manifest => Said::True(pointer),
                _ => Said::Wrong,
            },
            Err(_) if Pointer::is_meant(&bytes) => Said::Wrong,
            Err(_) => Said::Foreign,
        })
    }

    fn file_of(&self, pointer_name: &str) -> PathBuf {
        self.path.join(format!("{pointer_name}.json"))
    }

    /// The latest pointer and the best ones by some metrics; `None` when one of them is lost or wrong.
    fn pointers<'a>(&self, metrics: impl Iterator<Item = &'a String>) -> Result<Option<Pointers>> {
        let Said::True(latest) = self.pointer(LATEST)? else { return Ok(None) };
        let mut pointers = Pointers { latest: Some(latest), best: BTreeMap::new() };
        for metric in metrics {
            let Some(name) = manifest::best_name(metric) else { continue };
            match self.pointer(&name)? {
                Said::True(pointer) => {
                    pointers.best.insert(metric.clone(), pointer);
                }
                Said::Wrong => return Ok(None),
                Said::Nothing | Said::Foreign => {}
            }
        }
        Ok(Some(pointers))
    }

    /// Makes the pointers say what the manifests say. The root must be locked.
    ///
    /// A missing or wrong pointer proves nothing but that somebody died or deleted it: everything is read anew then.
    pub(super) fn heal(&self) -> Result<Pointers> {
        let listing = self.restore(self.list()?)?;
        let known = match self.pointers(listing.metrics.iter())? {
            Some(known) if !self.lacks(&known)? => Some(known),
            _ => None,
        };
        self.mend(&listing, known.as_ref())
    }

    fn mend(&self, listing: &Listing, known: Option<&Pointers>) -> Result<Pointers> {
        let is_tracked = |metric: &str| self.tracked.contains(metric) || listing.metrics.iter().any(|m| m == metric);
        let mut mended = known.cloned().unwrap_or_default();
        // A saver that died between the commit and the pointers leaves a checkpoint that no pointer knows: one of a later
        // step or, after training went back, one that was written after the pointer.
        let after = mended.latest.as_ref().map(|latest| latest.step);
        let pointed_ns = fs::status(&self.file_of(LATEST)).map_or(i64::MIN, |status| status.modified_ns);
        let is_written_later =
            |name: &str| fs::status(&self.path.join(name)).is_ok_and(|status| status.modified_ns >= pointed_ns);
        let mut found: Vec<(&String, Checkpoint)> = Vec::new();
        for (step, name) in &listing.steps {
            if after.is_none_or(|after| *step > after) || is_written_later(name) {
                found.extend(self.whole(name)?.map(|checkpoint| (name, checkpoint)));
            }
        }
        found.sort_by_key(|(_, checkpoint)| (checkpoint.manifest().sequence, checkpoint.manifest().created_ns));
        for (name, checkpoint) in &found {
            mended.advance(name, checkpoint.manifest(), checkpoint.digest(), is_tracked);
        }
        self.publish(self.prepare(known, &mended)?)?;
        let named = mended.named();
        let all = listing.metrics.iter().filter_map(|metric| manifest::best_name(metric)).chain([LATEST.to_owned()]);
        all.filter(|name| !named.contains_key(name)).try_for_each(|name| self.remove(&name))?;
        Ok(mended)
    }

    /// Whether the latest checkpoint is the best by a metric and is not pointed at as such.
    fn lacks(&self, known: &Pointers) -> Result<bool> {
        let Some(latest) = &known.latest else { return Ok(true) };
        let Some(checkpoint) = self.whole(&latest.checkpoint)? else { return Ok(true) };
        let mut mended = known.clone();
        let is_tracked = |metric: &str| self.tracked.contains(metric) || known.best.contains_key(metric);
        mended.advance(&latest.checkpoint, checkpoint.manifest(), checkpoint.digest(), is_tracked);
        Ok(mended != *known)
    }

    /// Ends what a saver that died left half replaced.
    fn restore(&self, listing: Listing) -> Result<Listing> {
        for name in &listing.replaced {
            let (aside, target) = (self.path.join(name), self.path.join(name.trim_end_matches(REPLACED)));
            if fs::occupant(&target)? == Occupant::Nothing {
                fs::rename_new(&aside, &target)?;
            } else {
                atomic::discard(&aside)?;
            }
        }
        if listing.replaced.is_empty() { Ok(listing) } else { self.list() }
    }

    /// Gives a finished directory its name and moves the pointers. The root must be locked.
    pub(super) fn commit(
        &self,
        temporary: Temporary,
        manifest: &Manifest,
        before: &Pointers,
        replace: bool,
    ) -> Result<Pointers> {
        let name = manifest::directory_name(manifest.step);
        let target = self.path.join(&name);
        if replace && fs::occupant(&target)? != Occupant::Nothing {
            if pins::pinned(&self.path)?.contains(&name) {
                return Err(Error::new(ErrorKind::Refused, &target, "pinned, and so not replaced:"));
            }
            // An earlier replacement by this very saver may have failed half way.
            self.restore(self.list()?)?;
            let aside = self.path.join(format!("{name}{REPLACED}"));
            temporary.commit(&Replacing::Aside(aside))?;
            // The old one may have been the latest or the best, and its deletion is the last step of the replacement.
            return self.mend(&self.restore(self.list()?)?, None);
        }
        let digest = ckpt_core::digest::Digest::of(&manifest.to_bytes());
        let mut after = before.clone();
        after.advance(&name, manifest, digest, |metric| {
            self.tracked.contains(metric) || before.best.contains_key(metric)
        });
        let prepared = self.prepare(Some(before), &after)?;
        temporary.commit(&Replacing::Nothing)?;
        self.publish(prepared)?;
        Ok(after)
    }

    /// The pointers as they are, found anew where they are lost. The root must be locked.
    pub(super) fn current<'a>(&self, metrics: impl Iterator<Item = &'a String>) -> Result<Pointers> {
        match self.pointers(metrics)? {
            Some(pointers) => Ok(pointers),
            None => self.heal(),
        }
    }

    /// Writes the pointer files that change, durably, under temporary names.
    fn prepare<'a>(
        &self,
        before: Option<&Pointers>,
        after: &'a Pointers,
    ) -> Result<Vec<(String, &'a Pointer, Option<Temporary>)>> {
        let old = before.map(Pointers::named).unwrap_or_default();
        let mut prepared = Vec::new();
        for (name, pointer) in after.named() {
            let is_same = old.get(&name) == Some(&pointer);
            if !is_same && matches!(self.pointer(&name)?, Said::Foreign) {
                tracing::warn!("`{}` is somebody else's: no such pointer is kept", self.file_of(&name).display());
                continue;
            }
            let temporary = if is_same {
                None
            } else {
                let temporary = Temporary::file(&self.file_of(&name))?;
                fs::write_all(temporary.handle(), temporary.path(), &pointer.to_bytes())?;
                temporary.sync()?;
                Some(temporary)
            };
            prepared.push((name, pointer, temporary));
        }
        Ok(prepared)
    }

    /// Swaps the pointers: each names the old or the new checkpoint at any moment.
    fn publish(&self, prepared: Vec<(String, &Pointer, Option<Temporary>)>) -> Result<()> {
        let mut is_changed = false;
        for (name, pointer, temporary) in prepared {
            if let Some(temporary) = temporary {
                temporary.give_name(&Replacing::Old)?;
                is_changed = true;
            }
            is_changed |= self.link(&name, &pointer.checkpoint)?;
        }
        if is_changed { fs::sync_directory(&self.path) } else { Ok(()) }
    }

    /// Makes the link of a pointer; tells whether it changed. Where there are no links, the pointer file is enough.
    fn link(&self, name: &str, checkpoint: &str) -> Result<bool> {
        let at = self.path.join(name);
        if fs::read_link(&at)?.as_deref() == Some(Path::new(checkpoint)) {
            return Ok(false);
        }
        let is_foreign = |target: PathBuf| target.to_str().and_then(manifest::step_of).is_none();
        if fs::read_link(&at)?.is_some_and(is_foreign) {
            tracing::warn!("`{}` is somebody else's link and stays as it is; `{name}.json` tells ours", at.display());
            return Ok(false);
        }
        if fs::read_link(&at)?.is_none() && fs::occupant(&at)? != Occupant::Nothing && !is_lost_link(&at) {
            tracing::warn!("`{}` is no link and stays as it is; `{name}.json` tells the right one", at.display());
            return Ok(false);
        }
        atomic::replace_link(Path::new(checkpoint), &at)
    }

    /// Removes a pointer that has nothing to point at. What somebody else put under its name stays.
    fn remove(&self, name: &str) -> Result<()> {
        let link = self.path.join(name);
        let is_dangling = fs::read_link(&link)?.is_some() && fs::status(&link).is_err();
        if is_dangling {
            fs::remove(&link)?;
        }
        if matches!(self.pointer(name)?, Said::Wrong) { fs::remove(&self.file_of(name)) } else { Ok(()) }
    }

    /// How many bytes are missing for a checkpoint of `bytes`: nothing is begun that cannot end.
    pub(super) fn check_space(&self, bytes: u64) -> Result<()> {
        let free = fs::free_bytes(&self.path)?;
        if free < bytes {
            let message = format!("{bytes} bytes are needed and {free} are free; nothing was written to");
            return Err(Error::new(ErrorKind::NoSpace, &self.path, message));
        }
        Ok(())
    }
}

/// Whether an error tells nothing about a checkpoint but that the system would not show it just now.
fn is_unseen(error: &Error) -> bool {
    let cause = std::error::Error::source(error).and_then(|cause| cause.downcast_ref::<std::io::Error>());
    let is_loop = cause.and_then(std::io::Error::raw_os_error) == Some(Errno::LOOP.raw_os_error());
    let is_about_it = matches!(
        error.kind(),
        ErrorKind::NotFound | ErrorKind::Corrupt | ErrorKind::Incomplete | ErrorKind::Invalid | ErrorKind::Unsupported
    );
    !is_about_it && !is_loop
}

/// Archives and copies without links leave a small file that holds the link's text.
fn is_lost_link(at: &Path) -> bool {
    let text = fs::read(at, limits::NAME_BYTES as u64).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    text.is_some_and(|text| manifest::step_of(text.trim_end()).is_some())
}
