//! Beside PyTorch itself, in both directions: it goes on from our state, and we from its.
//!
//! Needs a Python with torch in `CKPT_PYTHON` (`.ci/python` prints one); without it this test says that it was skipped.
#![allow(clippy::print_stderr, clippy::disallowed_methods, reason = "it looks for a Python, and says what it skips")]

use std::collections::BTreeMap;
use std::process::Command;

use ckpt_core::ids::Step;
use ckpt_store::save::{Policy, Saver};
use ckpt_store::tch::optimizer::{Adam, Group, Optimizer, Rule, Sgd};
use ckpt_store::tch::{Strictness, load, tensors};
use serde::Deserialize;
use tch::Kind;

use crate::{Network, floats};

/// Three steps with known gradients from the checkpoint of `argv[1]`; then the state, and the weights after three more.
const PROGRAM: &str = r#"
import json, os, sys, torch
from safetensors.torch import load_file
root = sys.argv[1]
model = {name: value.requires_grad_() for name, value in load_file(os.path.join(root, "model.safetensors")).items()}
groups = json.load(open(os.path.join(root, "param_groups.json")))
state = {}
for name, value in load_file(os.path.join(root, "optimizer.safetensors")).items():
    _, i, field = name.split(".")
    state.setdefault(int(i), {})[field] = value
optimizer = getattr(torch.optim, sys.argv[2])([{"params": [model[name] for name in group["param_names"]]} for group in groups], lr=1.0)
optimizer.load_state_dict({"state": state, "param_groups": groups})
def step():
    for value in model.values():
        value.grad = torch.linspace(-1, 1, value.numel()).reshape(value.shape)
    optimizer.step()
def told(tensors):
    return {name: [list(value.shape), value.flatten().tolist()] for name, value in tensors.items()}
for _ in range(3):
    step()
out = {"model": told(model)}
saved = optimizer.state_dict()
out["state"] = told({f"state.{i}.{field}": value for i, fields in saved["state"].items() for field, value in fields.items()})
out["groups"] = saved["param_groups"]
for _ in range(3):
    step()
out["later"] = told(model)
json.dump(out, sys.stdout)
"#;

type Told = BTreeMap<String, (Vec<u64>, Vec<f32>)>;

#[derive(Deserialize)]
struct Answer {
    model: Told,
    state: Told,
    groups: Vec<Group>,
    later: Told,
}

fn three_steps(network: &Network, optimizer: &mut Optimizer) {
    for _ in 0..3 {
        let losses = network.weights.iter().chain(&network.biases).map(|parameter| {
            let count = i64::try_from(parameter.numel()).unwrap();
            let gradient = tch::Tensor::linspace(-1.0, 1.0, count, (Kind::Float, tch::Device::Cpu));
            (parameter * gradient.view_as(parameter)).sum(Kind::Float)
        });
        optimizer.backward_step(&losses.reduce(|a, b| a + b).unwrap()).unwrap();
    }
}

fn assert_near(network: &Network, told: &Told) {
    let variables = network.variables.variables();
    assert_eq!(variables.len(), told.len());
    for (name, (shape, values)) in told {
        let shape: Vec<i64> = shape.iter().map(|length| i64::try_from(*length).unwrap()).collect();
        let far = (&variables[name] - tch::Tensor::from_slice(values).view(&*shape)).abs().max().double_value(&[]);
        assert!(far < 1e-6, "{name}: {far}");
    }
}

#[test]
fn pytorch_goes_on_from_our_state_and_we_from_its() {
    let Some(python) = std::env::var_os("CKPT_PYTHON").filter(|path| !path.is_empty()) else {
        eprintln!("SKIPPED pytorch_goes_on_from_our_state_and_we_from_its: CKPT_PYTHON names no Python with torch");
        return;
    };
    let cases: [(Rule, &str); 4] = [
        (Adam { weight_decay: 0.1, ..Adam::new(0.01) }.into(), "Adam"),
        (Adam { amsgrad: true, ..Adam::new(0.01) }.into(), "Adam"),
        (Adam::decoupled(0.01).into(), "AdamW"),
        (Sgd { momentum: 0.9, weight_decay: 0.1, nesterov: true, ..Sgd::new(0.01) }.into(), "SGD"),
    ];
    for (rule, name) in cases {
        let network = Network::new(Kind::Float);
        let mut optimizer = Optimizer::new(&network.variables, rule).unwrap();
        optimizer.rule_mut(1).unwrap().set_lr(0.05);
        three_steps(&network, &mut optimizer);
        let directory = tempfile::tempdir().unwrap();
        let saver = Saver::open(directory.path(), Policy::default()).unwrap();
        let mut pending = saver.begin(Step(3)).unwrap();
        pending.tensors("model", tensors(&network.variables).unwrap()).unwrap();
        pending.tensors("optimizer", optimizer.tensors().unwrap()).unwrap();
        pending.json("param_groups", &optimizer.groups()).unwrap();
        let committed = pending.commit().unwrap();

        // Python has a libtorch of its own.
        let mut command = Command::new(&python);
        command.env_remove("LD_LIBRARY_PATH").args(["-c", PROGRAM]).arg(&committed.path).arg(name);
        let ran = command.output().unwrap();
        assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
        let answer: Answer = serde_json::from_slice(&ran.stdout).unwrap();
        three_steps(&network, &mut optimizer);
        assert_near(&network, &answer.model);

        let ours = Network::new(Kind::Float);
        let mut optimizer = Optimizer::new(&ours.variables, Sgd::new(1.0)).unwrap();
        let of = |told: &Told| -> Vec<_> {
            told.iter().map(|(name, (shape, values))| floats(name, shape, values)).collect()
        };
        load(&ours.variables, of(&answer.model), Strictness::Strict).unwrap();
        optimizer.load(of(&answer.state), &answer.groups).unwrap();
        three_steps(&ours, &mut optimizer);
        assert_near(&ours, &answer.later);
    }
}
