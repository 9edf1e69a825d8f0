//! Which histories are found and read.
#![allow(clippy::disallowed_methods, clippy::unwrap_used, reason = "tests prepare files")]

use std::os::unix::fs::symlink;

use ckpt_core::ErrorKind;
use ckpt_core::location::Location;
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
