//! NT-Xent (Chen et al. 2020): the contrastive cross-entropy of rows that come in pairs.

use super::wrap;
use crate::array::{Array, DType};
use crate::autodiff::{Recording, Saved, vjp};
use crate::backend::Transpose;
use crate::extensions::NtXentForward;
use crate::op::Op;
use crate::tensor::Tensor;

/// Added to a similarity that takes no part: finite, so that there is no ∞ − ∞ anywhere.
const OUT: f64 = -1e30;

impl Tensor {
    /// Of rows `(m, k)`, scaled by `τ^-½`: the cross-entropy of each row of `self·selfᵀ`, its own entry left out, against its partner: `(m)`, in
    /// nats. `partners` `(m)` in U32 pairs the rows: `partners[partners[i]] = i`.
    ///
    /// A device with the extension computes it in one kernel as long as `|z_i|² ≤ 36` for all rows; otherwise it is a
    /// product and a cross-entropy.
    ///
    /// # Panics
    /// If the shapes do not fit, or (where the device computes it) two rows are not each other's.
    #[track_caller]
    pub fn nt_xent(&self, partners: &Array) -> Tensor {
        let &[m, k] = &self.shape()[..] else { panic!("nt_xent: rows of {:?}", self.shape()) };
        assert!(
            m > 1 && k > 0 && partners.dtype() == DType::U32 && partners.shape()[..] == [m],
            "nt_xent: rows {:?}, partners {:?}{:?}",
            self.shape(),
            partners.dtype(),
            partners.shape()
        );
        let (losses, saved) =
            match self.device().nt_xent().and_then(|kernel| kernel.forward(self.array(), partners)) {
                Some(NtXentForward { losses, exponentials, sums }) => {
                    let exponentials = wrap(self, [m, m], self.dtype(), exponentials);
                    let sums = wrap(self, [2, m], self.dtype(), sums);
                    (wrap(self, [m], self.dtype(), losses), SavedForward::Fused { exponentials, sums })
                }
                None => {
                    let z = self.detach().requires_grad();
                    let y = composite(&z, partners);
                    (y.array().clone(), SavedForward::Composite { z, y })
                }
            };
        let (rows, of, partners) = (Saved::new(self), partners.clone(), Tensor::from(partners.clone()));
        Tensor::record(Op::NtXent, losses, &[self, &partners], move |p| {
            let (z, dy) = (p.get(&rows), p.dy());
            let dz = match &saved {
                _ if p.is_recorded() => vjp(&composite(&z, &of), dy, &[&z], Recording::On).remove(0),
                SavedForward::Fused { exponentials, sums } => {
                    let dz = z.device().nt_xent().expect("the forward pass used it").adjoint(
                        z.array(),
                        &of,
                        [exponentials, sums],
                        dy.array(),
                    );
                    wrap(&z, [m, k], z.dtype(), dz).into()
                }
                SavedForward::Composite { z, y } => vjp(y, dy, &[z], Recording::Off).remove(0),
            };
            vec![Some(dz), None]
        })
    }
}

/// How the losses were computed, and what their adjoint needs of it.
enum SavedForward {
    Fused { exponentials: Array, sums: Array },
    Composite { z: Tensor, y: Tensor },
}

#[track_caller]
fn composite(z: &Tensor, partners: &Array) -> Tensor {
    let m = z.shape()[0];
    let places: Vec<u32> = (0..m).map(|i| (i * (m + 1)) as u32).collect();
    let places = Array::table(z.device(), [m], &places);
    let mask = Tensor::full(z.device(), [m], z.dtype(), OUT).scatter_add(0, &places, m * m).reshape([m, m]);
    (&z.matmul_with(z, Transpose::RIGHT) + &mask).cross_entropy(partners)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::autodiff::grad;
    use crate::{Cpu, Key, Random};

    /// The losses and their weighted gradient, of `(m, k)` normal numbers times `scale`, and whether the device has one op.
    fn losses(
        threads: usize,
        dtype: DType,
        [m, k]: [usize; 2],
        scale: f64,
        f: fn(&Tensor, &Array) -> Tensor,
    ) -> (bool, Vec<f64>) {
        let device = Cpu { threads, ..Cpu::default() }.open();
        let z = Tensor::random(&device, Random::Normal, &[Key::new(5)], &[m, k], dtype);
        let z = z.reshape([m, k]).mul_scalar(scale).requires_grad();
        // Neighbors in the first half, distant ones in the second.
        let half = (m / 4 * 2) as u32;
        let rest = m as u32 - half;
        let partner = |i: u32| if i < half { i ^ 1 } else { half + (i - half + rest / 2) % rest };
        let partners = Array::new(&device, [m], &(0..m as u32).map(partner).collect::<Vec<_>>());
        let y = f(&z, &partners);
        let weights = Tensor::random(&device, Random::Uniform, &[Key::new(6)], &[m], dtype).reshape([m]);
        let dz = grad(&(&y * &weights).sum_all(), &[&z]).remove(0);
        let one = device.nt_xent().is_some_and(|kernel| kernel.forward(z.array(), &partners).is_some());
        (one, [y.array().to_f64(), dz.array().to_f64()].concat())
    }

    /// Several bands, the last of them short, and a product that is computed by halves: value and gradient are those of
    /// the parts, and the same bits for any number of threads.
    #[test]
    fn the_fused_kernel_equals_the_composite_for_any_number_of_threads() {
        for shape in [[150, 7], [600, 5]] {
            let (is_one, one) = losses(1, DType::F64, shape, 0.8, Tensor::nt_xent);
            assert!(is_one);
            let (_, parts) = losses(1, DType::F64, shape, 0.8, composite);
            for (i, (got, want)) in one.iter().zip(&parts).enumerate() {
                // Exponents up to 72, and sums of 600 terms.
                assert!((got - want).abs() < 1e-12, "{shape:?} [{i}] {got} {want}");
            }
            let of = |threads| losses(threads, DType::F32, shape, 0.8, Tensor::nt_xent).1;
            assert!(of(1) == of(2) && of(1) == of(3));
        }
    }

    /// Rows too long for one common exponent take the other way.
    #[test]
    fn long_rows_fall_back_to_the_composite() {
        let (is_one, long) = losses(2, DType::F32, [64, 7], 9.0, Tensor::nt_xent);
        assert!(!is_one && long.iter().all(|v| v.is_finite()));
        assert_eq!(long, losses(2, DType::F32, [64, 7], 9.0, composite).1);
    }

    /// Where the loss is tiny, the gradient keeps its relative precision.
    #[test]
    fn a_small_gradient_does_not_cancel() {
        let device = crate::cpu();
        let of = |dtype: DType| {
            let z = Tensor::new(&device, [4, 2], &[5.0f64, 0.1, 5.0, -0.1, -5.0, 0.2, -5.0, 0.3]).cast(dtype);
            let z = z.requires_grad();
            let y = z.nt_xent(&Array::new(&device, [4], &[1u32, 0, 3, 2]));
            [y.array().to_f64(), grad(&y.sum_all(), &[&z]).remove(0).array().to_f64()].concat()
        };
        let (narrow, wide) = (of(DType::F32), of(DType::F64));
        for (got, want) in narrow.iter().zip(&wide) {
            // e⁻⁵⁰ of similarities near 25, whose last digit is 2e-6, and of exponents near 50, whose last is 4e-6.
            assert!(*want != 0.0 && want.abs() < 1e-18, "{want}");
            assert!((got / want - 1.0).abs() < 2e-5, "{got} {want}");
        }
    }

    #[test]
    #[should_panic(expected = "row 0 of 4 has the partner 1")]
    fn partners_that_are_not_pairs_are_refused() {
        let z = Tensor::full(&crate::cpu(), [4, 2], DType::F32, 0.5);
        z.nt_xent(&Array::new(z.device(), [4], &[1u32, 2, 3, 0]));
    }
}
