//! The header of a safetensors file that is to be written: what precedes the tensors' bytes, and their order.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::Dtype;
use crate::error::{Error, ErrorKind, Result};
use crate::limits;

/// The tensors' bytes start at a multiple of this, so that a mapped file can be used in place.
const ALIGNMENT: usize = 64;
/// The length of the header, before it.
const LENGTH_BYTES: usize = 8;

/// One tensor to write.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its element type.
    pub dtype: &'a Dtype,
    /// Its shape.
    pub shape: &'a [u64],
}

/// What is written: the header, then the tensors' bytes in `order` without gaps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The first bytes of the file, up to the first tensor.
    pub header: Vec<u8>,
    /// The indices of the entries, in the order in which their bytes follow.
    pub order: Vec<usize>,
    /// How many bytes each entry takes, by the entry's index.
    pub sizes: Vec<u64>,
    /// The size of the whole file.
    pub bytes: u64,
}

/// Lays out a file: larger elements first, so that all are aligned, then by name. The same entries always give the same
/// bytes, in whatever order they come.
///
/// ```
/// use std::collections::BTreeMap;
/// use ckpt_core::format::dtype::Dtype;
/// use ckpt_core::format::safetensors::write::{Entry, plan};
///
/// let float = Dtype::of_torch("float32");
/// let plan = plan(&[Entry { name: "weight", dtype: &float, shape: &[2, 3] }], &BTreeMap::new())?;
/// assert_eq!(plan.sizes, [24]);
/// assert_eq!(plan.bytes, plan.header.len() as u64 + 24);
/// # Ok::<(), ckpt_core::Error>(())
/// ```
///
/// # Errors
/// [`ErrorKind::Invalid`]: two tensors of one name, or one named `__metadata__`. [`ErrorKind::Unsupported`]: an element
/// type that the format does not have, or more names than a reader accepts.
pub fn plan(entries: &[Entry<'_>], metadata: &BTreeMap<String, String>) -> Result<Plan> {
    let mut sizes = Vec::with_capacity(entries.len());
    for entry in entries {
        sizes.push(size(entry)?);
    }
    let mut order: Vec<usize> = (0..entries.len()).collect();
    let key = |index: &usize| entries.get(*index).map(|entry| (std::cmp::Reverse(entry.dtype.bits()), entry.name));
    order.sort_by(|one, other| key(one).cmp(&key(other)));
    let mut fields = Map::new();
    if !metadata.is_empty() {
        fields.insert("__metadata__".to_owned(), json!(metadata));
    }
    let mut start = 0_u64;
    for index in &order {
        let (Some(entry), Some(size)) = (entries.get(*index), sizes.get(*index)) else { continue };
        let end = start.checked_add(*size).ok_or_else(|| too_large(entry))?;
        let dtype = entry.dtype.to_safetensors();
        let described = json!({"dtype": dtype, "shape": counted(entry), "data_offsets": [start, end]});
        if entry.name == "__metadata__" || fields.insert(entry.name.to_owned(), described).is_some() {
            return Err(Error::new(ErrorKind::Invalid, entry.name, "two tensors, or a reserved one, of the name"));
        }
        start = end;
    }
    let header = encode(&Value::Object(fields))?;
    let bytes = start.saturating_add(header.len() as u64);
    Ok(Plan { header, order, sizes, bytes })
}

/// The shape as safetensors counts it: pairs of the smallest type are two elements along the last side.
fn counted(entry: &Entry<'_>) -> Vec<u64> {
    let mut shape = entry.shape.to_vec();
    if entry.dtype.name() == Dtype::PAIRS
        && let Some(last) = shape.last_mut()
    {
        *last = last.saturating_mul(2);
    }
    shape
}

fn too_large(entry: &Entry<'_>) -> Error {
    Error::new(ErrorKind::Invalid, entry.name, "more bytes than a file can hold in the tensor")
}

fn size(entry: &Entry<'_>) -> Result<u64> {
    if entry.dtype.to_safetensors().is_none() {
        let message = format!("safetensors has no element type {}, which is that of the tensor", entry.dtype);
        return Err(Error::new(ErrorKind::Unsupported, entry.name, message));
    }
    let elements = entry.shape.iter().try_fold(1_u64, |product, side| product.checked_mul(*side));
    elements.and_then(|elements| entry.dtype.bytes(elements)).ok_or_else(|| too_large(entry))
}

/// The length, the JSON, and spaces up to the alignment.
fn encode(fields: &Value) -> Result<Vec<u8>> {
    let json = fields.to_string();
    let size = json.len().saturating_add(LENGTH_BYTES).next_multiple_of(ALIGNMENT);
    let length = size.saturating_sub(LENGTH_BYTES) as u64;
    if length > limits::SAFETENSORS_HEADER_BYTES {
        let message = format!("its header would take {length} bytes, more than readers accept:");
        return Err(Error::new(ErrorKind::Unsupported, "safetensors file", message));
    }
    let mut header = Vec::with_capacity(size);
    header.extend_from_slice(&length.to_le_bytes());
    header.extend_from_slice(json.as_bytes());
    header.resize(size, b' ');
    Ok(header)
}

#[cfg(test)]
#[allow(clippy::indexing_slicing, reason = "a test that panics has failed")]
mod tests {
    use super::*;

    fn entry<'a>(name: &'a str, dtype: &'a Dtype, shape: &'a [u64]) -> Entry<'a> {
        Entry { name, dtype, shape }
    }

    #[test]
    fn what_is_planned_is_read_back_without_a_finding() {
        let (half, long) = (Dtype::of_torch("bfloat16"), Dtype::of_torch("int64"));
        let entries = [entry("a", &half, &[3]), entry("b", &long, &[]), entry("c", &half, &[0, 5])];
        let metadata = BTreeMap::from([("epoch".to_owned(), "3".to_owned())]);
        let plan = plan(&entries, &metadata).unwrap();
        assert_eq!(plan.order, [1, 0, 2], "eight bytes before two");
        assert_eq!(plan.header.len() % ALIGNMENT, 0);
        let mut file = plan.header.clone();
        file.resize(usize::try_from(plan.bytes).unwrap(), 0);
        let header = super::super::read(&file.as_slice()).unwrap();
        assert_eq!(header.findings, []);
        assert_eq!(header.metadata, metadata);
        assert_eq!(header.tensors["a"].shape, [3]);
        assert_eq!(header.tensors["b"].dtype, long);
        let reference = safetensors::SafeTensors::deserialize(&file).unwrap();
        assert_eq!(reference.tensor("c").unwrap().shape(), [0, 5]);
    }

    #[test]
    fn pairs_of_four_bits_are_counted_as_the_reference_counts_them() {
        let pairs = Dtype::of_torch(Dtype::PAIRS);
        let plan = plan(&[entry("a", &pairs, &[2, 3])], &BTreeMap::new()).unwrap();
        let mut file = plan.header.clone();
        file.resize(file.len() + 6, 0);
        assert_eq!(safetensors::SafeTensors::deserialize(&file).unwrap().tensor("a").unwrap().shape(), [2, 6]);
        let header = super::super::read(&file.as_slice()).unwrap();
        assert_eq!((header.findings.len(), header.tensors["a"].shape.as_slice()), (0, &[2, 3][..]));
    }

    #[test]
    fn the_order_of_the_entries_does_not_matter() {
        let float = Dtype::of_torch("float32");
        let (one, other) = (entry("a", &float, &[1]), entry("b", &float, &[2]));
        let metadata = BTreeMap::new();
        assert_eq!(plan(&[one, other], &metadata).unwrap().header, plan(&[other, one], &metadata).unwrap().header);
    }

    #[test]
    fn what_no_reader_could_read_is_refused() {
        let float = Dtype::of_torch("float32");
        let quantised = Dtype::of_torch("qint8");
        let metadata = BTreeMap::new();
        let kind = |entries: &[Entry<'_>]| plan(entries, &metadata).unwrap_err().kind();
        assert_eq!(kind(&[entry("a", &float, &[1]), entry("a", &float, &[1])]), ErrorKind::Invalid);
        assert_eq!(kind(&[entry("__metadata__", &float, &[1])]), ErrorKind::Invalid);
        assert_eq!(kind(&[entry("a", &quantised, &[1])]), ErrorKind::Unsupported);
        assert_eq!(kind(&[entry("a", &float, &[u64::MAX, 2])]), ErrorKind::Invalid);
    }
}
