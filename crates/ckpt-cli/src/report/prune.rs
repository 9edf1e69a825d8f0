//! The document of `ckpt prune`.

use ckpt_core::prune::{Action, Planned};
use ckpt_store::prune::{Pruned, Pruning};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

/// What goes and what stays.
#[derive(Debug, Serialize, JsonSchema)]
pub struct PruneReport {
    /// `ckpt.prune/1`
    pub schema: &'static str,
    /// Whether the plan was carried out.
    pub applied: bool,
    /// How many bytes those that stay have.
    pub kept_bytes: u64,
    /// How many bytes those that go have.
    pub freed_bytes: u64,
    /// What was deleted.
    pub removed: Vec<String>,
    /// What should have been deleted and stays.
    pub failed: Vec<UnprunedReport>,
    /// The plans, one for each directory.
    pub directories: Vec<PrunedDirectoryReport>,
}

/// The plan for one directory.
#[derive(Debug, Serialize, JsonSchema)]
pub struct PrunedDirectoryReport {
    /// The directory.
    pub directory: String,
    /// What a person should know: a budget that cannot be met, a rule that keeps nothing.
    pub warnings: Vec<String>,
    /// Every checkpoint, the latest first.
    pub checkpoints: Vec<PlannedReport>,
}

/// What happens to one checkpoint.
#[derive(Debug, Serialize, JsonSchema)]
pub struct PlannedReport {
    /// `keep` or `drop`
    pub action: &'static str,
    /// Its path.
    pub path: String,
    /// Its step.
    pub step: Option<u64>,
    /// Its epoch.
    pub epoch: Option<Value>,
    /// Its size in bytes.
    pub bytes: u64,
    /// Every reason.
    pub reasons: Vec<String>,
}

/// What could not be deleted.
#[derive(Debug, Serialize, JsonSchema)]
pub struct UnprunedReport {
    /// Its path.
    pub path: String,
    /// Why not.
    pub reason: String,
}

impl PruneReport {
    /// The report of plans, and of what was done.
    #[must_use]
    pub fn new(prunings: &[Pruning], done: &[Pruned], applied: bool) -> Self {
        let total = |bytes: &dyn Fn(&Pruning) -> u64| prunings.iter().map(bytes).fold(0, u64::saturating_add);
        let failed = done
            .iter()
            .flat_map(|pruned| &pruned.failed)
            .map(|(path, error)| UnprunedReport { path: path.display().to_string(), reason: error.to_string() });
        Self {
            schema: "ckpt.prune/1",
            applied,
            kept_bytes: total(&|pruning| pruning.plan.kept_bytes()),
            freed_bytes: total(&|pruning| pruning.plan.freed_bytes()),
            removed: done.iter().flat_map(|pruned| &pruned.removed).map(|path| path.display().to_string()).collect(),
            failed: failed.collect(),
            directories: prunings.iter().map(directory).collect(),
        }
    }
}

fn directory(pruning: &Pruning) -> PrunedDirectoryReport {
    let planned = |planned: &Planned| PlannedReport {
        action: match planned.action {
            Action::Keep => "keep",
            Action::Drop => "drop",
        },
        path: planned.item.name.clone(),
        step: planned.item.step.map(|step| step.0),
        epoch: planned.item.epoch.map(super::number),
        bytes: planned.item.bytes,
        reasons: planned.reasons.clone(),
    };
    PrunedDirectoryReport {
        directory: pruning.directory.display().to_string(),
        warnings: pruning.plan.warnings.clone(),
        checkpoints: pruning.plan.items.iter().map(planned).collect(),
    }
}
