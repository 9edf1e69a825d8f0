//! The layout that a producer gives its state, and what is read from it: epoch, step, metrics, keys, tensors, parts.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::ids::{Epoch, Step};
use crate::limits;
use crate::metric::{Direction, Metric};

pub mod hf;
pub(crate) mod keys;
mod lightning;
mod scalars;
pub mod state;
mod ultralytics;

/// Who arranged the state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Layout {
    /// A dict of a training loop of its own: `epoch`, `model_state_dict`, …
    TrainingDict,
    /// Names and tensors, nothing else.
    StateDict,
    /// PyTorch Lightning.
    Lightning,
    /// Hugging Face's Trainer.
    HfTrainer,
    /// Hugging Face Accelerate.
    Accelerate,
    /// Ultralytics YOLO.
    Ultralytics,
    /// timm's training script.
    Timm,
    /// `OpenMMLab`'s `mmengine` and `mmcv`.
    Mmengine,
    /// The directory that this project saves: see [`crate::manifest`].
    Ckpt,
    /// A pickled module.
    Module,
    /// Values without tensors.
    Values,
    /// None of these.
    #[default]
    Unknown,
}

impl Layout {
    /// The name in machine-readable output.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::TrainingDict => "training-dict",
            Self::StateDict => "state-dict",
            Self::Lightning => "lightning",
            Self::HfTrainer => "hf-trainer",
            Self::Accelerate => "accelerate",
            Self::Ultralytics => "ultralytics",
            Self::Timm => "timm",
            Self::Mmengine => "mmengine",
            Self::Ckpt => "ckpt",
            Self::Module => "module",
            Self::Values => "values",
            Self::Unknown => "unknown",
        }
    }
}

/// The tensors of a checkpoint, added up.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TensorSummary {
    /// How many tensors.
    pub count: u64,
    /// How many elements, all tensors together.
    pub parameters: u64,
    /// How many bytes those elements take.
    pub bytes: u64,
    /// How many tensors of each element type.
    pub dtypes: BTreeMap<String, u64>,
}

impl TensorSummary {
    /// Adds one tensor.
    pub fn add(&mut self, dtype: &str, elements: u64, bytes: u64) {
        self.count = self.count.saturating_add(1);
        self.parameters = self.parameters.saturating_add(elements);
        self.bytes = self.bytes.saturating_add(bytes);
        match self.dtypes.get_mut(dtype) {
            Some(count) => *count = count.saturating_add(1),
            None => {
                self.dtypes.insert(dtype.to_owned(), 1);
            }
        }
    }

    /// Adds what another file of the same checkpoint holds.
    pub fn merge(&mut self, other: &Self) {
        self.count = self.count.saturating_add(other.count);
        self.parameters = self.parameters.saturating_add(other.parameters);
        self.bytes = self.bytes.saturating_add(other.bytes);
        for (dtype, more) in &other.dtypes {
            let count = self.dtypes.entry(dtype.clone()).or_insert(0);
            *count = count.saturating_add(*more);
        }
    }
}

/// The parts that a run needs to go on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[expect(clippy::struct_excessive_bools, reason = "seven independent facts, each shown under its own name")]
pub struct Parts {
    /// Weights.
    pub model: bool,
    /// Optimizer state.
    pub optimizer: bool,
    /// Learning rate scheduler state.
    pub scheduler: bool,
    /// Gradient scaler state.
    pub scaler: bool,
    /// Random generators' state.
    pub rng: bool,
    /// The position in the data.
    pub loader: bool,
    /// Records of past epochs.
    pub history: bool,
}

impl Parts {
    /// What is there in either.
    #[must_use]
    pub fn union(self, other: Self) -> Self {
        Self {
            model: self.model || other.model,
            optimizer: self.optimizer || other.optimizer,
            scheduler: self.scheduler || other.scheduler,
            scaler: self.scaler || other.scaler,
            rng: self.rng || other.rng,
            loader: self.loader || other.loader,
            history: self.history || other.history,
        }
    }
}

/// What training can do with a checkpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Class {
    /// Weights and optimizer state are there: training can go on.
    Resumable,
    /// Weights at most.
    #[default]
    InferenceOnly,
}

impl Class {
    /// The class that the parts make.
    #[must_use]
    pub fn of(parts: Parts) -> Self {
        if parts.model && parts.optimizer { Self::Resumable } else { Self::InferenceOnly }
    }

    /// The name in machine-readable output.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Resumable => "resumable",
            Self::InferenceOnly => "inference-only",
        }
    }
}

/// What one state says.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Facts {
    /// Who arranged it.
    pub layout: Layout,
    /// Its epoch.
    pub epoch: Option<Epoch>,
    /// Its step.
    pub step: Option<Step>,
    /// Its metrics.
    pub metrics: Vec<Metric>,
    /// Its top-level keys.
    pub keys: Vec<String>,
    /// Its tensors.
    pub tensors: TensorSummary,
    /// Its parts.
    pub parts: Parts,
    /// The class that it declares itself to be of.
    pub declared: Option<Class>,
    /// Prefixes that wrap every model key: `module.` from data-parallel training, `_orig_mod.` from compilation.
    pub prefixes: Vec<String>,
    /// Whether its trainer says that training is over.
    pub is_finished: bool,
    /// Whether it was saved before the end of its epoch.
    pub is_mid_epoch: bool,
    /// Remarks for people.
    pub notes: Vec<String>,
    /// Storages of metrics whose checksum does not match.
    pub damaged_metrics: Vec<String>,
    /// How many tensors reach beyond their storages.
    pub tensors_outside: u64,
}

impl Facts {
    /// Adds a metric; a name that is taken is qualified by where the new one was found.
    pub fn add_metric(&mut self, name: &str, value: f64, provenance: &str, direction: Option<Direction>) {
        if self.metrics.len() >= limits::METRICS || name.is_empty() || name.len() > limits::NAME_BYTES {
            return;
        }
        let is_taken = |name: &str| self.metrics.iter().any(|metric| metric.name == name);
        let name = if is_taken(name) { provenance } else { name };
        if !is_taken(name) {
            self.metrics.push(Metric { name: name.to_owned(), value, provenance: provenance.to_owned(), direction });
        }
    }
}

/// The prefixes that all names share and that wrappers of modules add.
pub(crate) fn wrapper_prefixes<'a>(names: &(impl Iterator<Item = &'a str> + Clone)) -> Vec<String> {
    let mut found = String::new();
    let mut prefixes = Vec::new();
    // More than a handful of wrappers around each other is a file made to be slow.
    'search: while prefixes.len() < 8 {
        for wrapper in ["module.", "_orig_mod.", "_fsdp_wrapped_module."] {
            let candidate = format!("{found}{wrapper}");
            if names.clone().next().is_some() && names.clone().all(|name| name.starts_with(&candidate)) {
                found = candidate;
                prefixes.push(wrapper.to_owned());
                continue 'search;
            }
        }
        break;
    }
    prefixes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrappers_are_found_in_the_order_they_wrap() {
        let names = ["module._orig_mod.a", "module._orig_mod.b"];
        assert_eq!(wrapper_prefixes(&names.iter().copied()), ["module.", "_orig_mod."]);
        assert!(wrapper_prefixes(&["module.a", "b"].iter().copied()).is_empty());
        assert!(wrapper_prefixes(&std::iter::empty()).is_empty());
    }

    #[test]
    fn a_second_metric_of_one_name_is_qualified() {
        let mut facts = Facts::default();
        facts.add_metric("accuracy", 0.9, "train.accuracy", None);
        facts.add_metric("accuracy", 0.8, "val.accuracy", None);
        facts.add_metric("accuracy", 0.7, "val.accuracy", None);
        let names: Vec<_> = facts.metrics.iter().map(|metric| (metric.name.as_str(), metric.value)).collect();
        assert_eq!(names, [("accuracy", 0.9), ("val.accuracy", 0.8)]);
    }
}
