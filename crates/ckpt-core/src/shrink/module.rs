//! The state dict of a pickled module, read from its attributes instead of from code.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use super::DEPTH;
use crate::format::pickle::{Pickle, Value};
use crate::limits;

/// Whether a value is a pickled `torch.nn.Module`, which always has these attributes.
pub(super) fn is_module(pickle: &Pickle, value: Value) -> bool {
    pickle.attributes(value).is_some()
        && ["_parameters", "_buffers", "_modules"].iter().all(|name| {
            let attribute = pickle.get(value, name);
            attribute.is_some_and(|attribute| pickle.items(attribute).is_some())
        })
}

/// Its entries in the order of `Module.state_dict`: parameters, buffers, then those of the modules inside. `None` when it
/// nests deeper or holds more than any model.
pub(super) fn state(pickle: &Pickle, module: Value) -> Option<Vec<(String, Value)>> {
    let mut found = Vec::new();
    let mut pending = vec![(String::new(), module, 0_usize)];
    let mut visited = 0_usize;
    while let Some((prefix, module, depth)) = pending.pop() {
        visited = visited.saturating_add(1);
        if depth > DEPTH || visited > limits::KEYS {
            return None;
        }
        let entries = |name: &str| pickle.get(module, name).and_then(|value| pickle.items(value)).unwrap_or_default();
        let passing = pickle.get(module, "_non_persistent_buffers_set").and_then(|set| pickle.sequence(set));
        let passing: Vec<_> = passing.unwrap_or_default().iter().filter_map(|name| pickle.text(*name)).collect();
        let buffers = entries("_buffers");
        let lasting = buffers.iter().filter(|(name, _)| pickle.text(*name).is_none_or(|name| !passing.contains(&name)));
        for (name, value) in entries("_parameters").iter().chain(lasting) {
            if *value != Value::None {
                found.push((format!("{prefix}{}", pickle.text(*name)?), *value));
            }
        }
        if found.len() > limits::KEYS {
            return None;
        }
        for (name, inner) in entries("_modules").iter().rev() {
            if *inner != Value::None {
                let prefix = format!("{prefix}{}.", pickle.text(*name)?);
                pending.push((prefix, *inner, depth.saturating_add(1)));
            }
        }
    }
    Some(found)
}
