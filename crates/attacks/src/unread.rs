//! What an attack has seen on a device and nobody has read yet: the host need not wait after every step.

use crate::outcome::Outcome;
use crate::steepest::per_sample;
use tarrl_tensor::{DType, Tensor};

/// Looks at all samples of a batch, in their order. The best points are kept up to date on the device; values, counts of bad
/// gradients and flags enter the [`Outcome`] when they are [read](Unread::read).
#[derive(Clone, Default)]
pub(crate) struct Unread {
    /// `(n)`: the largest values so far.
    best: Option<Tensor>,
    looks: Vec<Look>,
}

#[derive(Clone)]
struct Look {
    /// `(n)`
    values: Tensor,
    /// `(n)`: the l1 lengths of the gradients, if they were taken.
    slopes: Option<Tensor>,
}

impl Unread {
    pub(crate) fn is_empty(&self) -> bool {
        self.looks.is_empty()
    }

    /// Enters points `u` `(n, …)` with values `(n)` and, if it was taken, the gradient in them; returns that with rows that
    /// are not finite set to zero.
    pub(crate) fn note(
        &mut self,
        outcome: &mut Outcome,
        u: &Tensor,
        values: &Tensor,
        gradient: Option<&Tensor>,
    ) -> Option<Tensor> {
        let before = self.best.take().unwrap_or_else(|| per_sample(values, &outcome.value));
        let better = values.greater(&before);
        self.best = Some(better.select(values, &before));
        outcome.best = by_row(&better, u, &outcome.best);
        let slopes = gradient.map(|gradient| {
            let n = gradient.shape()[0];
            gradient.reshape([n, gradient.shape().len() / n.max(1)]).abs().sum(1).reshape([n])
        });
        let good = gradient.zip(slopes.as_ref()).map(|(gradient, slopes)| {
            // Only a finite number makes a zero of zero.
            let finite = slopes.mul_scalar(0.0).equal(&slopes.zeros_like());
            by_row(&finite, gradient, &gradient.zeros_like())
        });
        self.looks.push(Look { values: values.clone(), slopes });
        good
    }

    /// Enters everything in the outcome, with one wait for the device.
    pub(crate) fn read(&mut self, outcome: &mut Outcome) {
        self.best = None;
        let looks = std::mem::take(&mut self.looks);
        let lines = looks.iter().flat_map(|look| [Some(&look.values), look.slopes.as_ref()]).flatten();
        let lines: Vec<Tensor> = lines.map(|line| line.detach().cast(DType::F64)).collect();
        if lines.is_empty() {
            return;
        }
        let numbers = Tensor::concat(&lines.iter().collect::<Vec<_>>(), 0).array().to_f64();
        let n = outcome.value.len();
        let mut rows = numbers.chunks(n.max(1));
        let mut next = || rows.next().unwrap_or_default();
        for look in &looks {
            for ((best, flags), &value) in outcome.value.iter_mut().zip(&mut outcome.flags).zip(next()) {
                flags.nan_value |= value.is_nan();
                if value > *best {
                    *best = value;
                }
            }
            if look.slopes.is_some() {
                for (flags, &slope) in outcome.flags.iter_mut().zip(next()) {
                    flags.zero_gradient |= slope == 0.0;
                    flags.bad_gradient |= !slope.is_finite();
                }
            }
        }
    }
}

/// Row by row `a` where `condition` `(n)` is not zero, else `b`.
fn by_row(condition: &Tensor, a: &Tensor, b: &Tensor) -> Tensor {
    let shape = *a.shape();
    let extents: Vec<usize> = (0..shape.rank()).map(|axis| if axis == 0 { shape[0] } else { 1 }).collect();
    let condition = condition.cast(a.dtype()).reshape(&extents[..]).broadcast_to(shape);
    condition.select(a, b)
}
