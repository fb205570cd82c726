//! Floating-point numbers in files as hexadecimal bits: what is read is what was written, infinities included.
//!
//! For `#[serde(with = "bits")]` on `f32`, `f64` and vectors of them: hexadecimal digits. Step rules of other crates store
//! their numbers with it.

use serde::{Deserialize, Deserializer, Serializer, de::Error};

/// Numbers that have a text of fixed digits.
pub trait Bits: Sized {
    /// Appends the digits.
    fn write(&self, text: &mut String);
    /// The number again; `None` if these are not its digits.
    fn read(text: &str) -> Option<Self>;
}

/// Writes the digits.
///
/// # Errors
/// As the serializer.
pub fn serialize<T: Bits, S: Serializer>(value: &T, to: S) -> Result<S::Ok, S::Error> {
    let mut text = String::new();
    value.write(&mut text);
    to.serialize_str(&text)
}

/// Reads them.
///
/// # Errors
/// If these are not the digits of such numbers.
pub fn deserialize<'de, T: Bits, D: Deserializer<'de>>(from: D) -> Result<T, D::Error> {
    let text = std::borrow::Cow::<'de, str>::deserialize(from)?;
    T::read(&text).ok_or_else(|| D::Error::custom("a number is not written as hexadecimal bits"))
}

impl Bits for f64 {
    fn write(&self, text: &mut String) {
        text.push_str(&format!("{:016x}", self.to_bits()));
    }
    fn read(text: &str) -> Option<Self> {
        (text.len() == 16).then(|| u64::from_str_radix(text, 16).ok().map(f64::from_bits)).flatten()
    }
}

impl Bits for f32 {
    fn write(&self, text: &mut String) {
        text.push_str(&format!("{:08x}", self.to_bits()));
    }
    fn read(text: &str) -> Option<Self> {
        (text.len() == 8).then(|| u32::from_str_radix(text, 16).ok().map(f32::from_bits)).flatten()
    }
}

impl<T: Bits> Bits for Vec<T> {
    fn write(&self, text: &mut String) {
        self.iter().for_each(|v| v.write(text));
    }
    fn read(text: &str) -> Option<Self> {
        let digits = 2 * size_of::<T>();
        if !text.is_ascii() || !text.len().is_multiple_of(digits) {
            return None;
        }
        (0..text.len() / digits).map(|i| T::read(&text[digits * i..][..digits])).collect()
    }
}

/// Whether two points are equal in every bit.
pub(crate) fn same(a: &[f32], b: &[f32]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.to_bits() == b.to_bits())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_survive_storage_in_every_bit() {
        let all = vec![0.1f32, -0.0, f32::MIN_POSITIVE, f32::NEG_INFINITY, f32::NAN];
        let mut text = String::new();
        all.write(&mut text);
        let bits = |v: &[f32]| v.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&Vec::<f32>::read(&text).unwrap()), bits(&all));
        assert_eq!(f64::read("7ff0000000000000"), Some(f64::INFINITY));
        assert_eq!(Vec::read("7ff00000000000003ff0000000000000"), Some(vec![f64::INFINITY, 1.0]));
        assert!(Vec::<f32>::read("3f8").is_none() && Vec::<f32>::read("3f80000ü").is_none());
        assert!(same(&all, &all) && !same(&[0.0], &[-0.0]) && !same(&[0.0], &[0.0, 0.0]));
    }
}
