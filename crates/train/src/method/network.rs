//! Network settings of a method besides encoder and projector: predictor, momentum encoder, batch norm.

use super::error::MethodError;
use serde::{Deserialize, Serialize};
use tarrl_encoders::{BatchNormMode, BnBranch, PredictorConfig};
use tarrl_tensor::math;

/// The networks besides encoder and projector. In a file: `[network]`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NetworkConfig {
    /// The network after the projector, on one side of the comparison alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub predictor: Option<PredictorConfig>,
    /// The momentum encoder: an exponential moving average of encoder and projector, which gives the targets.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub momentum: Option<MomentumConfig>,
    /// The sets of batch norm everywhere, in place of what encoder and heads say.
    #[serde(skip_serializing_if = "is_single")]
    pub batch_norm: BatchNormMode,
    /// The set that heads and attacks see after training; only with dual batch norm.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keeps: Option<BnBranch>,
    /// m of the average of the encoder over the steps, which then is the result instead of the last encoder:
    /// `θ ← m θ + (1 − m) θ_online`, running statistics included, with m = (1 + t)/(10 + t) in the first steps t.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub average: Option<f64>,
}

/// `θ ← m θ + (1 − m) θ_online` after every step, with m rising from `start` to `end` on a cosine
/// (Grill et al. 2020, section 3.3). Parameters alone: the copy has running statistics of its own.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MomentumConfig {
    /// m of the first step, in `[0, 1]`.
    pub start: f64,
    /// m of the last step, in `[0, 1]`.
    pub end: f64,
}

/// The values of BYOL on ImageNet's recipe for short trainings: .99 to 1.
impl Default for MomentumConfig {
    fn default() -> Self {
        MomentumConfig { start: 0.99, end: 1.0 }
    }
}

impl MomentumConfig {
    /// m after step `step` of `total`, counted from 0.
    ///
    /// ```
    /// let momentum = tarrl_train::MomentumConfig { start: 0.99, end: 1.0 };
    /// assert!((momentum.at(25, 100) - 0.991464466).abs() < 1e-9);
    /// ```
    pub fn at(&self, step: u64, total: u64) -> f64 {
        let along = step as f64 / total.max(1) as f64;
        self.end - (self.end - self.start) * (math::cos(std::f64::consts::PI * along) + 1.0) / 2.0
    }
}

impl NetworkConfig {
    pub(super) fn check(&self) -> Result<(), MethodError> {
        if self.predictor.as_ref().is_some_and(|predictor| predictor.hidden == 0) {
            return Err(MethodError::out_of_range("network.predictor.hidden", 0.0, "give at least 1"));
        }
        if let Some(MomentumConfig { start, end }) = self.momentum {
            for (key, value) in [("start", start), ("end", end)] {
                if !(0.0..=1.0).contains(&value) {
                    let key = format!("network.momentum.{key}");
                    return Err(MethodError::out_of_range(key, value, "a momentum lies in [0, 1]"));
                }
            }
        }
        if let Some(average) = self.average.filter(|average| !(0.0..1.0).contains(average)) {
            let requirement = "a weight of the past lies in [0, 1); 1 would keep the beginning";
            return Err(MethodError::out_of_range("network.average", average, requirement));
        }
        if self.keeps.is_some() && self.batch_norm == BatchNormMode::Single {
            return Err(MethodError::KeepsWithoutDual);
        }
        Ok(())
    }
}

/// The weight of the past in the average after step `step`, counted from 0: at most `average`, and less at the beginning, so
/// that the initial weights are soon forgotten.
pub(crate) fn average_momentum(average: f64, step: u64) -> f64 {
    average.min((1 + step) as f64 / (10 + step) as f64)
}

pub(super) fn is_plain(network: &NetworkConfig) -> bool {
    *network == NetworkConfig::default()
}

fn is_single(norms: &BatchNormMode) -> bool {
    *norms == BatchNormMode::Single
}
