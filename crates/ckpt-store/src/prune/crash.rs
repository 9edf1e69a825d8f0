//! The n-th file operation of a prune fails, for every n: what has its name is whole, what stays is untouched, and the next
//! prune takes the rest and what is left over.
#![allow(clippy::disallowed_methods, reason = "tests look at files")]

use std::path::Path;

use ckpt_core::location::Location;
use ckpt_core::progress::Silent;
use ckpt_core::prune::Retention;
use ckpt_core::verify::Expectations;
use rustix::io::Errno;

use super::{Pruned, Rules, apply, plan};
use crate::error::Result;
use crate::fs::fault::{self, Fault};
use crate::{Options, survey};

fn fixture(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures").join(name)
}

/// Three files and two directories, of which the newest stays each.
fn put(root: &Path) {
    for epoch in 1..=3 {
        let to = root.join(format!("checkpoint_{epoch:04}.pth"));
        std::fs::copy(fixture("torch/state_dict.pth"), to).unwrap();
    }
    for name in ["checkpoint-4", "checkpoint-8"] {
        let to = root.join("hf").join(name);
        std::fs::create_dir_all(&to).unwrap();
        for entry in std::fs::read_dir(fixture("hf/run").join(name)).unwrap() {
            let entry = entry.unwrap();
            std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    }
}

fn prune(root: &Path, fault: Option<(u64, Fault)>) -> (Result<Vec<Pruned>>, bool) {
    let found = survey(&[Location::Path(root.into())], &Expectations::default(), &Options::default(), &Silent).unwrap();
    let retention = Retention { keep_last: Some(1), ..Retention::default() };
    let prunings = plan(&found.verified, &Rules { retention: &retention, names: &[], now_ns: 0 }).unwrap();
    if let Some((count, fault)) = fault {
        fault::arm(count, fault);
    }
    let result = prunings.iter().map(apply).collect();
    (result, fault::disarm())
}

/// The names of what is there, of directories only the whole ones, and how many temporaries.
fn whole(root: &Path) -> (Vec<String>, usize) {
    let (mut names, mut temporaries) = (Vec::new(), 0);
    for directory in [root.to_owned(), root.join("hf")] {
        for entry in std::fs::read_dir(directory).unwrap() {
            let entry = entry.unwrap();
            let name = entry.file_name().into_string().unwrap();
            if name.starts_with('.') {
                temporaries += 1;
            } else if name.starts_with("checkpoint-") {
                for file in std::fs::read_dir(fixture("hf/run").join(&name)).unwrap() {
                    let file = file.unwrap();
                    let copy = std::fs::read(entry.path().join(file.file_name())).unwrap();
                    assert_eq!(copy, std::fs::read(file.path()).unwrap(), "{name}");
                }
                names.push(name);
            } else if name.ends_with(".pth") {
                let bytes = std::fs::read(entry.path()).unwrap();
                assert_eq!(bytes, std::fs::read(fixture("torch/state_dict.pth")).unwrap(), "{name}");
                names.push(name);
            }
        }
    }
    names.sort();
    (names, temporaries)
}

#[test]
fn whatever_operation_fails_nothing_is_half_deleted_under_its_name() {
    for fault in [Fault::Once(Errno::IO), Fault::FromThenOn(Errno::IO)] {
        for count in 0.. {
            let directory = tempfile::tempdir().unwrap();
            let root = directory.path();
            put(root);
            let (result, has_failed) = prune(root, Some((count, fault)));
            let context = format!("operation {count}, {fault:?}: {result:?}");
            let (names, _) = whole(root);
            for stays in ["checkpoint-8", "checkpoint_0003.pth"] {
                assert!(names.contains(&stays.to_owned()), "{context}: {names:?}");
            }
            let (again, _) = prune(root, None);
            assert!(again.unwrap().iter().all(|pruned| pruned.failed.is_empty()), "{context}");
            let (names, temporaries) = whole(root);
            assert_eq!(names, ["checkpoint-8", "checkpoint_0003.pth"], "{context}");
            // Where nothing was left to delete, nobody came by to clean.
            assert!(temporaries == 0 || matches!(fault, Fault::Once(_)), "{context}: {temporaries} left");
            if !has_failed {
                assert!(count > 10, "only {count} operations were counted");
                break;
            }
        }
    }
}
