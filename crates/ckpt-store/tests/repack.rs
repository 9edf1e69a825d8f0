//! Packing again what was unpacked: valid for us and for torch.load, never over anything.
#![allow(clippy::disallowed_methods, clippy::unwrap_used, reason = "tests prepare files")]

mod common;

use std::path::{Path, PathBuf};
use std::process::Command;

use ckpt_core::ErrorKind;
use ckpt_core::format::zip;
use ckpt_core::progress::Silent;
use ckpt_store::fs::FileReader;
use ckpt_store::repack::repack;
use ckpt_store::verify;
use common::{fixture, names, put, python, tree, writable};

const UNPACKED: [&str; 3] = ["unpacked_dotfiles.pth", "unpacked_stripped.pth", "unpacked_double.pth"];

fn packed(name: &str) -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("again.pth");
    repack(&fixture("torch").join(name), &path, &Silent).unwrap();
    assert_eq!(names(directory.path()), ["again.pth"]);
    (directory, path)
}

#[test]
fn what_was_packed_is_valid_to_the_last_byte_and_says_what_the_directory_said() {
    for name in UNPACKED {
        let (_directory, path) = packed(name);
        let (file, directory) = (writable(&path), writable(&fixture("torch").join(name)));
        assert!(file.verdict.is_valid && file.verdict.findings.is_empty(), "{name}: {:?}", file.verdict);
        assert_eq!(verify::deep(&file.candidate).unwrap(), [], "{name}");
        let (file, directory) = (file.inspection, directory.inspection);
        assert_eq!((file.epoch, file.metrics, file.keys), (directory.epoch, directory.metrics, directory.keys));
        assert_eq!((file.tensors, file.parts), (directory.tensors, directory.parts), "{name}");
    }
}

#[test]
fn every_members_bytes_begin_at_a_multiple_of_64_as_mmap_needs() {
    for name in UNPACKED {
        let (_directory, path) = packed(name);
        let file = FileReader::open(&path).unwrap();
        let archive = zip::open(&file).unwrap().unwrap();
        assert!(archive.entries.len() > 5);
        for entry in &archive.entries {
            let header = zip::local_header(&file, entry.header_offset).unwrap().unwrap();
            assert_eq!(header.data_offset % 64, 0, "{}", entry.name);
        }
        assert!(archive.get("again/version").is_some() && &*archive.entries[0].name == "again/data.pkl");
    }
}

#[test]
fn torch_loads_what_was_packed_mapped_and_weights_only_and_equal() {
    let Some(python) = python() else { return };
    const CHECK: &str = "
import sys, torch
def same(a, b):
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b
want = torch.load(sys.argv[1], weights_only=True)
for mmap in (False, True):
    assert same(want, torch.load(sys.argv[2], weights_only=True, mmap=mmap)), mmap
print('equal')
";
    for name in UNPACKED {
        let (_directory, path) = packed(name);
        let original = fixture("torch/zip_default.pth");
        let output = Command::new(&python).args(["-c", CHECK]).arg(&original).arg(&path).output().unwrap();
        assert_eq!(output.stdout, b"equal\n", "{name}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

fn refusal(from: &Path) -> ErrorKind {
    let directory = tempfile::tempdir().unwrap();
    let error = repack(from, &directory.path().join("x.pth"), &Silent).unwrap_err();
    assert!(names(directory.path()).is_empty());
    error.kind()
}

#[test]
fn what_is_incomplete_or_dangerous_or_no_archive_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let incomplete = put(&fixture("torch/unpacked_dotfiles.pth"), &directory.path().join("incomplete"));
    let storage = tree(&incomplete).into_keys().find(|name| name.ends_with("data/0")).unwrap();
    std::fs::remove_file(incomplete.join(storage).components().collect::<PathBuf>()).unwrap();
    assert_eq!(refusal(&incomplete), ErrorKind::Incomplete);

    let hostile = directory.path().join("hostile");
    std::fs::create_dir(&hostile).unwrap();
    std::fs::write(hostile.join("data.pkl"), b"cos\nsystem\n(S'touch /tmp/ckpt-was-executed'\ntR.").unwrap();
    std::fs::write(hostile.join("version"), "3\n").unwrap();
    assert_eq!(refusal(&hostile), ErrorKind::Refused);

    let nothing = directory.path().join("nothing");
    std::fs::create_dir(&nothing).unwrap();
    assert_eq!(refusal(&nothing), ErrorKind::Incomplete);
    assert_eq!(refusal(&directory.path().join("gone")), ErrorKind::NotFound);
    assert_eq!(refusal(&fixture("torch/zip_default.pth")), ErrorKind::NotFound);
}

#[test]
fn nothing_that_exists_is_overwritten() {
    let directory = tempfile::tempdir().unwrap();
    let from = fixture("torch/unpacked_dotfiles.pth");
    let (file, link, whole) =
        (directory.path().join("x.pth"), directory.path().join("y.pth"), directory.path().join("z.pth"));
    std::fs::write(&file, "mine").unwrap();
    std::os::unix::fs::symlink("nowhere", &link).unwrap();
    std::fs::create_dir(&whole).unwrap();
    for to in [&file, &link, &whole] {
        assert_eq!(repack(&from, to, &Silent).unwrap_err().kind(), ErrorKind::AlreadyExists, "{}", to.display());
    }
    assert_eq!(std::fs::read(&file).unwrap(), b"mine");
    assert_eq!(names(directory.path()), ["x.pth", "y.pth", "z.pth"]);
    assert_eq!(repack(&from, &directory.path().join("no/x.pth"), &Silent).unwrap_err().kind(), ErrorKind::NotFound);
}

#[test]
fn files_beside_the_archives_folder_do_not_go_in() {
    let directory = tempfile::tempdir().unwrap();
    let from = put(&fixture("torch/unpacked_double.pth"), &directory.path().join("x"));
    std::fs::write(from.join("README.md"), "notes").unwrap();
    repack(&from, &directory.path().join("x.pth"), &Silent).unwrap();
    let file = FileReader::open(&directory.path().join("x.pth")).unwrap();
    let archive = zip::open(&file).unwrap().unwrap();
    assert!(archive.entries.iter().all(|entry| !entry.name.contains("README")));
}
