//! Goals of attacks on representations, which use no label.

use tarrl_attacks::representation::{Distance, away, instance_wise, towards};
use tarrl_tensor::Tensor;

/// The temperature of the contrastive loss (Kim et al. 2020).
const TEMPERATURE: f64 = 0.5;

/// What an attack on representations maximizes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Goal {
    /// The distance from the representation of the image itself.
    Away(Distance),
    /// The contrastive loss: from itself and towards all others.
    Apart,
    /// The negative distance from the representation of the next image.
    Towards,
}

impl Goal {
    /// Its name on the command line.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Goal::Away(Distance::Cosine) => "feature-cosine",
            Goal::Away(Distance::Kl) => "feature-kl",
            Goal::Away(_) => "feature-l2",
            Goal::Apart => "instance-wise",
            Goal::Towards => "feature-match",
        }
    }

    /// The objective `(m)` at representations `z` `(m, d)` of the images `rows` of `clean` `(n, d)`.
    pub(crate) fn value(self, z: &Tensor, clean: &Tensor, rows: &[usize]) -> Tensor {
        let known = |_: &Tensor| z.clone();
        match self {
            Goal::Away(distance) => away(&known, clean, distance)(z, rows),
            Goal::Apart => instance_wise(&known, clean, TEMPERATURE)(z, rows),
            Goal::Towards => {
                let next: Vec<usize> = rows.iter().map(|row| (row + 1) % clean.shape()[0]).collect();
                towards(&known, clean, Distance::SquaredL2)(z, &next)
            }
        }
    }
}
