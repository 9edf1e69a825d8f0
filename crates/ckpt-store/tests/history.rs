//! Which histories are found and read.
#![allow(clippy::disallowed_methods, clippy::unwrap_used, reason = "tests prepare files")]

mod common;

use std::os::unix::fs::symlink;

use ckpt_core::ErrorKind;
use ckpt_core::digest::Digest;
use ckpt_core::ids::Step;
use ckpt_core::location::Location;
use ckpt_core::manifest::Pointer;
use ckpt_core::select::NamePattern;
use ckpt_store::history;

#[test]
fn a_history_that_is_too_large_to_be_parsed_is_refused_unread() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("history.json");
    std::fs::File::create(&path).unwrap().set_len((32 << 20) + 1).unwrap();
    let error = history::read(&path).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.to_string().contains("larger than"), "{error}");
}

#[test]
fn no_history_is_taken_from_above_the_location() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    for name in ["run", "other", "data"] {
        std::fs::create_dir(path(name)).unwrap();
        std::fs::write(path(name).join("history.json"), "[]").unwrap();
    }
    symlink("..", path("run/up")).unwrap();
    symlink("../data", path("run/data")).unwrap();
    let names: Vec<NamePattern> = history::NAMES.iter().map(|name| name.parse().unwrap()).collect();
    let found = history::find(&[Location::Path(path("run"))], &names, 5);
    let found: Vec<_> = found.into_iter().map(|found| found.path).collect();
    assert_eq!(found, [path("run/history.json"), path("run/data/history.json")]);
}

#[test]
fn the_history_in_a_checkpoint_of_ours_is_found_once_and_read() {
    let directory = tempfile::tempdir().unwrap();
    let saved = common::save(directory.path(), 7, 1);
    symlink("step-00000007", directory.path().join("latest")).unwrap();
    let names: Vec<NamePattern> = history::NAMES.iter().map(|name| name.parse().unwrap()).collect();
    let found = history::find(&[Location::Path(directory.path().to_owned())], &names, 5);
    let found: Vec<_> = found.into_iter().map(|found| found.path).collect();
    assert_eq!(found, [saved.join("trainer_state.json")]);
    let read = history::read(&found[0]).unwrap();
    assert_eq!(read.records().len(), 1);
}

#[test]
fn the_history_of_the_latest_checkpoint_counts_before_those_of_others() {
    let directory = tempfile::tempdir().unwrap();
    for (step, sequence) in [(800, 1), (1200, 2), (900, 3)] {
        common::save(directory.path(), step, sequence);
    }
    let checkpoint = "step-00000900".to_owned();
    let manifest = Digest::of(b"any");
    let pointer = Pointer { checkpoint, step: Step(900), sequence: 3, manifest, metric: None };
    std::fs::write(directory.path().join("latest.json"), pointer.to_bytes()).unwrap();
    let found =
        history::find(&[Location::Path(directory.path().to_owned())], &["trainer_state.json".parse().unwrap()], 5);
    let found: Vec<_> = found
        .iter()
        .map(|found| found.path.parent().unwrap().file_name().unwrap().to_string_lossy().into_owned())
        .collect();
    assert_eq!(found, ["step-00000900", "step-00000800", "step-00001200"]);
}
