//! Files and judgements for the tests of this crate.
#![allow(
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::unwrap_used,
    dead_code,
    reason = "tests prepare files and say what they skip; each uses its own part of this"
)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use ckpt_core::digest::Digest;
use ckpt_core::format::dtype::Dtype;
use ckpt_core::format::safetensors::write::{Entry, plan};
use ckpt_core::ids::Step;
use ckpt_core::layout::Class;
use ckpt_core::manifest::{File, Manifest, directory_name};
use ckpt_core::verify::{Expectations, Verified};
use ckpt_store::inspect;

/// Below the repository's root.
pub(crate) fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path)
}

/// A file or folder that a real library wrote.
pub(crate) fn fixture(path: &str) -> PathBuf {
    repository("tests/fixtures").join(path)
}

/// The example tree of Kaggle's shape.
pub(crate) fn kaggle() -> PathBuf {
    repository("examples/data/kaggle")
}

/// A checkpoint of epoch 50 and one of epoch 10 of the same training.
pub(crate) fn newer() -> PathBuf {
    kaggle().join("input/datasets/minh/hmolqd-run2/checkpoints/checkpoint_0050.pth")
}

/// See [`newer`].
pub(crate) fn older() -> PathBuf {
    kaggle().join("working/checkpoints/checkpoint_0010.pth")
}

/// Every file below a path: relative name → bytes; one file is under the empty name.
pub(crate) fn tree(path: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    if path.is_dir() {
        for entry in std::fs::read_dir(path).unwrap() {
            let name = PathBuf::from(entry.unwrap().file_name());
            files.extend(tree(&path.join(&name)).into_iter().map(|(below, bytes)| (name.join(below), bytes)));
        }
    } else {
        files.insert(PathBuf::new(), std::fs::read(path).unwrap());
    }
    files
}

/// Copies a file or a folder to the new path `to`.
pub(crate) fn put(from: &Path, to: &Path) -> PathBuf {
    for (name, bytes) in tree(from) {
        let path: PathBuf = to.join(name).components().collect();
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }
    to.to_owned()
}

/// The checkpoint at a path, as a scan of a read-only place would give it.
pub(crate) fn read_only(path: &Path) -> Verified {
    let mut verified = writable(path);
    verified.candidate.source.is_read_only = true;
    verified
}

/// The checkpoint at a path.
pub(crate) fn writable(path: &Path) -> Verified {
    let candidate = inspect::candidate(path).unwrap();
    let inspection = inspect::inspect(&candidate).unwrap();
    Verified::new(candidate, inspection, None, &Expectations::default())
}

/// The names in a directory, sorted.
pub(crate) fn names(directory: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

/// A Python that has torch; `None` is printed.
pub(crate) fn python() -> Option<String> {
    let asked = std::env::vars().find(|(name, _)| name == "CKPT_PYTHON").map(|(_, value)| value);
    let candidates = asked.into_iter().chain(["python3".to_owned()]);
    let found = candidates.into_iter().find(|python| {
        Command::new(python).args(["-c", "import torch"]).output().is_ok_and(|output| output.status.success())
    });
    if found.is_none() {
        println!("SKIPPED: no Python with torch; set CKPT_PYTHON");
    }
    found
}

/// A small file system in memory.
pub(crate) struct Mounted(pub(crate) PathBuf);

impl Mounted {
    pub(crate) fn new(path: PathBuf, options: &str) -> Option<Self> {
        std::fs::create_dir_all(&path).unwrap();
        let done = Command::new("mount").args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(&path).output();
        if done.is_ok_and(|output| output.status.success()) {
            return Some(Self(path));
        }
        println!("SKIPPED: no file system can be mounted here");
        None
    }

    pub(crate) fn make_read_only(&self) {
        let done = Command::new("mount").args(["-o", "remount,ro"]).arg(&self.0).output().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        assert!(Command::new("umount").arg(&self.0).status().is_ok_and(|status| status.success()));
    }
}

/// Sets the permission bits of a path.
pub(crate) fn allow(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
}

/// Runs one test of this executable again, with `variable` naming `directory`: by nobody, where root runs the tests,
/// because permission bits do not bind root.
pub(crate) fn by_nobody(test: &str, variable: &str, directory: &Path) {
    use std::os::unix::process::CommandExt;
    // Nobody may not reach the directory of the test's own executable.
    let executable = directory.join("test");
    std::fs::copy(std::env::current_exe().unwrap(), &executable).unwrap();
    allow(&executable, 0o755);
    let mut child = Command::new(&executable);
    child.args(["--exact", test]).env(variable, directory);
    if rustix::process::geteuid().is_root() {
        child.uid(65_534).gid(65_534);
    }
    let output = child.current_dir("/").output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
}

/// A safetensors file of one tensor of four floats.
pub(crate) fn safetensors(name: &str) -> Vec<u8> {
    let float = Dtype::of_torch("float32");
    let plan = plan(&[Entry { name, dtype: &float, shape: &[4] }], &BTreeMap::new()).unwrap();
    let mut bytes = plan.header;
    bytes.extend([1.0_f32, 2.0, 3.0, 4.0].iter().flat_map(|value| value.to_le_bytes()));
    bytes
}

/// Saves a checkpoint as this project does: `step-NNNNNNNN` below `root`, one commit of the run `run`.
pub(crate) fn save(root: &Path, step: u64, sequence: u64) -> PathBuf {
    let files = BTreeMap::from([
        ("model.safetensors".to_owned(), safetensors("weight")),
        ("optimizer.safetensors".to_owned(), safetensors("weight.exp_avg")),
        ("trainer_state.json".to_owned(), format!(r#"{{"history": [{{"step": {step}, "loss": 0.5}}]}}"#).into_bytes()),
    ]);
    let manifest = Manifest {
        run_id: "run".to_owned(),
        session_id: "session".to_owned(),
        sequence,
        step: Step(step),
        epoch: None,
        class: Class::Resumable,
        world_size: 1,
        metrics: BTreeMap::new(),
        parent: None,
        created_ns: 1_700_000_000_000_000_000,
        files: files
            .iter()
            .map(|(name, bytes)| (name.clone(), File { bytes: bytes.len() as u64, blake3: Digest::of(bytes) }))
            .collect(),
    };
    let directory = root.join(directory_name(Step(step)));
    std::fs::create_dir_all(&directory).unwrap();
    for (name, bytes) in &files {
        std::fs::write(directory.join(name), bytes).unwrap();
    }
    std::fs::write(directory.join("manifest.json"), manifest.to_bytes()).unwrap();
    directory
}
