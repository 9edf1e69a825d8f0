//! Tensors and storages as PyTorch pickles them: calls of `torch._utils._rebuild_*` around persistent ids.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::collections::{BTreeMap, HashSet};

use crate::format::dtype::Dtype;
use crate::format::pickle::{Node, NodeId, Pickle, Value};
use crate::limits;

/// Most arguments of a composite tensor that are looked at; real ones have seven.
const PARTS: usize = 16;

/// A storage that the pickle refers to; its bytes lie elsewhere in the container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StorageRef {
    /// Its key: the `N` of `data/N`.
    pub key: String,
    /// Its element type; `None` when it is untyped and counts bytes.
    pub dtype: Option<Dtype>,
    /// How many elements (or bytes) it has.
    pub count: u64,
}

impl StorageRef {
    /// Its size; `None` for unknown element types and sizes beyond 64 bits.
    #[must_use]
    pub fn bytes(&self) -> Option<u64> {
        match &self.dtype {
            Some(dtype) => dtype.bytes(self.count),
            None => Some(self.count),
        }
    }
}

/// A tensor: a view of a storage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorRef {
    /// Its element type.
    pub dtype: Dtype,
    /// Its shape.
    pub shape: Vec<u64>,
    /// Where its elements are; `None` for meta and composite tensors.
    pub storage: Option<StorageRef>,
    /// Its first element, counted in elements from the storage's start.
    pub offset: u64,
    /// The distance in elements between neighbours along each side; empty where it has no storage.
    pub strides: Vec<u64>,
}

impl TensorRef {
    /// The number of elements; `None` beyond 64 bits.
    #[must_use]
    pub fn elements(&self) -> Option<u64> {
        self.shape.iter().try_fold(1_u64, |product, side| product.checked_mul(*side))
    }

    /// Whether all of its elements lie inside its storage, as far as that can be told. PyTorch refuses others.
    #[must_use]
    pub fn is_inside(&self) -> bool {
        let Some(has) = self.storage.as_ref().and_then(StorageRef::bytes) else { return true };
        if self.shape.contains(&0) || self.strides.len() != self.shape.len() || self.dtype.bits().is_none() {
            return true;
        }
        self.bytes_in_storage().is_some_and(|(_, end)| end <= has)
    }

    /// Whether its elements follow each other in its storage in the order of their indices.
    #[must_use]
    pub fn is_contiguous(&self) -> bool {
        let mut expected = 1_u64;
        self.shape.contains(&0)
            || self.shape.iter().zip(&self.strides).rev().filter(|(side, _)| **side != 1).all(|(side, stride)| {
                let is_next = *stride == expected;
                expected = expected.saturating_mul(*side);
                is_next
            })
    }

    /// The range of its storage in which its elements lie, as first byte and the byte after the last; `None` when it
    /// has no elements, or no storage, or is beyond counting.
    #[must_use]
    pub fn bytes_in_storage(&self) -> Option<(u64, u64)> {
        if self.storage.is_none() || self.shape.contains(&0) || self.strides.len() != self.shape.len() {
            return None;
        }
        let last = self.shape.iter().zip(&self.strides).try_fold(self.offset, |last, (side, stride)| {
            last.checked_add(side.checked_sub(1)?.checked_mul(*stride)?)
        })?;
        Some((self.dtype.bytes(self.offset)?, self.dtype.bytes(last.checked_add(1)?)?))
    }
}

fn unsigned(value: Value) -> Option<u64> {
    match value {
        Value::Int(number) => u64::try_from(number).ok(),
        _ => None,
    }
}

/// The storage behind a persistent id: `("storage", class, key, location, count[, view])`.
#[must_use]
pub fn storage(pickle: &Pickle, value: Value) -> Option<StorageRef> {
    let Some(Node::Persistent(id)) = pickle.node(value) else { return None };
    let [tag, class, key, _location, count, ..] = pickle.sequence(*id)? else { return None };
    if !matches!(tag, Value::Text(tag) if pickle.span(*tag) == b"storage") {
        return None;
    }
    let (_, class) = pickle.global_bytes(*class)?;
    let dtype = std::str::from_utf8(class).ok().and_then(Dtype::of_storage);
    Some(StorageRef { key: pickle.key(*key)?.into_owned(), dtype, count: unsigned(*count)? })
}

fn shape(pickle: &Pickle, value: Value) -> Option<Vec<u64>> {
    pickle
        .sequence(value)
        .filter(|sides| sides.len() <= limits::DIMENSIONS)?
        .iter()
        .map(|side| unsigned(*side))
        .collect()
}

fn dtype(pickle: &Pickle, value: Value) -> Option<Dtype> {
    let (module, name) = pickle.global(value)?;
    (module == "torch").then(|| Dtype::of_torch(&name))
}

/// What a node is to a reader of tensors.
enum Role<'a> {
    Tensor(TensorRef),
    /// A tensor made of others, which are not counted themselves.
    Composite(TensorRef),
    /// Something around one tensor: a parameter, a subclass.
    Wrapper(&'a [Value]),
}

/// A tensor that stands on a storage of its own, or on none.
fn leaf(pickle: &Pickle, name: &[u8], arguments: &[Value]) -> Option<TensorRef> {
    match (name, arguments) {
        (b"_rebuild_tensor" | b"_rebuild_tensor_v2" | b"_rebuild_qtensor", _) => on_storage(pickle, arguments, None),
        (b"_rebuild_tensor_v3", [_, _, _, _, _, _, dtype, ..]) => on_storage(pickle, arguments, Some(*dtype)),
        (b"_rebuild_meta_tensor_no_storage", [dtype_value, size, ..]) => Some(TensorRef {
            dtype: dtype(pickle, *dtype_value)?,
            shape: shape(pickle, *size)?,
            storage: None,
            offset: 0,
            strides: Vec::new(),
        }),
        _ => None,
    }
}

/// The arguments that all rebuilders of plain tensors start with: storage, offset, size, strides.
fn on_storage(pickle: &Pickle, arguments: &[Value], explicit: Option<Value>) -> Option<TensorRef> {
    let [place, offset, size, rest @ ..] = arguments else { return None };
    let storage = storage(pickle, *place)?;
    let dtype = explicit.and_then(|value| dtype(pickle, value)).or_else(|| storage.dtype.clone())?;
    let strides = rest.first().and_then(|strides| shape(pickle, *strides)).unwrap_or_default();
    Some(TensorRef { dtype, shape: shape(pickle, *size)?, offset: unsigned(*offset)?, storage: Some(storage), strides })
}

/// The name under `torch._utils` or `torch._tensor` that an object calls, and with what.
fn rebuilder(pickle: &Pickle, value: Value) -> Option<(&[u8], &[Value])> {
    let Some(Node::Object(object)) = pickle.node(value) else { return None };
    let (module, name) = pickle.global_bytes(object.callable())?;
    matches!(module, b"torch._utils" | b"torch._tensor").then(|| (name, pickle.arguments(object)))
}

/// A part of a composite tensor. Parts are leaves: a composite among its own parts must not lead in a circle.
fn part(pickle: &Pickle, value: Value) -> Option<TensorRef> {
    let (name, arguments) = rebuilder(pickle, value)?;
    leaf(pickle, name, arguments)
}

fn role(pickle: &Pickle, value: Value) -> Option<Role<'_>> {
    let (name, arguments) = rebuilder(pickle, value)?;
    match (name, arguments) {
        (b"_rebuild_sparse_tensor", [_, parts]) => {
            let parts = pickle.sequence(*parts)?;
            let parts = parts.get(..PARTS).unwrap_or(parts);
            // The indices stand first, the values last; only the values have the tensor's own type.
            let dtype = parts.iter().rev().find_map(|value| part(pickle, *value))?.dtype;
            let size = parts.iter().rev().find_map(|part| shape(pickle, *part)).unwrap_or_default();
            Some(Role::Composite(TensorRef { dtype, shape: size, storage: None, offset: 0, strides: Vec::new() }))
        }
        (b"_rebuild_nested_tensor", [buffer, ..]) => Some(Role::Composite(part(pickle, *buffer)?)),
        // Its scales and zero points may be tensors.
        (b"_rebuild_qtensor", _) => leaf(pickle, name, arguments).map(Role::Composite),
        (
            b"_rebuild_parameter" | b"_rebuild_parameter_with_state" | b"_rebuild_from_type_v2" | b"_rebuild_from_type",
            _,
        ) => Some(Role::Wrapper(arguments)),
        (name, _) => leaf(pickle, name, arguments).map(Role::Tensor),
    }
}

/// The tensor that a value is; parameters and subclasses count as the tensor inside.
#[must_use]
pub fn tensor(pickle: &Pickle, value: Value) -> Option<TensorRef> {
    let mut value = value;
    // Wrappers nest twice at most in real files (a subclass of a parameter).
    for _ in 0..4 {
        match role(pickle, value)? {
            Role::Tensor(tensor) | Role::Composite(tensor) => return Some(tensor),
            Role::Wrapper(arguments) => match rebuilt_from_type(pickle, arguments) {
                Some(tensor) => return Some(tensor),
                None => value = *arguments.first()?,
            },
        }
    }
    None
}

/// `_rebuild_from_type_v2(func, type, args, state)`: the tensor that `func(*args)` would give.
fn rebuilt_from_type(pickle: &Pickle, arguments: &[Value]) -> Option<TensorRef> {
    let [function, _, inner, ..] = arguments else { return None };
    let (module, name) = pickle.global_bytes(*function)?;
    if module != b"torch._utils" || !matches!(name, b"_rebuild_tensor_v2" | b"_rebuild_tensor") {
        return None;
    }
    on_storage(pickle, pickle.sequence(*inner)?, None)
}

/// The tensor that a value is, when its elements stand in one storage as they are: none that is sparse, nested, quantised,
/// without data, conjugated in place, or a view of a view as PyTorch 0.4 wrote it.
#[must_use]
pub fn plain(pickle: &Pickle, value: Value) -> Option<TensorRef> {
    let mut value = value;
    for _ in 0..4 {
        let (name, arguments) = rebuilder(pickle, value)?;
        let (name, arguments) = match (name, arguments) {
            (b"_rebuild_from_type_v2" | b"_rebuild_from_type", [function, _, inner, ..]) => {
                let (module, name) = pickle.global_bytes(*function)?;
                if module != b"torch._utils" {
                    return None;
                }
                (name, pickle.sequence(*inner)?)
            }
            _ => (name, arguments),
        };
        let metadata = match name {
            b"_rebuild_parameter" | b"_rebuild_parameter_with_state" => {
                value = *arguments.first()?;
                continue;
            }
            b"_rebuild_tensor" => None,
            b"_rebuild_tensor_v2" => arguments.get(6),
            b"_rebuild_tensor_v3" => arguments.get(7),
            _ => return None,
        };
        // What it names is done to the elements when they are read.
        let does_more =
            |value: &Value| *value != Value::None && pickle.items(*value).is_none_or(|items| !items.is_empty());
        if metadata.is_some_and(does_more) {
            return None;
        }
        if is_view_of_view(pickle, *arguments.first()?) {
            return None;
        }
        let tensor = leaf(pickle, name, arguments)?;
        return (tensor.strides.len() == tensor.shape.len()).then_some(tensor);
    }
    None
}

fn is_view_of_view(pickle: &Pickle, storage: Value) -> bool {
    let Some(Node::Persistent(id)) = pickle.node(storage) else { return false };
    pickle.sequence(*id).and_then(|id| id.get(5)).is_some_and(|view| *view != Value::None)
}

/// Every tensor and every storage of a pickle.
#[derive(Debug, Default)]
pub struct Tensors {
    /// The tensors, in the order of the file, each once.
    pub tensors: Vec<(NodeId, TensorRef)>,
    /// The storages by key.
    pub storages: BTreeMap<String, StorageRef>,
}

/// Collects every tensor and storage. Linear in the pickle: nothing is followed, so nothing can go in circles.
#[must_use]
pub fn collect(pickle: &Pickle) -> Tensors {
    Tensors {
        tensors: tensors(pickle).collect(),
        storages: storages(pickle).map(|storage| (storage.key.clone(), storage)).collect(),
    }
}

/// Every storage, in the order of the file, as often as it is referred to.
pub fn storages(pickle: &Pickle) -> impl Iterator<Item = StorageRef> {
    let references = pickle.nodes().filter(|(_, node)| matches!(node, Node::Persistent(_)));
    references.filter_map(|(id, _)| storage(pickle, Value::Node(id)))
}

/// Every tensor, in the order of the file, each once. What a composite tensor is made of is not among them.
pub fn tensors(pickle: &Pickle) -> impl Iterator<Item = (NodeId, TensorRef)> {
    let inside = composite_parts(pickle);
    let tensor = |id| match role(pickle, Value::Node(id))? {
        Role::Tensor(tensor) | Role::Composite(tensor) => Some((id, tensor)),
        Role::Wrapper(arguments) => rebuilt_from_type(pickle, arguments).map(|tensor| (id, tensor)),
    };
    let calls = pickle.nodes().filter(|(_, node)| matches!(node, Node::Object(_))).map(|(id, _)| id);
    calls.filter(move |id| !inside.contains(id)).filter_map(tensor)
}

fn composite_parts(pickle: &Pickle) -> HashSet<NodeId> {
    let mut inside = HashSet::new();
    // Nearly all pickles have none, which their imports tell at once.
    let makes_composites = |node: &Node| {
        let Node::Global(global) = node else { return false };
        matches!(pickle.span(global.name), b"_rebuild_sparse_tensor" | b"_rebuild_nested_tensor" | b"_rebuild_qtensor")
    };
    if !pickle.nodes().any(|(_, node)| makes_composites(node)) {
        return inside;
    }
    for (id, node) in pickle.nodes() {
        let Node::Object(object) = node else { continue };
        if let Some(Role::Composite(_)) = role(pickle, Value::Node(id)) {
            let parts = pickle
                .arguments(object)
                .iter()
                .take(PARTS)
                .flat_map(|part| pickle.sequence(*part).unwrap_or(std::slice::from_ref(part)).iter().take(PARTS));
            inside.extend(parts.filter_map(|part| match part {
                Value::Node(id) => Some(*id),
                _ => None,
            }));
        }
    }
    inside
}
