//! The founding document's examples, each one command on a tree of its shape, written by a real PyTorch.
//! `docs/cli.md` shows the same commands.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test fails by panicking, and prepares its own files"
)]

mod common;

use common::Place;
use insta::assert_snapshot;

const TREE: &str = "kaggle:examples/data/kaggle";

#[test]
fn find_the_best_across_all_sources() {
    let place = Place::new();
    let ran = place.run(&[
        "select",
        TREE,
        "--name",
        "vqvae_pretrained.pth",
        "--best",
        "accuracy",
        "--require",
        "epoch",
        "--require",
        "model_state_dict",
        "--require",
        "optimizer_state_dict",
        "--require",
        "accuracy",
        "--explain",
    ]);
    assert_snapshot!(ran.shown());
}

#[test]
fn find_the_latest_by_patterns() {
    let place = Place::new();
    let ran = place.run(&[
        "select",
        TREE,
        "--latest",
        "--name",
        "final_model.pth",
        "--name",
        "best_model.pth",
        "--name",
        "checkpoint_*.pth",
        "--require",
        "epoch",
        "--require",
        "diffusion_state_dict",
        "--require",
        "ema_diffusion_state_dict",
    ]);
    assert_snapshot!(ran.shown());
}

#[test]
fn copy_to_the_working_directory() {
    let place = Place::new();
    let source = "examples/data/kaggle/input/hmolqd/checkpoints/vqvae_pretrained.pth";
    let ran = place.run(&["fetch", source, "--to", "[TMP]/working"]);
    assert_snapshot!(ran.shown());
    let copy = std::fs::read(place.join("working/vqvae_pretrained.pth")).unwrap();
    assert_eq!(copy, std::fs::read(common::root().join(source)).unwrap());
}

#[test]
fn scan_everything_for_diagnosis() {
    let place = Place::new();
    let ran = place.run(&["scan", TREE]);
    assert_snapshot!(ran.shown());
}

#[test]
fn merge_the_histories_of_all_sources() {
    let place = Place::new();
    let ran = place.run(&["history", "merge", TREE, "--name", "vqvae_history.json", "--format", "csv"]);
    assert_snapshot!(ran.shown());
}

#[test]
fn resume_prints_one_path_that_the_working_directory_now_holds() {
    let place = Place::new();
    let ran =
        place.run(&["resume", TREE, "--name", "vqvae_pretrained.pth", "--best", "accuracy", "--to", "[TMP]/working"]);
    assert_snapshot!(ran.shown());
    assert!(place.join("working/vqvae_pretrained.pth").is_file());
}
