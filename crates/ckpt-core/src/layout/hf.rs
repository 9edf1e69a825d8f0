//! Hugging Face's `trainer_state.json`.

use serde_json::{Map, Value};

use super::Facts;
use crate::ids::{Epoch, Step};
use crate::json::number;
use crate::metric::{Direction, is_metric_name};

/// Reads epoch, step, metrics and the direction of the best metric.
///
/// The metrics are those logged at the checkpoint's own step. The direction follows from the best value: when it is
/// the largest and not also the smallest that was logged, larger is better.
#[must_use]
pub fn read(state: &Map<String, Value>) -> Facts {
    let mut facts = Facts { layout: super::Layout::HfTrainer, ..Facts::default() };
    facts.epoch = state.get("epoch").and_then(Value::as_f64).and_then(Epoch::new);
    facts.step = state.get("global_step").and_then(Value::as_u64).map(Step);
    let empty = Vec::new();
    let log = state.get("log_history").and_then(Value::as_array).unwrap_or(&empty);
    facts.parts.history = !log.is_empty();
    let best = best_metric(state, log);
    for entry in log.iter().rev() {
        let Some(entry) = entry.as_object() else { continue };
        if entry.get("step").and_then(Value::as_u64).map(Step) != facts.step {
            continue;
        }
        for (name, value) in entry {
            let Some(value) = number(value).filter(|_| is_metric_name(name) && !name.ends_with("_per_second")) else {
                continue;
            };
            let direction = best.as_ref().filter(|(best, _)| best == name).map(|(_, direction)| *direction);
            facts.add_metric(name, value, &format!("log_history.{name}"), direction);
        }
    }
    if let Some(value) = state.get("best_metric").and_then(number) {
        let direction = best.map(|(_, direction)| direction);
        facts.add_metric("best_metric", value, "best_metric", direction);
    }
    facts
}

/// The metric whose best logged value is `best_metric`, and which way is better.
fn best_metric(state: &Map<String, Value>, log: &[Value]) -> Option<(String, Direction)> {
    let best = state.get("best_metric").and_then(number)?;
    let mut names: Vec<&String> = log
        .iter()
        .filter_map(Value::as_object)
        .flat_map(|entry| entry.keys())
        .filter(|name| name.starts_with("eval_"))
        .collect();
    names.sort_unstable();
    names.dedup();
    // Each is looked for in the whole log.
    names.truncate(64);
    let mut found = None;
    for name in names {
        let values: Vec<f64> = log
            .iter()
            .filter_map(|entry| entry.get(name))
            .filter_map(number)
            .filter(|value| value.is_finite())
            .collect();
        let largest = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let smallest = values.iter().copied().fold(f64::INFINITY, f64::min);
        let direction = if largest == smallest {
            continue;
        } else if best == largest {
            Direction::Max
        } else if best == smallest {
            Direction::Min
        } else {
            continue;
        };
        if found.replace((name.clone(), direction)).is_some() {
            return None;
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn direction_follows_from_the_best_value() {
        let state = serde_json::json!({
            "epoch": 2.0, "global_step": 8, "best_metric": 0.5,
            "log_history": [
                {"step": 4, "eval_accuracy": 0.5, "eval_loss": 1.0, "epoch": 1.0},
                {"step": 8, "eval_accuracy": 0.25, "eval_loss": 0.9, "eval_runtime": 3.0, "epoch": 2.0},
            ]
        });
        let facts = read(state.as_object().unwrap());
        assert_eq!((facts.epoch, facts.step), (Some(Epoch::from(2)), Some(Step(8))));
        let metric = facts.metrics.iter().find(|metric| metric.name == "eval_accuracy").unwrap();
        assert_eq!((metric.value, metric.direction), (0.25, Some(Direction::Max)));
        assert_eq!(facts.metrics.iter().find(|metric| metric.name == "eval_loss").unwrap().direction, None);
    }
}
