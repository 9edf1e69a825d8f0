//! Numbers in the many shapes that trainers give them.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use super::tensor::{self, TensorRef};
use crate::format::dtype::Dtype;
use crate::format::pickle::{Node, Pickle, Value};
use crate::limits;

/// Longest number that numpy writes: 128 bits, as bytes of at most four characters each.
const ELEMENT_BYTES: u32 = 64;

/// A number, or the tensor that holds it.
#[derive(Clone, Debug, PartialEq)]
pub enum Scalar {
    /// A number written in the pickle itself.
    Number(f64),
    /// A tensor of one element; its bytes are in a storage.
    Tensor(TensorRef),
}

/// The number that a value is: Python and numpy scalars, decimals, fractions, tensors and arrays of one element.
/// Booleans and texts are none.
#[must_use]
pub fn scalar(pickle: &Pickle, value: Value) -> Option<Scalar> {
    match value {
        #[expect(clippy::cast_precision_loss, reason = "metrics beyond 53 bits rank the same")]
        Value::Int(number) => Some(Scalar::Number(number as f64)),
        Value::Float(number) => Some(Scalar::Number(number)),
        Value::Node(_) => match pickle.node(value)? {
            Node::BigInt(number) => Some(Scalar::Number(*number)),
            Node::Object(_) => object(pickle, value),
            _ => None,
        },
        _ => None,
    }
}

fn object(pickle: &Pickle, value: Value) -> Option<Scalar> {
    if let Some(tensor) = tensor::tensor(pickle, value) {
        return (tensor.elements() == Some(1)).then_some(Scalar::Tensor(tensor));
    }
    let (module, name, object) = pickle.call(value)?;
    let arguments = pickle.arguments(object);
    let number = match (&*module, &*name) {
        ("numpy.core.multiarray" | "numpy._core.multiarray", "scalar") => {
            let [dtype, bytes, ..] = arguments else { return None };
            numpy_element(pickle, *dtype, &pickle.bytes_up_to(*bytes, ELEMENT_BYTES)?)
        }
        ("numpy.core.multiarray" | "numpy._core.multiarray", "_reconstruct") => {
            // BUILD (version, shape, dtype, is_fortran, bytes)
            let [_, shape, dtype, _, bytes] = pickle.sequence(pickle.contents(object).state)? else { return None };
            one_element(pickle, *shape)?;
            numpy_element(pickle, *dtype, &pickle.bytes_up_to(*bytes, ELEMENT_BYTES)?)
        }
        ("numpy.core.numeric" | "numpy._core.numeric", "_frombuffer") => {
            let [bytes, dtype, shape, ..] = arguments else { return None };
            one_element(pickle, *shape)?;
            numpy_element(pickle, *dtype, &pickle.bytes_up_to(*bytes, ELEMENT_BYTES)?)
        }
        ("decimal", "Decimal") => pickle.text(*arguments.first()?)?.parse().ok(),
        ("fractions", "Fraction") => fraction(pickle, arguments),
        ("builtins" | "__builtin__", "float" | "int") => pickle.text(*arguments.first()?)?.parse().ok(),
        _ => None,
    };
    number.map(Scalar::Number)
}

fn one_element(pickle: &Pickle, shape: Value) -> Option<()> {
    let sides = pickle.sequence(shape).filter(|sides| sides.len() <= limits::DIMENSIONS)?;
    sides.iter().all(|side| *side == Value::Int(1)).then_some(())
}

fn fraction(pickle: &Pickle, arguments: &[Value]) -> Option<f64> {
    match arguments {
        [text] => {
            let text = pickle.text(*text)?;
            let (numerator, denominator) = text.split_once('/').unwrap_or((&text, "1"));
            Some(numerator.parse::<f64>().ok()? / denominator.parse::<f64>().ok()?)
        }
        #[expect(clippy::cast_precision_loss, reason = "metrics beyond 53 bits rank the same")]
        [Value::Int(numerator), Value::Int(denominator)] => Some(*numerator as f64 / *denominator as f64),
        _ => None,
    }
}

/// One element of a numpy dtype: `dtype("f8", False, True)` with the byte order in its state.
fn numpy_element(pickle: &Pickle, dtype: Value, bytes: &[u8]) -> Option<f64> {
    let (module, name, object) = pickle.call(dtype)?;
    if module != "numpy" || name != "dtype" {
        return None;
    }
    let code = pickle.text(*pickle.arguments(object).first()?)?.into_owned();
    let code = code.trim_start_matches(['<', '>', '|', '=']);
    let order = pickle
        .sequence(pickle.contents(object).state)
        .and_then(|state| state.get(1))
        .and_then(|order| pickle.text(*order));
    let dtype = match code {
        "f2" => "float16",
        "f4" => "float32",
        "f8" => "float64",
        "i1" => "int8",
        "i2" => "int16",
        "i4" => "int32",
        "i8" => "int64",
        "u1" => "uint8",
        "u2" => "uint16",
        "u4" => "uint32",
        "u8" => "uint64",
        _ => return None,
    };
    let mut element = bytes.to_vec();
    if order.as_deref() == Some(">") {
        element.reverse();
    }
    Dtype::of_torch(dtype).number(&element)
}
