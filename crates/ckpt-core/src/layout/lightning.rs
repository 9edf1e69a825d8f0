//! PyTorch Lightning: the monitored metric and its direction stand in the key of the `ModelCheckpoint` callback.

use std::io;

use super::Facts;
use super::scalars::Reader;
use crate::metric::Direction;

/// The text between the quotes after `'name': '` in a callback's key.
fn quoted(key: &str, name: &str) -> Option<String> {
    let (_, rest) = key.split_once(&format!("'{name}': '"))?;
    rest.split_once('\'').map(|(value, _)| value.to_owned())
}

/// Most callbacks looked at.
const CALLBACKS: usize = 64;

/// Reads the scores of every `ModelCheckpoint`.
pub(super) fn callbacks(reader: &Reader<'_>, facts: &mut Facts) -> io::Result<()> {
    let pickle = reader.pickle;
    let Some(callbacks) = pickle.get(pickle.root(), "callbacks") else { return Ok(()) };
    let Some(items) = pickle.items(callbacks) else { return Ok(()) };
    let callbacks = items
        .iter()
        .filter_map(|(key, state)| Some((pickle.text(*key).filter(|key| key.starts_with("ModelCheckpoint"))?, state)));
    for (key, state) in callbacks.take(CALLBACKS) {
        let direction = match quoted(&key, "mode").as_deref() {
            Some("max") => Some(Direction::Max),
            Some("min") => Some(Direction::Min),
            _ => None,
        };
        let monitor =
            pickle.get(*state, "monitor").and_then(|value| pickle.text(value)).map(std::borrow::Cow::into_owned);
        let Some(monitor) = quoted(&key, "monitor").or(monitor) else { continue };
        for (name, field) in [(monitor.clone(), "current_score"), (format!("best_{monitor}"), "best_model_score")] {
            if let Some(value) = pickle.get(*state, field) {
                let provenance = format!("callbacks.ModelCheckpoint.{field}");
                reader.metric_with(facts, (&name, &provenance), value, direction)?;
            }
        }
    }
    Ok(())
}
