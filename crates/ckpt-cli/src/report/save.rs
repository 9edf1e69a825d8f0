//! The document of `ckpt save`.

use std::collections::BTreeMap;

use ckpt_core::manifest::Manifest;
use ckpt_store::adopt::Adoption;
use ckpt_store::save::Committed;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

/// What was saved.
#[derive(Debug, Serialize, JsonSchema)]
pub struct SaveReport {
    /// `ckpt.save/1`
    pub schema: &'static str,
    /// The committed directory.
    pub path: String,
    /// Its step.
    pub step: u64,
    /// Its epoch.
    pub epoch: Option<Value>,
    /// The number of the commit in its root.
    pub sequence: u64,
    /// The run that it belongs to.
    pub run_id: String,
    /// `resumable` or `inference-only`
    pub class: &'static str,
    /// Its size in bytes, the manifest aside.
    pub bytes: u64,
    /// Its metrics; one that is not finite is null.
    pub metrics: BTreeMap<String, Option<f64>>,
    /// The metrics by which it is the best one so far.
    pub best_by: Vec<String>,
    /// The adopted files.
    pub files: Vec<AdoptedReport>,
    /// What was not given and is as the files tell it: `step`, `epoch`, `class` and names of metrics as `metrics.NAME`.
    pub taken: Vec<String>,
    /// What retention deleted.
    pub removed: Vec<String>,
}

/// One adopted file.
#[derive(Debug, Serialize, JsonSchema)]
pub struct AdoptedReport {
    /// Its name in the checkpoint.
    pub name: String,
    /// Where it was.
    pub from: String,
    /// Its size.
    pub bytes: u64,
}

impl SaveReport {
    /// The report of a commit.
    #[must_use]
    pub fn new(committed: &Committed, manifest: &Manifest, adoption: &Adoption, taken: Vec<String>) -> Self {
        let finite = |value: f64| value.is_finite().then_some(value);
        let file = |(name, adopted): (&String, &ckpt_store::adopt::Adopted)| AdoptedReport {
            name: name.clone(),
            from: adopted.from.display().to_string(),
            bytes: manifest.files.get(name).map_or(0, |file| file.bytes),
        };
        Self {
            schema: "ckpt.save/1",
            path: committed.path.display().to_string(),
            step: committed.step.0,
            epoch: manifest.epoch.map(super::number),
            sequence: manifest.sequence,
            run_id: manifest.run_id.clone(),
            class: manifest.class.name(),
            bytes: committed.bytes,
            metrics: manifest.metrics.iter().map(|(name, metric)| (name.clone(), finite(metric.value))).collect(),
            best_by: committed.best_by.clone(),
            files: adoption.files.iter().map(file).collect(),
            taken,
            removed: Vec::new(),
        }
    }
}
