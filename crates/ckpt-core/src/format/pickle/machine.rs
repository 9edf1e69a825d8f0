//! The state of the pickle machine and its bounds.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::collections::BTreeMap;

use super::value::{Contents, Global, NO_CONTENTS, Node, NodeId, Object, Run, Span, Tricks, Value};
use super::vm::PickleProblem;
use crate::limits;
use crate::read::Cursor;

/// What the opcodes work on: a stack with marks, a memo, the arena that becomes the [`Pickle`](super::Pickle).
pub(super) struct Machine {
    pub(super) decoded: Vec<u8>,
    pub(super) base: usize,
    pub(super) nodes: Vec<Node>,
    /// The elements of all tuples.
    pub(super) elements: Vec<Value>,
    pub(super) contents: Vec<Contents>,
    pub(super) stack: Vec<Value>,
    pub(super) marks: Vec<usize>,
    pub(super) memo: Vec<Value>,
    pub(super) sparse_memo: BTreeMap<u32, Value>,
    pub(super) values: usize,
    pub(super) protocol: u8,
    pub(super) tricks: Tricks,
    objects: usize,
}

pub(super) type Step<T> = Result<T, PickleProblem>;

/// Bytes of a pickle for each node, each memo slot and each element of a tuple, in a state of tensors.
const BYTES_PER_VALUE: usize = 8;
/// Most bytes of a pickle for which room is made before it is read.
const FORESEEN_BYTES: usize = 1 << 20;

/// `None` from the cursor means that the bytes ended.
pub(super) fn need<T>(value: Option<T>) -> Step<T> {
    value.ok_or(PickleProblem::Truncated)
}

pub(super) fn size(value: impl TryInto<usize>) -> Step<usize> {
    value.try_into().map_err(|_| PickleProblem::TooLarge)
}

fn narrow(value: usize) -> Step<u32> {
    u32::try_from(value).map_err(|_| PickleProblem::TooLarge)
}

pub(super) fn node_mut<'n>(nodes: &'n mut [Node], value: Option<&Value>) -> Step<&'n mut Node> {
    match value {
        Some(Value::Node(NodeId(index))) => nodes.get_mut(*index as usize).ok_or(PickleProblem::BadStack),
        _ => Err(PickleProblem::BadStack),
    }
}

/// What is put into an object, from the first time on.
pub(super) fn contents_mut<'c>(all: &'c mut Vec<Contents>, object: &mut Object) -> Step<&'c mut Contents> {
    if object.contents as usize >= all.len() {
        object.contents = narrow(all.len())?;
        all.push(NO_CONTENTS.clone());
    }
    all.get_mut(object.contents as usize).ok_or(PickleProblem::TooLarge)
}

/// Keys and values that take turns.
pub(super) fn pairs(values: &[Value]) -> Step<impl ExactSizeIterator<Item = (Value, Value)>> {
    match values.as_chunks::<2>() {
        (pairs, []) => Ok(pairs.iter().map(|[key, value]| (*key, *value))),
        _ => Err(PickleProblem::BadStack),
    }
}

impl Machine {
    /// A machine for a pickle of `base` bytes: spans from there on lie in what is decoded.
    pub(super) fn new(base: usize) -> Self {
        let expected = base.min(FORESEEN_BYTES) / BYTES_PER_VALUE;
        Self {
            decoded: Vec::new(),
            base,
            nodes: Vec::with_capacity(expected),
            elements: Vec::with_capacity(expected),
            contents: Vec::new(),
            stack: Vec::new(),
            marks: Vec::new(),
            memo: Vec::with_capacity(expected),
            sparse_memo: BTreeMap::new(),
            values: 0,
            protocol: 0,
            tricks: Tricks::default(),
            objects: 0,
        }
    }

    /// Whether containers hold too many values. One opcode may put any number into them.
    pub(super) fn holds_too_many(&self) -> bool {
        self.values > limits::PICKLE_VALUES
    }

    /// Whether there is too much of anything else.
    pub(super) fn is_too_large(&self) -> bool {
        self.nodes.len() > limits::PICKLE_NODES
            || self.stack.len() > limits::PICKLE_STACK
            || self.memo.len() > limits::PICKLE_MEMO
            || self.sparse_memo.len() > limits::PICKLE_MARKS
            || self.marks.len() > limits::PICKLE_MARKS
            || self.objects > limits::PICKLE_OBJECTS
    }

    pub(super) fn push(&mut self, value: Value) {
        self.stack.push(value);
    }

    pub(super) fn pop(&mut self) -> Step<Value> {
        if self.marks.last().is_some_and(|&mark| mark >= self.stack.len()) {
            return Err(PickleProblem::BadStack);
        }
        self.stack.pop().ok_or(PickleProblem::BadStack)
    }

    pub(super) fn top(&self) -> Step<Value> {
        self.stack.last().copied().ok_or(PickleProblem::BadStack)
    }

    /// Where the last mark was set; what stands on the stack from there on is taken by whoever asks.
    pub(super) fn pop_mark(&mut self) -> Step<usize> {
        let mark = self.marks.pop().ok_or(PickleProblem::BadStack)?;
        let count = self.stack.len().checked_sub(mark).ok_or(PickleProblem::BadStack)?;
        self.values = self.values.saturating_add(count);
        Ok(mark)
    }

    /// Where the last `count` values of the stack start. No mark stands among them.
    pub(super) fn last(&self, count: usize) -> Step<usize> {
        let start = self.stack.len().checked_sub(count).ok_or(PickleProblem::BadStack)?;
        if self.marks.last().is_some_and(|&mark| mark > start) { Err(PickleProblem::BadStack) } else { Ok(start) }
    }

    /// A tuple of what stands on the stack from `start` on.
    pub(super) fn tuple(&mut self, start: usize) -> Step<Node> {
        let values = self.stack.get(start..).ok_or(PickleProblem::BadStack)?;
        let run = Run { start: narrow(self.elements.len())?, length: narrow(values.len())? };
        self.elements.extend_from_slice(values);
        self.stack.truncate(start);
        Ok(Node::Tuple(run))
    }

    /// Appends what stands on the stack from `start` on to what stands below it.
    pub(super) fn extend(&mut self, start: usize) -> Step<()> {
        self.values = self.values.saturating_add(1);
        let (below, new) = self.stack.split_at_checked(start).ok_or(PickleProblem::BadStack)?;
        match node_mut(&mut self.nodes, below.last())? {
            Node::List(elements) | Node::Set(elements) => elements.extend_from_slice(new),
            Node::Object(object) => contents_mut(&mut self.contents, object)?.elements.extend_from_slice(new),
            _ => return Err(PickleProblem::BadStack),
        }
        self.stack.truncate(start);
        Ok(())
    }

    /// Sets the keys and values from `start` on in the mapping below them.
    pub(super) fn update(&mut self, start: usize) -> Step<()> {
        self.values = self.values.saturating_add(2);
        let (below, new) = self.stack.split_at_checked(start).ok_or(PickleProblem::BadStack)?;
        let new = pairs(new)?;
        match node_mut(&mut self.nodes, below.last())? {
            Node::Dict(items) => items.extend(new),
            Node::Object(object) => contents_mut(&mut self.contents, object)?.items.extend(new),
            _ => return Err(PickleProblem::BadStack),
        }
        self.stack.truncate(start);
        Ok(())
    }

    pub(super) fn add(&mut self, node: Node) -> Step<Value> {
        let id = narrow(self.nodes.len())?;
        self.nodes.push(node);
        Ok(Value::Node(NodeId(id)))
    }

    pub(super) fn push_node(&mut self, node: Node) -> Step<()> {
        let value = self.add(node)?;
        self.push(value);
        Ok(())
    }

    pub(super) fn span(start: usize, length: usize) -> Step<Span> {
        Ok(Span { start: narrow(start)?, length: narrow(length)? })
    }

    /// A span over the next `length` bytes of the input, which are skipped.
    pub(super) fn take(cursor: &mut Cursor<'_>, length: usize) -> Step<Span> {
        let start = cursor.position();
        need(cursor.take(length))?;
        Self::span(start, length)
    }

    pub(super) fn line(cursor: &mut Cursor<'_>) -> Step<Span> {
        let start = cursor.position();
        let line = need(cursor.line())?;
        Self::span(start, line.len())
    }

    /// A line that is to be decoded, which takes up to twice its bytes.
    pub(super) fn short_line<'s>(cursor: &mut Cursor<'s>) -> Step<&'s [u8]> {
        let line = need(cursor.line())?;
        if line.len() > limits::PICKLE_DECODED_BYTES { Err(PickleProblem::TooLarge) } else { Ok(line) }
    }

    pub(super) fn decode(&mut self, bytes: &[u8]) -> Step<Span> {
        let start = self.base.saturating_add(self.decoded.len());
        if self.decoded.len().saturating_add(bytes.len()) > limits::PICKLE_DECODED_BYTES {
            return Err(PickleProblem::TooLarge);
        }
        self.decoded.extend_from_slice(bytes);
        Self::span(start, bytes.len())
    }

    /// The slot that `MEMOIZE` fills: as many as are filled already, those out of order included, as in CPython. Any other
    /// count would let a file show one name here and another one to Python.
    pub(super) fn next_memo(&self) -> Step<u32> {
        let filled = self.memo.len().saturating_add(self.sparse_memo.len());
        u32::try_from(filled).map_err(|_| PickleProblem::TooLarge)
    }

    /// Slots out of order lie beyond the end of `memo`; those that it reaches move there.
    pub(super) fn remember(&mut self, index: u32) -> Step<()> {
        let value = self.top()?;
        if let Some(slot) = self.memo.get_mut(index as usize) {
            *slot = value;
        } else if index as usize == self.memo.len() {
            self.memo.push(value);
            while let Some(next) = u32::try_from(self.memo.len()).ok().and_then(|next| self.sparse_memo.remove(&next)) {
                self.memo.push(next);
            }
        } else {
            self.sparse_memo.insert(index, value);
        }
        Ok(())
    }

    pub(super) fn recall(&mut self, index: u32) -> Step<()> {
        let value = self.memo.get(index as usize).or_else(|| self.sparse_memo.get(&index)).copied();
        self.push(value.ok_or(PickleProblem::BadMemo)?);
        Ok(())
    }

    pub(super) fn object(&mut self, callable: Value, arguments: Value, source: &[u8]) -> Step<()> {
        let name = self.name_of(callable, source);
        let is_unnamed = self.calls_unnamed(name, arguments);
        let items = self.items_of(name.unwrap_or_default(), arguments);
        self.tricks.computed_call |= is_unnamed;
        self.values = self.values.saturating_add(items.len().saturating_mul(2));
        self.objects = self.objects.saturating_add(1);
        let mut object = Object::new(callable, arguments);
        if !items.is_empty() {
            contents_mut(&mut self.contents, &mut object)?.items = items;
        }
        self.push_node(Node::Object(object))
    }

    fn node(&self, value: Value) -> Option<&Node> {
        match value {
            Value::Node(NodeId(index)) => self.nodes.get(index as usize),
            _ => None,
        }
    }

    /// An imported name, also one in the tuple of a persistent id: old PyTorch writes `("module", class, file, source)`.
    fn imported(&self, value: Value) -> Option<&Global> {
        let node = match self.node(value)? {
            Node::Persistent(id) => match self.node(*id)? {
                Node::Tuple(id) => self.node(*id.of(&self.elements).get(1)?)?,
                _ => return None,
            },
            node => node,
        };
        if let Node::Global(global) = node { Some(global) } else { None }
    }

    fn name_of<'s>(&'s self, callable: Value, source: &'s [u8]) -> Option<&'s [u8]> {
        let name = self.imported(callable)?.name;
        let (buffer, start) = match (name.start as usize).checked_sub(self.base) {
            Some(start) => (self.decoded.as_slice(), start),
            None => (source, name.start as usize),
        };
        buffer.get(start..start.saturating_add(name.length as usize))
    }

    /// Whether what is called is anything but an imported name: the result of another call, for one. Some imported names
    /// call their first argument.
    fn calls_unnamed(&self, name: Option<&[u8]>, arguments: Value) -> bool {
        let Some(name) = name else { return true };
        if !matches!(
            name,
            b"_rebuild_from_type_v2" | b"_rebuild_from_type" | b"_reconstructor" | b"__newobj__" | b"defaultdict"
        ) {
            return false;
        }
        let Some(Node::Tuple(arguments)) = self.node(arguments) else { return true };
        match arguments.of(&self.elements).first() {
            None | Some(Value::None) => false,
            Some(first) => self.imported(*first).is_none(),
        }
    }

    /// What a mapping is born with: `OrderedDict([[key, value], …])`, as Python 2 wrote it, and `Counter({…})`.
    fn items_of(&self, name: &[u8], arguments: Value) -> Vec<(Value, Value)> {
        let node = |value: Value| self.node(value);
        if !matches!(name, b"OrderedDict" | b"Counter" | b"dict") {
            return Vec::new();
        }
        let Some(Node::Tuple(arguments)) = node(arguments) else { return Vec::new() };
        match arguments.of(&self.elements).first().and_then(|first| node(*first)) {
            Some(Node::Dict(items)) => items.to_vec(),
            Some(Node::List(pairs)) => pairs
                .iter()
                .filter_map(|pair| {
                    let pair = match node(*pair)? {
                        Node::List(pair) => pair.as_slice(),
                        Node::Tuple(pair) => pair.of(&self.elements),
                        _ => return None,
                    };
                    Some((*pair.first()?, *pair.get(1)?))
                })
                .collect(),
            _ => Vec::new(),
        }
    }
}
