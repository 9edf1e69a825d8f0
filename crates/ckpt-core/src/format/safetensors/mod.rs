//! The header of a safetensors file: a length, a JSON object, then the tensors without gaps.
//!
//! Source: the format section of the reference implementation. The reference reader wants the whole file mapped; this
//! one reads the header alone.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::collections::BTreeMap;
use std::io;

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};

use super::dtype::Dtype;
use crate::finding::{Code, Finding};
use crate::limits;
use crate::read::{ReadAt, read_up_to};

pub mod write;

/// One tensor of the header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tensor {
    /// Its element type.
    pub dtype: Dtype,
    /// Its shape.
    pub shape: Vec<u64>,
    /// First byte, counted from the end of the header.
    pub start: u64,
    /// The byte after its last.
    pub end: u64,
}

impl Tensor {
    /// The number of elements; `None` beyond 64 bits.
    #[must_use]
    pub fn elements(&self) -> Option<u64> {
        self.shape.iter().try_fold(1_u64, |product, side| product.checked_mul(*side))
    }
}

/// Whether a tensor of this name belongs to an optimizer.
#[must_use]
pub fn is_optimizer(name: &str) -> bool {
    name.starts_with("optimizer.") || name.starts_with("optim.")
}

/// What a header says.
#[derive(Clone, Debug, Default)]
pub struct Header {
    /// The tensors by name.
    pub tensors: BTreeMap<String, Tensor>,
    /// The free text fields.
    pub metadata: BTreeMap<String, String>,
    /// Where the tensors' bytes start in the file.
    pub data_offset: u64,
    /// What was noticed.
    pub findings: Vec<Finding>,
    /// The size the file should have.
    pub expected_bytes: u64,
}

#[derive(serde::Deserialize)]
struct RawTensor {
    dtype: String,
    #[serde(deserialize_with = "shape")]
    shape: Vec<u64>,
    data_offsets: (u64, u64),
}

/// A shape of at most [`limits::DIMENSIONS`] sides: a longer one is no tensor's and would fill the memory.
fn shape<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u64>, D::Error> {
    struct Sides;
    impl<'de> Visitor<'de> for Sides {
        type Value = Vec<u64>;

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            write!(f, "a shape of at most {} sides", limits::DIMENSIONS)
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Vec<u64>, A::Error> {
            let mut sides = Vec::new();
            while let Some(side) = seq.next_element()? {
                if sides.len() >= limits::DIMENSIONS {
                    return Err(A::Error::invalid_length(sides.len().saturating_add(1), &self));
                }
                sides.push(side);
            }
            Ok(sides)
        }
    }
    deserializer.deserialize_seq(Sides)
}

#[derive(Default)]
struct RawHeader {
    metadata: BTreeMap<String, String>,
    tensors: BTreeMap<String, RawTensor>,
}

/// By hand: `serde(flatten)` would keep the whole document in memory a second time.
impl<'de> Deserialize<'de> for RawHeader {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields;
        impl<'de> Visitor<'de> for Fields {
            type Value = RawHeader;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object of tensors")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<RawHeader, A::Error> {
                let mut header = RawHeader::default();
                while let Some(name) = map.next_key::<String>()? {
                    if name == "__metadata__" {
                        header.metadata = map.next_value::<Option<_>>()?.unwrap_or_default();
                    } else {
                        let tensor = map.next_value()?;
                        header.tensors.insert(name, tensor);
                    }
                }
                Ok(header)
            }
        }
        deserializer.deserialize_map(Fields)
    }
}

/// Reads the header. Damage is a finding of the header, which then holds what could be read.
///
/// # Errors
/// The source cannot be read.
pub fn read(source: &dyn ReadAt) -> io::Result<Header> {
    let size = source.size();
    let damaged = |finding| Ok(Header { findings: vec![finding], ..Header::default() });
    let prefix = read_up_to(source, 0, 8)?;
    let Some(length) = prefix.first_chunk::<8>().map(|bytes| u64::from_le_bytes(*bytes)) else {
        return damaged(Finding::error(
            Code::Truncated,
            format!("only {size} bytes: too short for a safetensors header"),
        ));
    };
    if length > limits::SAFETENSORS_HEADER_BYTES {
        return damaged(Finding::error(
            Code::NotACheckpoint,
            format!(
                "it announces a safetensors header of {length} bytes; the limit is {}",
                limits::SAFETENSORS_HEADER_BYTES
            ),
        ));
    }
    let bytes = read_up_to(source, 8, usize::try_from(length).unwrap_or(usize::MAX))?;
    if (bytes.len() as u64) < length {
        return damaged(Finding::error(
            Code::Truncated,
            format!("the safetensors header of {length} bytes ends after {}", bytes.len()),
        ));
    }
    if bytes.iter().all(|byte| *byte == 0) {
        return damaged(Finding::error(
            Code::ZeroFilled,
            "the safetensors header was never written: it reads as zeros",
        ));
    }
    let raw: RawHeader = match serde_json::from_slice(&bytes) {
        Ok(raw) => raw,
        Err(error) => {
            return damaged(Finding::error(
                Code::NotACheckpoint,
                format!("the safetensors header is malformed: {error}"),
            ));
        }
    };
    Ok(check(raw, length.saturating_add(8), size))
}

/// PyTorch counts pairs of the smallest type, safetensors their halves: half as many along the last side.
fn packed(dtype: &Dtype, mut shape: Vec<u64>) -> Vec<u64> {
    if dtype.name() == Dtype::PAIRS
        && let Some(last) = shape.last_mut().filter(|last| last.is_multiple_of(2))
    {
        *last >>= 1;
    }
    shape
}

fn check(raw: RawHeader, data_offset: u64, size: u64) -> Header {
    let mut findings = Vec::new();
    let mut tensors = BTreeMap::new();
    let mut ranges = Vec::with_capacity(raw.tensors.len());
    for (name, tensor) in raw.tensors {
        let (start, end) = tensor.data_offsets;
        let dtype = Dtype::of_safetensors(&tensor.dtype);
        let tensor = Tensor { shape: packed(&dtype, tensor.shape), dtype, start, end };
        let needs = tensor.elements().and_then(|elements| tensor.dtype.bytes(elements));
        let has = end.checked_sub(start);
        if has.is_none() || (needs.is_some() && needs != has) {
            findings.push(Finding::error(
                Code::OutOfBounds,
                format!(
                    "tensor `{name}` of type {} and shape {:?} cannot take the bytes {start} to {end}",
                    tensor.dtype, tensor.shape
                ),
            ));
        }
        ranges.push((start, end));
        tensors.insert(name, tensor);
    }
    ranges.sort_unstable();
    let mut reached = 0;
    for (start, end) in ranges {
        if start != reached {
            findings
                .push(Finding::error(Code::OutOfBounds, format!("tensors overlap or leave a gap at byte {reached}")));
            break;
        }
        reached = end;
    }
    let last = tensors.values().map(|tensor| tensor.end).max().unwrap_or(0);
    let expected_bytes = data_offset.saturating_add(last);
    if size < expected_bytes {
        let complete = tensors.values().filter(|tensor| data_offset.saturating_add(tensor.end) <= size).count();
        let message = format!(
            "it was cut off: it should have {expected_bytes} bytes and has {size}, {complete} of its {} tensors are complete",
            tensors.len()
        );
        findings.insert(0, Finding::error(Code::Truncated, message));
    } else if size > expected_bytes {
        let more = size.saturating_sub(expected_bytes);
        findings.push(Finding::error(
            Code::OutOfBounds,
            format!("{more} bytes follow the last tensor; safetensors readers refuse such a file"),
        ));
    }
    findings.truncate(16);
    Header { tensors, metadata: raw.metadata, data_offset, findings, expected_bytes }
}
