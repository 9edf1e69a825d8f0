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
mod usual;

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

    /// Names what is set on a dict beside its keys, as `Module.state_dict` does with `_metadata`.
    fn drop_attributes(&mut self, pickle: &Pickle, path: &str, value: Value) {
        let call = pickle.call(value);
        let is_dict = call.is_some_and(|(module, name, _)| module == "collections" && name == "OrderedDict");
        let attributes = pickle.attributes(value).filter(|_| is_dict).unwrap_or_default();
        for name in attributes.iter().take(NAMED).filter_map(|(name, _)| pickle.text(*name)) {
            let key = if path.is_empty() { name.into_owned() } else { format!("{path}.{name}") };
            self.drop(&key, "an attribute of the dict, beside its keys");
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
    /// Those of them that are of a floating type.
    floating: Vec<NodeId>,
}

/// A key as Python compares it: numbers by their value, whatever their type, and never with text.
#[derive(Debug, PartialEq, Eq, Hash)]
enum Key<'a> {
    Text(&'a [u8]),
    Bytes(&'a [u8]),
    Int(i64),
    Float(u64),
    None,
    Node(NodeId),
}

impl<'a> Key<'a> {
    fn new(pickle: &'a Pickle, value: Value) -> Self {
        match value {
            Value::None => Self::None,
            Value::Bool(flag) => Self::Int(i64::from(flag)),
            Value::Int(number) => Self::Int(number),
            #[expect(clippy::cast_possible_truncation, reason = "a whole number below 2^53")]
            Value::Float(number) if number.fract() == 0.0 && number.abs() < 9_007_199_254_740_992.0 => {
                Self::Int(number as i64)
            }
            Value::Float(number) => Self::Float(number.to_bits()),
            Value::Text(span) => Self::Text(pickle.span(span)),
            Value::Bytes(span) => Self::Bytes(pickle.span(span)),
            Value::Node(id) => Self::Node(id),
        }
    }
}

impl<'a> State<'a> {
    fn new(opened: &Opened<'_>, pickle: &'a Pickle) -> Self {
        let tensors = opened.tensors();
        let sized = tensors.tensors.iter().filter(|(_, tensor)| !tensor.shape.is_empty());
        let floating = sized.clone().filter(|(_, tensor)| tensor.dtype.is_float());
        Self { pickle, floating: floating.map(|(id, _)| *id).collect(), sized: sized.map(|(id, _)| *id).collect() }
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
        let walkers = Walkers {
            sized: Walker::new(self.pickle, &self.sized),
            floating: Walker::new(self.pickle, &self.floating),
        };
        let items = self.pickle.items(self.pickle.root()).unwrap_or_default();
        if items.len() > limits::KEYS {
            return Err(Error::new(ErrorKind::Unsupported, WHOLE, "there are too many keys in"));
        }
        let mut parts: Vec<Part> = Vec::new();
        let mut places: HashMap<Key<'_>, usize> = HashMap::new();
        for (key, value) in items.iter() {
            let name = self.pickle.key(*key).map_or_else(|| format!("<key {}>", parts.len()), Cow::into_owned);
            let part = Part { fate: self.fate(&walkers, &name, *value), key: *key, value: *value, name };
            let identity = Key::new(self.pickle, *key);
            match places.get(&identity).and_then(|place| parts.get_mut(*place)) {
                Some(known) => *known = part,
                None => {
                    places.insert(identity, parts.len());
                    parts.push(part);
                }
            }
        }
        Ok(parts)
    }

    fn fate(&self, walkers: &Walkers<'_>, key: &str, value: Value) -> Fate {
        let role = keys::role(key);
        if walkers.sized.is_optimizer(value) {
            return Fate::Training("the state of an optimizer");
        }
        // The name of an optimizer, the number of a loader's workers: settings, not state.
        let is_setting = !matches!(value, Value::Node(_));
        let is_empty_state = || {
            let lower = key.to_ascii_lowercase();
            lower.contains("optim") || walkers.sized.holds_tensor(value)
        };
        match role {
            _ if is_setting => Fate::Value,
            _ if self.is_misnamed(walkers, role, value) => self.plain_fate(walkers, value),
            // `opt` is what some call their command line's options.
            Role::Optimizer if is_empty_state() => Fate::Training("the state of an optimizer"),
            Role::Scheduler => Fate::Training("the state of a scheduler"),
            Role::Scaler => Fate::Training("the state of a gradient scaler"),
            Role::Rng => Fate::Training("the state of random generators"),
            Role::Loader => Fate::Training("the position in the data"),
            _ => self.plain_fate(walkers, value),
        }
    }

    /// What a value is whose key says nothing.
    fn plain_fate(&self, walkers: &Walkers<'_>, value: Value) -> Fate {
        if tensor::tensor(self.pickle, value).is_some_and(|tensor| !tensor.shape.is_empty()) {
            Fate::Tensor
        } else if self.pickle.fields(value).is_some() && walkers.sized.holds_tensor(value) {
            Fate::Weights
        } else {
            Fate::Value
        }
    }

    /// Whether a value is not what its key says: weights, or what standardises the data. In doubt it is kept.
    fn is_misnamed(&self, walkers: &Walkers<'_>, role: Role, value: Value) -> bool {
        let pickle = self.pickle;
        let is_mapping = pickle.fields(value).is_some_and(|fields| !fields.is_empty());
        if usual::is_usual(pickle, role, value) {
            return false;
        }
        match role {
            // Below its names, states of optimizers hold tensors as models do.
            Role::Optimizer => usual::has_named_weight(pickle, value),
            Role::Scaler if is_mapping => true,
            Role::Scheduler | Role::Scaler | Role::Rng | Role::Loader => {
                usual::is_weight(pickle, value) || is_mapping && walkers.floating.holds_tensor(value)
            }
            _ => false,
        }
    }
}

/// What finds tensors below a value.
struct Walkers<'a> {
    sized: Walker<'a>,
    floating: Walker<'a>,
}

#[cfg(test)]
mod tests;
