//! Whether a run could save, at good and at bad places.
#![allow(clippy::disallowed_methods, clippy::unwrap_used, clippy::print_stdout, reason = "tests prepare files")]

mod common;

use std::path::Path;

use ckpt_core::ErrorKind;
use ckpt_store::atomic::{self, Temporary};
use ckpt_store::preflight::{Options, Outcome, Preflight, preflight};
use common::{Mounted, names};

fn of(directory: &Path) -> Preflight {
    preflight(directory, &Options::default())
}

fn outcome(found: &Preflight, name: &str) -> Outcome {
    found.checks.iter().find(|check| check.name == name).unwrap_or_else(|| panic!("{name}: {found:?}")).outcome
}

#[test]
fn a_good_place_passes_and_nothing_is_left() {
    let directory = tempfile::tempdir().unwrap();
    let found = of(directory.path());
    assert_eq!(found.failure(), None, "{found:?}");
    let checked: Vec<&str> = found.checks.iter().map(|check| check.name).collect();
    assert_eq!(
        checked,
        [
            "exists",
            "is_directory",
            "file_system",
            "free_bytes",
            "free_inodes",
            "leftovers",
            "writable",
            "create",
            "write",
            "sync",
            "read",
            "clock",
            "rename_over",
            "rename_new",
            "exchange",
            "symlink",
            "lock",
            "directory_sync",
            "clean"
        ]
    );
    assert!(names(directory.path()).is_empty());
}

#[test]
fn a_place_that_is_not_there_is_made_only_when_asked() {
    let directory = tempfile::tempdir().unwrap();
    let below = directory.path().join("run/checkpoints");
    assert_eq!(of(&below).failure(), Some(ErrorKind::NotFound));
    assert!(names(directory.path()).is_empty());
    let found = preflight(&below, &Options { create: true, bytes: None });
    assert_eq!(found.failure(), None, "{found:?}");
    assert!(names(&below).is_empty());
}

#[test]
fn a_file_is_no_place() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    std::fs::write(&file, "mine").unwrap();
    assert_eq!(of(&file).failure(), Some(ErrorKind::Invalid));
    assert_eq!(std::fs::read(&file).unwrap(), b"mine");
}

#[test]
fn there_must_be_room_for_the_old_one_and_the_new_one() {
    let directory = tempfile::tempdir().unwrap();
    let Some(small) = Mounted::new(directory.path().join("small"), "size=8m") else { return };
    let asked = |bytes| preflight(&small.0, &Options { create: false, bytes: Some(bytes) });
    assert_eq!(asked(3 << 20).failure(), None);
    assert_eq!(asked(5 << 20).failure(), Some(ErrorKind::NoSpace));
    assert_eq!(asked(u64::MAX).failure(), Some(ErrorKind::NoSpace));
    assert_eq!(outcome(&of(&small.0), "file_system"), Outcome::Warn);
}

#[test]
fn a_full_place_fails_for_want_of_space() {
    let directory = tempfile::tempdir().unwrap();
    let Some(small) = Mounted::new(directory.path().join("small"), "size=64k") else { return };
    // Until not one page is left.
    let filler = small.0.join("filler");
    assert!(std::fs::write(&filler, vec![1; 1 << 20]).is_err());
    assert_eq!(of(&small.0).failure(), Some(ErrorKind::NoSpace));
    assert_eq!(names(&small.0), ["filler"]);
}

#[test]
fn a_place_without_names_left_fails_for_want_of_space() {
    let directory = tempfile::tempdir().unwrap();
    let Some(small) = Mounted::new(directory.path().join("small"), "size=16m,nr_inodes=3") else { return };
    let found = of(&small.0);
    assert_eq!(found.failure(), Some(ErrorKind::NoSpace), "{found:?}");
    assert!(matches!(outcome(&found, "free_inodes"), Outcome::Fail(_)));
    assert!(names(&small.0).is_empty());
}

#[test]
fn a_read_only_mount_fails() {
    let directory = tempfile::tempdir().unwrap();
    let Some(small) = Mounted::new(directory.path().join("small"), "size=1m") else { return };
    small.make_read_only();
    let found = of(&small.0);
    assert_eq!(found.failure(), Some(ErrorKind::Denied));
    assert!(matches!(outcome(&found, "writable"), Outcome::Fail(_)));
}

#[test]
fn temporaries_of_others_are_told_and_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let working = Temporary::file(&directory.path().join("x")).unwrap();
    std::fs::write(directory.path().join(".y.ckpt-tmp-1-2-3"), "").unwrap();
    let found = of(directory.path());
    assert_eq!((found.failure(), outcome(&found, "leftovers")), (None, Outcome::Warn));
    assert_eq!(names(directory.path()).len(), 2);
    drop(working);
    atomic::clean(directory.path()).unwrap();
    assert_eq!(outcome(&of(directory.path()), "leftovers"), Outcome::Pass);
}
