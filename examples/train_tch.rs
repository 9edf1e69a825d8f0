//! `train.rs` with libtorch: the model, AdamW whose state is ours, and dropout from libtorch's generator.
//!
//! `cargo run -p ckpt-examples --features tch --bin train_tch -- target/run_tch --steps 200`. CONTRIBUTING.md tells how to get
//! libtorch.

use std::error::Error;
use std::io::{Write, stdout};

use ckpt_core::ids::Step;
use ckpt_examples::{Arguments, Digits, PIXELS};
use ckpt_store::save::{Policy, Saver};
use ckpt_store::tch::optimizer::{Adam, Group, Optimizer};
use ckpt_store::tch::{Strictness, load, seed, tensors};
use tch::nn::{self, VarStore};
use tch::{Device, Tensor};

const BATCH: usize = 32;
const SAVE_EVERY: u64 = 10;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments = Arguments::parse()?;
    let digits = Digits::read();
    let saver = Saver::open(&arguments.root, Policy::default())?;

    let device = Device::cuda_if_available();
    seed(arguments.seed, Step(0), "initial weights");
    let variables = VarStore::new(device);
    let root = variables.root();
    // Weights decay, biases do not: two groups of parameters.
    let hidden = linear(&root / "hidden", PIXELS, 32);
    let output = linear(&root / "output", 32, 10);
    let mut optimizer = Optimizer::new(&variables, Adam::decoupled(3e-3))?;
    if let Some(rule) = optimizer.rule_mut(1) {
        *rule = Adam { weight_decay: 0.0, ..Adam::decoupled(3e-3) }.into();
    }

    let mut start = 0;
    if let Some(checkpoint) = saver.resume()? {
        start = arguments.resume(&checkpoint.json("trainer_state")?)?;
        load(&variables, checkpoint.tensors("model")?.iter(), Strictness::Strict)?;
        let groups: Vec<Group> = checkpoint.json("param_groups")?;
        optimizer.load(checkpoint.tensors("optimizer")?.iter(), &groups)?;
    }

    for step in start..arguments.steps {
        let (images, labels) = batch(&digits, &digits.batch(arguments.seed, step, BATCH), device);
        seed(arguments.seed, Step(step), "dropout");
        let loss = output(&hidden(&images).relu().dropout(0.2, true)).cross_entropy_for_logits(&labels);
        optimizer.backward_step(&loss)?;
        let loss = f32::try_from(&loss)?;
        // A line is out before the step is saved: what a kill repeats is printed twice, and never missing.
        writeln!(stdout(), "{step} {:08x} {loss}", loss.to_bits())?;

        let done = step + 1;
        if done % SAVE_EVERY == 0 || done == arguments.steps {
            let mut pending = saver.begin(Step(done))?;
            pending.metric("loss", f64::from(loss), None)?;
            pending.tensors("model", tensors(&variables)?)?;
            pending.tensors("optimizer", optimizer.tensors()?)?;
            pending.json("param_groups", &optimizer.groups())?;
            pending.json("trainer_state", &arguments.state(done))?;
            if arguments.is_async {
                pending.commit_async()?;
            } else {
                pending.commit()?;
            }
        }
    }
    saver.finish()?;
    Ok(())
}

/// A linear layer whose weights are in group 0 and whose biases are in group 1.
fn linear(path: nn::Path<'_>, inputs: usize, outputs: usize) -> impl Fn(&Tensor) -> Tensor {
    let (inputs, outputs) = (inputs as i64, outputs as i64);
    let weight = path.kaiming_uniform("weight", &[outputs, inputs]);
    let bias = path.set_group(1).zeros("bias", &[outputs]);
    move |input| input.linear(&weight, Some(&bias))
}

/// The pixels and the labels of some digits.
fn batch(digits: &Digits, indices: &[usize], device: Device) -> (Tensor, Tensor) {
    let (images, labels): (Vec<_>, Vec<_>) = indices.iter().map(|index| digits.get(*index)).unzip();
    let images = Tensor::from_slice(images.as_flattened()).view([-1, PIXELS as i64]);
    let labels: Vec<i64> = labels.into_iter().map(i64::from).collect();
    (images.to_device(device), Tensor::from_slice(&labels).to_device(device))
}
