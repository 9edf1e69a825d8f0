//! A checkpoint that is a directory: which kind it is, and what its files say together.

use std::cell::Cell;
use std::collections::BTreeSet;

use super::rest::{self, Noted};
use super::{Inspection, ckpt, content, dcp, recognised, sharded, torch};
use crate::error::{Error, Result};
use crate::finding::{Code, Finding, Severity};
use crate::format::Format;
use crate::format::pickle::Value;
use crate::format::torch::archive;
use crate::json;
use crate::layout::{Class, Facts, Layout, hf};
use crate::limits;
use crate::manifest;
use crate::members::{CountedMembers, Members};
use crate::metric::Direction;
use crate::name;
use crate::read::read_up_to;

/// The kinds of directory that are one checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DirectoryKind {
    /// A `torch.save` archive that was unpacked.
    Unpacked,
    /// This project's own: see [`crate::manifest`].
    Ckpt,
    /// PyTorch's distributed checkpoint.
    Dcp,
    /// Hugging Face's Trainer.
    HfTrainer,
    /// Hugging Face Accelerate.
    Accelerate,
    /// Orbax.
    Orbax,
    /// TensorFlow.
    Tensorflow,
}

/// Tells whether a directory is one checkpoint, by its name and the names inside it.
///
/// Names alone do not tell whose document a `manifest.json` is: [`directory`] reads it, and where it is another
/// program's, it takes the directory for what it would be without it.
#[must_use]
pub fn recognise(
    directory_name: &str,
    files: &BTreeSet<String>,
    directories: &BTreeSet<String>,
) -> Option<DirectoryKind> {
    let has = |name: &str| files.contains(name);
    let ends = |suffix: &str| files.iter().any(|name| name.ends_with(suffix));
    if has("data.pkl") && (directories.contains("data") || has("version") || has("byteorder")) {
        return Some(DirectoryKind::Unpacked);
    }
    if has(manifest::FILE_NAME)
        && (ckpt::is_named(directory_name) || has("trainer_state.json") || has("model.safetensors"))
    {
        return Some(DirectoryKind::Ckpt);
    }
    if has(".metadata") || ends(".distcp") {
        return Some(DirectoryKind::Dcp);
    }
    let is_numbered = directory_name
        .strip_prefix("checkpoint-")
        .is_some_and(|number| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()));
    if has("trainer_state.json")
        || (is_numbered && (ends(".safetensors") || ends(".bin") || ends(".index.json") || has("optimizer.pt")))
    {
        return Some(DirectoryKind::HfTrainer);
    }
    if ends("random_states_0.pkl") || (has("optimizer.bin") && (ends(".safetensors") || has("pytorch_model.bin"))) {
        return Some(DirectoryKind::Accelerate);
    }
    if has("_CHECKPOINT_METADATA") || has("commit_success.txt") || directory_name.contains(".orbax-checkpoint-tmp") {
        return Some(DirectoryKind::Orbax);
    }
    if has("checkpoint") && ends(".index") {
        return Some(DirectoryKind::Tensorflow);
    }
    None
}

/// Inspects a directory of the given kind.
///
/// # Errors
/// A file cannot be read.
pub fn directory(directory_name: &str, kind: DirectoryKind, members: &dyn Members) -> Result<Inspection> {
    let counter = Cell::new(0);
    let counted = CountedMembers::new(members, &counter);
    let counted = Noted::new(&counted);
    let bytes = members.list().values().sum();
    let mut inspection = match kind {
        DirectoryKind::Unpacked => unpacked(&counted)?,
        DirectoryKind::Ckpt => match ckpt::read(directory_name, &counted)? {
            ckpt::Read::Ours(manifest) => ckpt::inspect(manifest, &counted)?,
            ckpt::Read::Other(Some(other)) => return directory(directory_name, other, members),
            ckpt::Read::Other(None) => ckpt::none(),
        },
        DirectoryKind::Dcp => dcp::inspect(&counted)?,
        DirectoryKind::HfTrainer => trainer(&counted)?,
        DirectoryKind::Accelerate => accelerate(&counted)?,
        DirectoryKind::Tensorflow => recognised(Format::Tensorflow, bytes),
        DirectoryKind::Orbax => orbax(directory_name, members),
    };
    inspection.bytes = bytes;
    rest::judge(&counted, kind, &mut inspection.safety)?;
    if members.list().len() >= limits::MEMBERS {
        let message = format!("more than {} files: not all were looked at", limits::MEMBERS);
        inspection.findings.push(Finding::error(Code::Unsupported, message));
    }
    inspection.apply_name(directory_name);
    inspection.judge();
    inspection.bytes_read = counter.get();
    Ok(inspection)
}

fn unpacked(members: &dyn Members) -> Result<Inspection> {
    let Some(prefix) = archive::directory_prefix(members) else {
        let finding = Finding::error(Code::MissingShard, "`data.pkl` is missing");
        return Ok(Inspection { findings: vec![finding], ..Inspection::new(Format::TorchDirectory, 0) });
    };
    let read_error = |error| Error::read(format!("{prefix}data.pkl"), error);
    torch(archive::open_directory(members, prefix).map_err(read_error)?, 0).map_err(read_error)
}

fn orbax(directory_name: &str, members: &dyn Members) -> Inspection {
    let mut inspection = recognised(Format::Orbax, 0);
    if directory_name.contains(".orbax-checkpoint-tmp") || !members.list().contains_key("commit_success.txt") {
        inspection
            .findings
            .push(Finding::error(Code::Truncated, "an Orbax save that did not finish: it has no commit mark"));
    }
    inspection
}

/// The files of a directory checkpoint that hold pickles or tensors, index files first.
fn parts(members: &dyn Members) -> (Vec<String>, Vec<String>) {
    let top = members.list().keys().filter(|name| !name.contains('/'));
    let (indices, others): (Vec<&String>, Vec<&String>) = top.partition(|name| name::is_index(name));
    let wanted =
        |name: &str| [".safetensors", ".bin", ".pt", ".pth", ".pkl"].iter().any(|suffix| name.ends_with(suffix));
    let files = others
        .into_iter()
        .filter(|name| wanted(name) && (indices.is_empty() || !name::is_shard(name)))
        .cloned()
        .collect();
    (indices.into_iter().cloned().collect(), files)
}

/// What a file of a directory checkpoint holds, by its name.
pub(super) fn is_optimizer(name: &str) -> bool {
    name.starts_with("optimizer")
}

pub(super) fn is_weights(name: &str) -> bool {
    ["model", "pytorch_model", "adapter_model", "diffusion_pytorch_model"].iter().any(|stem| name.starts_with(stem))
}

/// Inspects every part and adds up what they hold; `each` sees what one file says.
fn collect(
    members: &dyn Members,
    inspection: &mut Inspection,
    mut each: impl FnMut(&str, &Inspection, &mut Facts),
) -> Result<()> {
    let mut facts = Facts::default();
    let (indices, files) = parts(members);
    let mut add = |name: &str, inner: Inspection, facts: &mut Facts| {
        each(name, &inner, facts);
        if is_optimizer(name) || is_weights(name) {
            facts.tensors.merge(&inner.tensors);
        }
        let usable = inner.findings.iter().all(|finding| finding.severity < Severity::Error);
        facts.parts.model |= is_weights(name) && usable;
        facts.parts.optimizer |= is_optimizer(name) && usable;
        facts.parts.scheduler |= name.starts_with("scheduler");
        facts.parts.scaler |= name.starts_with("scaler");
        facts.parts.rng |= name.starts_with("rng_state") || name.starts_with("random_states");
        facts.parts.loader |= name.starts_with("sampler") || name.starts_with("dl_state");
        if is_weights(name) {
            facts.prefixes.clone_from(&inner.prefixes);
        }
        inspection.safety.merge(inner.safety);
        for finding in inner.findings.into_iter().filter(|finding| finding.severity > Severity::Info) {
            let code = if finding.severity == Severity::Error { Code::MissingShard } else { finding.code };
            inspection.findings.push(Finding {
                code,
                severity: finding.severity,
                message: format!("`{name}`: {}", finding.message),
            });
        }
    };
    for name in indices {
        let inner = sharded::inspect(&name, members)?;
        add(&name, inner, &mut facts);
    }
    for name in files {
        let file = members.open(&name).map_err(|error| Error::read(name.clone(), error))?;
        let inner = content(&name, &*file).map_err(|error| Error::read(name.clone(), error))?;
        drop(file);
        add(&name, inner, &mut facts);
    }
    if !facts.parts.model {
        inspection
            .findings
            .push(Finding::error(Code::MissingShard, "no file with the model's weights, or a damaged one"));
    }
    inspection.parts = inspection.parts.union(facts.parts);
    inspection.class = Class::of(inspection.parts);
    inspection.tensors = facts.tensors;
    inspection.prefixes = facts.prefixes;
    inspection.epoch = inspection.epoch.or(facts.epoch);
    inspection.step = inspection.step.or(facts.step);
    inspection.metrics.extend(facts.metrics);
    Ok(())
}

fn trainer(members: &dyn Members) -> Result<Inspection> {
    let mut inspection = Inspection::new(Format::Directory, 0);
    let name = "trainer_state.json";
    inspection.layout = Layout::HfTrainer;
    match members.list().get(name) {
        None => inspection.findings.push(Finding::error(
            Code::Truncated,
            format!("there is no `{name}`, which is written last: the save did not finish"),
        )),
        Some(size) if *size > limits::JSON_BYTES => {
            inspection.findings.push(Finding::error(
                Code::Unsupported,
                format!("`{name}` of {size} bytes is larger than the limit of {}", limits::JSON_BYTES),
            ));
        }
        Some(size) => {
            let file = members.open(name).map_err(|error| Error::read(name, error))?;
            let bytes = read_up_to(&*file, 0, usize::try_from(*size).unwrap_or(usize::MAX))
                .map_err(|error| Error::read(name, error))?;
            match json::parse(&bytes) {
                Ok(serde_json::Value::Object(state)) => inspection.apply(hf::read(&state)),
                _ => inspection
                    .findings
                    .push(Finding::error(Code::Truncated, format!("`{name}` is cut off or is no JSON object"))),
            }
        }
    }
    inspection.keys = members.list().keys().take(limits::KEYS).cloned().collect();
    direction(members, &mut inspection)?;
    collect(members, &mut inspection, |_, _, _| ())?;
    Ok(inspection)
}

/// The direction of the best metric stands in the arguments of the run, which are pickled beside the weights.
fn direction(members: &dyn Members, inspection: &mut Inspection) -> Result<()> {
    let name = "training_args.bin";
    if !members.list().contains_key(name) {
        return Ok(());
    }
    let file = members.open(name).map_err(|error| Error::read(name, error))?;
    let opened = archive::open(&*file).map_err(|error| Error::read(name, error))?;
    let Some(pickle) = &opened.pickle else { return Ok(()) };
    let field = |name: &str| pickle.get(pickle.root(), name);
    let Some(metric) = field("metric_for_best_model").and_then(|value| pickle.text(value)) else { return Ok(()) };
    let direction = match field("greater_is_better") {
        Some(Value::Bool(true)) => Direction::Max,
        Some(Value::Bool(false)) => Direction::Min,
        _ => return Ok(()),
    };
    let metric = metric.strip_prefix("eval_").unwrap_or(&metric);
    for known in &mut inspection.metrics {
        if known.name == "best_metric" || known.name.strip_prefix("eval_") == Some(metric) {
            known.direction = Some(direction);
        }
    }
    Ok(())
}

fn accelerate(members: &dyn Members) -> Result<Inspection> {
    let mut inspection = Inspection::new(Format::Directory, 0);
    inspection.layout = Layout::Accelerate;
    inspection.keys = members.list().keys().take(limits::KEYS).cloned().collect();
    collect(members, &mut inspection, |name, inner, facts| {
        // Only objects that the user registered know the epoch; `random_states` has a `step` of another meaning.
        if name.starts_with("custom_checkpoint") {
            facts.epoch = facts.epoch.or(inner.epoch);
            facts.step = facts.step.or(inner.step);
            for metric in &inner.metrics {
                facts.add_metric(
                    &metric.name,
                    metric.value,
                    &format!("{name}.{}", metric.provenance),
                    metric.direction,
                );
            }
        }
    })?;
    Ok(inspection)
}
