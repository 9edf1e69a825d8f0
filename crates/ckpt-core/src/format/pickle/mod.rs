//! A bounded reader of Python pickles that builds a value tree and executes nothing.
//!
//! Python's unpickler is a machine that imports and calls what the file tells it to. This one records those
//! imports and calls as data ([`Node::Global`], [`Node::Object`]) and stops there. All protocols (0 to 5) are
//! read. The opcodes are those of CPython's `pickletools`; what PyTorch writes with them is described in
//! `docs/format.md`.
//!
//! Values live in an arena, so shared and cyclic objects keep their identity and no input can make this
//! reader copy or recurse.

mod machine;
mod text;
mod value;
mod vm;
pub mod write;

pub use value::{Contents, Global, Node, NodeId, Object, Pickle, Run, Span, Tricks, Value};
pub use vm::{Broken, PickleError, PickleProblem, read, read_keeping};
