//! Lipschitz bound of a network: products of operator norms, Theorem I9 of docs/certificates.md.

use crate::network::{LayerOp, Network, Step};
use crate::rounding::up;
use crate::vector::l2_norm;
use tarrl_bound::linalg::spectral_norm;
use tarrl_tensor::{Shape, Tensor};

/// The largest smaller side of a matrix whose spectral norm is computed.
const LARGEST: usize = 128;

impl Network {
    /// An upper bound of `‖f(x′) − f(x)‖₂ / ‖x′ − x‖₂` over all inputs, before any normalization to the sphere: the
    /// product over the layers, the sum over branches. Theorem I9 (docs/certificates.md).
    ///
    /// It needs no forward pass and no sample, and is loose because no input is worst for every layer at once; a
    /// [`Certificate`](crate::Certificate) of a sample is compared with it.
    pub fn lipschitz(&self) -> f64 {
        let mut constants = vec![1.0];
        for (step, norm) in self.steps.iter().zip(self.norms().steps) {
            let first: f64 = constants[step.inputs[0]];
            constants.push(match &step.op {
                LayerOp::Add => up(first + constants[step.inputs[1]]),
                _ => up(first * norm),
            });
        }
        constants.pop().expect("a network has an input")
    }

    /// The l2 norms of every step.
    pub(crate) fn norms(&self) -> OperatorNorms {
        let norm =
            |(at, step): (usize, &Step)| step.op.norm(&self.shapes[step.inputs[0]], &self.shapes[at + 1]);
        OperatorNorms {
            steps: self.steps.iter().enumerate().map(norm).collect(),
            rows: self.steps.iter().map(|step| step.op.row_norms()).collect(),
        }
    }
}

/// Upper bounds of the l2 norms of the steps of a network.
#[derive(Clone, Debug, Default)]
pub(crate) struct OperatorNorms {
    /// Of the whole step; of a sum, for each operand.
    pub(crate) steps: Vec<f64>,
    /// Of the weights of one element of the result, for each channel; empty for steps that have none.
    pub(crate) rows: Vec<Vec<f64>>,
}

impl LayerOp {
    /// An upper bound of the l2 operator norm.
    fn norm(&self, input: &Shape, output: &Shape) -> f64 {
        match self {
            LayerOp::Relu | LayerOp::Shift(_) | LayerOp::Reshape | LayerOp::Permute(_) | LayerOp::Add => 1.0,
            LayerOp::Scale { .. } => self.gain(input),
            // √(‖W‖₁ ‖W‖∞): an element of the result sums one filter, an element of the input enters at most every
            // weight of its channel.
            // Or the norm of the filters on a patch: a patch of the input is read once for each window that covers it.
            LayerOp::Conv { weight, magnitude, conv } => {
                let side = |axis: usize| weight.shape()[axis].div_ceil(conv.stride);
                let patches = ((side(0) * side(1)) as f64).sqrt();
                self.holder_norm(input, magnitude).min(up(patches * matrix_norm(weight)))
            }
            LayerOp::Linear { weight, magnitude } => {
                self.holder_norm(input, magnitude).min(matrix_norm(weight))
            }
            LayerOp::SumPool(pool) => {
                let overlap = pool.window.div_ceil(pool.stride);
                (pool.window * overlap) as f64
            }
            LayerOp::Sum(_) => (input.len() as f64 / output.len() as f64).sqrt() * (1.0 + 1e-12),
        }
    }

    fn row_norms(&self) -> Vec<f64> {
        let (LayerOp::Conv { weight, .. } | LayerOp::Linear { weight, .. }) = self else { return vec![] };
        let outputs = weight.shape()[weight.shape().rank() - 1];
        let values = weight.array().to_f64();
        let column = |j: usize| -> Vec<f64> { values[j..].iter().step_by(outputs).copied().collect() };
        (0..outputs).map(|j| l2_norm(&column(j)) * (1.0 + 1e-9)).collect()
    }

    fn holder_norm(&self, input: &Shape, magnitude: &Tensor) -> f64 {
        // The product of small factors would underflow.
        self.gain(input).sqrt() * entering(magnitude).sqrt() * (1.0 + 1e-9)
    }
}

/// The spectral norm of weights `(…, outputs)` as a matrix with a column for each output, or infinity where that is
/// not worth its cost.
fn matrix_norm(weight: &Tensor) -> f64 {
    let columns = weight.shape()[weight.shape().rank() - 1];
    let rows = weight.array().len() / columns;
    if rows.min(columns) > LARGEST {
        return f64::INFINITY;
    }
    spectral_norm(&weight.array().to_f64(), rows, columns) * (1.0 + 1e-9)
}

/// The largest sum of the weights `(…, inputs, outputs)`, of absolute values, that one input channel meets.
fn entering(magnitude: &Tensor) -> f64 {
    let shape = magnitude.shape();
    let [inputs, outputs] = [shape[shape.rank() - 2], shape[shape.rank() - 1]];
    let values = magnitude.array().to_f64();
    let mut sums = vec![0.0f64; inputs];
    values.chunks(outputs).enumerate().for_each(|(row, w)| sums[row % inputs] += w.iter().sum::<f64>());
    sums.into_iter().fold(0.0, f64::max) * (1.0 + 1e-9)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::{Net, device, normal, pixels};
    use tarrl_tensor::Key;

    /// A thousand random pairs of inputs of random networks with every op.
    #[test]
    fn no_pair_of_outputs_is_farther_apart_than_the_lipschitz_bound() {
        for seed in 0..20u64 {
            let key = Key::new(seed).fold("lipschitz");
            let net = Net::new(key);
            let x = pixels(&net.device, key.fold("x"), &[50, 8, 8, 1]);
            let network = Network::trace(&|x| net.encode(x), &x.slice(0, 0, 1)).unwrap();
            let u = &x + &normal(&net.device, key.fold("u"), &[50, 8, 8, 1], 0.1);
            let moved = (&network.forward(&u) - &network.forward(&x)).square().sum(1).array().to_f64();
            let apart =
                (&u - &x).cast(tarrl_tensor::DType::F64).reshape([50, 64]).square().sum(1).array().to_f64();
            let constant = network.lipschitz();
            for (m, a) in moved.iter().zip(&apart) {
                assert!(m.sqrt() <= constant * a.sqrt(), "{m} {a} {constant}");
            }
        }
    }

    /// Attained by one linear map along its first singular vector, so that 0.95 of it would be false; and by a pool of
    /// equal values.
    #[test]
    fn the_lipschitz_bound_is_attained() {
        let device = device();
        let w = Tensor::new(&device, [2, 2], &[3.0f32, 0.0, 0.0, -1.0]);
        let x = Tensor::new(&device, [1, 2], &[0.5f32, 0.5]);
        let constant = Network::trace(&|x: &Tensor| x.matmul(&w), &x).unwrap().lipschitz();
        assert!((3.0..3.0 + 1e-6).contains(&constant), "{constant}");
        // A residual branch adds to what it goes around: 3 + 1 along the first axis.
        let constant = Network::trace(&|x: &Tensor| &x.matmul(&w) + x, &x).unwrap().lipschitz();
        assert!((4.0..4.0 + 1e-6).contains(&constant), "{constant}");
        // Filters of ones move every mean of a constant image alike: 4 · 63/64 of 2 · 2.
        let x = Tensor::full(&device, [1, 64, 64, 1], tarrl_tensor::DType::F32, 0.5);
        let ones = Tensor::full(&device, [2, 2, 1, 1], tarrl_tensor::DType::F32, 1.0);
        let conv = tarrl_tensor::Conv { stride: 1, pad: 0, groups: 1 };
        let encode = |x: &Tensor| x.conv2d(&ones, conv).reshape([x.shape()[0], 63 * 63]);
        let constant = Network::trace(&encode, &x).unwrap().lipschitz();
        let reached = 4.0 * 63.0 / 64.0;
        assert!(constant >= reached && 0.95 * constant < reached, "{constant}");
        let x = Tensor::new(&device, [1, 4, 4, 1], &[0.5f32; 16]);
        let pool = tarrl_tensor::Pool { window: 2, stride: 2, pad: 0 };
        let constant = Network::trace(&|x: &Tensor| x.avg_pool(pool).reshape([x.shape()[0], 4]), &x)
            .unwrap()
            .lipschitz();
        // Four pixels by δ move four means by δ: 2δ of 4δ.
        assert!((0.5..0.5 + 1e-6).contains(&constant), "{constant}");
    }
}
