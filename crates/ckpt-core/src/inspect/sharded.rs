//! A checkpoint in several files behind an index: `model.safetensors.index.json`, `pytorch_model.bin.index.json`.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::{Inspection, content};
use crate::error::{Error, Result};
use crate::finding::{Code, Finding, Severity};
use crate::format::Format;
use crate::json;
use crate::layout::{Class, Layout};
use crate::limits;
use crate::members::{CountedMembers, Members};
use crate::read::read_up_to;

/// Most missing shards that are named.
const MISSING: usize = 16;

/// Inspects the index `index_name` and every shard it names. `members` are the files of its directory.
///
/// # Errors
/// A file cannot be read.
pub fn index(index_name: &str, members: &dyn Members) -> Result<Inspection> {
    let counter = Cell::new(0);
    let counted = CountedMembers::new(members, &counter);
    let mut inspection = inspect(index_name, &counted)?;
    inspection.apply_name(index_name);
    inspection.judge();
    inspection.bytes_read = counter.get();
    Ok(inspection)
}

/// The shards that an index names: tensor name → file. `None` when it is no index.
fn weight_map(document: &Value) -> Option<BTreeMap<String, String>> {
    let map = document.get("weight_map")?.as_object().filter(|map| map.len() <= limits::INDEX_ENTRIES)?;
    map.iter().map(|(tensor, file)| Some((tensor.clone(), file.as_str()?.to_owned()))).collect()
}

/// The names of the shards in an index document, each once; empty when it is no index.
#[must_use]
pub fn index_shards(document: &[u8]) -> BTreeSet<String> {
    json::parse(document).ok().as_ref().and_then(weight_map).map(|map| map.into_values().collect()).unwrap_or_default()
}

pub(super) fn inspect(index_name: &str, members: &dyn Members) -> Result<Inspection> {
    let read_error = |name: &str| {
        let name = name.to_owned();
        move |error| Error::read(name, error)
    };
    let is_safetensors = index_name.contains(".safetensors.");
    let format = if is_safetensors { Format::SafetensorsSharded } else { Format::TorchSharded };
    let size = members.list().get(index_name).copied().unwrap_or(0);
    let mut inspection = Inspection::new(format, size);
    inspection.layout = Layout::StateDict;
    let fail = |mut inspection: Inspection, code, message: String| {
        inspection.findings.push(Finding::error(code, message));
        Ok(inspection)
    };
    if size > limits::INDEX_BYTES {
        return fail(
            inspection,
            Code::Unsupported,
            format!("the index of {size} bytes is larger than the limit of {}", limits::INDEX_BYTES),
        );
    }
    let file = members.open(index_name).map_err(read_error(index_name))?;
    let bytes = read_up_to(&*file, 0, usize::try_from(size).unwrap_or(usize::MAX)).map_err(read_error(index_name))?;
    drop(file);
    let map = match json::parse(&bytes) {
        Ok(document) => weight_map(&document),
        Err(error) if error.is_eof() => {
            return fail(inspection, Code::Truncated, format!("the index `{index_name}` was cut off: {error}"));
        }
        Err(_) => None,
    };
    let Some(map) = map else {
        return fail(inspection, Code::NotACheckpoint, format!("`{index_name}` is no index: it has no `weight_map`"));
    };
    inspection.keys = map.keys().take(limits::KEYS).cloned().collect();
    inspection.parts.model = true;
    inspection.class = Class::of(inspection.parts);
    inspection.prefixes = crate::layout::wrapper_prefixes(&map.keys().map(String::as_str));
    let mut shards: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (tensor, shard) in &map {
        shards.entry(shard).or_default().insert(tensor);
    }
    let missing: Vec<&str> = shards.keys().filter(|shard| size_of(members, shard).is_none()).copied().collect();
    for shard in missing.iter().take(MISSING) {
        inspection.findings.push(Finding::error(Code::MissingShard, format!("`{shard}` is missing")));
    }
    if missing.len() > MISSING {
        let message = format!("{} shards are missing in all", missing.len());
        inspection.findings.push(Finding::error(Code::MissingShard, message));
    }
    for (shard, tensors) in shards {
        let Some(size) = size_of(members, shard) else { continue };
        inspection.bytes = inspection.bytes.saturating_add(size);
        let file = members.open(shard).map_err(read_error(shard))?;
        let inner = content(shard, &*file).map_err(read_error(shard))?;
        add_shard(&mut inspection, shard, &tensors, inner);
    }
    Ok(inspection)
}

fn size_of(members: &dyn Members, shard: &str) -> Option<u64> {
    members.list().get(shard).filter(|_| !shard.contains("..")).copied()
}

fn add_shard(inspection: &mut Inspection, shard: &str, tensors: &BTreeSet<&str>, inner: Inspection) {
    inspection.tensors.merge(&inner.tensors);
    inspection.safety.merge(inner.safety);
    let is_damaged = inner.findings.iter().any(|finding| finding.severity == Severity::Error);
    for finding in inner.findings {
        let code = if finding.severity == Severity::Error { Code::MissingShard } else { finding.code };
        inspection.findings.push(Finding {
            code,
            severity: finding.severity,
            message: format!("`{shard}`: {}", finding.message),
        });
    }
    if !is_damaged {
        let has: BTreeSet<&str> = inner.keys.iter().map(String::as_str).collect();
        let absent: Vec<&&str> = tensors.difference(&has).collect();
        if let Some(first) = absent.first() {
            let message = format!(
                "`{shard}` lacks `{first}` and {} more tensors that the index puts there",
                absent.len().saturating_sub(1)
            );
            inspection.findings.push(Finding::error(Code::MissingShard, message));
        }
    }
}
