//! Ultralytics YOLO: a finished file has lost its epoch (−1) and keeps the table of the whole run.

use std::io;

use super::Facts;
use super::scalars::Reader;
use crate::format::pickle::Value;
use crate::ids::Epoch;

/// Most metrics compared; Ultralytics writes a dozen.
const METRICS: usize = 64;

/// Recovers the epoch of a finished file: the row of `train_results` that holds the file's own `train_metrics`, since
/// `best.pt` carries the rows of later epochs too.
pub(super) fn finished_epoch(reader: &Reader<'_>, facts: &mut Facts) -> io::Result<()> {
    let pickle = reader.pickle;
    let root = pickle.root();
    let Some(results) = pickle.get(root, "train_results") else { return Ok(()) };
    let Some(epochs) = pickle.get(results, "epoch").and_then(|column| pickle.sequence(column)) else { return Ok(()) };
    let mut matching: Vec<bool> = vec![true; epochs.len()];
    let mut compared = 0;
    let metrics = pickle.get(root, "train_metrics").and_then(|metrics| pickle.items(metrics)).unwrap_or_default();
    for (name, value) in metrics.iter().take(METRICS) {
        let Some(name) = pickle.text(*name) else { continue };
        let Some(column) = pickle.get(results, &name).and_then(|column| pickle.sequence(column)) else { continue };
        let Some(wanted) = reader.number(facts, &name, *value)? else { continue };
        compared += 1;
        for (is_match, cell) in matching.iter_mut().zip(column) {
            // The table is written with five significant digits.
            let tolerance = wanted.abs().mul_add(1e-4, 1e-6);
            *is_match = *is_match && number(*cell).is_some_and(|cell| (cell - wanted).abs() <= tolerance);
        }
    }
    let row = if compared > 0 { matching.iter().rposition(|is_match| *is_match) } else { None };
    let (row, how) = match (row, epochs.len().checked_sub(1)) {
        (Some(row), _) => (row, "from the row of train_results that holds its metrics"),
        (None, Some(last)) => (last, "from the last row of train_results"),
        (None, None) => return Ok(()),
    };
    // The table counts from 1, the field `epoch` from 0.
    facts.epoch = epochs.get(row).copied().and_then(number).and_then(|epoch| Epoch::new(epoch - 1.0));
    facts.notes.push(format!("training is finished; its epoch is taken {how}"));
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "table cells are short decimals")]
fn number(value: Value) -> Option<f64> {
    match value {
        Value::Int(number) => Some(number as f64),
        Value::Float(number) => Some(number),
        _ => None,
    }
}
