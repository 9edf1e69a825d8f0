//! Commands on the directories that this project saves.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test fails by panicking, and prepares its own files"
)]

mod common;

use std::collections::BTreeMap;
use std::os::unix::fs::symlink;
use std::path::Path;

use ckpt_core::digest::Digest;
use ckpt_core::format::dtype::Dtype;
use ckpt_core::format::safetensors::write::{Entry, plan};
use ckpt_core::ids::{Epoch, Step};
use ckpt_core::layout::Class;
use ckpt_core::manifest::{File, Manifest, Recorded, directory_name};
use ckpt_core::metric::Direction;
use common::Place;
use insta::assert_snapshot;

fn tensors(name: &str) -> Vec<u8> {
    let float = Dtype::of_torch("float32");
    let plan = plan(&[Entry { name, dtype: &float, shape: &[2, 2] }], &BTreeMap::new()).unwrap();
    let mut bytes = plan.header;
    bytes.resize(usize::try_from(plan.bytes).unwrap(), 0);
    bytes
}

fn save(root: &Path, step: u32, sequence: u64) {
    let history = format!(r#"{{"rng": {{"torch": "AA=="}}, "history": [{{"step": {step}, "loss": 0.5}}]}}"#);
    let files = BTreeMap::from([
        ("model.safetensors".to_owned(), tensors("weight")),
        ("optimizer.safetensors".to_owned(), tensors("weight.exp_avg")),
        ("trainer_state.json".to_owned(), history.into_bytes()),
    ]);
    let of = |bytes: &Vec<u8>| File { bytes: bytes.len() as u64, blake3: Digest::of(bytes) };
    let manifest = Manifest {
        run_id: "run-1".to_owned(),
        session_id: "session-1".to_owned(),
        sequence,
        step: Step(step.into()),
        epoch: Epoch::new(f64::from(step) / 100.0),
        class: Class::Resumable,
        world_size: 1,
        metrics: BTreeMap::from([(
            "val_acc".to_owned(),
            Recorded { value: f64::from(step) / 2000.0, direction: Some(Direction::Max) },
        )]),
        parent: None,
        created_ns: 1_700_000_000_000_000_000,
        files: files.iter().map(|(name, bytes)| (name.clone(), of(bytes))).collect(),
    };
    let directory = root.join(directory_name(manifest.step));
    std::fs::create_dir_all(&directory).unwrap();
    for (name, bytes) in &files {
        std::fs::write(directory.join(name), bytes).unwrap();
    }
    std::fs::write(directory.join("manifest.json"), manifest.to_bytes()).unwrap();
}

/// A run that went back from step 1200 to 800 and saved 900.
fn run() -> Place {
    let place = Place::new();
    for (step, sequence) in [(800, 3), (1200, 4), (900, 5)] {
        save(&place.join("run"), step, sequence);
    }
    symlink("step-00000900", place.join("run/latest")).unwrap();
    symlink("step-00001200", place.join("run/best-val_acc")).unwrap();
    place
}

#[test]
fn inspect_tells_what_the_manifest_says() {
    let place = run();
    assert_snapshot!(place.run(&["inspect", "[TMP]/run/latest"]).shown());
    let document = place.json(&["inspect", "--json", "[TMP]/run/step-00001200"]);
    assert_eq!((document["sequence"].as_u64(), document["run_id"].as_str()), (Some(4), Some("run-1")));
    assert_eq!(document["saved"], "2023-11-14T22:13:20Z");
    assert_eq!((document["format"].as_str(), document["layout"].as_str()), (Some("directory"), Some("ckpt")));
    assert_eq!(document["metric_details"][0]["direction"], "max");
}

#[test]
fn the_latest_is_the_last_commit_and_the_best_the_largest_value() {
    let place = run();
    assert_snapshot!(place.run(&["select", "[TMP]/run", "--latest", "--explain"]).shown());
    let taken = |arguments: &[&str]| place.run(&[&["select", "-q", "[TMP]/run"], arguments].concat()).stdout;
    assert_eq!(taken(&["--best", "val_acc"]), "[TMP]/run/step-00001200\n");
    assert_eq!(taken(&["--name", "best-*"]), "[TMP]/run/best-val_acc\n");
    assert_eq!(taken(&["--name", "latest"]), "[TMP]/run/latest\n");
}

#[test]
fn a_flipped_bit_is_found_by_a_deep_verify_and_the_next_is_taken() {
    let place = run();
    let path = place.join("run/step-00000900/optimizer.safetensors");
    let mut bytes = std::fs::read(&path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&path, bytes).unwrap();
    assert_eq!(place.run(&["verify", "[TMP]/run/latest"]).code, 0);
    let ran = place.run(&["verify", "--deep", "[TMP]/run/latest"]);
    assert_eq!(ran.code, 4);
    assert!(ran.stdout.contains("the BLAKE3 digest") && ran.stdout.contains("optimizer.safetensors"), "{}", ran.stdout);
    let taken = place.run(&["select", "-q", "[TMP]/run", "--latest", "--deep"]);
    assert_eq!(taken.stdout, "[TMP]/run/step-00001200\n");
    let fetched = place.run(&["fetch", "[TMP]/run/latest", "--to", "[TMP]/to"]);
    assert_eq!(fetched.code, 4, "{}", fetched.stderr);
    assert!(fetched.stderr.contains("manifest"), "{}", fetched.stderr);
    assert_eq!(std::fs::read_dir(place.join("to")).unwrap().count(), 0);
}

#[test]
fn a_copy_has_the_name_of_the_step_and_is_the_same_byte_for_byte() {
    let place = run();
    let ran = place.run(&["fetch", "[TMP]/run/latest", "--to", "[TMP]/to"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (0, "[TMP]/to/step-00000900\n"), "{}", ran.stderr);
    for name in ["manifest.json", "model.safetensors", "optimizer.safetensors", "trainer_state.json"] {
        let read = |root: &str| std::fs::read(place.join(root).join("step-00000900").join(name)).unwrap();
        assert_eq!(read("run"), read("to"), "{name}");
    }
    assert_eq!(place.run(&["verify", "--deep", "[TMP]/to/step-00000900"]).code, 0);
}

#[test]
fn the_doctor_and_the_history_understand_a_run() {
    let place = run();
    let doctor = place.json(&["doctor", "--json", "[TMP]/run"]);
    assert_eq!((doctor["checkpoints"].as_u64(), doctor["resumable"].as_u64()), (Some(3), Some(3)));
    let history = place.json(&["history", "merge", "--json", "[TMP]/run"]);
    assert_eq!(history["records"].as_array().unwrap().len(), 3);
    assert_eq!(history["warnings"].as_array().unwrap().len(), 0);
}
