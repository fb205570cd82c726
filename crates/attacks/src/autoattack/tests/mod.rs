//! Tests of the suite as a whole; those of one file stand in it.

mod box_projection;
mod checkpoints;
mod closed_forms;
mod confirm;
mod costs;
mod invariance;
mod modes;
mod sample_ball;
mod traces;

use crate::threat::{Norm, Threat};
use tarrl_tensor::{Key, Tensor, cpu};

/// The norms that the suite has steps for.
const NORMS: [Norm; 3] = [Norm::Linf, Norm::L2, Norm::L1];

/// A frozen network of 20 inputs, one hidden layer and `k` classes.
struct Network {
    w1: Tensor,
    b1: Tensor,
    w2: Tensor,
}

impl Network {
    fn new(k: usize) -> Self {
        let mut stream = Key::new(41).fold(k).stream();
        let mut draw = |shape: [usize; 2], size: f64| {
            let values: Vec<f32> =
                (0..shape[0] * shape[1]).map(|_| (size * stream.normal()) as f32).collect();
            Tensor::new(&cpu(), shape, &values)
        };
        Network { w1: draw([20, 24], 1.0), b1: draw([1, 24], 0.5), w2: draw([24, k], 0.5) }
    }

    /// Logits `(m, k)` of points `(m, 2, 5, 2)`, images of two channels.
    fn logits(&self, u: &Tensor) -> Tensor {
        let flat = u.reshape([u.shape()[0], 20]).add_scalar(-0.5);
        (&flat.matmul(&self.w1) + &self.b1).relu().matmul(&self.w2)
    }
}

/// Images `(n, 2, 5, 2)`, the classes that the network gives them, and keys.
fn samples(network: &Network, n: usize) -> (Tensor, Vec<u32>, Vec<Key>) {
    let mut stream = Key::new(17).stream();
    let pixels: Vec<f32> = (0..n * 20).map(|_| stream.unit()).collect();
    let x = Tensor::new(&cpu(), [n, 2, 5, 2], &pixels);
    let labels = network.logits(&x).argmax(1).to_vec::<u32>();
    (x, labels, (0..n).map(|i| Key::new(3).fold(i)).collect())
}

/// Radii at which about half of these samples fall.
fn threat(norm: Norm) -> Threat {
    Threat::new(
        norm,
        match norm {
            Norm::Linf => 0.06,
            Norm::L2 => 0.25,
            _ => 0.8,
        },
    )
}
