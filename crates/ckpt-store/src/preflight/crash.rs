//! The n-th file operation fails, for every n: the probe tells it, never passes for a good place, and leaves nothing that the
//! next cleaning does not remove.
#![allow(clippy::disallowed_methods, reason = "tests prepare files and look at them")]

use std::path::Path;

use rustix::io::Errno;

use super::{Options, Outcome, Preflight, preflight};
use crate::atomic;
use crate::fs::fault::{self, Fault};

fn names(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

fn is_noticed(found: &Preflight) -> bool {
    // Memory is no place to keep checkpoints: that warning is there without any fault.
    found.checks.iter().any(|check| check.outcome != Outcome::Pass && check.name != "file_system")
}

/// Fails one operation after the other; returns how many there were.
fn every_operation(fault: Fault) -> u64 {
    for count in 0.. {
        let directory = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
        std::fs::write(directory.path().join("mine"), "mine").unwrap();
        fault::arm(count, fault);
        let found = preflight(directory.path(), &Options::default());
        let has_failed = fault::disarm();
        let context = format!("operation {count}, {fault:?}: {found:?}");
        // The last count of a death is one after which nothing was left to do.
        let is_sure = has_failed && matches!(fault, Fault::Once(_));
        assert!(!is_sure || is_noticed(&found), "{context}: not noticed");
        atomic::clean(directory.path()).unwrap();
        assert_eq!(names(directory.path()), ["mine"], "{context}");
        if !has_failed {
            assert!(!is_noticed(&found), "{context}");
            return count;
        }
    }
    unreachable!("a probe has finitely many operations")
}

#[test]
fn whatever_fails_once_is_noticed_and_nothing_is_left() {
    assert!(every_operation(Fault::Once(Errno::IO)) > 20);
}

#[test]
fn wherever_the_process_dies_the_next_cleaning_removes_what_is_left() {
    assert!(every_operation(Fault::FromThenOn(Errno::IO)) > 20);
}

#[test]
fn a_full_disk_is_told_as_such() {
    for count in 0..40 {
        let directory = tempfile::tempdir().unwrap();
        fault::arm(count, Fault::FromThenOn(Errno::NOSPC));
        let found = preflight(directory.path(), &Options::default());
        fault::disarm();
        let write = found.checks.iter().find(|check| check.name == "write");
        if let Some(write) = write.filter(|check| check.outcome != Outcome::Pass) {
            assert_eq!(found.failure(), Some(ckpt_core::ErrorKind::NoSpace), "{write:?}");
        }
    }
}

#[test]
fn a_file_system_that_lacks_what_can_be_done_without_is_warned_about() {
    let directory = tempfile::tempdir().unwrap();
    fault::forget_rename_flags(true);
    let found = preflight(directory.path(), &Options::default());
    fault::forget_rename_flags(false);
    assert_eq!(found.failure(), None);
    let outcome = |name: &str| found.checks.iter().find(|check| check.name == name).unwrap().outcome;
    assert_eq!((outcome("rename_new"), outcome("exchange")), (Outcome::Warn, Outcome::Warn));
}
