//! Facts of a directory that this project saved: its manifest, compared with what is there, and what its files hold.

use std::collections::BTreeSet;

use serde_json::Value;

use super::directory::{is_optimizer, is_weights};
use super::{DirectoryKind, Inspection, content, dcp, recognise, rest, sharded};
use crate::error::{Error, Result};
use crate::finding::{Code, Finding, Severity};
use crate::format::Format;
use crate::ids::Epoch;
use crate::layout::{Class, Facts, Layout, Parts};
use crate::manifest::{self, FILE_NAME, LATEST, Manifest, Origin, REPLACED};
use crate::members::Members;
use crate::metric::Metric;
use crate::name::{self, Claim};
use crate::read::read_up_to;
use crate::{json, limits};

/// Where the trainer's own state is.
const STATE: &str = "trainer_state.json";
/// Most findings about files; what is beyond is counted.
const FINDINGS: usize = 16;

/// What a `manifest.json` turned out to be.
pub(crate) enum Read {
    /// One of ours, or what is wrong with it.
    Ours(std::result::Result<Manifest, Finding>),
    /// Another program's, and what the directory is without it.
    Other(Option<DirectoryKind>),
}

/// Whether a directory has a name that checkpoints of ours have: that of a step, or that of a pointer, which becomes a
/// directory where links are not kept.
pub(super) fn is_named(directory_name: &str) -> bool {
    manifest::step_of(directory_name.strip_suffix(REPLACED).unwrap_or(directory_name)).is_some()
        || directory_name == LATEST
        || manifest::metric_of(directory_name).is_some()
}

/// Reads the manifest.
///
/// # Errors
/// It cannot be read.
pub(crate) fn read(directory_name: &str, members: &dyn Members) -> Result<Read> {
    let wrong = |code, message: String| Ok(Read::Ours(Err(Finding::error(code, format!("`{FILE_NAME}`: {message}")))));
    let Some(size) = members.list().get(FILE_NAME).copied() else {
        return wrong(Code::Truncated, "it is not there, and is written last: the save did not finish".to_owned());
    };
    if size > limits::JSON_BYTES {
        return wrong(Code::Unsupported, format!("{size} bytes are more than the limit of {}", limits::JSON_BYTES));
    }
    let read_error = |error| Error::read(FILE_NAME, error);
    let file = members.open(FILE_NAME).map_err(read_error)?;
    let bytes = read_up_to(&*file, 0, usize::try_from(size).unwrap_or(usize::MAX)).map_err(read_error)?;
    let is_ours = match manifest::origin(&bytes) {
        Origin::Ours => true,
        Origin::Foreign => false,
        Origin::Unclear => is_named(directory_name) || members.list().contains_key(STATE),
    };
    if !is_ours {
        let (files, directories) = top(members);
        return Ok(Read::Other(recognise(directory_name, &files, &directories)));
    }
    match Manifest::parse(&bytes) {
        Ok(manifest) => Ok(Read::Ours(Ok(manifest))),
        Err(message) => wrong(manifest::fault(&bytes), message),
    }
}

/// The files and the directories at the top, the manifest aside.
fn top(members: &dyn Members) -> (BTreeSet<String>, BTreeSet<String>) {
    let (mut files, mut directories) = (BTreeSet::new(), BTreeSet::new());
    for name in members.list().keys().filter(|name| *name != FILE_NAME) {
        match name.split_once('/') {
            Some((directory, _)) => directories.insert(directory.to_owned()),
            None => files.insert(name.clone()),
        };
    }
    (files, directories)
}

/// A directory that only looked like a checkpoint.
pub(super) fn none() -> Inspection {
    let message = format!("its `{FILE_NAME}` is another program's, and it looks like no checkpoint without it");
    Inspection { findings: vec![Finding::error(Code::NotACheckpoint, message)], ..Inspection::new(Format::Unknown, 0) }
}

pub(super) fn inspect(manifest: std::result::Result<Manifest, Finding>, members: &dyn Members) -> Result<Inspection> {
    let mut inspection = Inspection::new(Format::Directory, 0);
    inspection.layout = Layout::Ckpt;
    inspection.keys = members.list().keys().take(limits::KEYS).cloned().collect();
    let mut manifest = manifest.map_err(|finding| inspection.findings.push(finding)).ok();
    if let Some(manifest) = &mut manifest {
        inspection.findings.extend(differences(manifest, members));
        inspection.metrics = std::mem::take(&mut manifest.metrics).into_iter().map(metric).collect();
    }
    let facts = contents(manifest.as_ref(), members, &mut inspection)?;
    inspection.parts = facts.parts;
    inspection.tensors = facts.tensors;
    inspection.prefixes = facts.prefixes;
    inspection.is_finished = facts.is_finished;
    inspection.is_mid_epoch = facts.is_mid_epoch;
    inspection.epoch = facts.epoch;
    inspection.step = facts.step;
    inspection.class = Class::of(facts.parts);
    for metric in facts.metrics {
        let is_new = inspection.metrics.iter().all(|known| known.name != metric.name);
        if is_new && inspection.metrics.len() < limits::METRICS {
            inspection.metrics.push(metric);
        }
    }
    if let Some(manifest) = manifest {
        inspection.step = Some(manifest.step);
        inspection.epoch = manifest.epoch.or(inspection.epoch);
        inspection.class = manifest.class;
        inspection.saved_ns = Some(manifest.created_ns);
        inspection.sequence = Some(manifest.sequence);
        inspection.run_id = Some(manifest.run_id);
    }
    Ok(inspection)
}

fn metric((name, recorded): (String, manifest::Recorded)) -> Metric {
    Metric { name, value: recorded.value, provenance: FILE_NAME.to_owned(), direction: recorded.direction }
}

/// What is there, compared with what the manifest names: sizes only.
fn differences(manifest: &Manifest, members: &dyn Members) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (name, file) in &manifest.files {
        let finding = match members.list().get(name) {
            Some(size) if *size == file.bytes => continue,
            Some(size) if *size < file.bytes => {
                (Code::Truncated, format!("`{name}` was cut off: it should have {} bytes and has {size}", file.bytes))
            }
            Some(size) => (Code::OutOfBounds, format!("`{name}` has {size} bytes, the manifest says {}", file.bytes)),
            None => (Code::MissingShard, format!("`{name}` of {} bytes is missing", file.bytes)),
        };
        findings.push(Finding::error(finding.0, finding.1));
    }
    let wrong = findings.len();
    if wrong > FINDINGS {
        findings.truncate(FINDINGS);
        let message = format!("{wrong} of {} files are missing or of another size", manifest.files.len());
        findings.push(Finding::error(Code::MissingShard, message));
    }
    let is_stranger = |name: &&String| *name != FILE_NAME && !manifest.files.contains_key(*name);
    let mut strangers = members.list().keys().filter(is_stranger);
    if let Some(first) = strangers.next() {
        let message = match strangers.count() {
            0 => format!("`{first}` is not in the manifest: no part of the checkpoint, and not checked"),
            more => format!("`{first}` and {more} more files are not in the manifest: no parts of it, and not checked"),
        };
        findings.push(Finding::info(Code::Unsupported, message));
    }
    findings
}

/// Looks into every file that can hold a part of the state.
fn contents(manifest: Option<&Manifest>, members: &dyn Members, inspection: &mut Inspection) -> Result<Facts> {
    let mut facts = Facts::default();
    let is_listed = |name: &str| manifest.is_none_or(|manifest| manifest.files.contains_key(name));
    let is_top_index = |name: &str| name::is_index(name) && !name.contains('/');
    let has_index = members.list().keys().any(|name| is_top_index(name) && is_listed(name));
    let names = members.list().keys().filter(|name| is_listed(name) && *name != FILE_NAME);
    let (files, directories) = top(members);
    if recognise("", &files, &directories) == Some(DirectoryKind::Dcp) {
        // Its rows hold pickles that only its metadata leads to.
        let name = ".metadata";
        add((name, name), dcp::inspect(members)?, &mut facts, inspection);
    }
    // Those beyond are still judged by what loading them would import.
    for name in names.take(limits::JUDGED_FILES) {
        let file_name = name.rsplit('/').next().unwrap_or(name);
        if name == STATE {
            state(members, &mut facts, inspection)?;
            continue;
        }
        let inner = match name::claim(file_name) {
            _ if is_top_index(name) => sharded::inspect(name, members)?,
            Some(claim) if !(name::is_index(file_name) || has_index && name::is_shard(file_name)) => {
                let read_error = |error| Error::read(name.clone(), error);
                let file = members.open(name).map_err(read_error)?;
                let inner = content(file_name, &*file).map_err(read_error)?;
                // A name of everyday use that holds something else is nothing to complain about.
                if claim == Claim::Weak && inner.format == Format::Unknown {
                    if rest::is_named(file_name) {
                        inspection.safety.merge(inner.safety);
                    }
                    continue;
                }
                inner
            }
            _ => continue,
        };
        add((name, file_name), inner, &mut facts, inspection);
    }
    Ok(facts)
}

fn add((name, file_name): (&str, &str), inner: Inspection, facts: &mut Facts, inspection: &mut Inspection) {
    if inner.findings.iter().all(|finding| finding.severity < Severity::Error) {
        facts.parts = facts.parts.union(parts(file_name, inner.parts));
    }
    facts.tensors.merge(&inner.tensors);
    if facts.prefixes.is_empty() && !is_optimizer(file_name) {
        facts.prefixes = inner.prefixes;
    }
    facts.epoch = facts.epoch.or(inner.epoch);
    facts.step = facts.step.or(inner.step);
    facts.is_finished |= inner.is_finished;
    facts.is_mid_epoch |= inner.is_mid_epoch;
    for metric in inner.metrics {
        facts.add_metric(&metric.name, metric.value, &format!("{name}.{}", metric.provenance), metric.direction);
    }
    inspection.safety.merge(inner.safety);
    for finding in inner.findings.into_iter().filter(|finding| finding.severity > Severity::Info) {
        if inspection.findings.len() < FINDINGS.saturating_mul(2) || finding.severity == Severity::Error {
            let message = format!("`{name}`: {}", finding.message);
            inspection.findings.push(Finding { message, ..finding });
        }
    }
}

/// The parts that a file holds: by its name, where that names a part, else by its content.
fn parts(file_name: &str, told: Parts) -> Parts {
    let starts = |stems: &[&str]| stems.iter().any(|stem| file_name.starts_with(stem));
    let none = Parts::default();
    match () {
        () if is_optimizer(file_name) => Parts { optimizer: true, ..none },
        () if starts(&["scheduler"]) => Parts { scheduler: true, ..none },
        () if starts(&["scaler"]) => Parts { scaler: true, ..none },
        () if starts(&["rng_state", "random_states"]) => Parts { rng: true, ..none },
        () if starts(&["sampler", "dl_state"]) => Parts { loader: true, ..none },
        () => Parts { model: told.model || is_weights(file_name), ..told },
    }
}

/// The trainer's own state: which parts are in it.
fn state(members: &dyn Members, facts: &mut Facts, inspection: &mut Inspection) -> Result<()> {
    let size = members.list().get(STATE).copied().unwrap_or(0);
    let mut wrong = |code, message: String| {
        inspection.findings.push(Finding::error(code, format!("`{STATE}` {message}")));
        Ok(())
    };
    if size > limits::JSON_BYTES {
        return wrong(Code::Unsupported, format!("of {size} bytes is larger than the limit of {}", limits::JSON_BYTES));
    }
    let file = members.open(STATE).map_err(|error| Error::read(STATE, error))?;
    let bytes = read_up_to(&*file, 0, usize::try_from(size).unwrap_or(usize::MAX))
        .map_err(|error| Error::read(STATE, error))?;
    let Ok(Value::Object(fields)) = json::parse(&bytes) else {
        return wrong(Code::Truncated, "is cut off or is no JSON object".to_owned());
    };
    let has = |name: &str| match fields.get(name) {
        None | Some(Value::Null) => false,
        Some(Value::Array(items)) => !items.is_empty(),
        Some(Value::Object(items)) => !items.is_empty(),
        Some(_) => true,
    };
    // Hugging Face's, which has a log, counts epochs another way.
    let epoch = fields.get("epoch").filter(|_| !has("log_history"));
    facts.epoch = facts.epoch.or(epoch.and_then(Value::as_f64).and_then(Epoch::new));
    facts.parts = facts.parts.union(Parts {
        scheduler: has("scheduler"),
        scaler: has("scaler"),
        rng: has("rng"),
        loader: has("loader"),
        history: has("history") || has("log_history"),
        ..Parts::default()
    });
    Ok(())
}
