//! Element types, under the names that PyTorch gives them.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::borrow::Cow;

/// The element type of a tensor.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Dtype(Cow<'static, str>);

impl Dtype {
    /// The type whose every element is a pair of numbers of four bits.
    pub const PAIRS: &str = "float4_e2m1fn_x2";

    /// From the name after `torch.`, aliases resolved: `half` is `float16`.
    #[must_use]
    pub fn of_torch(name: &str) -> Self {
        let name = match name {
            "half" => "float16",
            "float" => "float32",
            "double" => "float64",
            "short" => "int16",
            "int" => "int32",
            "long" => "int64",
            "cfloat" => "complex64",
            "cdouble" => "complex128",
            "chalf" => "complex32",
            other => return Self(Cow::Owned(other.to_owned())),
        };
        Self(Cow::Borrowed(name))
    }

    /// From the name of a typed storage class; `None` for the untyped one, which holds bytes.
    #[must_use]
    pub fn of_storage(class: &str) -> Option<Self> {
        let name = match class.strip_suffix("Storage")? {
            "Float" => "float32",
            "Double" => "float64",
            "Half" => "float16",
            "BFloat16" => "bfloat16",
            "Long" => "int64",
            "Int" => "int32",
            "Short" => "int16",
            "Char" => "int8",
            "Byte" => "uint8",
            "Bool" => "bool",
            "ComplexFloat" => "complex64",
            "ComplexDouble" => "complex128",
            "QInt8" => "qint8",
            "QUInt8" => "quint8",
            "QInt32" => "qint32",
            "QUInt4x2" => "quint4x2",
            "QUInt2x4" => "quint2x4",
            _ => return None,
        };
        Some(Self(Cow::Borrowed(name)))
    }

    /// The name of the typed storage class; `None` for types that stand on the untyped one.
    #[must_use]
    pub fn to_storage(&self) -> Option<&'static str> {
        Some(match &*self.0 {
            "float32" => "FloatStorage",
            "float64" => "DoubleStorage",
            "float16" => "HalfStorage",
            "bfloat16" => "BFloat16Storage",
            "int64" => "LongStorage",
            "int32" => "IntStorage",
            "int16" => "ShortStorage",
            "int8" => "CharStorage",
            "uint8" => "ByteStorage",
            "bool" => "BoolStorage",
            "complex64" => "ComplexFloatStorage",
            "complex128" => "ComplexDoubleStorage",
            _ => return None,
        })
    }

    /// From a safetensors dtype.
    #[must_use]
    pub fn of_safetensors(name: &str) -> Self {
        let torch = match name {
            "F64" => "float64",
            "F32" => "float32",
            "F16" => "float16",
            "BF16" => "bfloat16",
            "I64" => "int64",
            "I32" => "int32",
            "I16" => "int16",
            "I8" => "int8",
            "U64" => "uint64",
            "U32" => "uint32",
            "U16" => "uint16",
            "U8" => "uint8",
            "BOOL" => "bool",
            "C64" => "complex64",
            "F8_E4M3" => "float8_e4m3fn",
            "F8_E5M2" => "float8_e5m2",
            "F8_E8M0" => "float8_e8m0fnu",
            "F4" => "float4_e2m1fn_x2",
            other => return Self(Cow::Owned(other.to_ascii_lowercase())),
        };
        Self(Cow::Borrowed(torch))
    }

    /// The safetensors name; `None` for types that the format does not have.
    #[must_use]
    pub fn to_safetensors(&self) -> Option<&'static str> {
        Some(match &*self.0 {
            "float64" => "F64",
            "float32" => "F32",
            "float16" => "F16",
            "bfloat16" => "BF16",
            "int64" => "I64",
            "int32" => "I32",
            "int16" => "I16",
            "int8" => "I8",
            "uint64" => "U64",
            "uint32" => "U32",
            "uint16" => "U16",
            "uint8" => "U8",
            "bool" => "BOOL",
            "complex64" => "C64",
            "float8_e4m3fn" => "F8_E4M3",
            "float8_e5m2" => "F8_E5M2",
            "float8_e8m0fnu" => "F8_E8M0",
            "float4_e2m1fn_x2" => "F4",
            _ => return None,
        })
    }

    /// The name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0
    }

    /// Bits of one element; `None` for unknown types.
    #[must_use]
    pub fn bits(&self) -> Option<u64> {
        Some(match &*self.0 {
            "complex128" => 128,
            "float64" | "int64" | "uint64" | "complex64" => 64,
            "float32" | "int32" | "uint32" | "qint32" | "complex32" => 32,
            "float16" | "bfloat16" | "int16" | "uint16" | "bits16" => 16,
            "int8" | "uint8" | "bool" | "qint8" | "quint8" | "bits8" | "float4_e2m1fn_x2" => 8,
            "quint4x2" | "bits4x2" => 4,
            "quint2x4" | "bits2x4" => 2,
            "f6_e2m3" | "f6_e3m2" => 6,
            name if name.starts_with("float8") => 8,
            name => name
                .strip_prefix("uint")
                .or_else(|| name.strip_prefix("int"))?
                .parse()
                .ok()
                .filter(|bits| *bits <= 8)
                .map(|_: u64| 8)?,
        })
    }

    /// Bytes that `count` elements take; `None` when unknown or beyond 64 bits.
    #[must_use]
    pub fn bytes(&self, count: u64) -> Option<u64> {
        count.checked_mul(self.bits()?)?.checked_add(7).map(|bits| bits >> 3)
    }

    /// One element as a float, little-endian; `None` for types that are no numbers.
    #[must_use]
    pub fn number(&self, bytes: &[u8]) -> Option<f64> {
        #[expect(clippy::cast_precision_loss, reason = "metrics beyond 53 bits rank the same")]
        Some(match (&*self.0, bytes) {
            ("float64", _) => f64::from_le_bytes(bytes.try_into().ok()?),
            ("float32", _) => f64::from(f32::from_le_bytes(bytes.try_into().ok()?)),
            ("float16", _) => half(u16::from_le_bytes(bytes.try_into().ok()?)),
            ("bfloat16", _) => f64::from(f32::from_bits(u32::from(u16::from_le_bytes(bytes.try_into().ok()?)) << 16)),
            ("int64", _) => i64::from_le_bytes(bytes.try_into().ok()?) as f64,
            ("uint64", _) => u64::from_le_bytes(bytes.try_into().ok()?) as f64,
            ("int32", _) => f64::from(i32::from_le_bytes(bytes.try_into().ok()?)),
            ("uint32", _) => f64::from(u32::from_le_bytes(bytes.try_into().ok()?)),
            ("int16", _) => f64::from(i16::from_le_bytes(bytes.try_into().ok()?)),
            ("uint16", _) => f64::from(u16::from_le_bytes(bytes.try_into().ok()?)),
            ("int8", [byte]) => f64::from(i8::from_le_bytes([*byte])),
            ("uint8" | "bool", [byte]) => f64::from(*byte),
            ("float8_e4m3fn", [byte]) => {
                float8(*byte, Float8 { exponent: 4, mantissa: 3, bias: 7, has_infinity: false })
            }
            ("float8_e5m2", [byte]) => float8(*byte, Float8 { exponent: 5, mantissa: 2, bias: 15, has_infinity: true }),
            _ => return None,
        })
    }

    /// Whether the type can hold NaN or an infinity and is checked for them.
    #[must_use]
    pub fn is_float(&self) -> bool {
        matches!(&*self.0, "float64" | "float32" | "float16" | "bfloat16" | "float8_e4m3fn" | "float8_e5m2")
    }

    /// Counts the elements of `bytes` that are NaN or infinite. A partial element at the end is ignored.
    #[must_use]
    pub fn count_non_finite(&self, bytes: &[u8]) -> u64 {
        // All ones in the exponent: infinite or NaN, in every IEEE type.
        fn count<const N: usize>(bytes: &[u8], is_special: impl Fn([u8; N]) -> bool) -> u64 {
            bytes.as_chunks::<N>().0.iter().filter(|element| is_special(**element)).count() as u64
        }
        match &*self.0 {
            "float64" => count::<8>(bytes, |e| u64::from_le_bytes(e) & 0x7ff0_0000_0000_0000 == 0x7ff0_0000_0000_0000),
            "float32" => count::<4>(bytes, |e| u32::from_le_bytes(e) & 0x7f80_0000 == 0x7f80_0000),
            "float16" => count::<2>(bytes, |e| u16::from_le_bytes(e) & 0x7c00 == 0x7c00),
            "bfloat16" => count::<2>(bytes, |e| u16::from_le_bytes(e) & 0x7f80 == 0x7f80),
            "float8_e4m3fn" => count::<1>(bytes, |[e]| e & 0x7f == 0x7f),
            "float8_e5m2" => count::<1>(bytes, |[e]| e & 0x7c == 0x7c),
            _ => 0,
        }
    }
}

impl std::fmt::Display for Dtype {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

fn half(bits: u16) -> f64 {
    let sign = if bits & 0x8000 == 0 { 1.0 } else { -1.0 };
    let exponent = i32::from((bits >> 10) & 0x1f);
    let fraction = f64::from(bits & 0x3ff);
    sign * match exponent {
        0 => fraction * 2.0_f64.powi(-24),
        0x1f if fraction == 0.0 => f64::INFINITY,
        0x1f => f64::NAN,
        _ => (1.0 + fraction / 1024.0) * 2.0_f64.powi(exponent.saturating_sub(15)),
    }
}

#[derive(Clone, Copy)]
struct Float8 {
    exponent: u32,
    mantissa: u32,
    bias: i32,
    has_infinity: bool,
}

fn float8(byte: u8, layout: Float8) -> f64 {
    let Float8 { exponent: exponent_bits, mantissa: mantissa_bits, bias, has_infinity } = layout;
    let ones = |bits: u32| 0xff_u8.checked_shr(8_u32.saturating_sub(bits)).unwrap_or(0);
    let sign = if byte & 0x80 == 0 { 1.0 } else { -1.0 };
    let exponent = byte.checked_shr(mantissa_bits).unwrap_or(0) & ones(exponent_bits);
    let mantissa = byte & ones(mantissa_bits);
    let fraction = f64::from(mantissa) / f64::from(ones(mantissa_bits)).mul_add(1.0, 1.0);
    if exponent == ones(exponent_bits) {
        match (has_infinity, mantissa) {
            (true, 0) => return sign * f64::INFINITY,
            (true, _) => return f64::NAN,
            (false, mantissa) if mantissa == ones(mantissa_bits) => return f64::NAN,
            _ => {}
        }
    }
    let power = i32::from(exponent.max(1)).saturating_sub(bias);
    sign * (fraction + if exponent == 0 { 0.0 } else { 1.0 }) * 2.0_f64.powi(power)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(dtype: &str, bytes: &[u8]) -> f64 {
        Dtype::of_torch(dtype).number(bytes).unwrap()
    }

    #[test]
    fn elements_of_every_numeric_type() {
        assert_eq!(number("float16", &0x3b00_u16.to_le_bytes()), 0.875);
        assert_eq!(number("float16", &0x0001_u16.to_le_bytes()), 2.0_f64.powi(-24));
        assert!(number("float16", &0x7e00_u16.to_le_bytes()).is_nan());
        assert_eq!(number("bfloat16", &0x3f60_u16.to_le_bytes()), 0.875);
        assert_eq!(number("float8_e4m3fn", &[0x36]), 0.875);
        assert_eq!(number("float8_e4m3fn", &[0x7e]), 448.0);
        assert!(number("float8_e4m3fn", &[0x7f]).is_nan());
        assert_eq!(number("float8_e5m2", &[0x3b]), 0.875);
        assert_eq!(number("float8_e5m2", &[0x7c]), f64::INFINITY);
        assert_eq!(number("int8", &[0xff]), -1.0);
        assert_eq!(number("int64", &(-3_i64).to_le_bytes()), -3.0);
    }

    #[test]
    fn non_finite_elements_are_counted() {
        let bytes: Vec<u8> =
            [1.0_f32, f32::NAN, f32::INFINITY, -0.0].iter().flat_map(|value| value.to_le_bytes()).collect();
        assert_eq!(Dtype::of_torch("float32").count_non_finite(&bytes), 2);
        assert_eq!(Dtype::of_torch("int32").count_non_finite(&bytes), 0);
    }

    #[test]
    fn a_typed_storage_is_of_the_type_it_is_named_after() {
        for name in ["float32", "float64", "float16", "bfloat16", "int64", "int8", "uint8", "bool", "complex128"] {
            let dtype = Dtype::of_torch(name);
            assert_eq!(Dtype::of_storage(dtype.to_storage().unwrap()), Some(dtype));
        }
        assert_eq!(Dtype::of_torch("uint16").to_storage(), None);
    }

    #[test]
    fn sizes_of_packed_types_round_up() {
        assert_eq!(Dtype::of_torch("quint4x2").bytes(3), Some(2));
        assert_eq!(Dtype::of_torch("float32").bytes(u64::MAX), None);
        assert_eq!(Dtype::of_torch("mystery").bytes(1), None);
    }
}
