#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::borrow::Cow;
use std::collections::{BTreeSet, HashSet};

use crate::limits;

/// A range of the pickle's own bytes, or of the text decoded from them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Span {
    pub(super) start: u32,
    pub(super) length: u32,
}

/// The identity of a [`Node`] within its [`Pickle`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(pub(super) u32);

/// One Python value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value {
    /// `None`
    None,
    /// `True`, `False`
    Bool(bool),
    /// An integer that fits 64 bits.
    Int(i64),
    /// A float.
    Float(f64),
    /// A string; see [`Pickle::text`].
    Text(Span),
    /// Bytes; see [`Pickle::bytes`].
    Bytes(Span),
    /// Anything with an identity or contents.
    Node(NodeId),
}

/// A Python object with an identity.
///
/// A state has eight for each tensor, tuples and calls most of them. So what is rare stands in a box, and the elements of
/// all tuples stand in one buffer: a node takes no more room than a [`Value`].
#[derive(Clone, Debug)]
pub enum Node {
    /// A list.
    List(Box<Vec<Value>>),
    /// A tuple; see [`Pickle::elements`].
    Tuple(Run),
    /// A set or frozen set.
    Set(Box<Vec<Value>>),
    /// A dict, in the order of the file.
    Dict(Box<Vec<(Value, Value)>>),
    /// An integer beyond 64 bits, nearest float.
    BigInt(f64),
    /// A name that Python would import.
    Global(Box<Global>),
    /// A call or an instance that Python would make.
    Object(Object),
    /// A reference that the loader resolves: PyTorch's storages.
    Persistent(Value),
}

const _: () = assert!(size_of::<Node>() == size_of::<Value>());

/// The elements of a tuple within the buffer of its [`Pickle`].
#[derive(Clone, Copy, Debug)]
pub struct Run {
    pub(super) start: u32,
    pub(super) length: u32,
}

/// A name that Python would import.
#[derive(Clone, Copy, Debug)]
pub struct Global {
    /// Module path.
    pub module: Span,
    /// Name inside the module, dotted for nested ones.
    pub name: Span,
}

/// A call or an instance that Python would make, recorded and not made.
#[derive(Clone, Copy, Debug)]
pub struct Object {
    pub(super) callable: NodeId,
    pub(super) arguments: NodeId,
    pub(super) contents: u32,
}

/// What would be put into an object once it is made.
#[derive(Clone, Debug)]
pub struct Contents {
    /// What `BUILD` would hand to `__setstate__` or merge into the instance's attributes.
    pub state: Value,
    /// Items that would be set on it: the contents of an `OrderedDict`.
    pub items: Vec<(Value, Value)>,
    /// Elements that would be appended or added to it.
    pub elements: Vec<Value>,
}

/// What most objects get: tensors among them.
pub(super) static NO_CONTENTS: Contents = Contents { state: Value::None, items: Vec::new(), elements: Vec::new() };

impl NodeId {
    /// Stands for a value that is no node, where only nodes matter: no pickle has as many.
    const NONE: Self = Self(u32::MAX);

    fn of(value: Value) -> Self {
        if let Value::Node(id) = value { id } else { Self::NONE }
    }
}

impl Run {
    pub(super) fn of(self, elements: &[Value]) -> &[Value] {
        let start = self.start as usize;
        elements.get(start..start.saturating_add(self.length as usize)).unwrap_or_default()
    }
}

impl Object {
    pub(super) fn new(callable: Value, arguments: Value) -> Self {
        Self { callable: NodeId::of(callable), arguments: NodeId::of(arguments), contents: u32::MAX }
    }

    /// What would be called: normally a [`Node::Global`]. What has no node is no name either.
    #[must_use]
    pub fn callable(&self) -> Value {
        Value::Node(self.callable)
    }

    /// The arguments, normally a tuple; see [`Pickle::arguments`].
    #[must_use]
    pub fn arguments(&self) -> Value {
        Value::Node(self.arguments)
    }
}

/// A whole pickle: its bytes, its arena, its root.
#[derive(Debug)]
pub struct Pickle {
    pub(super) source: Vec<u8>,
    pub(super) decoded: Vec<u8>,
    pub(super) nodes: Vec<Node>,
    pub(super) elements: Vec<Value>,
    pub(super) contents: Vec<Contents>,
    pub(super) root: Value,
    pub(super) length: usize,
    pub(super) protocol: u8,
    pub(super) tricks: Tricks,
}

/// What no honest pickler writes, and what hides from a list of imports what loading does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tricks {
    /// A name to import is computed at run time.
    pub computed_global: bool,
    /// Something else than an imported name is called: the result of another call.
    pub computed_call: bool,
    /// Attributes of an imported function or class are set.
    pub built_global: bool,
}

/// Bytes that are written out in the pickle.
enum Literal {
    Empty,
    Bytes(Span),
    /// As text, each character one byte.
    Latin1(Span),
}

impl Pickle {
    /// The value on the stack when the pickle stopped.
    #[must_use]
    pub fn root(&self) -> Value {
        self.root
    }

    /// How many bytes the pickle takes, its `STOP` included.
    #[must_use]
    pub fn length(&self) -> usize {
        self.length
    }

    /// The protocol it announces; 0 where it announces none.
    #[must_use]
    pub fn protocol(&self) -> u8 {
        self.protocol
    }

    /// What it does that no honest pickler writes.
    #[must_use]
    pub fn tricks(&self) -> Tricks {
        self.tricks
    }

    /// Every node, in the order the pickle made them.
    pub fn nodes(&self) -> impl Iterator<Item = (NodeId, &Node)> {
        self.nodes.iter().enumerate().map(|(index, node)| (NodeId(u32::try_from(index).unwrap_or(u32::MAX)), node))
    }

    /// The node behind a value, when it has one.
    #[must_use]
    pub fn node(&self, value: Value) -> Option<&Node> {
        match value {
            Value::Node(NodeId(index)) => self.nodes.get(index as usize),
            _ => None,
        }
    }

    /// The bytes of a span.
    #[must_use]
    pub fn span(&self, span: Span) -> &[u8] {
        let start = span.start as usize;
        let (buffer, start) = match start.checked_sub(self.source.len()) {
            Some(start) => (&self.decoded, start),
            None => (&self.source, start),
        };
        buffer.get(start..start.saturating_add(span.length as usize)).unwrap_or_default()
    }

    /// The text of a string value, as far as [`limits::TEXT_BYTES`] go; lone surrogates are replaced.
    ///
    /// The bound keeps a file cheap in which one long text is referred to a million times.
    #[must_use]
    pub fn text(&self, value: Value) -> Option<Cow<'_, str>> {
        match value {
            Value::Text(span) => Some(self.short(span)),
            _ => None,
        }
    }

    fn short(&self, span: Span) -> Cow<'_, str> {
        let bytes = self.span(span);
        let bytes = bytes.get(..limits::TEXT_BYTES).unwrap_or(bytes);
        // Checking text that is whole, as nearly all of it is, is several times faster than repairing it.
        std::str::from_utf8(bytes).map_or_else(|_| String::from_utf8_lossy(bytes), Cow::Borrowed)
    }

    /// Bytes of at most `most`; see [`Self::bytes`].
    #[must_use]
    pub fn bytes_up_to(&self, value: Value, most: u32) -> Option<Cow<'_, [u8]>> {
        // Text of Latin-1 takes up to two bytes for each of its own.
        let span = self.bytes_span(value)?;
        if span.length > most.saturating_mul(2) { None } else { self.bytes(value) }
    }

    /// The span that holds a bytes value, or the text that stands for it: the same for values that are the same object.
    pub(crate) fn bytes_span(&self, value: Value) -> Option<Span> {
        match self.literal(value)? {
            Literal::Bytes(span) | Literal::Latin1(span) => Some(span),
            Literal::Empty => None,
        }
    }

    /// The bytes of a bytes value, also of one that protocol 2 writes as `_codecs.encode(text, "latin1")`.
    ///
    /// `None` where loading could make other bytes than those that are written: another codec, items set later.
    #[must_use]
    pub fn bytes(&self, value: Value) -> Option<Cow<'_, [u8]>> {
        Some(match self.literal(value)? {
            Literal::Empty => Cow::Borrowed(&[]),
            Literal::Bytes(span) => Cow::Borrowed(self.span(span)),
            Literal::Latin1(span) => std::str::from_utf8(self.span(span))
                .ok()?
                .chars()
                .map(|char| u8::try_from(u32::from(char)).ok())
                .collect::<Option<Vec<_>>>()
                .map(Cow::Owned)?,
        })
    }

    fn literal(&self, value: Value) -> Option<Literal> {
        if let Value::Bytes(span) = value {
            return Some(Literal::Bytes(span));
        }
        let (module, name, object) = self.call(value)?;
        let contents = self.contents(object);
        let is_plain = contents.state == Value::None && contents.items.is_empty() && contents.elements.is_empty();
        let arguments = is_plain.then(|| self.arguments(object))?;
        match (&*module, &*name, arguments) {
            ("_codecs", "encode", [Value::Text(text), Value::Text(codec)]) => {
                let is_latin1 = matches!(self.span(*codec), b"latin1" | b"latin-1" | b"iso-8859-1");
                is_latin1.then_some(Literal::Latin1(*text))
            }
            ("builtins" | "__builtin__", "bytes", []) => Some(Literal::Empty),
            ("builtins" | "__builtin__", "bytearray" | "bytes", [Value::Bytes(span)]) => Some(Literal::Bytes(*span)),
            _ => None,
        }
    }

    /// Module and name of a global.
    #[must_use]
    pub fn global(&self, value: Value) -> Option<(Cow<'_, str>, Cow<'_, str>)> {
        match self.node(value)? {
            Node::Global(global) => Some((self.short(global.module), self.short(global.name))),
            _ => None,
        }
    }

    /// Module and name of a global, to be compared with known ones.
    pub(crate) fn global_bytes(&self, value: Value) -> Option<(&[u8], &[u8])> {
        match self.node(value)? {
            Node::Global(global) => Some((self.span(global.module), self.span(global.name))),
            _ => None,
        }
    }

    /// Module, name and the record of the call, when `value` is a call of a plain global.
    ///
    /// `copyreg._reconstructor(cls, …)`, as protocols 0 and 1 write instances, counts as a call of `cls`.
    #[must_use]
    pub fn call(&self, value: Value) -> Option<(Cow<'_, str>, Cow<'_, str>, &Object)> {
        let Some(Node::Object(object)) = self.node(value) else { return None };
        let is_generic = matches!(
            self.global_bytes(object.callable())?,
            (b"copyreg" | b"copy_reg", b"_reconstructor" | b"__newobj__")
        );
        let class = if is_generic { *self.arguments(object).first()? } else { object.callable() };
        let (module, name) = self.global(class)?;
        Some((module, name, object))
    }

    /// The elements of a plain list, tuple or set.
    ///
    /// Arguments are read through this one and never through [`Self::sequence`]: an object among its own
    /// arguments must not lead in a circle.
    #[must_use]
    pub fn elements<'a>(&'a self, node: &'a Node) -> Option<&'a [Value]> {
        match node {
            Node::List(elements) | Node::Set(elements) => Some(elements),
            Node::Tuple(run) => Some(run.of(&self.elements)),
            _ => None,
        }
    }

    /// The arguments of a recorded call.
    #[must_use]
    pub fn arguments(&self, object: &Object) -> &[Value] {
        self.node(object.arguments()).and_then(|arguments| self.elements(arguments)).unwrap_or_default()
    }

    /// What would be put into an object.
    #[must_use]
    pub fn contents(&self, object: &Object) -> &Contents {
        self.contents.get(object.contents as usize).unwrap_or(&NO_CONTENTS)
    }

    /// The elements of a list, tuple or set, also of their subclasses.
    #[must_use]
    pub fn sequence(&self, value: Value) -> Option<&[Value]> {
        match self.node(value)? {
            Node::Object(object) => {
                let (_, name, _) = self.call(value)?;
                match &*name {
                    "Size" | "set" | "frozenset" | "list" | "tuple" => {
                        self.elements(self.node(*self.arguments(object).first()?)?)
                    }
                    "deque" => Some(&self.contents(object).elements),
                    _ => None,
                }
            }
            node => self.elements(node),
        }
    }

    /// The items of a dict or of a mapping such as `OrderedDict`, `defaultdict`, `Counter`.
    #[must_use]
    pub fn items(&self, value: Value) -> Option<Cow<'_, [(Value, Value)]>> {
        match self.node(value)? {
            Node::Dict(items) => Some(Cow::Borrowed(items)),
            Node::Object(object) => {
                let items = &self.contents(object).items;
                if !items.is_empty() {
                    return Some(Cow::Borrowed(items));
                }
                let (_, name, _) = self.call(value)?;
                matches!(&*name, "OrderedDict" | "defaultdict" | "Counter" | "dict").then_some(Cow::Borrowed(&[]))
            }
            _ => None,
        }
    }

    /// The attributes of an instance, as `BUILD` would set them.
    #[must_use]
    pub fn attributes(&self, value: Value) -> Option<&[(Value, Value)]> {
        let Some(Node::Object(object)) = self.node(value) else { return None };
        match self.node(self.contents(object).state)? {
            Node::Dict(items) => Some(items),
            // `(dict, slots)`: the pair that copyreg writes for classes with `__slots__`.
            Node::Tuple(pair) => pair.of(&self.elements).iter().rev().find_map(|part| match self.node(*part) {
                Some(Node::Dict(items)) => Some(items.as_slice()),
                _ => None,
            }),
            _ => None,
        }
    }

    /// Items of a mapping, or attributes of an instance.
    #[must_use]
    pub fn fields(&self, value: Value) -> Option<Cow<'_, [(Value, Value)]>> {
        self.items(value).or_else(|| self.attributes(value).map(Cow::Borrowed))
    }

    /// The value under a string key; of several, the last, as in Python.
    #[must_use]
    pub fn get(&self, value: Value, key: &str) -> Option<Value> {
        let is_key = |name: Value| matches!(name, Value::Text(span) if self.span(span) == key.as_bytes());
        self.fields(value)?.iter().rev().find(|(name, _)| is_key(*name)).map(|(_, value)| *value)
    }

    /// A key as text: strings as they are, integers in decimal.
    #[must_use]
    pub fn key(&self, value: Value) -> Option<Cow<'_, str>> {
        match value {
            Value::Int(number) => Some(Cow::Owned(number.to_string())),
            Value::Bool(flag) => Some(Cow::Borrowed(if flag { "True" } else { "False" })),
            _ => self.text(value),
        }
    }

    /// Every global of the pickle as (module, name), in the order of the file, often more than once. Names are cut at
    /// [`limits::TEXT_BYTES`].
    pub fn imports(&self) -> impl Iterator<Item = (Cow<'_, str>, Cow<'_, str>)> {
        let mut seen = HashSet::new();
        self.nodes.iter().filter_map(move |node| match node {
            Node::Global(global) => {
                let Global { module, name } = **global;
                seen.insert((module, name)).then(|| (self.short(module), self.short(name)))
            }
            _ => None,
        })
    }

    /// Every global of the pickle, once each, as (module, name).
    #[must_use]
    pub fn globals(&self) -> BTreeSet<(String, String)> {
        self.imports().map(|(module, name)| (module.into_owned(), name.into_owned())).collect()
    }
}
