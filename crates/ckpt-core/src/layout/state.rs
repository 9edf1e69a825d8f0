//! Reading the facts of a state out of its pickle.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet};
use std::io;

use super::keys::{self, Role};
use super::scalars::Reader;
use super::{Facts, Layout, Parts, lightning, ultralytics, wrapper_prefixes};
use crate::format::pickle::{Node, NodeId, Pickle, Value};
use crate::format::torch::tensor;
use crate::format::torch::{Opened, legacy};
use crate::ids::{Epoch, Step};
use crate::limits;
use crate::metric::is_metric_name;
use crate::shrink;

/// Most mappings of metrics that are looked into.
const MAPPINGS: usize = 64;

/// Reads what the state says.
///
/// # Errors
/// The storage of a metric cannot be read.
pub fn read(opened: &Opened<'_>) -> io::Result<Facts> {
    let Some(pickle) = &opened.pickle else { return Ok(Facts::default()) };
    let reader = Reader { pickle, storages: &opened.storages, reads: Cell::new(0) };
    let mut facts = Facts::default();
    let ids = add_up(pickle, &mut facts);
    let root = pickle.root();
    let Some(items) = pickle.items(root) else {
        facts.layout = bare_layout(pickle, root, !ids.is_empty());
        facts.parts.model = !ids.is_empty();
        return Ok(facts);
    };
    let keys = top(pickle, &items);
    facts.keys = keys.iter().map(|(key, _)| key.clone()).collect();
    facts.layout = layout(pickle, &keys);
    facts.declared = pickle
        .get(root, shrink::CLASS_KEY)
        .and_then(|class| pickle.text(class))
        .and_then(|class| shrink::declared(&class));
    if facts.layout == Layout::StateDict {
        facts.parts.model = true;
        facts.prefixes = wrapper_prefixes(&keys.iter().map(|(key, _)| key.as_str()));
        return Ok(facts);
    }
    let walker = Walker::new(pickle, &ids);
    parts(&walker, &keys, &mut facts);
    position(&reader, &keys, &mut facts)?;
    metrics(&reader, &keys, &mut facts)?;
    match facts.layout {
        Layout::Lightning => {
            facts.is_mid_epoch = lightning::is_mid_epoch(pickle);
            lightning::callbacks(&reader, &mut facts)?;
        }
        Layout::Ultralytics if facts.epoch.is_some_and(|epoch| epoch.get() < 0.0) => {
            facts.epoch = None;
            facts.is_finished = true;
            ultralytics::finished_epoch(&reader, &mut facts)?;
        }
        _ => {}
    }
    Ok(facts)
}

/// The top-level keys. Of one that stands there twice the last value counts, as in Python.
pub(crate) fn top(pickle: &Pickle, items: &[(Value, Value)]) -> Vec<(String, Value)> {
    let mut keys: Vec<(String, Value)> = Vec::new();
    let mut places = HashMap::new();
    for (key, value) in items.iter().take(limits::KEYS) {
        let Some(key) = pickle.key(*key) else { continue };
        let key: String = key.chars().take(limits::NAME_BYTES).collect();
        match places.get(&key).and_then(|place: &usize| keys.get_mut(*place)) {
            Some(known) => known.1 = *value,
            None => {
                places.insert(key.clone(), keys.len());
                keys.push((key, *value));
            }
        }
    }
    keys
}

/// A root that is no mapping.
fn bare_layout(pickle: &Pickle, root: Value, has_tensors: bool) -> Layout {
    match pickle.node(root) {
        Some(Node::Object(_)) if has_tensors => Layout::Module,
        Some(Node::Object(_)) => Layout::Unknown,
        _ if has_tensors => Layout::Unknown,
        _ => Layout::Values,
    }
}

pub(crate) fn layout(pickle: &Pickle, keys: &[(String, Value)]) -> Layout {
    let has = |wanted: &str| keys.iter().any(|(key, _)| key == wanted);
    if has("pytorch-lightning_version") {
        return Layout::Lightning;
    }
    if has("train_args") && (has("ema") || has("model")) && (has("best_fitness") || has("train_results")) {
        return Layout::Ultralytics;
    }
    if has("arch") && has("state_dict") && has("version") {
        return Layout::Timm;
    }
    if has("meta") && has("state_dict") {
        return Layout::Mmengine;
    }
    let tensors = keys.iter().filter(|(_, value)| tensor::tensor(pickle, *value).is_some());
    let sized = tensors
        .clone()
        .filter(|(_, value)| tensor::tensor(pickle, *value).is_some_and(|tensor| !tensor.shape.is_empty()))
        .count();
    let numbers = keys.iter().any(|(key, _)| matches!(keys::role(key), Role::Epoch | Role::Step));
    if sized > 0 && tensors.count() * 2 >= keys.len() && !numbers {
        return Layout::StateDict;
    }
    let nested = keys.iter().any(|(_, value)| pickle.fields(*value).is_some());
    if nested { Layout::TrainingDict } else { Layout::Values }
}

/// Adds up all tensors; gives which they are, in order.
fn add_up(pickle: &Pickle, facts: &mut Facts) -> Vec<NodeId> {
    let summary = &mut facts.tensors;
    let mut ids = Vec::new();
    for (id, tensor) in tensor::tensors(pickle) {
        let elements = tensor.elements().unwrap_or(u64::MAX);
        summary.add(tensor.dtype.name(), elements, tensor.dtype.bytes(elements).unwrap_or(0));
        facts.tensors_outside = facts.tensors_outside.saturating_add(u64::from(!tensor.is_inside()));
        ids.push(id);
    }
    for inner in legacy::nested(pickle).pickles {
        if let Some(storage) = tensor::storage(&inner, inner.root()) {
            let dtype = storage.dtype.as_ref().map_or("uint8", |dtype| dtype.name());
            summary.add(dtype, storage.count, storage.bytes().unwrap_or(0));
        }
    }
    ids
}

/// Finds tensors below a value, through anything, each object once.
pub(crate) struct Walker<'a> {
    pickle: &'a Pickle,
    tensors: &'a [NodeId],
    /// Values looked at for all keys together: keys may share what is below them.
    visited: Cell<usize>,
    /// Objects below which there is no tensor.
    without: RefCell<HashSet<NodeId>>,
}

impl<'a> Walker<'a> {
    /// One that looks for these tensors, which are in order.
    pub(crate) fn new(pickle: &'a Pickle, tensors: &'a [NodeId]) -> Self {
        Self { pickle, tensors, visited: Cell::new(0), without: RefCell::default() }
    }

    /// Whether one of the tensors is below a value.
    pub(crate) fn holds_tensor(&self, value: Value) -> bool {
        let mut seen = HashSet::new();
        let mut pending = vec![value];
        while let Some(value) = pending.pop() {
            let Value::Node(id) = value else { continue };
            if self.tensors.binary_search(&id).is_ok() {
                return true;
            }
            self.visited.set(self.visited.get().saturating_add(1));
            if self.visited.get() > limits::WALK_VALUES {
                return false;
            }
            if self.without.borrow().contains(&id) || !seen.insert(id) {
                continue;
            }
            match self.pickle.node(value) {
                Some(Node::Dict(items)) => pending.extend(items.iter().map(|(_, value)| value)),
                Some(Node::Object(object)) => {
                    let contents = self.pickle.contents(object);
                    pending.extend([object.arguments(), contents.state]);
                    pending.extend(contents.items.iter().map(|(_, value)| value));
                    pending.extend(&contents.elements);
                }
                Some(node) => pending.extend(self.pickle.elements(node).unwrap_or_default()),
                None => {}
            }
        }
        self.without.borrow_mut().extend(seen);
        false
    }

    /// Whether a value is an optimizer's state.
    pub(crate) fn is_optimizer(&self, value: Value) -> bool {
        // It has two keys, in other libraries a handful.
        let is_small = self.pickle.fields(value).is_some_and(|fields| fields.len() <= 64);
        is_small && self.pickle.get(value, "param_groups").is_some() && self.pickle.get(value, "state").is_some()
    }

    /// The prefixes of the names in a mapping.
    fn prefixes(&self, value: Value) -> Vec<String> {
        let names = self.pickle.fields(value).unwrap_or_default();
        let names: Vec<_> = names.iter().take(limits::KEYS).filter_map(|(name, _)| self.pickle.text(*name)).collect();
        wrapper_prefixes(&names.iter().map(|name| &**name))
    }

    /// Whether a value holds anything at all: `None`, and empty containers, do not.
    fn is_filled(&self, value: Value) -> bool {
        match self.pickle.node(value) {
            Some(Node::Dict(items)) => !items.is_empty(),
            Some(node) => self.pickle.elements(node).is_none_or(|elements| !elements.is_empty()),
            None => !matches!(value, Value::None | Value::Bool(false)),
        }
    }
}

fn parts(walker: &Walker<'_>, keys: &[(String, Value)], facts: &mut Facts) {
    let mut parts = Parts::default();
    let pickle = walker.pickle;
    for (key, value) in keys {
        if !walker.is_filled(*value) {
            continue;
        }
        match keys::role(key) {
            _ if walker.is_optimizer(*value) => parts.optimizer = true,
            Role::Optimizer => parts.optimizer = true,
            Role::Scheduler => parts.scheduler = true,
            Role::Scaler => parts.scaler = true,
            Role::Rng => parts.rng = true,
            Role::Loader => parts.loader = true,
            Role::History => parts.history = true,
            Role::Epoch | Role::Step => {}
            Role::Metrics | Role::Progress | Role::Other => {
                if pickle.fields(*value).is_some() && walker.holds_tensor(*value) {
                    if !parts.model {
                        facts.prefixes = walker.prefixes(*value);
                    }
                    parts.model = true;
                }
            }
        }
    }
    // A dict whose optimizer is its root: `torch.save(optimizer.state_dict())`.
    let has = |wanted: &str| keys.iter().any(|(key, _)| key == wanted);
    if has("param_groups") && has("state") {
        parts = Parts { optimizer: true, model: false, ..parts };
    }
    facts.parts = parts;
}

/// Epoch and step: at the top, else one level down in a mapping such as `meta`.
fn position(reader: &Reader<'_>, keys: &[(String, Value)], facts: &mut Facts) -> io::Result<()> {
    let pickle = reader.pickle;
    let mut found: Vec<(bool, usize, Role, String, Value)> = Vec::new();
    // A scheduler's own state counts its steps as `last_epoch`.
    let is_scheduler = keys.iter().any(|(key, _)| key == "_step_count");
    for (key, value) in keys {
        match keys::role(key) {
            _ if is_scheduler => {}
            role @ (Role::Epoch | Role::Step) => found.push((false, keys::precedence(key), role, key.clone(), *value)),
            Role::Progress => {
                let Some(fields) = pickle.fields(*value).filter(|_| found.len() < limits::METRICS) else { continue };
                for (inner, value) in fields.iter().take(256) {
                    let Some(inner) = pickle.text(*inner) else { continue };
                    if let role @ (Role::Epoch | Role::Step) = keys::role(&inner) {
                        found.push((true, keys::precedence(&inner), role, format!("{key}.{inner}"), *value));
                    }
                }
            }
            _ => {}
        }
    }
    found.sort_by_key(|(nested, precedence, ..)| (*nested, *precedence));
    for (_, _, role, name, value) in found {
        let text = pickle.text(value).and_then(|text| text.trim().parse::<f64>().ok());
        let number = match text {
            Some(number) => Some(number),
            None => reader.number(facts, &name, value)?,
        };
        let Some(number) = number else { continue };
        match role {
            Role::Epoch if facts.epoch.is_none() => facts.epoch = Epoch::new(number),
            Role::Step if facts.step.is_none() && number >= 0.0 && number.fract() == 0.0 => {
                #[expect(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    reason = "a whole number, not negative; saturates"
                )]
                let step = number as u64;
                facts.step = Some(Step(step));
            }
            _ => {}
        }
    }
    Ok(())
}

fn metrics(reader: &Reader<'_>, keys: &[(String, Value)], facts: &mut Facts) -> io::Result<()> {
    let pickle = reader.pickle;
    for (key, value) in keys {
        if matches!(keys::role(key), Role::Other | Role::Metrics | Role::History) && is_metric_name(key) {
            reader.metric(facts, key, key, *value)?;
        }
    }
    let mappings =
        keys.iter().filter(|(key, value)| keys::role(key) == Role::Metrics && pickle.fields(*value).is_some());
    for (key, value) in mappings.take(MAPPINGS) {
        reader.metrics_below(facts, key, *value)?;
    }
    // timm writes the value under `metric` and its name among the arguments.
    if facts.layout == Layout::Timm
        && let Some(value) = pickle.get(pickle.root(), "metric")
        && let Some(args) = pickle.get(pickle.root(), "args")
        && let Some(name) = pickle.get(args, "eval_metric").and_then(|name| pickle.text(name))
    {
        reader.metric(facts, &name, "metric", value)?;
    }
    Ok(())
}
