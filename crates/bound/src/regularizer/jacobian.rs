//! Jacobian regularization: the largest displacement to first order, without an attack.

use super::inner_maximizer::{InnerMaximizer, InnerMaximum, InnerProblem};
use tarrl_tensor::{Random, Recording, Tensor, vjp};

/// `ε ‖J‖_F` in the place of the largest displacement, with `J` the Jacobian of the representation, put through
/// the reference of the divergence (its own scale, or the control of scale), at the anchor: Theorem G5
/// (docs/theory.md).
///
/// `‖J‖_F²` is the mean of `‖Jᵀv‖²` over normal `v`; each of the `directions` costs one backward pass. The
/// gradient in the parameters differentiates through that pass.
///
/// For an l2 ball it is an upper bound of the displacement to first order, exact for one output and at most `√d`
/// too large; for an l-infinity ball it is a lower one, the root mean square over the corners. Where the
/// Jacobian has the Lipschitz constant β the error of the first order is at most `β ε² / 2`; inside a linear
/// region of a ReLU network there is none. Of an l1 divergence it bounds the value through `√d ‖Δ‖₂`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Jacobian {
    /// Random directions per sample; at least one.
    pub directions: usize,
}

impl InnerMaximizer for Jacobian {
    #[track_caller]
    fn maximize(&self, problem: &InnerProblem<'_>) -> InnerMaximum {
        assert!(self.directions > 0, "Jacobian: no directions");
        let x = problem.x.detach().requires_grad();
        let z = (problem.train_encoder)(&x); // (n, d)
        let &[n, d] = &z.shape()[..] else { panic!("Jacobian: representations of shape {:?}", z.shape()) };
        let reference = problem.measure.reference(&z);
        let pulled = (0..self.directions).map(|direction| {
            let keys: Vec<_> = problem.keys.iter().map(|k| k.fold("jacobian").fold(direction)).collect();
            let v = Tensor::random(z.device(), Random::Normal, &keys, &[d], z.dtype());
            let pulled = vjp(&z, &reference.cotangent(&z, &v), &[&x], Recording::On).remove(0);
            pulled.reshape([n, pulled.shape().len() / n])
        });
        // All directions as one long row, so that the length is a norm, whose slope at zero is zero.
        let rows: Vec<Tensor> = pulled.collect();
        let rows = Tensor::concat(&rows.iter().collect::<Vec<_>>(), 1);
        let scale = problem.threat.epsilon / (self.directions as f64).sqrt();
        let length = rows.norm(1).reshape([n]).mul_scalar(scale);
        let values = problem.measure.of_reference_length(&length, d);
        let passes = self.directions as u64 * n as u64;
        InnerMaximum::Values { values, z, forward: n as u64, backward: 2 * passes + n as u64 }
    }
}
