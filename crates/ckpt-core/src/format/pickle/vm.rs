#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::fmt;

use super::machine::{Machine, Step, contents_mut, need, node_mut, pairs, size};
use super::text::{decimal, unescape_string, unescape_unicode};
use super::value::{Global, Node, Pickle, Span, Value};
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
    read_keeping(source).map_err(|broken| broken.error)
}

/// A pickle that could not be read to its end. Python would have run what stands before that place.
#[derive(Debug)]
pub struct Broken {
    /// Why it could not.
    pub error: PickleError,
    /// What was read until then; its root is `None`.
    pub seen: Box<Pickle>,
}

/// Like [`read`], and keeps what was read before an error.
///
/// # Errors
/// As [`read`].
pub fn read_keeping(source: Vec<u8>) -> Result<Pickle, Broken> {
    let mut machine = Machine::new(source.len());
    let mut cursor = Cursor::new(&source);
    let result = machine.run(&mut cursor);
    let length = cursor.position();
    let Machine { decoded, nodes, elements, contents, protocol, tricks, .. } = machine;
    let root = result.unwrap_or(Value::None);
    let pickle = Pickle { source, decoded, nodes, elements, contents, root, length, protocol, tricks };
    match result {
        Ok(_) => Ok(pickle),
        Err(error) => Err(Broken { error, seen: Box::new(pickle) }),
    }
}

/// One opcode adds one or two to what [`Machine::is_too_large`] looks at.
const OPCODES_BETWEEN_CHECKS: usize = 64;

impl Machine {
    /// All opcodes up to `STOP`, which gives the root.
    fn run(&mut self, cursor: &mut Cursor<'_>) -> Result<Value, PickleError> {
        for count in 1_usize.. {
            let offset = cursor.position();
            let fail = |problem| PickleError { problem, offset };
            let opcode = cursor.u8().ok_or_else(|| fail(PickleProblem::Truncated))?;
            if opcode == b'.' {
                return self.pop().map_err(fail);
            }
            self.step(opcode, cursor).map_err(fail)?;
            if self.holds_too_many() || (count % OPCODES_BETWEEN_CHECKS == 0 && self.is_too_large()) {
                return Err(fail(PickleProblem::TooLarge));
            }
        }
        Err(PickleError { problem: PickleProblem::TooLarge, offset: cursor.position() })
    }

    /// One opcode that is not `STOP`.
    fn step(&mut self, opcode: u8, cursor: &mut Cursor<'_>) -> Step<()> {
        match opcode {
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
                let mark = self.pop_mark()?;
                self.stack.truncate(mark);
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
        Ok(())
    }

    fn memo_step(&mut self, opcode: u8, cursor: &mut Cursor<'_>) -> Step<()> {
        let written = |line| decimal(line).ok_or(PickleProblem::BadArgument);
        match opcode {
            b'q' => self.remember(u32::from(need(cursor.u8())?)),
            b'r' => self.remember(need(cursor.u32())?),
            0x94 => self.remember(self.next_memo()?),
            b'p' => self.remember(written(need(cursor.line())?)?),
            b'h' => self.recall(u32::from(need(cursor.u8())?)),
            b'j' => self.recall(need(cursor.u32())?),
            _ => self.recall(written(need(cursor.line())?)?),
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
                let line = Self::short_line(cursor)?;
                let text = unescape_unicode(line);
                Value::Text(self.decode(text.as_bytes())?)
            }
            _ => {
                let line = Self::short_line(cursor)?;
                let text = unescape_string(line).ok_or(PickleProblem::BadArgument)?;
                Value::Text(self.decode(&text)?)
            }
        };
        self.push(value);
        Ok(())
    }

    fn container_step(&mut self, opcode: u8) -> Step<()> {
        let node = match opcode {
            b']' => Node::List(Box::default()),
            b'}' => Node::Dict(Box::default()),
            0x8f => Node::Set(Box::default()),
            b')' => self.tuple(self.stack.len())?,
            b't' => {
                let mark = self.pop_mark()?;
                self.tuple(mark)?
            }
            b'd' => {
                let mark = self.pop_mark()?;
                let items = pairs(self.stack.get(mark..).unwrap_or_default())?.collect();
                self.stack.truncate(mark);
                Node::Dict(Box::new(items))
            }
            b'l' | 0x91 => {
                let mark = self.pop_mark()?;
                let elements = Box::new(self.stack.split_off(mark));
                if opcode == b'l' { Node::List(elements) } else { Node::Set(elements) }
            }
            _ => {
                let count = usize::from(opcode.saturating_sub(0x84));
                let start = self.last(count)?;
                self.values = self.values.saturating_add(count);
                self.tuple(start)?
            }
        };
        self.push_node(node)
    }

    fn fill_step(&mut self, opcode: u8) -> Step<()> {
        let start = match opcode {
            b'a' => self.last(1)?,
            b's' => self.last(2)?,
            _ => self.pop_mark()?,
        };
        match opcode {
            b'a' | b'e' | 0x90 => self.extend(start),
            _ => self.update(start),
        }
    }

    fn object_step(&mut self, opcode: u8, cursor: &mut Cursor<'_>) -> Step<()> {
        match opcode {
            b'c' => {
                let (module, name) = (Self::line(cursor)?, Self::line(cursor)?);
                self.push_node(Node::Global(Box::new(Global { module, name })))
            }
            0x93 => {
                let (name, module) = (self.pop()?, self.pop()?);
                if let (Value::Text(module), Value::Text(name)) = (module, name) {
                    self.push_node(Node::Global(Box::new(Global { module, name })))
                } else {
                    self.tricks.computed_global = true;
                    let empty = Span { start: 0, length: 0 };
                    self.push_node(Node::Global(Box::new(Global { module: empty, name: empty })))
                }
            }
            b'i' => {
                let (module, name) = (Self::line(cursor)?, Self::line(cursor)?);
                let class = self.add(Node::Global(Box::new(Global { module, name })))?;
                let mark = self.pop_mark()?;
                let arguments = self.tuple(mark)?;
                let arguments = self.add(arguments)?;
                self.object(class, arguments, cursor.bytes())
            }
            b'o' => {
                let mark = self.pop_mark()?;
                let class = *self.stack.get(mark).ok_or(PickleProblem::BadStack)?;
                let arguments = self.tuple(mark.saturating_add(1))?;
                self.stack.truncate(mark);
                let arguments = self.add(arguments)?;
                self.object(class, arguments, cursor.bytes())
            }
            b'R' | 0x81 => {
                let (arguments, callable) = (self.pop()?, self.pop()?);
                self.object(callable, arguments, cursor.bytes())
            }
            0x92 => {
                let (keywords, arguments, class) = (self.pop()?, self.pop()?, self.pop()?);
                self.object(class, arguments, cursor.bytes())?;
                match node_mut(&mut self.nodes, Some(&keywords)) {
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
        match node_mut(&mut self.nodes, self.stack.last())? {
            Node::Object(object) => contents_mut(&mut self.contents, object)?.state = state,
            // A persistent id of old PyTorch may stand for a class.
            Node::Global(_) | Node::Persistent(_) => self.tricks.built_global = true,
            // Python would call `__setstate__` or update `__dict__`; neither changes what a plain container holds.
            Node::Dict(_) | Node::List(_) | Node::Set(_) => {}
            Node::Tuple(_) | Node::BigInt(_) => return Err(PickleProblem::BadStack),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
