//! What is left of a `torch.save` archive that was cut off.
//!
//! The directory of a zip stands at its end and is lost with it, but `data.pkl` is the first member and starts at
//! byte 64, so the pickle normally survives: epoch, metrics and the table of tensors can be told, and by walking the
//! members' local headers also how many tensors are complete. The file is never valid.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::collections::HashMap;
use std::io;

use super::storages::Storages;
use super::tensor::{self, StorageRef, Tensors};
use super::{Opened, Salvage};
use crate::finding::{Code, Finding};
use crate::format::Format;
use crate::format::pickle::{self, Broken, Pickle, PickleProblem};
use crate::format::zip::{self, LocalHeader};
use crate::limits;
use crate::read::{ReadAt, read_up_to};

const DESCRIPTOR: [u8; 4] = *b"PK\x07\x08";
const DEFAULT_ALIGNMENT: u64 = 64;
/// The members after the last storage.
const LAST: [(&str, u64); 2] = [("version", 2), (".data/serialization_id", 40)];

/// Reads the pickle at `offset`, whose length is not announced: in windows that double until it fits.
///
/// # Errors
/// The source cannot be read.
pub(crate) fn read_pickle(source: &dyn ReadAt, offset: u64) -> io::Result<Result<Pickle, Broken>> {
    let mut window = limits::STREAM_WINDOW;
    loop {
        let bytes = read_up_to(source, offset, window)?;
        let is_all = bytes.len() < window || window as u64 >= limits::PICKLE_BYTES;
        match pickle::read_keeping(bytes) {
            Err(broken) if broken.error.problem == PickleProblem::Truncated && !is_all => {
                window = window.saturating_mul(2);
            }
            result => return Ok(result),
        }
    }
}

/// Reads an archive whose directory is lost or, as `problem` says, wrong.
///
/// # Errors
/// The source cannot be read.
pub fn open(source: &dyn ReadAt, problem: Option<Finding>) -> io::Result<Opened<'_>> {
    let format = Format::TorchZip;
    let damage = match problem {
        Some(problem) => problem,
        None => damage(source)?,
    };
    let Some(main) = find_main(source)? else {
        return Ok(Opened::unusable(format, damage));
    };
    let pickle = match read_pickle(source, main.data_offset)? {
        Ok(pickle) => pickle,
        Err(broken) => {
            let mut opened = Opened::broken(format, "data.pkl", broken);
            opened.findings.insert(0, damage);
            return Ok(opened);
        }
    };
    let tensors = tensor::collect(&pickle);
    let after = main.data_offset.saturating_add(pickle.length() as u64);
    let walk = walk(source, root_of(&main), after, &tensors)?;
    let complete = |storage: &StorageRef| {
        walk.ranges.get(&storage.key).is_some_and(|(offset, length)| offset.saturating_add(*length) <= source.size())
    };
    let tensors_complete =
        tensors.tensors.iter().filter(|(_, tensor)| tensor.storage.as_ref().is_none_or(complete)).count() as u64;
    let tensors_total = tensors.tensors.len() as u64;
    let expected = full_size(&main, pickle.length() as u64, &tensors, walk.preamble(alignment(&main)));
    let mut finding = damage;
    // Where the right size is known, zeros before an early end are a tensor's.
    if finding.code == Code::ZeroFilled && expected.is_some_and(|expected| source.size() < expected) {
        finding = cut_off(source.size());
    }
    finding.message = format!(
        "{}; it should have {} bytes and has {}, {tensors_complete} of its {tensors_total} tensors are complete",
        finding.message,
        expected.map_or_else(|| "more".to_owned(), |bytes| bytes.to_string()),
        source.size()
    );
    Ok(Opened {
        pickle: Some(pickle),
        storages: Storages::Ranges { source, ranges: walk.ranges },
        findings: vec![finding],
        salvage: Some(Salvage {
            expected_bytes: expected,
            actual_bytes: source.size(),
            tensors_complete,
            tensors_total,
        }),
        ..Opened::new(format)
    })
}

/// Whether the end is missing or was never written.
fn damage(source: &dyn ReadAt) -> io::Result<Finding> {
    let size = source.size();
    let tail_start = size.saturating_sub(512);
    let tail = read_up_to(source, tail_start, 512)?;
    let zeros = tail.iter().rev().take_while(|byte| **byte == 0).count();
    // An end record's last field is a comment length of zero: two zeros are ordinary.
    Ok(if zeros >= 64 {
        Finding::error(
            Code::ZeroFilled,
            format!("its end was never written: the last {zeros} bytes and maybe more are zeros"),
        )
    } else {
        cut_off(size)
    })
}

fn cut_off(size: u64) -> Finding {
    Finding::error(Code::Truncated, format!("it was cut off after {size} bytes: the archive's end is missing"))
}

/// The local header of `data.pkl`: the first member in everything since 1.6, an early one before.
fn find_main(source: &dyn ReadAt) -> io::Result<Option<LocalHeader>> {
    let head = read_up_to(source, 0, limits::STREAM_WINDOW)?;
    for (position, window) in head.windows(4).enumerate() {
        if window == zip::LOCAL_HEADER
            && let Some(header) = zip::local_header(source, position as u64)?
            && header.name.ends_with("/data.pkl")
            && header.method == 0
        {
            return Ok(Some(header));
        }
    }
    Ok(None)
}

fn root_of(main: &LocalHeader) -> &str {
    main.name.strip_suffix("/data.pkl").unwrap_or_default()
}

/// The alignment of the members' bytes: the smallest one that puts the first member's where they are.
fn alignment(main: &LocalHeader) -> u64 {
    let unpadded = (main.name.len() as u64).saturating_add(34);
    match unpadded.checked_next_multiple_of(DEFAULT_ALIGNMENT) {
        Some(aligned) if aligned != main.data_offset && main.data_offset > 0 => main.data_offset,
        _ => DEFAULT_ALIGNMENT,
    }
}

struct Walk {
    /// Key → (offset, bytes) of every storage whose header is there.
    ranges: HashMap<String, (u64, u64)>,
    /// Name and size of the members between `data.pkl` and the first storage.
    seen: Vec<(String, u64)>,
}

impl Walk {
    /// The members between `data.pkl` and the first storage, also those that are cut off.
    fn preamble(&self, alignment: u64) -> Vec<(String, u64)> {
        let newest = [
            (".format_version".to_owned(), 1),
            (".storage_alignment".to_owned(), alignment.to_string().len() as u64),
            ("byteorder".to_owned(), 6),
        ];
        // Seen to its end, or written by a PyTorch that writes something else there.
        if self.ranges.is_empty() && newest.starts_with(&self.seen) { newest.to_vec() } else { self.seen.clone() }
    }
}

/// Follows the local headers. Storages' sizes are known from the pickle; other members are short and end with a
/// descriptor.
fn walk(source: &dyn ReadAt, root: &str, start: u64, tensors: &Tensors) -> io::Result<Walk> {
    let mut found = Walk { ranges: HashMap::new(), seen: Vec::new() };
    let Some(mut position) = skip_descriptor(source, start)? else { return Ok(found) };
    let most = tensors.storages.len().saturating_add(64);
    for _ in 0..most {
        let Some(header) = zip::local_header(source, position)? else { break };
        let name = header.name.strip_prefix(root).and_then(|rest| rest.strip_prefix('/')).unwrap_or(&header.name);
        let known = name.strip_prefix("data/").and_then(|key| tensors.storages.get(key));
        let length = match known.and_then(StorageRef::bytes) {
            Some(length) => {
                found.ranges.insert(name.trim_start_matches("data/").to_owned(), (header.data_offset, length));
                Some(length)
            }
            None => short_member(source, header.data_offset)?,
        };
        let Some(length) = length else { break };
        if known.is_none() && found.ranges.is_empty() && !LAST.iter().any(|(last, _)| *last == name) {
            found.seen.push((name.to_owned(), length));
        }
        let end = header.data_offset.saturating_add(length);
        match skip_descriptor(source, end)? {
            Some(next) => position = next,
            // An empty member has no descriptor.
            None if length == 0 => position = end,
            None => break,
        }
    }
    Ok(found)
}

/// The offset after the descriptor at `offset`: 16 bytes, 24 in zip64.
fn skip_descriptor(source: &dyn ReadAt, offset: u64) -> io::Result<Option<u64>> {
    let bytes = read_up_to(source, offset, 28)?;
    if bytes.get(..4) != Some(&DESCRIPTOR) {
        return Ok(None);
    }
    let is_long = bytes.get(16..18) != Some(b"PK") && bytes.get(24..26) == Some(b"PK");
    Ok(offset.checked_add(if is_long { 24 } else { 16 }))
}

/// The length of a member that is followed by a descriptor within a few hundred bytes.
fn short_member(source: &dyn ReadAt, offset: u64) -> io::Result<Option<u64>> {
    let bytes = read_up_to(source, offset, 4_096)?;
    Ok(bytes.windows(4).position(|window| window == DESCRIPTOR).map(|length| length as u64))
}

/// The size of the whole file, by the layout that PyTorch's writer follows.
///
/// Each member: a header of 30 bytes, its name, a padding field of at least 4 bytes that aligns its data, the data, a
/// descriptor unless it is empty. Then a directory entry of 46 bytes and the name for each, and 98 bytes of end records.
fn full_size(main: &LocalHeader, pickle: u64, tensors: &Tensors, preamble: Vec<(String, u64)>) -> Option<u64> {
    let (root, alignment) = (root_of(main), alignment(main));
    let mut storages: Vec<&StorageRef> = tensors.storages.values().collect();
    storages.sort_by_key(|storage| storage.key.parse::<u64>().unwrap_or(u64::MAX));
    let mut members = vec![("data.pkl".to_owned(), pickle)];
    members.extend(preamble);
    for storage in storages {
        members.push((format!("data/{}", storage.key), storage.bytes()?));
    }
    members.extend(LAST.map(|(name, size)| (name.to_owned(), size)));
    let (mut position, mut directory) = (0_u64, 0_u64);
    for (name, size) in members {
        let wide = |value: u64| value >= u64::from(u32::MAX);
        let name_length = (root.len() as u64).checked_add(1)?.checked_add(name.len() as u64)?;
        let size_fields = if wide(size) { 16 } else { 0_u64 };
        let offset_field = if wide(position) { 8 } else { 0_u64 };
        let extra = match size_fields.checked_add(offset_field)? {
            0 => 0,
            fields => fields.checked_add(4)?,
        };
        let start = position.checked_add(30)?.checked_add(name_length)?.checked_add(extra)?.checked_add(4)?;
        let aligned = start.checked_next_multiple_of(alignment)?;
        let descriptor = match (size, extra) {
            (0, _) => 0,
            (_, 0) => 16,
            _ => 24,
        };
        position = aligned.checked_add(size)?.checked_add(descriptor)?;
        directory = directory.checked_add(46)?.checked_add(name_length)?.checked_add(extra)?;
    }
    position.checked_add(directory)?.checked_add(98)
}
