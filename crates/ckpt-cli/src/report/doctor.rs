//! The document of `ckpt doctor`.

use schemars::JsonSchema;
use serde::Serialize;

/// What was detected, and what to do.
#[derive(Debug, Serialize, JsonSchema)]
pub struct DoctorReport {
    /// `ckpt.doctor/1`
    pub schema: &'static str,
    /// The platform.
    pub platform: &'static str,
    /// The sign that told.
    pub platform_reason: String,
    /// Where it looks.
    pub locations: Vec<String>,
    /// Where training writes.
    pub working: String,
    /// Free bytes there, or in the nearest directory above it.
    pub free_bytes: Option<u64>,
    /// Whether training may write there.
    pub writable: bool,
    /// Every setting with its origin.
    pub settings: Vec<SettingReport>,
    /// How many checkpoints were found.
    pub checkpoints: usize,
    /// How many of them are valid.
    pub valid: usize,
    /// How many of the valid ones training can go on from.
    pub resumable: usize,
    /// What may be wrong, and what to do.
    pub troubles: Vec<TroubleReport>,
}

/// One setting.
#[derive(Debug, Serialize, JsonSchema)]
pub struct SettingReport {
    /// Its name in `ckpt.toml`.
    pub name: &'static str,
    /// Its value.
    pub value: serde_json::Value,
    /// Where it comes from.
    pub origin: String,
}

/// One trouble.
#[derive(Debug, Serialize, JsonSchema)]
pub struct TroubleReport {
    /// `not_found`, `invalid`, `not_resuming` or `disk_full`
    pub trouble: &'static str,
    /// Whether it is here now.
    pub present: bool,
    /// What was seen.
    pub seen: String,
    /// What to do about it.
    pub remedy: String,
}
