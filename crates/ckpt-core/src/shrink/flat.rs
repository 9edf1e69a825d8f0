//! A file of tensors alone: which ones, under which names, and what its `__metadata__` tells.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::collections::{BTreeMap, HashMap, HashSet};

use super::{Account, CLASS_FIELD, Choice, DEPTH, Fate, Key, Part, State, WHOLE, module};
use crate::error::{Error, ErrorKind, Result};
use crate::format::pickle::{Node, Pickle, Value};
use crate::format::safetensors::write::{self, Entry};
use crate::format::safetensors::{self, Header};
use crate::format::torch::Opened;
use crate::format::torch::tensor::{self, TensorRef};
use crate::inspect::Inspection;
use crate::layout::Class;
use crate::layout::keys::{self, Role};
use crate::layout::state::Walker;
use crate::limits;

/// Names under which models are saved, and under which nothing else is.
const MODEL: &[&str] =
    &["model_state_dict", "state_dict", "model", "model_state", "net", "network", "module", "weights", "params"];
/// Words in the names of averaged copies of a model.
const AVERAGED: &[&str] = &["ema", "shadow", "average", "averaged", "swa", "polyak"];

/// What is written.
#[derive(Clone, Debug)]
pub struct Flat {
    /// The header and the order.
    pub plan: write::Plan,
    /// The tensors, by the entries' index.
    pub tensors: Vec<(String, TensorRef)>,
    /// What became of every part.
    pub account: Account,
}

/// Plans a safetensors file of an opened checkpoint, about which `inspection` tells epoch, step and metrics. Tensors that share
/// a storage are each written whole.
///
/// # Errors
/// [`ErrorKind::Invalid`]: there are several models, and none is chosen, or no tensors where `choice` leads.
/// [`ErrorKind::Unsupported`]: a tensor is of a kind that the format does not have.
pub fn flat(opened: &Opened<'_>, inspection: &Inspection, choice: &Choice) -> Result<Flat> {
    let Some(pickle) = &opened.pickle else {
        return Err(Error::new(ErrorKind::Invalid, WHOLE, "there is no state to read in"));
    };
    let state = State::new(opened, pickle);
    let mut account = Account::default();
    let is_bare = state.is_bare();
    let parts = if is_bare { Vec::new() } else { state.fates()? };
    let chosen: Vec<(String, String, Value)> = match choice {
        Choice::Model if is_bare => vec![(String::new(), String::new(), pickle.root())],
        Choice::Model => {
            let part = model(&parts)?;
            vec![(String::new(), part.name.clone(), part.value)]
        }
        Choice::Key(key) => vec![(String::new(), key.clone(), under(pickle, key)?)],
        Choice::All { .. } if is_bare => vec![(String::new(), String::new(), pickle.root())],
        Choice::All { is_compact } => parts
            .iter()
            .filter(|part| !(*is_compact && matches!(part.fate, Fate::Training(_))))
            .map(|part| (part.name.clone(), part.name.clone(), part.value))
            .collect(),
    };
    for part in &parts {
        // A number and its text are two keys of one name.
        if chosen.iter().all(|(_, key, value)| key != &part.name || value != &part.value) {
            left(&mut account, part, choice, is_told(part, inspection));
        }
    }
    let ids: Vec<_> = opened.tensors().tensors.iter().map(|(id, _)| *id).collect();
    let walker = Walker::new(pickle, &ids);
    check_names(pickle, &walker, &parts, choice)?;
    let mut walk = Walk { pickle, walker, tensors: Vec::new(), account, visited: 0 };
    for (prefix, key, value) in chosen {
        let before = walk.tensors.len();
        walk.collect(&prefix, value, matches!(choice, Choice::All { .. }))?;
        let count = walk.tensors.len().saturating_sub(before);
        if count > 0 || is_bare {
            walk.account.keep(if key.is_empty() { "." } else { &key }, count);
        }
    }
    let Walk { tensors, account, .. } = walk;
    if tensors.is_empty() {
        return Err(Error::new(ErrorKind::Invalid, WHOLE, "there are no tensors to write in"));
    }
    let mut names = HashSet::new();
    if let Some((name, _)) = tensors.iter().find(|(name, _)| !names.insert(name.as_str())) {
        let message = "two keys, such as a number and its text, give two tensors one name:";
        return Err(Error::new(ErrorKind::Unsupported, name.as_str(), message));
    }
    let metadata = metadata(inspection, BTreeMap::new());
    let entries: Vec<Entry<'_>> =
        tensors.iter().map(|(name, tensor)| Entry { name, dtype: &tensor.dtype, shape: &tensor.shape }).collect();
    let plan = write::plan(&entries, &metadata)?;
    Ok(Flat { plan, tensors, account })
}

/// What is written of another safetensors file.
#[derive(Clone, Debug)]
pub struct Slim {
    /// The header and the order.
    pub plan: write::Plan,
    /// Where each entry's bytes are in the other file: first byte and how many.
    pub ranges: Vec<(u64, u64)>,
    /// What became of every tensor.
    pub account: Account,
}

/// Plans a safetensors file without the optimizer's tensors of another one.
///
/// # Errors
/// A tensor is of a type that is not known.
pub fn slim(header: &Header, inspection: &Inspection) -> Result<Slim> {
    let mut account = Account::default();
    let mut kept: Vec<(&String, &safetensors::Tensor)> = Vec::new();
    for (name, tensor) in &header.tensors {
        if safetensors::is_optimizer(name) {
            account.is_smaller = true;
            account.drop(name, "the state of an optimizer");
        } else {
            account.keep(name, 1);
            kept.push((name, tensor));
        }
    }
    let entries: Vec<Entry<'_>> =
        kept.iter().map(|(name, tensor)| Entry { name, dtype: &tensor.dtype, shape: &tensor.shape }).collect();
    let plan = write::plan(&entries, &metadata(inspection, header.metadata.clone()))?;
    let ranges = kept.iter().map(|(_, tensor)| {
        let start = header.data_offset.saturating_add(tensor.start);
        (start, tensor.end.saturating_sub(tensor.start))
    });
    Ok(Slim { ranges: ranges.collect(), plan, account })
}

/// What `ckpt inspect` and the loaders of others read back.
fn metadata(inspection: &Inspection, mut fields: BTreeMap<String, String>) -> BTreeMap<String, String> {
    for metric in &inspection.metrics {
        fields.entry(metric.name.clone()).or_insert_with(|| metric.value.to_string());
    }
    fields.extend(inspection.epoch.map(|epoch| ("epoch".to_owned(), epoch.to_string())));
    fields.extend(inspection.step.map(|step| ("step".to_owned(), step.0.to_string())));
    fields.insert("format".to_owned(), "pt".to_owned());
    fields.insert(CLASS_FIELD.to_owned(), Class::InferenceOnly.name().to_owned());
    fields
}

/// Refuses tensors under top-level keys that have no text, when all are wanted.
fn check_names(pickle: &Pickle, walker: &Walker<'_>, parts: &[Part], choice: &Choice) -> Result<()> {
    let Choice::All { is_compact } = choice else { return Ok(()) };
    let is_lost = |part: &&Part| {
        let is_wanted = !(*is_compact && matches!(part.fate, Fate::Training(_)));
        is_wanted && pickle.key(part.key).is_none() && walker.holds_tensor(part.value)
    };
    parts.iter().find(is_lost).map_or(Ok(()), |part| {
        let message = "safetensors has no names but texts, and a tensor is under the";
        Err(Error::new(ErrorKind::Unsupported, part.name.as_str(), message))
    })
}

fn left(account: &mut Account, part: &Part, choice: &Choice, is_told: bool) {
    match part.fate {
        Fate::Training(reason) => {
            account.is_smaller = true;
            account.drop(&part.name, reason);
        }
        Fate::Weights => {
            let is_above = matches!(choice, Choice::Key(key) if key.starts_with(&format!("{}.", part.name)));
            let reason = if is_above { "only a part of it was chosen" } else { "other weights than those chosen" };
            account.drop(&part.name, reason);
        }
        Fate::Value if is_told => account.keep(&part.name, 0),
        Fate::Tensor => account.drop(&part.name, "a tensor beside the weights"),
        Fate::Value => account.drop(&part.name, "no tensor, nor a number that a safetensors file tells"),
    }
}

/// Whether the new file tells in its `__metadata__` what a part is: the epoch, the step, a metric.
fn is_told(part: &Part, inspection: &Inspection) -> bool {
    let is_metric = inspection.metrics.iter().any(|metric| {
        metric.provenance.strip_prefix(&part.name).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    });
    match keys::role(&part.name) {
        Role::Epoch => inspection.epoch.is_some(),
        Role::Step => inspection.step.is_some(),
        _ => is_metric,
    }
}

/// The part that is the model.
fn model(parts: &[Part]) -> Result<&Part> {
    let rank = |name: &str| {
        let lower = name.to_ascii_lowercase();
        let is_averaged = lower.split(|char: char| !char.is_ascii_alphanumeric()).any(|word| AVERAGED.contains(&word));
        if is_averaged { 2 } else { u8::from(!MODEL.contains(&lower.as_str())) }
    };
    let has = |name: &str| parts.iter().any(|part| part.name == name);
    if has("param_groups") && has("state") {
        return Err(Error::new(ErrorKind::Invalid, WHOLE, "there is nothing but the state of an optimizer in"));
    }
    let weights: Vec<&Part> = parts.iter().filter(|part| part.fate == Fate::Weights).collect();
    let Some(best) = weights.iter().map(|part| rank(&part.name)).min() else {
        return Err(Error::new(ErrorKind::Invalid, WHOLE, "there are no weights in"));
    };
    let best: Vec<&Part> = weights.into_iter().filter(|part| rank(&part.name) == best).collect();
    match best.as_slice() {
        [only] => Ok(only),
        several => {
            let names: Vec<&str> = several.iter().take(16).map(|part| part.name.as_str()).collect();
            Err(Error::new(
                ErrorKind::Invalid,
                names.join(", "),
                "it holds several models, of which one must be chosen:",
            ))
        }
    }
}

/// What is under a path whose parts are joined by dots; a key may hold dots itself.
fn under(pickle: &Pickle, path: &str) -> Result<Value> {
    let mut value = pickle.root();
    let mut rest = path;
    loop {
        let fits = |name: &str| pickle.get(value, name).map(|value| (value, name.len()));
        // The longest key first: in a state dict, names with dots are keys.
        let ends = std::iter::once(rest.len()).chain(rest.rmatch_indices('.').map(|(end, _)| end)).take(DEPTH);
        let found = ends.filter_map(|end| fits(rest.get(..end)?)).next();
        let Some((inner, length)) = found else {
            return Err(Error::new(ErrorKind::NotFound, path, "in the checkpoint there is nothing under"));
        };
        value = inner;
        match rest.get(length.saturating_add(1)..) {
            Some(more) if length < rest.len() => rest = more,
            _ => return Ok(value),
        }
    }
}

/// Collects tensors below a value, names joined by dots.
struct Walk<'a> {
    pickle: &'a Pickle,
    walker: Walker<'a>,
    tensors: Vec<(String, TensorRef)>,
    account: Account,
    visited: usize,
}

impl Walk<'_> {
    fn collect(&mut self, prefix: &str, value: Value, is_all: bool) -> Result<()> {
        let mut pending = vec![(prefix.to_owned(), value, 0_usize)];
        while let Some((path, value, depth)) = pending.pop() {
            self.visited = self.visited.saturating_add(1);
            if self.visited.saturating_add(pending.len()) > limits::INDEX_ENTRIES.saturating_mul(4) || depth > DEPTH {
                let message = "it nests deeper or holds more than any model:";
                return Err(Error::new(ErrorKind::Unsupported, path, message));
            }
            if tensor::tensor(self.pickle, value).is_some() {
                self.tensor(path, value)?;
                continue;
            }
            self.account.drop_attributes(self.pickle, &path, value);
            let Some(inner) = self.below(&path, value, is_all)? else {
                // Of the values of a whole training state there are too many to name.
                if !is_all {
                    self.account.drop(&path, "it is no tensor");
                }
                continue;
            };
            for (key, value) in inner.into_iter().rev() {
                let path = if path.is_empty() { key } else { format!("{path}.{key}") };
                if path.len() >= limits::TEXT_BYTES {
                    return Err(Error::new(ErrorKind::Unsupported, "a tensor", "too long is the name of"));
                }
                pending.push((path, value, depth.saturating_add(1)));
            }
        }
        Ok(())
    }

    fn tensor(&mut self, path: String, value: Value) -> Result<()> {
        let Some(tensor) = tensor::plain(self.pickle, value).filter(|tensor| tensor.storage.is_some()) else {
            let message = "safetensors has no tensors that are sparse, nested, quantised or without data:";
            return Err(Error::new(ErrorKind::Unsupported, path, message));
        };
        self.tensors.push((path, tensor));
        Ok(())
    }

    /// The entries of a mapping, of a module's state, and where all is wanted of a list.
    fn below(&self, path: &str, value: Value, is_all: bool) -> Result<Option<Vec<(String, Value)>>> {
        let pickle = self.pickle;
        if module::is_module(pickle, value) {
            let too_much = || Error::new(ErrorKind::Unsupported, path, "it nests deeper or holds more than any model:");
            return module::state(pickle, value).map(Some).ok_or_else(too_much);
        }
        if let Some(items) = pickle.items(value) {
            if items.len() > limits::INDEX_ENTRIES {
                return Err(Error::new(ErrorKind::Unsupported, path, "there are too many keys in"));
            }
            return self.entries(path, &items).map(Some);
        }
        let elements = match pickle.node(value) {
            Some(node @ (Node::List(_) | Node::Tuple(_))) if is_all => pickle.elements(node).unwrap_or_default(),
            _ => return Ok(None),
        };
        Ok(Some(elements.iter().enumerate().map(|(index, value)| (index.to_string(), *value)).collect()))
    }

    /// The items of a mapping by the text of their keys. Of a key that stands there twice the last value counts, as in Python;
    /// two keys of one text stay two.
    fn entries(&self, path: &str, items: &[(Value, Value)]) -> Result<Vec<(String, Value)>> {
        let mut entries: Vec<(String, Value)> = Vec::with_capacity(items.len());
        let mut places: HashMap<Key<'_>, usize> = HashMap::new();
        for (key, value) in items {
            let Some(name) = self.pickle.key(*key) else {
                if self.walker.holds_tensor(*value) {
                    let message = "safetensors has no names but texts, and a tensor is under a key of another type in";
                    return Err(Error::new(
                        ErrorKind::Unsupported,
                        if path.is_empty() { WHOLE } else { path },
                        message,
                    ));
                }
                continue;
            };
            let identity = Key::new(self.pickle, *key);
            match places.get(&identity).and_then(|place| entries.get_mut(*place)) {
                Some(known) => known.1 = *value,
                None => {
                    places.insert(identity, entries.len());
                    entries.push((name.into_owned(), *value));
                }
            }
        }
        Ok(entries)
    }
}
