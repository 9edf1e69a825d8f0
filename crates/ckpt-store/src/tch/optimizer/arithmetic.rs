//! Scaled sums, as libtorch's optimizers compute them in C++.
//!
//! There they are one operation with a factor (`add_(y, alpha)`); the C interface lacks the factor. The same rounding comes from
//! `addcmul` and `addcdiv` with the factor in a tensor. Types narrower than `float` are computed as `float` and rounded once at
//! the end, as those operations do inside.

use ::tch::{Kind, TchError, Tensor};

type Result<T> = std::result::Result<T, TchError>;

/// The type in which libtorch computes with elements of `kind`.
fn computing(kind: Kind) -> Kind {
    match kind {
        Kind::Half | Kind::BFloat16 => Kind::Float,
        other => other,
    }
}

fn scalar(value: f64, like: &Tensor) -> Result<Tensor> {
    Tensor::f_full([0_i64; 0], value, (like.f_kind()?, like.device()))
}

/// Runs an operation that changes its first operand in the type that libtorch computes in.
fn widened(x: &mut Tensor, operation: impl FnOnce(&mut Tensor, Kind) -> Result<Tensor>) -> Result<()> {
    let kind = x.f_kind()?;
    let wide = computing(kind);
    if wide == kind {
        return operation(x, kind).map(drop);
    }
    let mut copy = x.f_to_kind(wide)?;
    operation(&mut copy, wide).map(drop)?;
    x.f_copy_(&copy)
}

/// `x *= factor`
pub(super) fn scale(x: &mut Tensor, factor: f64) -> Result<()> {
    x.f_mul_scalar_(factor).map(drop)
}

/// `x += factor * y`
pub(super) fn add(x: &mut Tensor, y: &Tensor, factor: f64) -> Result<()> {
    widened(x, |x, kind| {
        let y = y.f_to_kind(kind)?;
        if factor == 1.0 { x.f_add_(&y) } else { x.f_addcmul_(&y, &scalar(factor, x)?) }
    })
}

/// `x += factor * a * b`
pub(super) fn add_product(x: &mut Tensor, a: &Tensor, b: &Tensor, factor: f64) -> Result<()> {
    widened(x, |x, kind| x.f_addcmul_(&a.f_to_kind(kind)?.f_mul_scalar(factor)?, &b.f_to_kind(kind)?))
}

/// `x += factor * a / b`
pub(super) fn add_quotient(x: &mut Tensor, a: &Tensor, b: &Tensor, factor: f64) -> Result<()> {
    widened(x, |x, kind| x.f_addcdiv_(&a.f_to_kind(kind)?.f_mul_scalar(factor)?, &b.f_to_kind(kind)?))
}
