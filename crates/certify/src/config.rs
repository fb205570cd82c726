//! Configuration and cost of certification.

use crate::error::CertifyError;
use crate::relu_relaxation::RelaxationSlope;
use crate::rounding::FloatFormat;
use serde::{Deserialize, Serialize};
use tarrl_attacks::{Norm, Threat};
use tarrl_tensor::Tensor;

/// How certificates are made.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CertifyConfig {
    /// The threat model: norm, radius and pixel range.
    pub threat: Threat,
    /// How much computation is spent.
    pub effort: Effort,
    /// The slopes of the ReLU relaxations in zonotopes.
    pub slopes: Slopes,
    /// The arithmetic of the deployed network.
    pub precision: Precision,
    /// Generators of a zonotope that are kept one by one, the longest first.
    pub generators: usize,
    /// Samples that are bounded together at most, by each thread of the device; changes no result.
    pub batch: usize,
    /// Rows that are substituted at a time; changes no result.
    pub rows: usize,
}

/// How much computation is spent on a certificate, from cheap and loose to expensive and tight.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Effort {
    /// Intervals alone (Theorem I1): a box and its radius. Tight only where training made it so.
    Interval,
    /// Zonotopes of the outputs on interval boxes of the units.
    Linear,
    /// Zonotopes of the outputs, and backward substitution for every unstable unit.
    #[default]
    Full,
    /// As [`Full`](Effort::Full), with the free lower lines of each row moved along the gradient of its bound (α-CROWN).
    Optimized,
}

/// Which parallel lines relax a ReLU in a zonotope.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Slopes {
    /// Those with the slope of the chord (Theorem I2), which leave the narrowest band: best in small balls.
    #[default]
    Chord,
    /// Those in the middle of all secants (Theorem I10), with norms of whole layers where these are less: best in large
    /// Euclidean balls.
    Sector,
    /// Both: the zonotope with the smaller radius is kept.
    Best,
}

impl Slopes {
    pub(crate) fn passes(self) -> &'static [RelaxationSlope] {
        match self {
            Slopes::Chord => &[RelaxationSlope::Chord],
            Slopes::Sector => &[RelaxationSlope::Sector],
            Slopes::Best => &[RelaxationSlope::Chord, RelaxationSlope::Sector],
        }
    }
}

/// The arithmetic that a certificate covers. Products are plain sums, in any order, with or
/// without fused multiply-add, with gradual underflow; fast convolution algorithms and flushing to zero are not covered.
/// Where a value may overflow, nothing is claimed. Heads are computed in f64, whatever the precision of the network.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Precision {
    /// f64, as [`Network::forward`](crate::Network::forward) computes.
    #[default]
    F64,
    /// f32, op by op as recorded.
    F32,
}

/// The l-infinity ball of 8/255 at full effort in f64, with 512 generators.
impl Default for CertifyConfig {
    fn default() -> Self {
        CertifyConfig {
            threat: Threat::default(),
            effort: Effort::default(),
            slopes: Slopes::default(),
            precision: Precision::default(),
            generators: 512,
            batch: 16,
            rows: 512,
        }
    }
}

impl CertifyConfig {
    pub(crate) fn format(&self) -> FloatFormat {
        match self.precision {
            Precision::F64 => FloatFormat::DOUBLE,
            Precision::F32 => FloatFormat::SINGLE,
        }
    }

    /// Whether images `x` `(n, …)` can be certified under this configuration.
    ///
    /// # Errors
    /// If a setting is out of its range, there is no image, or one is not finite or not in the threat model's range.
    pub fn check(&self, x: &Tensor) -> Result<(), CertifyError> {
        self.check_settings()?;
        let setting = |field, value, range| Err(CertifyError::Setting { field, value, range });
        if x.shape()[0] == 0 {
            return setting("the number of samples", 0.0, "take at least one");
        }
        let values = x.array().to_f64();
        if !values.iter().all(|v| v.is_finite()) {
            return Err(CertifyError::NotFinite("an input".into()));
        }
        if let Some((low, high)) = self.threat.bounds
            && let Some(&outside) = values.iter().find(|v| !(low..=high).contains(*v))
        {
            return setting("an input", outside, "it has to lie in the range `threat.bounds`");
        }
        Ok(())
    }

    /// Whether each setting is in its range.
    pub(crate) fn check_settings(&self) -> Result<(), CertifyError> {
        let setting = |field, value, range| Err(CertifyError::Setting { field, value, range });
        // The l1 ball lies in the box of the same radius, which is what is propagated; sparse changes lie in none.
        if self.threat.norm == Norm::L0 {
            return Err(CertifyError::UnsupportedNorm(self.threat.norm));
        }
        let epsilon = self.threat.epsilon;
        if !(epsilon >= 0.0 && epsilon.is_finite()) {
            return setting("threat.epsilon", epsilon, "it must be finite and not negative");
        }
        for (field, value) in [("batch", self.batch), ("rows", self.rows)] {
            if value == 0 {
                return setting(field, 0.0, "take at least one");
            }
        }
        let threat = &self.threat;
        if let Some((low, high)) =
            threat.bounds.filter(|(low, high)| low.partial_cmp(high).is_none_or(std::cmp::Ordering::is_gt))
        {
            return setting("threat.bounds", low.max(high), "they have to be two numbers that rise");
        }
        if let Some(levels) = threat.levels.filter(|&levels| levels < 2 || threat.bounds.is_none()) {
            return setting("threat.levels", f64::from(levels), "take at least two, in a range of pixels");
        }
        Ok(())
    }
}

/// The mean cost of a certificate for one sample.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Cost {
    /// Forward passes in f64, with the weights or their absolute values.
    pub forward: f64,
    /// Rows that were substituted back to the input, most of them over a small patch.
    pub rows: f64,
}
