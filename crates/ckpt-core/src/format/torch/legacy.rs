//! The stream of pickles that `torch.save` wrote before 1.6, and still writes when asked to, and bare pickles.
//!
//! A stream is: a magic number, a protocol number, facts about the machine, the state, the list of storage keys — five
//! pickles — and then for each key a 64-bit element count and the elements. There are no checksums.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::collections::{HashMap, HashSet};
use std::io;

use super::archive;
use super::salvage::read_pickle;
use super::storages::Storages;
use super::tensor::{self, StorageRef};
use super::{Opened, Salvage, tar};
use crate::finding::{Code, Finding, Severity};
use crate::format::Format;
use crate::format::pickle::{Node, NodeId, Object, Pickle, Value};
use crate::format::zip;
use crate::read::ReadAt;

/// The opcode `LONG1` with PyTorch's magic number 0x1950a86a20f9469cfc6c.
const MAGIC: [u8; 12] = [0x8a, 0x0a, 0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19];

/// Magic number, protocol number, system facts, state, storage keys.
const STREAM_PICKLES: usize = 5;
/// The function that PyTorch's tensors put around a stream inside a pickle.
pub const LOADER: (&str, &str) = ("torch.storage", "_load_from_bytes");

/// Whether the first bytes of a file are those of a stream.
#[must_use]
pub fn is_stream(head: &[u8]) -> bool {
    head.first() == Some(&0x80)
        && head.get(..32.min(head.len())).is_some_and(|head| head.windows(MAGIC.len()).any(|window| window == MAGIC))
}

/// Reads a stream.
///
/// # Errors
/// The source cannot be read.
pub fn open(source: &dyn ReadAt) -> io::Result<Opened<'_>> {
    let format = Format::TorchLegacy;
    let mut offset = 0_u64;
    let mut others = Vec::new();
    for name in ["magic number", "protocol number", "system facts"] {
        match read_pickle(source, offset)? {
            Ok(pickle) => {
                offset = offset.saturating_add(pickle.length() as u64);
                others.push(pickle);
            }
            Err(broken) => return Ok(with(others, Opened::broken(format, name, broken))),
        }
    }
    let state = match read_pickle(source, offset)? {
        Ok(pickle) => pickle,
        Err(broken) => return Ok(with(others, Opened::broken(format, "state", broken))),
    };
    offset = offset.saturating_add(state.length() as u64);
    let keys = match read_pickle(source, offset)? {
        Ok(pickle) => {
            offset = offset.saturating_add(pickle.length() as u64);
            Ok(pickle)
        }
        Err(broken) => Err(broken),
    };
    let mut opened = place(source, state, keys.as_ref().ok(), offset);
    match keys {
        Ok(keys) => others.push(keys),
        Err(broken) => opened.keep(broken),
    }
    Ok(with(others, opened))
}

/// Adds what was read before.
fn with(others: Vec<Pickle>, mut opened: Opened<'_>) -> Opened<'_> {
    opened.others.extend(others);
    opened
}

/// Lays the storages out after the keys, in the keys' order.
fn place<'a>(source: &'a dyn ReadAt, state: Pickle, keys: Option<&Pickle>, start: u64) -> Opened<'a> {
    let tensors = tensor::collect(&state);
    let order: Option<Vec<&StorageRef>> = keys.and_then(|keys| {
        keys.sequence(keys.root())?.iter().map(|key| tensors.storages.get(&*keys.key(*key)?)).collect()
    });
    let is_known = order.is_some();
    let order = order.unwrap_or_else(|| tensors.storages.values().collect());
    let mut ranges = HashMap::new();
    let mut expected = Some(start);
    for storage in order {
        let placed = expected.and_then(|start| Some((start.checked_add(8)?, storage.bytes()?)));
        expected = placed.and_then(|(start, length)| start.checked_add(length));
        if let (Some(range), true) = (placed, is_known) {
            ranges.insert(storage.key.clone(), range);
        }
    }
    let size = source.size();
    let is_whole = is_known && expected.is_some_and(|end| end <= size);
    let mut opened = Opened::new(Format::TorchLegacy);
    if keys.is_some() && !is_known {
        let message = "its list of storages names others than its tensors do";
        opened.findings.push(Finding::error(Code::NotACheckpoint, message));
    } else if !is_whole {
        let complete = |storage: &StorageRef| {
            ranges.get(&storage.key).is_some_and(|(start, length)| start.saturating_add(*length) <= size)
        };
        let tensors_complete =
            tensors.tensors.iter().filter(|(_, tensor)| tensor.storage.as_ref().is_none_or(complete)).count() as u64;
        let tensors_total = tensors.tensors.len() as u64;
        let message = format!(
            "it was cut off: it should have {} bytes and has {size}, {tensors_complete} of its {tensors_total} tensors are complete",
            expected.map_or_else(|| "more".to_owned(), |bytes| bytes.to_string())
        );
        opened.findings.push(Finding::error(Code::Truncated, message));
        opened.salvage =
            Some(Salvage { expected_bytes: expected, actual_bytes: size, tensors_complete, tensors_total });
    } else if let Some(more) = expected.and_then(|end| size.checked_sub(end)).filter(|more| *more > 0) {
        opened.findings.push(Finding::warning(
            Code::OutOfBounds,
            format!("{more} bytes follow the last tensor; torch.load ignores them"),
        ));
    }
    if tensors.storages.values().any(|storage| storage.dtype.is_none()) {
        let message = "it holds a storage without an element type, which torch.save writes into this older container \
            and torch.load cannot read back";
        opened.findings.push(Finding::error(Code::Unsupported, message));
    }
    opened.pickle = Some(state);
    opened.storages = Storages::Ranges { source, ranges };
    opened
}

/// Reads a bare pickle: `pickle.dump` of anything.
///
/// # Errors
/// The source cannot be read.
pub fn open_pickle(source: &dyn ReadAt) -> io::Result<Opened<'_>> {
    let pickle = match read_pickle(source, 0)? {
        Ok(pickle) => pickle,
        Err(broken) => return Ok(Opened::broken(Format::Pickle, "pickle", broken)),
    };
    // The magic number may be written in other ways than PyTorch writes it; a loader compares the number.
    if matches!(pickle.node(pickle.root()), Some(Node::BigInt(_))) {
        return open(source);
    }
    Ok(Opened { pickle: Some(pickle), ..Opened::new(Format::Pickle) })
}

/// The pickles inside a pickle.
#[derive(Debug, Default)]
pub struct Nested {
    /// Those that a loader would run.
    pub pickles: Vec<Pickle>,
    /// Whether a loader would run more than these: bytes that are no whole stream or archive, or are not known before
    /// loading, or a loader that is handed on instead of called.
    pub has_unread: bool,
}

/// The pickles inside a pickle: PyTorch's tensors put a whole stream into `torch.storage._load_from_bytes(b"…")`.
#[must_use]
pub fn nested(pickle: &Pickle) -> Nested {
    let loaders: HashSet<NodeId> =
        pickle.nodes().filter(|(_, node)| is_loader(pickle, node)).map(|(id, _)| id).collect();
    let mut found = Nested::default();
    if loaders.is_empty() {
        return found;
    }
    let mut read = HashSet::new();
    let is_handed_on = |value: &Value| matches!(value, Value::Node(id) if loaders.contains(id));
    for (_, node) in pickle.nodes() {
        found.has_unread |= match node {
            Node::Dict(items) => items.iter().any(|(key, value)| is_handed_on(key) || is_handed_on(value)),
            Node::Object(object) => {
                let is_call = is_handed_on(&object.callable());
                if is_call {
                    let argument = pickle.arguments(object).first().and_then(|bytes| pickle.bytes_span(*bytes));
                    // The same bytes are read once, however often they are loaded.
                    let is_new = argument.is_none_or(|span| read.insert(span));
                    found.has_unread |= is_new && !read_nested(pickle, object, &mut found.pickles);
                }
                let contents = pickle.contents(object);
                let values = contents.items.iter().flat_map(|(key, value)| [key, value]).chain(&contents.elements);
                is_handed_on(&object.arguments())
                    || is_handed_on(&contents.state)
                    || values.into_iter().any(is_handed_on)
            }
            node => pickle.elements(node).is_some_and(|elements| elements.iter().any(is_handed_on)),
        };
    }
    found
}

fn is_loader(pickle: &Pickle, node: &Node) -> bool {
    let Node::Global(global) = node else { return false };
    (pickle.span(global.module), pickle.span(global.name)) == (LOADER.0.as_bytes(), LOADER.1.as_bytes())
}

/// Reads what one call would load; false when a part of it could not be read.
fn read_nested(pickle: &Pickle, call: &Object, found: &mut Vec<Pickle>) -> bool {
    let Some(arguments @ Node::Tuple(_)) = pickle.node(call.arguments()) else { return false };
    let Some(bytes) = pickle.elements(arguments).and_then(<[Value]>::first).and_then(|bytes| pickle.bytes(*bytes))
    else {
        return false;
    };
    let mut rest: &[u8] = &bytes;
    if rest.starts_with(&zip::LOCAL_HEADER) {
        let Ok(opened) = archive::open(&rest) else { return false };
        let is_read = opened.pickle.is_some()
            && opened.risks.is_empty()
            && opened.findings.iter().all(|found| found.severity < Severity::Error);
        found.extend(opened.pickle);
        return is_read;
    }
    if tar::is_header(rest) || !is_stream(rest) {
        return false;
    }
    for _ in 0..STREAM_PICKLES {
        let Ok(Ok(inner)) = read_pickle(&rest, 0) else { return false };
        rest = rest.get(inner.length()..).unwrap_or_default();
        found.push(inner);
    }
    true
}
