//! Outcomes image by image, stored as a string of zeros and ones.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Whether each image of a sample was classified correctly.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Outcomes(pub Vec<bool>);

impl Outcomes {
    /// Number of images that were classified correctly.
    pub fn correct(&self) -> usize {
        self.0.iter().filter(|&&correct| correct).count()
    }

    /// Their share; not a number without images.
    pub fn accuracy(&self) -> f64 {
        self.correct() as f64 / self.0.len() as f64
    }
}

impl Serialize for Outcomes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let text: String = self.0.iter().map(|&correct| if correct { '1' } else { '0' }).collect();
        serializer.serialize_str(&text)
    }
}

impl<'de> Deserialize<'de> for Outcomes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let outcome = |c| match c {
            '0' => Ok(false),
            '1' => Ok(true),
            other => Err(de::Error::custom(format!("an outcome is 0 or 1, not {other:?}"))),
        };
        Ok(Self(text.chars().map(outcome).collect::<Result<_, _>>()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outcomes_come_back_from_their_string() {
        let outcomes = Outcomes(vec![true, false, true]);
        let text = serde_json::to_string(&outcomes).unwrap();
        assert_eq!(text, "\"101\"");
        assert_eq!(serde_json::from_str::<Outcomes>(&text).unwrap(), outcomes);
        assert_eq!((outcomes.correct(), outcomes.accuracy()), (2, 2.0 / 3.0));
        assert!(serde_json::from_str::<Outcomes>("\"12\"").unwrap_err().to_string().contains("0 or 1"));
    }
}
