//! Models of the crate `tch` in checkpoints: variables, optimizers whose state is ours, random numbers.
//!
//! libtorch's C interface, and so `tch`, gives out neither the state of an optimizer nor that of the generator of random
//! numbers. A run that goes on without them goes on differently. So [`optimizer`] has optimizers that keep their state in
//! tensors of ours and step as libtorch's own do, and [`seed`] seeds the generator anew in each step.
//!
//! Gradients are no part of a checkpoint: save after a step and before the next backward pass.
//!
//! A run is the same after a resume to the last bit where libtorch itself is: on the CPU with the same build of libtorch, the
//! same kind of processor and the same number of threads. On a GPU some of its kernels add up in no fixed order.
//!
//! ```no_run
//! use ckpt_core::ids::Step;
//! use ckpt_store::save::{Policy, Saver};
//! use ckpt_store::tch::optimizer::{Adam, Group, Optimizer};
//! use ckpt_store::tch::{Strictness, load, seed, tensors};
//! use tch::{Device, Tensor, nn, nn::Module};
//!
//! # fn batch(_: u64) -> (Tensor, Tensor) { unreachable!() }
//! let saver = Saver::open("checkpoints".as_ref(), Policy::default())?;
//! let run = 42;
//! seed(run, Step(0), "initial weights");
//! let variables = nn::VarStore::new(Device::cuda_if_available());
//! let model = nn::linear(variables.root(), 64, 10, Default::default());
//! let mut optimizer = Optimizer::new(&variables, Adam::decoupled(1e-3))?;
//!
//! let mut start = 0;
//! if let Some(checkpoint) = saver.resume()? {
//!     load(&variables, checkpoint.tensors("model")?.iter(), Strictness::Strict)?;
//!     let groups: Vec<Group> = checkpoint.json("param_groups")?;
//!     optimizer.load(checkpoint.tensors("optimizer")?.iter(), &groups)?;
//!     start = checkpoint.manifest().step.0;
//! }
//! for step in start..1000 {
//!     let (images, labels) = batch(step);
//!     seed(run, Step(step), "dropout");
//!     let loss = model.forward(&images.dropout(0.1, true)).cross_entropy_for_logits(&labels);
//!     optimizer.backward_step(&loss)?;
//!
//!     let mut pending = saver.begin(Step(step + 1))?;
//!     pending.tensors("model", tensors(&variables)?)?;
//!     pending.tensors("optimizer", optimizer.tensors()?)?;
//!     pending.json("param_groups", &optimizer.groups())?;
//!     pending.commit_async()?;
//! }
//! saver.finish()?;
//! # Ok::<(), ckpt_store::Error>(())
//! ```

mod element;
pub mod optimizer;
mod var_store;

use ckpt_core::ids::Step;

pub use var_store::{Converted, LoadReport, Misshaped, Strictness, compare, load, tensors};

/// Seeds libtorch's generators, of the CPU and of every GPU, for one purpose in one step: see [`ckpt_core::seed`].
///
/// Whatever is drawn until the next call depends on these three alone, so a run that is resumed draws what it would have
/// drawn. Generators belong to the process: threads that draw at the same time draw from the same ones.
///
/// libtorch's generator for the CPU takes the lower 32 bits of a seed only. Two steps in a hundred thousand may so draw the same
/// numbers; where that matters, draw on the GPU or from a generator of your own seeded by [`ckpt_core::seed::at`].
pub fn seed(run: u64, step: Step, purpose: &str) {
    ::tch::manual_seed(ckpt_core::seed::at(run, step, purpose).cast_signed());
}
