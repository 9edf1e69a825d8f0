//! The feature `tch`, against libtorch itself. On the CPU: nothing here looks for a GPU.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod optimizers;
mod pytorch;
mod resume;
mod variables;

use std::sync::{Mutex, PoisonError};

use ckpt_core::format::dtype::Dtype;
use ckpt_core::ids::Step;
use ckpt_store::save::Tensor;
use tch::nn::{self, VarStore};
use tch::{Device, Kind};

fn floats(name: &str, shape: &[u64], values: &[f32]) -> Tensor<'static> {
    let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    Tensor::new(name.to_owned(), Dtype::of_torch("float32"), shape, bytes)
}

/// The bytes of all variables, by name.
fn bits(variables: &VarStore) -> Vec<(String, Vec<u8>)> {
    ckpt_store::tch::tensors(variables)
        .unwrap()
        .into_iter()
        .map(|tensor| (tensor.name.into_owned(), tensor.bytes.into_owned()))
        .collect()
}

/// Held while numbers are drawn: the generator belongs to the process, and tests run side by side.
static GENERATOR: Mutex<()> = Mutex::new(());

/// A small network with two groups of parameters: weights in group 0, biases in group 1.
struct Network {
    variables: VarStore,
    weights: [tch::Tensor; 2],
    biases: [tch::Tensor; 2],
}

impl Network {
    fn new(kind: Kind) -> Self {
        let _drawing = GENERATOR.lock().unwrap_or_else(PoisonError::into_inner);
        tch::manual_seed(7);
        let mut variables = VarStore::new(Device::Cpu);
        let (root, biases) = (variables.root(), variables.root().set_group(1));
        let weight = |name: &str, size: [i64; 2]| root.var(name, &size, nn::init::DEFAULT_KAIMING_UNIFORM);
        let weights = [weight("first", [37, 19]), weight("second", [5, 37])];
        let biases = [biases.zeros("first_bias", &[37]), biases.zeros("second_bias", &[5])];
        variables.set_kind(kind);
        Self { variables, weights, biases }
    }

    /// The loss of the batch of a step. Every third step leaves the bias of the first layer out.
    fn loss(&self, step: u64, dropout: f64) -> tch::Tensor {
        let kind = self.weights[0].kind();
        let _drawing = GENERATOR.lock().unwrap_or_else(PoisonError::into_inner);
        ckpt_store::tch::seed(1, Step(step), "batch and dropout");
        let (input, target) = (
            tch::Tensor::randn([16, 19], (Kind::Float, Device::Cpu)).to_kind(kind),
            tch::Tensor::randint(5, [16], (Kind::Int64, Device::Cpu)),
        );
        let mut hidden = input.matmul(&self.weights[0].tr());
        if step % 3 != 2 {
            hidden += &self.biases[0];
        }
        let hidden = hidden.tanh().dropout(dropout, true);
        (hidden.matmul(&self.weights[1].tr()) + &self.biases[1]).to_kind(Kind::Float).cross_entropy_for_logits(&target)
    }
}
