//! Certified loss by interval bound propagation (IBP): an upper bound of what any attack in the ball can do.

use serde::{Deserialize, Serialize};
use tarrl_attacks::fraction;
use tarrl_bound::{Anchor, Divergence};
use tarrl_encoders::{Encoder, ForwardContext, IntervalDisplacement, Linear};
use tarrl_tensor::{Array, Tensor};

/// The certified term `λ · E D(f(x), f(x) + |Δ|)`, or the worst case of a contrastive loss or of classifying clusters, where
/// `|Δ|` bounds every coordinate of the displacement over the l-infinity ball by intervals (Gowal et al. 2018; Theorem
/// I1, docs/certificates.md).
///
/// A [`Regularizer`](tarrl_bound::Regularizer) measures `R` by an attack, a lower bound that certifies nothing. This term is
/// an upper bound of the same quantity, for divergences that grow with each coordinate; angles and whitened distances do
/// not. It makes certificates of the trained encoder non-trivial at large radii, at a price in clean accuracy.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct IbpLoss {
    /// The divergence, unless `contrast` or `clusters` replaces it.
    pub divergence: Divergence,
    /// A contrastive loss at the worst point of the ball, in place of a divergence.
    pub contrast: Option<CertifiedContrastive>,
    /// The numbers of clusters of the teacher's representations, one for each set. A linear classifier of each set is trained
    /// on the worst case in the ball, in place of a divergence.
    pub clusters: Vec<usize>,
    /// λ: the factor of the term in the loss; finite and not negative.
    pub weight: f64,
    /// The view at the center of the ball.
    pub anchor: Anchor,
    /// ε: the radius of the l-infinity ball, in pixels of `[0, 1]`.
    #[serde(with = "fraction")]
    pub epsilon: f64,
    /// The share of training, in `[0, 1]`, over which ε rises linearly from zero: intervals of an untrained network
    /// are so wide that they would dominate the objective.
    pub ramp: f64,
}

/// A certified contrastive loss: the worst-case cross-entropy of identifying an image among others, an upper bound of
/// what any attack reaches.
///
/// With clean representations centered and in units of their spread, let `t_j` be the unit vector of image `j` of a
/// group. The head with the rows `t_j / τ` classifies the image within its group; the loss is the gap form of the bound,
/// `ln(1 + Σ_j e^{m_j + s_j})` (Theorem A2, docs/theory.md) with the supports of the interval box,
/// `s_j = (t_j − t_i) · c + |t_j − t_i| · ρ` (Theorem I1, docs/certificates.md). A displacement counts only as far as it
/// confuses an image with another one, and spread is rewarded: the term cannot be made small by shrinking.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CertifiedContrastive {
    /// τ: positive; a larger one asks for coarser differences.
    pub temperature: f64,
    /// Images of a group, at least 2. Images of a batch that fill no group are left out of the step.
    pub group: usize,
}

/// Groups of 64 at temperature 1.
impl Default for CertifiedContrastive {
    fn default() -> Self {
        CertifiedContrastive { temperature: 1.0, group: 64 }
    }
}

/// The relative displacement at weight 1 within 0.1 around the clean image, rising over half of training.
impl Default for IbpLoss {
    fn default() -> Self {
        IbpLoss {
            divergence: Divergence::default(),
            contrast: None,
            clusters: Vec::new(),
            weight: 1.0,
            anchor: Anchor::Clean,
            epsilon: 0.1,
            ramp: 0.5,
        }
    }
}

impl IbpLoss {
    /// The share of ε when a share `progress` of training is done: 1 after the ramp.
    pub fn epsilon_scale(&self, progress: f64) -> f64 {
        if progress >= self.ramp { 1.0 } else { (progress / self.ramp).max(0.0) }
    }

    /// The term of a divergence or a contrast, unweighted, for images `x` `(n, h, w, c)` at `epsilon_scale` times the radius.
    ///
    /// # Panics
    /// As [`Encoder::interval_displacement`].
    #[track_caller]
    pub fn value(
        &self,
        encoder: &Encoder,
        x: &Tensor,
        epsilon_scale: f64,
        pass: &mut ForwardContext,
    ) -> Tensor {
        self.value_of(&self.intervals(encoder, x, epsilon_scale, pass))
    }

    /// The term of a divergence or a contrast, unweighted, of intervals.
    #[track_caller]
    pub(crate) fn value_of(&self, found: &IntervalDisplacement) -> Tensor {
        match &self.contrast {
            Some(contrast) => contrast.value(found),
            None => self.divergence.mean(&found.clean, &(&found.clean + &found.worst())),
        }
    }

    /// The interval displacement of images `x` `(n, h, w, c)` at `epsilon_scale` times the radius.
    #[track_caller]
    pub(crate) fn intervals(
        &self,
        encoder: &Encoder,
        x: &Tensor,
        epsilon_scale: f64,
        pass: &mut ForwardContext,
    ) -> IntervalDisplacement {
        encoder.interval_displacement(x, self.epsilon * epsilon_scale, pass)
    }

    /// Checks the settings.
    ///
    /// # Errors
    /// The first setting that is out of range, with the remedy.
    pub fn check(&self) -> Result<(), IbpError> {
        if matches!(self.divergence, Divergence::Cosine | Divergence::Angle | Divergence::Whitened) {
            return Err(IbpError::Divergence { divergence: self.divergence });
        }
        if let Some(CertifiedContrastive { temperature, group }) = self.contrast
            && !(temperature > 0.0 && temperature.is_finite() && group >= 2)
        {
            return Err(IbpError::Contrast { temperature, group });
        }
        if self.clusters.iter().any(|&k| k < 2) {
            return Err(IbpError::TooFewClusters);
        }
        if !self.clusters.is_empty() && self.contrast.is_some() {
            return Err(IbpError::ContrastAndClusters);
        }
        for (field, value) in [("weight", self.weight), ("epsilon", self.epsilon)] {
            if !(value >= 0.0 && value.is_finite()) {
                return Err(IbpError::Negative { field, value });
            }
        }
        if !(0.0..=1.0).contains(&self.ramp) {
            return Err(IbpError::Ramp { ramp: self.ramp });
        }
        Ok(())
    }
}

/// A setting of an [`IbpLoss`] that is out of range.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum IbpError {
    /// Intervals do not bound this divergence.
    #[error(
        "certified.divergence = {divergence:?} does not grow with each coordinate, so that intervals do not bound it; use \
         \"relative-l2\""
    )]
    Divergence {
        /// The divergence.
        divergence: Divergence,
    },
    /// The temperature is not positive or a group has fewer than two images.
    #[error(
        "certified.contrast has temperature {temperature} and groups of {group}; give a positive temperature and at \
         least two images"
    )]
    Contrast {
        /// The temperature.
        temperature: f64,
        /// Images of a group.
        group: usize,
    },
    /// A set of fewer than two clusters.
    #[error("certified.clusters must have two clusters at least in each set")]
    TooFewClusters,
    /// Two replacements of the divergence.
    #[error("certified.clusters and certified.contrast each take the place of a divergence; choose one")]
    ContrastAndClusters,
    /// A number is negative or not finite.
    #[error("certified.{field} is {value}; it must be finite and not negative")]
    Negative {
        /// The setting.
        field: &'static str,
        /// Its value.
        value: f64,
    },
    /// The ramp is no share of training.
    #[error("certified.ramp is {ramp}; a share of training lies in [0, 1]")]
    Ramp {
        /// Its value.
        ramp: f64,
    },
}

/// The mean over `n` representations of the largest cross-entropy that their boxes allow, in nats, for the head with
/// rows and biases of `head` and `labels` U32 `(n)`: the gap form of the bound (Theorem A2, docs/theory.md) with the
/// supports of the boxes, as in [`CertifiedContrastive`]. A bias and the middle of a box only shift logits.
#[track_caller]
pub(crate) fn worst_cross_entropy(found: &IntervalDisplacement, head: &Linear, labels: &Array) -> Tensor {
    let rows = head.weight();
    let ([n, d], k) = ([found.clean.shape()[0], found.clean.shape()[1]], rows.shape()[0]);
    let own = rows.gather(0, labels);
    let logits = head.forward(&(&found.clean + &found.center));
    let apart = (&rows.reshape([1, k, d]) - &own.reshape([n, 1, d])).abs(); // (n, k, d)
    let reach = (&apart * &found.radius.reshape([n, 1, d])).sum(2).reshape([n, k]);
    (&logits + &reach).cross_entropy(labels).mean_all()
}

impl CertifiedContrastive {
    /// The mean over all images in whole groups, in nats.
    #[track_caller]
    fn value(&self, found: &IntervalDisplacement) -> Tensor {
        let (n, d) = (found.clean.shape()[0], found.clean.shape()[1]);
        let m = self.group.min(n);
        let centered = &found.clean - &found.clean.mean(0);
        let spread = centered.square().sum(1).mean_all().add_scalar(1e-12).sqrt();
        let rows = centered.l2_normalize(1e-6);
        let moved = &(&centered + &found.center) / &spread;
        let radius = &found.radius / &spread;
        let own: Vec<u32> = (0..m as u32).collect();
        let own = Array::table(found.clean.device(), [m], &own);
        let group = |start: usize| {
            let part = |t: &Tensor| t.slice(0, start, m);
            let (t, u, r) = (part(&rows), part(&moved), part(&radius));
            let logits = &u.matmul(&t.t()) - &(&u * &t).sum(1); // (m, m)
            let apart = &t.reshape([1, m, d]) - &t.reshape([m, 1, d]);
            let reach = (&apart.abs() * &r.reshape([m, 1, d])).sum(2).reshape([m, m]);
            (&(&logits + &reach) * (1.0 / self.temperature)).cross_entropy(&own).mean_all()
        };
        let losses: Vec<Tensor> = (0..n / m).map(|g| group(g * m)).collect();
        let sum = losses[1..].iter().fold(losses[0].clone(), |sum, loss| &sum + loss);
        &sum * (1.0 / losses.len() as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tarrl_encoders::{EncoderConfig, LinearBias, ParamBuilder, Role};
    use tarrl_tensor::{DType, Key, Random, cpu};

    /// The term is above what any point of the ball reaches, as `Divergence` measures both.
    #[test]
    fn the_term_bounds_the_displacement_of_sampled_points() {
        let device = cpu();
        let key = Key::new(9);
        let encoder = Encoder::new(&EncoderConfig { width: 0.125, ..EncoderConfig::default() }, &device, key);
        let keys: Vec<Key> = (0..6usize).map(|i| key.fold(i)).collect();
        let x = Tensor::random(&device, Random::Uniform, &keys, &[8, 8, 1], DType::F32);
        let z = encoder.forward(&x, &mut ForwardContext::eval());
        for divergence in [Divergence::L2, Divergence::SquaredL2, Divergence::RelativeL2] {
            let certified = IbpLoss { divergence, ..IbpLoss::default() };
            let bound = certified.value(&encoder, &x, 0.3, &mut ForwardContext::eval()).item();
            for trial in 0..20usize {
                let keys: Vec<Key> = keys.iter().map(|key| key.fold(trial)).collect();
                let noise = Tensor::random(&device, Random::Uniform, &keys, &[8, 8, 1], DType::F32);
                let u = (&x + &noise.add_scalar(-0.5).sign().mul_scalar(0.03)).clamp(0.0, 1.0);
                let moved = divergence.mean(&z, &encoder.forward(&u, &mut ForwardContext::eval())).item();
                assert!(moved > 0.0 && moved <= bound, "{divergence:?}: {moved} {bound}");
            }
        }
    }

    #[test]
    fn the_certified_contrastive_loss_has_its_hand_computed_value() {
        let device = cpu();
        let tensor = |values: [f32; 4]| Tensor::new(&device, [2, 2], &values);
        let found = IntervalDisplacement {
            clean: tensor([1.0, 0.0, -1.0, 0.0]),
            center: tensor([-0.2, 0.1, 0.0, 0.0]),
            radius: tensor([0.3, 0.5, 0.0, 0.7]),
        };
        // The rows are (1, 0) and (−1, 0), the spread is 1: the gap of the first image is −2 · (1 − 0.2) + 2 · 0.3, of the
        // second −2, because its second feature tells nothing.
        let expected = |tau: f64| {
            let loss = |gap: f64| (gap / tau).exp().ln_1p();
            0.5 * (loss(-1.0) + loss(-2.0))
        };
        for temperature in [0.5, 2.0] {
            let value = CertifiedContrastive { temperature, group: 2 }.value(&found).item();
            assert!((value - expected(temperature)).abs() < 1e-5, "{value} {}", expected(temperature));
        }
    }

    /// The first row: logits 0.9 and -0.9 at the middle of the box, 2 · 0.3 of reach; the second: -0.9 and 0.9 and none,
    /// because its second feature moves neither logit.
    #[test]
    fn the_worst_cross_entropy_has_its_hand_computed_value() {
        let device = cpu();
        let tensor = |values: [f32; 4]| Tensor::new(&device, [2, 2], &values);
        let found = IntervalDisplacement {
            clean: tensor([1.0, 0.0, -1.0, 0.0]),
            center: tensor([-0.2, 0.1, 0.0, 0.0]),
            radius: tensor([0.3, 0.5, 0.0, 0.7]),
        };
        let mut head = Linear::new(&ParamBuilder::new(&device, Key::new(1)), [2, 2], LinearBias::With);
        head.visit_mut(&mut |_, role, value| {
            *value = match role {
                Role::Bias => Tensor::new(&device, [2], &[0.1f32, -0.1]),
                _ => tensor([1.0, 0.0, -1.0, 0.0]),
            }
        });
        let labels = Array::new(&device, [2], &[0u32, 1]);
        let value = worst_cross_entropy(&found, &head, &labels).item();
        let loss = |gap: f64| gap.exp().ln_1p();
        let expected = 0.5 * (loss(-1.8 + 0.6) + loss(-1.8));
        assert!((value - expected).abs() < 1e-5, "{value} {expected}");
    }

    /// No point of the ball confuses an image more than the term says.
    #[test]
    fn the_certified_contrastive_loss_bounds_that_of_sampled_points() {
        let device = cpu();
        let key = Key::new(19);
        let encoder = Encoder::new(&EncoderConfig { width: 0.125, ..EncoderConfig::default() }, &device, key);
        let keys: Vec<Key> = (0..6usize).map(|i| key.fold(i)).collect();
        let x = Tensor::random(&device, Random::Uniform, &keys, &[8, 8, 1], DType::F32);
        let contrast = CertifiedContrastive { temperature: 0.5, group: 3 };
        let certified = IbpLoss { contrast: Some(contrast), ..IbpLoss::default() };
        let bound = certified.value(&encoder, &x, 0.3, &mut ForwardContext::eval()).item();
        let clean = encoder.forward(&x, &mut ForwardContext::eval());
        let still = certified.value(&encoder, &x, 0.0, &mut ForwardContext::eval()).item();
        for trial in 0..20usize {
            let keys: Vec<Key> = keys.iter().map(|key| key.fold(trial)).collect();
            let noise = Tensor::random(&device, Random::Uniform, &keys, &[8, 8, 1], DType::F32);
            let u = (&x + &noise.add_scalar(-0.5).sign().mul_scalar(0.03)).clamp(0.0, 1.0);
            let center = &encoder.forward(&u, &mut ForwardContext::eval()) - &clean;
            let radius = center.zeros_like();
            let at = contrast.value(&IntervalDisplacement { clean: clean.clone(), center, radius }).item();
            assert!(at <= bound && at != still, "{at} {bound}");
        }
        assert!(still < bound);
    }

    #[test]
    fn settings_out_of_range_are_refused_with_their_key() {
        let refused = |change: fn(&mut IbpLoss), key: &str| {
            let mut certified = IbpLoss::default();
            change(&mut certified);
            assert!(certified.check().unwrap_err().to_string().contains(key));
        };
        assert_eq!(IbpLoss::default().check(), Ok(()));
        refused(|c| c.weight = -1.0, "certified.weight is -1");
        refused(|c| c.epsilon = f64::NAN, "certified.epsilon is NaN");
        refused(|c| c.ramp = 2.0, "certified.ramp is 2");
        refused(
            |c| c.contrast = Some(CertifiedContrastive { group: 1, ..CertifiedContrastive::default() }),
            "groups of 1",
        );
        refused(|c| c.divergence = Divergence::Cosine, "certified.divergence");
        refused(|c| c.clusters = vec![3, 1], "certified.clusters");
        refused(
            |c| (c.clusters, c.contrast) = (vec![3], Some(CertifiedContrastive::default())),
            "certified.clusters and certified.contrast",
        );
    }

    #[test]
    fn the_radius_ramps_up_to_its_full_value() {
        let certified = IbpLoss { ramp: 0.5, ..IbpLoss::default() };
        assert_eq!([0.0, 0.25, 0.5, 1.0].map(|p| certified.epsilon_scale(p)), [0.0, 0.5, 1.0, 1.0]);
        assert_eq!(IbpLoss { ramp: 0.0, ..certified }.epsilon_scale(0.0), 1.0);
    }
}
