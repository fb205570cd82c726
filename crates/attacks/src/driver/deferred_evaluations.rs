//! Deferred evaluations: values that stay on the device until the attack ends, so that the host does not wait after
//! every step.

use crate::driver::accounting::SampleRecord;
use crate::threat::rows::per_sample;
use tarrl_tensor::{DType, Tensor};

/// Evaluations of all samples of a batch, in their order. The best points are kept up to date on the device; values and
/// flags enter the records when they are [read](DeferredEvaluations::read).
#[derive(Clone, Default)]
pub(crate) struct DeferredEvaluations {
    /// `(n)`: the largest values so far.
    best: Option<Tensor>,
    evaluations: Vec<Evaluated>,
}

#[derive(Clone)]
struct Evaluated {
    /// `(n)`
    values: Tensor,
    /// `(n)`: the l1 lengths of the gradients, if they were taken.
    slopes: Option<Tensor>,
}

impl DeferredEvaluations {
    /// Enters points `u` `(n, …)` with values `(n)` and, if it was taken, the gradient in them; returns that with rows that
    /// are not finite set to zero.
    pub(crate) fn note(
        &mut self,
        (value, best): (&[f64], &mut Tensor),
        u: &Tensor,
        values: &Tensor,
        gradient: Option<&Tensor>,
    ) -> Option<Tensor> {
        let before = self.best.take().unwrap_or_else(|| per_sample(values, value));
        let better = values.greater(&before);
        self.best = Some(better.select(values, &before));
        *best = by_row(&better, u, best);
        let slopes = gradient.map(|gradient| {
            let n = gradient.shape()[0];
            gradient.reshape([n, gradient.shape().len() / n.max(1)]).abs().sum(1).reshape([n])
        });
        let good = gradient.zip(slopes.as_ref()).map(|(gradient, slopes)| {
            // Only a finite number makes a zero of zero.
            let finite = slopes.mul_scalar(0.0).equal(&slopes.zeros_like());
            by_row(&finite, gradient, &gradient.zeros_like())
        });
        self.evaluations.push(Evaluated { values: values.clone(), slopes });
        good
    }

    /// Enters everything in the values `(n)` and records `(n)`, with one wait for the device.
    pub(crate) fn read(&mut self, value: &mut [f64], records: &mut [SampleRecord]) {
        self.best = None;
        let evaluations = std::mem::take(&mut self.evaluations);
        let lines = evaluations.iter().flat_map(|one| [Some(&one.values), one.slopes.as_ref()]).flatten();
        let lines: Vec<Tensor> = lines.map(|line| line.detach().cast(DType::F64)).collect();
        if lines.is_empty() {
            return;
        }
        let numbers = Tensor::concat(&lines.iter().collect::<Vec<_>>(), 0).array().to_f64();
        let n = value.len();
        let mut rows = numbers.chunks(n.max(1));
        let mut next = || rows.next().unwrap_or_default();
        for one in &evaluations {
            for ((best, record), &value) in value.iter_mut().zip(records.iter_mut()).zip(next()) {
                record.note_value(value);
                if value > *best {
                    *best = value;
                }
            }
            if one.slopes.is_some() {
                for (record, &slope) in records.iter_mut().zip(next()) {
                    record.note_gradient(slope == 0.0, slope.is_finite());
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
