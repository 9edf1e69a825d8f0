//! A place of somebody else. The test starts a copy of itself, which fails while another test of the same process starts
//! something: so this is a process of its own with one test.
#![allow(clippy::disallowed_methods, clippy::unwrap_used, reason = "tests prepare files")]

mod common;

use std::path::Path;

use ckpt_core::ErrorKind;
use ckpt_store::preflight::{Options, preflight};
use common::{allow, by_nobody};

const DENIED: &str = "CKPT_TEST_PREFLIGHT_DENIED";

#[test]
fn a_directory_of_somebody_else_fails() {
    if let Some((_, directory)) = std::env::vars().find(|(name, _)| name == DENIED) {
        assert_eq!(
            preflight(&Path::new(&directory).join("closed"), &Options::default()).failure(),
            Some(ErrorKind::Denied)
        );
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    allow(directory.path(), 0o755);
    let closed = directory.path().join("closed");
    std::fs::create_dir(&closed).unwrap();
    allow(&closed, 0o555);
    by_nobody("a_directory_of_somebody_else_fails", DENIED, directory.path());
}
