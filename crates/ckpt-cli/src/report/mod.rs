//! The JSON documents. They are a contract: within one version of a schema fields are added and never changed.
//!
//! `docs/schema/` holds the schemas; a test compares them with these types.

mod doctor;
mod history;
mod pin;
mod preflight;
mod prune;
mod save;
mod shrink;

use std::collections::BTreeMap;

use ckpt_core::ids::Epoch;
use ckpt_core::inspect::Inspection;
use ckpt_core::select::Selection;
use ckpt_core::verify::{Verdict, Verified};
use ckpt_store::scan::Place;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Map, Value};

pub use doctor::{DoctorReport, SettingReport, TroubleReport};
pub use history::HistoryReport;
pub use pin::{DoneReport, PinReport, PinnedReport};
pub use preflight::{CheckReport, PreflightReport};
pub use prune::{PlannedReport, PruneReport, PrunedDirectoryReport, UnprunedReport};
pub use save::{AdoptedReport, SaveReport};
pub use shrink::{DroppedReport, KeptReport, ShrinkReport};

/// What one checkpoint says.
#[derive(Debug, Serialize, JsonSchema)]
pub struct InspectReport {
    /// `ckpt.inspect/1`
    pub schema: &'static str,
    /// Its path.
    pub path: String,
    /// The container.
    pub format: &'static str,
    /// Who arranged the state.
    pub layout: &'static str,
    /// Its size in bytes, all files together.
    pub bytes: u64,
    /// When it was last modified, RFC 3339.
    pub modified: Option<String>,
    /// When it was saved, as it says itself, RFC 3339.
    pub saved: Option<String>,
    /// The run that it belongs to, as it says itself.
    pub run_id: Option<String>,
    /// The number of its commit in the directory that holds it: larger is later, whatever the step says.
    pub sequence: Option<u64>,
    /// Its epoch, as its trainer wrote it.
    #[schemars(with = "Option<f64>")]
    pub epoch: Option<Value>,
    /// Its step.
    pub step: Option<u64>,
    /// Metrics by name; null where the value is not finite.
    #[schemars(with = "BTreeMap<String, Option<f64>>")]
    pub metrics: Map<String, Value>,
    /// The same metrics with where they were found.
    pub metric_details: Vec<MetricReport>,
    /// Top-level keys; the files' names for a directory.
    pub keys: Vec<String>,
    /// The tensors, added up.
    pub tensors: TensorsReport,
    /// The parts of a resumable state.
    pub state: StateReport,
    /// `resumable` or `inference-only`.
    pub class: &'static str,
    /// Prefixes that wrap every model key.
    pub prefixes: Vec<String>,
    /// What loading it with an unrestricted unpickler would import.
    pub safety: SafetyReport,
    /// Whether it may be used.
    pub valid: bool,
    /// Whether its trainer says that training is over.
    pub finished: bool,
    /// The epoch that training would do next, in the trainer's own count.
    pub resume_epoch: Option<i64>,
    /// Everything noticed.
    pub findings: Vec<FindingReport>,
    /// What is left of it, when it was cut off.
    pub salvage: Option<SalvageReport>,
    /// How many bytes were read to learn this.
    pub bytes_read: u64,
    /// Other names of the same file.
    pub aliases: Vec<String>,
    /// Where it was found.
    pub source: SourceReport,
}

/// One metric.
#[derive(Debug, Serialize, JsonSchema)]
pub struct MetricReport {
    /// Its name.
    pub name: String,
    /// Its value as text, NaN and infinities included.
    pub value: String,
    /// Where in the checkpoint it was found.
    pub provenance: String,
    /// `max` or `min`, where the checkpoint itself tells it.
    pub direction: Option<&'static str>,
    /// `max` or `min`, as its name is commonly used.
    pub usual_direction: Option<&'static str>,
}

/// The tensors, added up.
#[derive(Debug, Serialize, JsonSchema)]
pub struct TensorsReport {
    /// How many.
    pub count: u64,
    /// How many elements.
    pub parameters: u64,
    /// How many bytes.
    pub bytes: u64,
    /// How many of each element type.
    pub dtypes: BTreeMap<String, u64>,
}

/// The parts of a resumable state.
#[derive(Debug, Serialize, JsonSchema)]
#[expect(clippy::struct_excessive_bools, reason = "a report: each is a field of the document")]
pub struct StateReport {
    /// Weights.
    pub model: bool,
    /// Optimizer state.
    pub optimizer: bool,
    /// Scheduler state.
    pub scheduler: bool,
    /// Gradient scaler state.
    pub scaler: bool,
    /// Random generators' state.
    pub rng: bool,
    /// Position in the data.
    pub loader: bool,
    /// Records of past epochs.
    pub history: bool,
}

/// What loading would import.
#[derive(Debug, Serialize, JsonSchema)]
pub struct SafetyReport {
    /// `safe`, `unknown` or `dangerous`.
    pub verdict: &'static str,
    /// Every import.
    pub globals: Vec<GlobalReport>,
}

/// One import.
#[derive(Debug, Serialize, JsonSchema)]
pub struct GlobalReport {
    /// `module.name`
    pub name: String,
    /// `safe`, `unknown` or `dangerous`.
    pub verdict: &'static str,
}

/// One thing noticed.
#[derive(Debug, Serialize, JsonSchema)]
pub struct FindingReport {
    /// Its kind.
    pub code: &'static str,
    /// `info`, `warning` or `error`.
    pub severity: &'static str,
    /// For people.
    pub message: String,
}

/// What is left of a cut-off file.
#[derive(Debug, Serialize, JsonSchema)]
pub struct SalvageReport {
    /// The bytes it should have.
    pub expected_bytes: Option<u64>,
    /// The bytes it has.
    pub actual_bytes: u64,
    /// How many of its tensors are all there.
    pub tensors_complete: u64,
    /// How many it should have.
    pub tensors_total: u64,
}

/// Where it was found.
#[derive(Debug, Serialize, JsonSchema)]
pub struct SourceReport {
    /// The kind of place.
    pub kind: &'static str,
    /// The place.
    pub location: String,
}

/// What a scan found.
#[derive(Debug, Serialize, JsonSchema)]
pub struct ScanReport {
    /// `ckpt.scan/1`
    pub schema: &'static str,
    /// The places that were looked at.
    pub locations: Vec<LocationReport>,
    /// The checkpoints, each as `inspect` reports it.
    pub checkpoints: Vec<InspectReport>,
}

/// One place.
#[derive(Debug, Serialize, JsonSchema)]
pub struct LocationReport {
    /// The directory or file.
    pub location: String,
    /// The kind of place.
    pub kind: &'static str,
    /// Whether it could be looked at.
    pub readable: bool,
    /// Why not.
    pub problem: Option<String>,
}

/// What was verified.
#[derive(Debug, Serialize, JsonSchema)]
pub struct VerifyReport {
    /// `ckpt.verify/1`
    pub schema: &'static str,
    /// Whether every byte was checked.
    pub deep: bool,
    /// Whether all are valid.
    pub valid: bool,
    /// The checkpoints, each as `inspect` reports it.
    pub checkpoints: Vec<InspectReport>,
}

/// What was chosen.
#[derive(Debug, Serialize, JsonSchema)]
pub struct SelectReport {
    /// `ckpt.select/1` or `ckpt.resume/1`
    pub schema: &'static str,
    /// The one taken, as `inspect` reports it.
    pub selected: Option<InspectReport>,
    /// Why it was taken, or why none was.
    pub reason: String,
    /// The rule that chose.
    pub rule: String,
    /// What a person should know about the choice.
    pub warnings: Vec<String>,
    /// Where it is now.
    pub path: Option<String>,
    /// The epoch that training does next.
    pub resume_epoch: Option<i64>,
    /// Whether it was copied by this call.
    pub copied: bool,
    /// What fetching did.
    pub action: Option<String>,
    /// Where the file went that had the name before.
    pub set_aside: Option<String>,
    /// Damaged ones that would have been taken first.
    pub fell_back_from: Vec<CandidateReport>,
    /// Every candidate, the most wanted first.
    pub candidates: Vec<CandidateReport>,
}

/// One candidate of a choice.
#[derive(Debug, Serialize, JsonSchema)]
pub struct CandidateReport {
    /// Its path.
    pub path: String,
    /// Whether it may be used.
    pub valid: bool,
    /// Why it was taken or passed over.
    pub reason: String,
}

/// What was copied.
#[derive(Debug, Serialize, JsonSchema)]
pub struct FetchReport {
    /// `ckpt.fetch/1`
    pub schema: &'static str,
    /// Where it is now.
    pub path: String,
    /// Whether it was copied by this call.
    pub copied: bool,
    /// What was done.
    pub action: String,
    /// Where the file went that had the name before.
    pub set_aside: Option<String>,
}

/// A number that JSON writes without a fraction when it has none.
fn number(epoch: Epoch) -> Value {
    epoch.whole().map_or_else(|| Value::from(epoch.get()), Value::from)
}

/// A moment in nanoseconds since 1970 as RFC 3339, in whole seconds.
pub(crate) fn timestamp(nanoseconds: i64) -> Option<String> {
    let moment = jiff::Timestamp::from_nanosecond(i128::from(nanoseconds)).ok()?;
    let seconds = jiff::Timestamp::from_second(moment.as_second()).ok()?;
    Some(seconds.to_string())
}

impl InspectReport {
    /// The report of a judged checkpoint.
    #[must_use]
    pub fn new(verified: &Verified) -> Self {
        let Verified { candidate, inspection, verdict, .. } = verified;
        let parts = inspection.parts;
        Self {
            schema: "ckpt.inspect/1",
            path: candidate.path.display().to_string(),
            format: inspection.format.name(),
            layout: inspection.layout.name(),
            bytes: inspection.bytes,
            modified: timestamp(candidate.modified_ns),
            saved: inspection.saved_ns.and_then(timestamp),
            run_id: inspection.run_id.clone(),
            sequence: inspection.sequence,
            epoch: inspection.epoch.map(number),
            step: inspection.step.map(|step| step.0),
            metrics: inspection.metrics.iter().map(|metric| (metric.name.clone(), Value::from(metric.value))).collect(),
            metric_details: metrics(inspection),
            keys: inspection.keys.clone(),
            tensors: TensorsReport {
                count: inspection.tensors.count,
                parameters: inspection.tensors.parameters,
                bytes: inspection.tensors.bytes,
                dtypes: inspection.tensors.dtypes.clone(),
            },
            state: StateReport {
                model: parts.model,
                optimizer: parts.optimizer,
                scheduler: parts.scheduler,
                scaler: parts.scaler,
                rng: parts.rng,
                loader: parts.loader,
                history: parts.history,
            },
            class: inspection.class.name(),
            prefixes: inspection.prefixes.clone(),
            safety: safety(inspection),
            valid: verdict.is_valid,
            finished: inspection.is_finished,
            resume_epoch: inspection.resume_epoch(),
            findings: findings(verdict),
            salvage: inspection.salvage.as_ref().map(|salvage| SalvageReport {
                expected_bytes: salvage.expected_bytes,
                actual_bytes: salvage.actual_bytes,
                tensors_complete: salvage.tensors_complete,
                tensors_total: salvage.tensors_total,
            }),
            bytes_read: inspection.bytes_read,
            aliases: candidate.aliases.iter().map(|path| path.display().to_string()).collect(),
            source: SourceReport { kind: candidate.source.kind.name(), location: candidate.source.location.clone() },
        }
    }
}

fn metrics(inspection: &Inspection) -> Vec<MetricReport> {
    let report = |metric: &ckpt_core::metric::Metric| MetricReport {
        name: metric.name.clone(),
        value: metric.value.to_string(),
        provenance: metric.provenance.clone(),
        direction: metric.direction.map(ckpt_core::metric::Direction::name),
        usual_direction: ckpt_core::metric::usual_direction(&metric.name).map(ckpt_core::metric::Direction::name),
    };
    inspection.metrics.iter().map(report).collect()
}

fn safety(inspection: &Inspection) -> SafetyReport {
    let report = |global: &ckpt_core::format::safety::GlobalName| GlobalReport {
        name: global.name.clone(),
        verdict: global.risk.name(),
    };
    SafetyReport {
        verdict: inspection.safety.verdict.name(),
        globals: inspection.safety.globals.iter().map(report).collect(),
    }
}

fn findings(verdict: &Verdict) -> Vec<FindingReport> {
    let report = |finding: &ckpt_core::finding::Finding| FindingReport {
        code: finding.code.name(),
        severity: finding.severity.name(),
        message: finding.message.clone(),
    };
    verdict.findings.iter().map(report).collect()
}

impl ScanReport {
    /// The report of a survey.
    #[must_use]
    pub fn new(places: &[Place], verified: &[Verified]) -> Self {
        let location = |place: &Place| LocationReport {
            location: place.path.display().to_string(),
            kind: place.kind.name(),
            readable: place.is_readable,
            problem: place.problem.clone(),
        };
        Self {
            schema: "ckpt.scan/1",
            locations: places.iter().map(location).collect(),
            checkpoints: verified.iter().map(InspectReport::new).collect(),
        }
    }
}

impl SelectReport {
    /// The report of a choice, before anything was fetched.
    #[must_use]
    pub fn new(schema: &'static str, selection: &Selection) -> Self {
        let candidates: Vec<(&Verified, CandidateReport)> = selection
            .ranked
            .iter()
            .zip(&selection.outcomes)
            .map(|(verified, outcome)| {
                let path = verified.candidate.path.display().to_string();
                (verified, CandidateReport { path, valid: verified.verdict.is_valid, reason: outcome.reason.clone() })
            })
            .collect();
        let selected = selection.selected();
        let fell_back_from = selection
            .fell_back_from()
            .map(|verified| CandidateReport {
                path: verified.candidate.path.display().to_string(),
                valid: false,
                reason: verified
                    .verdict
                    .reason()
                    .map(|finding| format!("{}: {}", finding.code.name(), finding.message))
                    .unwrap_or_default(),
            })
            .collect();
        Self {
            schema,
            selected: selected.map(InspectReport::new),
            reason: selection.reason(),
            rule: selection.rule.clone(),
            warnings: selection.warnings.clone(),
            path: selected.map(|verified| verified.candidate.path.display().to_string()),
            resume_epoch: selected.and_then(|verified| verified.inspection.resume_epoch()),
            copied: false,
            action: None,
            set_aside: None,
            fell_back_from,
            candidates: candidates.into_iter().map(|(_, report)| report).collect(),
        }
    }
}
