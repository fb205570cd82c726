//! Collapse measure: the spread of directions of representations.

use tarrl_tensor::Tensor;

/// √d times the mean over dimensions of the standard deviation of the normalized rows of `x` `(n, d)`, a scalar:
/// near 1 if directions are uniform on the sphere, 0 if all rows point the same way.
pub(crate) fn directional_std(x: &Tensor) -> Tensor {
    let d = x.shape()[1] as f64;
    let unit = x.detach().l2_normalize(1e-12);
    let centered = &unit - &unit.mean(0);
    centered.square().mean(0).sqrt().mean_all().mul_scalar(d.sqrt())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tarrl_tensor::{DType, Key, Random, cpu};

    #[test]
    fn collapse_is_zero_and_uniform_directions_are_near_one() {
        let device = cpu();
        let rows: Vec<Key> = (0..2000usize).map(|i| Key::new(5).fold(i)).collect();
        let x = Tensor::random(&device, Random::Normal, &rows, &[32], DType::F64);
        // Over 2000 rows the std of each of 32 dimensions is known to 1/√4000 = 1.6 %, their mean to 0.3 %.
        let found = directional_std(&x).item();
        assert!((found - 1.0).abs() < 0.015, "{found}");
        let same = Tensor::full(&device, [9, 4], DType::F64, 0.3);
        assert!(directional_std(&same).item() < 1e-7);
    }

    #[test]
    fn directional_std_matches_a_published_value() {
        // .531520549 divides by n − 1 = 3 where this one divides by n = 4, and has no factor √3.
        let z =
            Tensor::new(&cpu(), [4, 3], &[1.0, 2.0, 0.0, 0.0, 1.0, -1.0, 2.0, 0.0, 1.0, -1.0, 1.0, 1.0f64]);
        assert!((directional_std(&z).item() - 0.531520549 * (3.0f64 / 4.0 * 3.0).sqrt()).abs() < 1e-8);
    }
}
