//! What goes and what stays on a real disk, in directories of any trainer.
#![allow(clippy::disallowed_methods, clippy::unwrap_used, reason = "tests prepare files")]

mod common;

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::{Duration, SystemTime};

use ckpt_core::ErrorKind;
use ckpt_core::format::dtype::Dtype;
use ckpt_core::ids::Step;
use ckpt_core::location::Location;
use ckpt_core::progress::Silent;
use ckpt_core::prune::{Action, Retention};
use ckpt_core::select::NamePattern;
use ckpt_core::verify::Expectations;
use ckpt_store::prune::{Pruned, Pruning, Rules, apply, plan_checked};
use ckpt_store::save::{Policy, Saver, Tensor};
use ckpt_store::{Options, pins, survey};
use common::{fixture, names, put, safetensors};

/// Weights without any fact: what they are of, the name tells.
const WEIGHTS: &str = "torch/state_dict.pth";

fn last(count: usize) -> Retention {
    Retention { keep_last: Some(count), ..Retention::default() }
}

fn planned_at(location: Location, retention: &Retention, patterns: &[&str]) -> Vec<Pruning> {
    let mut found = survey(&[location], &Expectations::default(), &Options::default(), &Silent).unwrap();
    let names: Vec<NamePattern> = patterns.iter().map(|pattern| pattern.parse().unwrap()).collect();
    let now_ns = ckpt_store::prune::now_ns();
    plan_checked(&mut found.verified, &Rules { retention, names: &names, now_ns }, &Silent).unwrap()
}

fn planned(root: &Path, retention: &Retention, patterns: &[&str]) -> Vec<Pruning> {
    planned_at(Location::Path(root.into()), retention, patterns)
}

/// The names that go.
fn going(prunings: &[Pruning]) -> Vec<String> {
    let dropped = prunings.iter().flat_map(|pruning| pruning.plan.dropped());
    let mut names: Vec<String> = dropped.map(|item| item.name.rsplit('/').next().unwrap().to_owned()).collect();
    names.sort();
    names
}

fn applied(prunings: &[Pruning]) -> Vec<Pruned> {
    let done: Vec<Pruned> = prunings.iter().map(|pruning| apply(pruning).unwrap()).collect();
    // The plan that is shown is the plan that is done.
    let gone = done.iter().map(|pruned| pruned.removed.len() + pruned.failed.len()).sum::<usize>();
    assert_eq!(gone, going(prunings).len());
    done
}

fn series(root: &Path, epochs: std::ops::RangeInclusive<u32>) {
    for epoch in epochs {
        put(&fixture(WEIGHTS), &root.join(format!("checkpoint_{epoch:04}.pth")));
    }
}

fn saved_ago(path: &Path, hours: u64) {
    File::options()
        .append(true)
        .open(path)
        .unwrap()
        .set_modified(SystemTime::now() - Duration::from_secs(3600 * hours))
        .unwrap();
}

#[test]
fn the_time_of_a_file_does_not_decide_which_is_the_latest() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    series(root, 9..=11);
    // As after a copy: the first one has the newest time, and by the alphabet `9` would come last.
    std::fs::rename(root.join("checkpoint_0009.pth"), root.join("checkpoint_9.pth")).unwrap();
    saved_ago(&root.join("checkpoint_0011.pth"), 48);
    saved_ago(&root.join("checkpoint_0010.pth"), 24);
    let prunings = planned(root, &last(1), &[]);
    assert_eq!(going(&prunings), ["checkpoint_0010.pth", "checkpoint_9.pth"]);
    applied(&prunings);
    assert_eq!(names(root), ["checkpoint_0011.pth"]);
}

#[test]
fn the_best_stays_however_old_it_is() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    for (epoch, loss) in [(1, 0.9), (2, 0.1), (3, 0.5), (4, 0.6)] {
        put(&fixture(WEIGHTS), &root.join(format!("epoch={epoch}-val_loss={loss}.ckpt")));
    }
    let retention = Retention { keep_best: vec!["val_loss=1".parse().unwrap()], ..last(1) };
    applied(&planned(root, &retention, &[]));
    assert_eq!(names(root), ["epoch=2-val_loss=0.1.ckpt", "epoch=4-val_loss=0.6.ckpt"]);
}

#[test]
fn nothing_goes_for_a_newer_one_that_does_not_load() {
    for broken in ["broken/trunc_in_data.pth", "broken/bitflip_in_data.pth", "broken/empty.pth"] {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        series(root, 1..=3);
        let newest = put(&fixture(broken), &root.join("checkpoint_0007.pth"));
        let prunings = planned(root, &last(1), &[]);
        assert_eq!(going(&prunings), ["checkpoint_0001.pth", "checkpoint_0002.pth"], "{broken}");
        applied(&prunings);
        assert!(newest.exists(), "damaged ones stay, to be looked at");
        assert!(root.join("checkpoint_0003.pth").exists(), "{broken}");
    }
}

#[test]
fn what_is_of_no_series_stays_until_it_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    series(root, 1..=3);
    for name in ["best.pt", "last.ckpt", "final.pth"] {
        put(&fixture(WEIGHTS), &root.join(name));
    }
    std::fs::write(root.join("checkpoint_0001.txt"), "notes").unwrap();
    assert_eq!(going(&planned(root, &last(1), &[])), ["checkpoint_0001.pth", "checkpoint_0002.pth"]);
    // A pattern restricts: of what it does not match nothing goes, and its own latest stays.
    assert_eq!(going(&planned(root, &last(1), &["checkpoint_000[12].pth"])), ["checkpoint_0001.pth"]);
    saved_ago(&root.join("best.pt"), 3);
    saved_ago(&root.join("final.pth"), 2);
    assert_eq!(going(&planned(root, &last(1), &["best.pt", "final.pth"])), ["best.pt"]);
}

#[test]
fn directories_of_hugging_face_go_as_a_whole_and_each_run_by_itself() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    for run in ["a", "b"] {
        put(&fixture("hf/run"), &root.join(run));
        std::fs::write(root.join(run).join("README.md"), "").unwrap();
    }
    let prunings = planned(root, &last(1), &[]);
    let done = applied(&prunings);
    for run in ["a", "b"] {
        assert_eq!(names(&root.join(run)), ["README.md", "checkpoint-8"]);
    }
    assert_eq!(
        done.iter().map(|pruned| pruned.bytes).sum::<u64>(),
        prunings.iter().map(|one| one.plan.freed_bytes()).sum::<u64>()
    );
}

/// An index over shards, each with a tensor of its own name.
fn sharded(root: &Path, index: &str, shards: &[&str], hours: u64) {
    let map: BTreeMap<&str, &str> = shards.iter().map(|shard| (*shard, *shard)).collect();
    for shard in shards.iter().filter(|shard| shard.ends_with(".safetensors")) {
        std::fs::write(root.join(shard), safetensors(shard)).unwrap();
    }
    let path = root.join(format!("{index}.safetensors.index.json"));
    std::fs::write(&path, serde_json::json!({"metadata": {}, "weight_map": map}).to_string()).unwrap();
    saved_ago(&path, hours);
}

#[test]
fn a_shard_that_others_need_stays_and_so_does_all_that_is_no_shard() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    let (own, shared) = ("own-00001-of-00002.safetensors", "shared-00002-of-00002.safetensors");
    sharded(root, "old", &[own, shared], 3);
    sharded(root, "new", &["new-00001-of-00002.safetensors", shared], 1);
    applied(&planned(root, &last(1), &["*.index.json"]));
    let left = ["new-00001-of-00002.safetensors", "new.safetensors.index.json", shared];
    assert_eq!(names(root), left);

    // Also when the other index is not asked for, and whatever an index names.
    sharded(root, "old", &[own, shared], 3);
    sharded(root, "evil", &["precious.safetensors", "..", ".", "notes", "../up.safetensors"], 4);
    std::fs::create_dir(root.join("notes")).unwrap();
    let retention = Retention { drop_damaged: true, ..last(1) };
    applied(&planned(root, &retention, &["old.*", "evil.*"]));
    let there = names(root);
    for stays in left.into_iter().chain(["precious.safetensors", "notes"]) {
        assert!(there.contains(&stays.to_owned()), "{stays}: {there:?}");
    }
}

fn save(root: &Path, step: u32, accuracy: f64) {
    let saver = Saver::open(root, Policy::default()).unwrap();
    let mut pending = saver.begin(Step(step.into())).unwrap();
    pending.metric("accuracy", accuracy, None).unwrap();
    pending.tensors("model", [Tensor::new("w", Dtype::of_torch("uint8"), [4], &[1_u8, 2, 3, 4][..])]).unwrap();
    pending.commit().unwrap();
}

#[test]
fn of_our_own_what_pointers_and_pins_name_stays_with_and_without_links() {
    for has_links in [true, false] {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        for (step, accuracy) in [(1, 0.9), (2, 0.5), (3, 0.6), (4, 0.7)] {
            save(root, step, accuracy);
        }
        pins::pin(&root.join("step-00000002"), "the paper").unwrap();
        if !has_links {
            std::fs::remove_file(root.join("latest")).unwrap();
            std::fs::remove_file(root.join("best-accuracy")).unwrap();
        }
        let prunings = planned(root, &last(1), &[]);
        assert_eq!(going(&prunings), ["step-00000003"]);
        applied(&prunings);
        let saver = Saver::open(root, Policy::default()).unwrap();
        assert_eq!(saver.latest().unwrap().unwrap().manifest().step, Step(4));
        assert_eq!(saver.best("accuracy").unwrap().unwrap().manifest().step, Step(1));
        assert!(root.join("step-00000002").exists());
        pins::unpin(&root.join("step-00000002")).unwrap();
        assert_eq!(going(&planned(root, &last(1), &[])), ["step-00000002"]);
    }
}

#[test]
fn what_another_name_stands_for_stays() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    series(root, 1..=4);
    symlink("checkpoint_0001.pth", root.join("last.ckpt")).unwrap();
    std::fs::hard_link(root.join("checkpoint_0002.pth"), root.join("model_best.pth.tar")).unwrap();
    let prunings = planned(root, &last(1), &[]);
    assert_eq!(going(&prunings), ["checkpoint_0003.pth"]);
    applied(&prunings);
    assert!(root.join("last.ckpt").exists() && root.join("model_best.pth.tar").exists());
}

#[test]
fn what_changed_or_was_wanted_after_the_plan_stays_and_is_told() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    series(root, 1..=6);
    put(&fixture("hf/run"), &root.join("hf"));
    let prunings = planned(root, &last(1), &[]);
    pins::pin(&root.join("checkpoint_0001.pth"), "").unwrap();
    symlink("checkpoint_0002.pth", root.join("best.pth")).unwrap();
    std::fs::write(root.join("checkpoint_0003.pth"), "another").unwrap();
    std::fs::hard_link(root.join("checkpoint_0004.pth"), root.join("mine.pth")).unwrap();
    // In place: the directory itself does not show it.
    std::fs::write(root.join("hf/checkpoint-4/trainer_state.json"), "{}").unwrap();
    let done = applied(&prunings);
    let failed: Vec<&ckpt_store::Error> =
        done.iter().flat_map(|pruned| &pruned.failed).map(|(_, error)| error).collect();
    assert_eq!(failed.len(), 5, "{failed:?}");
    assert!(failed.iter().all(|error| error.kind() == ErrorKind::Conflict), "{failed:?}");
    let there = names(root);
    for stays in ["checkpoint_0001.pth", "checkpoint_0002.pth", "checkpoint_0003.pth", "checkpoint_0004.pth"] {
        assert!(there.contains(&stays.to_owned()), "{stays}");
    }
    assert!(root.join("hf/checkpoint-4/trainer_state.json").exists());
    assert!(!root.join("checkpoint_0005.pth").exists());
}

#[test]
fn read_only_places_are_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    series(&root.join("input/set/checkpoints"), 1..=3);
    series(&root.join("working/checkpoints"), 4..=5);
    let prunings = planned_at(Location::Kaggle(root.into()), &last(1), &[]);
    assert_eq!(going(&prunings), ["checkpoint_0004.pth"]);
    applied(&prunings);
    assert_eq!(names(&root.join("input/set/checkpoints")).len(), 3);
}

#[test]
fn damaged_ones_go_only_when_asked_and_only_behind_a_newer_valid_one() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    series(root, 1..=2);
    for name in ["checkpoint_0000.pth", "checkpoint_0003.pth"] {
        put(&fixture("broken/empty.pth"), &root.join(name));
    }
    let shown = planned(root, &last(1), &[]);
    assert_eq!(going(&shown), ["checkpoint_0001.pth"]);
    let damaged = shown[0].plan.items.iter().filter(|one| one.reasons[0].contains("damaged"));
    assert!(damaged.clone().all(|one| one.action == Action::Keep) && damaged.count() == 2);
    let asked = Retention { drop_damaged: true, ..last(1) };
    assert_eq!(going(&planned(root, &asked, &[])), ["checkpoint_0000.pth", "checkpoint_0001.pth"]);
}

#[test]
fn series_side_by_side_do_not_compete() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    for step in [100, 200, 300] {
        for rank in 0..4 {
            put(&fixture(WEIGHTS), &root.join(format!("step{step}_rank{rank}.pt")));
        }
    }
    for epoch in 1..=2 {
        put(&fixture(WEIGHTS), &root.join(format!("netG_epoch_{epoch}.pth")));
        put(&fixture(WEIGHTS), &root.join(format!("netD_epoch_{epoch}.pth")));
    }
    for name in ["best.pth", "last.pth"] {
        put(&fixture(WEIGHTS), &root.join(name));
    }
    let mut expected = vec!["netD_epoch_1.pth".to_owned(), "netG_epoch_1.pth".to_owned()];
    expected.extend([100, 200].iter().flat_map(|step| (0..4).map(move |rank| format!("step{step}_rank{rank}.pt"))));
    assert_eq!(going(&planned(root, &last(1), &[])), expected);
}

#[test]
fn what_holds_no_tensor_takes_no_ones_place() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    series(root, 1..=3);
    // `{"epoch": 9}`
    std::fs::write(root.join("checkpoint_0009.pkl"), b"\x80\x02}U\x05epochK\x09s.").unwrap();
    std::fs::write(root.join("checkpoint_0009.pth"), b"\x80\x02}U\x05epochK\x09s.").unwrap();
    assert_eq!(going(&planned(root, &last(1), &[])), ["checkpoint_0001.pth", "checkpoint_0002.pth"]);
}

#[test]
fn links_of_any_name_from_beside_and_above_and_into_a_checkpoint_keep_it() {
    let directory = tempfile::tempdir().unwrap();
    let (above, root) = (directory.path(), directory.path().join("run"));
    series(&root, 1..=4);
    put(&fixture("hf/run"), &root);
    symlink("run/checkpoint_0001.pth", above.join("winner")).unwrap();
    std::fs::create_dir(above.join("links")).unwrap();
    symlink("../run/checkpoint_0002.pth", above.join("links/x")).unwrap();
    symlink("links/x", above.join("chain")).unwrap();
    symlink("checkpoint-4/model.safetensors", root.join("serving.safetensors")).unwrap();
    let prunings = planned(&root, &last(1), &[]);
    assert_eq!(going(&prunings), ["checkpoint_0003.pth"]);
    assert!(applied(&prunings).iter().all(|pruned| pruned.failed.is_empty()));
    for link in ["winner", "chain", "run/serving.safetensors"] {
        assert!(above.join(link).exists(), "{link}");
    }
}

#[test]
fn a_directory_reached_by_a_link_is_somebody_elses() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().join("here");
    series(&directory.path().join("archive"), 1..=3);
    series(&root, 1..=2);
    symlink("../archive", root.join("old")).unwrap();
    assert_eq!(going(&planned(&root, &last(1), &[])), ["checkpoint_0001.pth"]);
}
