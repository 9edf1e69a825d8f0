//! The index of past inspections, so that a second scan reads nothing that did not change.
//!
//! An entry is used only while path, size, times of modification and of change, and inode are what they were; for a
//! checkpoint of several files, those of every file. An entry whose file changed within two seconds of being inspected is
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
const VERSION: &str = concat!("ckpt-index-1-", env!("CARGO_PKG_VERSION"));
/// Most entries kept; the least recently written go first.
const ENTRIES: usize = 50_000;
/// Changes younger than this may still be followed by one that leaves the same times.
const SETTLE_NS: i64 = 2_000_000_000;

#[derive(Serialize, Deserialize)]
struct Entry {
    fingerprint: String,
    inspection: Inspection,
}

#[derive(Default, Serialize, Deserialize)]
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
        let stored = fs::read(&path, limits::JSON_BYTES * 4)
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
            let entry = Entry { fingerprint: before.text, inspection: inspection.clone() };
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
        let room = ENTRIES.saturating_sub(added.len());
        while self.known.len() > room {
            self.known.pop_first();
        }
        self.known.extend(added);
        let stored = Stored { version: VERSION.to_owned(), entries: self.known };
        let bytes = serde_json::to_vec(&stored)
            .map_err(|error| crate::Error::new(ckpt_core::ErrorKind::Internal, path, error.to_string()))?;
        fs::create_directories(inspect::parent(path))?;
        atomic::replace_text(path, &bytes)
    }
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
    let many = |statuses: &[(String, Status)]| {
        let mut hasher = blake3::Hasher::new();
        for (name, status) in statuses {
            hasher.update(format!("{name}\0{}\n", one(status)).as_bytes());
        }
        let changed_ns = statuses.iter().map(|(_, status)| status.changed_ns).max().unwrap_or(0);
        Fingerprint { text: hasher.finalize().to_hex().to_string(), changed_ns }
    };
    Ok(match candidate.shape {
        Shape::File => {
            let status = fs::status(&candidate.path)?;
            Fingerprint { text: one(&status), changed_ns: status.changed_ns }
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
