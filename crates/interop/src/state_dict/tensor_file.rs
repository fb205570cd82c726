//! The named tensors of a file, whatever its container: types and shapes at once, values when they are asked for.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;

/// The tensors of a file by their full names, with the dictionaries that they stand in.
pub(crate) struct TensorFile {
    /// What the file is, such as `PyTorch zip`.
    pub(crate) format: String,
    /// Tensors by their dotted names.
    pub(crate) tensors: BTreeMap<String, FileTensor>,
    /// Keys of the outermost dictionary, and of metadata; not only those of tensors.
    pub(crate) keys: BTreeSet<String>,
    /// The length of the file in bytes.
    pub(crate) length: u64,
}

/// A tensor in a file, whose values are not read yet.
#[derive(Clone)]
pub(crate) struct FileTensor {
    pub(crate) element: Element,
    pub(crate) shape: Vec<usize>,
    pub(crate) read: std::sync::Arc<dyn Fn() -> io::Result<Vec<u8>> + Send + Sync>,
}

/// The type of the values of a tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Element {
    F64,
    F32,
    F16,
    Bf16,
    I64,
    I32,
    /// Types that no encoder is made of.
    Other(&'static str),
}

impl Element {
    /// Bytes of a value, as far as values are read.
    fn size(self) -> usize {
        match self {
            Element::F64 | Element::I64 => 8,
            Element::F32 | Element::I32 => 4,
            Element::F16 | Element::Bf16 => 2,
            Element::Other(_) => 1,
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Element::F64 => "F64",
            Element::F32 => "F32",
            Element::F16 => "F16",
            Element::Bf16 => "BF16",
            Element::I64 => "I64",
            Element::I32 => "I32",
            Element::Other(name) => name,
        }
    }
}

impl fmt::Debug for FileTensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{:?}", self.element.name(), self.shape)
    }
}

impl FileTensor {
    /// Bytes of all values; saturating, for a shape that a file makes up.
    pub(crate) fn byte_len(&self) -> u64 {
        self.shape.iter().fold(self.element.size() as u64, |product, &n| product.saturating_mul(n as u64))
    }

    /// The values as 32-bit floats: half types exactly, doubles rounded.
    ///
    /// # Errors
    /// If they cannot be read, or are of another type.
    pub(crate) fn floats(&self) -> io::Result<Vec<f32>> {
        let bytes = (self.read)()?;
        match self.element {
            Element::F32 => words(&bytes, f32::from_le_bytes, self.count()),
            Element::F64 => words(&bytes, |word| f64::from_le_bytes(word) as f32, self.count()),
            Element::F16 => words(&bytes, |word| f16_to_f32(u16::from_le_bytes(word)), self.count()),
            Element::Bf16 => {
                let widen = |word| f32::from_bits(u32::from(u16::from_le_bytes(word)) << 16);
                words(&bytes, widen, self.count())
            }
            other => Err(mismatch(format!("is of type {}, which no parameter has", other.name()))),
        }
    }

    /// The values as whole numbers.
    ///
    /// # Errors
    /// If they cannot be read, or are of another type.
    pub(crate) fn whole(&self) -> io::Result<Vec<i64>> {
        let bytes = (self.read)()?;
        match self.element {
            Element::I64 => words(&bytes, i64::from_le_bytes, self.count()),
            Element::I32 => words(&bytes, |word| i64::from(i32::from_le_bytes(word)), self.count()),
            other => Err(mismatch(format!("is of type {}, not of whole numbers", other.name()))),
        }
    }

    fn count(&self) -> usize {
        self.shape.iter().product()
    }
}

fn mismatch(cause: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, cause)
}

fn words<const N: usize, T>(bytes: &[u8], read: impl Fn([u8; N]) -> T, count: usize) -> io::Result<Vec<T>> {
    let (words, rest) = bytes.as_chunks::<N>();
    if words.len() != count || !rest.is_empty() {
        return Err(mismatch(format!("has {} bytes for {count} values", bytes.len())));
    }
    Ok(words.iter().map(|&word| read(word)).collect())
}

/// The value of an IEEE 754 number of 16 bits.
fn f16_to_f32(bits: u16) -> f32 {
    let sign = u32::from(bits >> 15) << 31;
    let (exponent, fraction) = (u32::from(bits >> 10) & 0x1f, u32::from(bits & 0x3ff));
    match exponent {
        // Subnormal: fraction · 2⁻²⁴, exact in f32.
        0 => {
            let magnitude = fraction as f32 / 16_777_216.0;
            if sign == 0 { magnitude } else { -magnitude }
        }
        0x1f => f32::from_bits(sign | 0x7f80_0000 | (fraction << 13)),
        _ => f32::from_bits(sign | ((exponent + 112) << 23) | (fraction << 13)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From the definition of the format: 2^(e − 15) · (1 + f / 1024), subnormals f · 2⁻²⁴.
    #[test]
    fn half_precision_is_widened_exactly() {
        for bits in 0..=u16::MAX {
            let (e, f) = (i32::from(bits >> 10 & 0x1f), f64::from(bits & 0x3ff));
            let sign = if bits >> 15 == 0 { 1.0 } else { -1.0 };
            let found = f64::from(f16_to_f32(bits));
            match (e, f) {
                (0x1f, f) if f != 0.0 => assert!(found.is_nan()),
                (0x1f, _) => assert_eq!(found, sign * f64::INFINITY),
                (0, f) => assert_eq!(found, sign * f * 2f64.powi(-24), "{bits:#06x}"),
                (e, f) => assert_eq!(found, sign * (1.0 + f / 1024.0) * 2f64.powi(e - 15), "{bits:#06x}"),
            }
        }
    }
}
