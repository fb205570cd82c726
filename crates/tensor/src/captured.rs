//! Captured functions: the device records their work once and replays it as a whole.

use crate::array::{Array, DType};
use crate::backend::Device;
use crate::shape::Shape;
use crate::tensor::Tensor;
use std::fmt;
use std::sync::Arc;

/// Signatures of which a [`CapturedFn`] keeps the work; the one that was not called for longest goes first.
const KEPT: usize = 8;

/// Work of a device that was recorded and can be queued again as a whole.
pub trait Captured: Send {
    /// What the function gives for these inputs, in memory of its own. They have the shapes and types that it was
    /// captured with.
    fn launch(&self, inputs: &[Array]) -> Vec<Array>;
}

/// A pure function of constants that is called again and again, such as the gradient of a frozen encoder in its input.
///
/// For each signature, the shapes and types of its inputs, the function runs as it is at the first call. At the second a
/// device that can, captures the work ([`Backend::capture`](crate::Backend::capture)), and queues it as a whole from
/// then on, with the same bits; any other device runs the function at every call.
///
/// The function's Rust code runs no more once it is captured: numbers and keys on the host, and branches, stay as they
/// were. Whatever changes from call to call must be an input. A function that reads values on the host, or brings values
/// from there, is never captured. It computes on the thread that calls it.
///
/// ```
/// use tarrl_tensor::{CapturedFn, Tensor, cpu, grad};
///
/// let mut slope = CapturedFn::new(|inputs: &[Tensor]| {
///     let x = inputs[0].requires_grad();
///     grad(&x.square().sum_all(), &[&x])
/// });
/// let x = Tensor::new(&cpu(), [2], &[1.0f32, -3.0]);
/// assert_eq!(slope.call(&[x]).remove(0).to_vec::<f32>(), [2.0, -6.0]);
/// ```
pub struct CapturedFn<F> {
    f: F,
    /// The one called last comes last.
    known: Vec<Known>,
}

struct Known {
    device: Device,
    signature: Vec<(Shape, DType)>,
    state: State,
}

enum State {
    Seen,
    Captured(Box<dyn Captured>),
    /// The device cannot, or the function does not let it.
    Plain,
}

impl<F: Fn(&[Tensor]) -> Vec<Tensor>> CapturedFn<F> {
    /// Nothing captured yet.
    pub fn new(f: F) -> Self {
        CapturedFn { f, known: Vec::new() }
    }

    /// The function's results, as constants.
    ///
    /// # Panics
    /// If an input is tracked: no gradient would pass.
    #[track_caller]
    pub fn call(&mut self, inputs: &[Tensor]) -> Vec<Tensor> {
        assert!(inputs.iter().all(|x| !x.tracks_grad()), "CapturedFn::call: an input is tracked (detach it)");
        let arrays: Vec<Array> = inputs.iter().map(|x| x.array().clone()).collect();
        let Some(device) = inputs.first().map(|x| x.device().clone()) else {
            return constants(self.run(&[]));
        };
        let signature: Vec<_> = arrays.iter().map(|x| (*x.shape(), x.dtype())).collect();
        let found = self
            .known
            .iter()
            .position(|known| Arc::ptr_eq(&known.device, &device) && known.signature == signature);
        // If the function panics its signature is forgotten.
        let known = match found.map(|at| self.known.remove(at)) {
            None => Known { device, signature, state: State::Seen },
            Some(known) => self.captured(known, &arrays),
        };
        let results = match &known.state {
            State::Captured(work) => work.launch(&arrays),
            State::Seen | State::Plain => self.run(&arrays),
        };
        if self.known.len() == KEPT {
            self.known.remove(0);
        }
        self.known.push(known);
        constants(results)
    }

    /// Forgets what was captured: something that the function reads and that is no input has changed.
    pub fn forget(&mut self) {
        self.known.clear();
    }

    fn captured(&self, known: Known, arrays: &[Array]) -> Known {
        let State::Seen = known.state else { return known };
        let work = known.device.capture(arrays, &|arrays| self.run(arrays));
        Known { state: work.map_or(State::Plain, State::Captured), ..known }
    }

    fn run(&self, arrays: &[Array]) -> Vec<Array> {
        let results = (self.f)(&constants(arrays.to_vec()));
        results.iter().map(|y| y.array().clone()).collect()
    }
}

impl<F> fmt::Debug for CapturedFn<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let captured = self.known.iter().filter(|known| matches!(known.state, State::Captured(_)));
        write!(f, "CapturedFn ({} signatures, {} captured)", self.known.len(), captured.count())
    }
}

fn constants(arrays: Vec<Array>) -> Vec<Tensor> {
    arrays.into_iter().map(Tensor::from).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::cpu;
    use std::cell::Cell;

    #[test]
    fn without_graphs_the_function_runs_once_a_call() {
        let runs = Cell::new(0);
        let mut doubled = CapturedFn::new(|x: &[Tensor]| {
            runs.set(runs.get() + 1);
            vec![&x[0] + &x[0]]
        });
        for i in 0..4 {
            let x = Tensor::new(&cpu(), [1], &[i as f32]);
            assert_eq!(doubled.call(&[x]).remove(0).item(), 2.0 * f64::from(i));
            assert_eq!(runs.get(), i + 1);
        }
    }

    #[test]
    fn few_signatures_are_kept() {
        let mut same = CapturedFn::new(|x: &[Tensor]| x.to_vec());
        for n in 1..3 * KEPT {
            same.call(&[Tensor::full(&cpu(), [n], DType::F32, 1.0)]);
        }
        assert_eq!(same.known.len(), KEPT);
    }

    #[test]
    fn results_of_a_captured_function_are_not_differentiable() {
        let mut f = CapturedFn::new(|x: &[Tensor]| vec![x[0].requires_grad().square()]);
        assert!(!f.call(&[Tensor::full(&cpu(), [2], DType::F64, 3.0)])[0].tracks_grad());
    }

    #[test]
    #[should_panic(expected = "an input is tracked")]
    fn tracked_inputs_are_refused() {
        CapturedFn::new(|x: &[Tensor]| x.to_vec())
            .call(&[Tensor::full(&cpu(), [2], DType::F64, 3.0).requires_grad()]);
    }
}
