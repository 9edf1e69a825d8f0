//! Fetch brings a whole checkpoint to where training may write, and loses nothing that is there.
#![allow(clippy::disallowed_methods, clippy::unwrap_used, reason = "tests prepare files")]

mod common;

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use ckpt_core::ErrorKind;
use ckpt_core::candidate::Shape;
use ckpt_core::inspect::DirectoryKind;
use ckpt_core::progress::{Progress, Silent, Unit};
use ckpt_core::verify::{Expectations, Verified};
use ckpt_store::fetch::{Fetched, Options, fetch};
use ckpt_store::fs::DirectoryMembers;
use ckpt_store::{Result, atomic, inspect};
use common::{Mounted, allow, by_nobody, fixture, names, newer, older, put, read_only, tree, writable};

/// A place for a source and one to copy to.
struct Places {
    directory: tempfile::TempDir,
}

impl Places {
    fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap() }
    }

    fn source(&self, name: &str) -> PathBuf {
        self.directory.path().join("input").join(name)
    }

    fn to(&self) -> PathBuf {
        self.directory.path().join("working/checkpoints")
    }

    /// Fetches a copy of `from` that is called `name`.
    fn fetch(&self, from: &Path, name: &str) -> Result<Fetched> {
        let source = self.source(name);
        if !source.exists() {
            put(from, &source);
        }
        fetch(&read_only(&source), &self.to(), &Options::default(), &Silent)
    }
}

const FORCE: Options = Options { always_copy: false, force: true };

#[test]
fn a_copy_is_equal_byte_for_byte_and_nothing_else_is_left() {
    let places = Places::new();
    let fetched = places.fetch(&newer(), "x.pth").unwrap();
    assert_eq!(fetched.path, places.to().join("x.pth"));
    assert!(fetched.is_copied && fetched.set_aside.is_none());
    assert_eq!(tree(&fetched.path), tree(&newer()));
    assert_eq!(names(&places.to()), ["x.pth"]);
}

#[test]
fn what_training_may_write_stays_where_it_is() {
    let places = Places::new();
    let source = put(&newer(), &places.source("x.pth"));
    let fetched = fetch(&writable(&source), &places.to(), &Options::default(), &Silent).unwrap();
    assert_eq!((fetched.path, fetched.is_copied), (source.clone(), false));
    assert!(!places.to().exists());
    let always = Options { always_copy: true, force: false };
    let fetched = fetch(&writable(&source), &places.to(), &always, &Silent).unwrap();
    assert_eq!((fetched.path, fetched.is_copied), (places.to().join("x.pth"), true));
    let here = fetch(&writable(&source), source.parent().unwrap(), &always, &Silent).unwrap();
    assert_eq!((here.path, here.is_copied), (source, false));
}

#[test]
fn what_lies_on_a_read_only_mount_is_copied_wherever_it_was_found() {
    let places = Places::new();
    let Some(mount) = Mounted::new(places.directory.path().join("input"), "size=8m") else { return };
    let (file, whole) = (put(&newer(), &places.source("x.pth")), places.source("checkpoint-8"));
    put(&fixture("hf/run/checkpoint-8"), &whole);
    let link = places.directory.path().join("best.pth");
    symlink(&file, &link).unwrap();
    let chosen = [&file, &whole, &link].map(|path| writable(path));
    assert!(!fetch(&chosen[0], &places.to(), &Options::default(), &Silent).unwrap().is_copied);
    mount.make_read_only();
    for chosen in chosen {
        let fetched = fetch(&chosen, &places.to(), &Options::default(), &Silent).unwrap();
        assert!(fetched.is_copied, "{}", chosen.candidate.path.display());
        assert_eq!(tree(&fetched.path), tree(&chosen.candidate.path));
    }
}

#[test]
fn what_lies_where_this_user_may_not_write_is_copied() {
    const HERE: &str = "CKPT_TEST_UNWRITABLE";
    if let Some((_, root)) = std::env::vars().find(|(name, _)| name == HERE) {
        let root = PathBuf::from(root);
        let fetched = |name: &str| {
            fetch(&writable(&root.join(name)), &root.join("to"), &Options::default(), &Silent).unwrap().is_copied
        };
        assert!(fetched("input/x.pth"));
        assert!(!fetched("mine/y.pth"), "a file that is read-only in a directory that is not");
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    put(&newer(), &path("input/x.pth"));
    allow(&put(&older(), &path("mine/y.pth")), 0o444);
    std::fs::create_dir(path("to")).unwrap();
    for (name, mode) in [("", 0o755), ("input", 0o555), ("mine", 0o777), ("to", 0o777)] {
        allow(&path(name), mode);
    }
    by_nobody("what_lies_where_this_user_may_not_write_is_copied", HERE, directory.path());
    allow(&path("input"), 0o755);
}

#[test]
fn a_link_to_a_directory_outside_a_checkpoint_is_not_followed_and_what_is_missing_is_said() {
    let places = Places::new();
    let whole = put(&fixture("hf/run/checkpoint-8"), &places.source("checkpoint-8"));
    std::fs::create_dir_all(places.directory.path().join("private")).unwrap();
    std::fs::write(places.directory.path().join("private/key"), "secret").unwrap();
    symlink("../../private", whole.join("more")).unwrap();
    let members = DirectoryMembers::open(&whole).unwrap();
    assert!(members.statuses().iter().all(|(name, _)| !name.starts_with("more")));
    assert!(members.problem().unwrap().contains("`more`"));
    let error = places.fetch(&whole, "checkpoint-8").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Incomplete);
    assert!(error.to_string().contains("`more` in it is a link out of it"), "{error}");
    assert!(!places.to().exists());
}

#[test]
fn links_within_a_checkpoint_and_to_files_elsewhere_are_copied_as_what_they_stand_for() {
    let places = Places::new();
    let whole = put(&fixture("hf/run/checkpoint-8"), &places.source("checkpoint-8"));
    let expected = tree(&whole);
    let blob = places.directory.path().join("blob");
    std::fs::rename(whole.join("model.safetensors"), &blob).unwrap();
    symlink(&blob, whole.join("model.safetensors")).unwrap();
    std::fs::create_dir(whole.join("within")).unwrap();
    symlink("within", whole.join("again")).unwrap();
    // The way to the checkpoint is itself a link.
    let link = places.directory.path().join("checkpoint-9");
    symlink(&whole, &link).unwrap();
    let fetched = fetch(&read_only(&link), &places.to(), &Options::default(), &Silent).unwrap();
    assert_eq!(tree(&fetched.path), expected);
    assert!(std::fs::symlink_metadata(fetched.path.join("model.safetensors")).unwrap().is_file());
}

#[test]
fn a_newer_file_is_never_overwritten_and_with_force_it_is_kept_aside() {
    let places = Places::new();
    let target = put(&newer(), &places.to().join("x.pth"));
    let error = places.fetch(&older(), "x.pth").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused);
    assert_eq!(tree(&target), tree(&newer()));
    assert_eq!(names(&places.to()), ["x.pth"]);

    let fetched = fetch(&read_only(&places.source("x.pth")), &places.to(), &FORCE, &Silent).unwrap();
    let aside = fetched.set_aside.unwrap();
    assert_eq!(tree(&target), tree(&older()));
    assert_eq!(tree(&aside), tree(&newer()));
    assert_eq!(names(&places.to()), ["x.pth", "x.pth.set-aside-1"]);
}

#[test]
fn names_that_are_taken_aside_are_not_taken_again() {
    let places = Places::new();
    put(&newer(), &places.to().join("x.pth"));
    std::fs::write(places.to().join("x.pth.set-aside-1"), "kept").unwrap();
    symlink("nowhere", places.to().join("x.pth.set-aside-2")).unwrap();
    put(&older(), &places.source("x.pth"));
    let fetched = fetch(&read_only(&places.source("x.pth")), &places.to(), &FORCE, &Silent).unwrap();
    assert_eq!(fetched.set_aside, Some(places.to().join("x.pth.set-aside-3")));
    assert_eq!(std::fs::read(places.to().join("x.pth.set-aside-1")).unwrap(), b"kept");
}

#[test]
fn an_older_file_is_replaced() {
    let places = Places::new();
    put(&older(), &places.to().join("x.pth"));
    let fetched = places.fetch(&newer(), "x.pth").unwrap();
    assert_eq!(fetched.set_aside, None);
    assert_eq!(tree(&fetched.path), tree(&newer()));
    assert_eq!(names(&places.to()), ["x.pth"]);
}

#[test]
fn the_same_bytes_are_not_copied_again() {
    for (from, name) in [
        (newer(), "x.pth"),
        (fixture("hf/run/checkpoint-8"), "checkpoint-8"),
        (fixture("torch/unpacked_double.pth"), "x.pth"),
    ] {
        let places = Places::new();
        let first = places.fetch(&from, name).unwrap();
        let before = std::fs::metadata(&first.path).unwrap().modified().unwrap();
        let second = places.fetch(&from, name).unwrap();
        assert_eq!((second.path, second.is_copied), (first.path.clone(), false), "{name}");
        assert_eq!(std::fs::metadata(&first.path).unwrap().modified().unwrap(), before);
        assert_eq!(names(&places.to()), [name]);
    }
}

#[test]
fn a_damaged_file_is_kept_aside() {
    let places = Places::new();
    let damaged = fixture("broken/trunc_in_data.pth");
    put(&damaged, &places.to().join("x.pth"));
    let fetched = places.fetch(&newer(), "x.pth").unwrap();
    assert_eq!(tree(&fetched.set_aside.unwrap()), tree(&damaged));
    assert_eq!(tree(&fetched.path), tree(&newer()));
}

#[test]
fn what_is_damaged_or_dangerous_is_not_copied() {
    for (path, kind) in [
        ("hostile/os_system.pth", ErrorKind::Refused),
        ("broken/trunc_in_data.pth", ErrorKind::Corrupt),
        ("other/html_page.pth", ErrorKind::Corrupt),
        ("safetensors/sharded_missing/model.safetensors.index.json", ErrorKind::Corrupt),
    ] {
        let places = Places::new();
        let error = fetch(&read_only(&fixture(path)), &places.to(), &FORCE, &Silent).unwrap_err();
        assert_eq!(error.kind(), kind, "{path}: {error}");
        assert!(!places.to().exists());
    }
    let places = Places::new();
    let mut allowed = read_only(&fixture("hostile/os_system.pth"));
    let expected = Expectations { allow_unsafe: true, ..Expectations::default() };
    allowed = Verified::new(allowed.candidate, allowed.inspection, None, &expected);
    assert!(fetch(&allowed, &places.to(), &Options::default(), &Silent).unwrap().is_copied);
}

#[test]
fn directories_are_copied_whole_and_a_packed_one_is_valid() {
    for (from, name) in [(fixture("hf/run/checkpoint-8"), "checkpoint-8"), (fixture("dcp/step-100"), "step-100")] {
        let places = Places::new();
        let fetched = places.fetch(&from, name).unwrap();
        assert_eq!(tree(&fetched.path), tree(&from));
        assert_eq!(names(&places.to()), [name]);
    }
    let places = Places::new();
    let fetched = places.fetch(&fixture("torch/unpacked_stripped.pth"), "x.pth").unwrap();
    let packed = writable(&fetched.path);
    assert_eq!(packed.candidate.shape, Shape::File);
    assert!(packed.verdict.is_valid, "{:?}", packed.verdict);
    assert_eq!(packed.inspection.epoch, writable(&fixture("torch/unpacked_stripped.pth")).inspection.epoch);
}

#[test]
fn an_index_takes_its_shards_along_and_nothing_else() {
    let places = Places::new();
    put(&fixture("safetensors/sharded"), &places.source(""));
    put(&newer(), &places.source("unrelated.pth"));
    put(&fixture("safetensors/no_metadata.safetensors"), &places.source("model-00009-of-00009.safetensors"));
    let source = places.source("model.safetensors.index.json");
    let fetched = fetch(&read_only(&source), &places.to(), &Options::default(), &Silent).unwrap();
    assert_eq!(fetched.path, places.to().join("model/model.safetensors.index.json"));
    assert_eq!(tree(&places.to().join("model")), tree(&fixture("safetensors/sharded")));
}

#[test]
fn an_unpacked_directory_where_training_writes_is_packed_beside_itself_once() {
    let places = Places::new();
    let source = put(&fixture("torch/unpacked_dotfiles.pth"), &places.to().join("x.pth"));
    let chosen = writable(&source);
    assert_eq!(chosen.candidate.shape, Shape::Directory(DirectoryKind::Unpacked));
    let fetched = fetch(&chosen, &places.to(), &Options::default(), &Silent).unwrap();
    assert_eq!((fetched.path.clone(), fetched.is_copied), (places.to().join("x.packed.pth"), true));
    let again = fetch(&chosen, &places.to(), &Options::default(), &Silent).unwrap();
    assert_eq!((again.path, again.is_copied), (fetched.path, false));
    assert_eq!(names(&places.to()), ["x.packed.pth", "x.pth"]);
    assert_eq!(tree(&source), tree(&fixture("torch/unpacked_dotfiles.pth")));
}

#[test]
fn a_directory_is_never_deleted_and_one_that_is_no_checkpoint_not_even_renamed() {
    let places = Places::new();
    put(&fixture("torch/unpacked_dotfiles.pth"), &places.to().join("x.pth"));
    std::fs::write(places.to().join("x.pth/notes.txt"), "mine").unwrap();
    // Epoch 50 against the directory's 7: older, and still not ours to delete.
    let fetched = places.fetch(&newer(), "x.pth").unwrap();
    assert_eq!(std::fs::read(fetched.set_aside.unwrap().join("notes.txt")).unwrap(), b"mine");
    assert_eq!(tree(&fetched.path), tree(&newer()));

    let places = Places::new();
    std::fs::create_dir_all(places.to().join("x.pth")).unwrap();
    std::fs::write(places.to().join("x.pth/train.py"), "mine").unwrap();
    let error = places.fetch(&newer(), "x.pth").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused);
    assert_eq!(names(&places.to().join("x.pth")), ["train.py"]);
    let fetched = fetch(&read_only(&places.source("x.pth")), &places.to(), &FORCE, &Silent).unwrap();
    assert_eq!(names(&fetched.set_aside.unwrap()), ["train.py"]);
}

#[test]
fn links_and_pipes_at_the_target_neither_stop_nor_lose_anything() {
    let places = Places::new();
    std::fs::create_dir_all(places.to()).unwrap();
    symlink("nowhere", places.to().join("x.pth")).unwrap();
    let fetched = places.fetch(&newer(), "x.pth").unwrap();
    assert_eq!(std::fs::read_link(fetched.set_aside.unwrap()).unwrap(), Path::new("nowhere"));
    assert_eq!(tree(&fetched.path), tree(&newer()));

    // A link to an older one: the link goes, the file that it named stays.
    let places = Places::new();
    let elsewhere = put(&older(), &places.directory.path().join("elsewhere.pth"));
    std::fs::create_dir_all(places.to()).unwrap();
    symlink(&elsewhere, places.to().join("x.pth")).unwrap();
    let fetched = places.fetch(&newer(), "x.pth").unwrap();
    assert!(std::fs::symlink_metadata(&fetched.path).unwrap().is_file());
    assert_eq!(tree(&elsewhere), tree(&older()));

    let places = Places::new();
    std::fs::create_dir_all(places.to()).unwrap();
    let pipe = places.to().join("x.pth");
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    assert_eq!(places.fetch(&newer(), "x.pth").unwrap_err().kind(), ErrorKind::Refused);
}

#[test]
fn a_source_that_was_written_after_it_was_judged_is_not_copied() {
    let places = Places::new();
    let source = put(&newer(), &places.source("x.pth"));
    let chosen = read_only(&source);
    put(&older(), &source);
    let error = fetch(&chosen, &places.to(), &Options::default(), &Silent).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);

    let source = put(&fixture("hf/run/checkpoint-8"), &places.source("checkpoint-8"));
    let chosen = read_only(&source);
    std::fs::write(source.join("more.bin"), "1").unwrap();
    let error = fetch(&chosen, &places.to(), &Options::default(), &Silent).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert!(!places.to().exists());
}

/// Does something when the copying ends, before the commit.
struct Meddling<F: Fn() + Sync>(F);

impl<F: Fn() + Sync> Progress for Meddling<F> {
    fn begin(&self, _what: &str, _total: u64, _unit: Unit) {}
    fn advance(&self, _count: u64) {}
    fn end(&self) {
        (self.0)();
    }
}

#[test]
fn a_file_that_training_saves_while_an_older_one_is_replaced_is_not_lost() {
    let places = Places::new();
    // Epoch 7 lies there, 10 is to replace it, and meanwhile 50 is saved.
    let target = put(&fixture("torch/zip_default.pth"), &places.to().join("x.pth"));
    let source = put(&older(), &places.source("x.pth"));
    let meddling = Meddling(|| drop(put(&newer(), &target)));
    let result = fetch(&read_only(&source), &places.to(), &Options::default(), &meddling);
    assert_eq!(result.unwrap_err().kind(), ErrorKind::Refused);
    assert_eq!(tree(&target), tree(&newer()));
    assert_eq!(names(&places.to()), ["x.pth"]);
}

#[test]
fn a_source_that_changes_while_it_is_copied_gives_no_copy() {
    let places = Places::new();
    let source = put(&newer(), &places.source("x.pth"));
    let meddling = Meddling(|| drop(put(&older(), &source)));
    let error = fetch(&read_only(&source), &places.to(), &Options::default(), &meddling).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert!(names(&places.to()).is_empty());
}

#[test]
fn fetches_of_one_checkpoint_at_once_leave_one_whole_file_and_all_succeed() {
    for (from, name) in [(newer(), "x.pth"), (fixture("hf/run/checkpoint-8"), "checkpoint-8")] {
        let places = Places::new();
        let source = put(&from, &places.source(name));
        let chosen = read_only(&source);
        let copied: usize = std::thread::scope(|scope| {
            let one = || fetch(&chosen, &places.to(), &Options::default(), &Silent).unwrap();
            let all: Vec<_> = (0..8).map(|_| scope.spawn(one)).collect();
            all.into_iter().map(|thread| usize::from(thread.join().unwrap().is_copied)).sum()
        });
        assert_eq!(copied, 1, "{name}");
        assert_eq!(tree(&places.to().join(name)), tree(&from));
        assert_eq!(names(&places.to()), [name]);
    }
}

#[test]
fn a_path_that_ends_in_dots_is_copied_under_its_own_name() {
    let places = Places::new();
    let source = put(&fixture("hf/run/checkpoint-8"), &places.source("checkpoint-8"));
    std::fs::create_dir(source.join("below")).unwrap();
    let fetched = fetch(&read_only(&source.join("below/..")), &places.to(), &Options::default(), &Silent).unwrap();
    assert_eq!(fetched.path, places.to().join("checkpoint-8"));
    assert_eq!(names(&places.to()), ["checkpoint-8"]);
}

#[test]
fn a_directory_to_copy_to_that_is_a_file_is_an_error_and_stays() {
    let places = Places::new();
    put(&older(), &places.to());
    assert!(places.fetch(&newer(), "x.pth").is_err());
    assert_eq!(tree(&places.to()), tree(&older()));
}

#[test]
fn leftovers_go_only_when_their_writers_are_dead() {
    let places = Places::new();
    std::fs::create_dir_all(places.to()).unwrap();
    let alive = atomic::Temporary::file(&places.to().join("x.pth")).unwrap();
    let alive_directory = atomic::Temporary::directory(&places.to().join("y")).unwrap();
    // Of a dead process, and of one whose number another process has now.
    for number in [i32::MAX, i32::try_from(std::process::id()).unwrap()] {
        std::fs::write(places.to().join(format!(".x.pth.ckpt-tmp-{number}-9-1")), "left").unwrap();
        std::fs::create_dir(places.to().join(format!(".y.ckpt-tmp-{number}-9-1"))).unwrap();
    }
    symlink("/", places.to().join(".z.ckpt-tmp-1-1-1")).unwrap();
    std::fs::write(places.to().join("mine.ckpt-tmp-1-1-1"), "no dot, not ours").unwrap();
    assert_eq!(atomic::clean(&places.to()).unwrap(), 4);
    assert!(alive.path().exists() && alive_directory.path().exists());
    drop((alive, alive_directory));
    assert_eq!(names(&places.to()), [".z.ckpt-tmp-1-1-1", "mine.ckpt-tmp-1-1-1"]);
}

#[test]
fn a_directory_of_which_a_part_cannot_be_read_is_not_copied_in_part() {
    let places = Places::new();
    let source = put(&fixture("hf/run/checkpoint-8"), &places.source("checkpoint-8"));
    let mut deep = source.clone();
    for level in 0..10 {
        deep = deep.join(level.to_string());
    }
    put(&newer(), &deep.join("x.pth"));
    let error = fetch(&read_only(&source), &places.to(), &Options::default(), &Silent).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Incomplete);
    assert!(inspect::inspect(&inspect::candidate(&source).unwrap()).is_ok(), "what can be read is still told");
}
