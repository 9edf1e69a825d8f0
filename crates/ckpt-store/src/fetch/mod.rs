//! fetch: bring it where training may write.
//!
//! What lies in a writable place stays there. What lies in a read-only place is copied: to a temporary name, digests of
//! source and copy compared, made durable, renamed. What was under the name before is never lost unless it is an older
//! checkpoint file; a directory is never deleted, only renamed.

use std::path::{Path, PathBuf};

use ckpt_core::ErrorKind;
use ckpt_core::candidate::{Candidate, Shape};
use ckpt_core::finding::{Code, Severity};
use ckpt_core::inspect::DirectoryKind;
use ckpt_core::location::KAGGLE_ROOT;
use ckpt_core::progress::Progress;
use ckpt_core::transfer::{Existing, TransferPlan, plan};
use ckpt_core::verify::{Expectations, Verified};

use crate::atomic::{self, Replacing};
use crate::error::{Error, Result};
use crate::fs::{self, Occupant, Status};
use crate::inspect;

mod job;
pub(crate) mod transfer;

#[cfg(test)]
mod crash;

use job::{Job, Whole};
pub use transfer::digest;

/// How often the decision is made anew when the target changes while the copy is made.
const ATTEMPTS: usize = 3;

/// How to fetch.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// Copy also what lies in a writable place.
    pub always_copy: bool,
    /// Replace what is there even when it is newer; it is kept under another name.
    pub force: bool,
}

/// Where the checkpoint is now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetched {
    /// Its path.
    pub path: PathBuf,
    /// Whether it was copied by this call.
    pub is_copied: bool,
    /// What was done, in words.
    pub action: String,
    /// Where the file went that had the name before, when it was kept.
    pub set_aside: Option<PathBuf>,
}

/// Brings `chosen` into the directory `to`, unless training may write where it is.
///
/// # Errors
/// [`ErrorKind::Refused`]: a newer one of that name is there, or something that is no checkpoint, or it would run
/// dangerous code; [`ErrorKind::NoSpace`]; [`ErrorKind::Corrupt`]: it is not valid, or the copy differs from the source;
/// [`ErrorKind::Conflict`]: somebody changed the source after it was inspected, or keeps changing the target. In every
/// case `to` holds what it held before.
pub fn fetch(chosen: &Verified, to: &Path, options: &Options, progress: &dyn Progress) -> Result<Fetched> {
    let candidate = &chosen.candidate;
    refuse_invalid(chosen)?;
    let is_unpacked = matches!(candidate.shape, Shape::Directory(DirectoryKind::Unpacked));
    if !options.always_copy && !is_unpacked && !is_read_only(candidate) {
        return Ok(in_place(&candidate.path, "it lies where training may write"));
    }
    let to = if to.as_os_str().is_empty() { Path::new(".") } else { to };
    let mut job = Job::of(chosen)?;
    if is_same_place(&candidate.path, &to.join(&job.name)) {
        if !is_unpacked {
            return Ok(in_place(&candidate.path, "it is there already"));
        }
        job.name = beside(&job.name);
    }
    fs::create_directories(to)?;
    atomic::clean(to)?;
    let target = to.join(&job.name);
    for _ in 0..ATTEMPTS {
        if let Some(fetched) = attempt(chosen, &job, &target, (options.force, progress))? {
            return Ok(fetched);
        }
    }
    Err(Error::new(ErrorKind::Conflict, &target, "something else keeps writing to"))
}

/// Whether a candidate lies where training may not write: by the nature of its source, or because the system says so.
///
/// Training writes its next checkpoint beside this one, so the directory that holds it is asked, and where that is a link
/// also the directory that holds what it stands for.
#[must_use]
pub fn is_read_only(candidate: &Candidate) -> bool {
    let named = std::path::absolute(&candidate.path).unwrap_or_else(|_| candidate.path.clone());
    let real = fs::canonical(&candidate.path).unwrap_or_else(|_| named.clone());
    let is_held_read_only = |path: &Path| is_kaggle_input(path) || !fs::is_writable(inspect::parent(path));
    let is_whole_read_only = matches!(candidate.shape, Shape::Directory(_)) && !fs::is_writable(&real);
    candidate.source.is_read_only || is_held_read_only(&named) || is_held_read_only(&real) || is_whole_read_only
}

/// Kaggle's inputs are read-only whatever their bits say: some of its file systems show them as writable.
fn is_kaggle_input(path: &Path) -> bool {
    path.starts_with(Path::new(KAGGLE_ROOT).join("input"))
}

/// What is damaged or dangerous is not handed on. What is only not inspected may be.
fn refuse_invalid(chosen: &Verified) -> Result<()> {
    let errors = chosen.verdict.findings.iter().filter(|finding| finding.severity == Severity::Error);
    let path = &chosen.candidate.path;
    // A dangerous one stays dangerous whatever else is wrong with it.
    match errors.max_by_key(|finding| finding.code == Code::Unsafe) {
        None => Ok(()),
        Some(finding) if finding.code == Code::Unsafe => {
            Err(Error::new(ErrorKind::Refused, path, "loading it would run dangerous code; not copied:"))
        }
        Some(finding) => Err(Error::new(ErrorKind::Corrupt, path, format!("not copied, because {}:", finding.message))),
    }
}

/// Decides by what is at the target and acts; `None` when what was there changed meanwhile.
fn attempt(
    chosen: &Verified,
    job: &Job,
    target: &Path,
    (is_forced, progress): (bool, &dyn Progress),
) -> Result<Option<Fetched>> {
    let seen = fs::occupant(target)?;
    let decision = match decide(chosen, job, target, seen, is_forced)? {
        Decision::Keep => return Ok(Some(in_place(&target.join(&job.entry), "the same bytes are there already"))),
        decision => decision,
    };
    let (replacing, action) = match decision {
        Decision::Keep | Decision::Copy => (Replacing::Nothing, "copied".to_owned()),
        Decision::Replace(reason) => (Replacing::Old, format!("copied over what was there; {reason}")),
        Decision::SetAside(reason) => {
            let aside = free_name(target);
            let action = format!("copied; what was there is kept as `{}` ({reason})", aside.display());
            (Replacing::Aside(aside), action)
        }
    };
    let is_unchanged = || Ok(Job::of(chosen)?.items == job.items);
    let is_as_seen = || Ok(fs::occupant(target)? == seen);
    match transfer::transfer(job, target, &replacing, (&is_unchanged, &is_as_seen, progress)) {
        Ok(true) => {}
        Ok(false) => return Ok(None),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => return Ok(None),
        Err(error) => return Err(error),
    }
    let set_aside = if let Replacing::Aside(path) = replacing { Some(path) } else { None };
    Ok(Some(Fetched { path: trimmed(&target.join(&job.entry)), is_copied: true, action, set_aside }))
}

fn in_place(path: &Path, why: &str) -> Fetched {
    Fetched { path: trimmed(path), is_copied: false, action: format!("not copied: {why}"), set_aside: None }
}

/// `a/b/` as `a/b`: joining an empty path leaves a slash.
fn trimmed(path: &Path) -> PathBuf {
    path.components().collect()
}

fn is_same_place(left: &Path, right: &Path) -> bool {
    let identity = |path| fs::status(path).ok().map(|status| status.identity);
    identity(left).is_some_and(|left| identity(right) == Some(left))
}

/// `x.pth` as `x.packed.pth`: where the directory `x.pth` is packed beside itself.
fn beside(name: &Path) -> PathBuf {
    let mut packed = name.file_stem().unwrap_or_default().to_owned();
    packed.push(".packed.");
    packed.push(name.extension().unwrap_or_else(|| "pth".as_ref()));
    PathBuf::from(packed)
}

/// What to do with the target.
enum Decision {
    Keep,
    Copy,
    Replace(String),
    SetAside(String),
}

fn decide(chosen: &Verified, job: &Job, target: &Path, seen: Occupant, is_forced: bool) -> Result<Decision> {
    let refuse =
        |reason: &str| Err(Error::new(ErrorKind::Refused, target, format!("not overwritten, because {reason}:")));
    let status = match seen {
        Occupant::Nothing => return Ok(Decision::Copy),
        Occupant::DeadLink => return Ok(Decision::SetAside("a link to nowhere".to_owned())),
        Occupant::Something(status) => status,
    };
    if transfer::is_there(job, target)? {
        return Ok(Decision::Keep);
    }
    if !status.is_file && !status.is_directory {
        return refuse("it is neither a file nor a directory");
    }
    let Some(other) = other(job, target, status)? else {
        let reason = "it is a directory that is no checkpoint";
        return if is_forced { Ok(Decision::SetAside(format!("forced: {reason}"))) } else { refuse(reason) };
    };
    Ok(match plan(chosen, Existing::Other(&other), is_forced) {
        TransferPlan::AlreadyThere => Decision::Keep,
        TransferPlan::Copy => Decision::Copy,
        // A directory may hold more than the checkpoint, and is not for us to delete.
        TransferPlan::Replace { reason } if status.is_directory || job.whole == Whole::Directory => {
            Decision::SetAside(reason)
        }
        TransferPlan::Replace { reason } => Decision::Replace(reason),
        TransferPlan::SetAside { reason } => Decision::SetAside(reason),
        TransferPlan::Refuse { reason } => return refuse(&reason),
    })
}

/// The checkpoint at the target; `None` for a directory that is none.
fn other(job: &Job, target: &Path, status: Status) -> Result<Option<Verified>> {
    let entry = trimmed(&target.join(&job.entry));
    let has_entry = matches!(fs::occupant(&entry)?, Occupant::Something(entry) if entry.is_file);
    let candidate = inspect::candidate(if has_entry { &entry } else { target })?;
    let inspection = inspect::inspect(&candidate)?;
    let other = Verified::new(candidate, inspection, None, &Expectations::default());
    let is_any = status.is_file || has_entry || other.verdict.is_valid || inspect::directory_kind(target)?.is_some();
    Ok(is_any.then_some(other))
}

/// The first free name of `x.pth.set-aside-1`, `-2`, ….
fn free_name(target: &Path) -> PathBuf {
    let name = target.file_name().unwrap_or_default().to_string_lossy();
    // Names are at most 255 bytes.
    let mut end = name.len().min(230);
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    let named = |number: u32| target.with_file_name(format!("{}.set-aside-{number}", &name[..end]));
    (1..u32::MAX)
        .map(named)
        .find(|path| !matches!(fs::occupant(path), Ok(Occupant::Something(_) | Occupant::DeadLink)))
        .unwrap_or_else(|| named(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_lies_below_kaggles_input_is_its_input() {
        for (path, is_input) in [
            ("/kaggle/input/run/x.pth", true),
            ("/kaggle/inputs/x.pth", false),
            ("/kaggle/working/x.pth", false),
            ("/mnt/kaggle/input/x.pth", false),
        ] {
            assert_eq!(is_kaggle_input(Path::new(path)), is_input, "{path}");
        }
    }
}
