//! What a checkpoint consists of, file by file.

use std::path::{Path, PathBuf};

use ckpt_core::ErrorKind;
use ckpt_core::candidate::Shape;
use ckpt_core::digest::Digest;
use ckpt_core::inspect::{DirectoryKind, index_shards};
use ckpt_core::limits;
use ckpt_core::manifest::{self, LATEST, Manifest};
use ckpt_core::verify::Verified;

use crate::error::{Error, Result};
use crate::fs::{self, DirectoryMembers, Status};
use crate::inspect::parent;

/// One file to copy: from, and where below the target; the target itself when empty.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Item {
    /// What the checkpoint calls it.
    pub(super) name: String,
    pub(super) from: PathBuf,
    pub(super) to: PathBuf,
    pub(super) size: u64,
    modified_ns: i64,
    identity: (u64, u64),
    /// What the checkpoint's manifest says of it.
    digest: Option<Digest>,
}

impl Item {
    fn new(name: String, from: PathBuf, to: PathBuf, status: &Status) -> Self {
        let Status { size, modified_ns, identity, .. } = *status;
        Self { name, from, to, size, modified_ns, identity, digest: None }
    }

    /// Compares what was copied with what the manifest says.
    pub(super) fn check(&self, copied: Digest) -> Result<()> {
        match self.digest {
            Some(digest) if digest != copied => {
                let message =
                    "its bytes are not those that were saved, its digest differs from the manifest's: not copied:";
                Err(Error::new(ErrorKind::Corrupt, &self.from, message))
            }
            _ => Ok(()),
        }
    }
}

/// What is copied as one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Whole {
    File,
    Directory,
    Packed,
}

/// A checkpoint to copy, as it lies there now.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Job {
    pub(super) items: Vec<Item>,
    pub(super) whole: Whole,
    /// The name in the directory to copy to.
    pub(super) name: PathBuf,
    /// What to hand to the trainer: the target, or a file in it.
    pub(super) entry: PathBuf,
}

impl Job {
    /// Lists what `chosen` consists of.
    pub(super) fn of(chosen: &Verified) -> Result<Self> {
        let path = &chosen.candidate.path;
        let name = name_of(path)?;
        let job = match chosen.candidate.shape {
            Shape::File => {
                let status = fs::status(path)?;
                if status.modified_ns != chosen.candidate.modified_ns {
                    return Err(changed(path));
                }
                let item = Item::new(chosen.candidate.name(), path.clone(), PathBuf::new(), &status);
                Self { items: vec![item], whole: Whole::File, name, entry: PathBuf::new() }
            }
            Shape::Directory(kind) => {
                let members = DirectoryMembers::open(path)?;
                if let Some(problem) = members.problem() {
                    let message = format!("not copied, because part of it cannot be read: {problem}:");
                    return Err(Error::new(ErrorKind::Incomplete, path, message));
                }
                let mut items = items(&members, path, |_| true);
                let (whole, name) = match kind {
                    DirectoryKind::Unpacked => (Whole::Packed, packed_name(name)),
                    DirectoryKind::Ckpt => {
                        expect(&mut items, path)?;
                        (Whole::Directory, own_name(name, chosen))
                    }
                    _ => (Whole::Directory, name),
                };
                Self { items, whole, name, entry: PathBuf::new() }
            }
            Shape::Index => {
                let index = chosen.candidate.name();
                let shards = index_shards(&fs::read(path, limits::INDEX_BYTES)?);
                let members = DirectoryMembers::flat(parent(path))?;
                let items = items(&members, parent(path), |name| name == index || shards.contains(name));
                let stem = index.split('.').next().unwrap_or(&index).to_owned();
                Self { items, whole: Whole::Directory, name: PathBuf::from(stem), entry: name }
            }
        };
        // What was judged is what is copied.
        if job.total() == chosen.inspection.bytes { Ok(job) } else { Err(changed(path)) }
    }

    /// How many bytes there are to copy.
    pub(super) fn total(&self) -> u64 {
        self.items.iter().map(|item| item.size).sum()
    }
}

/// Somebody writes what is to be copied.
pub(super) fn changed(path: &Path) -> Error {
    Error::new(ErrorKind::Conflict, path, "it was changed after it was inspected; not copied:")
}

fn items(members: &DirectoryMembers, root: &Path, is_wanted: impl Fn(&str) -> bool) -> Vec<Item> {
    let wanted = members.statuses().iter().filter(|(name, _)| is_wanted(name));
    let items = wanted.filter_map(|(name, status)| {
        let relative = members.relative_path(name)?;
        Some(Item::new(name.clone(), root.join(relative), relative.to_owned(), status))
    });
    items.collect()
}

/// Notes what the manifest says of each file. A manifest that cannot be read is another program's: a damaged one of ours
/// is not handed on.
fn expect(items: &mut [Item], directory: &Path) -> Result<()> {
    let bytes = fs::read(&directory.join(manifest::FILE_NAME), limits::JSON_BYTES)?;
    if let Ok(manifest) = Manifest::parse(&bytes) {
        for item in items {
            item.digest = manifest.files.get(&item.name).map(|file| file.blake3);
        }
    }
    Ok(())
}

/// The name of the step, where the checkpoint was found under that of a pointer.
fn own_name(name: PathBuf, chosen: &Verified) -> PathBuf {
    let text = name.to_string_lossy();
    let is_pointer = text == LATEST || manifest::metric_of(&text).is_some();
    match chosen.inspection.step.filter(|_| is_pointer && chosen.inspection.sequence.is_some()) {
        Some(step) => PathBuf::from(manifest::directory_name(step)),
        None => name,
    }
}

/// The last component of a path; that of the directory it stands for when it ends in dots.
fn name_of(path: &Path) -> Result<PathBuf> {
    if let Some(name) = path.file_name() {
        return Ok(PathBuf::from(name));
    }
    let whole = fs::canonical(path)?;
    let name =
        whole.file_name().ok_or_else(|| Error::new(ErrorKind::Invalid, path, "there is no name to copy to for"))?;
    Ok(PathBuf::from(name))
}

/// A name that a loader takes for a checkpoint file.
fn packed_name(name: PathBuf) -> PathBuf {
    if ckpt_core::name::claim(&name.to_string_lossy()).is_some() {
        return name;
    }
    let mut name = name.into_os_string();
    name.push(".pth");
    PathBuf::from(name)
}
