//! Directions that embeddings are compared with: the last layer of objectives that assign clusters.

use tarrl_encoders::{Role, Site};
use tarrl_tensor::{Tensor, Transpose};

/// The floor of a norm that divides.
const FLOOR: f64 = 1e-12;

/// Scores `ẑ·Ŵᵀ` of unit embeddings against `k` unit prototypes, which are normalised wherever they are used
/// (Caron et al. 2020, section 3.1; Caron et al. 2021 fix the length in the same way).
#[derive(Clone, Debug)]
pub struct Prototypes {
    name: String,
    /// `(k, out)`
    weight: Tensor,
}

impl Prototypes {
    /// `count` random directions in `dim` dimensions.
    pub(crate) fn new(site: &Site, [dim, count]: [usize; 2]) -> Self {
        let weight = site.normal("weight", &[count, dim], 1.0).l2_normalize(FLOOR);
        Prototypes { name: format!("{}.weight", site.name()), weight }
    }

    /// Scores `(n, k)` of embeddings `(n, out)`.
    #[track_caller]
    pub(crate) fn scores(&self, z: &Tensor) -> Tensor {
        z.l2_normalize(FLOOR).matmul_with(&self.weight.l2_normalize(FLOOR), Transpose::RIGHT)
    }

    pub(crate) fn visit(&self, f: &mut dyn FnMut(&str, Role, &Tensor)) {
        f(&self.name, Role::Weight, &self.weight);
    }

    pub(crate) fn visit_mut(&mut self, f: &mut dyn FnMut(&str, Role, &mut Tensor)) {
        f(&self.name, Role::Weight, &mut self.weight);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tarrl_tensor::{Key, cpu};

    #[test]
    fn scores_are_cosines_whatever_the_lengths() {
        let device = cpu();
        let mut prototypes = Prototypes::new(&Site::new(&device, Key::new(1)).at("p"), [2, 2]);
        let weight = Tensor::new(&device, [2, 2], &[3.0f32, 0.0, 1.0, 1.0]);
        prototypes.visit_mut(&mut |_, _, tensor| *tensor = weight.clone());
        let scores = prototypes.scores(&Tensor::new(&device, [1, 2], &[0.0f32, 5.0]));
        let found = scores.array().to_f64();
        assert!(found[0].abs() < 1e-6 && (found[1] - 0.5f64.sqrt()).abs() < 1e-6, "{found:?}");
    }
}
