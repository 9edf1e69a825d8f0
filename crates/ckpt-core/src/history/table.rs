//! Histories kept as tables.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::collections::HashSet;
use std::sync::Arc;

use csv::{ReaderBuilder, StringRecord, Trim};
use serde_json::{Number, Value};

use super::parse::{Failure, Rows};
use super::{Record, is_key};
use crate::limits;

/// Reads a table with a header.
pub(super) fn read(bytes: &[u8]) -> Result<Rows, Failure> {
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text,
        // The last character is cut off: so is the last line.
        Err(error) if error.error_len().is_none() => {
            bytes.get(..error.valid_up_to()).and_then(|valid| std::str::from_utf8(valid).ok()).unwrap_or_default()
        }
        Err(_) => return Err(Failure::Unrecognised),
    };
    let mut reader =
        ReaderBuilder::new().delimiter(delimiter(text)).flexible(true).trim(Trim::All).from_reader(text.as_bytes());
    let header = reader.headers()?.clone();
    if header.iter().all(|name| !matches!(cell(name), Value::String(_))) {
        return Err(Failure::Unrecognised);
    }
    let mut rows = Rows::default();
    let names = names(&header, &mut rows);
    let mut longer: usize = 0;
    let mut last_cells = header.len();
    let mut row = StringRecord::new();
    while reader.read_record(&mut row)? {
        if row == header {
            continue;
        }
        last_cells = row.len();
        if row.len() > header.len() {
            longer = longer.saturating_add(1);
        }
        rows.push(record(&names, &row))?;
    }
    let numbers = |record: &Record| record.fields.iter().any(|(_, value)| value.is_number());
    if !names.iter().flatten().any(|name| is_key(name)) && !rows.records.iter().any(numbers) {
        return Err(Failure::Unrecognised);
    }
    rows.warn(longer, "rows with more cells than the header, whose last ones were left out");
    if !text.ends_with(['\n', '\r']) && !rows.records.is_empty() {
        if last_cells < header.len() {
            rows.records.pop();
            rows.warnings.push("the last row was left out: it is cut off".to_owned());
        } else {
            rows.warnings.push("the last row has no line break: its last value may be cut off".to_owned());
        }
    }
    Ok(rows)
}

/// The separator that the first line has most of.
fn delimiter(text: &str) -> u8 {
    let header = text.trim_start().lines().next().unwrap_or_default();
    let count = |delimiter: &u8| header.bytes().filter(|byte| byte == delimiter).count();
    // Of equal counts the last one is taken.
    *b"\t;,".iter().max_by_key(|delimiter| count(delimiter)).unwrap_or(&b',')
}

/// The columns' names; `None` for a column that has none of its own, such as the index that pandas writes.
fn names(header: &StringRecord, rows: &mut Rows) -> Vec<Option<Arc<str>>> {
    let mut known = HashSet::new();
    let mut name = |name| {
        let usable = !str::is_empty(name) && name.len() <= limits::NAME_BYTES && known.insert(name);
        usable.then(|| Arc::from(name))
    };
    let names: Vec<_> = header.iter().map(&mut name).collect();
    let nameless = names.iter().filter(|name| name.is_none()).count();
    rows.warn(nameless, "columns left out, having no name of their own");
    names
}

fn record(names: &[Option<Arc<str>>], row: &StringRecord) -> Record {
    let cells = names.iter().zip(row).filter(|(_, text)| !text.is_empty());
    Record::of_unique(cells.filter_map(|(name, text)| Some((Arc::clone(name.as_ref()?), cell(text)))).collect())
}

/// A number where the text is one. Texts such as `007`, which are names more often, stay.
fn cell(text: &str) -> Value {
    let exact = serde_json::from_str::<Number>(text).ok();
    // `.5` and `1.` are no JSON.
    let loose = || text.contains('.').then(|| text.parse().ok().and_then(Number::from_f64)).flatten();
    exact.or_else(loose).map_or_else(|| Value::String(text.to_owned()), Value::Number)
}
