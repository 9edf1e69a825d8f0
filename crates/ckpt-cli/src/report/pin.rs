//! The documents of `ckpt pin`, `ckpt unpin` and `ckpt done`.

use std::path::Path;

use ckpt_core::select::Selection;
use schemars::JsonSchema;
use serde::Serialize;

use super::InspectReport;

/// What was pinned, or is not any more.
#[derive(Debug, Serialize, JsonSchema)]
pub struct PinReport {
    /// `ckpt.pin/1` or `ckpt.unpin/1`
    pub schema: &'static str,
    /// The checkpoints.
    pub checkpoints: Vec<PinnedReport>,
}

/// One checkpoint.
#[derive(Debug, Serialize, JsonSchema)]
pub struct PinnedReport {
    /// Its path, links followed.
    pub path: String,
    /// Whether it is pinned now.
    pub pinned: bool,
}

impl PinnedReport {
    /// What became of a path.
    #[must_use]
    pub fn new(path: &Path, pinned: bool) -> Self {
        Self { path: path.display().to_string(), pinned }
    }
}

/// Whether a target is met.
#[derive(Debug, Serialize, JsonSchema)]
pub struct DoneReport {
    /// `ckpt.done/1`
    pub schema: &'static str,
    /// Whether a valid checkpoint meets all conditions.
    pub done: bool,
    /// The conditions.
    pub conditions: Vec<String>,
    /// The latest that meets them.
    pub path: Option<String>,
    /// The same, as `inspect` reports it.
    pub checkpoint: Option<InspectReport>,
    /// Why it is done or not.
    pub reason: String,
}

impl DoneReport {
    /// The report of a choice among those that meet the conditions.
    #[must_use]
    pub fn new(conditions: &[String], selection: &Selection) -> Self {
        let met = selection.selected();
        Self {
            schema: "ckpt.done/1",
            done: met.is_some(),
            conditions: conditions.to_vec(),
            path: met.map(|verified| verified.candidate.path.display().to_string()),
            checkpoint: met.map(InspectReport::new),
            reason: selection.reason(),
        }
    }
}
