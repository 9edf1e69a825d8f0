//! A writer of pickles of protocol 2, which every Python with PyTorch reads, also with `weights_only=True`.
//!
//! It writes what is data and the few calls that PyTorch itself makes for tensors; nothing is memoised, so that what was
//! written last can be taken back.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

/// A pickle that is being written. Values come in the order of the stack machine: first what a container holds, between
/// its `begin` and its `end`.
///
/// ```
/// use ckpt_core::format::pickle::{self, write::Writer};
/// let mut writer = Writer::new();
/// writer.begin_dict();
/// writer.text("epoch");
/// writer.int(7);
/// writer.end_dict();
/// let pickle = pickle::read(writer.finish())?;
/// assert_eq!(pickle.get(pickle.root(), "epoch"), Some(pickle::Value::Int(7)));
/// # Ok::<(), pickle::PickleError>(())
/// ```
#[derive(Debug)]
pub struct Writer {
    out: Vec<u8>,
}

impl Default for Writer {
    fn default() -> Self {
        Self::new()
    }
}

impl Writer {
    /// An empty one.
    #[must_use]
    pub fn new() -> Self {
        Self { out: vec![0x80, 2] }
    }

    /// How many bytes are written so far.
    #[must_use]
    pub fn len(&self) -> usize {
        self.out.len()
    }

    /// Whether nothing but the protocol is written.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.out.len() <= 2
    }

    /// Takes back what was written after `length` bytes.
    pub fn truncate(&mut self, length: usize) {
        self.out.truncate(length);
    }

    /// `None`
    pub fn none(&mut self) {
        self.out.push(b'N');
    }

    /// `True`, `False`
    pub fn bool(&mut self, value: bool) {
        self.out.push(if value { 0x88 } else { 0x89 });
    }

    /// An integer.
    pub fn int(&mut self, value: i64) {
        if let Ok(value) = u8::try_from(value) {
            self.out.extend([b'K', value]);
        } else if let Ok(value) = i32::try_from(value) {
            self.out.push(b'J');
            self.out.extend(value.to_le_bytes());
        } else {
            self.out.extend([0x8a, 8]);
            self.out.extend(value.to_le_bytes());
        }
    }

    /// A size or an offset, which Python counts beyond 63 bits.
    pub fn unsigned(&mut self, value: u64) {
        if let Ok(value) = i64::try_from(value) {
            self.int(value);
        } else {
            // A ninth byte keeps the sign positive.
            self.out.extend([0x8a, 9]);
            self.out.extend(value.to_le_bytes());
            self.out.push(0);
        }
    }

    /// A float.
    pub fn float(&mut self, value: f64) {
        self.out.push(b'G');
        self.out.extend(value.to_be_bytes());
    }

    /// A string. Longer ones than 4 GiB, which no checkpoint holds, are cut.
    pub fn text(&mut self, value: &str) {
        let bytes = value.as_bytes();
        let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        self.out.push(b'X');
        self.out.extend(length.to_le_bytes());
        self.out.extend(bytes.get(..length as usize).unwrap_or(bytes));
    }

    /// Bytes, the way protocol 2 spells them: text of Latin-1 and a call that encodes it.
    pub fn bytes(&mut self, value: &[u8]) {
        self.global("_codecs", "encode");
        self.begin_tuple();
        let text: String = value.iter().map(|byte| char::from(*byte)).collect();
        self.text(&text);
        self.text("latin1");
        self.end_tuple();
        self.call();
    }

    /// A name to import. Neither part may hold a line feed.
    pub fn global(&mut self, module: &str, name: &str) {
        debug_assert!(!module.contains('\n') && !name.contains('\n'), "a line ends a name");
        self.out.push(b'c');
        self.out.extend(module.as_bytes());
        self.out.push(b'\n');
        self.out.extend(name.as_bytes());
        self.out.push(b'\n');
    }

    /// Calls the global that was written before the tuple that was written last.
    pub fn call(&mut self) {
        self.out.push(b'R');
    }

    /// Makes what was written last a persistent id.
    pub fn persistent(&mut self) {
        self.out.push(b'Q');
    }

    /// Opens a tuple.
    pub fn begin_tuple(&mut self) {
        self.out.push(b'(');
    }

    /// Closes it.
    pub fn end_tuple(&mut self) {
        self.out.push(b't');
    }

    /// Opens a list.
    pub fn begin_list(&mut self) {
        self.out.extend(b"](");
    }

    /// Closes it.
    pub fn end_list(&mut self) {
        self.out.push(b'e');
    }

    /// Opens a dict; keys and values follow in turn.
    pub fn begin_dict(&mut self) {
        self.out.extend(b"}(");
    }

    /// Opens an `OrderedDict`.
    pub fn begin_ordered(&mut self) {
        self.empty_ordered();
        self.out.push(b'(');
    }

    /// Closes a dict of either kind.
    pub fn end_dict(&mut self) {
        self.out.push(b'u');
    }

    /// An empty `OrderedDict`.
    pub fn empty_ordered(&mut self) {
        self.global("collections", "OrderedDict");
        self.out.extend(b")R");
    }

    /// The pickle.
    #[must_use]
    pub fn finish(mut self) -> Vec<u8> {
        self.out.push(b'.');
        self.out
    }
}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects, reason = "numbers of a test")]
mod tests {
    use super::*;
    use crate::format::pickle::{Node, Pickle, Value, read};
    use proptest::prelude::*;

    #[derive(Clone, Debug, PartialEq)]
    enum Tree {
        None,
        Bool(bool),
        Int(i64),
        Float(u64),
        Text(String),
        Bytes(Vec<u8>),
        List(Vec<Tree>),
        Tuple(Vec<Tree>),
        Dict(Vec<(Tree, Tree)>),
        Ordered(Vec<(Tree, Tree)>),
    }

    fn tree() -> impl Strategy<Value = Tree> {
        let leaf = prop_oneof![
            Just(Tree::None),
            any::<bool>().prop_map(Tree::Bool),
            prop_oneof![any::<i64>(), -300_i64..300, Just(i64::MIN), Just(i64::MAX)].prop_map(Tree::Int),
            any::<u64>().prop_map(Tree::Float),
            "\\PC{0,12}|[a-z\\n.]{0,300}".prop_map(Tree::Text),
            proptest::collection::vec(any::<u8>(), 0..40).prop_map(Tree::Bytes),
        ];
        leaf.prop_recursive(5, 60, 6, |inner| {
            let pairs = || proptest::collection::vec((inner.clone(), inner.clone()), 0..6);
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..6).prop_map(Tree::List),
                proptest::collection::vec(inner.clone(), 0..6).prop_map(Tree::Tuple),
                pairs().prop_map(Tree::Dict),
                pairs().prop_map(Tree::Ordered),
            ]
        })
    }

    fn write(writer: &mut Writer, tree: &Tree) {
        let pairs = |writer: &mut Writer, pairs: &[(Tree, Tree)]| {
            for (key, value) in pairs {
                write(writer, key);
                write(writer, value);
            }
            writer.end_dict();
        };
        match tree {
            Tree::None => writer.none(),
            Tree::Bool(value) => writer.bool(*value),
            Tree::Int(value) => writer.int(*value),
            Tree::Float(bits) => writer.float(f64::from_bits(*bits)),
            Tree::Text(text) => writer.text(text),
            Tree::Bytes(bytes) => writer.bytes(bytes),
            Tree::List(values) => {
                writer.begin_list();
                values.iter().for_each(|value| write(writer, value));
                writer.end_list();
            }
            Tree::Tuple(values) => {
                writer.begin_tuple();
                values.iter().for_each(|value| write(writer, value));
                writer.end_tuple();
            }
            Tree::Dict(items) => {
                writer.begin_dict();
                pairs(writer, items);
            }
            Tree::Ordered(items) => {
                writer.begin_ordered();
                pairs(writer, items);
            }
        }
    }

    fn back(pickle: &Pickle, value: Value) -> Tree {
        let pairs = |items: &[(Value, Value)]| {
            items.iter().map(|(key, value)| (back(pickle, *key), back(pickle, *value))).collect()
        };
        match value {
            Value::None => Tree::None,
            Value::Bool(value) => Tree::Bool(value),
            Value::Int(value) => Tree::Int(value),
            Value::Float(value) => Tree::Float(value.to_bits()),
            Value::Text(span) => Tree::Text(String::from_utf8(pickle.span(span).to_vec()).unwrap()),
            Value::Bytes(span) => Tree::Bytes(pickle.span(span).to_vec()),
            Value::Node(_) => match pickle.node(value).unwrap() {
                Node::List(values) => Tree::List(values.iter().map(|value| back(pickle, *value)).collect()),
                node @ Node::Tuple(_) => {
                    Tree::Tuple(pickle.elements(node).unwrap().iter().map(|value| back(pickle, *value)).collect())
                }
                Node::Dict(items) => Tree::Dict(pairs(items)),
                Node::Object(object) => match pickle.bytes(value) {
                    Some(bytes) => Tree::Bytes(bytes.into_owned()),
                    None => Tree::Ordered(pairs(&pickle.contents(object).items)),
                },
                other => panic!("{other:?}"),
            },
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(tree in tree()) {
            let mut writer = Writer::new();
            write(&mut writer, &tree);
            let bytes = writer.finish();
            let length = bytes.len();
            let pickle = read(bytes).unwrap();
            prop_assert_eq!(pickle.length(), length);
            prop_assert_eq!(pickle.tricks(), Default::default());
            prop_assert_eq!(back(&pickle, pickle.root()), tree);
        }

        #[test]
        fn what_is_taken_back_was_never_written(kept in tree(), dropped in tree()) {
            let mut writer = Writer::new();
            writer.begin_list();
            write(&mut writer, &kept);
            let length = writer.len();
            write(&mut writer, &dropped);
            writer.truncate(length);
            writer.end_list();
            let pickle = read(writer.finish()).unwrap();
            prop_assert_eq!(back(&pickle, pickle.root()), Tree::List(vec![kept]));
        }

        #[test]
        fn sizes_are_positive_to_the_last_bit(value in any::<u64>()) {
            let mut writer = Writer::new();
            writer.unsigned(value);
            let pickle = read(writer.finish()).unwrap();
            let is_equal = match pickle.node(pickle.root()) {
                #[allow(clippy::cast_precision_loss, reason = "what the reader gives of such numbers")]
                Some(Node::BigInt(number)) => *number == value as f64,
                _ => i64::try_from(value).is_ok_and(|value| pickle.root() == Value::Int(value)),
            };
            prop_assert!(is_equal, "{:?}", pickle.root());
        }
    }
}
