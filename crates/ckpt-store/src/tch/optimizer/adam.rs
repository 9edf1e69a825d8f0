//! Adam and AdamW, as `torch::optim::Adam` and `torch::optim::AdamW` do them.

use ::tch::{TchError, Tensor};
use serde::{Deserialize, Serialize};

use super::arithmetic;

/// Adam, or with decoupled weight decay AdamW. The names are those of PyTorch's options.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Adam {
    /// The learning rate.
    pub lr: f64,
    /// How much of the running averages of the gradient and of its square stays in each step.
    pub betas: (f64, f64),
    /// Added to the divisor.
    pub eps: f64,
    /// How much of the parameter is added to its gradient, or taken off the parameter where it is decoupled.
    pub weight_decay: f64,
    /// Whether to divide by the greatest average so far.
    #[serde(default)]
    pub amsgrad: bool,
    /// Whether weight decay bypasses the averages: AdamW.
    #[serde(default)]
    pub decoupled_weight_decay: bool,
}

impl Adam {
    /// Adam with PyTorch's defaults.
    #[must_use]
    pub fn new(lr: f64) -> Self {
        let (betas, eps) = ((0.9, 0.999), 1e-8);
        Self { lr, betas, eps, weight_decay: 0.0, amsgrad: false, decoupled_weight_decay: false }
    }

    /// AdamW with PyTorch's defaults: weight decay is 0.01.
    #[must_use]
    pub fn decoupled(lr: f64) -> Self {
        Self { weight_decay: 0.01, decoupled_weight_decay: true, ..Self::new(lr) }
    }

    pub(super) fn update(
        &self,
        parameter: &mut Tensor,
        gradient: &Tensor,
        state: &mut Moments,
    ) -> Result<(), TchError> {
        let (beta1, beta2) = self.betas;
        state.step += 1;
        #[expect(clippy::cast_precision_loss, reason = "2^53 steps are never made")]
        let step = state.step as f64;
        let (correction1, correction2) = (1.0 - beta1.powf(step), 1.0 - beta2.powf(step));

        let mut gradient = gradient.shallow_clone();
        if self.weight_decay != 0.0 {
            if self.decoupled_weight_decay {
                arithmetic::scale(parameter, 1.0 - self.lr * self.weight_decay)?;
            } else {
                gradient = gradient.f_detach_copy()?;
                arithmetic::add(&mut gradient, parameter, self.weight_decay)?;
            }
        }
        arithmetic::scale(&mut state.exp_avg, beta1)?;
        arithmetic::add(&mut state.exp_avg, &gradient, 1.0 - beta1)?;
        arithmetic::scale(&mut state.exp_avg_sq, beta2)?;
        arithmetic::add_product(&mut state.exp_avg_sq, &gradient, &gradient, 1.0 - beta2)?;

        let square = if self.amsgrad {
            let greatest = match state.max_exp_avg_sq.take() {
                Some(greatest) => greatest.f_maximum(&state.exp_avg_sq)?,
                // The greatest of what was and nothing.
                None => state.exp_avg_sq.f_clamp_min(0.0)?,
            };
            state.max_exp_avg_sq.insert(greatest)
        } else {
            &state.exp_avg_sq
        };
        let divisor = square.f_sqrt()?.f_div_scalar(correction2.sqrt())?.f_add_scalar(self.eps)?;
        arithmetic::add_quotient(parameter, &state.exp_avg, &divisor, -(self.lr / correction1))
    }
}

/// The running averages of a parameter's gradient.
#[derive(Debug)]
pub(super) struct Moments {
    pub(super) step: u64,
    pub(super) exp_avg: Tensor,
    pub(super) exp_avg_sq: Tensor,
    /// With `amsgrad` alone.
    pub(super) max_exp_avg_sq: Option<Tensor>,
}

impl Moments {
    pub(super) fn zero(parameter: &Tensor) -> Result<Self, TchError> {
        let (exp_avg, exp_avg_sq) = (parameter.f_zeros_like()?, parameter.f_zeros_like()?);
        Ok(Self { step: 0, exp_avg, exp_avg_sq, max_exp_avg_sq: None })
    }
}
