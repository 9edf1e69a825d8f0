//! The document of `ckpt preflight`.

use std::path::Path;

use ckpt_store::preflight::Preflight;
use schemars::JsonSchema;
use serde::Serialize;

/// Whether a run could save.
#[derive(Debug, Serialize, JsonSchema)]
pub struct PreflightReport {
    /// `ckpt.preflight/1`
    pub schema: &'static str,
    /// The directory.
    pub path: String,
    /// Whether no check failed.
    pub ok: bool,
    /// What keeps a run from saving: the kind of error.
    pub failure: Option<&'static str>,
    /// The checks, as they were made; those that could not be made because of a failure are left out.
    pub checks: Vec<CheckReport>,
}

/// One check.
#[derive(Debug, Serialize, JsonSchema)]
pub struct CheckReport {
    /// Its name.
    pub name: &'static str,
    /// `pass`, `warn` or `fail`
    pub outcome: &'static str,
    /// What was seen, and what it means.
    pub detail: String,
    /// How long it took.
    pub took_ms: f64,
}

impl PreflightReport {
    /// The report of a probe.
    #[must_use]
    pub fn new(directory: &Path, found: &Preflight) -> Self {
        let failure = found.failure();
        let check = |check: &ckpt_store::preflight::Check| CheckReport {
            name: check.name,
            outcome: check.outcome.name(),
            detail: check.detail.clone(),
            took_ms: check.took.as_secs_f64() * 1e3,
        };
        Self {
            schema: "ckpt.preflight/1",
            path: directory.display().to_string(),
            ok: failure.is_none(),
            failure: failure.map(ckpt_core::ErrorKind::name),
            checks: found.checks.iter().map(check).collect(),
        }
    }
}
