//! Whether a mapping is what its key says, or weights under a name that says something else.

use crate::format::pickle::{Pickle, Value};
use crate::format::torch::tensor;
use crate::layout::keys::Role;

const OPTIMIZER: &[&str] = &[
    "state",
    "param_groups",
    "optimizer_state_dict",
    "base_optimizer_state",
    "exp_avg",
    "exp_avg_sq",
    "momentum",
    "momentum_buffer",
    "square_avg",
    "m",
    "v",
    "mu",
    "nu",
    "step",
    "t",
    "lr",
    "betas",
    "defaults",
];
const SCHEDULER: &[&str] = &[
    "last_epoch",
    "_step_count",
    "base_lrs",
    "_last_lr",
    "num_bad_epochs",
    "_schedulers",
    "base_values",
    "warmup_steps",
    "optimizer",
];
const SCALER: &[&str] = &[
    "growth_factor",
    "_growth_factor",
    "backoff_factor",
    "growth_interval",
    "_growth_tracker",
    "loss_scale",
    "cur_scale",
    "unskipped",
];
const RNG: &[&str] = &["torch", "cuda", "numpy", "python", "random", "bit_generator", "rng_state", "torch_rng_state"];
const LOADER: &[&str] = &[
    "epoch",
    "indices",
    "position",
    "generator",
    "num_samples",
    "batch_size",
    "dataset",
    "data_source",
    "batch_sampler",
    "num_replicas",
    "seed",
    "samples_yielded",
    "batches_fetched",
    "_snapshot",
    "_num_yielded",
];

/// Whether a mapping has a field that states of this role usually have, or holds nothing but such mappings.
pub(super) fn is_usual(pickle: &Pickle, role: Role, value: Value) -> bool {
    let fields = match role {
        Role::Optimizer => OPTIMIZER,
        Role::Scheduler => SCHEDULER,
        Role::Scaler => SCALER,
        Role::Rng => RNG,
        Role::Loader => LOADER,
        _ => return false,
    };
    let has = |value| {
        pickle.fields(value).is_some_and(|found| {
            found.iter().any(|(name, _)| pickle.text(*name).is_some_and(|name| fields.contains(&&*name)))
        })
    };
    has(value)
        || pickle
            .fields(value)
            .is_some_and(|inner| !inner.is_empty() && inner.len() <= 64 && inner.iter().all(|(_, value)| has(*value)))
}

/// Whether a tensor with elements of a floating type stands directly in a mapping, under a text.
pub(super) fn has_named_weight(pickle: &Pickle, value: Value) -> bool {
    pickle.fields(value).is_some_and(|fields| {
        fields.iter().any(|(name, value)| matches!(name, Value::Text(_)) && is_weight(pickle, *value))
    })
}

/// Whether a value is a tensor such as weights are: no scalar, and of a floating type. Random generators have bytes.
pub(super) fn is_weight(pickle: &Pickle, value: Value) -> bool {
    tensor::tensor(pickle, value).is_some_and(|tensor| !tensor.shape.is_empty() && tensor.dtype.is_float())
}
