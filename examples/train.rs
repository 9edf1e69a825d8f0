//! A training that survives anything: a small network in plain Rust learns handwritten digits, saves as it goes, and after a kill
//! goes on from where it was. Its losses are then those of a run that nobody killed, to the last bit.
//!
//! `cargo run -p ckpt-examples --bin train -- target/run --steps 200`, Ctrl-C, and once more. Options: `--seed N`, `--deadline +11h30m`,
//! `--async`.

use std::error::Error;
use std::io::{Write, stdout};

use ckpt_core::format::dtype::Dtype;
use ckpt_core::ids::Step;
use ckpt_core::schedule::Schedule;
use ckpt_examples::{Arguments, Digits, PIXELS, Random};
use ckpt_store::load::Tensors;
use ckpt_store::save::{Policy, Saver, Tensor, Ticket};
use ckpt_store::watch::Watch;

const HIDDEN: usize = 32;
const CLASSES: usize = 10;
const BATCH: usize = 32;
const SAVE_EVERY: u64 = 10;
const LEARNING_RATE: f32 = 0.05;
const MOMENTUM: f32 = 0.9;
const DROPOUT: f32 = 0.2;

/// Weights by output, then input; biases.
const SHAPES: [(&str, &[u64]); 4] = [
    ("hidden.weight", &[HIDDEN as u64, PIXELS as u64]),
    ("hidden.bias", &[HIDDEN as u64]),
    ("output.weight", &[CLASSES as u64, HIDDEN as u64]),
    ("output.bias", &[CLASSES as u64]),
];

fn main() -> Result<(), Box<dyn Error>> {
    let arguments = Arguments::parse()?;
    let digits = Digits::read();
    let saver = Saver::open(&arguments.root, Policy::default())?;

    // SIGTERM, SIGUSR1 and the end of a SLURM or Kaggle session are reasons to save and stop, too.
    let deadline_ns = arguments.deadline_ns;
    let schedule = Schedule { every_steps: Some(SAVE_EVERY), on_signal: true, deadline_ns, ..Schedule::default() };
    let resumed = saver.resume()?;
    let mut watch = Watch::new(schedule, resumed.as_ref())?;
    let mut under_way: Option<Ticket> = None;

    let (mut model, mut velocity, start) = match &resumed {
        Some(checkpoint) => {
            let start = arguments.resume(&checkpoint.json("trainer_state")?)?;
            (values(&checkpoint.tensors("model")?)?, values(&checkpoint.tensors("optimizer")?)?, start)
        }
        None => (initial(arguments.seed), SHAPES.map(|(_, shape)| vec![0.0; count(shape)]), 0),
    };

    for step in start..arguments.steps {
        let batch = digits.batch(arguments.seed, step, BATCH);
        let (loss, gradient) = loss(&model, &digits, &batch, &mut Random::at(arguments.seed, step, "dropout"));
        for ((model, velocity), gradient) in model.iter_mut().zip(&mut velocity).zip(gradient) {
            for ((model, velocity), gradient) in model.iter_mut().zip(velocity).zip(gradient) {
                *velocity = MOMENTUM * *velocity + gradient;
                *model -= LEARNING_RATE * *velocity;
            }
        }
        // A line is out before the step is saved: what a kill repeats is printed twice, and never missing.
        writeln!(stdout(), "{step} {:08x} {loss}", loss.to_bits())?;

        let done = step + 1;
        let mut decision = watch.after(Step(done), None);
        if done == arguments.steps {
            decision = watch.finish(Step(done));
        }
        if decision.save {
            let mut pending = saver.begin(Step(done))?;
            pending.metric("loss", f64::from(loss), None)?;
            pending.tensors("model", tensors(&model))?;
            pending.tensors("optimizer", tensors(&velocity))?;
            pending.json("trainer_state", &arguments.state(done))?;
            if arguments.is_async {
                if let Some(ticket) = under_way.take() {
                    watch.saved(&ticket.wait()?);
                }
                under_way = Some(pending.commit_async()?);
                watch.saving(Step(done));
            } else {
                watch.saved(&pending.commit()?);
            }
        }
        if decision.stop {
            break;
        }
    }
    saver.finish()?;
    Ok(())
}

type Parameters = [Vec<f32>; 4];

fn count(shape: &[u64]) -> usize {
    shape.iter().product::<u64>() as usize
}

fn initial(seed: u64) -> Parameters {
    let mut random = Random::at(seed, 0, "initial weights");
    SHAPES.map(|(_, shape)| match *shape {
        [_, inputs] => (0..count(shape)).map(|_| (random.fraction() - 0.5) * (6.0 / inputs as f32).sqrt()).collect(),
        _ => vec![0.0; count(shape)],
    })
}

/// The mean cross-entropy of a batch, and its gradient.
fn loss(model: &Parameters, digits: &Digits, batch: &[usize], random: &mut Random) -> (f32, Parameters) {
    let mut gradient = SHAPES.map(|(_, shape)| vec![0.0; count(shape)]);
    let mut total = 0.0;
    let share = 1.0 / batch.len() as f32;
    for &index in batch {
        let (image, label) = digits.get(index);
        let keep: [f32; HIDDEN] =
            std::array::from_fn(|_| if random.fraction() < DROPOUT { 0.0 } else { 1.0 / (1.0 - DROPOUT) });
        let sums = layer(&image, &model[0], &model[1]);
        let hidden: Vec<f32> = sums.iter().zip(keep).map(|(sum, keep)| sum.max(0.0) * keep).collect();
        let outputs = layer(&hidden, &model[2], &model[3]);

        let largest = outputs.iter().fold(f32::MIN, |a, b| a.max(*b));
        let exponentials: Vec<f32> = outputs.iter().map(|output| (output - largest).exp()).collect();
        let sum: f32 = exponentials.iter().sum();
        total += (sum.ln() + largest - outputs[usize::from(label)]) * share;

        let at_output: Vec<f32> = (0..CLASSES)
            .map(|class| (exponentials[class] / sum - f32::from(class == usize::from(label))) * share)
            .collect();
        let at_hidden: Vec<f32> = (0..HIDDEN)
            .map(|unit| {
                let back: f32 = (0..CLASSES).map(|class| at_output[class] * model[2][class * HIDDEN + unit]).sum();
                if sums[unit] > 0.0 { back * keep[unit] } else { 0.0 }
            })
            .collect();
        let [hidden_weight, hidden_bias, output_weight, output_bias] = &mut gradient;
        add_outer(hidden_weight, hidden_bias, &at_hidden, &image);
        add_outer(output_weight, output_bias, &at_output, &hidden);
    }
    (total, gradient)
}

fn layer(inputs: &[f32], weight: &[f32], bias: &[f32]) -> Vec<f32> {
    let rows = weight.chunks(inputs.len()).zip(bias);
    rows.map(|(row, bias)| row.iter().zip(inputs).map(|(weight, input)| weight * input).sum::<f32>() + bias).collect()
}

fn add_outer(weight: &mut [f32], bias: &mut [f32], at_outputs: &[f32], inputs: &[f32]) {
    for ((row, bias), at_output) in weight.chunks_mut(inputs.len()).zip(bias).zip(at_outputs) {
        *bias += at_output;
        row.iter_mut().zip(inputs).for_each(|(weight, input)| *weight += at_output * input);
    }
}

fn tensors(parameters: &Parameters) -> impl Iterator<Item = Tensor<'static>> {
    SHAPES.iter().zip(parameters).map(|((name, shape), values)| {
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        Tensor::new(*name, Dtype::of_torch("float32"), *shape, bytes)
    })
}

fn values(tensors: &Tensors) -> Result<Parameters, Box<dyn Error>> {
    let mut parameters = Parameters::default();
    for (parameter, (name, shape)) in parameters.iter_mut().zip(SHAPES) {
        let tensor = tensors.get(name).ok_or_else(|| format!("the checkpoint has no {name}"))?;
        if tensor.shape != shape || tensor.dtype.name() != "float32" {
            return Err(format!("{name} is of another shape or type in the checkpoint").into());
        }
        *parameter = tensor.bytes.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
    }
    Ok(parameters)
}
