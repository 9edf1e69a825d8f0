//! Optimizers whose state is ours, so that it can be saved and loaded.
//!
//! They compute what libtorch's own compute, operation by operation. Their state has the names that PyTorch gives it:
//! `state.{i}.exp_avg` and so on, where `i` counts the parameters through all groups, and [`Group`] is an element of PyTorch's
//! `param_groups`.

mod adam;
mod arithmetic;
mod document;
mod sgd;

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use ::tch::nn::{self, OptimizerConfig, VarStore};
use ::tch::{TchError, Tensor, no_grad};
use ckpt_core::ErrorKind;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

pub use adam::Adam;
pub use document::Group;
pub use sgd::Sgd;

/// How a group of parameters is updated.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Rule {
    /// Adam and AdamW.
    Adam(Adam),
    /// Stochastic gradient descent.
    Sgd(Sgd),
}

impl From<Adam> for Rule {
    fn from(adam: Adam) -> Self {
        Self::Adam(adam)
    }
}

impl From<Sgd> for Rule {
    fn from(sgd: Sgd) -> Self {
        Self::Sgd(sgd)
    }
}

impl Rule {
    /// Sets the learning rate.
    pub fn set_lr(&mut self, lr: f64) {
        match self {
            Self::Adam(adam) => adam.lr = lr,
            Self::Sgd(sgd) => sgd.lr = lr,
        }
    }
}

/// What is remembered about a parameter from its first gradient on.
#[derive(Debug, Default)]
enum State {
    #[default]
    Fresh,
    Adam(adam::Moments),
    Sgd(sgd::Momentum),
}

#[derive(Debug)]
struct Parameter {
    name: String,
    tensor: Tensor,
    state: State,
}

#[derive(Debug)]
struct ParameterGroup {
    rule: Rule,
    parameters: Vec<Parameter>,
}

/// Updates the trainable variables of a `VarStore`.
///
/// Variables are in the groups that `Path::set_group` put them in; each group has its own [`Rule`].
#[derive(Debug)]
pub struct Optimizer {
    groups: Vec<ParameterGroup>,
    /// libtorch's own, which never steps: the C interface has no other way to forget a gradient, and one that is zero instead
    /// of forgotten would still move its parameter.
    forgets: nn::Optimizer,
}

impl Optimizer {
    /// An optimizer of all trainable variables that are there now, with one rule for all groups.
    ///
    /// # Errors
    /// What libtorch says.
    pub fn new(variables: &VarStore, rule: impl Into<Rule>) -> Result<Self> {
        let rule = rule.into();
        let torch = |error| Error::torch("make the optimizer of", "the model", error);
        let forgets = nn::Sgd::default().build(variables, 0.0).map_err(torch)?;
        let names = names(variables);
        let locked = variables.variables_.lock().map_err(|_| {
            Error::new(ErrorKind::Internal, "the model".as_ref(), "a thread panicked while it changed the variables of")
        })?;
        let mut groups = Vec::new();
        for variable in &locked.trainable_variables {
            while groups.len() <= variable.group {
                groups.push(ParameterGroup { rule, parameters: Vec::new() });
            }
            let name = names.get(&(variable.tensor.data_ptr() as usize)).cloned().unwrap_or_default();
            groups[variable.group].parameters.push(Parameter {
                name,
                tensor: variable.tensor.shallow_clone(),
                state: State::Fresh,
            });
        }
        Ok(Self { groups, forgets })
    }

    /// The rule of a group, to be read or changed; `None` where there is no such group.
    pub fn rule_mut(&mut self, group: usize) -> Option<&mut Rule> {
        self.groups.get_mut(group).map(|group| &mut group.rule)
    }

    /// Sets the learning rate of all groups.
    pub fn set_lr(&mut self, lr: f64) {
        for group in &mut self.groups {
            group.rule.set_lr(lr);
        }
    }

    /// Forgets the gradients, so that the next backward pass starts from none.
    pub fn zero_grad(&mut self) {
        self.forgets.zero_grad();
    }

    /// Updates every parameter that has a gradient.
    ///
    /// # Errors
    /// `Unsupported` for a sparse gradient; what libtorch says. Some parameters may be updated then.
    pub fn step(&mut self) -> Result<()> {
        no_grad(|| {
            for ParameterGroup { rule, parameters } in &mut self.groups {
                for parameter in parameters {
                    let gradient = parameter.tensor.grad();
                    if !gradient.defined() {
                        continue;
                    }
                    if gradient.is_sparse() {
                        let message = "sparse gradients are not supported, and so is that of";
                        return Err(Error::new(ErrorKind::Unsupported, Path::new(&parameter.name), message));
                    }
                    update(*rule, parameter, &gradient)
                        .map_err(|error| Error::torch("update", &parameter.name, error))?;
                }
            }
            Ok(())
        })
    }

    /// Forgets the gradients, computes those of `loss`, and updates every parameter.
    ///
    /// # Errors
    /// As [`step`](Self::step), and what libtorch says about the backward pass.
    pub fn backward_step(&mut self, loss: &Tensor) -> Result<()> {
        self.zero_grad();
        loss.f_backward().map_err(|error| Error::torch("compute the gradients of", "the loss", error))?;
        self.step()
    }
}

/// The names of variables by the address of their elements: `tch` keeps names and trainable variables apart. One that has no
/// elements has no name here.
fn names(variables: &VarStore) -> HashMap<usize, String> {
    let sorted: BTreeMap<String, Tensor> = variables.variables().into_iter().collect();
    let mut names = HashMap::new();
    for (name, tensor) in sorted {
        if !tensor.is_sparse() && !tensor.is_mkldnn() && tensor.numel() > 0 {
            names.entry(tensor.data_ptr() as usize).or_insert(name);
        }
    }
    names
}

/// One step of one parameter. A state that another rule left is begun anew.
fn update(rule: Rule, parameter: &mut Parameter, gradient: &Tensor) -> std::result::Result<(), TchError> {
    let Parameter { tensor, state, .. } = parameter;
    match rule {
        Rule::Adam(adam) => {
            if !matches!(state, State::Adam(_)) {
                *state = State::Adam(adam::Moments::zero(tensor)?);
            }
            if let State::Adam(moments) = state {
                adam.update(tensor, gradient, moments)?;
            }
        }
        Rule::Sgd(sgd) => {
            if !matches!(state, State::Sgd(_)) {
                *state = State::Sgd(sgd::Momentum::default());
            }
            if let State::Sgd(momentum) = state {
                sgd.update(tensor, gradient, momentum)?;
            }
        }
    }
    Ok(())
}
