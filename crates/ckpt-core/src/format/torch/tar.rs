//! The tar that `torch.save` wrote before 0.1.10: members `sys_info`, `pickle`, `tensors`, `storages`.
//!
//! The state is in `pickle`; its tensors are persistent ids that `tensors` explains.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::collections::BTreeMap;
use std::io;

use super::Opened;
use super::salvage::read_pickle;
use crate::finding::{Code, Finding};
use crate::format::Format;
use crate::read::{ReadAt, Window, read_up_to};

const BLOCK: u64 = 512;
/// Most headers looked at; PyTorch writes four, with extended headers eight.
const HEADERS: usize = 64;

/// Reads a tar.
///
/// # Errors
/// The source cannot be read.
pub fn open(source: &dyn ReadAt) -> io::Result<Opened<'_>> {
    let format = Format::TorchTar;
    let members = members(source)?;
    let Some(&(start, length)) = members.get("pickle") else {
        let message = "a tar archive without the members that old PyTorch writes: unpack it first";
        return Ok(Opened::unusable(format, Finding::error(Code::NotACheckpoint, message)));
    };
    let mut opened = match read_pickle(&Window::new(source, start, length), 0)? {
        Ok(pickle) => Opened { pickle: Some(pickle), ..Opened::new(format) },
        Err(broken) => Opened::broken(format, "pickle", broken),
    };
    for name in ["sys_info", "tensors", "storages"] {
        match members.get(name) {
            None => opened
                .findings
                .push(Finding::error(Code::Truncated, format!("the tar has no member `{name}`: it was cut off"))),
            Some((start, length)) => {
                let missing = start.saturating_add(*length).saturating_sub(source.size());
                if missing > 0 {
                    let message = format!("the tar was cut off: `{name}` lacks {missing} of {length} bytes");
                    opened.findings.push(Finding::error(Code::Truncated, message));
                }
                // Each starts with a pickle that a loader would run.
                match read_pickle(&Window::new(source, *start, *length), 0)? {
                    Ok(pickle) => opened.others.push(pickle),
                    Err(broken) => opened.keep(broken),
                }
            }
        }
    }
    Ok(opened)
}

/// The members by name: offset and length of their bytes.
fn members(source: &dyn ReadAt) -> io::Result<BTreeMap<String, (u64, u64)>> {
    let mut found = BTreeMap::new();
    let mut position = 0_u64;
    for _ in 0..HEADERS {
        let header = read_up_to(source, position, 512)?;
        let Some((name, length)) = parse_header(&header) else { break };
        let start = position.saturating_add(BLOCK);
        found.insert(name, (start, length));
        let Some(next) = length.checked_next_multiple_of(BLOCK).and_then(|length| start.checked_add(length)) else {
            break;
        };
        position = next;
    }
    Ok(found)
}

/// Whether a file that starts with these bytes is a tar to Python, whatever else it may be: the first block carries the
/// sum of its own bytes. `torch.load` tries this before anything but a zip.
#[must_use]
pub fn is_header(head: &[u8]) -> bool {
    let Some(block) = head.get(..512) else { return false };
    let told = block
        .get(148..156)
        .and_then(|field| std::str::from_utf8(field).ok())
        .and_then(|field| u64::from_str_radix(field.trim_matches(|char: char| char == '\0' || char == ' '), 8).ok());
    let in_field = |index: usize| (148..156).contains(&index);
    // The field itself counts as spaces. Old writers summed signed bytes.
    let sum = |value: fn(u8) -> i64| {
        block
            .iter()
            .enumerate()
            .map(|(index, byte)| if in_field(index) { 32 } else { value(*byte) })
            .fold(0_i64, i64::saturating_add)
    };
    let told = told.and_then(|told| i64::try_from(told).ok());
    let signed: fn(u8) -> i64 = |byte| i64::from(i8::from_le_bytes([byte]));
    told.is_some_and(|told| told == sum(i64::from) || told == sum(signed))
}

fn parse_header(header: &[u8]) -> Option<(String, u64)> {
    let name = header.get(..100)?.split(|byte| *byte == 0).next()?;
    let size = std::str::from_utf8(header.get(124..136)?).ok()?.trim_matches(|char: char| char == '\0' || char == ' ');
    if name.is_empty() {
        return None;
    }
    let name = String::from_utf8_lossy(name);
    Some((name.trim_start_matches("./").to_owned(), u64::from_str_radix(size, 8).ok()?))
}
