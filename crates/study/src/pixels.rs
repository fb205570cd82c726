//! Radii in pixels, written as numbers or fractions.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use tarrl_attacks::fraction;

/// A radius ε in pixels of the range \[0, 1\]. A file may say `0.1`, `"0.1"` or `"8/255"`.
///
/// ```
/// let epsilon: tarrl_study::pixels::Pixels = "51/255".parse().unwrap();
/// assert_eq!(epsilon.value(), 0.2);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub struct Pixels(f64);

/// A value that is not a radius in pixels.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} is not a radius in pixels; write a number in [0, 1] or a fraction such as \"8/255\"")]
pub struct PixelsError(String);

impl Pixels {
    /// The radius as a number in \[0, 1\].
    pub fn value(self) -> f64 {
        self.0
    }

    fn checked(value: f64) -> Result<Self, PixelsError> {
        if (0.0..=1.0).contains(&value) { Ok(Self(value)) } else { Err(PixelsError(value.to_string())) }
    }
}

impl fmt::Display for Pixels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl FromStr for Pixels {
    type Err = PixelsError;

    fn from_str(text: &str) -> Result<Self, PixelsError> {
        let value = fraction::parse(text).map_err(|_| PixelsError(format!("`{text}`")))?;
        Self::checked(value)
    }
}

impl Serialize for Pixels {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        fraction::serialize(&self.0, serializer)
    }
}

impl<'de> Deserialize<'de> for Pixels {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::checked(fraction::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_fractions_are_read_alike() {
        for (text, value) in
            [("8/255", 8.0 / 255.0), (" 8 / 255 ", 8.0 / 255.0), ("0.1", 0.1), ("0", 0.0), ("1", 1.0)]
        {
            assert_eq!(text.parse::<Pixels>().unwrap().value(), value, "{text}");
        }
        let from_json: Vec<Pixels> = serde_json::from_str("[0, 1, 0.5, \"4/8\"]").unwrap();
        assert_eq!(from_json.iter().map(|p| p.value()).collect::<Vec<_>>(), [0.0, 1.0, 0.5, 0.5]);
    }

    #[test]
    fn texts_that_are_not_a_radius_are_refused() {
        for text in ["8", "-0.1", "1/0", "0/0", "nan", "eight", "8/", "1/2/3"] {
            let error = text.parse::<Pixels>().unwrap_err().to_string();
            assert!(error.contains("write a number in [0, 1]"), "{text}: {error}");
        }
    }

    #[test]
    fn a_radius_survives_json() {
        let epsilon: Pixels = "8/255".parse().unwrap();
        let json = serde_json::to_string(&epsilon).unwrap();
        assert_eq!(serde_json::from_str::<Pixels>(&json).unwrap(), epsilon);
    }
}
