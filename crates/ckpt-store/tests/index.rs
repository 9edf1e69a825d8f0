//! The index of past inspections: used while nothing changed, never afterwards.
#![allow(clippy::disallowed_methods, clippy::unwrap_used, reason = "tests prepare files")]

mod common;

use std::fs::{File, FileTimes};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ckpt_core::inspect::Inspection;
use ckpt_store::index::Index;
use ckpt_store::inspect;
use common::{fixture, names, newer, older, put, save};

/// A moment by which everything that was written so far has settled.
fn later() -> i64 {
    let later = SystemTime::now() + Duration::from_secs(60);
    i64::try_from(later.duration_since(UNIX_EPOCH).unwrap().as_nanos()).unwrap()
}

fn inspected(cache: &Path, path: &Path) -> Inspection {
    let index = Index::open(cache);
    let inspection = index.inspect(&inspect::candidate(path).unwrap(), later()).unwrap();
    index.save().unwrap();
    inspection
}

/// The files of the index.
fn parts(cache: &Path) -> Vec<PathBuf> {
    let names = if cache.exists() { names(&cache.join("index")) } else { Vec::new() };
    names.into_iter().map(|name| cache.join("index").join(name)).collect()
}

/// The only file of the index.
fn part(cache: &Path) -> PathBuf {
    let parts = parts(cache);
    assert_eq!(parts.len(), 1, "{parts:?}");
    parts[0].clone()
}

/// Changes what the index remembers, so that what comes from it can be told from what was read.
fn forge(cache: &Path) {
    let path = part(cache);
    let text = std::fs::read_to_string(&path).unwrap();
    let mut document: serde_json::Value = serde_json::from_str(&text).unwrap();
    for entry in document["entries"].as_object_mut().unwrap().values_mut() {
        entry["inspection"]["keys"] = serde_json::json!(["from the index"]);
    }
    std::fs::write(path, document.to_string()).unwrap();
}

fn is_remembered(inspection: &Inspection) -> bool {
    inspection.keys == ["from the index"]
}

/// A cache, and a copy of a fixture whose inspection is in it, forged.
fn remembered(from: &Path, name: &str) -> (tempfile::TempDir, PathBuf, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let (cache, path) = (directory.path().join("cache"), directory.path().join(name));
    put(from, &path);
    assert!(!is_remembered(&inspected(&cache, &path)));
    forge(&cache);
    assert!(is_remembered(&inspected(&cache, &path)), "an unchanged file is inspected again");
    (directory, cache, path)
}

#[test]
fn what_did_not_change_is_not_read_again() {
    for (from, name) in [
        (newer(), "x.pth"),
        (fixture("dcp/step-100"), "step-100"),
        (fixture("hf/run/checkpoint-8"), "checkpoint-8"),
        (fixture("torch/unpacked_dotfiles.pth"), "x.pth"),
    ] {
        remembered(&from, name);
    }
}

#[test]
fn a_replaced_manifest_is_noticed() {
    let directory = tempfile::tempdir().unwrap();
    let (cache, root) = (directory.path().join("cache"), directory.path().join("run"));
    let path = save(&root, 7, 1);
    assert!(!is_remembered(&inspected(&cache, &path)));
    forge(&cache);
    assert!(is_remembered(&inspected(&cache, &path)));
    // Of the same size, by a rename as the saver does it, with the time of the one before.
    let (manifest, other) =
        (path.join("manifest.json"), save(&directory.path().join("other"), 7, 2).join("manifest.json"));
    let modified = std::fs::metadata(&manifest).unwrap().modified().unwrap();
    File::options().write(true).open(&other).unwrap().set_times(FileTimes::new().set_modified(modified)).unwrap();
    std::fs::rename(&other, &manifest).unwrap();
    let inspection = inspected(&cache, &path);
    assert!(!is_remembered(&inspection));
    assert_eq!(inspection.sequence, Some(2));
}

#[test]
fn other_content_of_the_same_size_and_time_is_noticed() {
    let (_directory, cache, path) = remembered(&newer(), "x.pth");
    let time = std::fs::metadata(&path).unwrap().modified().unwrap();
    let mut bytes = std::fs::read(&path).unwrap();
    let end = bytes.len();
    bytes[end / 2] ^= 1;
    std::fs::write(&path, &bytes).unwrap();
    File::options().write(true).open(&path).unwrap().set_times(FileTimes::new().set_modified(time)).unwrap();
    let metadata = std::fs::metadata(&path).unwrap();
    assert_eq!((metadata.len(), metadata.modified().unwrap()), (end as u64, time));
    assert!(!is_remembered(&inspected(&cache, &path)));
}

#[test]
fn another_file_of_that_name_is_inspected() {
    let (directory, cache, path) = remembered(&newer(), "x.pth");
    let other = put(&older(), &directory.path().join("other"));
    std::fs::rename(other, &path).unwrap();
    let inspection = inspected(&cache, &path);
    assert_eq!(inspection.epoch.and_then(ckpt_core::ids::Epoch::whole), Some(10));
}

#[test]
fn a_change_in_any_file_of_a_directory_or_behind_an_index_is_noticed() {
    let (_directory, cache, path) = remembered(&fixture("hf/run/checkpoint-8"), "checkpoint-8");
    std::fs::remove_file(path.join("rng_state.pth")).unwrap();
    assert!(!is_remembered(&inspected(&cache, &path)));

    let directory = tempfile::tempdir().unwrap();
    let (cache, set) =
        (directory.path().join("cache"), put(&fixture("safetensors/sharded"), &directory.path().join("s")));
    let path = set.join("model.safetensors.index.json");
    inspected(&cache, &path);
    forge(&cache);
    put(&newer(), &set.join("unrelated.pth"));
    assert!(is_remembered(&inspected(&cache, &path)), "a file beside the shards is none of them");
    put(&set.join("model-00001-of-00002.safetensors"), &set.join("copy"));
    std::fs::rename(set.join("copy"), set.join("model-00001-of-00002.safetensors")).unwrap();
    assert!(!is_remembered(&inspected(&cache, &path)));
}

#[test]
fn another_name_of_the_same_file_is_noticed() {
    let (directory, cache, path) = remembered(&fixture("torch/state_dict.pth"), "weights.pth");
    let mut candidate = inspect::candidate(&path).unwrap();
    candidate.aliases = vec![directory.path().join("epoch_9.pth")];
    let inspection = Index::open(&cache).inspect(&candidate, later()).unwrap();
    assert_eq!(inspection.epoch.and_then(ckpt_core::ids::Epoch::whole), Some(9));
}

#[test]
fn a_file_that_may_still_change_within_the_same_tick_is_not_remembered() {
    let directory = tempfile::tempdir().unwrap();
    let (cache, path) = (directory.path().join("cache"), put(&newer(), &directory.path().join("x.pth")));
    let now = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos()).unwrap();
    let index = Index::open(&cache);
    index.inspect(&inspect::candidate(&path).unwrap(), now).unwrap();
    index.save().unwrap();
    assert!(parts(&cache).is_empty(), "there is nothing to remember");
}

#[test]
fn an_index_that_is_damaged_or_of_another_version_counts_as_empty() {
    let (_directory, cache, path) = remembered(&newer(), "x.pth");
    let index = part(&cache);
    let whole = std::fs::read_to_string(&index).unwrap();
    let version = whole.split('"').find(|text| text.starts_with("ckpt-index-")).unwrap().to_owned();
    let damaged = [
        String::new(),
        whole[..whole.len() / 2].to_owned(),
        whole.replacen("ckpt-index-", "ckpt-index-0-", 1),
        "{\"version\": 7}".to_owned(),
        "[]".to_owned(),
    ];
    for text in damaged {
        std::fs::write(&index, &text).unwrap();
        assert!(!is_remembered(&inspected(&cache, &path)), "{text}");
        assert!(std::fs::read_to_string(&index).unwrap().contains(&version), "it is written anew");
    }
}

#[test]
fn a_cache_that_cannot_be_written_costs_nothing_but_time() {
    let directory = tempfile::tempdir().unwrap();
    let path = put(&newer(), &directory.path().join("x.pth"));
    let index = Index::open(&path.join("below a file"));
    assert!(index.inspect(&inspect::candidate(&path).unwrap(), later()).is_ok());
    assert!(index.save().is_err());
}

#[test]
fn what_is_known_of_other_directories_is_neither_read_nor_written() {
    let (directory, cache, path) = remembered(&newer(), "x.pth");
    let first = part(&cache);
    // Whoever wrote this one would fail.
    std::fs::remove_file(&first).unwrap();
    std::fs::create_dir(&first).unwrap();
    let other = put(&older(), &directory.path().join("below/y.pth"));
    assert!(!is_remembered(&inspected(&cache, &other)));
    assert_eq!(parts(&cache).len(), 2);
    assert!(first.is_dir());
    std::fs::remove_dir(&first).unwrap();
    assert!(!is_remembered(&inspected(&cache, &path)));
    assert_eq!(parts(&cache).len(), 2);
}
