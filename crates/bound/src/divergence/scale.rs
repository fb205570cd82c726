//! What displacements are measured against, so that no network can make them small by shrinking.

use super::operators::whitening_factor;
use super::{Divergence, FLOOR, rows};
use crate::whitening::Whitening;
use serde::{Deserialize, Serialize};
use tarrl_tensor::{Tensor, Transpose};

/// How the scale of a representation is controlled where the divergence does not: what both representations
/// are put through before they are compared.
///
/// With [`SquaredL2`](Divergence::SquaredL2), [`Variance`](Scale::Variance) is the ratio `E‖Δ‖² / tr Cov` and
/// [`Whitened`](Scale::Whitened) is `E Δᵀ Cov⁻¹ Δ / d`; with [`L2`](Divergence::L2), [`Pairs`](Scale::Pairs) is
/// `E‖Δ‖ / E‖f(x) − f(x̃)‖`. The first and third do not change with scale, rotation and shift of the
/// representation, the second (without its ridge) not even under other invertible affine maps. All references
/// are those of the clean batch, and gradients go through them. Section G4 of docs/theory.md.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scale {
    /// As the encoder gives it: the objective has to hold the scale.
    #[default]
    None,
    /// Every representation divided by its length.
    Normalized,
    /// In units of a noise of fixed deviation σ. The objective, and later the heads, must see that noise,
    /// which is what holds the scale: a network that shrinks drowns in it.
    Noise,
    /// In units of `√(tr Cov)`, the root mean square distance from the mean.
    Variance,
    /// In units of `Cov^{1/2} √d`, direction by direction.
    Whitened,
    /// In units of the mean distance of two samples.
    Pairs,
}

impl Scale {
    /// All of them.
    pub const ALL: [Scale; 6] =
        [Scale::None, Scale::Normalized, Scale::Noise, Scale::Variance, Scale::Whitened, Scale::Pairs];
}

/// A divergence with what it is measured against.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Measure {
    /// The distance.
    pub divergence: Divergence,
    /// The control of scale; [`Scale::None`] for a divergence with one of its own.
    pub scale: Scale,
    /// The deviation of the noise of [`Scale::Noise`], in the units of the representation.
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

    /// What an inner attack ascends around the clean representations `z` `(n, d)`, for representations of any
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
            Scale::Variance => Reference::Factor(floored(&total_deviation(z))),
            Scale::Pairs => Reference::Factor(floored(&pair_distance(z))),
            Scale::Whitened => match Reference::whitening(z, Whitening::RIDGE) {
                Reference::Linear(w) => Reference::Linear(w.mul_scalar(1.0 / (z.shape()[1] as f64).sqrt())),
                other => other,
            },
        }
    }
}

/// A map of representations that the clean batch decides.
#[derive(Clone, Debug)]
pub(crate) enum Reference {
    Plain,
    /// Divided by a number.
    Factor(Tensor),
    /// Each row divided by its length.
    Rows,
    /// `z Wᵀ`
    Linear(Tensor),
}

impl Reference {
    pub(crate) fn whitening(z: &Tensor, ridge: f64) -> Reference {
        let (n, d) = (z.shape()[0], z.shape()[1]);
        let centerd = z - &z.mean(0);
        let covariance =
            centerd.matmul_with(&centerd, Transpose { a: true, b: false }).mul_scalar(1.0 / n as f64);
        let unit: Vec<f64> = (0..d * d).map(|i| f64::from(u8::from(i / d == i % d))).collect();
        let unit = Tensor::new(z.device(), [d, d], &unit).cast(z.dtype());
        let trace = (&covariance * &unit).sum_all();
        // The second part keeps a collapsed batch invertible.
        let added = trace.mul_scalar(ridge / d as f64).add_scalar(FLOOR);
        Reference::Linear(whitening_factor(&(&covariance + &(&unit * &added))))
    }

    pub(crate) fn apply(&self, z: &Tensor) -> Tensor {
        match self {
            Reference::Plain => z.clone(),
            Reference::Factor(by) => z / by,
            Reference::Rows => z.l2_normalize(FLOOR),
            Reference::Linear(w) => z.matmul_with(w, Transpose { a: false, b: true }),
        }
    }

    /// The same but for a common factor, which moves no maximizer.
    pub(crate) fn without_factor(self) -> Reference {
        if let Reference::Factor(_) = self { Reference::Plain } else { self }
    }

    /// `vᵀ` times the Jacobian of the map at `z`, row by row, with the reference held fixed: `(n, d)`.
    pub(crate) fn cotangent(&self, z: &Tensor, v: &Tensor) -> Tensor {
        match self {
            Reference::Plain => v.clone(),
            Reference::Factor(by) => v / by,
            Reference::Linear(w) => v.matmul(w),
            Reference::Rows => {
                let unit = z.l2_normalize(FLOOR);
                let across = v - &(&unit * &(v * &unit).sum(1));
                &across / &floored(&z.norm(1))
            }
        }
    }

    /// An upper bound `(n)` of the length of a displacement in the reference, from its length `r` `(n)` before.
    fn length(&self, z: &Tensor, r: &Tensor) -> Tensor {
        match self {
            Reference::Plain => r.clone(),
            Reference::Factor(by) => r / by,
            // Theorem A4: the chord is at most √2 r / ‖z‖ while the ball leaves out the origin, then 2.
            Reference::Rows => {
                let lengths = floored(&z.norm(1)).reshape(*r.shape());
                let chord = (r / &lengths).mul_scalar(std::f64::consts::SQRT_2);
                let most = Tensor::full(r.device(), *r.shape(), r.dtype(), 2.0);
                lengths.greater(r).select(&chord, &most)
            }
            // The Frobenius norm is at least the spectral one.
            Reference::Linear(w) => r * &w.square().sum_all().sqrt(),
        }
    }
}

/// The mean distance of the representations `(n, d)` from their mean: a scalar, differentiable.
///
/// # Panics
/// If `z` is not `(n, d)`.
#[track_caller]
pub fn spread(z: &Tensor) -> Tensor {
    assert!(z.shape().rank() == 2, "spread: representations of shape {:?}, not (n, d)", z.shape());
    (z - &z.mean(0)).norm(1).mean_all()
}

/// `√(tr Cov)` of the representations `(n, d)`, the covariance divided by `n`: a scalar, differentiable but at
/// collapse.
///
/// # Panics
/// If `z` is not `(n, d)`.
#[track_caller]
pub fn total_deviation(z: &Tensor) -> Tensor {
    assert!(z.shape().rank() == 2, "total_deviation: representations of shape {:?}, not (n, d)", z.shape());
    let n = z.shape()[0];
    let centerd = (z - &z.mean(0)).reshape([1, z.shape().len()]);
    // The root of a sum as a norm, whose slope at zero is zero.
    centerd.norm(1).reshape([]).mul_scalar(1.0 / (n as f64).sqrt())
}

/// The mean distance of neighbors in the batch `(n, d)`, the last and the first included: an estimate of the
/// mean distance of two samples if the order is random, as batches are. A scalar, differentiable.
///
/// # Panics
/// If `z` is not `(n, d)`.
#[track_caller]
pub fn pair_distance(z: &Tensor) -> Tensor {
    assert!(z.shape().rank() == 2, "pair_distance: representations of shape {:?}, not (n, d)", z.shape());
    let n = z.shape()[0];
    let next = if n > 1 { Tensor::concat(&[&z.slice(0, 1, n - 1), &z.slice(0, 0, 1)], 0) } else { z.clone() };
    (z - &next).norm(1).mean_all()
}

/// A collapsed batch has no spread: a ratio to it is then large and finite.
pub(crate) fn floored(size: &Tensor) -> Tensor {
    size.maximum(&Tensor::full(size.device(), *size.shape(), size.dtype(), FLOOR))
}

fn take(z: &Tensor, rows: &[usize]) -> Tensor {
    let index: Vec<u32> = rows.iter().map(|&i| i as u32).collect();
    z.gather(0, &tarrl_tensor::Array::new(z.device(), [index.len()], &index))
}
