//! The state of an optimizer as tensors and a document, under PyTorch's names.

use std::collections::BTreeMap;
use std::path::Path;

use ::tch::{Kind, TchError, Tensor, no_grad};
use ckpt_core::ErrorKind;
use serde::{Deserialize, Serialize};

use super::{Optimizer, Parameter, Rule, State, adam::Moments, sgd::Momentum};
use crate::error::{Error, Result};
use crate::save;
use crate::tch::element;

/// Steps are kept as PyTorch keeps them, in a `float`, as long as that counts exactly.
const EXACT_IN_FLOAT: u64 = 1 << 24;

/// An element of PyTorch's `param_groups`. What PyTorch has beyond this and writes is not read (`foreach`, `fused`, …: how it
/// computes, not what).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Group {
    /// How its parameters are updated.
    #[serde(flatten)]
    pub rule: Rule,
    /// Which parameters, counted through all groups.
    pub params: Vec<u64>,
    /// Their names; empty in what PyTorch wrote without them.
    #[serde(default)]
    pub param_names: Vec<String>,
    /// Whether PyTorch went uphill, which is not supported.
    #[serde(default)]
    pub maximize: bool,
}

impl Optimizer {
    /// The groups as a document.
    #[must_use]
    pub fn groups(&self) -> Vec<Group> {
        let mut next = 0..;
        let groups = self.groups.iter().map(|group| Group {
            rule: group.rule,
            params: next.by_ref().take(group.parameters.len()).collect(),
            param_names: group.parameters.iter().map(|parameter| parameter.name.clone()).collect(),
            maximize: false,
        });
        groups.collect()
    }

    /// Copies of the state of all parameters: `state.{i}.step`, `exp_avg`, `exp_avg_sq` and, with `amsgrad`, `max_exp_avg_sq`
    /// of Adam; `state.{i}.momentum_buffer` of SGD with momentum. A parameter that never had a gradient has no state.
    ///
    /// # Errors
    /// As [`tensors`](crate::tch::tensors).
    pub fn tensors(&self) -> Result<Vec<save::Tensor<'static>>> {
        let mut tensors = Vec::new();
        for (i, parameter) in self.groups.iter().flat_map(|group| &group.parameters).enumerate() {
            let fields = fields(&parameter.state).map_err(|error| Error::torch("copy", &parameter.name, error))?;
            for (field, tensor) in fields {
                tensors.push(element::copy_out(format!("state.{i}.{field}"), &tensor)?);
            }
        }
        Ok(tensors)
    }

    /// Takes over what [`tensors`](Self::tensors) and [`groups`](Self::groups) gave, rules included; to train on with another
    /// learning rate, set it afterwards. State of another type of floating-point numbers is converted to the parameter's, as
    /// PyTorch does.
    ///
    /// # Errors
    /// `Invalid` when groups, names or shapes are not those of this optimizer, `Corrupt` when a tensor contradicts itself,
    /// `Unsupported` for what these optimizers do not have. Nothing is changed then.
    pub fn load<'a>(&mut self, tensors: impl IntoIterator<Item = save::Tensor<'a>>, groups: &[Group]) -> Result<()> {
        self.check_groups(groups)?;
        let mut found = by_parameter(tensors)?;
        let mut states = Vec::new();
        let rules = groups
            .iter()
            .zip(&self.groups)
            .flat_map(|(theirs, ours)| ours.parameters.iter().map(|parameter| (theirs.rule, parameter)));
        for (i, (rule, parameter)) in rules.enumerate() {
            let fields = found.remove(&i).unwrap_or_default();
            states.push(no_grad(|| state(rule, parameter, fields))?);
        }
        if let Some((_, tensor)) = found.into_values().flatten().next() {
            return Err(unfit(&tensor.name, "no such parameter is in the optimizer, for the tensor"));
        }
        for (group, theirs) in self.groups.iter_mut().zip(groups) {
            group.rule = theirs.rule;
        }
        for (parameter, state) in self.groups.iter_mut().flat_map(|group| &mut group.parameters).zip(states) {
            parameter.state = state;
        }
        Ok(())
    }

    fn check_groups(&self, groups: &[Group]) -> Result<()> {
        let ours = self.groups();
        if ours.len() != groups.len() {
            let message = format!("there are {} groups of parameters and not", groups.len());
            return Err(unfit(&ours.len().to_string(), message));
        }
        for (i, (ours, theirs)) in ours.iter().zip(groups).enumerate() {
            if ours.params != theirs.params {
                let message = format!("{} parameters and not {} are in group", theirs.params.len(), ours.params.len());
                return Err(unfit(&i.to_string(), message));
            }
            let mut names = ours.param_names.iter().zip(&theirs.param_names);
            if let Some((ours, theirs)) = names.find(|(ours, theirs)| ours != theirs) {
                return Err(unfit(ours, format!("there is a parameter `{theirs}` in the place of")));
            }
            if theirs.maximize {
                let message = "`maximize` is not supported, for group";
                return Err(Error::new(ErrorKind::Unsupported, Path::new(&i.to_string()), message));
            }
        }
        Ok(())
    }
}

fn unfit(subject: &str, message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Invalid, Path::new(subject), message)
}

fn fields(state: &State) -> std::result::Result<Vec<(&'static str, Tensor)>, TchError> {
    Ok(match state {
        State::Fresh => Vec::new(),
        State::Sgd(Momentum { buffer }) => {
            buffer.iter().map(|buffer| ("momentum_buffer", buffer.shallow_clone())).collect()
        }
        State::Adam(Moments { step, exp_avg, exp_avg_sq, max_exp_avg_sq }) => {
            let kind = if *step <= EXACT_IN_FLOAT { Kind::Float } else { Kind::Int64 };
            let step = Tensor::from(step.cast_signed()).f_to_kind(kind)?;
            let averages = [("exp_avg", exp_avg), ("exp_avg_sq", exp_avg_sq)];
            let greatest = max_exp_avg_sq.iter().map(|tensor| ("max_exp_avg_sq", tensor));
            let tensors = averages.into_iter().chain(greatest).map(|(field, tensor)| (field, tensor.shallow_clone()));
            [("step", step)].into_iter().chain(tensors).collect()
        }
    })
}

/// The tensors of one parameter, by what comes after its number.
type Fields<'a> = BTreeMap<String, save::Tensor<'a>>;

fn by_parameter<'a>(tensors: impl IntoIterator<Item = save::Tensor<'a>>) -> Result<BTreeMap<usize, Fields<'a>>> {
    let mut found: BTreeMap<usize, Fields> = BTreeMap::new();
    for tensor in tensors {
        let parts = tensor.name.strip_prefix("state.").and_then(|rest| rest.split_once('.'));
        let parsed = parts.and_then(|(i, field)| Some((i.parse().ok()?, field.to_owned())));
        let (i, field) = parsed.ok_or_else(|| unfit(&tensor.name, "not the name of an optimizer's state:"))?;
        if let Some(twin) = found.entry(i).or_default().insert(field, tensor) {
            return Err(Error::new(ErrorKind::Corrupt, Path::new(&*twin.name), "there are two tensors"));
        }
    }
    Ok(found)
}

/// The state of one parameter out of its tensors, on the parameter's device.
fn state(rule: Rule, parameter: &Parameter, mut fields: Fields<'_>) -> Result<State> {
    if fields.is_empty() {
        return Ok(State::Fresh);
    }
    let state = match rule {
        Rule::Sgd(_) => State::Sgd(Momentum { buffer: Some(average("momentum_buffer", parameter, &mut fields)?) }),
        Rule::Adam(_) => State::Adam(Moments {
            step: step(parameter, &mut fields)?,
            exp_avg: average("exp_avg", parameter, &mut fields)?,
            exp_avg_sq: average("exp_avg_sq", parameter, &mut fields)?,
            max_exp_avg_sq: match fields.contains_key("max_exp_avg_sq") {
                true => Some(average("max_exp_avg_sq", parameter, &mut fields)?),
                false => None,
            },
        }),
    };
    match fields.into_values().next() {
        Some(tensor) => {
            Err(Error::new(ErrorKind::Unsupported, Path::new(&*tensor.name), "the rule has no use for the state"))
        }
        None => Ok(state),
    }
}

fn take<'a>(field: &str, parameter: &Parameter, fields: &mut Fields<'a>) -> Result<save::Tensor<'a>> {
    fields.remove(field).ok_or_else(|| unfit(&parameter.name, format!("`{field}` is missing in the state of")))
}

fn average(field: &str, parameter: &Parameter, fields: &mut Fields<'_>) -> Result<Tensor> {
    let tensor = take(field, parameter, fields)?;
    if tensor.shape != element::shape_of(&parameter.tensor) || !tensor.dtype.is_float() {
        let message = format!("type and shape do not fit the parameter `{}`, of the tensor", parameter.name);
        return Err(unfit(&tensor.name, message));
    }
    element::like(&element::copy_in(&tensor)?, &parameter.tensor)
        .map_err(|error| Error::torch("convert", &tensor.name, error))
}

fn step(parameter: &Parameter, fields: &mut Fields<'_>) -> Result<u64> {
    let tensor = take("step", parameter, fields)?;
    let is_one = tensor.shape.iter().all(|length| *length == 1);
    let number = if is_one { tensor.dtype.number(&tensor.bytes) } else { None };
    match number {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the range is checked")]
        Some(number) if number.fract() == 0.0 && (0.0..9.0e15).contains(&number) => Ok(number as u64),
        _ => Err(Error::new(ErrorKind::Corrupt, Path::new(&*tensor.name), "no count of steps is in the tensor")),
    }
}
