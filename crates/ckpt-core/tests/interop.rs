//! What `inspect` reads equals what the real libraries say about the same files (`tests/fixtures/expected.jsonl`).
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};

use ckpt_core::finding::Code;
use ckpt_core::ids::{Epoch, Step};
use ckpt_core::inspect::{self, Inspection};
use ckpt_core::layout::{Class, Layout};
use ckpt_core::members::Members;
use ckpt_core::metric::{Direction, usual_direction};
use serde::Deserialize;
use serde_json::Value;

mod common;

#[derive(Deserialize)]
struct Expected {
    path: String,
    keys: Option<BTreeSet<String>>,
    epoch: Option<f64>,
    step: Option<f64>,
    metrics: BTreeMap<String, Value>,
    tensors: Option<Tensors>,
    error: Option<String>,
}

#[derive(Deserialize, Debug, PartialEq)]
struct Tensors {
    count: u64,
    parameters: u64,
    bytes: u64,
    dtypes: BTreeMap<String, u64>,
}

/// Where ours says something else on purpose: path, what, why.
const DEVIATIONS: &[(&str, &str, &str)] = &[
    ("torch/epoch_string.pth", "epoch", "a text that is a number is taken as one"),
    ("torch/keys_int_only.pth", "keys", "expected.jsonl lists texts only; integers are shown in decimal"),
    ("torch/keys_not_strings.pth", "keys", "expected.jsonl lists texts only; integers are shown in decimal"),
    ("torch/root_float.pth", "valid", "a number is no checkpoint, though torch.load reads it"),
    ("torch/mmengine_style.pth", "epoch", "the epoch stands in `meta`, one level down"),
    ("torch/mmengine_style.pth", "step", "the step stands in `meta`, one level down"),
    ("torch/exported.pt2", "valid", "recognised, not inspected: an export is nothing to resume from"),
    ("torch/legacy_tar.pth", "tensors", "the tensors of the tar of 2016 are in a member that is not read"),
    ("broken/bitflip_in_metric.pth", "valid", "torch.load checks no CRC and hands out the wrong metric"),
    ("safetensors/json_metadata.safetensors", "epoch", "from `__metadata__`, which the library hands out as texts"),
    ("safetensors/no_tensors.safetensors", "epoch", "from `__metadata__`, which the library hands out as texts"),
    ("safetensors/with_metadata.safetensors", "epoch", "from `__metadata__`, which the library hands out as texts"),
    ("safetensors/with_metadata.safetensors", "step", "from `__metadata__`, which the library hands out as texts"),
    ("ultralytics/train/weights/best.pt", "epoch", "-1 says finished; the epoch is found in train_results"),
    ("ultralytics/train/weights/last.pt", "epoch", "-1 says finished; the epoch is found in train_results"),
];

fn expected() -> Vec<Expected> {
    let text = String::from_utf8(common::bytes("expected.jsonl")).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn same(left: f64, right: f64) -> bool {
    left == right || (left.is_nan() && right.is_nan())
}

fn differences(expected: &Expected, ours: &Inspection) -> Vec<(&'static str, String)> {
    let mut found = Vec::new();
    if ours.is_valid() != expected.error.is_none() {
        let message = format!("ours {:?}, theirs {:?}", ours.findings, expected.error);
        return vec![("valid", message)];
    }
    if expected.error.is_some() {
        return found;
    }
    let theirs = expected.keys.clone().unwrap_or_default();
    let keys: BTreeSet<String> = ours.keys.iter().cloned().collect();
    if keys != theirs {
        found.push(("keys", format!("ours {keys:?}, theirs {theirs:?}")));
    }
    let epoch = ours.epoch.map(Epoch::get);
    if epoch != expected.epoch {
        found.push(("epoch", format!("ours {epoch:?}, theirs {:?}", expected.epoch)));
    }
    #[expect(clippy::cast_precision_loss, reason = "the steps of fixtures are small")]
    let step = ours.step.map(|step| step.0 as f64);
    if step != expected.step {
        found.push(("step", format!("ours {step:?}, theirs {:?}", expected.step)));
    }
    for (name, value) in &expected.metrics {
        let value = value.as_f64().unwrap_or_else(|| value.as_str().unwrap().parse().unwrap());
        let short = name.strip_prefix("metrics.").unwrap_or(name);
        match ours.metrics.iter().find(|metric| metric.name == short && metric.provenance != "file name") {
            Some(metric) if !same(metric.value, value) => {
                found.push(("metrics", format!("{name}: ours {}, theirs {value}", metric.value)));
            }
            None if usual_direction(name).is_some() => found.push(("metrics", format!("{name} is missing"))),
            _ => {}
        }
    }
    let tensors = Tensors {
        count: ours.tensors.count,
        parameters: ours.tensors.parameters,
        bytes: ours.tensors.bytes,
        dtypes: ours.tensors.dtypes.clone(),
    };
    if Some(&tensors) != expected.tensors.as_ref() {
        found.push(("tensors", format!("ours {tensors:?}, theirs {:?}", expected.tensors)));
    }
    found
}

#[test]
fn facts_equal_those_of_the_real_libraries() {
    let mut unexpected = Vec::new();
    let mut met = BTreeSet::new();
    let expected = expected();
    for expected in &expected {
        let ours = common::inspect_file(&expected.path);
        for (what, message) in differences(expected, &ours) {
            match DEVIATIONS.iter().find(|(path, field, _)| *path == expected.path && *field == what) {
                Some(deviation) => {
                    met.insert(deviation);
                }
                None => unexpected.push(format!("{} {what}: {message}", expected.path)),
            }
        }
    }
    let stale: Vec<_> = DEVIATIONS.iter().filter(|deviation| !met.contains(deviation)).collect();
    assert!(unexpected.is_empty() && stale.is_empty(), "{}\nstale: {stale:#?}", unexpected.join("\n"));
    assert!(expected.len() > 190, "the list of fixtures is complete");
}

fn direction(inspection: &Inspection, name: &str) -> Option<Direction> {
    inspection.metrics.iter().find(|metric| metric.name == name).and_then(|metric| metric.direction)
}

#[test]
fn lightning_tells_metric_and_direction_in_the_key_of_its_callback() {
    let best = common::inspect_file("lightning/val_acc/last.ckpt");
    assert_eq!((best.layout, best.class), (Layout::Lightning, Class::Resumable));
    assert_eq!(common::metric(&best, "val_acc"), Some(0.84375));
    assert_eq!(direction(&best, "val_acc"), Some(Direction::Max));
    let least = common::inspect_file("lightning/val_loss/epoch=03-step=16-val_loss=0.3823.ckpt");
    assert_eq!(direction(&least, "val_loss"), Some(Direction::Min));
    assert_eq!(direction(&least, "best_val_loss"), Some(Direction::Min));
    let weights = common::inspect_file("lightning/weights_only/weights.ckpt");
    assert_eq!((weights.is_valid(), weights.class), (true, Class::InferenceOnly));
}

#[test]
fn a_finished_yolo_run_is_valid_and_keeps_its_epoch() {
    for (name, epoch, fitness) in [("best.pt", 10, 0.671), ("last.pt", 59, 0.43561)] {
        let finished = common::inspect_file(&format!("ultralytics/train/weights/{name}"));
        assert!(finished.is_valid() && finished.is_finished, "{name}: {:?}", finished.findings);
        assert_eq!((finished.layout, finished.class), (Layout::Ultralytics, Class::InferenceOnly));
        assert_eq!(finished.epoch, Some(Epoch::from(epoch)), "{name}");
        assert_eq!(common::metric(&finished, "fitness"), Some(fitness), "{name}");
        assert!(common::metric(&finished, "metrics/mAP50-95(B)").is_some(), "{name}");
    }
    let running = common::inspect_file("ultralytics/train/weights/mid_run_last.pt");
    assert_eq!((running.class, running.is_finished), (Class::Resumable, false));
}

#[test]
fn timms_own_metric_wins_over_the_best_of_its_saver() {
    for (name, metric) in [("last.pth.tar", 70.0), ("checkpoint-2.pth.tar", 70.0), ("model_best.pth.tar", 74.25)] {
        let inspection = common::inspect_file(&format!("timm/{name}"));
        assert_eq!((inspection.layout, inspection.class), (Layout::Timm, Class::Resumable), "{name}");
        assert_eq!(common::metric(&inspection, "metric"), Some(metric), "{name}");
        assert!(inspection.metrics.iter().all(|metric| !metric.provenance.contains("saver")), "{name}");
    }
    assert!(common::inspect_file("timm/recovery-2-20.pth.tar").metrics.is_empty());
}

#[test]
fn hugging_faces_direction_stands_in_the_arguments_of_the_run() {
    let folder = common::inspect_directory("hf/run/checkpoint-8");
    assert!(folder.is_valid(), "{:?}", folder.findings);
    assert_eq!((folder.layout, folder.class), (Layout::HfTrainer, Class::Resumable));
    assert_eq!((folder.epoch, folder.step), (Some(Epoch::from(2)), Some(Step(8))));
    assert_eq!(folder.resume_epoch(), Some(2), "two epochs are done: the third, counted from 0, is next");
    assert_eq!(direction(&folder, "eval_accuracy"), Some(Direction::Max));
    assert_eq!(direction(&folder, "best_metric"), Some(Direction::Max));
    assert_eq!(direction(&folder, "eval_loss"), None);
    assert_eq!(common::metric(&folder, "eval_runtime"), None);
    let killed = common::inspect_directory("hf/run_killed/checkpoint-12");
    assert_eq!((common::errors(&killed), killed.step), (vec![Code::Truncated], Some(Step(12))));
}

#[test]
fn accelerates_epoch_is_in_its_custom_checkpoint() {
    for (name, epoch, accuracy) in [("checkpoint_0", 1, 0.75), ("checkpoint_1", 2, 0.875)] {
        let folder = common::inspect_directory(&format!("accelerate/checkpoints/{name}"));
        assert!(folder.is_valid(), "{:?}", folder.findings);
        assert_eq!((folder.layout, folder.class), (Layout::Accelerate, Class::Resumable));
        assert_eq!((folder.epoch, folder.step), (Some(Epoch::from(epoch)), None));
        assert_eq!(common::metric(&folder, "best_accuracy"), Some(accuracy));
    }
}

#[test]
fn scalars_of_a_distributed_checkpoint_are_read_one_by_one() {
    let folder = common::inspect_directory("dcp/step-200");
    assert!(folder.is_valid(), "{:?}", folder.findings);
    assert_eq!((folder.epoch, folder.class), (Some(Epoch::from(2)), Class::Resumable));
    assert_eq!(common::metric(&folder, "accuracy"), Some(0.875));
    assert_eq!(common::metric(&folder, "val_loss"), Some(0.125), "a tensor without dimensions");
    assert_eq!(folder.keys, ["accuracy", "epoch", "model", "optimizer", "val_loss"]);
    // Five of the model, two per parameter and one step each of the optimizer, val_loss.
    assert_eq!((folder.tensors.count, folder.tensors.dtypes["float32"]), (18, 18));
    let unfinished = common::inspect_directory("dcp/step-300-unfinished");
    assert_eq!(common::errors(&unfinished), [Code::Truncated]);
    let short = common::inspect_directory("dcp/step-400-short");
    assert_eq!(common::errors(&short)[0], Code::MissingShard);
}

#[test]
fn unpacked_archives_are_read_in_place() {
    for path in [
        "torch/unpacked_dotfiles.pth/zip_default",
        "torch/unpacked_stripped.pth/zip_default",
        "torch/unpacked_double.pth/unpacked_double.pth/zip_default",
    ] {
        let (folder, packed) = (common::inspect_directory(path), common::inspect_file("torch/zip_default.pth"));
        assert!(folder.is_valid(), "{path}: {:?}", folder.findings);
        assert_eq!((folder.epoch, &folder.keys, folder.class), (packed.epoch, &packed.keys, packed.class));
        assert_eq!((&folder.metrics, &folder.tensors), (&packed.metrics, &packed.tensors));
    }
}

#[test]
fn shards_are_one_checkpoint_and_a_missing_one_is_named() {
    let index = |path: &str| {
        let members = common::FsMembers::new(&common::root().join(path));
        let name = members.list().keys().find(|name| name.ends_with(".index.json")).unwrap().clone();
        inspect::index(&name, &members).unwrap()
    };
    let (whole, missing) = (index("safetensors/sharded"), index("safetensors/sharded_missing"));
    assert!(whole.is_valid(), "{:?}", whole.findings);
    assert_eq!((whole.tensors.count, whole.keys.len()), (8, 8));
    assert_eq!(common::errors(&missing), [Code::MissingShard]);
    assert!(missing.findings[0].message.contains("model-00002-of-00002"), "{:?}", missing.findings);
    let pickled = index("safetensors/sharded_bin");
    assert_eq!((pickled.is_valid(), pickled.tensors.count), (true, 8));
}

#[test]
fn formats_of_other_frameworks_are_recognised_and_never_called_corrupt() {
    for path in [
        "other/keras/model.keras",
        "other/keras/model.h5",
        "other/model.gguf",
        "other/model.onnx",
        "other/state.msgpack",
        "other/weights.npz",
        "other/weights.npy",
        "torch/exported.pt2",
    ] {
        let inspection = common::inspect_file(path);
        assert!(common::errors(&inspection).is_empty() && !inspection.is_valid(), "{path}: {:?}", inspection.findings);
        assert_eq!(inspection.findings[0].code, Code::Unsupported, "{path}");
    }
    for (path, errors) in [
        ("other/tf", vec![]),
        ("other/orbax/100", vec![]),
        ("other/orbax/200", vec![]),
        ("other/orbax/400.orbax-checkpoint-tmp-1767323045", vec![Code::Truncated]),
    ] {
        let inspection = common::inspect_directory(path);
        assert_eq!(common::errors(&inspection), errors, "{path}: {:?}", inspection.findings);
        assert!(!inspection.is_valid(), "{path}");
    }
}
