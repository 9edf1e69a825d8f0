//! The document of `ckpt history merge`.

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

/// A merged history.
#[derive(Debug, Serialize, JsonSchema)]
pub struct HistoryReport {
    /// `ckpt.history/1`
    pub schema: &'static str,
    /// The records, sorted by epoch.
    pub records: Vec<Value>,
    /// The source of each record.
    pub sources: Vec<String>,
    /// Ranges of whole epochs that no source recorded, both ends included.
    pub gaps: Vec<(i64, i64)>,
    /// How many records were dropped because a source of higher priority has their epoch.
    pub duplicates: usize,
    /// How many records were dropped because they were recorded after the resume point.
    pub cut: usize,
    /// How many epochs the sources tell differently.
    pub conflicts: usize,
    /// Files that could not be read, and what was left out of others.
    pub warnings: Vec<String>,
}
