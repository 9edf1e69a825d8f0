//! Reading numbers of a state, wherever their bytes are.

use std::cell::Cell;
use std::io;

use super::Facts;
use crate::format::pickle::{Pickle, Value};
use crate::format::torch::scalar::{Scalar, scalar};
use crate::format::torch::storages::{Element, Storages};
use crate::format::torch::tensor::TensorRef;
use crate::limits;
use crate::metric::{Direction, is_metric_name};

/// A state and the way to its storages.
pub(super) struct Reader<'a> {
    pub(super) pickle: &'a Pickle,
    pub(super) storages: &'a Storages<'a>,
    /// Tensors read so far.
    pub(super) reads: Cell<usize>,
}

impl Reader<'_> {
    fn element(&self, tensor: &TensorRef) -> io::Result<Element> {
        self.reads.set(self.reads.get().saturating_add(1));
        self.storages.element(tensor)
    }

    /// The number that a value is; a damaged one is noted under `name` and not returned.
    pub(super) fn number(&self, facts: &mut Facts, name: &str, value: Value) -> io::Result<Option<f64>> {
        match scalar(self.pickle, value) {
            Some(Scalar::Number(number)) => Ok(Some(number)),
            Some(Scalar::Tensor(_)) if self.reads.get() >= limits::SCALAR_READS => Ok(None),
            Some(Scalar::Tensor(tensor)) => match self.element(&tensor)? {
                Element::Number(number) => Ok(Some(number)),
                Element::CrcMismatch => {
                    facts.damaged_metrics.push(name.to_owned());
                    Ok(None)
                }
                Element::Absent => Ok(None),
            },
            None => Ok(None),
        }
    }

    /// Adds `value` as a metric when it is a number.
    pub(super) fn metric(&self, facts: &mut Facts, name: &str, provenance: &str, value: Value) -> io::Result<()> {
        self.metric_with(facts, (name, provenance), value, None)
    }

    /// Adds `value` as a metric whose direction the file tells.
    pub(super) fn metric_with(
        &self,
        facts: &mut Facts,
        (name, provenance): (&str, &str),
        value: Value,
        direction: Option<Direction>,
    ) -> io::Result<()> {
        if facts.metrics.len() < limits::METRICS
            && let Some(number) = self.number(facts, provenance, value)?
        {
            facts.add_metric(name, number, provenance, direction);
        }
        Ok(())
    }

    /// Adds every number below a mapping; names are relative to it, parts joined by dots.
    pub(super) fn metrics_below(&self, facts: &mut Facts, container: &str, value: Value) -> io::Result<()> {
        let mut pending = vec![(String::new(), value, 0)];
        let mut visited = 0_usize;
        while let Some((path, value, depth)) = pending.pop() {
            let Some(fields) = self.pickle.fields(value) else { continue };
            let mut below = Vec::new();
            for (key, value) in fields.iter() {
                visited = visited.saturating_add(1);
                if visited > limits::METRICS.saturating_mul(4) {
                    return Ok(());
                }
                let Some(key) = self.pickle.text(*key) else { continue };
                let name = if path.is_empty() { key.into_owned() } else { format!("{path}.{key}") };
                if depth < limits::METRIC_DEPTH && self.pickle.fields(*value).is_some() {
                    below.push((name, *value, depth + 1));
                } else if is_metric_name(&name) {
                    self.metric(facts, &name, &format!("{container}.{name}"), *value)?;
                }
            }
            pending.extend(below.into_iter().rev());
        }
        Ok(())
    }
}
