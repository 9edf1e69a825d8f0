//! Where the bytes behind storages are, for the few that hold a metric.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::collections::HashMap;
use std::io;

use super::tensor::TensorRef;
use crate::format::zip::{self, Archive, Method};
use crate::limits;
use crate::members::Members;
use crate::read::{ReadAt, read_up_to};

/// The storages of one container.
pub enum Storages<'a> {
    /// Members of a zip archive.
    Archive {
        /// The archive's bytes.
        source: &'a dyn ReadAt,
        /// Its directory.
        archive: Archive,
        /// The folder inside it that holds `data.pkl`.
        root: String,
    },
    /// Files of an unpacked archive.
    Directory {
        /// The files.
        members: &'a dyn Members,
        /// What stands before `data/N` in their names.
        prefix: String,
    },
    /// Ranges of a file: key → (offset, bytes).
    Ranges {
        /// The file.
        source: &'a dyn ReadAt,
        /// Its storages.
        ranges: HashMap<String, (u64, u64)>,
    },
    /// None that could be read.
    Nowhere,
}

/// What reading one element gave.
#[derive(Clone, Debug, PartialEq)]
pub enum Element {
    /// Its value.
    Number(f64),
    /// Its storage's checksum does not match.
    CrcMismatch,
    /// It is not there, or no number.
    Absent,
}

impl Storages<'_> {
    /// The one element of a tensor of one element.
    ///
    /// The whole storage is read and its checksum compared where it is small; a large storage of which the tensor
    /// is a view is read for that element alone.
    ///
    /// # Errors
    /// The source cannot be read.
    pub fn element(&self, tensor: &TensorRef) -> io::Result<Element> {
        let (Some(storage), Some(width)) = (&tensor.storage, tensor.dtype.bytes(1)) else { return Ok(Element::Absent) };
        let Some(start) = tensor.offset.checked_mul(width) else { return Ok(Element::Absent) };
        let bytes = match self {
            Self::Nowhere => Vec::new(),
            Self::Ranges { source, ranges } => match ranges.get(&storage.key) {
                Some((offset, length)) if start.saturating_add(width) <= *length => {
                    read_up_to(*source, offset.saturating_add(start), usize::try_from(width).unwrap_or(0))?
                }
                _ => Vec::new(),
            },
            Self::Directory { members, prefix } => {
                let name = format!("{prefix}data/{}", storage.key);
                if members.list().contains_key(&name) {
                    read_up_to(&*members.open(&name)?, start, usize::try_from(width).unwrap_or(0))?
                } else {
                    Vec::new()
                }
            }
            Self::Archive { source, archive, root } => {
                let Some(entry) = archive.get(&format!("{root}/data/{}", storage.key)) else {
                    return Ok(Element::Absent);
                };
                if entry.size <= limits::SCALAR_MEMBER_BYTES {
                    let zip::Member::Whole { bytes, crc } = zip::member(*source, entry, limits::SCALAR_MEMBER_BYTES)?
                    else {
                        return Ok(Element::Absent);
                    };
                    if !entry.accepts(crc) {
                        return Ok(Element::CrcMismatch);
                    }
                    slice(&bytes, start, width).to_vec()
                } else if entry.method == Method::Stored {
                    match zip::local_header(*source, entry.header_offset)? {
                        Some(header) => read_up_to(
                            *source,
                            header.data_offset.saturating_add(start),
                            usize::try_from(width).unwrap_or(0),
                        )?,
                        None => Vec::new(),
                    }
                } else {
                    Vec::new()
                }
            }
        };
        Ok(tensor.dtype.number(&bytes).map_or(Element::Absent, Element::Number))
    }
}

fn slice(bytes: &[u8], start: u64, length: u64) -> &[u8] {
    let start = usize::try_from(start).unwrap_or(usize::MAX);
    let end = start.saturating_add(usize::try_from(length).unwrap_or(usize::MAX));
    bytes.get(start..end).unwrap_or_default()
}
