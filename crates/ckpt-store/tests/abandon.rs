//! What a process that is told to end does with its temporaries. They are the whole process's, so this is a process of its
//! own with one test.
#![allow(clippy::disallowed_methods, clippy::unwrap_used, reason = "tests prepare files")]

mod common;

use ckpt_core::ErrorKind;
use ckpt_core::progress::{Progress, Unit};
use ckpt_store::atomic::{Replacing, Temporary, abandon_all};
use ckpt_store::fetch::{Options, fetch};
use common::{fixture, names, newer, older, put, read_only, tree};

/// Abandons everything when the copying ends, before the commit.
struct Signalled;

impl Progress for Signalled {
    fn begin(&self, _what: &str, _total: u64, _unit: Unit) {}
    fn advance(&self, _count: u64) {}
    fn end(&self) {
        assert_eq!(abandon_all(), 1);
    }
}

#[test]
fn only_what_has_no_name_yet_is_deleted_and_the_target_stays_as_it_was() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    assert_eq!(abandon_all(), 0);
    let committed = Temporary::file(&path("done")).unwrap();
    committed.commit(&Replacing::Nothing).unwrap();
    let file = Temporary::file(&path("file")).unwrap();
    let whole = Temporary::directory(&path("whole")).unwrap();
    put(&fixture("hf/run/checkpoint-8"), &whole.path().join("below"));
    drop(Temporary::file(&path("dropped")).unwrap());
    assert!(Temporary::file(&path("nowhere/x")).is_err());
    assert_eq!(abandon_all(), 2);
    assert_eq!(names(directory.path()), ["done"]);
    assert_eq!(file.commit(&Replacing::Nothing).unwrap_err().kind(), ErrorKind::NotFound);
    drop(whole);
    assert_eq!(abandon_all(), 0);

    let (source, to) = (put(&newer(), &path("input/x.pth")), path("to"));
    put(&older(), &to.join("x.pth"));
    assert!(fetch(&read_only(&source), &to, &Options::default(), &Signalled).is_err());
    assert_eq!(tree(&to.join("x.pth")), tree(&older()));
    assert_eq!(names(&to), ["x.pth"]);
}
