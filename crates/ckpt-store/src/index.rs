//! The index of past inspections, so that a second scan reads nothing that did not change.
//!
//! An entry is used only while path, size, times of modification and of change, and inode are what they were; for a
//! checkpoint of several files, those of every file; and while its other names are the same, which tell facts too. An entry whose file changed within two seconds of being inspected is
//! not kept: a later change within the clock's granularity could leave all of them the same. The index is a cache:
//! losing it costs time and nothing else, so it is written without `fsync`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use ckpt_core::candidate::{Candidate, Shape};
use ckpt_core::inspect::{Inspection, index_shards};
use ckpt_core::limits;
use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::fs::{self, DirectoryMembers, Status};
use crate::{atomic, inspect};

/// Changes with every change of what an inspection says.
const VERSION: &str = concat!("ckpt-index-2-", env!("CARGO_PKG_VERSION"));
/// Most entries kept, and most bytes they may take; the least recently written go first.
const ENTRIES: usize = 50_000;
const BYTES: usize = 64 << 20;
/// Changes younger than this may still be followed by one that leaves the same times.
const SETTLE_NS: i64 = 2_000_000_000;

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

/// The index, as it was read and with what was added since.
pub struct Index {
    path: Option<PathBuf>,
    known: BTreeMap<String, Entry>,
    added: Mutex<BTreeMap<String, Entry>>,
}

impl Index {
    /// An index that remembers nothing.
    #[must_use]
    pub fn none() -> Self {
        Self { path: None, known: BTreeMap::new(), added: Mutex::new(BTreeMap::new()) }
    }

    /// Reads the index in `directory`; one that is damaged or of another version counts as empty.
    #[must_use]
    pub fn open(directory: &Path) -> Self {
        let path = directory.join("index.json");
        let stored = fs::read(&path, BYTES as u64 * 2)
            .ok()
            .and_then(|bytes| serde_json::from_slice::<Stored>(&bytes).ok())
            .filter(|stored| stored.version == VERSION);
        let known = stored.map(|stored| stored.entries).unwrap_or_default();
        Self { path: Some(path), known, added: Mutex::new(BTreeMap::new()) }
    }

    /// The inspection of a candidate: the remembered one where nothing changed, else a new one.
    ///
    /// # Errors
    /// The candidate could not be looked at.
    pub fn inspect(&self, candidate: &Candidate, now_ns: i64) -> Result<Inspection> {
        if self.path.is_none() {
            return inspect::inspect(candidate);
        }
        let key = std::path::absolute(&candidate.path)
            .unwrap_or_else(|_| candidate.path.clone())
            .to_string_lossy()
            .into_owned();
        let before = fingerprint(candidate)?;
        if let Some(entry) = self.known.get(&key).filter(|entry| entry.fingerprint == before.text) {
            return Ok(entry.inspection.clone());
        }
        let inspection = inspect::inspect(candidate)?;
        let is_settled = before.changed_ns.saturating_add(SETTLE_NS) < now_ns;
        if is_settled && fingerprint(candidate)?.text == before.text {
            let entry = Entry { written_ns: now_ns, fingerprint: before.text, inspection: inspection.clone() };
            self.added.lock().unwrap_or_else(std::sync::PoisonError::into_inner).insert(key, entry);
        }
        Ok(inspection)
    }

    /// Writes what was added.
    ///
    /// # Errors
    /// The cache directory cannot be written to. Nothing is lost but time.
    pub fn save(mut self) -> Result<()> {
        let added = std::mem::take(&mut *self.added.lock().unwrap_or_else(std::sync::PoisonError::into_inner));
        let Some(path) = self.path.as_ref().filter(|_| !added.is_empty()) else { return Ok(()) };
        self.known.extend(added);
        let bytes = document(self.known)
            .map_err(|error| crate::Error::new(ckpt_core::ErrorKind::Internal, path, error.to_string()))?;
        let directory = inspect::parent(path);
        fs::create_directories(directory)?;
        atomic::clean(directory)?;
        atomic::replace_text(path, &bytes)
    }
}

/// The newest entries that fit, as [`Stored`] reads them.
fn document(entries: BTreeMap<String, Entry>) -> serde_json::Result<Vec<u8>> {
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
        if bytes.len() > BYTES {
            bytes.truncate(kept);
            break;
        }
        separator = ",";
    }
    bytes.extend(b"}}");
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
            let shards = index_shards(&fs::read(&candidate.path, limits::JSON_BYTES)?);
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
        let entries: BTreeMap<String, Entry> = (0..100).map(|time| (format!("{time}"), entry(time, 1000))).collect();
        let document = document(entries).unwrap();
        assert!(document.len() <= BYTES + 2);
        let kept = serde_json::from_slice::<Stored>(&document).unwrap().entries;
        assert!(kept.len() > 50 && kept.contains_key("99") && !kept.contains_key("0"), "{}", kept.len());
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
}
