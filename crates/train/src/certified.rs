//! The certified term: what intervals say that an attacker can do at most, made small.

use serde::{Deserialize, Serialize};
use tarrl_attacks::fraction;
use tarrl_bound::{Anchor, Divergence};
use tarrl_encoders::{Encoder, Pass};
use tarrl_tensor::Tensor;

/// `λ · E D(f(x), f(x) + |Δ|)`, where `|Δ|` bounds every coordinate of the displacement over the l-infinity ball by
/// intervals (Gowal et al. 2018; Theorem I1, docs/certificates.md).
///
/// A [`Regularizer`](tarrl_bound::Regularizer) looks for the worst point and finds less than the worst: a lower bound
/// of `R`, which certifies nothing. This term is an upper bound of the same quantity for divergences that grow
/// with each coordinate, which angles and whitened distances do not. It is what makes certificates of the trained encoder say
/// something at large radii, at a price in clean accuracy.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Certified {
    /// What is measured.
    pub divergence: Divergence,
    /// λ: the factor of the term in the loss; finite and not negative.
    pub weight: f64,
    /// The view that the ball is put around.
    pub anchor: Anchor,
    /// ε: the radius of the l-infinity ball, in pixels of `[0, 1]`.
    #[serde(with = "fraction")]
    pub epsilon: f64,
    /// The share of training, in `[0, 1]`, over which ε rises linearly from zero: intervals of an untrained network
    /// are so wide that they would drown the objective.
    pub ramp: f64,
}

/// The relative displacement at weight 1 within 0.1 around the clean image, rising over half of training.
impl Default for Certified {
    fn default() -> Self {
        Certified {
            divergence: Divergence::default(),
            weight: 1.0,
            anchor: Anchor::Clean,
            epsilon: 0.1,
            ramp: 0.5,
        }
    }
}

impl Certified {
    /// The share of ε when a share `progress` of training is done: 1 after the ramp.
    pub fn epsilon_scale(&self, progress: f64) -> f64 {
        if progress >= self.ramp { 1.0 } else { (progress / self.ramp).max(0.0) }
    }

    /// The term, unweighted, for images `x` `(n, h, w, c)` at `epsilon_scale` times the radius.
    ///
    /// # Panics
    /// As [`Encoder::interval_displacement`].
    #[track_caller]
    pub fn value(&self, encoder: &Encoder, x: &Tensor, epsilon_scale: f64, pass: &mut Pass) -> Tensor {
        let found = encoder.interval_displacement(x, self.epsilon * epsilon_scale, pass);
        self.divergence.mean(&found.clean, &(&found.clean + &found.worst()))
    }

    /// Checks that the numbers make sense.
    ///
    /// # Errors
    /// The first that does not, with the remedy.
    pub fn check(&self) -> Result<(), String> {
        if matches!(self.divergence, Divergence::Cosine | Divergence::Angle | Divergence::Whitened) {
            return Err(format!(
                "certified.divergence = {:?} does not grow with each coordinate, so that intervals do not bound it; use \
                 \"relative-l2\"",
                self.divergence
            ));
        }
        for (field, value) in [("weight", self.weight), ("epsilon", self.epsilon)] {
            if !(value >= 0.0 && value.is_finite()) {
                return Err(format!("certified.{field} is {value}; it must be finite and not negative"));
            }
        }
        if !(0.0..=1.0).contains(&self.ramp) {
            return Err(format!("certified.ramp is {}; a share of training lies in [0, 1]", self.ramp));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tarrl_encoders::EncoderConfig;
    use tarrl_tensor::{DType, Key, Random, cpu};

    /// The term is above what any point of the ball reaches, as `Divergence` measures both.
    #[test]
    fn it_is_above_every_displacement() {
        let device = cpu();
        let key = Key::new(9);
        let encoder = Encoder::new(&EncoderConfig { width: 0.125, ..EncoderConfig::default() }, &device, key);
        let keys: Vec<Key> = (0..6usize).map(|i| key.fold(i)).collect();
        let x = Tensor::random(&device, Random::Uniform, &keys, &[8, 8, 1], DType::F32);
        let z = encoder.forward(&x, &mut Pass::eval());
        for divergence in [Divergence::L2, Divergence::SquaredL2, Divergence::RelativeL2] {
            let certified = Certified { divergence, ..Certified::default() };
            let bound = certified.value(&encoder, &x, 0.3, &mut Pass::eval()).item();
            for trial in 0..20usize {
                let keys: Vec<Key> = keys.iter().map(|key| key.fold(trial)).collect();
                let noise = Tensor::random(&device, Random::Uniform, &keys, &[8, 8, 1], DType::F32);
                let u = (&x + &noise.add_scalar(-0.5).sign().mul_scalar(0.03)).clamp(0.0, 1.0);
                let moved = divergence.mean(&z, &encoder.forward(&u, &mut Pass::eval())).item();
                assert!(moved > 0.0 && moved <= bound, "{divergence:?}: {moved} {bound}");
            }
        }
    }

    #[test]
    fn senseless_numbers_are_refused_with_the_key() {
        let refused = |change: fn(&mut Certified), key: &str| {
            let mut certified = Certified::default();
            change(&mut certified);
            assert!(certified.check().unwrap_err().contains(key));
        };
        assert_eq!(Certified::default().check(), Ok(()));
        refused(|c| c.weight = -1.0, "certified.weight is -1");
        refused(|c| c.epsilon = f64::NAN, "certified.epsilon is NaN");
        refused(|c| c.ramp = 2.0, "certified.ramp is 2");
        refused(|c| c.divergence = Divergence::Cosine, "certified.divergence");
    }

    #[test]
    fn the_radius_rises_to_its_full_size() {
        let certified = Certified { ramp: 0.5, ..Certified::default() };
        assert_eq!([0.0, 0.25, 0.5, 1.0].map(|p| certified.epsilon_scale(p)), [0.0, 0.5, 1.0, 1.0]);
        assert_eq!(Certified { ramp: 0.0, ..certified }.epsilon_scale(0.0), 1.0);
    }
}
