//! inspect: what does a checkpoint say?
//!
//! Reads only what it must: a zip's directory and its `data.pkl`, a safetensors header, a scalar that holds a metric. No
//! pickle is executed and no tensor's payload is read. Damage is a [`Finding`] of the [`Inspection`], never an error: an
//! error means that the source could not be read at all.

use std::cell::Cell;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::finding::{Code, Finding, Severity};
use crate::format::safety::{Risk, Safety};
use crate::format::sniff::{self, Sniffed};
use crate::format::torch::{Opened, Salvage, TWICE, UNREAD, archive, legacy, tar};
use crate::format::{Format, pickle::Pickle, zip};
use crate::ids::{Epoch, Step};
use crate::layout::{Class, Facts, Layout, Parts, TensorSummary, state};
use crate::limits;
use crate::metric::Metric;
use crate::name;
use crate::read::{Counted, ReadAt, read_up_to};

mod ckpt;
mod dcp;
mod directory;
mod rest;
mod safetensors;
mod sharded;

pub(crate) use ckpt::{Read, read as read_manifest};
pub use directory::{DirectoryKind, directory, recognise};
pub use sharded::{index, index_shards};

/// What a checkpoint says about itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Inspection {
    /// The container.
    pub format: Format,
    /// Who arranged the state.
    pub layout: Layout,
    /// Its epoch.
    pub epoch: Option<Epoch>,
    /// Its step.
    pub step: Option<Step>,
    /// Its metrics, each with where it was found.
    pub metrics: Vec<Metric>,
    /// Its top-level keys; the files' names for a directory.
    pub keys: Vec<String>,
    /// Its tensors, added up.
    pub tensors: TensorSummary,
    /// The parts of a resumable state that are there.
    pub parts: Parts,
    /// Whether training can go on from it.
    pub class: Class,
    /// Prefixes that wrap every model key.
    pub prefixes: Vec<String>,
    /// What loading it with an unrestricted unpickler would import.
    pub safety: Safety,
    /// Whether its trainer says that training is over.
    pub is_finished: bool,
    /// Whether it was saved before the end of its epoch.
    pub is_mid_epoch: bool,
    /// When it was saved, as it says itself, in nanoseconds since 1970.
    pub saved_ns: Option<i64>,
    /// The number of its commit in the directory that holds it: larger is later, whatever the step says.
    pub sequence: Option<u64>,
    /// The run that it belongs to, over all its sessions.
    pub run_id: Option<String>,
    /// What was noticed.
    pub findings: Vec<Finding>,
    /// What is left of it, when it was cut off.
    pub salvage: Option<Salvage>,
    /// Its size.
    pub bytes: u64,
    /// How many bytes were read to learn this.
    pub bytes_read: u64,
}

impl Inspection {
    fn new(format: Format, bytes: u64) -> Self {
        Self {
            format,
            layout: Layout::Unknown,
            epoch: None,
            step: None,
            metrics: Vec::new(),
            keys: Vec::new(),
            tensors: TensorSummary::default(),
            parts: Parts::default(),
            class: Class::InferenceOnly,
            prefixes: Vec::new(),
            safety: Safety::default(),
            is_finished: false,
            is_mid_epoch: false,
            saved_ns: None,
            sequence: None,
            run_id: None,
            findings: Vec::new(),
            salvage: None,
            bytes,
            bytes_read: 0,
        }
    }

    /// Whether nothing was found that makes it unusable, and its format is one that is read.
    #[must_use]
    pub fn is_valid(&self) -> bool {
        self.format.is_inspected() && self.findings.iter().all(|finding| finding.severity < Severity::Error)
    }

    /// The epoch that training would do next, in the trainer's own count.
    ///
    /// One convention for all: `epoch` in a checkpoint names the last epoch that was finished, counted from 0, so the
    /// next one is `epoch + 1`. Hugging Face's Trainer counts finished epochs as a fraction; there the next one is the
    /// whole part. One that was saved before the end of its epoch goes on with that epoch.
    #[must_use]
    pub fn resume_epoch(&self) -> Option<i64> {
        let epoch = self.epoch?;
        if self.layout == Layout::HfTrainer {
            return Epoch::new(epoch.get().floor())?.whole();
        }
        match epoch.whole() {
            Some(whole) if self.is_mid_epoch => Some(whole),
            Some(whole) => whole.checked_add(1),
            None => Epoch::new(epoch.get().ceil())?.whole(),
        }
    }

    fn apply(&mut self, facts: Facts) {
        for damaged in &facts.damaged_metrics {
            let message = format!("the bytes behind `{damaged}` do not match their checksum");
            self.findings.push(Finding::error(Code::CrcMismatch, message));
        }
        if facts.tensors_outside > 0 {
            let message = format!("{} tensors reach beyond the storages they name", facts.tensors_outside);
            self.findings.push(Finding::error(Code::OutOfBounds, message));
        }
        self.findings.extend(facts.notes.into_iter().map(|note| Finding::info(Code::BadValue, note)));
        self.layout = facts.layout;
        self.epoch = facts.epoch;
        self.step = facts.step;
        self.metrics = facts.metrics;
        self.keys = facts.keys;
        self.tensors = facts.tensors;
        self.parts = facts.parts;
        self.prefixes = facts.prefixes;
        self.is_finished = facts.is_finished;
        self.is_mid_epoch = facts.is_mid_epoch;
        self.class = facts.declared.unwrap_or_else(|| Class::of(self.parts));
    }

    /// Fills what the content does not tell from what the name claims.
    fn apply_name(&mut self, name: &str) {
        let told = name::facts(name);
        if self.epoch.is_none() && self.step.is_none() && !self.is_finished {
            self.epoch = told.epoch;
            self.step = told.step;
        }
        for (metric, value) in told.metrics {
            if self.metrics.len() < limits::METRICS && self.metrics.iter().all(|known| known.name != metric) {
                self.metrics.push(Metric { name: metric, value, provenance: "file name".to_owned(), direction: None });
            }
        }
    }

    /// A file of its own must hold a state. A number, a list, an empty dict is none, whoever wrote it.
    fn require_state(&mut self) {
        let is_nothing = self.layout == Layout::Values && self.keys.is_empty() && self.tensors.count == 0;
        if is_nothing && self.findings.is_empty() {
            let message = "it holds neither a mapping nor a tensor: nothing to resume from";
            self.findings.push(Finding::error(Code::NotACheckpoint, message));
        }
    }

    /// Turns dangerous imports into a finding.
    fn judge(&mut self) {
        if self.safety.verdict == Risk::Dangerous {
            let names: Vec<&str> = self.safety.dangerous().take(8).collect();
            if names == [TWICE] && self.findings.iter().any(|finding| finding.code == Code::Unsafe) {
                return;
            }
            let message = format!("loading it would import {}", names.join(", "));
            self.findings.insert(0, Finding::error(Code::Unsafe, message));
        }
    }
}

/// Adds every import of a pickle, and of the pickles inside it.
fn add_imports(safety: &mut Safety, pickle: &Pickle, depth: usize) {
    for (index, (module, name)) in pickle.imports().enumerate() {
        if index >= limits::IMPORTS || module.len().max(name.len()) >= limits::TEXT_BYTES {
            safety.add_as("<more or longer names than any checkpoint imports>".to_owned(), Risk::Dangerous);
            break;
        }
        // What PyTorch puts into plain pickles: a nested stream, whose own imports are judged instead.
        if (&*module, &*name) == legacy::LOADER {
            safety.add_as(format!("{module}.{name}"), Risk::Safe);
        } else {
            safety.add(&module, &name);
        }
    }
    let tricks = pickle.tricks();
    for (is_done, name) in [
        (tricks.computed_global, "<a name computed while loading>"),
        (tricks.computed_call, "<a call of what another call returns>"),
        (tricks.built_global, "<attributes set on a function or class>"),
    ] {
        if is_done {
            safety.add_as(name.to_owned(), Risk::Dangerous);
        }
    }
    let inner = legacy::nested(pickle);
    if inner.has_unread {
        safety.add_as("<a pickle inside that cannot be read before it is loaded>".to_owned(), Risk::Dangerous);
    }
    if depth >= limits::PICKLE_NESTING && !inner.pickles.is_empty() {
        safety.add_as("<pickles nested too deep>".to_owned(), Risk::Dangerous);
        return;
    }
    for pickle in inner.pickles {
        add_imports(safety, &pickle, depth + 1);
    }
}

/// Adds everything that loading a container would do.
fn add_risks(safety: &mut Safety, opened: &Opened<'_>) {
    for pickle in opened.pickle.iter().chain(&opened.others) {
        add_imports(safety, pickle, 0);
    }
    for (name, risk) in &opened.risks {
        safety.add_as((*name).to_owned(), *risk);
    }
    if opened.pickle.is_none() {
        safety.add_as(UNREAD.to_owned(), Risk::Unknown);
    }
}

/// Inspects one file. `file_name` is its last path component: what it claims is used where the content is silent.
///
/// ```
/// use ckpt_core::{finding::Code, inspect};
/// let page: &[u8] = b"<!DOCTYPE html><title>404</title>";
/// let inspection = inspect::file("best.pth", &page)?;
/// assert!(!inspection.is_valid());
/// assert_eq!(inspection.findings[0].code, Code::NotACheckpoint);
/// # Ok::<(), ckpt_core::Error>(())
/// ```
///
/// # Errors
/// The source cannot be read.
pub fn file(file_name: &str, source: &dyn ReadAt) -> Result<Inspection> {
    let counter = Cell::new(0);
    let counted = Counted::new(source, &counter);
    let mut inspection = content(file_name, &counted).map_err(|error| Error::read(file_name, error))?;
    inspection.require_state();
    inspection.apply_name(file_name);
    inspection.judge();
    inspection.bytes_read = counter.get();
    Ok(inspection)
}

/// Inspects a file's content alone; imports are collected and not yet judged.
fn content(file_name: &str, source: &dyn ReadAt) -> std::io::Result<Inspection> {
    let size = source.size();
    let head = read_up_to(source, 0, sniff::HEAD_BYTES)?;
    match sniff::sniff(file_name, &head, size) {
        Sniffed::Other(finding) => Ok(unread(Format::Unknown, size, finding)),
        Sniffed::Recognised(format) => Ok(recognised(format, size)),
        Sniffed::Zip if head.starts_with(&zip::LOCAL_HEADER) => named(file_name, torch(archive::open(source)?, size)?),
        Sniffed::Zip => {
            let finding = Finding::error(Code::NotACheckpoint, "an empty zip archive");
            Ok(unread(Format::Zip, size, finding))
        }
        Sniffed::Known(Format::TorchLegacy) => named(file_name, torch(legacy::open(source)?, size)?),
        Sniffed::Known(Format::TorchTar) => torch(tar::open(source)?, size),
        Sniffed::Known(Format::Safetensors) => named(file_name, safetensors::inspect(source)?),
        Sniffed::Known(_) => torch(legacy::open_pickle(source)?, size),
    }
}

/// `torch.load` goes by the extension `.safetensors` and not by the content.
#[expect(clippy::unnecessary_wraps, reason = "one arm of a match whose other arms can fail")]
fn named(file_name: &str, mut inspection: Inspection) -> std::io::Result<Inspection> {
    let claims = file_name.to_ascii_lowercase().ends_with(".safetensors");
    let is = inspection.format == Format::Safetensors;
    let what = inspection.format.describe();
    if claims && !is {
        let message = format!("{what} under a name that ends in .safetensors: every loader refuses it until renamed");
        inspection.findings.push(Finding::error(Code::Unsupported, message));
    } else if is && !claims && inspection.findings.is_empty() {
        let message = format!("{what} under a name that does not end in .safetensors: torch.load refuses it");
        inspection.findings.push(Finding::warning(Code::Unsupported, message));
        // Under such a name it goes to an unpickler, and what that makes of a header was not looked at.
        inspection.safety.add_as(UNREAD.to_owned(), Risk::Unknown);
    }
    Ok(inspection)
}

/// A checkpoint of a format that is recognised and not read.
fn recognised(format: Format, size: u64) -> Inspection {
    let finding = Finding::warning(Code::Unsupported, format!("recognised as {}, not inspected", format.describe()));
    unread(format, size, finding)
}

/// What was not read may be a pickle to a loader that goes by other signs than we do.
fn unread(format: Format, size: u64, finding: Finding) -> Inspection {
    let mut inspection = Inspection { findings: vec![finding], ..Inspection::new(format, size) };
    inspection.safety.add_as(UNREAD.to_owned(), Risk::Unknown);
    inspection
}

fn torch(opened: Opened<'_>, size: u64) -> std::io::Result<Inspection> {
    let mut inspection = Inspection::new(opened.format, size);
    add_risks(&mut inspection.safety, &opened);
    let facts = state::read(&opened)?;
    inspection.findings = opened.findings;
    inspection.salvage = opened.salvage;
    inspection.apply(facts);
    if opened.format == Format::TorchScript {
        inspection.parts.model = true;
    }
    Ok(inspection)
}
