//! What PyTorch writes: zip archives, the older stream, the oldest tar, and what remains of them after an accident.
//!
//! The layouts are described in `docs/format.md`.

use std::cell::OnceCell;

use serde::{Deserialize, Serialize};

use super::Format;
use super::pickle::{Broken, Pickle, Value};
use super::safety::Risk;
use crate::finding::Finding;

pub mod archive;
pub mod legacy;
pub mod salvage;
pub mod scalar;
pub mod storages;
pub mod strided;
pub mod tar;
pub mod tensor;

/// What stands among the imports for a pickle, or a part of it, that was not read.
pub(crate) const UNREAD: &str = "<what could not be read>";
/// Two members of an archive claim to be its pickle.
pub(crate) const TWICE: &str = "<two members named data.pkl>";

pub(crate) use salvage::read_pickle as salvage_pickle;

/// A container as far as it was read: the pickle that holds the state, and the way to its storages.
pub struct Opened<'a> {
    /// Which container it is.
    pub format: Format,
    /// The state; `None` when it could not be read.
    pub pickle: Option<Pickle>,
    /// Further pickles that a loader would run: the header of a stream.
    pub others: Vec<Pickle>,
    /// Where the storages are.
    pub storages: storages::Storages<'a>,
    /// What was noticed.
    pub findings: Vec<Finding>,
    /// What is left of a file that was cut off.
    pub salvage: Option<Salvage>,
    /// What loading it would do beyond what its pickles import.
    pub risks: Vec<(&'static str, Risk)>,
    collected: OnceCell<tensor::Tensors>,
}

/// How much of a cut-off file is there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Salvage {
    /// The bytes the file should have; at least, where the writer's layout is not known.
    pub expected_bytes: Option<u64>,
    /// The bytes it has.
    pub actual_bytes: u64,
    /// How many of its tensors are all there.
    pub tensors_complete: u64,
    /// How many it should have.
    pub tensors_total: u64,
}

impl Opened<'_> {
    fn new(format: Format) -> Self {
        Self {
            format,
            pickle: None,
            others: Vec::new(),
            storages: storages::Storages::Nowhere,
            findings: Vec::new(),
            salvage: None,
            risks: Vec::new(),
            collected: OnceCell::new(),
        }
    }

    /// The tensors and storages of the state, collected once.
    pub fn tensors(&self) -> &tensor::Tensors {
        self.collected.get_or_init(|| self.pickle.as_ref().map(tensor::collect).unwrap_or_default())
    }

    /// Whether the elements stand with their last byte first: an archive tells it in a member, a stream among its facts.
    ///
    /// # Errors
    /// The source cannot be read.
    pub fn is_big_endian(&self) -> std::io::Result<bool> {
        let is_told = |pickle: &Pickle| pickle.get(pickle.root(), "little_endian") == Some(Value::Bool(false));
        Ok(self.storages.is_big_endian()? || self.others.iter().any(is_told))
    }

    fn unusable(format: Format, finding: Finding) -> Self {
        Self { findings: vec![finding], ..Self::new(format) }
    }

    /// A container whose pickle `name` breaks off: a loader would run what stands before that place.
    fn broken(format: Format, name: &str, broken: Broken) -> Self {
        let mut opened = Self::unusable(format, archive::pickle_finding(name, broken.error));
        opened.keep(broken);
        opened
    }

    fn keep(&mut self, broken: Broken) {
        self.others.push(*broken.seen);
        self.risks.push((UNREAD, Risk::Unknown));
    }
}
