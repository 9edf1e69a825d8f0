//! Which kind of history the bytes hold, and the kinds that are JSON.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::sync::Arc;

use serde_json::{Map, Value};

use super::{History, Record, is_key, step_of, table};
use crate::error::{Error, ErrorKind, Result};
use crate::ids::Step;
use crate::{json, limits};

/// Most rows of one history. A record per step of a million steps is half of it.
const ROWS: usize = 2_000_000;
/// Most values of one history: 20 of each of a million steps, and 2 GB of memory.
const VALUES: usize = 24 << 20;
/// The keys under which JSON documents keep their history.
const WRAPPERS: [&str; 3] = ["log_history", "history", "records"];
/// How many places in a broken line are tried as the start of a record.
const SEAMS: usize = 8;

/// A JSON object.
type Fields = Map<String, Value>;

/// Reads a history; the content decides which kind it is, `name` is for messages only.
///
/// Read are
/// - a JSON list of objects, also as `log_history` (`trainer_state.json` of Hugging Face's Trainer), `history` (that of
///   our own checkpoints) or `records` of an object;
/// - a JSON object of columns, as Keras' `History.history` is saved; the epochs count from 0 where no column tells them;
/// - JSON Lines, whose last line may be cut off, and in which a record may be glued to one that was cut off before;
/// - a table with a header and commas, semicolons or tabs: Ultralytics' `results.csv`, Lightning's `metrics.csv`,
///   Keras' `CSVLogger`.
///
/// Python's `NaN` and infinities are read. What is left out is told by [`History::warnings`].
///
/// # Errors
/// [`ErrorKind::Incomplete`]: a JSON document is cut off. [`ErrorKind::Corrupt`]: it is broken otherwise.
/// [`ErrorKind::Unsupported`]: the bytes are no history of these kinds, or a larger one than
/// [`limits::JSON_BYTES`], 2,000,000 rows or 25,165,824 values.
pub fn parse(name: &str, bytes: &[u8]) -> Result<History> {
    let rows = if bytes.len() as u64 > limits::JSON_BYTES { Err(Failure::TooLong) } else { read(bytes) };
    match rows {
        Ok(rows) => Ok(History::with_warnings(rows.records, rows.warnings)),
        Err(failure) => Err(Error::new(failure.kind(), name, failure.to_string())),
    }
}

/// Why bytes are no history. The messages go before the name of the file.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error("more than {} bytes of history in", limits::JSON_BYTES)]
    TooLong,
    #[error("more than {ROWS} rows of history in")]
    TooManyRows,
    #[error("more than {VALUES} values of history in")]
    TooManyValues,
    #[error("broken JSON ({0}) in")]
    Json(#[from] serde_json::Error),
    #[error("broken table ({0}) in")]
    Table(#[from] csv::Error),
    #[error("no training history in")]
    Unrecognised,
}

impl Failure {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Json(error) if error.is_eof() => ErrorKind::Incomplete,
            Self::Json(_) | Self::Table(_) => ErrorKind::Corrupt,
            Self::TooLong | Self::TooManyRows | Self::TooManyValues | Self::Unrecognised => ErrorKind::Unsupported,
        }
    }
}

/// The rows of a file in their order.
#[derive(Debug, Default)]
pub(super) struct Rows {
    pub(super) records: Vec<Record>,
    pub(super) warnings: Vec<String>,
    values: usize,
}

impl Rows {
    pub(super) fn push(&mut self, record: Record) -> std::result::Result<(), Failure> {
        if self.records.len() >= ROWS {
            return Err(Failure::TooManyRows);
        }
        self.values = self.values.saturating_add(record.fields.len());
        if self.values > VALUES {
            return Err(Failure::TooManyValues);
        }
        self.records.push(record);
        Ok(())
    }

    /// A warning about `count` things, unless there are none.
    pub(super) fn warn(&mut self, count: usize, what: &str) {
        if count > 0 {
            self.warnings.push(format!("{what}: {count}"));
        }
    }
}

fn read(bytes: &[u8]) -> std::result::Result<Rows, Failure> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    match bytes.trim_ascii_start().first() {
        None => Ok(Rows { warnings: vec!["the file is empty".to_owned()], ..Rows::default() }),
        Some(b'[') => match json::parse(bytes)? {
            Value::Array(values) => list(values),
            _ => Err(Failure::Unrecognised),
        },
        Some(b'{') => match json::parse(bytes) {
            Ok(Value::Object(object)) => document(object),
            Ok(_) => Err(Failure::Unrecognised),
            Err(error) => lines(bytes)?.ok_or(Failure::Json(error)),
        },
        Some(_) => table::read(bytes),
    }
}

/// A list of objects.
fn list(values: Vec<Value>) -> std::result::Result<Rows, Failure> {
    let mut rows = Rows::default();
    let mut strangers: usize = 0;
    for value in values {
        match value {
            Value::Object(fields) => rows.push(record(fields))?,
            _ => strangers = strangers.saturating_add(1),
        }
    }
    if rows.records.is_empty() && strangers > 0 {
        return Err(Failure::Unrecognised);
    }
    rows.warn(strangers, "items of the list left out, being no objects");
    Ok(rows)
}

/// An object that holds a history, or is one.
fn document(mut object: Fields) -> std::result::Result<Rows, Failure> {
    for key in WRAPPERS {
        match object.get_mut(key).map(Value::take) {
            Some(Value::Array(values)) if values.iter().all(Value::is_object) => return list(values),
            Some(Value::Object(inner)) if has_columns(&inner) => {
                // Keras' `History` has the epochs beside the columns.
                let epochs = object.remove("epoch").filter(Value::is_array);
                return columns(inner, epochs);
            }
            Some(other) => {
                object.insert(key.to_owned(), other);
            }
            None => {}
        }
    }
    if is_state(&object) {
        return Ok(Rows::default());
    }
    if has_columns(&object) {
        return columns(object, None);
    }
    // JSON Lines of one line.
    let record = record(object);
    if record.epoch.is_none() && record.step.is_none() {
        return Err(Failure::Unrecognised);
    }
    Ok(Rows { records: vec![record], ..Rows::default() })
}

/// Whether an object is the state of a trainer that kept no history: generators and positions are no columns of one.
fn is_state(object: &Fields) -> bool {
    object.get("rng").is_some_and(|rng| rng.is_object() || rng.is_array())
        || object.get("loader").is_some_and(Value::is_object)
}

/// Whether an object is made of columns: there is a list of numbers, or nothing but empty lists.
fn has_columns(object: &Fields) -> bool {
    let lists = || object.values().filter_map(Value::as_array);
    if !lists().flatten().any(|value| json::number(value).is_some()) {
        return !object.is_empty() && lists().filter(|list| list.is_empty()).count() == object.len();
    }
    // A single epoch or step beside lists: either the last one of the columns, or the object is a record with lists.
    let Some((_, last)) = object.iter().find(|(name, value)| is_key(name) && json::number(value).is_some()) else {
        return true;
    };
    let last = step_of(last).and_then(|Step(last)| usize::try_from(last).ok());
    let longest = lists().map(Vec::len).max();
    longest == last || longest == last.and_then(|last| last.checked_add(1))
}

/// An object of columns; `epochs` is the column of epochs where it stands elsewhere.
fn columns(object: Fields, epochs: Option<Value>) -> std::result::Result<Rows, Failure> {
    let mut rows = Rows::default();
    let mut columns: Vec<(Arc<str>, std::vec::IntoIter<Value>)> = Vec::new();
    let mut strangers: usize = 0;
    for (name, value) in object {
        match value {
            Value::Array(values) => columns.push((Arc::from(name), values.into_iter())),
            _ => strangers = strangers.saturating_add(1),
        }
    }
    let length = columns.iter().map(|(_, values)| values.len()).max().unwrap_or(0);
    if !columns.iter().any(|(name, _)| is_key(name)) {
        let epochs = match epochs {
            Some(Value::Array(values)) => values,
            _ => (0..length).map(Value::from).collect(),
        };
        columns.insert(0, (Arc::from("epoch"), epochs.into_iter()));
    }
    let shorter = columns.iter().filter(|(_, values)| values.len() < length).count();
    rows.warn(shorter, "columns shorter than the others, taken for those of the first rows");
    rows.warn(strangers, "fields beside the columns left out");
    for _ in 0..length {
        let fields = columns.iter_mut().filter_map(|(name, values)| Some((Arc::clone(name), values.next()?)));
        let record = Record::of_unique(fields.collect());
        rows.push(record)?;
    }
    Ok(rows)
}

/// JSON Lines; `None` when the first line is no object, so that this is something else.
fn lines(bytes: &[u8]) -> std::result::Result<Option<Rows>, Failure> {
    let mut rows = Rows::default();
    let mut broken: usize = 0;
    let mut glued: usize = 0;
    let mut cut_off = false;
    for line in bytes.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii).filter(|line| !line.is_empty()) {
        cut_off = false;
        if let Some(fields) = object(line) {
            rows.push(record(fields))?;
            continue;
        }
        let (before, after) = unglue(line);
        if before.is_none() && after.is_none() {
            if rows.records.is_empty() {
                return Ok(None);
            }
            broken = broken.saturating_add(1);
            cut_off = true;
            continue;
        }
        if before.is_none() {
            glued = glued.saturating_add(1);
        }
        for fields in before.into_iter().chain(after) {
            rows.push(record(fields))?;
        }
    }
    if cut_off {
        rows.warnings.push("the last line was left out: it is cut off".to_owned());
        broken = broken.saturating_sub(1);
    }
    rows.warn(glued, "cut-off records left out, with another on the same line");
    rows.warn(broken, "lines left out, being no JSON objects");
    Ok(Some(rows))
}

/// The two records of a line whose writer was killed before the line break: the first may be cut off, too.
fn unglue(line: &[u8]) -> (Option<Fields>, Option<Fields>) {
    let seams = line.windows(2).enumerate().skip(1).filter(|(_, pair)| pair.starts_with(b"{\"")).map(|(at, _)| at);
    for (before, after) in seams.take(SEAMS).filter_map(|at| line.split_at_checked(at)) {
        // What has no epoch or step is rather a mapping within the record.
        if let Some(after) = object(after).filter(|fields| fields.keys().any(|name| is_key(name))) {
            return (object(before), Some(after));
        }
    }
    (None, None)
}

fn object(bytes: &[u8]) -> Option<Fields> {
    match json::parse(bytes) {
        Ok(Value::Object(fields)) => Some(fields),
        _ => None,
    }
}

fn record(fields: Fields) -> Record {
    Record::of_unique(fields.into_iter().map(|(name, value)| (Arc::from(name), value)).collect())
}
