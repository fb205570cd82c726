//! Predictors of four kinds on random representations: linear, nearest neighbors, a hidden layer, a random forest.

use crate::features::rows;
use crate::fit_error::FitError;
use crate::forest::{Forest, ForestConfig};
use crate::head::DeviceHead;
use crate::knn::Knn;
use crate::mlp_probe::{MlpConfig, MlpProbe};
use crate::probe::{ProbeConfig, linear_probe};
use serde::{Deserialize, Serialize};
use tarrl_bound::total_deviation;
use tarrl_tensor::{DType, Key, Random, Tensor};

/// The kind of a [`Predictor`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PredictorKind {
    /// The linear probe.
    Linear,
    /// Two hundred neighbors by the cosine of what is left without the mean ([`Knn::WIDE`]).
    Neighbors,
    /// One hidden layer of ReLUs.
    Mlp,
    /// A random forest.
    Forest,
}

impl PredictorKind {
    /// All of them.
    pub const ALL: [PredictorKind; 4] =
        [PredictorKind::Linear, PredictorKind::Neighbors, PredictorKind::Mlp, PredictorKind::Forest];

    /// Its name in tables.
    pub fn name(self) -> &'static str {
        match self {
            PredictorKind::Linear => "linear",
            PredictorKind::Neighbors => "nearest neighbors",
            PredictorKind::Mlp => "hidden layer",
            PredictorKind::Forest => "random forest",
        }
    }
}

/// Any function of a representation to a label, fitted to draws of labeled images.
#[derive(Clone, Debug)]
pub struct Predictor {
    kind: PredictorKind,
    function: Function,
}

#[derive(Clone, Debug)]
enum Function {
    Linear(DeviceHead),
    Neighbors { bank: Tensor, labels: Vec<u32>, mean: Tensor },
    Mlp(MlpProbe),
    Forest(Forest),
}

impl Predictor {
    /// Fits a predictor of a kind to `draws (n, d)` with `labels (n)`, each below `classes`, with the defaults of
    /// [`ProbeConfig`], [`MlpConfig`] and [`ForestConfig`].
    ///
    /// Neighbors keep at most 2,000 draws, evenly spaced.
    ///
    /// # Errors
    /// As [`linear_probe`] and [`Forest::fit`].
    ///
    /// # Panics
    /// If the shapes do not fit.
    #[track_caller]
    pub fn fit(
        kind: PredictorKind,
        draws: &Tensor,
        labels: &[u32],
        classes: usize,
        key: Key,
    ) -> Result<Self, FitError> {
        let function = match kind {
            PredictorKind::Linear => {
                let head = linear_probe(draws, labels, classes, &ProbeConfig::default(), key)?.head;
                Function::Linear(DeviceHead::new(&head, draws.device(), draws.dtype()))
            }
            PredictorKind::Neighbors => {
                let kept: Vec<usize> = (0..labels.len()).step_by(labels.len().div_ceil(BANK)).collect();
                let (bank, mean) = (rows(draws, &kept), draws.mean(0));
                let labels = kept.iter().map(|&i| labels[i]).collect();
                Function::Neighbors { bank: &bank - &mean, labels, mean }
            }
            PredictorKind::Mlp => {
                Function::Mlp(MlpProbe::fit(draws, labels, classes, &MlpConfig::default(), key)?)
            }
            PredictorKind::Forest => {
                Function::Forest(Forest::fit(draws, labels, classes, &ForestConfig::default(), key)?)
            }
        };
        Ok(Predictor { kind, function })
    }

    /// Its kind.
    pub fn kind(&self) -> PredictorKind {
        self.kind
    }

    /// The labels of `z (m, d)`.
    ///
    /// # Errors
    /// If a representation is not finite.
    pub fn predict(&self, z: &Tensor) -> Result<Vec<u32>, FitError> {
        match &self.function {
            Function::Neighbors { bank, labels, mean } => Knn::WIDE.predict(bank, labels, &(z - mean)),
            Function::Forest(forest) => Ok(forest.predict(z)),
            Function::Linear(_) | Function::Mlp(_) => {
                let logits = self.logits(z).expect("these have logits");
                crate::fit_error::check_finite(&logits)?;
                Ok(logits.argmax(1).to_vec::<u32>())
            }
        }
    }

    /// Logits `(m, k)` of `z (m, d)`, differentiable, of those that have them.
    pub fn logits(&self, z: &Tensor) -> Option<Tensor> {
        match &self.function {
            Function::Linear(head) => Some(head.forward(z)),
            Function::Mlp(probe) => Some(probe.logits(z)),
            Function::Neighbors { .. } | Function::Forest(_) => None,
        }
    }
}

/// Draws that neighbors are looked for among.
const BANK: usize = 2000;

/// Normal noise on representations, alike in every coordinate: `Z = f(x) + σ ξ`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RepresentationNoise {
    /// σ: the deviation of each coordinate, in the units of the representation.
    pub sigma: f64,
}

impl RepresentationNoise {
    /// Noise whose σ is a `share` of the root mean square distance of `features (n, d)` from their mean, `√(tr Cov)`; `None`
    /// where that is 0 or no number, since nothing can be told apart there.
    pub fn relative(features: &Tensor, share: f64) -> Option<Self> {
        let sigma = share * total_deviation(&features.cast(DType::F64)).item();
        (sigma > 0.0 && sigma.is_finite()).then_some(Self { sigma })
    }

    /// `draws` draws of each mean in `means (n, d)`, of f64, one after the other: `(n · draws, d)` in f32. The noise of row
    /// `i` is of `keys[i]`, drawn and added in f64 and rounded once, so that rounding is part of the predictor.
    ///
    /// # Panics
    /// If there is not one key for each row.
    #[track_caller]
    pub fn draw(&self, means: &Tensor, draws: usize, keys: &[Key]) -> Tensor {
        let (n, d) = (means.shape()[0], means.shape()[1]);
        assert_eq!(keys.len(), n, "draw: one key for each of {n} rows");
        let noise = Tensor::random(means.device(), Random::Normal, keys, &[draws, d], DType::F64);
        let z = &means.cast(DType::F64).reshape([n, 1, d]).broadcast_to([n, draws, d])
            + &noise.mul_scalar(self.sigma);
        z.reshape([n * draws, d]).cast(DType::F32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tarrl_tensor::cpu;

    #[test]
    fn noise_has_its_share_of_the_spread_and_one_key_for_each_row() {
        // Distances 5 and 5 from the mean.
        let z = Tensor::new(&cpu(), [2, 2], &[3.0f64, 4.0, -3.0, -4.0]);
        let noise = RepresentationNoise::relative(&z, 0.2).unwrap();
        assert!((noise.sigma - 1.0).abs() < 1e-15);
        let keys = [Key::new(1), Key::new(2)];
        let draws = noise.draw(&z, 2000, &keys).to_vec::<f32>();
        for (row, mean) in [[3.0, 4.0], [-3.0, -4.0]].iter().enumerate() {
            for (j, mean) in mean.iter().enumerate() {
                let of: Vec<f64> =
                    (0..2000).map(|i| f64::from(draws[(row * 2000 + i) * 2 + j]) - mean).collect();
                let average = of.iter().sum::<f64>() / 2000.0;
                let variance = of.iter().map(|v| v * v).sum::<f64>() / 2000.0;
                // Four standard errors: 1/√2000 = 0.022 of the mean, √(2/2000) = 0.032 of the variance.
                assert!(average.abs() < 0.09 && (variance - 1.0).abs() < 0.13, "{average} {variance}");
            }
        }
        let second = noise.draw(&z.slice(0, 1, 1), 2000, &keys[1..]).to_vec::<f32>();
        assert_eq!(second, draws[4000..]);
        assert_eq!(RepresentationNoise::relative(&z.mul_scalar(0.0), 0.2), None);
    }

    /// Two clouds far apart: every kind tells them apart.
    #[test]
    fn every_kind_separates_two_clouds() {
        let mut s = Key::new(3).stream();
        let labels: Vec<u32> = (0..200).map(|i| i % 2).collect();
        let x: Vec<f32> =
            labels.iter().flat_map(|&y| [y, 1]).map(|m| (10.0 * f64::from(m) + s.normal()) as f32).collect();
        let x = Tensor::new(&cpu(), [200, 2], &x);
        for kind in PredictorKind::ALL {
            let predictor = Predictor::fit(kind, &x, &labels, 2, Key::new(1)).unwrap();
            let found = predictor.predict(&x).unwrap();
            let right = found.iter().zip(&labels).filter(|(a, b)| a == b).count();
            // With 200 of 200 neighbors the weights decide.
            assert!(right >= 198, "{}: {right}", kind.name());
            assert_eq!(
                predictor.logits(&x).is_some(),
                matches!(kind, PredictorKind::Linear | PredictorKind::Mlp)
            );
        }
    }
}
