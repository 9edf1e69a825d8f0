#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::collections::BTreeMap;
use std::fmt;

use super::value::{Node, NodeId, Object, Pickle, Span, Value};
use crate::limits;
use crate::read::Cursor;

/// Why a pickle could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PickleProblem {
    /// The bytes end before its `STOP`.
    Truncated,
    /// A byte that is no opcode.
    UnknownOpcode(u8),
    /// An opcode finds fewer or other values than it needs.
    BadStack,
    /// A memo entry is read that was never written.
    BadMemo,
    /// An argument is not what its opcode demands.
    BadArgument,
    /// A bound of [`crate::limits`] is passed.
    TooLarge,
    /// An opcode that no checkpoint needs: the extension registry, out-of-band buffers.
    Refused(u8),
}

/// Why and where a pickle could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PickleError {
    /// What is wrong.
    pub problem: PickleProblem,
    /// Offset of the opcode, in bytes from the pickle's start.
    pub offset: usize,
}

impl fmt::Display for PickleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.problem {
            PickleProblem::Truncated => write!(f, "the pickle ends before its end mark, after {} bytes", self.offset),
            PickleProblem::UnknownOpcode(byte) => write!(f, "byte 0x{byte:02x} at {} is no pickle opcode", self.offset),
            PickleProblem::BadStack => write!(f, "the pickle opcode at {} finds no values to work on", self.offset),
            PickleProblem::BadMemo => write!(f, "the pickle reads an empty memo slot at {}", self.offset),
            PickleProblem::BadArgument => write!(f, "the pickle opcode at {} has a malformed argument", self.offset),
            PickleProblem::TooLarge => write!(f, "the pickle passes the size limits at {}", self.offset),
            PickleProblem::Refused(byte) => write!(f, "pickle opcode 0x{byte:02x} at {} is refused", self.offset),
        }
    }
}

impl std::error::Error for PickleError {}

/// Reads the pickle at the start of `source`; bytes after its `STOP` are ignored.
///
/// # Errors
/// [`PickleProblem::Truncated`] when `source` ends first; anything else means that no longer input would help.
pub fn read(source: Vec<u8>) -> Result<Pickle, PickleError> {
    let mut machine = Machine {
        decoded: Vec::new(),
        base: source.len(),
        nodes: Vec::new(),
        stack: Vec::new(),
        marks: Vec::new(),
        memo: Vec::new(),
        sparse_memo: BTreeMap::new(),
        values: 0,
        protocol: 0,
        computed_global: false,
    };
    let mut cursor = Cursor::new(&source);
    let root = loop {
        let offset = cursor.position();
        let fail = |problem| PickleError { problem, offset };
        let opcode = cursor.u8().ok_or_else(|| fail(PickleProblem::Truncated))?;
        match machine.step(opcode, &mut cursor).map_err(fail)? {
            Some(root) => break root,
            None if machine.values > limits::PICKLE_VALUES || machine.nodes.len() > limits::PICKLE_NODES => {
                return Err(fail(PickleProblem::TooLarge));
            }
            None => {}
        }
    };
    let length = cursor.position();
    let Machine { decoded, nodes, protocol, computed_global, .. } = machine;
    Ok(Pickle { source, decoded, nodes, root, length, protocol, computed_global })
}

struct Machine {
    decoded: Vec<u8>,
    base: usize,
    nodes: Vec<Node>,
    stack: Vec<Value>,
    marks: Vec<usize>,
    memo: Vec<Value>,
    sparse_memo: BTreeMap<u32, Value>,
    values: usize,
    protocol: u8,
    computed_global: bool,
}

type Step<T> = Result<T, PickleProblem>;

/// `None` from the cursor means that the bytes ended.
fn need<T>(value: Option<T>) -> Step<T> {
    value.ok_or(PickleProblem::Truncated)
}

fn size(value: impl TryInto<usize>) -> Step<usize> {
    value.try_into().map_err(|_| PickleProblem::TooLarge)
}

impl Machine {
    fn push(&mut self, value: Value) {
        self.stack.push(value);
    }

    fn pop(&mut self) -> Step<Value> {
        if self.marks.last().is_some_and(|&mark| mark >= self.stack.len()) {
            return Err(PickleProblem::BadStack);
        }
        self.stack.pop().ok_or(PickleProblem::BadStack)
    }

    fn top(&self) -> Step<Value> {
        self.stack.last().copied().ok_or(PickleProblem::BadStack)
    }

    fn pop_mark(&mut self) -> Step<Vec<Value>> {
        let mark = self.marks.pop().ok_or(PickleProblem::BadStack)?;
        if mark > self.stack.len() {
            return Err(PickleProblem::BadStack);
        }
        let values = self.stack.split_off(mark);
        self.values = self.values.saturating_add(values.len());
        Ok(values)
    }

    fn pop_pairs(&mut self) -> Step<Vec<(Value, Value)>> {
        let values = self.pop_mark()?;
        let (pairs, rest) = values.as_chunks::<2>();
        if !rest.is_empty() {
            return Err(PickleProblem::BadStack);
        }
        Ok(pairs.iter().map(|[key, value]| (*key, *value)).collect())
    }

    fn add(&mut self, node: Node) -> Step<Value> {
        let id = u32::try_from(self.nodes.len()).map_err(|_| PickleProblem::TooLarge)?;
        self.nodes.push(node);
        Ok(Value::Node(NodeId(id)))
    }

    fn push_node(&mut self, node: Node) -> Step<()> {
        let value = self.add(node)?;
        self.push(value);
        Ok(())
    }

    fn node_mut(&mut self, value: Value) -> Step<&mut Node> {
        match value {
            Value::Node(NodeId(index)) => self.nodes.get_mut(index as usize).ok_or(PickleProblem::BadStack),
            _ => Err(PickleProblem::BadStack),
        }
    }

    fn span(start: usize, length: usize) -> Step<Span> {
        let narrow = |value: usize| u32::try_from(value).map_err(|_| PickleProblem::TooLarge);
        Ok(Span { start: narrow(start)?, length: narrow(length)? })
    }

    /// A span over the next `length` bytes of the input, which are skipped.
    fn take(cursor: &mut Cursor<'_>, length: usize) -> Step<Span> {
        let start = cursor.position();
        need(cursor.take(length))?;
        Self::span(start, length)
    }

    fn line(cursor: &mut Cursor<'_>) -> Step<Span> {
        let start = cursor.position();
        let line = need(cursor.line())?;
        Self::span(start, line.len())
    }

    fn decode(&mut self, bytes: &[u8]) -> Step<Span> {
        let start = self.base.saturating_add(self.decoded.len());
        self.decoded.extend_from_slice(bytes);
        Self::span(start, bytes.len())
    }

    fn remember(&mut self, index: u32) -> Step<()> {
        let value = self.top()?;
        if let Some(slot) = self.memo.get_mut(index as usize) {
            *slot = value;
        } else if index as usize == self.memo.len() {
            self.memo.push(value);
        } else {
            self.sparse_memo.insert(index, value);
        }
        Ok(())
    }

    fn recall(&mut self, index: u32) -> Step<()> {
        let value = self.memo.get(index as usize).or_else(|| self.sparse_memo.get(&index)).copied();
        self.push(value.ok_or(PickleProblem::BadMemo)?);
        Ok(())
    }

    fn object(&mut self, callable: Value, arguments: Value) -> Step<()> {
        self.values = self.values.saturating_add(4);
        self.push_node(Node::Object(Box::new(Object {
            callable,
            arguments,
            state: Value::None,
            items: Vec::new(),
            elements: Vec::new(),
        })))
    }

    /// One opcode; the root when it was `STOP`.
    fn step(&mut self, opcode: u8, cursor: &mut Cursor<'_>) -> Step<Option<Value>> {
        match opcode {
            b'.' => return self.pop().map(Some),
            0x80 => self.protocol = need(cursor.u8())?,
            0x95 => {
                // FRAME only announces; what it frames is read as it comes.
                need(cursor.u64())?;
            }
            b'(' => self.marks.push(self.stack.len()),
            b'0' => {
                if self.marks.last() == Some(&self.stack.len()) {
                    self.marks.pop();
                } else {
                    self.pop()?;
                }
            }
            b'1' => {
                self.pop_mark()?;
            }
            b'2' => self.push(self.top()?),
            b'p' | b'q' | b'r' | 0x94 | b'g' | b'h' | b'j' => self.memo_step(opcode, cursor)?,
            b'N' => self.push(Value::None),
            0x88 => self.push(Value::Bool(true)),
            0x89 => self.push(Value::Bool(false)),
            b'I' | b'J' | b'K' | b'M' | b'L' | 0x8a | 0x8b | b'F' | b'G' => self.number_step(opcode, cursor)?,
            b'S' | b'T' | b'U' | b'V' | b'X' | 0x8c | 0x8d | b'B' | b'C' | 0x8e | 0x96 => {
                self.text_step(opcode, cursor)?;
            }
            b']' | b'l' | b'}' | b'd' | b')' | b't' | 0x85 | 0x86 | 0x87 | 0x8f | 0x91 => {
                self.container_step(opcode)?;
            }
            b'a' | b'e' | b's' | b'u' | 0x90 => self.fill_step(opcode)?,
            b'c' | 0x93 | b'i' | b'o' | b'R' | 0x81 | 0x92 | b'b' | b'P' | b'Q' => self.object_step(opcode, cursor)?,
            0x82 | 0x83 | 0x84 | 0x97 | 0x98 => return Err(PickleProblem::Refused(opcode)),
            _ => return Err(PickleProblem::UnknownOpcode(opcode)),
        }
        Ok(None)
    }

    fn memo_step(&mut self, opcode: u8, cursor: &mut Cursor<'_>) -> Step<()> {
        let index = match opcode {
            b'q' | b'h' => u32::from(need(cursor.u8())?),
            b'r' | b'j' => need(cursor.u32())?,
            0x94 => u32::try_from(self.memo.len()).map_err(|_| PickleProblem::TooLarge)?,
            _ => decimal(need(cursor.line())?).ok_or(PickleProblem::BadArgument)?,
        };
        match opcode {
            b'p' | b'q' | b'r' | 0x94 => self.remember(index),
            _ => self.recall(index),
        }
    }

    fn number_step(&mut self, opcode: u8, cursor: &mut Cursor<'_>) -> Step<()> {
        let value = match opcode {
            b'J' => Value::Int(i64::from(need(cursor.array().map(i32::from_le_bytes))?)),
            b'K' => Value::Int(i64::from(need(cursor.u8())?)),
            b'M' => Value::Int(i64::from(need(cursor.u16())?)),
            b'G' => Value::Float(need(cursor.array().map(f64::from_be_bytes))?),
            b'F' => Value::Float(decimal(need(cursor.line())?).ok_or(PickleProblem::BadArgument)?),
            b'I' => match need(cursor.line())? {
                b"00" => Value::Bool(false),
                b"01" => Value::Bool(true),
                line => Value::Int(decimal(line).ok_or(PickleProblem::BadArgument)?),
            },
            b'L' => {
                let line = need(cursor.line())?;
                let digits = line.strip_suffix(b"L").unwrap_or(line);
                match decimal::<i64>(digits) {
                    Some(number) => Value::Int(number),
                    None => self.add(Node::BigInt(decimal(digits).ok_or(PickleProblem::BadArgument)?))?,
                }
            }
            _ => {
                let length = if opcode == 0x8a { usize::from(need(cursor.u8())?) } else { size(need(cursor.u32())?)? };
                self.long(need(cursor.take(length))?)?
            }
        };
        self.push(value);
        Ok(())
    }

    /// A little-endian two's complement integer of any length.
    fn long(&mut self, bytes: &[u8]) -> Step<Value> {
        let negative = bytes.last().is_some_and(|byte| byte & 0x80 != 0);
        if bytes.len() <= 8 {
            let mut wide = [if negative { 0xff } else { 0 }; 8];
            for (to, from) in wide.iter_mut().zip(bytes) {
                *to = *from;
            }
            return Ok(Value::Int(i64::from_le_bytes(wide)));
        }
        if bytes.len() <= 16 {
            let mut wide = [if negative { 0xff } else { 0 }; 16];
            for (to, from) in wide.iter_mut().zip(bytes) {
                *to = *from;
            }
            #[expect(clippy::cast_precision_loss, reason = "the nearest float is what the node is for")]
            return self.add(Node::BigInt(i128::from_le_bytes(wide) as f64));
        }
        let magnitude = bytes
            .iter()
            .rev()
            .fold(0.0_f64, |sum, &byte| sum.mul_add(256.0, f64::from(if negative { !byte } else { byte })));
        self.add(Node::BigInt(if negative { -magnitude } else { magnitude }))
    }

    fn text_step(&mut self, opcode: u8, cursor: &mut Cursor<'_>) -> Step<()> {
        let value = match opcode {
            b'X' => {
                let length = size(need(cursor.u32())?)?;
                Value::Text(Self::take(cursor, length)?)
            }
            0x8c => {
                let length = usize::from(need(cursor.u8())?);
                Value::Text(Self::take(cursor, length)?)
            }
            0x8d => {
                let length = size(need(cursor.u64())?)?;
                Value::Text(Self::take(cursor, length)?)
            }
            // Python 2 `str`: text to whoever reads checkpoints.
            b'U' => {
                let length = usize::from(need(cursor.u8())?);
                Value::Text(Self::take(cursor, length)?)
            }
            b'T' => {
                let length = size(need(cursor.u32())?)?;
                Value::Text(Self::take(cursor, length)?)
            }
            b'C' => {
                let length = usize::from(need(cursor.u8())?);
                Value::Bytes(Self::take(cursor, length)?)
            }
            b'B' => {
                let length = size(need(cursor.u32())?)?;
                Value::Bytes(Self::take(cursor, length)?)
            }
            0x8e | 0x96 => {
                let length = size(need(cursor.u64())?)?;
                Value::Bytes(Self::take(cursor, length)?)
            }
            b'V' => {
                let line = need(cursor.line())?;
                let text = unescape_unicode(line);
                Value::Text(self.decode(text.as_bytes())?)
            }
            _ => {
                let line = need(cursor.line())?;
                let text = unescape_string(line).ok_or(PickleProblem::BadArgument)?;
                Value::Text(self.decode(&text)?)
            }
        };
        self.push(value);
        Ok(())
    }

    fn container_step(&mut self, opcode: u8) -> Step<()> {
        let node = match opcode {
            b']' => Node::List(Vec::new()),
            b'}' => Node::Dict(Vec::new()),
            b')' => Node::Tuple(Vec::new()),
            0x8f => Node::Set(Vec::new()),
            b'l' => Node::List(self.pop_mark()?),
            b't' => Node::Tuple(self.pop_mark()?),
            b'd' => Node::Dict(self.pop_pairs()?),
            0x91 => Node::Set(self.pop_mark()?),
            _ => {
                let count = usize::from(opcode.saturating_sub(0x84));
                let mut elements = Vec::with_capacity(count);
                for _ in 0..count {
                    elements.push(self.pop()?);
                }
                elements.reverse();
                self.values = self.values.saturating_add(count);
                Node::Tuple(elements)
            }
        };
        self.push_node(node)
    }

    fn fill_step(&mut self, opcode: u8) -> Step<()> {
        match opcode {
            b'a' => {
                let value = self.pop()?;
                self.extend(vec![value])
            }
            b'e' | 0x90 => {
                let values = self.pop_mark()?;
                self.extend(values)
            }
            b's' => {
                let value = self.pop()?;
                let key = self.pop()?;
                self.update(vec![(key, value)])
            }
            _ => {
                let pairs = self.pop_pairs()?;
                self.update(pairs)
            }
        }
    }

    fn extend(&mut self, mut new: Vec<Value>) -> Step<()> {
        self.values = self.values.saturating_add(1);
        match self.node_mut(self.top()?)? {
            Node::List(elements) | Node::Set(elements) => elements.append(&mut new),
            Node::Object(object) => object.elements.append(&mut new),
            _ => return Err(PickleProblem::BadStack),
        }
        Ok(())
    }

    fn update(&mut self, mut new: Vec<(Value, Value)>) -> Step<()> {
        self.values = self.values.saturating_add(2);
        match self.node_mut(self.top()?)? {
            Node::Dict(items) => items.append(&mut new),
            Node::Object(object) => object.items.append(&mut new),
            _ => return Err(PickleProblem::BadStack),
        }
        Ok(())
    }

    fn object_step(&mut self, opcode: u8, cursor: &mut Cursor<'_>) -> Step<()> {
        match opcode {
            b'c' => {
                let (module, name) = (Self::line(cursor)?, Self::line(cursor)?);
                self.push_node(Node::Global { module, name })
            }
            0x93 => {
                let (name, module) = (self.pop()?, self.pop()?);
                if let (Value::Text(module), Value::Text(name)) = (module, name) {
                    self.push_node(Node::Global { module, name })
                } else {
                    self.computed_global = true;
                    let empty = Span { start: 0, length: 0 };
                    self.push_node(Node::Global { module: empty, name: empty })
                }
            }
            b'i' => {
                let (module, name) = (Self::line(cursor)?, Self::line(cursor)?);
                let class = self.add(Node::Global { module, name })?;
                let arguments = self.pop_mark()?;
                let arguments = self.add(Node::Tuple(arguments))?;
                self.object(class, arguments)
            }
            b'o' => {
                let mut values = self.pop_mark()?;
                if values.is_empty() {
                    return Err(PickleProblem::BadStack);
                }
                let class = values.remove(0);
                let arguments = self.add(Node::Tuple(values))?;
                self.object(class, arguments)
            }
            b'R' | 0x81 => {
                let (arguments, callable) = (self.pop()?, self.pop()?);
                self.object(callable, arguments)
            }
            0x92 => {
                let (keywords, arguments, class) = (self.pop()?, self.pop()?, self.pop()?);
                self.object(class, arguments)?;
                match self.node_mut(keywords) {
                    Ok(Node::Dict(items)) if items.is_empty() => Ok(()),
                    _ => self.build(keywords),
                }
            }
            b'b' => {
                let state = self.pop()?;
                self.build(state)
            }
            b'P' => {
                let line = Self::line(cursor)?;
                self.push_node(Node::Persistent(Value::Text(line)))
            }
            _ => {
                let id = self.pop()?;
                self.push_node(Node::Persistent(id))
            }
        }
    }

    fn build(&mut self, state: Value) -> Step<()> {
        match self.node_mut(self.top()?)? {
            Node::Object(object) => object.state = state,
            // Python would call `__setstate__` or update `__dict__`; neither changes what a plain container holds.
            Node::Global { .. } | Node::Persistent(_) | Node::Dict(_) | Node::List(_) | Node::Set(_) => {}
            Node::Tuple(_) | Node::BigInt(_) => return Err(PickleProblem::BadStack),
        }
        Ok(())
    }
}

fn decimal<T: std::str::FromStr>(line: &[u8]) -> Option<T> {
    std::str::from_utf8(line).ok()?.trim().parse().ok()
}

/// Python's `raw-unicode-escape`: `\uXXXX` and `\UXXXXXXXX`, the other bytes Latin-1.
fn unescape_unicode(line: &[u8]) -> String {
    let mut text = String::with_capacity(line.len());
    let mut rest = line;
    while let Some((&byte, after)) = rest.split_first() {
        let width = match (byte, after.first()) {
            (b'\\', Some(b'u')) => 4,
            (b'\\', Some(b'U')) => 8,
            _ => 0,
        };
        let escaped = (width > 0).then(|| hexadecimal(after.get(1..)?, width)).flatten();
        if let Some(char) = escaped {
            text.push(char::from_u32(char).unwrap_or(char::REPLACEMENT_CHARACTER));
            rest = after.get(width.saturating_add(1)..).unwrap_or_default();
        } else {
            text.push(char::from(byte));
            rest = after;
        }
    }
    text
}

fn hexadecimal(bytes: &[u8], width: usize) -> Option<u32> {
    u32::from_str_radix(std::str::from_utf8(bytes.get(..width)?).ok()?, 16).ok()
}

/// A quoted Python 2 string literal.
fn unescape_string(line: &[u8]) -> Option<Vec<u8>> {
    let quote = *line.first()?;
    let inner = line.strip_prefix(&[quote])?.strip_suffix(&[quote])?;
    if quote != b'\'' && quote != b'"' {
        return None;
    }
    let mut text = Vec::with_capacity(inner.len());
    let mut rest = inner;
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte != b'\\' {
            text.push(byte);
            continue;
        }
        let (&escape, after) = rest.split_first()?;
        rest = after;
        match escape {
            b'n' => text.push(b'\n'),
            b't' => text.push(b'\t'),
            b'r' => text.push(b'\r'),
            b'x' => {
                text.push(u8::try_from(hexadecimal(rest, 2)?).ok()?);
                rest = rest.get(2..)?;
            }
            b'\\' | b'\'' | b'"' => text.push(escape),
            other => text.extend([b'\\', other]),
        }
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn problem(bytes: &[u8]) -> PickleProblem {
        read(bytes.to_vec()).unwrap_err().problem
    }

    #[test]
    fn a_call_is_recorded_and_not_made() {
        let pickle = read(b"cos\nsystem\n(S'touch /tmp/never'\ntR.".to_vec()).unwrap();
        let (module, name, object) = pickle.call(pickle.root()).unwrap();
        assert_eq!((&*module, &*name), ("os", "system"));
        let command = pickle.sequence(object.arguments).unwrap()[0];
        assert_eq!(pickle.text(command).unwrap(), "touch /tmp/never");
    }

    #[test]
    fn items_keep_the_order_of_the_file() {
        let pickle = read(b"\x80\x02}q\x00(X\x01\x00\x00\x00bK\x01X\x01\x00\x00\x00aK\x02u.".to_vec()).unwrap();
        let items = pickle.items(pickle.root()).unwrap();
        let keys: Vec<_> = items.iter().map(|(key, _)| pickle.text(*key).unwrap().into_owned()).collect();
        assert_eq!(keys, ["b", "a"]);
        assert_eq!(pickle.get(pickle.root(), "a"), Some(Value::Int(2)));
    }

    #[test]
    fn long_integers_keep_their_sign() {
        let value = |bytes: &[u8]| read(bytes.to_vec()).unwrap().root();
        assert_eq!(value(b"\x80\x02\x8a\x00."), Value::Int(0));
        assert_eq!(value(b"\x80\x02\x8a\x01\xff."), Value::Int(-1));
        assert_eq!(value(b"\x80\x02\x8a\x02\xff\x00."), Value::Int(255));
        assert_eq!(value(b"L-12L\n."), Value::Int(-12));
    }

    #[test]
    fn integers_beyond_64_bits_become_the_nearest_float() {
        let value = |bytes: &[u8]| {
            let pickle = read(bytes.to_vec()).unwrap();
            match pickle.node(pickle.root()) {
                Some(Node::BigInt(number)) => *number,
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(value(b"\x80\x02\x8a\x09\0\0\0\0\0\0\0\0\xc0."), -(2.0_f64.powi(70)));
        assert_eq!(value(b"L1180591620717411303424L\n."), 2.0_f64.powi(70));
        assert_eq!(value(&[b"\x80\x02\x8a\x14".as_slice(), &[0; 19], b"\x01."].concat()), 2.0_f64.powi(152));
    }

    #[test]
    fn a_list_inside_itself_is_read() {
        let pickle = read(b"\x80\x02]q\x00h\x00a.".to_vec()).unwrap();
        assert_eq!(pickle.sequence(pickle.root()).unwrap(), &[pickle.root()]);
    }

    #[test]
    fn doubling_by_reference_costs_nothing() {
        // [] then 60 × (DUP, APPEND): would be 2^60 elements if references were copies.
        let mut bytes = b"\x80\x02]q\x00".to_vec();
        for _ in 0..60 {
            bytes.extend(b"]h\x00ah\x00aq\x00");
        }
        bytes.push(b'.');
        assert!(read(bytes).is_ok());
    }

    #[test]
    fn malformed_input_is_named() {
        assert_eq!(problem(b""), PickleProblem::Truncated);
        assert_eq!(problem(b"\x80\x02}q"), PickleProblem::Truncated);
        assert_eq!(problem(b"\x80\x02X\xff\xff\xff\x7fab"), PickleProblem::Truncated);
        assert_eq!(problem(b"\xff"), PickleProblem::UnknownOpcode(0xff));
        assert_eq!(problem(b"R."), PickleProblem::BadStack);
        assert_eq!(problem(b"(R."), PickleProblem::BadStack);
        assert_eq!(problem(b"h\x05."), PickleProblem::BadMemo);
        assert_eq!(problem(b"\x82\x01."), PickleProblem::Refused(0x82));
    }

    #[test]
    fn a_computed_import_is_noticed() {
        // STACK_GLOBAL over two Nones.
        assert!(read(b"\x80\x04NN\x93.".to_vec()).unwrap().has_computed_global());
    }

    #[test]
    fn text_of_old_protocols_is_unescaped() {
        let text = |bytes: &[u8]| {
            let pickle = read(bytes.to_vec()).unwrap();
            pickle.text(pickle.root()).unwrap().into_owned()
        };
        assert_eq!(text(b"Vcaf\\u00e9\n."), "café");
        assert_eq!(text(b"S'a\\x41\\n'\n."), "aA\n");
    }

    proptest! {
        #[test]
        fn any_bytes_end_in_a_value_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
            let _either = read(bytes);
        }

        #[test]
        fn any_opcodes_end_in_a_value_or_an_error(
            ops in proptest::collection::vec(proptest::sample::select(
                b"().0123]}lte adsuNRbqhKMJ\x85\x86\x87\x88\x89\x8f\x90\x91\x93\x94\x81\x92Q".to_vec()), 0..256)
        ) {
            if let Ok(pickle) = read(ops) {
                for (_, node) in pickle.nodes() {
                    std::hint::black_box(node);
                }
                std::hint::black_box((pickle.fields(pickle.root()), pickle.sequence(pickle.root())));
            }
        }
    }
}
