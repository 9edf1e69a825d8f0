//! compact and convert: what of a checkpoint goes into a smaller one, and what does not, with a reason for each.
//!
//! The rule: the state of the optimizer, the scheduler, the gradient scaler, the random generators and the loader is there to go
//! on with training and goes; weights, averaged ones too, stay, and so does everything that is plain data. What only code
//! could make again cannot be written without running it, and goes. The result says of itself that it is inference-only.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::borrow::Cow;
use std::collections::HashMap;

use crate::error::{Error, ErrorKind, Result};
use crate::format::pickle::{NodeId, Pickle, Value};
use crate::format::torch::{Opened, tensor};
use crate::layout::keys::{self, Role};
use crate::layout::state::Walker;
use crate::layout::{Class, Layout, state};
use crate::limits;

mod flat;
mod module;
mod pth;

pub use flat::{Flat, Slim, flat, slim};
pub use pth::{Piece, Pth, pth};

/// The key under which a `.pth` declares its class.
pub const CLASS_KEY: &str = "ckpt_class";
/// The field of `__metadata__` under which a safetensors file does.
pub const CLASS_FIELD: &str = "ckpt.class";

/// The subject of errors that are about a checkpoint as a whole.
pub const WHOLE: &str = "the checkpoint";

/// Most parts that are named; further ones are counted.
const NAMED: usize = 1_000;
/// Deepest nesting that is followed. Bounds the recursion over values, which may be cyclic.
const DEPTH: usize = 64;

/// The class that a text declares.
pub(crate) fn declared(text: &str) -> Option<Class> {
    // The other class is not for a file to claim: its parts show it.
    (text == Class::InferenceOnly.name()).then_some(Class::InferenceOnly)
}

/// Which tensors go into a file that holds nothing else.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Choice {
    /// The weights of the model, under the names that `load_state_dict` wants.
    #[default]
    Model,
    /// What is under this key; dots lead further down.
    Key(String),
    /// All, each under its whole path; without those that only training needs where `is_compact` says so.
    All {
        /// Whether the state of the optimizer and its like stays out.
        is_compact: bool,
    },
}

/// One part that is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// Its key, dots between the levels.
    pub key: String,
    /// How many tensors it holds.
    pub tensors: u64,
}

/// One part that is not kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dropped {
    /// Its key, dots between the levels.
    pub key: String,
    /// Why.
    pub reason: String,
}

/// What became of every part.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Account {
    /// What is kept.
    pub kept: Vec<Kept>,
    /// What is not.
    pub dropped: Vec<Dropped>,
    /// How many more were dropped than are named.
    pub more: u64,
    /// Whether anything was dropped that training needs: otherwise it was inference-only before.
    pub is_smaller: bool,
}

impl Account {
    fn keep(&mut self, key: &str, tensors: usize) {
        if self.kept.len() < NAMED {
            self.kept.push(Kept { key: key.to_owned(), tensors: tensors as u64 });
        }
    }

    fn drop(&mut self, key: &str, reason: impl Into<String>) {
        if self.dropped.len() < NAMED {
            self.dropped.push(Dropped { key: key.to_owned(), reason: reason.into() });
        } else {
            self.more = self.more.saturating_add(1);
        }
    }
}

/// What a top-level part is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// Goes, for this reason.
    Training(&'static str),
    /// A mapping or module with tensors.
    Weights,
    /// One tensor.
    Tensor,
    /// Anything else.
    Value,
}

/// A top-level part.
#[derive(Clone, Debug)]
struct Part {
    name: String,
    key: Value,
    value: Value,
    fate: Fate,
}

/// A state and what is needed to judge its parts.
struct State<'a> {
    pickle: &'a Pickle,
    /// The tensors that are no scalars, in the order of the file.
    sized: Vec<NodeId>,
}

impl<'a> State<'a> {
    fn new(opened: &Opened<'_>, pickle: &'a Pickle) -> Self {
        let sized = opened.tensors().tensors.iter().filter(|(_, tensor)| !tensor.shape.is_empty());
        Self { pickle, sized: sized.map(|(id, _)| *id).collect() }
    }

    /// Whether the root itself is the model's state.
    fn is_bare(&self) -> bool {
        let root = self.pickle.root();
        match self.pickle.items(root) {
            Some(items) => state::layout(self.pickle, &state::top(self.pickle, &items)) == Layout::StateDict,
            None => module::is_module(self.pickle, root),
        }
    }

    /// The top-level parts. Of a key that stands there twice the last value counts, as in Python.
    fn fates(&self) -> Result<Vec<Part>> {
        let walker = Walker::new(self.pickle, &self.sized);
        let items = self.pickle.items(self.pickle.root()).unwrap_or_default();
        if items.len() > limits::KEYS {
            return Err(Error::new(ErrorKind::Unsupported, WHOLE, "there are too many keys in"));
        }
        let mut parts: Vec<Part> = Vec::new();
        let mut places: HashMap<String, usize> = HashMap::new();
        for (key, value) in items.iter() {
            let name = self.pickle.key(*key).map_or_else(|| format!("<key {}>", parts.len()), Cow::into_owned);
            let part = Part { fate: self.fate(&walker, &name, *value), key: *key, value: *value, name };
            match places.get(&part.name).and_then(|place| parts.get_mut(*place)) {
                Some(known) => *known = part,
                None => {
                    places.insert(part.name.clone(), parts.len());
                    parts.push(part);
                }
            }
        }
        Ok(parts)
    }

    fn fate(&self, walker: &Walker<'_>, key: &str, value: Value) -> Fate {
        let role = keys::role(key);
        // The name of an optimizer, the number of a loader's workers: settings, not state.
        let is_setting = !matches!(value, Value::Node(_));
        if walker.is_optimizer(value) {
            return Fate::Training("the state of an optimizer");
        }
        let is_empty_state = || {
            let lower = key.to_ascii_lowercase();
            lower.contains("optim") || walker.holds_tensor(value)
        };
        match role {
            _ if is_setting => Fate::Value,
            // `opt` is what some call their command line's options.
            Role::Optimizer if is_empty_state() => Fate::Training("the state of an optimizer"),
            Role::Scheduler => Fate::Training("the state of a scheduler"),
            Role::Scaler => Fate::Training("the state of a gradient scaler"),
            Role::Rng => Fate::Training("the state of random generators"),
            Role::Loader => Fate::Training("the position in the data"),
            _ if tensor::tensor(self.pickle, value).is_some_and(|tensor| !tensor.shape.is_empty()) => Fate::Tensor,
            _ if self.pickle.fields(value).is_some() && walker.holds_tensor(value) => Fate::Weights,
            _ => Fate::Value,
        }
    }
}

#[cfg(test)]
mod tests;
