//! The n-th file operation fails, for every n: whatever fails, the target is the old or the new one and whole, nothing
//! that was there is lost, and the next fetch succeeds and leaves no temporary.
#![allow(clippy::disallowed_methods, reason = "tests prepare files and look at them")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use ckpt_core::progress::Silent;
use ckpt_core::verify::{Expectations, Verified};
use rustix::io::Errno;

use super::{Options, fetch};
use crate::fs::fault::{self, Fault};
use crate::inspect;

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

const NEW: &str = "examples/data/kaggle/input/datasets/minh/hmolqd-run2/checkpoints/checkpoint_0050.pth";
const OLD: &str = "examples/data/kaggle/working/checkpoints/checkpoint_0010.pth";
const DAMAGED: &str = "tests/fixtures/broken/trunc_in_data.pth";
const DIRECTORY: &str = "tests/fixtures/hf/run/checkpoint-8";
const UNFINISHED: &str = "tests/fixtures/hf/run_killed/checkpoint-12";
const UNPACKED: &str = "tests/fixtures/torch/unpacked_dotfiles.pth";

/// Every file below a path: relative name → bytes; one file is under the empty name.
type Tree = BTreeMap<PathBuf, Vec<u8>>;

fn tree(path: &Path) -> Tree {
    let mut tree = Tree::new();
    if path.is_dir() {
        for entry in std::fs::read_dir(path).unwrap() {
            let name = PathBuf::from(entry.unwrap().file_name());
            for (below, bytes) in self::tree(&path.join(&name)) {
                tree.insert(name.join(below), bytes);
            }
        }
    } else if path.exists() {
        tree.insert(PathBuf::new(), std::fs::read(path).unwrap());
    }
    tree
}

fn put(from: &str, to: &Path) {
    for (name, bytes) in tree(&repository().join(from)) {
        let path: PathBuf = to.join(name).components().collect();
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }
}

fn verified(path: &Path) -> Verified {
    let mut candidate = inspect::candidate(path).unwrap();
    candidate.source.is_read_only = true;
    let inspection = inspect::inspect(&candidate).unwrap();
    Verified::new(candidate, inspection, None, &Expectations::default())
}

/// Hundreds of fetches wait for a disk hundreds of times; where there is memory to write to, they need not.
fn fast_directory() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

struct Case {
    source: &'static str,
    /// What is at the target before.
    before: Option<&'static str>,
    /// Whether it is older, and so may go.
    may_go: bool,
}

/// Fails one operation after the other, until none is left to fail; returns how many there were.
fn every_operation(case: &Case, fault: Fault, has_flags: bool) -> u64 {
    for count in 0.. {
        let directory = fast_directory();
        // What a directory is goes by its name, too.
        let name = if case.source == DIRECTORY { "checkpoint-8" } else { "x.pth" };
        let (source, to) = (directory.path().join("source").join(name), directory.path().join("to/below"));
        let target = to.join(name);
        put(case.source, &source);
        if let Some(before) = case.before {
            put(before, &target);
        }
        let (sources, old) = (tree(&source), tree(&target));
        let chosen = verified(&source);
        fault::forget_rename_flags(!has_flags);
        fault::arm(count, fault);
        let result = fetch(&chosen, &to, &Options::default(), &Silent);
        let has_failed = fault::disarm();
        let context = format!("{} over {:?}, operation {count}, {fault:?}: {result:?}", case.source, case.before);

        assert_eq!(tree(&source), sources, "{context}: the source");
        let there = tree(&target);
        let is_new = there != old;
        if result.is_ok() {
            assert!(is_new, "{context}: success, and nothing there");
        }
        // Without an exchange of names, there is a moment when the old one has been moved away; who lives moves it back.
        let is_between = !has_flags && matches!(fault, Fault::FromThenOn(_)) && there.is_empty();
        if is_new && !is_between {
            assert_eq!(there, expected(case, &sources, &there), "{context}: a torn target");
        }
        if case.before.is_some() && !case.may_go && is_new {
            let kept = std::fs::read_dir(&to).unwrap().map(|entry| tree(&entry.unwrap().path()));
            assert!(kept.into_iter().any(|kept| kept == old), "{context}: what was there is lost");
        }

        let again =
            fetch(&chosen, &to, &Options::default(), &Silent).unwrap_or_else(|error| panic!("{context}: {error}"));
        fault::forget_rename_flags(false);
        assert_eq!(again.path, target);
        let there = tree(&target);
        assert_eq!(there, expected(case, &sources, &there), "{context}: after the next fetch");
        for entry in std::fs::read_dir(&to).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            assert!(!name.contains(".ckpt-tmp-"), "{context}: `{name}` is left");
        }
        if !has_failed {
            assert!(result.is_ok(), "{context}");
            return count;
        }
    }
    unreachable!("a fetch has finitely many operations")
}

/// What a whole new target holds. A packed one holds its members' bytes in another form.
fn expected(case: &Case, sources: &Tree, there: &Tree) -> Tree {
    if case.source != UNPACKED {
        return sources.clone();
    }
    let packed = &there[Path::new("")];
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("x.pth");
    std::fs::write(&path, packed).unwrap();
    let members = crate::fs::DirectoryMembers::open(&repository().join(UNPACKED)).unwrap();
    let files: Vec<(String, PathBuf)> =
        members.statuses().iter().map(|(name, _)| (name.clone(), repository().join(UNPACKED).join(name))).collect();
    let reader = crate::fs::FileReader::open(&path).unwrap();
    assert!(crate::repack::is_packed(&files, &path, &reader).unwrap(), "a torn archive");
    there.clone()
}

const CASES: [Case; 6] = [
    Case { source: NEW, before: None, may_go: false },
    Case { source: NEW, before: Some(OLD), may_go: true },
    Case { source: NEW, before: Some(DAMAGED), may_go: false },
    Case { source: DIRECTORY, before: None, may_go: false },
    Case { source: DIRECTORY, before: Some(UNFINISHED), may_go: false },
    Case { source: UNPACKED, before: Some(DAMAGED), may_go: false },
];

fn sweep(fault: Fault, flags: &[bool]) {
    for case in &CASES {
        for &has_flags in flags {
            let operations = every_operation(case, fault, has_flags);
            assert!(operations > 8, "only {operations} operations were counted");
        }
    }
}

#[test]
fn whatever_operation_fails_once_nothing_is_lost_and_nothing_torn() {
    sweep(Fault::Once(Errno::IO), &[true, false]);
}

#[test]
fn whatever_write_finds_the_disk_full_nothing_is_lost_and_nothing_torn() {
    sweep(Fault::Once(Errno::NOSPC), &[true]);
}

#[test]
fn wherever_the_process_dies_nothing_is_lost_and_nothing_torn() {
    sweep(Fault::FromThenOn(Errno::IO), &[true, false]);
}
