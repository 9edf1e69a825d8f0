//! Fixtures for the tests of this crate, which itself touches no file system.
#![allow(clippy::disallowed_methods, dead_code, reason = "tests read files; each test uses its own part of this")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use ckpt_core::finding::{Code, Severity};
use ckpt_core::inspect::{self, Inspection};
use ckpt_core::members::Members;
use ckpt_core::read::ReadAt;

/// The folder of the fixtures.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures")
}

/// The bytes of one fixture.
pub(crate) fn bytes(path: &str) -> Vec<u8> {
    fs::read(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The last component of a path.
pub(crate) fn name(path: &str) -> &str {
    path.rsplit('/').next().unwrap()
}

/// What inspect says about bytes.
pub(crate) fn inspect(name: &str, bytes: &[u8]) -> Inspection {
    inspect::file(name, &bytes).unwrap()
}

/// What inspect says about a fixture that is a file.
pub(crate) fn inspect_file(path: &str) -> Inspection {
    inspect(name(path), &bytes(path))
}

/// What inspect says about a fixture that is a directory, of the kind it is recognised as.
pub(crate) fn inspect_directory(path: &str) -> Inspection {
    let members = FsMembers::new(&root().join(path));
    let kind = inspect::recognise(name(path), &members.files_at_top(), &members.directories_at_top()).unwrap();
    inspect::directory(name(path), kind, &members).unwrap()
}

/// Codes of the findings that make it unusable.
pub(crate) fn errors(inspection: &Inspection) -> Vec<Code> {
    let errors = inspection.findings.iter().filter(|finding| finding.severity == Severity::Error);
    errors.map(|finding| finding.code).collect()
}

/// The value of a metric.
pub(crate) fn metric(inspection: &Inspection, name: &str) -> Option<f64> {
    inspection.metrics.iter().find(|metric| metric.name == name).map(|metric| metric.value)
}

/// Every file below the fixtures' folder `path`, relative to it, sorted.
pub(crate) fn files_below(path: &str) -> Vec<String> {
    FsMembers::new(&root().join(path)).list().keys().cloned().collect()
}

/// A directory, read whole when it is opened.
pub(crate) struct FsMembers {
    root: PathBuf,
    sizes: BTreeMap<String, u64>,
}

impl FsMembers {
    /// The files below `root`.
    pub(crate) fn new(root: &Path) -> Self {
        let mut sizes = BTreeMap::new();
        let mut pending = vec![root.to_owned()];
        while let Some(folder) = pending.pop() {
            for entry in fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    pending.push(path);
                } else {
                    let relative = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
                    sizes.insert(relative, fs::metadata(&path).unwrap().len());
                }
            }
        }
        Self { root: root.to_owned(), sizes }
    }

    fn files_at_top(&self) -> BTreeSet<String> {
        self.sizes.keys().filter(|name| !name.contains('/')).cloned().collect()
    }

    fn directories_at_top(&self) -> BTreeSet<String> {
        self.sizes.keys().filter_map(|name| name.split_once('/')).map(|(top, _)| top.to_owned()).collect()
    }
}

struct Bytes(Vec<u8>);

impl ReadAt for Bytes {
    fn size(&self) -> u64 {
        self.0.len() as u64
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.as_slice().read_at(offset, buffer)
    }
}

impl Members for FsMembers {
    fn list(&self) -> &BTreeMap<String, u64> {
        &self.sizes
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn ReadAt + '_>> {
        Ok(Box::new(Bytes(fs::read(self.root.join(name))?)))
    }
}
