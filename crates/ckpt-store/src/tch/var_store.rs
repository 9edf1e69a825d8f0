//! The variables of a `VarStore`, out to named tensors and back in.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use ::tch::nn::VarStore;
use ckpt_core::ErrorKind;
use ckpt_core::format::dtype::Dtype;

use super::element;
use crate::error::{Error, Result};
use crate::save::Tensor;

/// Copies of all variables, trainable or not, in the order of their names.
///
/// They are copies, so training may go on while they are saved. On a GPU this waits until the variables are computed.
///
/// # Errors
/// `Unsupported` for a variable that a safetensors file cannot hold: sparse, quantised, `ComplexHalf`, `ComplexDouble`.
pub fn tensors(variables: &VarStore) -> Result<Vec<Tensor<'static>>> {
    let sorted: BTreeMap<_, _> = variables.variables().into_iter().collect();
    sorted.into_iter().map(|(name, tensor)| element::copy_out(name, &tensor)).collect()
}

/// What to do about tensors that do not fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strictness {
    /// Every variable has its tensor and every tensor its variable, or nothing is loaded.
    Strict,
    /// What fits is loaded, the other variables keep their values, and the report says which: for fine-tuning.
    Lenient,
}

/// What fits between a model and the tensors of a checkpoint. All names are in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LoadReport {
    /// Variables whose values come from the checkpoint.
    pub loaded: Vec<String>,
    /// Variables that the checkpoint has no tensor for.
    pub missing: Vec<String>,
    /// Tensors of the checkpoint that the model has no variable for.
    pub unexpected: Vec<String>,
    /// Tensors of another shape than their variables, or of an element type that is not converted.
    pub misshaped: Vec<Misshaped>,
    /// Those of `loaded` whose element type was another: only between types of floating-point numbers, and rounded to
    /// nearest where the variable's is narrower.
    pub converted: Vec<Converted>,
}

/// A tensor that does not fit its variable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Misshaped {
    /// The name of both.
    pub name: String,
    /// Element type and shape of the variable.
    pub variable: (Dtype, Vec<u64>),
    /// Element type and shape in the checkpoint.
    pub checkpoint: (Dtype, Vec<u64>),
}

/// A tensor that is rounded or widened to fit its variable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Converted {
    /// The name of both.
    pub name: String,
    /// The element type in the checkpoint.
    pub from: Dtype,
    /// The element type of the variable, which stays.
    pub to: Dtype,
}

impl LoadReport {
    /// Whether every variable has its tensor and every tensor its variable.
    #[must_use]
    pub fn is_exact(&self) -> bool {
        self.missing.is_empty() && self.unexpected.is_empty() && self.misshaped.is_empty()
    }

    /// One name that does not fit, for a message.
    fn first(&self) -> Option<&str> {
        let misshaped = self.misshaped.iter().map(|tensor| &tensor.name);
        misshaped.chain(&self.missing).chain(&self.unexpected).next().map(String::as_str)
    }
}

impl fmt::Display for LoadReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { loaded, missing, unexpected, misshaped, converted } = self;
        write!(f, "{} loaded, {} of them converted, ", loaded.len(), converted.len())?;
        write!(f, "{} missing, {} unexpected, {} misshaped", missing.len(), unexpected.len(), misshaped.len())
    }
}

/// What would fit, with nothing changed.
///
/// # Errors
/// `Unsupported` for a model with a variable that cannot be saved either.
pub fn compare<'a>(variables: &VarStore, tensors: impl IntoIterator<Item = Tensor<'a>>) -> Result<LoadReport> {
    report(variables, &tensors.into_iter().collect::<Vec<_>>())
}

fn report(variables: &VarStore, tensors: &[Tensor<'_>]) -> Result<LoadReport> {
    let mut ours: BTreeMap<_, _> = variables.variables().into_iter().collect();
    let mut theirs: Vec<&Tensor> = tensors.iter().collect();
    theirs.sort_by(|a, b| a.name.cmp(&b.name));
    let mut report = LoadReport::default();
    for tensor in theirs {
        let name = tensor.name.to_string();
        let Some(variable) = ours.remove(&name) else {
            report.unexpected.push(name);
            continue;
        };
        let kind = variable.f_kind().map_err(|error| Error::torch("read the element type of", &name, error))?;
        let Some(dtype) = element::dtype_of(kind) else {
            let message = format!("cannot load elements of type {kind:?}, of the variable");
            return Err(Error::new(ErrorKind::Unsupported, Path::new(&name), message));
        };
        let shape = element::shape_of(&variable);
        let converts = dtype.is_float() && tensor.dtype.is_float();
        if shape != tensor.shape || (dtype != tensor.dtype && !converts) {
            let checkpoint = (tensor.dtype.clone(), tensor.shape.clone());
            report.misshaped.push(Misshaped { name, variable: (dtype, shape), checkpoint });
            continue;
        }
        if dtype != tensor.dtype {
            report.converted.push(Converted { name: name.clone(), from: tensor.dtype.clone(), to: dtype });
        }
        report.loaded.push(name);
    }
    report.missing = ours.into_keys().collect();
    Ok(report)
}

/// Overwrites the values of the variables. Their element types and devices stay what they are.
///
/// # Errors
/// `Invalid` when something does not fit and that is not allowed, `Corrupt` when a tensor contradicts itself: nothing is
/// changed then. What libtorch says when a copy fails: some variables are overwritten then.
pub fn load<'a>(
    variables: &VarStore,
    tensors: impl IntoIterator<Item = Tensor<'a>>,
    strictness: Strictness,
) -> Result<LoadReport> {
    let tensors: Vec<Tensor> = tensors.into_iter().collect();
    let report = report(variables, &tensors)?;
    if strictness == Strictness::Strict
        && let Some(first) = report.first()
    {
        let message = format!("the checkpoint does not fit the model ({report}), for one at");
        return Err(Error::new(ErrorKind::Invalid, Path::new(first), message));
    }
    let mut ours = variables.variables();
    let mut fitting = Vec::new();
    for tensor in &tensors {
        if report.loaded.binary_search_by(|name| name.as_str().cmp(&tensor.name)).is_ok()
            && let Some(variable) = ours.remove(&*tensor.name)
        {
            fitting.push((tensor, variable, element::copy_in(tensor)?));
        }
    }
    for (tensor, mut variable, value) in fitting {
        element::overwrite(&tensor.name, &mut variable, &value)?;
    }
    Ok(report)
}
