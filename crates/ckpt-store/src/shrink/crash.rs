//! The n-th file operation fails, for every n: whatever fails, the new file is whole or not there, what was there before is
//! lost only for a whole one, and the next call succeeds and leaves no temporary.
#![allow(clippy::disallowed_methods, reason = "tests prepare files and look at them")]

use std::path::{Path, PathBuf};

use ckpt_core::progress::Silent;
use rustix::io::Errno;

use super::{Options, Outcome, compact};
use crate::fs::fault::{self, Fault};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures").join(name)
}

/// Hundreds of calls wait for a disk hundreds of times; where there is memory to write to, they need not.
fn fast_directory() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

fn names(directory: &Path) -> Vec<String> {
    std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

/// Fails one operation after the other, until none is left to fail; returns how many there were.
fn every_operation(source: &str, name: &str, is_replaced: bool, fault: Fault) -> u64 {
    let from = fixture(source);
    let options = Options { force: is_replaced, ..Options::default() };
    let whole = {
        let directory = fast_directory();
        let to = directory.path().join(name);
        assert!(matches!(compact(&from, &to, &options, &Silent).unwrap(), Outcome::Written(_)));
        std::fs::read(to).unwrap()
    };
    for count in 0.. {
        let directory = fast_directory();
        let to = directory.path().join(name);
        if is_replaced {
            std::fs::write(&to, "old").unwrap();
        }
        fault::arm(count, fault);
        let result = compact(&from, &to, &options, &Silent);
        let has_failed = fault::disarm();
        let context = format!("{source} to {name}, operation {count}, {fault:?}: {result:?}");
        match std::fs::read(&to) {
            Ok(there) if is_replaced && there == b"old" => {
                assert!(result.is_err(), "{context}: success, and not replaced");
            }
            Ok(there) => assert!(there == whole, "{context}: a torn file"),
            Err(_) => assert!(result.is_err() && !is_replaced, "{context}: nothing there"),
        }
        if matches!(fault, Fault::Once(_)) && result.is_err() {
            // The one failure is over when what was written is deleted.
            let left = names(directory.path());
            assert!(left.iter().all(|left| left == name), "{context}: {left:?}");
        }
        let again = compact(&from, &to, &Options { force: true, ..Options::default() }, &Silent);
        assert!(matches!(again, Ok(Outcome::Written(_))), "{context}: {again:?}");
        assert_eq!(names(directory.path()), [name], "{context}: after the next call");
        assert!(std::fs::read(&to).unwrap() == whole, "{context}: after the next call");
        if !has_failed {
            assert!(result.is_ok(), "{context}");
            return count;
        }
    }
    unreachable!("a call has finitely many operations")
}

fn sweep(fault: Fault) {
    for name in ["small.pth", "small.safetensors"] {
        for is_replaced in [false, true] {
            let operations = every_operation("torch/full_resumable.pth", name, is_replaced, fault);
            assert!(operations > 6, "only {operations} operations were counted");
        }
    }
}

#[test]
fn whatever_operation_fails_once_the_new_file_is_whole_or_not_there() {
    sweep(Fault::Once(Errno::IO));
}

#[test]
fn whatever_write_finds_the_disk_full_the_new_file_is_whole_or_not_there() {
    sweep(Fault::Once(Errno::NOSPC));
}

#[test]
fn wherever_the_process_dies_the_new_file_is_whole_or_not_there() {
    sweep(Fault::FromThenOn(Errno::IO));
}
