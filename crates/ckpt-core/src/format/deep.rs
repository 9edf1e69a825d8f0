//! Reading every byte of a checkpoint: checksums of all members, NaN and infinities in all tensors, in bounded memory.
//!
//! What reading the metadata alone shows is not repeated here; a file that is damaged in that way has no deep findings
//! beyond those of the parts that are still there.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::collections::{BTreeMap, HashMap};
use std::io;

use super::elements::{Counter, Part};
use super::pickle::{Pickle, Value};
use super::sniff::{self, Sniffed};
use super::torch::storages::Storages;
use super::torch::tensor::{self, Tensors};
use super::torch::{Opened, archive, legacy};
use super::zip::{self, Archive};
use super::{Format, dcp, members, safetensors};
use crate::digest::Digest;
use crate::finding::{Code, Finding, Severity};
use crate::inspect::{DirectoryKind, Read, read_manifest};
use crate::limits;
use crate::manifest::Manifest;
use crate::members::Members;
use crate::name::is_index;
use crate::read::{ReadAt, Window, read_up_to, stream};

/// Most findings kept; what is beyond is counted.
const FINDINGS: usize = 16;
/// Deepest mapping in which the name of a tensor is looked for, and most values visited on the way.
const PATH_DEPTH: usize = 4;
const PATH_VALUES: usize = 1 << 20;

/// Findings, the worst first, bounded.
#[derive(Default)]
struct Report {
    errors: Vec<Finding>,
    warnings: Vec<Finding>,
    more: u64,
}

impl Report {
    fn push(&mut self, finding: Finding) {
        let list = if finding.severity == Severity::Error { &mut self.errors } else { &mut self.warnings };
        if list.len() < FINDINGS {
            list.push(finding);
        } else {
            self.more = self.more.saturating_add(1);
        }
    }

    /// Adds what another file of the same checkpoint shows.
    fn absorb(&mut self, name: &str, other: Self) {
        for finding in other.errors.into_iter().chain(other.warnings) {
            self.push(Finding { message: format!("`{name}`: {}", finding.message), ..finding });
        }
        self.more = self.more.saturating_add(other.more);
    }

    fn finish(self) -> Vec<Finding> {
        let mut findings = self.errors;
        findings.extend(self.warnings);
        let cut = findings.len().saturating_sub(FINDINGS);
        findings.truncate(FINDINGS);
        let more = self.more.saturating_add(cut as u64);
        if let Some(last) = findings.last_mut().filter(|_| more > 0) {
            last.message = format!("{}; {more} more of this kind or milder", last.message);
        }
        findings
    }

    fn non_finite(&mut self, name: &str, part: &Part, count: u64) {
        if count > 0 {
            let message = format!("`{name}` holds {count} of {} elements that are NaN or infinite", part.elements());
            self.push(Finding::warning(Code::NonFinite, message));
        }
    }
}

/// Reads every byte of a file.
///
/// # Errors
/// The source cannot be read.
pub fn file(name: &str, source: &dyn ReadAt) -> io::Result<Vec<Finding>> {
    let mut report = Report::default();
    content(name, source, &mut report)?;
    Ok(report.finish())
}

/// Reads every byte of a checkpoint that is a directory.
///
/// # Errors
/// A file cannot be read.
pub fn directory(kind: DirectoryKind, members: &dyn Members) -> io::Result<Vec<Finding>> {
    let mut report = Report::default();
    match kind {
        DirectoryKind::Unpacked => unpacked(members, &mut report)?,
        DirectoryKind::Ckpt => match read_manifest("", members).map_err(io::Error::other)? {
            Read::Other(Some(other)) => return directory(other, members),
            other => {
                if let Read::Ours(Ok(manifest)) = other {
                    digests(&manifest, members, &mut report)?;
                }
                if members.list().contains_key(".metadata") {
                    distributed(members, &mut report)?;
                }
                each(members.list().keys().filter(|name| !is_index(name)), members, &mut report)?;
            }
        },
        DirectoryKind::Dcp => distributed(members, &mut report)?,
        DirectoryKind::HfTrainer | DirectoryKind::Accelerate | DirectoryKind::Orbax | DirectoryKind::Tensorflow => {
            let names = members.list().keys().filter(|name| !is_index(name));
            each(names, members, &mut report)?;
        }
    }
    Ok(report.finish())
}

/// Reads every byte of the shards behind an index.
///
/// # Errors
/// A file cannot be read.
pub fn index(index_name: &str, members: &dyn Members) -> io::Result<Vec<Finding>> {
    let mut report = Report::default();
    let size = members.list().get(index_name).copied().unwrap_or(0).min(limits::JSON_BYTES);
    let document = read_up_to(&*members.open(index_name)?, 0, usize::try_from(size).unwrap_or(usize::MAX))?;
    let shards = crate::inspect::index_shards(&document);
    each(shards.iter(), members, &mut report)?;
    Ok(report.finish())
}

fn each<'a>(names: impl Iterator<Item = &'a String>, members: &dyn Members, report: &mut Report) -> io::Result<()> {
    for name in names.filter(|name| members.list().contains_key(*name)) {
        let mut inner = Report::default();
        content(name, &*members.open(name)?, &mut inner)?;
        report.absorb(name, inner);
    }
    Ok(())
}

fn content(name: &str, source: &dyn ReadAt, report: &mut Report) -> io::Result<()> {
    let head = read_up_to(source, 0, sniff::HEAD_BYTES)?;
    match sniff::sniff(name, &head, source.size()) {
        Sniffed::Zip => archive(source, report),
        Sniffed::Known(Format::TorchLegacy) => opened(&legacy::open(source)?, report),
        Sniffed::Known(Format::Safetensors) => tensors_of_safetensors(source, report),
        _ => Ok(()),
    }
}

fn tensors_of_safetensors(source: &dyn ReadAt, report: &mut Report) -> io::Result<()> {
    let header = safetensors::read(source)?;
    for (name, tensor) in header.tensors.iter().filter(|(_, tensor)| tensor.dtype.is_float()) {
        let part = Part { dtype: tensor.dtype.clone(), start: 0, end: tensor.end.saturating_sub(tensor.start) };
        let mut counter = Counter::new(&part);
        stream(source, header.data_offset.saturating_add(tensor.start), part.end, |bytes| counter.feed(bytes))?;
        report.non_finite(name, &part, counter.count());
    }
    Ok(())
}

/// The storages of a container whose checksums, if any, are not looked at.
fn opened(opened: &Opened<'_>, report: &mut Report) -> io::Result<()> {
    let Some(pickle) = &opened.pickle else { return Ok(()) };
    let mut found = BTreeMap::new();
    for (key, part) in parts(&tensor::collect(pickle)) {
        let mut counter = Counter::new(&part);
        match &opened.storages {
            Storages::Ranges { source, ranges } => {
                let Some((offset, length)) = ranges.get(&key) else { continue };
                stream(*source, *offset, *length, |bytes| counter.feed(bytes))?;
            }
            Storages::Directory { members, prefix } => {
                let name = format!("{prefix}data/{key}");
                let Some(length) = members.list().get(&name) else { continue };
                stream(&*members.open(&name)?, 0, *length, |bytes| counter.feed(bytes))?;
            }
            Storages::Archive { .. } | Storages::Nowhere => return Ok(()),
        }
        let count = counter.count();
        if count > 0 {
            found.insert(key, (part, count));
        }
    }
    name_and_report(pickle, found, report);
    Ok(())
}

/// What of each storage the tensors use, where its elements can be NaN.
fn parts(tensors: &Tensors) -> BTreeMap<String, Part> {
    let mut parts: BTreeMap<String, Part> = BTreeMap::new();
    for (_, tensor) in &tensors.tensors {
        let Some(storage) = &tensor.storage else { continue };
        let dtype = storage.dtype.as_ref().unwrap_or(&tensor.dtype);
        let Some((start, end)) = tensor.bytes_in_storage().filter(|_| dtype.is_float()) else { continue };
        parts
            .entry(storage.key.clone())
            .and_modify(|part| (part.start, part.end) = (part.start.min(start), part.end.max(end)))
            .or_insert_with(|| Part { dtype: dtype.clone(), start, end });
    }
    parts
}

/// Reports storages under the names of the tensors on them.
fn name_and_report(pickle: &Pickle, found: BTreeMap<String, (Part, u64)>, report: &mut Report) {
    let names = if found.is_empty() { HashMap::new() } else { names(pickle) };
    for (key, (part, count)) in found {
        let name = names.get(&key).cloned().unwrap_or_else(|| format!("data/{key}"));
        report.non_finite(&name, &part, count);
    }
}

/// Storage key → path of the first tensor on it, among the upper mappings.
fn names(pickle: &Pickle) -> HashMap<String, String> {
    let mut names = HashMap::new();
    let mut pending = vec![(String::new(), pickle.root(), 0_usize)];
    let mut visited = 0_usize;
    while let Some((path, value, depth)) = pending.pop() {
        visited = visited.saturating_add(1);
        if visited > PATH_VALUES {
            break;
        }
        if let Some(tensor) = tensor::tensor(pickle, value) {
            if let Some(storage) = tensor.storage {
                names.entry(storage.key).or_insert(path);
            }
            continue;
        }
        if depth >= PATH_DEPTH || !matches!(value, Value::Node(_)) {
            continue;
        }
        let Some(fields) = pickle.fields(value) else { continue };
        let left = PATH_VALUES.saturating_sub(pending.len());
        // Reversed: the first field is taken from the stack first.
        for (key, value) in fields.iter().take(left).rev() {
            let Some(key) = pickle.key(*key) else { continue };
            let path = if path.is_empty() { key.into_owned() } else { format!("{path}.{key}") };
            pending.push((path, *value, depth.saturating_add(1)));
        }
    }
    names
}

/// Every member of a zip archive.
fn archive(source: &dyn ReadAt, report: &mut Report) -> io::Result<()> {
    let Ok(directory) = zip::open(source)? else { return Ok(()) };
    let total = directory.entries.iter().fold(0_u64, |total, entry| total.saturating_add(entry.compressed));
    if total > source.size() {
        // Reading them all could take as long as their author likes.
        let message = format!("the archive's members take {total} bytes, the file has {}", source.size());
        report.push(Finding::error(Code::OutOfBounds, message));
        return Ok(());
    }
    let (root, pickle) = state(source, &directory)?;
    let parts = pickle.as_ref().map(|pickle| parts(&tensor::collect(pickle))).unwrap_or_default();
    let mut found = BTreeMap::new();
    for entry in &directory.entries {
        let key = entry.name.strip_prefix(&root).and_then(|rest| rest.strip_prefix("/data/"));
        let part = key.and_then(|key| parts.get_key_value(key));
        let mut counter = part.map(|(_, part)| Counter::new(part));
        if let Some(finding) = members::checked(source, entry, |bytes| {
            if let Some(counter) = &mut counter {
                counter.feed(bytes);
            }
        })? {
            report.push(finding);
        }
        if let (Some((key, part)), Some(counter)) = (part, counter)
            && counter.count() > 0
        {
            found.insert(key.clone(), (part.clone(), counter.count()));
        }
    }
    if let Some(pickle) = &pickle {
        name_and_report(pickle, found, report);
    }
    Ok(())
}

/// The archive's root and its `data.pkl`, where there is one.
fn state(source: &dyn ReadAt, directory: &Archive) -> io::Result<(String, Option<Pickle>)> {
    let root = archive::root_of(directory).unwrap_or_default().to_owned();
    if directory.get(&format!("{root}/data.pkl")).is_none() {
        return Ok((root, None));
    }
    Ok((root, archive::open(source)?.pickle))
}

/// Every file that the manifest names, compared with the digest that it gives. One that is not there or of another size
/// is reported without reading it.
fn digests(manifest: &Manifest, members: &dyn Members, report: &mut Report) -> io::Result<()> {
    for (name, file) in &manifest.files {
        if members.list().get(name) != Some(&file.bytes) {
            continue;
        }
        let mut hasher = blake3::Hasher::new();
        stream(&*members.open(name)?, 0, file.bytes, |bytes| {
            hasher.update(bytes);
        })?;
        let digest = Digest::from(hasher.finalize());
        if digest != file.blake3 {
            let message = format!("`{name}` has the BLAKE3 digest {digest}, the manifest says {}", file.blake3);
            report.push(Finding::error(Code::CrcMismatch, message));
        }
    }
    Ok(())
}

fn unpacked(members: &dyn Members, report: &mut Report) -> io::Result<()> {
    match archive::directory_prefix(members) {
        Some(prefix) => opened(&archive::open_directory(members, prefix)?, report),
        None => Ok(()),
    }
}

/// Every item of a distributed checkpoint: each is a small archive inside a file.
fn distributed(members: &dyn Members, report: &mut Report) -> io::Result<()> {
    let metadata = dcp::read(members)?;
    let mut by_file: BTreeMap<&str, Vec<(&str, &dcp::Place)>> = BTreeMap::new();
    for (name, place) in &metadata.places {
        by_file.entry(&place.file).or_default().push((name, place));
    }
    for (file_name, mut items) in by_file {
        if !members.list().contains_key(file_name) {
            continue;
        }
        let file = members.open(file_name)?;
        items.sort_by_key(|(_, place)| place.offset);
        let mut reached = 0;
        for (name, place) in items {
            // Items that overlap could make one byte be read any number of times.
            if place.offset < reached {
                let message = format!("`{name}` in `{file_name}` overlaps the item before it");
                report.push(Finding::error(Code::OutOfBounds, message));
                continue;
            }
            reached = place.offset.saturating_add(place.length);
            let mut inner = Report::default();
            archive(&Window::new(&*file, place.offset, place.length), &mut inner)?;
            report.absorb(name, inner);
        }
    }
    Ok(())
}
