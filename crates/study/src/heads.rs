//! Heads from files: linear, MLP and regression heads in JSON, and the linear heads that jobs write.

use std::fmt;
use std::path::Path;

use anyhow::{Context, bail};
use serde::de::{Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};
use tarrl_bound::{LinearHead, MlpHead, RegressionHead};
use tarrl_data::read_at_most;

use crate::stages::head::{HeadFile, Weights};

/// The largest file that is read, in bytes.
const LARGEST: u64 = 1 << 30;

/// A head, and the layers that an attack differentiates.
#[derive(Clone, Debug)]
pub enum AnyHead {
    /// Logits of a linear map.
    Linear(LinearHead),
    /// Logits of a linear map after a hidden layer of ReLUs.
    Mlp {
        /// The head.
        head: MlpHead,
        /// The hidden layer and the last one.
        layers: [Layer; 2],
    },
    /// Numbers of a linear map.
    Regression {
        /// The head.
        head: RegressionHead,
        /// The map.
        layer: Layer,
        /// The true numbers `(n, o)` of the certified images in their order.
        targets: Vec<f64>,
    },
}

/// `W z + b` with `W (outputs, inputs)`, as plain numbers.
#[derive(Clone, Debug)]
pub struct Layer {
    /// `(outputs, inputs)`, row-major.
    pub weight: Vec<f64>,
    /// `(outputs)`
    pub bias: Vec<f64>,
}

/// The keys of a head's JSON object, each of which is there once: of two weights neither would be the one that was meant.
struct Keys(Map<String, Value>);

impl<'de> Deserialize<'de> for Keys {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Once;
        impl<'de> Visitor<'de> for Once {
            type Value = Keys;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object with the numbers of a head")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Keys, A::Error> {
                let mut keys = Map::new();
                while let Some((key, value)) = entries.next_entry::<String, Value>()? {
                    if keys.contains_key(&key) {
                        return Err(A::Error::custom(format_args!("`{key}` is there twice")));
                    }
                    keys.insert(key, value);
                }
                Ok(Keys(keys))
            }
        }
        deserializer.deserialize_map(Once)
    }
}

/// A head as it stands in its file.
#[derive(Clone, Debug, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
enum Stored {
    /// `weight (k, d)`, `bias (k)`.
    Linear(Weights),
    /// `hidden (h, d)`, `hidden_bias (h)`, then `weight (k, h)`, `bias (k)`.
    Mlp {
        d: usize,
        h: usize,
        hidden: Vec<f64>,
        hidden_bias: Vec<f64>,
        k: usize,
        weight: Vec<f64>,
        bias: Vec<f64>,
    },
    /// `weight (o, d)`, `bias (o)`, `targets (n, o)`.
    Regression { d: usize, o: usize, weight: Vec<f64>, bias: Vec<f64>, targets: Vec<f64> },
}

impl AnyHead {
    /// Reads a head, JSON or what the study writes, with the hash of its encoder if the file names it. JSON without a
    /// `kind` is linear.
    ///
    /// # Errors
    /// If the file cannot be read, or holds no head: sizes that do not fit, a number that is not finite, or fewer than
    /// two classes.
    pub fn read(path: &Path) -> anyhow::Result<(Self, Option<String>)> {
        if path.extension().is_some_and(|ending| ending == "safetensors") {
            let file = HeadFile::load(path)?;
            return Ok((AnyHead::Linear(file.head), file.encoder));
        }
        let place = path.display();
        let text =
            read_at_most(path, LARGEST).with_context(|| format!("cannot read {place}; check the path"))?;
        let Keys(mut keys) =
            serde_json::from_slice(&text).with_context(|| format!("{place} is no JSON head"))?;
        keys.entry("kind").or_insert_with(|| "linear".into());
        let encoder = keys.remove("encoder_blake3");
        let encoder = encoder.map(serde_json::from_value).transpose();
        let encoder = encoder.with_context(|| format!("{place}: `encoder_blake3` is no text"))?;
        let stored: Stored =
            serde_json::from_value(keys.into()).with_context(|| format!("{place} is no head"))?;
        Ok((stored.head().with_context(|| format!("{place}"))?, encoder))
    }

    /// The number of classes, for heads that tell classes apart.
    pub fn classes(&self) -> Option<usize> {
        match self {
            AnyHead::Linear(head) => Some(head.classes()),
            AnyHead::Mlp { layers, .. } => Some(layers[1].bias.len()),
            AnyHead::Regression { .. } => None,
        }
    }

    /// The features that it expects.
    pub fn features(&self) -> usize {
        match self {
            AnyHead::Linear(head) => head.features(),
            AnyHead::Mlp { layers, .. } => layers[0].inputs(),
            AnyHead::Regression { layer, .. } => layer.inputs(),
        }
    }
}

impl Layer {
    fn inputs(&self) -> usize {
        self.weight.len() / self.bias.len()
    }

    /// The rows of the weight, each `(inputs)`.
    pub fn rows(&self) -> Vec<&[f64]> {
        self.weight.chunks(self.inputs()).collect()
    }
}

impl Stored {
    fn head(self) -> anyhow::Result<AnyHead> {
        let fits = |what: &str, weight: &[f64], bias: &[f64], [rows, columns]: [usize; 2]| {
            let numbers = rows.checked_mul(columns);
            if rows == 0 || columns == 0 || numbers != Some(weight.len()) || bias.len() != rows {
                bail!("the weights and biases of {what} are not {rows} × {columns} and {rows} numbers");
            }
            match weight.iter().chain(bias).all(|v| v.is_finite()) {
                true => Ok(()),
                false => bail!("{what} has a number that is not finite"),
            }
        };
        match self {
            Stored::Linear(w) => {
                fits("the head", &w.weight, &w.bias, [w.k, w.d])?;
                if w.k < 2 {
                    bail!("the head has {} classes; it needs at least two", w.k);
                }
                Ok(AnyHead::Linear(w.head()))
            }
            Stored::Mlp { d, h, hidden, hidden_bias, k, weight, bias } => {
                fits("the hidden layer", &hidden, &hidden_bias, [h, d])?;
                fits("the last layer", &weight, &bias, [k, h])?;
                if k < 2 {
                    bail!("the head has {k} classes; it needs at least two");
                }
                let output = LinearHead::new(k, h, weight.clone(), bias.clone());
                let head = MlpHead::new(d, hidden.clone(), hidden_bias.clone(), output);
                let layers = [Layer { weight: hidden, bias: hidden_bias }, Layer { weight, bias }];
                Ok(AnyHead::Mlp { head, layers })
            }
            Stored::Regression { d, o, weight, bias, targets } => {
                fits("the head", &weight, &bias, [o, d])?;
                if targets.len() % o != 0 || !targets.iter().all(|v| v.is_finite()) {
                    bail!("`targets` has {} numbers; it needs {o} finite ones for each image", targets.len());
                }
                let head = RegressionHead::new(d, weight.clone(), bias.clone());
                Ok(AnyHead::Regression { head, layer: Layer { weight, bias }, targets })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<AnyHead, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("head.json");
        std::fs::write(&path, text).unwrap();
        AnyHead::read(&path).map(|(head, _)| head).map_err(|error| format!("{error:#}"))
    }

    #[test]
    fn every_kind_is_read() {
        let linear = r#"{"k": 2, "d": 3, "weight": [1, 0, 0, 0, 1, 0], "bias": [0, 0]}"#;
        let mlp = r#"{"kind": "mlp", "d": 2, "h": 1, "hidden": [1, 2], "hidden_bias": [0], "k": 2, "weight": [1, -1],
            "bias": [0, 0]}"#;
        let numbers = r#"{"kind": "regression", "d": 2, "o": 1, "weight": [1, 2], "bias": [0.5], "targets": [1, 2, 3]}"#;
        let widths = [linear, mlp, numbers].map(|text| read(text).unwrap().features());
        assert_eq!(widths, [3, 2, 2]);
    }

    #[test]
    fn a_slip_is_answered_with_its_cause() {
        for (text, cause) in [
            (r#"{"k": 2, "d": 3, "weight": [1], "bias": [0, 0]}"#, "are not 2 × 3 and 2 numbers"),
            (r#"{"k": 1, "d": 1, "weight": [1], "bias": [0]}"#, "at least two"),
            (r#"{"kind": "tree"}"#, "is no head"),
            (
                r#"{"k": 2, "d": 1, "weight": [1, 2], "weight": [0, 0], "bias": [0, 0]}"#,
                "`weight` is there twice",
            ),
            // Otherwise its encoder would not be compared.
            (r#"{"k": 2, "d": 1, "weight": [1, 2], "bias": [0, 0], "encoder_blak3": "00"}"#, "encoder_blak3"),
            (r#"{"kind": "mlp", "d": 2, "w": 1}"#, "unknown field `w`"),
            ("[1, 2]", "an object with the numbers of a head"),
            (
                r#"{"kind": "regression", "d": 1, "o": 2, "weight": [1, 2], "bias": [0, 0], "targets": [1]}"#,
                "2 finite ones",
            ),
            // Their product wraps to 0 in 64 bits.
            (
                r#"{"k": 4294967296, "d": 4294967296, "weight": [], "bias": []}"#,
                "are not 4294967296 × 4294967296",
            ),
            (r#"{"k": 0, "d": 4, "weight": [], "bias": []}"#, "are not 0 × 4"),
            ("[", "is no JSON"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(cause), "{error}");
        }
    }
}
