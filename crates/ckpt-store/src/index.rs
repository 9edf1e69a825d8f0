//! The index of past inspections, so that a second scan reads nothing that did not change.
//!
//! An entry is used only while path, size, times of modification and of change, and inode are what they were; for a
//! checkpoint of several files, those of every file; and while its other names are the same, which tell facts too. An
//! entry whose file changed within two seconds of being inspected is not kept: a later change within the clock's
//! granularity could leave all of them the same. The index is a cache: losing it costs time and nothing else, so it is
//! written without `fsync`.
//!
//! It lies in `index/`, one file for each directory that holds candidates, named by the digest of that directory's path,
//! so that looking at five checkpoints does not read what is known of thousands elsewhere.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use ckpt_core::candidate::{Candidate, Shape};
use ckpt_core::inspect::{Inspection, index_shards};
use ckpt_core::limits;
use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::fs::{self, DirectoryMembers, Status};
use crate::{atomic, inspect};

/// Changes with every change of what an inspection says.
const VERSION: &str = concat!("ckpt-index-4-", env!("CARGO_PKG_VERSION"));
/// Most entries kept in one file, and most bytes it may take; the least recently written go first.
const ENTRIES: usize = 20_000;
const BYTES: usize = 16 << 20;
/// Most files, and most bytes of all of them; the least recently written go first.
const KEPT: Kept = Kept { files: 10_000, bytes: 64 << 20 };
/// Changes younger than this may still be followed by one that leaves the same times.
const SETTLE_NS: i64 = 2_000_000_000;

struct Kept {
    files: usize,
    bytes: u64,
}

#[derive(Serialize, Deserialize)]
struct Entry {
    written_ns: i64,
    fingerprint: String,
    inspection: Inspection,
}

#[derive(Deserialize)]
struct Stored {
    version: String,
    entries: BTreeMap<String, Entry>,
}

/// What is known of the candidates in one directory: as it was read, and what was added since.
#[derive(Default)]
struct Part {
    known: OnceLock<BTreeMap<String, Entry>>,
    added: Mutex<BTreeMap<String, Entry>>,
}

/// The index: its parts are read when a candidate of their directory is asked for.
pub struct Index {
    directory: Option<PathBuf>,
    /// By the names of their files.
    parts: Mutex<HashMap<String, Arc<Part>>>,
}

impl Index {
    /// An index that remembers nothing.
    #[must_use]
    pub fn none() -> Self {
        Self { directory: None, parts: Mutex::default() }
    }

    /// The index in the cache `directory`; a part that is damaged or of another version counts as empty.
    #[must_use]
    pub fn open(directory: &Path) -> Self {
        Self { directory: Some(directory.join("index")), parts: Mutex::default() }
    }

    /// The inspection of a candidate: the remembered one where nothing changed, else a new one.
    ///
    /// # Errors
    /// The candidate could not be looked at.
    pub fn inspect(&self, candidate: &Candidate, now_ns: i64) -> Result<Inspection> {
        let Some(directory) = &self.directory else { return inspect::inspect(candidate) };
        let path = std::path::absolute(&candidate.path).unwrap_or_else(|_| candidate.path.clone());
        let key = path.to_string_lossy().into_owned();
        let before = fingerprint(candidate)?;
        let name = part_name(inspect::parent(&path));
        let part = Arc::clone(locked(&self.parts).entry(name.clone()).or_default());
        let known = part.known.get_or_init(|| read_part(&directory.join(name)));
        if let Some(entry) = known.get(&key).filter(|entry| entry.fingerprint == before.text) {
            return Ok(entry.inspection.clone());
        }
        let inspection = inspect::inspect(candidate)?;
        let is_settled = before.changed_ns.saturating_add(SETTLE_NS) < now_ns;
        if is_settled && fingerprint(candidate)?.text == before.text {
            let entry = Entry { written_ns: now_ns, fingerprint: before.text, inspection: inspection.clone() };
            locked(&part.added).insert(key, entry);
        }
        Ok(inspection)
    }

    /// Writes the parts to which something was added, and deletes the oldest ones when there are too many.
    ///
    /// # Errors
    /// The cache directory cannot be written to. Nothing is lost but time.
    pub fn save(self) -> Result<()> {
        let Some(directory) = &self.directory else { return Ok(()) };
        let parts = std::mem::take(&mut *locked(&self.parts));
        let is_changed = |part: &Part| !locked(&part.added).is_empty();
        let changed: Vec<_> = parts.into_iter().filter(|(_, part)| is_changed(part)).collect();
        if changed.is_empty() {
            return Ok(());
        }
        fs::create_directories(directory)?;
        atomic::clean(directory)?;
        for (name, part) in changed {
            // All who looked things up are done: nobody else has it.
            let Some(part) = Arc::into_inner(part) else { continue };
            write_part(&directory.join(name), part)?;
        }
        prune(directory, &KEPT)
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The name of the file for the candidates in a directory. Two of one name would only share a file: the entries in it
/// have whole paths.
fn part_name(directory: &Path) -> String {
    format!("{}.json", blake3::hash(directory.as_os_str().as_encoded_bytes()).to_hex())
}

fn read_part(path: &Path) -> BTreeMap<String, Entry> {
    let stored = fs::read(path, BYTES as u64)
        .ok()
        .and_then(|bytes| serde_json::from_slice::<Stored>(&bytes).ok())
        .filter(|stored| stored.version == VERSION);
    stored.map(|stored| stored.entries).unwrap_or_default()
}

fn write_part(path: &Path, part: Part) -> Result<()> {
    let mut entries = part.known.into_inner().unwrap_or_default();
    entries.extend(part.added.into_inner().unwrap_or_else(PoisonError::into_inner));
    let bytes = document(entries)
        .map_err(|error| crate::Error::new(ckpt_core::ErrorKind::Internal, path, error.to_string()))?;
    atomic::replace_text(path, &bytes)
}

/// Deletes the least recently written parts that are too many or too much.
fn prune(directory: &Path, kept: &Kept) -> Result<()> {
    let mut parts = Vec::new();
    for (name, _) in fs::list(directory)? {
        let path = directory.join(name);
        // What is gone by now was deleted by another process; what is no part is not ours.
        let is_part = path.extension().is_some_and(|extension| extension == "json");
        if let Some(status) = is_part.then(|| fs::status(&path).ok()).flatten() {
            parts.push((std::cmp::Reverse(status.modified_ns), status.size, path));
        }
    }
    parts.sort();
    let mut bytes = 0_u64;
    for (index, (_, size, path)) in parts.iter().enumerate() {
        bytes = bytes.saturating_add(*size);
        if index < kept.files && bytes <= kept.bytes {
            continue;
        }
        if let Err(error) = fs::remove(path) {
            tracing::debug!(%error, "an old part of the index stays");
        }
    }
    Ok(())
}

/// The newest entries that fit, as [`Stored`] reads them.
fn document(entries: BTreeMap<String, Entry>) -> serde_json::Result<Vec<u8>> {
    const END: &[u8] = b"}}";
    let mut entries: Vec<(String, Entry)> = entries.into_iter().collect();
    entries.sort_by_key(|(_, entry)| std::cmp::Reverse(entry.written_ns));
    let mut bytes = b"{\"version\":".to_vec();
    serde_json::to_writer(&mut bytes, VERSION)?;
    bytes.extend(b",\"entries\":{");
    let mut separator = "";
    for (key, entry) in entries.iter().take(ENTRIES) {
        let kept = bytes.len();
        bytes.extend(separator.as_bytes());
        serde_json::to_writer(&mut bytes, key)?;
        bytes.push(b':');
        serde_json::to_writer(&mut bytes, entry)?;
        if bytes.len() + END.len() > BYTES {
            bytes.truncate(kept);
            break;
        }
        separator = ",";
    }
    bytes.extend(END);
    Ok(bytes)
}

struct Fingerprint {
    text: String,
    changed_ns: i64,
}

fn fingerprint(candidate: &Candidate) -> Result<Fingerprint> {
    let one = |status: &Status| {
        let Status { size, modified_ns, changed_ns, identity: (device, inode), .. } = status;
        format!("{size} {modified_ns} {changed_ns} {device} {inode}")
    };
    let mut hasher = blake3::Hasher::new();
    // Names tell facts where the content is silent.
    for name in candidate.names() {
        hasher.update(name.as_bytes()).update(b"\0");
    }
    hasher.update(format!("{:?}\n", candidate.shape).as_bytes());
    let mut many = |statuses: &[(String, Status)]| {
        for (name, status) in statuses {
            hasher.update(format!("{name}\0{}\n", one(status)).as_bytes());
        }
        let changed_ns = statuses.iter().map(|(_, status)| status.changed_ns).max().unwrap_or(0);
        Fingerprint { text: hasher.finalize().to_hex().to_string(), changed_ns }
    };
    Ok(match candidate.shape {
        Shape::File => {
            let status = fs::status(&candidate.path)?;
            many(&[(String::new(), status)])
        }
        Shape::Directory(_) => many(DirectoryMembers::open(&candidate.path)?.statuses()),
        Shape::Index => {
            let shards = index_shards(&fs::read(&candidate.path, limits::INDEX_BYTES)?);
            let members = DirectoryMembers::flat(inspect::parent(&candidate.path))?;
            let wanted: Vec<(String, Status)> = members
                .statuses()
                .iter()
                .filter(|(name, _)| *name == candidate.name() || shards.contains(name))
                .cloned()
                .collect();
            many(&wanted)
        }
    })
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "tests prepare files")]
mod tests {
    use super::*;

    fn entry(written_ns: i64, keys: usize) -> Entry {
        let nothing: &[u8] = &[];
        let mut inspection = ckpt_core::inspect::file("x.pth", &nothing).unwrap();
        inspection.keys = vec!["k".repeat(1000); keys];
        Entry { written_ns, fingerprint: String::new(), inspection }
    }

    fn kept(entries: BTreeMap<String, Entry>) -> BTreeMap<String, Entry> {
        serde_json::from_slice::<Stored>(&document(entries).unwrap()).unwrap().entries
    }

    #[test]
    fn the_oldest_entries_go_first_whatever_their_paths() {
        let count = i64::try_from(ENTRIES).unwrap() + 2;
        // The paths sort the other way round than the times.
        let entries = (0..count).map(|time| (format!("{:08}", count - time), entry(time, 0))).collect();
        let kept = kept(entries);
        assert_eq!(kept.len(), ENTRIES);
        assert_eq!(kept.values().map(|entry| entry.written_ns).min(), Some(2));
    }

    #[test]
    fn the_index_stays_within_its_bytes() {
        let entries: BTreeMap<String, Entry> = (0..30).map(|time| (format!("{time}"), entry(time, 1000))).collect();
        let document = document(entries).unwrap();
        assert!(document.len() <= BYTES);
        let kept = serde_json::from_slice::<Stored>(&document).unwrap().entries;
        assert!(kept.len() > 10 && kept.contains_key("29") && !kept.contains_key("0"), "{}", kept.len());
    }

    #[test]
    fn numbers_come_back_exactly() {
        // Values that serde_json reads wrong by one unit in the last place unless told otherwise.
        for value in [51.248_178_603_758_78_f64, 0.1 + 0.2, 5.0e-324, 1.999_999_999_999_999_8] {
            let mut entry = entry(0, 0);
            entry.inspection.epoch = ckpt_core::ids::Epoch::new(value);
            let back = kept(BTreeMap::from([("x".to_owned(), entry)]));
            assert_eq!(back["x"].inspection.epoch.map(|epoch| epoch.get().to_bits()), Some(value.to_bits()));
        }
    }
    #[test]
    fn the_parts_written_longest_ago_go_first() {
        let directory = tempfile::tempdir().unwrap();
        let put = |name: &str, bytes: usize, age: u64| {
            let path = directory.path().join(name);
            std::fs::write(&path, vec![b' '; bytes]).unwrap();
            let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000 - age);
            std::fs::File::options().write(true).open(path).unwrap().set_modified(time).unwrap();
        };
        let left = || -> Vec<String> {
            let entries = fs::list(directory.path()).unwrap().into_iter();
            entries.map(|(name, _)| name.to_string_lossy().into_owned()).collect()
        };
        for (name, bytes, age) in [("a.json", 10, 3), ("b.json", 10, 1), ("c.json", 10, 2), ("other", 99, 9)] {
            put(name, bytes, age);
        }
        prune(directory.path(), &Kept { files: 9, bytes: 29 }).unwrap();
        assert_eq!(left(), ["b.json", "c.json", "other"]);
        prune(directory.path(), &Kept { files: 1, bytes: 29 }).unwrap();
        assert_eq!(left(), ["b.json", "other"]);
    }
}
