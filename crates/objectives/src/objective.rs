//! The choice of a loss, as data.

use crate::nt_xent;
use serde::{Deserialize, Deserializer, Serialize, de::Error};
use tarrl_tensor::Tensor;

/// A self-supervised loss of two views, as method files name it: `{ kind = "nt-xent", temperature = 0.5 }`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Objective {
    /// [`nt_xent`].
    NtXent {
        /// τ: divides the cosine similarities; positive and finite. Reading 0.5 when absent.
        #[serde(default = "default_temperature", deserialize_with = "positive")]
        temperature: f64,
    },
}

impl Objective {
    /// The scalar loss of two views `(n, d)`; row `i` of both comes from one sample.
    ///
    /// # Panics
    /// As the loss it names.
    #[track_caller]
    pub fn loss(&self, z1: &Tensor, z2: &Tensor) -> Tensor {
        match *self {
            Objective::NtXent { temperature } => nt_xent(z1, z2, temperature),
        }
    }
}

/// NT-Xent with the temperature that SimCLR uses on CIFAR-10.
impl Default for Objective {
    fn default() -> Self {
        Objective::NtXent { temperature: default_temperature() }
    }
}

fn default_temperature() -> f64 {
    0.5
}

fn positive<'de, D: Deserializer<'de>>(source: D) -> Result<f64, D::Error> {
    let value = f64::deserialize(source)?;
    if value > 0.0 && value.is_finite() {
        return Ok(value);
    }
    Err(D::Error::custom(format!("the temperature is {value}; it divides similarities and must be positive")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tarrl_tensor::cpu;

    #[derive(Debug, Deserialize)]
    struct File {
        objective: Objective,
    }

    fn read(text: &str) -> Result<Objective, String> {
        toml::from_str::<File>(text).map(|file| file.objective).map_err(|e| e.to_string())
    }

    #[test]
    fn method_files_name_it() {
        let half = Objective::NtXent { temperature: 0.5 };
        assert_eq!(read("objective = { kind = 'nt-xent', temperature = 0.5 }"), Ok(half));
        assert_eq!(read("objective = { kind = 'nt-xent' }"), Ok(Objective::default()));
        assert_eq!(toml::to_string(&half).unwrap(), "kind = \"nt-xent\"\ntemperature = 0.5\n");
    }

    #[test]
    fn mistakes_in_a_file_are_named() {
        let wrong = |text: &str, word: &str| {
            let message = read(text).unwrap_err();
            assert!(message.contains(word), "{message}");
        };
        wrong("objective = { kind = 'nt-xent', temprature = 0.5 }", "temprature");
        wrong("objective = { kind = 'simclr' }", "simclr");
        wrong("objective = { kind = 'nt-xent', temperature = 0.0 }", "must be positive");
        wrong("objective = { kind = 'nt-xent', temperature = nan }", "must be positive");
    }

    #[test]
    fn the_choice_calls_the_function() {
        let z = Tensor::new(&cpu(), [3, 2], &[1.0f64, 2.0, -1.0, 0.5, 0.3, 0.1]);
        let w = Tensor::new(&cpu(), [3, 2], &[1.0f64, 1.0, -1.0, 0.0, 0.3, 0.4]);
        let loss = Objective::NtXent { temperature: 0.2 }.loss(&z, &w);
        assert_eq!(loss.item(), nt_xent(&z, &w, 0.2).item());
    }
}
