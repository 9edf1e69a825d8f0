//! Python opens what was saved with nothing but `safetensors` and `json`.
#![allow(clippy::disallowed_methods, clippy::unwrap_used, clippy::print_stdout, reason = "tests look at files")]

mod common;

use std::process::Command;

use ckpt_core::format::dtype::Dtype;
use ckpt_core::ids::{Epoch, Step};
use ckpt_store::save::{Policy, Saver, Tensor};

const SCRIPT: &str = r#"
import json, math, os, sys
import torch
from safetensors import safe_open
from safetensors.torch import load_file

root = sys.argv[1]
latest = os.path.join(root, "latest")
assert os.readlink(latest) == "step-00001200"
strict = lambda word: (_ for _ in ()).throw(ValueError(word))
manifest = json.load(open(os.path.join(latest, "manifest.json")), parse_constant=strict)
assert manifest["schema"] == "ckpt.manifest/1" and manifest["step"] == 1200 and manifest["epoch"] == 3
assert manifest["metrics"] == {"accuracy": 0.875, "loss": "NaN"} and manifest["class"] == "resumable"
for name, file in manifest["files"].items():
    assert os.path.getsize(os.path.join(latest, name)) == file["bytes"], name
pointer = json.load(open(os.path.join(root, "best-accuracy.json")))
assert pointer["checkpoint"] == "step-00001200" and pointer["value"] == 0.875
assert json.load(open(os.path.join(latest, "trainer_state.json"))) == {"epoch": 3, "rng": [1, 2]}

model = load_file(os.path.join(latest, "model.safetensors"))
expected = {
    "float32": torch.arange(6, dtype=torch.float32).reshape(2, 3), "float64": torch.tensor(0.5, dtype=torch.float64),
    "float16": torch.tensor([1.5, -2.0], dtype=torch.float16), "bfloat16": torch.tensor([1.5, -2.0], dtype=torch.bfloat16),
    "int64": torch.tensor([-1, 2]), "uint8": torch.zeros(0, 4, dtype=torch.uint8), "bool": torch.tensor([True, False, True]),
}
assert model.keys() == expected.keys(), model.keys()
for name, tensor in expected.items():
    assert model[name].dtype == tensor.dtype and model[name].shape == tensor.shape and torch.equal(model[name], tensor), name

with safe_open(os.path.join(root, "best.safetensors"), "pt") as single:
    assert single.metadata()["step"] == "1200" and single.metadata()["accuracy"] == "0.875"
    assert json.loads(single.metadata()["trainer_state"]) == {"epoch": 3}
    assert torch.equal(single.get_tensor("w"), torch.tensor([7.0]))
print("fine")
"#;

fn bytes<const N: usize, T>(values: impl IntoIterator<Item = T>, to: impl Fn(T) -> [u8; N]) -> Vec<u8> {
    values.into_iter().flat_map(to).collect()
}

#[test]
fn python_reads_every_part_of_a_checkpoint() {
    let Some(python) = common::python() else { return };
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    let tensors: [(&str, &[u64], Vec<u8>); 7] = [
        ("float32", &[2, 3], bytes(0_u8..6, |value| f32::from(value).to_le_bytes())),
        ("float64", &[], bytes([0.5], f64::to_le_bytes)),
        ("float16", &[2], bytes([0x3e00_u16, 0xc000], u16::to_le_bytes)),
        ("bfloat16", &[2], bytes([0x3fc0_u16, 0xc000], u16::to_le_bytes)),
        ("int64", &[2], bytes([-1, 2], i64::to_le_bytes)),
        ("uint8", &[0, 4], Vec::new()),
        ("bool", &[3], vec![1, 0, 1]),
    ];
    let saver = Saver::open(root, Policy::default()).unwrap();
    let mut pending = saver.begin(Step(1200)).unwrap();
    pending.epoch(Epoch::from(3)).metric("accuracy", 0.875, None).unwrap();
    pending.metric("loss", f64::NAN, None).unwrap();
    let tensor = |(name, shape, bytes): &'_ (&'static str, &'static [u64], Vec<u8>)| {
        Tensor::new(*name, Dtype::of_torch(name), *shape, bytes.clone())
    };
    pending.tensors("model", tensors.iter().map(tensor)).unwrap();
    pending.tensors("optimizer", []).unwrap();
    pending.json("trainer_state", &serde_json::json!({"epoch": 3, "rng": [1, 2]})).unwrap();
    pending.commit_async().unwrap().wait().unwrap();

    let mut pending = saver.begin(Step(1200)).unwrap();
    pending.metric("accuracy", 0.875, None).unwrap();
    let seven = 7.0_f32.to_le_bytes();
    pending.tensors("model", [Tensor::new("w", Dtype::of_torch("float32"), [1], &seven[..])]).unwrap();
    pending.json("trainer_state", &serde_json::json!({"epoch": 3})).unwrap();
    pending.commit_file("best.safetensors").unwrap();

    let output = Command::new(python).args(["-c", SCRIPT]).arg(root).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "fine");
}
