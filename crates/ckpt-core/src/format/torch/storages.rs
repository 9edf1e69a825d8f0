//! Where the bytes behind storages are, for the few that hold a metric.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::collections::HashMap;
use std::io;

use super::tensor::TensorRef;
use crate::finding::{Code, Finding};
use crate::format::members;
use crate::format::zip::{self, Archive, Method};
use crate::limits;
use crate::members::Members;
use crate::read::{ReadAt, Window, read_up_to, stream};

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
    /// The bytes of a storage, unpacked; `None` when it is not there.
    #[must_use]
    pub fn size(&self, key: &str) -> Option<u64> {
        match self {
            Self::Nowhere => None,
            Self::Ranges { ranges, .. } => ranges.get(key).map(|(_, length)| *length),
            Self::Directory { members, prefix } => members.list().get(&format!("{prefix}data/{key}")).copied(),
            Self::Archive { archive, root, .. } => archive.get(&format!("{root}/data/{key}")).map(|entry| entry.size),
        }
    }

    /// Feeds a whole storage to `each`, in order. What is wrong with it, its checksum included, is known at its end.
    ///
    /// # Errors
    /// The source cannot be read.
    pub fn stream(&self, key: &str, each: impl FnMut(&[u8])) -> io::Result<Option<Finding>> {
        let missing = || Finding::error(Code::MissingShard, format!("`data/{key}` is missing"));
        let is_whole = match self {
            Self::Nowhere => return Ok(Some(missing())),
            Self::Archive { source, archive, root } => {
                let Some(entry) = archive.get(&format!("{root}/data/{key}")) else { return Ok(Some(missing())) };
                return members::checked(*source, entry, each);
            }
            Self::Ranges { source, ranges } => match ranges.get(key) {
                Some((offset, length)) => stream(*source, *offset, *length, each)?,
                None => return Ok(Some(missing())),
            },
            Self::Directory { members, prefix } => {
                let name = format!("{prefix}data/{key}");
                let Some(length) = members.list().get(&name) else { return Ok(Some(missing())) };
                stream(&*members.open(&name)?, 0, *length, each)?
            }
        };
        Ok((!is_whole).then(|| Finding::error(Code::Truncated, format!("`data/{key}` ends early"))))
    }

    /// A storage to read at any offset; `None` where it is compressed, not there, or a file of its own.
    ///
    /// # Errors
    /// The source cannot be read.
    pub fn window(&self, key: &str) -> io::Result<Option<Window<'_>>> {
        Ok(match self {
            Self::Nowhere | Self::Directory { .. } => None,
            Self::Ranges { source, ranges } => {
                ranges.get(key).map(|(offset, length)| Window::new(*source, *offset, *length))
            }
            Self::Archive { source, archive, root } => {
                let entry = archive.get(&format!("{root}/data/{key}")).filter(|entry| entry.method == Method::Stored);
                let Some(entry) = entry else { return Ok(None) };
                zip::local_header(*source, entry.header_offset)?
                    .map(|header| Window::new(*source, header.data_offset, entry.size))
            }
        })
    }

    /// Whether the elements stand with their last byte first, as on machines that no longer train.
    ///
    /// # Errors
    /// The source cannot be read.
    pub fn is_big_endian(&self) -> io::Result<bool> {
        let Self::Archive { source, archive, root } = self else { return Ok(false) };
        let Some(entry) = archive.get(&format!("{root}/byteorder")) else { return Ok(false) };
        Ok(matches!(zip::member(*source, entry, 64)?, zip::Member::Whole { bytes, .. } if bytes == b"big"))
    }

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
