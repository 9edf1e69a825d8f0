//! Between libtorch's tensors and bytes.

use std::path::Path;

use ::tch::{Device, Kind, Tensor, no_grad};
use ckpt_core::ErrorKind;
use ckpt_core::format::dtype::Dtype;

use crate::error::{Error, Result};
use crate::save;

/// libtorch's element types that a safetensors file can hold, with PyTorch's names.
const KINDS: [(Kind, &str); 13] = [
    (Kind::Double, "float64"),
    (Kind::Float, "float32"),
    (Kind::Half, "float16"),
    (Kind::BFloat16, "bfloat16"),
    (Kind::Float8e4m3fn, "float8_e4m3fn"),
    (Kind::Float8e5m2, "float8_e5m2"),
    (Kind::Int64, "int64"),
    (Kind::Int, "int32"),
    (Kind::Int16, "int16"),
    (Kind::Int8, "int8"),
    (Kind::Uint8, "uint8"),
    (Kind::Bool, "bool"),
    (Kind::ComplexFloat, "complex64"),
];

/// The element type under PyTorch's name; `None` for what a safetensors file cannot hold.
pub(super) fn dtype_of(kind: Kind) -> Option<Dtype> {
    KINDS.iter().find(|(known, _)| *known == kind).map(|(_, name)| Dtype::of_torch(name))
}

/// libtorch's element type; `None` for what libtorch's C interface does not have.
pub(super) fn kind_of(dtype: &Dtype) -> Option<Kind> {
    KINDS.iter().find(|(_, name)| *name == dtype.name()).map(|(kind, _)| *kind)
}

/// The shape, whose numbers are never negative in a tensor that exists.
pub(super) fn shape_of(tensor: &Tensor) -> Vec<u64> {
    tensor.size().into_iter().map(|length| u64::try_from(length).unwrap_or(0)).collect()
}

/// A copy of the values, wherever the tensor lives and however it is laid out: later changes to it do not reach the copy.
///
/// # Errors
/// `Unsupported` for sparse tensors and for element types that a safetensors file cannot hold; what libtorch says when the
/// copy fails.
pub(super) fn copy_out(name: String, tensor: &Tensor) -> Result<save::Tensor<'static>> {
    let refused = |why: String| Error::new(ErrorKind::Unsupported, Path::new(&name), why);
    if tensor.is_sparse() || tensor.is_mkldnn() {
        return Err(refused("cannot save the sparse or opaque tensor".to_owned()));
    }
    let kind = tensor.f_kind().map_err(|error| Error::torch("read the element type of", &name, error))?;
    let dtype =
        dtype_of(kind).ok_or_else(|| refused(format!("cannot save elements of type {kind:?}, of the tensor")))?;
    let count = tensor.numel();
    let mut bytes = vec![0; count * kind.elt_size_in_bytes()];
    tensor.f_copy_data_u8(&mut bytes, count).map_err(|error| Error::torch("copy", &name, error))?;
    Ok(save::Tensor::new(name, dtype, shape_of(tensor), bytes))
}

/// A tensor of libtorch's on the CPU with these values.
///
/// # Errors
/// `Unsupported` for element types that libtorch's C interface does not have; `Corrupt` where the number of bytes is not what
/// shape and type say, which libtorch itself does not check.
pub(super) fn copy_in(tensor: &save::Tensor<'_>) -> Result<Tensor> {
    let save::Tensor { name, dtype, shape, bytes } = tensor;
    let Some(kind) = kind_of(dtype) else {
        return Err(Error::new(
            ErrorKind::Unsupported,
            Path::new(&**name),
            format!("libtorch has no type {dtype}, of the tensor"),
        ));
    };
    let corrupt =
        || Error::new(ErrorKind::Corrupt, Path::new(&**name), "shape and number of bytes disagree in the tensor");
    let size: Option<Vec<i64>> = shape.iter().map(|length| i64::try_from(*length).ok()).collect();
    let size = size.ok_or_else(corrupt)?;
    let count = shape.iter().try_fold(1_u64, |count, length| count.checked_mul(*length));
    let expected = count.and_then(|count| dtype.bytes(count)).ok_or_else(corrupt)?;
    if usize::try_from(expected) != Ok(bytes.len()) {
        return Err(corrupt());
    }
    Tensor::f_from_data_size(bytes, &size, kind).map_err(|error| Error::torch("make", name, error))
}

/// Overwrites the values, converted to the element type and brought to the device of `into`.
pub(super) fn overwrite(name: &str, into: &mut Tensor, with: &Tensor) -> Result<()> {
    no_grad(|| into.f_copy_(with)).map_err(|error| Error::torch("overwrite", name, error))
}

/// A tensor of the element type and on the device of another.
pub(super) fn like(tensor: &Tensor, other: &Tensor) -> std::result::Result<Tensor, ::tch::TchError> {
    let device: Device = other.device();
    tensor.f_to_device(device)?.f_to_kind(other.f_kind()?)
}
