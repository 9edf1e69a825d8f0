//! fetch: bring it where training may write.
//!
//! What lies in a writable place stays there. What lies in a read-only place is copied: to a temporary name, digests of
//! source and copy compared, made durable, renamed. What was under the name before is never lost unless it is older.

use std::path::{Path, PathBuf};

use ckpt_core::ErrorKind;
use ckpt_core::candidate::Shape;
use ckpt_core::inspect::{DirectoryKind, index_shards};
use ckpt_core::limits;
use ckpt_core::progress::{Progress, Unit};
use ckpt_core::read::ReadAt;
use ckpt_core::transfer::{Existing, TransferPlan, plan};
use ckpt_core::verify::{Expectations, Verified};

use crate::atomic::{self, Replacing, Temporary};
use crate::error::{Error, Result};
use crate::fs::{self, DirectoryMembers, FileReader};
use crate::inspect::{self, parent};
use crate::repack;

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

/// One file to copy: from, and where below the target; the target itself when empty.
struct Item {
    from: PathBuf,
    to: PathBuf,
    size: u64,
}

/// What is copied as one.
enum Whole {
    File,
    Directory,
    Packed,
}

struct Job {
    items: Vec<Item>,
    whole: Whole,
    /// The name in the directory to copy to.
    name: PathBuf,
    /// What to hand to the trainer: the target, or a file in it.
    entry: PathBuf,
}

/// Brings `chosen` into the directory `to`, unless training may write where it is.
///
/// # Errors
/// [`ErrorKind::Refused`]: a newer one of that name is there, or it would run dangerous code; [`ErrorKind::NoSpace`];
/// [`ErrorKind::Corrupt`]: the copy differs from the source. In every case `to` holds what it held before.
pub fn fetch(chosen: &Verified, to: &Path, options: &Options, progress: &dyn Progress) -> Result<Fetched> {
    let candidate = &chosen.candidate;
    if chosen.verdict.is_only_unsafe() {
        return Err(Error::new(
            ErrorKind::Refused,
            &candidate.path,
            "loading it would run dangerous code; not copied:",
        ));
    }
    let is_unpacked = matches!(candidate.shape, Shape::Directory(DirectoryKind::Unpacked));
    if !candidate.source.is_read_only && !options.always_copy && !is_unpacked {
        return Ok(in_place(&candidate.path, "it lies where training may write"));
    }
    let job = job(chosen)?;
    let target = to.join(&job.name);
    let same_file = |left: &Path, right: &Path| matches!((fs::status(left), fs::status(right)), (Ok(left), Ok(right)) if left.identity == right.identity);
    if same_file(&candidate.path, &target) && !is_unpacked {
        return Ok(in_place(&candidate.path, "it is there already"));
    }
    fs::create_directories(to)?;
    atomic::clean(to)?;
    let existing = existing(&job, &target)?;
    let decided = match &existing {
        Found::Nothing => plan(chosen, Existing::Nothing, options.force),
        Found::Same => plan(chosen, Existing::Same, options.force),
        Found::Other(other) => plan(chosen, Existing::Other(other), options.force),
    };
    let (replacing, action) = match decided {
        TransferPlan::AlreadyThere => {
            return Ok(in_place(&target.join(&job.entry), "the same bytes are there already"));
        }
        TransferPlan::Copy => (Replacing::Nothing, "copied".to_owned()),
        TransferPlan::Replace { reason } => (Replacing::Old, format!("copied over what was there; {reason}")),
        TransferPlan::SetAside { reason } => {
            let aside = free_name(&target);
            let action = format!("copied; what was there is kept as `{}` ({reason})", aside.display());
            (Replacing::Aside(aside), action)
        }
        TransferPlan::Refuse { reason } => {
            return Err(Error::new(ErrorKind::Refused, &target, format!("not overwritten, because {reason}:")));
        }
    };
    transfer(&job, &target, &replacing, progress)?;
    let set_aside = if let Replacing::Aside(path) = replacing { Some(path) } else { None };
    Ok(Fetched { path: trimmed(&target.join(&job.entry)), is_copied: true, action, set_aside })
}

fn in_place(path: &Path, why: &str) -> Fetched {
    Fetched { path: trimmed(path), is_copied: false, action: format!("not copied: {why}"), set_aside: None }
}

/// `a/b/` as `a/b`: joining an empty path leaves a slash.
fn trimmed(path: &Path) -> PathBuf {
    path.components().collect()
}

fn job(chosen: &Verified) -> Result<Job> {
    let path = &chosen.candidate.path;
    let name = PathBuf::from(path.file_name().unwrap_or(path.as_os_str()));
    let directory_items = |wanted: &dyn Fn(&str) -> bool, root: &Path, members: &DirectoryMembers| {
        members
            .statuses()
            .iter()
            .filter(|(name, _)| wanted(name))
            .map(|(name, status)| Item { from: root.join(name), to: PathBuf::from(name), size: status.size })
            .collect::<Vec<Item>>()
    };
    Ok(match chosen.candidate.shape {
        Shape::File => {
            let size = fs::status(path)?.size;
            let items = vec![Item { from: path.clone(), to: PathBuf::new(), size }];
            Job { items, whole: Whole::File, name, entry: PathBuf::new() }
        }
        Shape::Directory(kind) => {
            let members = DirectoryMembers::open(path)?;
            let items = directory_items(&|_| true, path, &members);
            let (whole, name) = match kind {
                DirectoryKind::Unpacked => (Whole::Packed, packed_name(&name)),
                _ => (Whole::Directory, name),
            };
            Job { items, whole, name, entry: PathBuf::new() }
        }
        Shape::Index => {
            let root = parent(path);
            let shards = index_shards(&fs::read(path, limits::JSON_BYTES)?);
            let members = DirectoryMembers::flat(root)?;
            let index = name.to_string_lossy().into_owned();
            let items = directory_items(&|name| name == index || shards.contains(name), root, &members);
            let stem = index.split('.').next().unwrap_or(&index).to_owned();
            Job { items, whole: Whole::Directory, name: PathBuf::from(stem), entry: name }
        }
    })
}

/// A name that a loader takes for a checkpoint file.
fn packed_name(name: &Path) -> PathBuf {
    match ckpt_core::name::claim(&name.to_string_lossy()) {
        Some(_) => name.to_owned(),
        None => PathBuf::from(format!("{}.pth", name.display())),
    }
}

/// What is at the target.
enum Found {
    Nothing,
    Same,
    Other(Box<Verified>),
}

fn existing(job: &Job, target: &Path) -> Result<Found> {
    if fs::status(target).is_err() {
        return Ok(Found::Nothing);
    }
    if is_same(job, target)? {
        return Ok(Found::Same);
    }
    let candidate = inspect::candidate(&target.join(&job.entry).components().collect::<PathBuf>())
        .or_else(|_| inspect::candidate(target))?;
    let inspection = inspect::inspect(&candidate)?;
    Ok(Found::Other(Box::new(Verified::new(candidate, inspection, None, &Expectations::default()))))
}

/// Whether the target holds the same files with the same bytes.
fn is_same(job: &Job, target: &Path) -> Result<bool> {
    if matches!(job.whole, Whole::Packed) {
        return Ok(false);
    }
    for item in &job.items {
        let there = trimmed(&target.join(&item.to));
        match fs::status(&there) {
            Ok(status) if status.is_file && status.size == item.size => {}
            _ => return Ok(false),
        }
    }
    for item in &job.items {
        let there = FileReader::open(&trimmed(&target.join(&item.to)))?;
        if !is_equal(&FileReader::open(&item.from)?, &there, &item.from)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The first free name of `x.pth.set-aside-1`, `-2`, ….
fn free_name(target: &Path) -> PathBuf {
    let name = target.file_name().unwrap_or_default().to_string_lossy();
    (1_u32..)
        .map(|number| target.with_file_name(format!("{name}.set-aside-{number}")))
        .find(|path| fs::status(path).is_err())
        .unwrap_or_else(|| target.with_file_name(format!("{name}.set-aside")))
}

fn transfer(job: &Job, target: &Path, replacing: &Replacing, progress: &dyn Progress) -> Result<()> {
    let total: u64 = job.items.iter().map(|item| item.size).sum();
    progress.begin("copying", total, Unit::Bytes);
    let result = match job.whole {
        Whole::File => copy_file(job, target, replacing, progress),
        Whole::Directory => copy_directory(job, target, replacing, progress),
        Whole::Packed => repack_into(job, target, replacing, progress),
    };
    progress.end();
    result
}

fn check_space(directory: &Path, needed: u64) -> Result<()> {
    let free = fs::free_bytes(directory)?;
    if free < needed {
        let message = format!("{needed} bytes are needed and {free} are free; nothing was copied to");
        return Err(Error::new(ErrorKind::NoSpace, directory, message));
    }
    Ok(())
}

fn copy_file(job: &Job, target: &Path, replacing: &Replacing, progress: &dyn Progress) -> Result<()> {
    let Some(item) = job.items.first() else { return Ok(()) };
    let temporary = Temporary::file(target)?;
    copy_item(item, temporary.handle(), temporary.path(), parent(target), progress)?;
    temporary.commit(replacing)
}

/// Copies one file, makes it durable, and compares digests.
fn copy_item(item: &Item, to: &std::fs::File, to_path: &Path, directory: &Path, progress: &dyn Progress) -> Result<()> {
    let from = FileReader::open(&item.from)?;
    if fs::reflink(&from, to, to_path)? {
        progress.advance(from.size());
    } else {
        check_space(directory, from.size())?;
        fs::copy(&from, to, to_path, |count| progress.advance(count))?;
    }
    fs::sync(to, to_path)?;
    // What is compared is what the disk has, not what this process meant to write.
    fs::drop_cache(to);
    if is_equal(&from, &FileReader::open(to_path)?, &item.from)? {
        Ok(())
    } else {
        Err(Error::new(
            ErrorKind::Corrupt,
            &item.from,
            "the copy differs from its source, which changed meanwhile or lies on a failing disk:",
        ))
    }
}

/// Whether two files have the same BLAKE3 digest; both are read at once.
fn is_equal(left: &FileReader, right: &FileReader, path: &Path) -> Result<bool> {
    if left.size() != right.size() {
        return Ok(false);
    }
    let (left, right) = rayon::join(|| digest(left), || digest(right));
    Ok(left.map_err(|error| Error::io("read", path, error))?
        == right.map_err(|error| Error::io("read the copy of", path, error))?)
}

/// The BLAKE3 digest of a file.
///
/// # Errors
/// It cannot be read.
pub fn digest(file: &FileReader) -> std::io::Result<blake3::Hash> {
    let mut hasher = blake3::Hasher::new();
    if !ckpt_core::read::stream(file, 0, file.size(), |part| {
        hasher.update(part);
    })? {
        return Err(std::io::ErrorKind::UnexpectedEof.into());
    }
    Ok(hasher.finalize())
}

fn copy_directory(job: &Job, target: &Path, replacing: &Replacing, progress: &dyn Progress) -> Result<()> {
    let temporary = Temporary::directory(target)?;
    let mut directories = std::collections::BTreeSet::new();
    for item in &job.items {
        let to_path = temporary.path().join(&item.to);
        let below = parent(&to_path).to_owned();
        if directories.insert(below.clone()) {
            fs::create_directories(&below)?;
        }
        let file = fs::create_locked(&to_path)?;
        copy_item(item, &file, &to_path, parent(target), progress)?;
    }
    for directory in directories.iter().rev() {
        fs::sync_directory(directory)?;
    }
    temporary.sync()?;
    temporary.commit(replacing)
}

fn repack_into(job: &Job, target: &Path, replacing: &Replacing, progress: &dyn Progress) -> Result<()> {
    let total: u64 = job.items.iter().map(|item| item.size + 256).sum();
    check_space(parent(target), total)?;
    let temporary = Temporary::file(target)?;
    let members: Vec<(String, PathBuf)> =
        job.items.iter().map(|item| (item.to.to_string_lossy().into_owned(), item.from.clone())).collect();
    repack::write(&members, target, temporary.handle(), temporary.path(), &|count| progress.advance(count))?;
    temporary.sync()?;
    temporary.commit(replacing)
}
