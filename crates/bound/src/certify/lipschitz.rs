//! One constant for all samples: Theorem I9 of docs/certificates.md.

use crate::certify::network::{Map, Network};
use crate::certify::rounding::up;
use crate::linalg::spectral_norm;
use tarrl_tensor::{Shape, Tensor};

/// The side up to which a spectral norm is worth its rotations.
const LARGEST: usize = 128;

impl Network {
    /// An upper bound of `‖f(x′) − f(x)‖₂ / ‖x′ − x‖₂` over all inputs, before any normalisation to the sphere: the
    /// product over the layers, the sum over branches. Theorem I9 (docs/certificates.md).
    ///
    /// It costs no pass and knows no sample, and is loose by the alignment of every layer with the next: what a
    /// [`Certificate`](crate::certify::Certificate) of a sample gains is measured against it.
    pub fn lipschitz(&self) -> f64 {
        let mut constants = vec![1.0];
        for (at, step) in self.steps.iter().enumerate() {
            let first: f64 = constants[step.inputs[0]];
            constants.push(match &step.map {
                Map::Add => up(first + constants[step.inputs[1]]),
                map => up(first * map.norm(&self.shapes[step.inputs[0]], &self.shapes[at + 1])),
            });
        }
        constants.pop().expect("a network has an input")
    }
}

impl Map {
    /// An upper bound of the l2 operator norm.
    fn norm(&self, input: &Shape, output: &Shape) -> f64 {
        match self {
            Map::Relu | Map::Shift(_) | Map::Reshape | Map::Permute(_) | Map::Add => 1.0,
            Map::Scale { .. } => self.gain(input),
            // √(‖W‖₁ ‖W‖∞): an element of the result sums one filter, an element of the input enters at most every
            // weight of its channel.
            Map::Conv { magnitude, .. } => (self.gain(input) * entering(magnitude) * (1.0 + 1e-9)).sqrt(),
            Map::Linear { weight, magnitude } => {
                let [rows, columns] = [weight.shape()[0], weight.shape()[1]];
                let cheap = (self.gain(input) * entering(magnitude) * (1.0 + 1e-9)).sqrt();
                if rows.min(columns) > LARGEST {
                    return cheap;
                }
                cheap.min(spectral_norm(&weight.array().to_f64(), rows, columns) * (1.0 + 1e-9))
            }
            Map::SumPool(pool) => {
                let overlap = pool.window.div_ceil(pool.stride);
                (pool.window * overlap) as f64
            }
            Map::Sum(_) => (input.len() as f64 / output.len() as f64).sqrt() * (1.0 + 1e-12),
        }
    }
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
    use crate::certify::tests::{Net, device, normal, pixels};
    use tarrl_tensor::Key;

    /// A thousand random pairs of inputs of random networks with every op.
    #[test]
    fn no_pair_of_inputs_is_farther_apart_than_the_constant_says() {
        for seed in 0..20u64 {
            let key = Key::new(seed).fold("lipschitz");
            let net = Net::new(key);
            let x = pixels(&net.device, key.fold("x"), &[50, 8, 8, 1]);
            let network = Network::read(&|x| net.encode(x), &x.slice(0, 0, 1)).unwrap();
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
    fn the_constant_is_attained() {
        let device = device();
        let w = Tensor::new(&device, [2, 2], &[3.0f32, 0.0, 0.0, -1.0]);
        let x = Tensor::new(&device, [1, 2], &[0.5f32, 0.5]);
        let constant = Network::read(&|x: &Tensor| x.matmul(&w), &x).unwrap().lipschitz();
        assert!((3.0..3.0 + 1e-6).contains(&constant), "{constant}");
        let x = Tensor::new(&device, [1, 4, 4, 1], &[0.5f32; 16]);
        let pool = tarrl_tensor::Pool { window: 2, stride: 2, pad: 0 };
        let constant =
            Network::read(&|x: &Tensor| x.avg_pool(pool).reshape([x.shape()[0], 4]), &x).unwrap().lipschitz();
        // Four pixels by δ move four means by δ: 2δ of 4δ.
        assert!((0.5..0.5 + 1e-6).contains(&constant), "{constant}");
    }
}
