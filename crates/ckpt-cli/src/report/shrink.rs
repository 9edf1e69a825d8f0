//! The document of `ckpt compact` and `ckpt convert`.

use std::path::Path;

use ckpt_core::layout::Class;
use ckpt_store::shrink::Shrunk;
use schemars::JsonSchema;
use serde::Serialize;

/// What was written.
#[derive(Debug, Serialize, JsonSchema)]
pub struct ShrinkReport {
    /// `ckpt.compact/1` or `ckpt.convert/1`
    pub schema: &'static str,
    /// The new file; the old one where nothing was to do.
    pub path: String,
    /// Whether a new file was written.
    pub written: bool,
    /// The container of the new file.
    pub format: Option<&'static str>,
    /// `inference-only`
    pub class: &'static str,
    /// The size of the old file.
    pub bytes_before: Option<u64>,
    /// The size of the new one.
    pub bytes_after: Option<u64>,
    /// What is kept.
    pub kept: Vec<KeptReport>,
    /// What is not, at most a thousand parts.
    pub dropped: Vec<DroppedReport>,
    /// How many more were dropped than are named.
    pub dropped_more: u64,
}

/// One part that is kept.
#[derive(Debug, Serialize, JsonSchema)]
pub struct KeptReport {
    /// Its key; `.` for the whole.
    pub key: String,
    /// How many tensors it holds.
    pub tensors: u64,
}

/// One part that is not.
#[derive(Debug, Serialize, JsonSchema)]
pub struct DroppedReport {
    /// Its key.
    pub key: String,
    /// Why.
    pub reason: String,
}

impl ShrinkReport {
    /// The report of a new file.
    #[must_use]
    pub fn new(schema: &'static str, path: &Path, shrunk: &Shrunk) -> Self {
        let account = &shrunk.account;
        let kept = account.kept.iter().map(|kept| KeptReport { key: kept.key.clone(), tensors: kept.tensors });
        let dropped = account
            .dropped
            .iter()
            .map(|dropped| DroppedReport { key: dropped.key.clone(), reason: dropped.reason.clone() });
        Self {
            schema,
            path: path.display().to_string(),
            written: true,
            format: Some(shrunk.format.name()),
            class: Class::InferenceOnly.name(),
            bytes_before: Some(shrunk.bytes_before),
            bytes_after: Some(shrunk.bytes_after),
            kept: kept.collect(),
            dropped: dropped.collect(),
            dropped_more: account.more,
        }
    }

    /// The report of a file that needs none.
    #[must_use]
    pub fn already(schema: &'static str, path: &Path) -> Self {
        Self {
            schema,
            path: path.display().to_string(),
            written: false,
            format: None,
            class: Class::InferenceOnly.name(),
            bytes_before: None,
            bytes_after: None,
            kept: Vec::new(),
            dropped: Vec::new(),
            dropped_more: 0,
        }
    }
}
