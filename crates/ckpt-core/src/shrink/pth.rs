//! A smaller archive of `torch.save`: its pickle, and which parts of the old storages follow.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::collections::HashMap;

use super::{Account, CLASS_KEY, DEPTH, Fate, Part, State, WHOLE, declared};
use crate::error::{Error, ErrorKind, Result};
use crate::format::dtype::Dtype;
use crate::format::pickle::write::Writer;
use crate::format::pickle::{Node, Pickle, Value};
use crate::format::torch::Opened;
use crate::format::torch::scalar::{Scalar, scalar};
use crate::format::torch::tensor::{self, StorageRef, TensorRef};
use crate::layout::Class;
use crate::limits;

/// Parts of storages begin at a multiple of this, so that they begin with a whole element of any type.
const ALIGNMENT: u64 = 16;

/// A part of an old storage; the n-th becomes `data/n`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// The key of the old storage.
    pub key: String,
    /// First byte.
    pub start: u64,
    /// The byte after the last.
    pub end: u64,
}

/// What is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pth {
    /// `data.pkl`
    pub pickle: Vec<u8>,
    /// The storages.
    pub pieces: Vec<Piece>,
    /// What became of every part.
    pub account: Account,
}

/// Plans the smaller archive of an opened one. Of each storage only what its tensors span is kept; tensors that share one
/// still do.
///
/// # Errors
/// [`ErrorKind::Unsupported`]: its model is an object that only code could make again, holds tensors of a kind that cannot be
/// written, or is too large. [`ErrorKind::Invalid`]: it holds no weights.
pub fn pth(opened: &Opened<'_>) -> Result<Pth> {
    let Some(pickle) = &opened.pickle else {
        return Err(Error::new(ErrorKind::Invalid, WHOLE, "there is no state to read in"));
    };
    let state = State::new(opened, pickle);
    if pickle.items(pickle.root()).is_none() {
        return Err(Error::new(ErrorKind::Unsupported, WHOLE, "only code could make again what is the root of"));
    }
    let is_bare = state.is_bare();
    let parts = state.fates()?;
    if !is_bare && parts.iter().all(|part| part.fate != Fate::Weights) {
        return Err(Error::new(ErrorKind::Invalid, WHOLE, "there are no weights in"));
    }
    // Where each storage begins is known once all tensors are: hence two passes.
    let mut first = Emission::new(pickle, HashMap::new());
    first.state(&parts, is_bare)?;
    let (pieces, places) = place(&first.tensors)?;
    let mut second = Emission::new(pickle, places);
    second.state(&parts, is_bare)?;
    Ok(Pth { pickle: second.writer.finish(), pieces, account: second.account })
}

fn too_large(key: &str) -> Error {
    Error::new(ErrorKind::Unsupported, key, "more than can be counted is in the storage of")
}

/// The span of each storage that the tensors use, in the order in which they first do.
fn place(tensors: &[TensorRef]) -> Result<(Vec<Piece>, HashMap<String, Place>)> {
    let mut pieces: Vec<Piece> = Vec::new();
    let mut places: HashMap<String, Place> = HashMap::new();
    for tensor in tensors {
        let Some(storage) = &tensor.storage else { continue };
        let number =
            *places.entry(storage.key.clone()).or_insert_with(|| Place { number: pieces.len(), start: 0, end: 0 });
        if number.number == pieces.len() {
            pieces.push(Piece { key: storage.key.clone(), start: 0, end: 0 });
        }
        let is_empty = tensor.shape.contains(&0);
        let Some((start, end)) = tensor.bytes_in_storage() else {
            if is_empty { continue } else { return Err(too_large(&storage.key)) }
        };
        let start = start.saturating_sub(start.checked_rem(ALIGNMENT).unwrap_or(0));
        if let Some(piece) = pieces.get_mut(number.number) {
            let is_new = piece.start == piece.end;
            piece.start = if is_new { start } else { piece.start.min(start) };
            piece.end = piece.end.max(end);
        }
    }
    for (number, piece) in pieces.iter().enumerate() {
        places.insert(piece.key.clone(), Place { number, start: piece.start, end: piece.end });
    }
    Ok((pieces, places))
}

#[derive(Clone, Copy, Debug)]
struct Place {
    number: usize,
    start: u64,
    end: u64,
}

/// Why a value is not written.
enum Unfit {
    /// It is left out, for this reason.
    Left(String),
    /// Nothing can be written without it.
    Needed(Error),
}

type Step = std::result::Result<(), Unfit>;

struct Emission<'a> {
    pickle: &'a Pickle,
    writer: Writer,
    places: HashMap<String, Place>,
    tensors: Vec<TensorRef>,
    account: Account,
    visited: usize,
    /// Whether what is written are the model's weights, of which none may be left out.
    is_weights: bool,
}

impl<'a> Emission<'a> {
    fn new(pickle: &'a Pickle, places: HashMap<String, Place>) -> Self {
        Self {
            pickle,
            writer: Writer::new(),
            places,
            tensors: Vec::new(),
            account: Account::default(),
            visited: 0,
            is_weights: false,
        }
    }

    fn state(&mut self, parts: &[Part], is_bare: bool) -> Result<()> {
        self.writer.begin_dict();
        let mut has_weights = is_bare;
        let mut lacking = None;
        self.account.drop_attributes(self.pickle, "", self.pickle.root());
        for part in parts {
            let name = part.name.as_str();
            if name == CLASS_KEY && !is_bare {
                // One that we wrote is written again.
                if self.pickle.text(part.value).is_none_or(|class| declared(&class).is_none()) {
                    self.account.drop(name, "the class of the new checkpoint takes its place");
                }
                continue;
            }
            if let Fate::Training(reason) = part.fate
                && !is_bare
            {
                self.account.is_smaller = true;
                self.account.drop(name, reason);
                continue;
            }
            self.is_weights = is_bare || part.fate == Fate::Weights;
            let (length, tensors) = (self.writer.len(), self.tensors.len());
            match self.value(name, part.key, 0).and_then(|()| self.value(name, part.value, 0)) {
                Ok(()) => {
                    has_weights |= self.is_weights;
                    self.account.keep(name, self.tensors.len().saturating_sub(tensors));
                }
                Err(Unfit::Needed(error)) => return Err(error),
                Err(Unfit::Left(reason)) => {
                    self.writer.truncate(length);
                    self.tensors.truncate(tensors);
                    if self.is_weights {
                        lacking.get_or_insert_with(|| (name, reason.clone()));
                    }
                    self.account.drop(name, reason);
                }
            }
        }
        if let Some((name, reason)) = lacking.filter(|_| !has_weights) {
            let message = format!("its weights cannot be written, because {reason}: those under");
            return Err(Error::new(ErrorKind::Unsupported, name, message));
        }
        if !is_bare {
            self.writer.text(CLASS_KEY);
            self.writer.text(Class::InferenceOnly.name());
        }
        self.writer.end_dict();
        Ok(())
    }

    fn value(&mut self, path: &str, value: Value, depth: usize) -> Step {
        self.visited = self.visited.saturating_add(1);
        if self.visited > limits::WALK_VALUES || self.writer.len() as u64 > limits::PICKLE_BYTES {
            let message = "its values, each as often as it is referred to, take too much room:";
            return Err(Unfit::Needed(Error::new(ErrorKind::Unsupported, path, message)));
        }
        if depth > DEPTH {
            return Err(Unfit::Left("it is nested too deep, or in a circle".to_owned()));
        }
        match value {
            Value::None => self.writer.none(),
            Value::Bool(value) => self.writer.bool(value),
            Value::Int(value) => self.writer.int(value),
            Value::Float(value) => self.writer.float(value),
            Value::Text(span) => match std::str::from_utf8(self.pickle.span(span)) {
                Ok(text) => self.writer.text(text),
                Err(_) => return Err(Unfit::Left("its text is not Unicode".to_owned())),
            },
            Value::Bytes(_) => self.bytes(value)?,
            Value::Node(_) => self.node(path, value, depth)?,
        }
        Ok(())
    }

    fn bytes(&mut self, value: Value) -> Step {
        match self.pickle.bytes(value) {
            Some(bytes) => self.writer.bytes(&bytes),
            None => return Err(self.object(value)),
        }
        Ok(())
    }

    fn node(&mut self, path: &str, value: Value, depth: usize) -> Step {
        let pickle = self.pickle;
        match pickle.node(value) {
            Some(Node::Dict(items)) => {
                self.writer.begin_dict();
                self.items(path, items, depth)
            }
            Some(Node::List(values)) => {
                self.writer.begin_list();
                self.values(path, values, depth)?;
                self.writer.end_list();
                Ok(())
            }
            Some(node @ Node::Tuple(_)) => self.tuple(path, pickle.elements(node).unwrap_or_default(), depth),
            Some(Node::Set(values)) => self.set(path, values, depth),
            Some(Node::Global(_)) => self.name(value),
            Some(Node::Object(_)) => self.instance(path, value, depth),
            _ => Err(self.object(value)),
        }
    }

    fn values(&mut self, path: &str, values: &[Value], depth: usize) -> Step {
        values.iter().try_for_each(|value| self.value(path, *value, depth.saturating_add(1)))
    }

    fn tuple(&mut self, path: &str, values: &[Value], depth: usize) -> Step {
        self.writer.begin_tuple();
        self.values(path, values, depth)?;
        self.writer.end_tuple();
        Ok(())
    }

    fn set(&mut self, path: &str, values: &[Value], depth: usize) -> Step {
        self.writer.global("__builtin__", "set");
        self.writer.begin_tuple();
        self.writer.begin_list();
        self.values(path, values, depth)?;
        self.writer.end_list();
        self.writer.end_tuple();
        self.writer.call();
        Ok(())
    }

    /// The items of a dict that was begun. One that does not fit is left out, not the dict.
    fn items(&mut self, path: &str, items: &[(Value, Value)], depth: usize) -> Step {
        for (key, value) in items {
            let name = self.pickle.key(*key).unwrap_or_else(|| "…".into());
            let path = format!("{path}.{name}");
            let (length, tensors) = (self.writer.len(), self.tensors.len());
            let is_optimizer =
                self.pickle.get(*value, "param_groups").is_some() && self.pickle.get(*value, "state").is_some();
            let written = if is_optimizer {
                Err(Unfit::Left("the state of an optimizer".to_owned()))
            } else {
                let depth = depth.saturating_add(1);
                self.value(&path, *key, depth).and_then(|()| self.value(&path, *value, depth))
            };
            match written {
                Ok(()) => {}
                Err(Unfit::Left(reason)) => {
                    self.writer.truncate(length);
                    self.tensors.truncate(tensors);
                    self.account.is_smaller |= is_optimizer;
                    self.account.drop(&path, reason);
                }
                Err(needed) => return Err(needed),
            }
        }
        self.writer.end_dict();
        Ok(())
    }

    /// An element type, such as a configuration names; every other name stands for code.
    fn name(&mut self, value: Value) -> Step {
        match self.pickle.global(value) {
            Some((module, name)) if module == "torch" && is_dtype(&name) => self.writer.global("torch", &name),
            _ => return Err(self.object(value)),
        }
        Ok(())
    }

    fn instance(&mut self, path: &str, value: Value, depth: usize) -> Step {
        let pickle = self.pickle;
        if let Some(tensor) = tensor::plain(pickle, value) {
            return self.tensor(path, tensor);
        }
        if tensor::tensor(pickle, value).is_some() {
            let message =
                "only PyTorch itself can write again the tensor, which is sparse, nested, quantised or without data:";
            let needed = Error::new(ErrorKind::Unsupported, path, message);
            let left = "a tensor that is sparse, nested, quantised or without data";
            return Err(if self.is_weights { Unfit::Needed(needed) } else { Unfit::Left(left.to_owned()) });
        }
        if pickle.bytes_span(value).is_some() {
            return self.bytes(value);
        }
        let Some((module, name, object)) = pickle.call(value) else { return Err(self.object(value)) };
        match (&*module, &*name, pickle.arguments(object)) {
            ("collections", "OrderedDict", _) => {
                self.account.drop_attributes(pickle, path, value);
                self.writer.begin_ordered();
                self.items(path, &pickle.contents(object).items, depth)
            }
            ("collections", "defaultdict" | "Counter", _) => {
                self.writer.begin_dict();
                self.items(path, &pickle.contents(object).items, depth)
            }
            ("argparse", "Namespace", _) | ("types", "SimpleNamespace", _) => {
                self.writer.begin_dict();
                self.items(path, pickle.attributes(value).unwrap_or_default(), depth)
            }
            ("torch", "Size", _) => self.size(path, value, depth),
            ("torch", "device", arguments @ ([_] | [_, _])) => {
                self.writer.global("torch", "device");
                self.tuple(path, arguments, depth)?;
                self.writer.call();
                Ok(())
            }
            ("builtins" | "__builtin__", "set" | "frozenset", _) => {
                self.set(path, pickle.sequence(value).unwrap_or_default(), depth)
            }
            ("numpy.core.multiarray" | "numpy._core.multiarray", "scalar", _) => self.number(value),
            // A dict of a class of its own, as configurations are: its items are data, its class is code.
            _ if !pickle.contents(object).items.is_empty() && pickle.contents(object).elements.is_empty() => {
                self.writer.begin_dict();
                self.items(path, &pickle.contents(object).items, depth)
            }
            _ => Err(self.object(value)),
        }
    }

    fn size(&mut self, path: &str, value: Value, depth: usize) -> Step {
        self.writer.global("torch", "Size");
        self.writer.begin_tuple();
        self.tuple(path, self.pickle.sequence(value).unwrap_or_default(), depth)?;
        self.writer.end_tuple();
        self.writer.call();
        Ok(())
    }

    /// A numpy scalar, as the Python number it stands for.
    fn number(&mut self, value: Value) -> Step {
        let Some(Scalar::Number(number)) = scalar(self.pickle, value) else { return Err(self.object(value)) };
        /// Whole numbers up to here are exact as floats.
        const EXACT: f64 = 9_007_199_254_740_992.0;
        let code = self
            .pickle
            .call(value)
            .and_then(|(_, _, object)| self.pickle.call(*self.pickle.arguments(object).first()?))
            .and_then(|(_, _, dtype)| self.pickle.text(*self.pickle.arguments(dtype).first()?));
        let is_whole = code.is_some_and(|code| code.trim_start_matches(['<', '>', '|', '=']).starts_with(['i', 'u']));
        if !is_whole {
            self.writer.float(number);
        } else if number.abs() <= EXACT {
            #[expect(clippy::cast_possible_truncation, reason = "a whole number below 2^53")]
            self.writer.int(number as i64);
        } else {
            return Err(Unfit::Left("a number of numpy that is too large to be read exactly".to_owned()));
        }
        Ok(())
    }

    fn tensor(&mut self, path: &str, tensor: TensorRef) -> Step {
        let Some(storage) = tensor.storage.clone().filter(|_| is_dtype(tensor.dtype.name())) else {
            let message = format!("the element type {} is not known, which is that of", tensor.dtype);
            return Err(Unfit::Needed(Error::new(ErrorKind::Unsupported, path, message)));
        };
        let class = typed(&storage, &tensor.dtype);
        let place = self.places.get(&storage.key).copied().unwrap_or(Place { number: 0, start: 0, end: 0 });
        let width = tensor.dtype.bytes(1).unwrap_or(1).max(1);
        let counted = if class.is_some() { width } else { 1 };
        let offset = tensor.offset.saturating_sub(place.start.checked_div(width).unwrap_or(0));
        let is_empty = tensor.shape.contains(&0);
        let writer = &mut self.writer;
        writer.global("torch._utils", if class.is_some() { "_rebuild_tensor_v2" } else { "_rebuild_tensor_v3" });
        writer.begin_tuple();
        writer.begin_tuple();
        writer.text("storage");
        match class {
            Some(class) => writer.global("torch", class),
            None => writer.global("torch.storage", "UntypedStorage"),
        }
        writer.text(&place.number.to_string());
        writer.text("cpu");
        writer.unsigned(place.end.saturating_sub(place.start).checked_div(counted).unwrap_or(0));
        writer.end_tuple();
        writer.persistent();
        writer.unsigned(if is_empty { 0 } else { offset });
        for sides in [&tensor.shape, &tensor.strides] {
            writer.begin_tuple();
            sides.iter().for_each(|side| writer.unsigned(*side));
            writer.end_tuple();
        }
        writer.bool(false);
        writer.empty_ordered();
        if class.is_none() {
            writer.global("torch", tensor.dtype.name());
        }
        writer.end_tuple();
        writer.call();
        self.tensors.push(tensor);
        Ok(())
    }

    /// What is left out, by its class.
    fn object(&self, value: Value) -> Unfit {
        let class = self.pickle.call(value).map(|(module, name, _)| format!("{module}.{name}"));
        let name = class.or_else(|| self.pickle.global(value).map(|(module, name)| format!("{module}.{name}")));
        let name = name.unwrap_or_else(|| "a type that is not plain data".to_owned());
        Unfit::Left(format!("only code could make it again: {name}"))
    }
}

/// The class of storage that the tensor stands on, when both are of one type.
fn typed(storage: &StorageRef, dtype: &Dtype) -> Option<&'static str> {
    storage.dtype.as_ref().filter(|of_storage| *of_storage == dtype)?.to_storage()
}

/// Whether PyTorch has an element type of this name whose elements take whole bytes.
fn is_dtype(name: &str) -> bool {
    let dtype = Dtype::of_torch(name);
    let is_known = dtype.bits().is_some_and(|bits| bits.is_multiple_of(8));
    is_known && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}
