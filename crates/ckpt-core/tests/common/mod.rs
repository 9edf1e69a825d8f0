//! Fixtures for the tests of this crate, which itself touches no file system.
#![allow(clippy::disallowed_methods, dead_code, reason = "tests read files; each test uses its own part of this")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use ckpt_core::digest::Digest;
use ckpt_core::finding::{Code, Severity};
use ckpt_core::format::dtype::Dtype;
use ckpt_core::format::safetensors::write::{Entry, plan};
use ckpt_core::ids::{Epoch, Step};
use ckpt_core::inspect::{self, Inspection};
use ckpt_core::layout::Class;
use ckpt_core::manifest::{File, Manifest, Recorded};
use ckpt_core::members::{Members, MemoryMembers};
use ckpt_core::metric::Direction;
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

/// A safetensors file of one tensor of four floats.
pub(crate) fn safetensors(name: &str) -> Vec<u8> {
    let float = Dtype::of_torch("float32");
    let plan = plan(&[Entry { name, dtype: &float, shape: &[4] }], &BTreeMap::new()).unwrap();
    let mut bytes = plan.header;
    bytes.extend([1.0_f32, 2.0, 3.0, 4.0].iter().flat_map(|value| value.to_le_bytes()));
    bytes
}

/// The manifest of step 1200 that names these files.
pub(crate) fn manifest(files: &BTreeMap<String, Vec<u8>>) -> Manifest {
    let describe = |bytes: &Vec<u8>| File { bytes: u64::try_from(bytes.len()).unwrap(), blake3: Digest::of(bytes) };
    Manifest {
        run_id: "run".to_owned(),
        session_id: "session".to_owned(),
        sequence: 7,
        step: Step(1200),
        epoch: Epoch::new(3.0),
        class: Class::Resumable,
        world_size: 1,
        metrics: BTreeMap::from([
            ("accuracy".to_owned(), Recorded { value: 0.5, direction: Some(Direction::Max) }),
            ("loss".to_owned(), Recorded { value: f64::NAN, direction: None }),
        ]),
        parent: None,
        created_ns: 1_700_000_000_000_000_000,
        files: files.iter().map(|(name, bytes)| (name.clone(), describe(bytes))).collect(),
    }
}

/// The files of a checkpoint as this project saves it, the manifest aside.
pub(crate) fn saved_files() -> BTreeMap<String, Vec<u8>> {
    let state = br#"{"rng": {"torch": [1]}, "loader": null, "history": [{"epoch": 3, "loss": 0.5}]}"#;
    BTreeMap::from([
        ("model.safetensors".to_owned(), safetensors("weight")),
        ("optimizer.safetensors".to_owned(), safetensors("weight.exp_avg")),
        ("trainer_state.json".to_owned(), state.to_vec()),
    ])
}

/// These files with their manifest.
pub(crate) fn saved(files: &BTreeMap<String, Vec<u8>>) -> MemoryMembers {
    let mut members = MemoryMembers::default();
    members.insert("manifest.json", manifest(files).to_bytes());
    for (name, bytes) in files {
        members.insert(name, bytes.clone());
    }
    members
}
