//! Numbers written as fractions, `"8/255"`: how radii are named in the literature.
//!
//! For `#[serde(with = "tarrl_attacks::fraction")]` on an `f64`.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::fmt;

/// Why a text is not a fraction.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FractionError {
    /// Neither a number nor a quotient of two numbers.
    #[error("{0:?} is not a number; write one like 0.03 or a fraction like \"8/255\"")]
    NotANumber(String),
    /// A quotient with denominator zero.
    #[error("{0:?} divides by zero; write a number like 0.03 or a fraction like \"8/255\"")]
    DividesByZero(String),
    /// NaN or infinite.
    #[error("{0:?} is not finite; write a number like 0.03 or a fraction like \"8/255\"")]
    NotFinite(String),
}

/// The value of `"8/255"` or `"0.03"`.
///
/// # Errors
/// If the text is neither a number nor a quotient of two, or not finite; the message repeats the text.
pub fn parse(text: &str) -> Result<f64, FractionError> {
    let number =
        |part: &str| part.trim().parse::<f64>().map_err(|_| FractionError::NotANumber(text.to_owned()));
    let value = match text.split_once('/') {
        Some((above, below)) => {
            let (above, below) = (number(above)?, number(below)?);
            if below == 0.0 {
                return Err(FractionError::DividesByZero(text.to_owned()));
            }
            above / below
        }
        None => number(text)?,
    };
    if value.is_finite() { Ok(value) } else { Err(FractionError::NotFinite(text.to_owned())) }
}

/// Writes the number.
///
/// # Errors
/// Those of the format.
pub fn serialize<S: Serializer>(value: &f64, to: S) -> Result<S::Ok, S::Error> {
    value.serialize(to)
}

/// Reads a number, or a string that [`parse`] knows.
///
/// # Errors
/// If it is neither.
pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<f64, D::Error> {
    from.deserialize_any(Reader)
}

/// The same for an `Option<f64>` with `#[serde(default)]`.
pub mod optional {
    use super::{Deserialize, Deserializer, Serialize, Serializer};

    /// Writes the number, or nothing.
    ///
    /// # Errors
    /// Those of the format.
    pub fn serialize<S: Serializer>(value: &Option<f64>, to: S) -> Result<S::Ok, S::Error> {
        value.serialize(to)
    }

    /// Reads a number, a fraction or nothing.
    ///
    /// # Errors
    /// If it is something else.
    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<f64>, D::Error> {
        Ok(Option::<Fraction>::deserialize(from)?.map(|Fraction(value)| value))
    }

    #[derive(Deserialize)]
    struct Fraction(#[serde(with = "super")] f64);
}

struct Reader;

impl de::Visitor<'_> for Reader {
    type Value = f64;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a number like 0.03 or a fraction like \"8/255\"")
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<f64, E> {
        if value.is_finite() {
            Ok(value)
        } else {
            Err(E::custom(FractionError::NotFinite(value.to_string())))
        }
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<f64, E> {
        Ok(value as f64)
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<f64, E> {
        Ok(value as f64)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<f64, E> {
        parse(text).map_err(E::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct File {
        #[serde(with = "super")]
        epsilon: f64,
        #[serde(default, with = "super::optional", skip_serializing_if = "Option::is_none")]
        step: Option<f64>,
    }

    #[test]
    fn numbers_and_fractions_are_read() {
        let read = |text: &str| toml::from_str::<File>(text).map_err(|e| e.to_string());
        assert_eq!(read("epsilon = '8/255'"), Ok(File { epsilon: 8.0 / 255.0, step: None }));
        assert_eq!(read("epsilon = 1\nstep = ' 2 / 255 '").unwrap().step, Some(2.0 / 255.0));
        assert_eq!(read("epsilon = 0.1\nstep = 0.025").unwrap().step, Some(0.025));
        for wrong in
            ["'8/0'", "'eight'", "'1/2/3'", "true", "'0/0'", "'nan'", "nan", "'inf'", "'8/'", "'1/inf/'"]
        {
            let message = read(&format!("epsilon = {wrong}")).unwrap_err();
            assert!(message.contains("8/255"), "{message}");
        }
        assert_eq!(parse("1/0"), Err(FractionError::DividesByZero("1/0".to_owned())));
        assert_eq!(parse("nan"), Err(FractionError::NotFinite("nan".to_owned())));
        assert_eq!(parse("eight"), Err(FractionError::NotANumber("eight".to_owned())));
    }

    #[test]
    fn what_is_written_is_read_back() {
        let file = File { epsilon: 8.0 / 255.0, step: Some(2.0 / 255.0) };
        assert_eq!(toml::from_str::<File>(&toml::to_string(&file).unwrap()).unwrap(), file);
    }
}
