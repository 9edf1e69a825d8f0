//! What a scan finds, and what it says about what it could not look at.
#![allow(clippy::disallowed_methods, clippy::unwrap_used, reason = "tests prepare files")]

mod common;

use std::collections::{BTreeMap, HashSet};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::thread::ThreadId;

use ckpt_core::candidate::{Shape, SourceKind};
use ckpt_core::inspect::DirectoryKind;
use ckpt_core::location::Location;
use ckpt_core::progress::{Progress, Silent, Unit};
use ckpt_core::verify::Expectations;
use ckpt_store::scan::{DEFAULT_DEPTH, Scan, scan};
use ckpt_store::{Options, survey};
use common::{allow, by_nobody, fixture, kaggle, names, newer, older, put};

fn scan_path(path: &Path) -> Scan {
    scan(&[Location::Path(path.to_owned())], DEFAULT_DEPTH)
}

/// Names of the candidates below `root`, relative to it, in the order of the scan.
fn found(scan: &Scan, root: &Path) -> Vec<String> {
    let relative = |path: &Path| path.strip_prefix(root).unwrap().to_string_lossy().into_owned();
    scan.candidates.iter().map(|candidate| relative(&candidate.path)).collect()
}

fn problem<'a>(scan: &'a Scan, path: &Path) -> Option<(bool, &'a str)> {
    let place = scan.places.iter().find(|place| place.path == path)?;
    Some((place.is_readable, place.problem.as_deref()?))
}

#[test]
fn kaggles_mounts_old_and_new_are_found_with_their_kinds_working_first() {
    let scan = scan(&[Location::Kaggle(kaggle())], DEFAULT_DEPTH);
    let kinds: BTreeMap<String, SourceKind> = found(&scan, &kaggle())
        .into_iter()
        .zip(scan.candidates.iter().map(|candidate| candidate.source.kind))
        .collect();
    let expected = [
        ("working/checkpoints/checkpoint_0010.pth", SourceKind::Working),
        ("working/checkpoints/vqvae_pretrained.pth", SourceKind::Working),
        ("input/datasets/mallory/free-weights/vqvae_pretrained.pth", SourceKind::DirectFiles),
        ("input/datasets/minh/hmolqd-run2/checkpoints/checkpoint_0050.pth", SourceKind::InputDatasets),
        ("input/datasets/minh/hmolqd-run2/checkpoints/checkpoint_0055.pth", SourceKind::InputDatasets),
        ("input/datasets/minh/hmolqd-run2/checkpoints/vqvae_pretrained.pth", SourceKind::InputDatasets),
        ("input/datasets/minh/unpacked/vqvae_old.pth", SourceKind::DirectFiles),
        ("input/flat-upload/model_best.pth", SourceKind::DirectFiles),
        ("input/hmolqd/checkpoints/corrupted_checkpoint.pth", SourceKind::InputDatasets),
        ("input/hmolqd/checkpoints/vqvae_pretrained.pth", SourceKind::InputDatasets),
        ("input/notebooks/user123/hmolqd-training/checkpoints/final_model.pth", SourceKind::NotebookOutputs),
        ("input/notebooks/user123/hmolqd-training/vqvae_pretrained.pth", SourceKind::NotebookOutputs),
    ];
    assert_eq!(kinds, expected.into_iter().map(|(path, kind)| (path.to_owned(), kind)).collect());
    assert_eq!(scan.candidates[0].source.kind, SourceKind::Working);
    for candidate in &scan.candidates {
        assert_eq!(candidate.source.is_read_only, candidate.source.kind != SourceKind::Working);
    }
    assert!(scan.places.iter().all(|place| place.is_readable && place.problem.is_none()));
}

#[test]
fn a_place_that_is_not_there_or_no_directory_is_a_row_and_the_scan_goes_on() {
    let directory = tempfile::tempdir().unwrap();
    let (gone, pipe, through) =
        (directory.path().join("gone"), directory.path().join("pipe"), directory.path().join("x.pth/below"));
    let file = put(&newer(), &directory.path().join("x.pth"));
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    let locations = [&gone, &pipe, &through, &file].map(|path| Location::Path(path.clone()));
    let scan = scan(&locations, DEFAULT_DEPTH);
    assert_eq!(problem(&scan, &gone), Some((false, "does not exist")));
    assert!(matches!(problem(&scan, &pipe), Some((false, _))));
    assert!(matches!(problem(&scan, &through), Some((false, _))));
    assert_eq!(found(&scan, directory.path()), ["x.pth"]);
}

/// Permission bits do not bind root, so that the scan is made by a process of nobody.
#[test]
fn an_unreadable_directory_is_a_row_and_the_scan_goes_on() {
    const HERE: &str = "CKPT_TEST_UNREADABLE";
    let here = std::env::vars().find(|(name, _)| name == HERE).map(|(_, path)| PathBuf::from(path));
    if let Some(root) = here {
        let scan = scan_path(&root);
        assert_eq!(found(&scan, &root), ["a/x.pth", "c/x.pth"]);
        let (is_readable, why) = problem(&scan, &root.join("b")).unwrap();
        assert!(!is_readable && why.contains("ermission"), "{why}");
        assert_eq!(scan.places.iter().filter(|place| !place.is_readable).count(), 1);
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    for name in ["a", "b", "c"] {
        put(&newer(), &directory.path().join(name).join("x.pth"));
    }
    allow(directory.path(), 0o755);
    allow(&directory.path().join("b"), 0o000);
    by_nobody("an_unreadable_directory_is_a_row_and_the_scan_goes_on", HERE, directory.path());
    allow(&directory.path().join("b"), 0o755);
}

#[test]
fn a_link_to_nowhere_is_a_row() {
    let directory = tempfile::tempdir().unwrap();
    put(&newer(), &directory.path().join("x.pth"));
    symlink("nowhere", directory.path().join("best.pth")).unwrap();
    symlink("nowhere", directory.path().join("notes.txt")).unwrap();
    let scan = scan_path(directory.path());
    assert_eq!(problem(&scan, &directory.path().join("best.pth")), Some((false, "a link to nowhere")));
    assert_eq!(found(&scan, directory.path()), ["x.pth"]);
    assert_eq!(scan.places.len(), 2);
}

#[test]
fn links_in_circles_end() {
    let directory = tempfile::tempdir().unwrap();
    put(&newer(), &directory.path().join("a/b/x.pth"));
    symlink("..", directory.path().join("a/up")).unwrap();
    symlink(directory.path(), directory.path().join("a/b/top")).unwrap();
    symlink("self", directory.path().join("self")).unwrap();
    symlink("self.pth", directory.path().join("self.pth")).unwrap();
    let scan = scan_path(directory.path());
    assert_eq!(found(&scan, directory.path()), ["a/b/x.pth"]);
    assert!(scan.candidates[0].aliases.is_empty());
}

#[test]
fn a_link_to_above_the_location_is_a_row_and_one_to_elsewhere_is_followed() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    put(&newer(), &path("runs/1/x.pth"));
    put(&older(), &path("private/y.pth"));
    put(&fixture("torch/zip_default.pth"), &path("data/z.pth"));
    symlink("../..", path("runs/1/up")).unwrap();
    symlink("/", path("runs/1/all")).unwrap();
    symlink("/proc/self", path("runs/1/self")).unwrap();
    symlink("../../data", path("runs/1/data")).unwrap();
    let scan = scan_path(&path("runs"));
    assert_eq!(found(&scan, directory.path()), ["runs/1/x.pth", "runs/1/data/z.pth"]);
    for name in ["up", "all", "self"] {
        let place = scan.places.iter().find(|place| place.path == path("runs/1").join(name)).unwrap();
        assert!(place.is_readable && place.is_partial && place.problem.is_some(), "{name}");
    }
}

#[test]
fn at_most_four_candidates_are_inspected_at_the_same_time() {
    struct Threads(Mutex<HashSet<ThreadId>>);
    impl Progress for Threads {
        fn begin(&self, _what: &str, _total: u64, _unit: Unit) {}
        fn advance(&self, _count: u64) {
            self.0.lock().unwrap().insert(std::thread::current().id());
        }
        fn end(&self) {}
    }
    let directory = tempfile::tempdir().unwrap();
    for number in 0..200 {
        put(&newer(), &directory.path().join(format!("{number}.pth")));
    }
    let locations = [Location::Path(directory.path().to_owned())];
    let threads = Threads(Mutex::default());
    let pool = rayon::ThreadPoolBuilder::new().num_threads(16).build().unwrap();
    let survey = pool.install(|| survey(&locations, &Expectations::default(), &Options::default(), &threads)).unwrap();
    assert_eq!(survey.verified.len(), 200);
    assert!((1..=4).contains(&threads.0.lock().unwrap().len()));
}

#[test]
fn a_fifo_that_is_named_like_a_checkpoint_stops_nobody() {
    let directory = tempfile::tempdir().unwrap();
    put(&newer(), &directory.path().join("y.pth"));
    let pipe = directory.path().join("x.pth");
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    assert_eq!(found(&scan_path(directory.path()), directory.path()), ["y.pth"]);
    assert!(ckpt_store::fs::FileReader::open(&pipe).is_err());
}

#[test]
fn a_file_of_several_names_is_found_once_with_the_others_as_aliases() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    put(&newer(), &path("b.pth"));
    std::fs::hard_link(path("b.pth"), path("c.pth")).unwrap();
    std::fs::create_dir(path("below")).unwrap();
    std::fs::hard_link(path("b.pth"), path("below/d.pth")).unwrap();
    // A link that sorts first is still not the file's own name.
    symlink("b.pth", path("a.pth")).unwrap();
    let scan = scan_path(directory.path());
    assert_eq!(found(&scan, directory.path()), ["b.pth"]);
    assert_eq!(scan.candidates[0].aliases, [path("c.pth"), path("below/d.pth"), path("a.pth")]);
}

#[test]
fn what_a_link_in_working_leads_to_keeps_the_name_and_the_kind_of_where_it_lies() {
    let directory = tempfile::tempdir().unwrap();
    let input = put(&newer(), &directory.path().join("input/run/checkpoints/x.pth"));
    std::fs::create_dir_all(directory.path().join("working")).unwrap();
    symlink(input.parent().unwrap(), directory.path().join("working/checkpoints")).unwrap();
    symlink(&input, directory.path().join("working/best.pth")).unwrap();
    let scan = scan(&[Location::Kaggle(directory.path().to_owned())], DEFAULT_DEPTH);
    assert_eq!(found(&scan, directory.path()), ["input/run/checkpoints/x.pth"]);
    assert!(scan.candidates[0].source.is_read_only);
    assert_eq!(scan.candidates[0].aliases, [directory.path().join("working/best.pth")]);
}

#[test]
fn shards_belong_to_their_index() {
    let directory = tempfile::tempdir().unwrap();
    put(&fixture("safetensors/sharded"), directory.path());
    put(&newer(), &directory.path().join("x.pth"));
    let scan = scan_path(directory.path());
    assert_eq!(found(&scan, directory.path()), ["model.safetensors.index.json", "x.pth"]);
    assert_eq!(scan.candidates[0].shape, Shape::Index);
}

#[test]
fn a_directory_that_is_one_checkpoint_is_one_candidate() {
    for (path, kind) in [
        ("hf/run/checkpoint-8", DirectoryKind::HfTrainer),
        ("accelerate/checkpoints/checkpoint_0", DirectoryKind::Accelerate),
        ("dcp/step-100", DirectoryKind::Dcp),
        ("torch/unpacked_dotfiles.pth", DirectoryKind::Unpacked),
        ("torch/unpacked_stripped.pth", DirectoryKind::Unpacked),
        ("torch/unpacked_double.pth", DirectoryKind::Unpacked),
    ] {
        let directory = tempfile::tempdir().unwrap();
        let name = path.rsplit('/').next().unwrap();
        put(&fixture(path), &directory.path().join("run").join(name));
        let scan = scan_path(directory.path());
        assert_eq!(found(&scan, directory.path()), [format!("run/{name}")], "{path}");
        assert_eq!(scan.candidates[0].shape, Shape::Directory(kind), "{path}");
    }
}

#[test]
fn the_state_that_a_trainer_leaves_beside_its_checkpoints_does_not_hide_them() {
    let directory = tempfile::tempdir().unwrap();
    let run = put(&fixture("hf/run"), &directory.path().join("run"));
    // What `trainer.save_model()` and `trainer.save_state()` leave at the end.
    for name in ["trainer_state.json", "model.safetensors"] {
        put(&fixture("hf/run/checkpoint-8").join(name), &run.join(name));
    }
    let found = found(&scan_path(directory.path()), directory.path());
    assert_eq!(found, ["run/model.safetensors", "run/checkpoint-4", "run/checkpoint-8"]);
}

#[test]
fn everyday_extensions_are_dropped_unless_they_hold_a_checkpoint() {
    let directory = tempfile::tempdir().unwrap();
    put(&fixture("torch/state_dict.pth"), &directory.path().join("pytorch_model.bin"));
    put(&fixture("torch/state_dict.pth"), &directory.path().join("model.pkl"));
    std::fs::write(directory.path().join("firmware.bin"), [7; 4000]).unwrap();
    std::fs::write(directory.path().join("data.npz"), b"PK\x05\x06").unwrap();
    std::fs::write(directory.path().join("broken.pth"), [7; 4000]).unwrap();
    let locations = [Location::Path(directory.path().to_owned())];
    let survey = survey(&locations, &Expectations::default(), &Options::default(), &Silent).unwrap();
    let mut found: Vec<String> = survey.verified.iter().map(|verified| verified.candidate.name()).collect();
    found.sort();
    assert_eq!(found, ["broken.pth", "model.pkl", "pytorch_model.bin"]);
}

#[test]
fn what_lies_deeper_than_the_limit_is_said() {
    let directory = tempfile::tempdir().unwrap();
    put(&newer(), &directory.path().join("1/2/x.pth"));
    put(&older(), &directory.path().join("1/2/3/y.pth"));
    let location = [Location::Path(directory.path().to_owned())];
    let shallow = scan(&location, 2);
    assert_eq!(found(&shallow, directory.path()), ["1/2/x.pth"]);
    let (is_readable, why) = problem(&shallow, &directory.path().join("1/2")).unwrap();
    assert!(is_readable && why.starts_with("deeper than 2 levels"), "{why}");
    let partial: Vec<&Path> =
        shallow.places.iter().filter(|place| place.is_partial).map(|place| &*place.path).collect();
    assert_eq!(partial, [directory.path().join("1/2")]);
    let deep = scan(&location, 3);
    assert_eq!(found(&deep, directory.path()), ["1/2/x.pth", "1/2/3/y.pth"]);
    assert!(deep.places.iter().all(|place| place.problem.is_none() && !place.is_partial));
}

#[test]
fn names_that_are_no_utf8_are_found_and_inspected() {
    let directory = tempfile::tempdir().unwrap();
    let odd = directory.path().join(OsStr::from_bytes(b"run-\xff"));
    put(&newer(), &odd.join(OsStr::from_bytes(b"x-\xfe.pth")));
    put(&fixture("dcp/step-100"), &odd.join("step-100"));
    std::fs::rename(odd.join("step-100/__0_0.distcp"), odd.join("step-100").join(OsStr::from_bytes(b"\xff.distcp")))
        .unwrap();
    let locations = [Location::Path(directory.path().to_owned())];
    let survey = survey(&locations, &Expectations::default(), &Options::default(), &Silent).unwrap();
    assert!(survey.places.iter().all(|place| place.is_readable), "{:?}", survey.places);
    assert_eq!(survey.verified.len(), 2);
    assert!(survey.verified[0].verdict.is_valid, "{:?}", survey.verified[0].verdict);
}

#[test]
fn our_own_temporaries_are_no_candidates() {
    let directory = tempfile::tempdir().unwrap();
    let temporary = ckpt_store::atomic::Temporary::file(&directory.path().join("x.pth")).unwrap();
    put(&newer(), temporary.path());
    let whole = ckpt_store::atomic::Temporary::directory(&directory.path().join("checkpoint-8")).unwrap();
    put(&fixture("hf/run/checkpoint-8"), whole.path());
    assert_eq!(names(directory.path()).len(), 2);
    assert!(scan_path(directory.path()).candidates.is_empty());
}
