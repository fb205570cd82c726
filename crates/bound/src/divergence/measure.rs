//! A divergence with its control of scale: what the regularizer computes.

use super::distances::Divergence;
use super::reference::{Reference, floored, pair_distance, rows, total_deviation};
use super::scale::Scale;
use crate::theorems::whitening::Whitening;
use tarrl_tensor::Tensor;

/// A divergence with what it is measured against.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Measure {
    /// The distance.
    pub divergence: Divergence,
    /// The control of scale; [`Scale::None`] for a divergence with one of its own.
    pub scale: Scale,
    /// The deviation of the noise of [`Scale::Noise`], in the units of the representation, or of [`Scale::RelativeNoise`], as a
    /// share of [`total_deviation`].
    pub sigma: f64,
}

impl Measure {
    /// The divergence of each sample: `z` and `z_adv` of shape `(n, d)` to `(n)`, differentiable in both.
    ///
    /// # Panics
    /// If the shapes differ or are not `(n, d)`.
    #[track_caller]
    pub fn per_sample(&self, z: &Tensor, z_adv: &Tensor) -> Tensor {
        rows(z, z_adv);
        if self.scale == Scale::None {
            return self.divergence.per_sample(z, z_adv);
        }
        let reference = self.reference(z);
        self.divergence.per_sample(&reference.apply(z), &reference.apply(z_adv))
    }

    /// The mean over the samples: a scalar.
    ///
    /// # Panics
    /// As [`per_sample`](Measure::per_sample).
    #[track_caller]
    pub fn mean(&self, z: &Tensor, z_adv: &Tensor) -> Tensor {
        self.per_sample(z, z_adv).mean_all()
    }

    /// The objective of an inner attack around the clean representations `z` `(n, d)`, for representations of any
    /// of these rows: as [`Divergence::inner`], with the reference computed once.
    ///
    /// # Panics
    /// If `z` is not `(n, d)`.
    #[track_caller]
    pub fn ascent(&self, z: &Tensor) -> impl Fn(&Tensor, &[usize]) -> Tensor + use<> {
        rows(z, z);
        let (measure, z) = (*self, z.detach());
        let reference = measure.reference(&z).without_factor();
        let clean = reference.apply(&z);
        move |z_adv, of| {
            let all = of.len() == clean.shape()[0];
            let rows = if all { clean.clone() } else { take(&clean, of) };
            measure.divergence.ascended(&rows, &reference.apply(z_adv))
        }
    }

    /// An upper bound of the divergence of each sample `(n)`, for any displacement of `z` `(n, d)` of l2 length
    /// at most `radius` `(n)`: what a certificate gives. Differentiable in both.
    ///
    /// # Panics
    /// If the shapes do not fit.
    #[track_caller]
    pub fn of_radius(&self, z: &Tensor, radius: &Tensor) -> Tensor {
        let n = rows(z, z);
        assert!(radius.shape()[..] == [n], "of_radius: {n} rows, radii {:?}", radius.shape());
        self.divergence.of_length(&self.reference(z).length(z, radius), z.shape()[1])
    }

    /// For the first-order term: the value at a displacement of the given length `(n)` in the reference.
    pub(crate) fn of_reference_length(&self, length: &Tensor, d: usize) -> Tensor {
        self.divergence.of_length(length, d)
    }

    pub(crate) fn reference(&self, z: &Tensor) -> Reference {
        match self.scale {
            Scale::None => self.divergence.own_reference(z),
            Scale::Normalized => Reference::Rows,
            Scale::Noise => Reference::Factor(Tensor::full(z.device(), [], z.dtype(), self.sigma)),
            Scale::RelativeNoise => Reference::Factor(floored(&total_deviation(z)).mul_scalar(self.sigma)),
            Scale::Variance => Reference::Factor(floored(&total_deviation(z))),
            Scale::Pairs => Reference::Factor(floored(&pair_distance(z))),
            Scale::Whitened => match Reference::whitening(z, Whitening::RIDGE) {
                Reference::Linear(w) => Reference::Linear(w.mul_scalar(1.0 / (z.shape()[1] as f64).sqrt())),
                other => other,
            },
        }
    }
}

fn take(z: &Tensor, rows: &[usize]) -> Tensor {
    let index: Vec<u32> = rows.iter().map(|&i| i as u32).collect();
    z.gather(0, &tarrl_tensor::Array::new(z.device(), [index.len()], &index))
}
