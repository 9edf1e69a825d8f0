//! PyTorch Lightning: the monitored metric and its direction stand in the key of the `ModelCheckpoint` callback.

use std::collections::BTreeMap;
use std::io;

use super::Facts;
use super::scalars::Reader;
use crate::format::pickle::{Pickle, Value};
use crate::metric::Direction;

/// The text between the quotes after `'name': '` in a callback's key.
fn quoted(key: &str, name: &str) -> Option<String> {
    let (_, rest) = key.split_once(&format!("'{name}': '"))?;
    rest.split_once('\'').map(|(value, _)| value.to_owned())
}

/// What one callback tells: a value, and which way is better.
type Score = (f64, Option<Direction>);

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
    let mut scores: BTreeMap<(String, &str), Vec<Score>> = BTreeMap::new();
    for (key, state) in callbacks.take(CALLBACKS) {
        let direction = match quoted(&key, "mode").as_deref() {
            Some("max") => Some(Direction::Max),
            Some("min") => Some(Direction::Min),
            _ => None,
        };
        let monitor =
            pickle.get(*state, "monitor").and_then(|value| pickle.text(value)).map(std::borrow::Cow::into_owned);
        let Some(monitor) = quoted(&key, "monitor").or(monitor) else { continue };
        for field in ["current_score", "best_model_score"] {
            let Some(value) = pickle.get(*state, field) else { continue };
            if let Some(number) = reader.number(facts, field, value)? {
                scores.entry((monitor.clone(), field)).or_default().push((number, direction));
            }
        }
    }
    for ((monitor, field), told) in scores {
        // Each callback writes the scores of the others as they were before it: where two of one metric differ, which
        // one is of this checkpoint is not told.
        let Some((value, direction)) = told.first().copied() else { continue };
        if told.iter().any(|(other, _)| other.to_bits() != value.to_bits()) {
            facts.notes.push(format!("its callbacks tell different values of {field} for {monitor}; none is taken"));
            continue;
        }
        let name = if field == "current_score" { monitor } else { format!("best_{monitor}") };
        facts.add_metric(&name, value, &format!("callbacks.ModelCheckpoint.{field}"), direction);
    }
    Ok(())
}

/// Whether the checkpoint was saved before the end of its epoch, as `every_n_train_steps` does.
pub(super) fn is_mid_epoch(pickle: &Pickle) -> bool {
    let at = |value, key: &str| pickle.get(value, key);
    let progress = at(pickle.root(), "loops")
        .and_then(|loops| at(loops, "fit_loop"))
        .and_then(|fit| at(fit, "epoch_loop.batch_progress"))
        .and_then(|progress| at(progress, "is_last_batch"));
    progress == Some(Value::Bool(false))
}
