//! What an attacker may do to an input.

use crate::ball::Ball;
use serde::{Deserialize, Serialize};
use tarrl_tensor::Tensor;

/// How the size of a perturbation is measured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Norm {
    /// The largest change of any coordinate.
    #[default]
    Linf,
    /// The Euclidean length of the change.
    L2,
}

/// A threat model: all points within ε of the input, cut with a box.
///
/// In files: `{ norm = "linf", epsilon = "8/255" }`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Threat {
    /// The norm of the ball.
    pub norm: Norm,
    /// ε: its radius, in the units of the input (pixels in `[0, 1]`); finite and not negative.
    #[serde(with = "crate::fraction")]
    pub epsilon: f64,
    /// The least and largest value of any coordinate; `None` if inputs have no range.
    pub bounds: Option<(f64, f64)>,
}

/// The l-infinity ball of radius 8/255 in the pixel box `[0, 1]`.
impl Default for Threat {
    fn default() -> Self {
        Threat { norm: Norm::Linf, epsilon: 8.0 / 255.0, bounds: Some((0.0, 1.0)) }
    }
}

impl Threat {
    /// The l-infinity ball of radius `epsilon` in the pixel box `[0, 1]`.
    pub fn linf(epsilon: f64) -> Self {
        Threat { epsilon, ..Threat::default() }
    }

    /// The Euclidean ball of radius `epsilon` in the pixel box `[0, 1]`.
    pub fn l2(epsilon: f64) -> Self {
        Threat { norm: Norm::L2, epsilon, ..Threat::default() }
    }

    /// The balls around the samples of a batch `(n, …)`.
    ///
    /// Values outside the box by at most 1e-6 (the rounding of a normalisation undone) are clamped.
    ///
    /// # Panics
    /// If values lie farther outside or are NaN, naming their range; if ε is negative or not finite.
    #[track_caller]
    pub fn around(&self, x: &Tensor) -> Ball {
        Ball::new(self, x)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_name_it() {
        let read = |text: &str| toml::from_str::<Threat>(text).map_err(|e| e.to_string());
        assert_eq!(read("norm = 'l2'\nepsilon = 0.5"), Ok(Threat::l2(0.5)));
        assert_eq!(read("epsilon = '8/255'"), Ok(Threat::default()));
        assert_eq!(read("bounds = [-1.0, 1.0]").unwrap().bounds, Some((-1.0, 1.0)));
        assert!(read("eps = 0.1").unwrap_err().contains("eps"));
    }
}
