//! Stochastic gradient descent, as `torch::optim::SGD` does it.

use ::tch::{TchError, Tensor};
use serde::{Deserialize, Serialize};

use super::arithmetic;

/// Stochastic gradient descent with momentum. The names are those of PyTorch's options.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sgd {
    /// The learning rate.
    pub lr: f64,
    /// How much of the last step stays in the next; 0 for none.
    pub momentum: f64,
    /// How much of the gradient is kept out of the momentum.
    pub dampening: f64,
    /// How much of the parameter is added to its gradient.
    pub weight_decay: f64,
    /// Whether to step to where the momentum leads and the gradient from there.
    pub nesterov: bool,
}

impl Sgd {
    /// With PyTorch's defaults: no momentum, no weight decay.
    #[must_use]
    pub fn new(lr: f64) -> Self {
        Self { lr, momentum: 0.0, dampening: 0.0, weight_decay: 0.0, nesterov: false }
    }

    pub(super) fn update(
        &self,
        parameter: &mut Tensor,
        gradient: &Tensor,
        state: &mut Momentum,
    ) -> Result<(), TchError> {
        let mut direction = gradient.shallow_clone();
        if self.weight_decay != 0.0 {
            direction = direction.f_detach_copy()?;
            arithmetic::add(&mut direction, parameter, self.weight_decay)?;
        }
        if self.momentum != 0.0 {
            let buffer = match &mut state.buffer {
                Some(buffer) => {
                    arithmetic::scale(buffer, self.momentum)?;
                    arithmetic::add(buffer, &direction, 1.0 - self.dampening)?;
                    buffer
                }
                none => none.insert(direction.f_detach_copy()?),
            };
            if self.nesterov {
                direction = direction.f_detach_copy()?;
                arithmetic::add(&mut direction, buffer, self.momentum)?;
            } else {
                direction = buffer.shallow_clone();
            }
        }
        arithmetic::add(parameter, &direction, -self.lr)
    }
}

/// The running sum of gradients; none before the first step with momentum.
#[derive(Debug, Default)]
pub(super) struct Momentum {
    pub(super) buffer: Option<Tensor>,
}
