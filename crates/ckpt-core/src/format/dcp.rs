//! PyTorch's distributed checkpoint directory: `.metadata`, a pickle that is written last, and `__R_I.distcp` files, each a
//! row of small `torch.save` archives.
//!
//! Source of the layout: `torch.distributed.checkpoint.metadata` and `.filesystem` of PyTorch 2.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::collections::BTreeMap;
use std::io;

use super::dtype::Dtype;
use super::pickle::{Pickle, Value};
use super::torch::salvage_pickle;
use crate::finding::{Code, Finding};
use crate::limits;
use crate::members::Members;

/// Where one item's bytes are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The file, relative to the directory.
    pub file: String,
    /// First byte.
    pub offset: u64,
    /// Bytes.
    pub length: u64,
}

/// What one name of the state is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item {
    /// A tensor, in one or several chunks.
    Tensor {
        /// Its element type, where known.
        dtype: Option<Dtype>,
        /// Its shape.
        shape: Vec<u64>,
        /// Where its first chunk is.
        place: Option<Place>,
    },
    /// Anything else, pickled.
    Bytes(Option<Place>),
}

/// What `.metadata` says.
#[derive(Debug, Default)]
pub struct Metadata {
    /// The state by fully qualified name.
    pub items: BTreeMap<String, Item>,
    /// Where every chunk of every item is.
    pub places: Vec<(String, Place)>,
    /// The pickle itself, for its imports.
    pub pickle: Option<Pickle>,
    /// What was read of it, when it breaks off.
    pub broken: Option<Box<Pickle>>,
    /// What was noticed.
    pub findings: Vec<Finding>,
}

fn unsigned(value: Option<Value>) -> Option<u64> {
    match value? {
        Value::Int(number) => u64::try_from(number).ok(),
        _ => None,
    }
}

/// A field of one of the many records, which have a handful; a larger one would be searched once for every record.
fn field(pickle: &Pickle, record: Value, name: &str) -> Option<Value> {
    pickle.fields(record).filter(|fields| fields.len() <= 64)?;
    pickle.get(record, name)
}

/// Reads `.metadata` and compares the files with it.
///
/// # Errors
/// A file cannot be read.
pub fn read(members: &dyn Members) -> io::Result<Metadata> {
    if !members.list().contains_key(".metadata") {
        let message = "there is no `.metadata`, which is written last: the save did not finish";
        return Ok(Metadata { findings: vec![Finding::error(Code::Truncated, message)], ..Metadata::default() });
    }
    let file = members.open(".metadata")?;
    let pickle = match salvage_pickle(&*file, 0)? {
        Ok(pickle) => pickle,
        Err(broken) => {
            let findings = vec![super::torch::archive::pickle_finding(".metadata", broken.error)];
            return Ok(Metadata { findings, broken: Some(broken.seen), ..Metadata::default() });
        }
    };
    drop(file);
    let places = places(&pickle);
    let mut findings = Vec::new();
    for (file, needs) in ends(&places) {
        match members.list().get(&file) {
            None => findings.push(Finding::error(Code::MissingShard, format!("`{file}` is missing"))),
            Some(has) if *has < needs => {
                findings
                    .push(Finding::error(Code::MissingShard, format!("`{file}` has {has} of at least {needs} bytes")));
            }
            Some(_) => {}
        }
    }
    let items = items(&pickle, &places).unwrap_or_default();
    if items.is_empty() {
        findings.push(Finding::error(Code::NotACheckpoint, "`.metadata` describes no state"));
    }
    Ok(Metadata { items, places, pickle: Some(pickle), broken: None, findings })
}

/// `storage_data`: `MetadataIndex(fqn, …)` → `_StorageInfo(relative_path, offset, length)`.
fn places(pickle: &Pickle) -> Vec<(String, Place)> {
    let Some(data) = pickle.get(pickle.root(), "storage_data").and_then(|value| pickle.items(value)) else {
        return Vec::new();
    };
    data.iter()
        .filter_map(|(index, info)| {
            let name = pickle.text(field(pickle, *index, "fqn")?)?.into_owned();
            let file = pickle.text(field(pickle, *info, "relative_path")?)?.into_owned();
            let offset = unsigned(field(pickle, *info, "offset"))?;
            let length = unsigned(field(pickle, *info, "length"))?;
            Some((name, Place { file, offset, length }))
        })
        .collect()
}

/// The size that each file must have at least.
fn ends(places: &[(String, Place)]) -> BTreeMap<String, u64> {
    let mut ends = BTreeMap::new();
    for (_, place) in places {
        let end = ends.entry(place.file.clone()).or_insert(0);
        *end = place.offset.saturating_add(place.length).max(*end);
    }
    ends
}

fn items(pickle: &Pickle, places: &[(String, Place)]) -> Option<BTreeMap<String, Item>> {
    let state = pickle.get(pickle.root(), "state_dict_metadata")?;
    // Reversed: of several chunks the first one stays.
    let by_name: BTreeMap<&str, &Place> = places.iter().rev().map(|(name, place)| (name.as_str(), place)).collect();
    let mut items = BTreeMap::new();
    for (name, value) in pickle.items(state)?.iter() {
        let Some(name) = pickle.key(*name) else { continue };
        let place = by_name.get(&*name).map(|place| (*place).clone());
        let item = match field(pickle, *value, "size") {
            Some(size) => Item::Tensor {
                dtype: field(pickle, *value, "properties").and_then(|properties| element_type(pickle, properties)),
                shape: pickle
                    .sequence(size)?
                    .iter()
                    .take(limits::DIMENSIONS)
                    .filter_map(|side| unsigned(Some(*side)))
                    .collect(),
                place,
            },
            None => Item::Bytes(place),
        };
        items.insert(name.into_owned(), item);
    }
    Some(items)
}

/// `TensorProperties`, whose state is a tuple that starts with the dtype.
fn element_type(pickle: &Pickle, properties: Value) -> Option<Dtype> {
    let of = |value: Value| {
        let (module, name) = pickle.global(value)?;
        (module == "torch").then(|| Dtype::of_torch(&name))
    };
    if let Some(dtype) = field(pickle, properties, "dtype") {
        return of(dtype);
    }
    let (_, _, object) = pickle.call(properties)?;
    of(*pickle.sequence(pickle.contents(object).state)?.first()?)
}
