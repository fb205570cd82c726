//! Proptest strategies for property tests: shapes, inputs, encoders, heads, perturbations. All are f64, made from a
//! seed by this project's counter-based generator.

use crate::heads::{LinearHead, MlpHead, NormalizedHead};
use proptest::prelude::*;
use tarrl_attacks::{Norm, Threat};
use tarrl_tensor::{Key, Stream, Tensor, cpu, math};

/// An untrained encoder: two linear maps with a tanh or ReLU between them.
#[derive(Clone, Debug)]
pub struct RandomEncoder {
    /// `(inputs, hidden)`
    pub first: Tensor,
    /// `(hidden, d)`
    pub second: Tensor,
    /// Whether the function between is a ReLU, else tanh.
    pub relu: bool,
}

impl RandomEncoder {
    /// Inputs `(n, …)` to representations `(n, d)`.
    pub fn encode(&self, x: &Tensor) -> Tensor {
        let n = x.shape()[0];
        let h = x.reshape([n, x.shape().len() / n.max(1)]).add_scalar(-0.5).matmul(&self.first);
        if self.relu { h.relu().matmul(&self.second) } else { h.tanh().matmul(&self.second) }
    }

    /// The width of a representation.
    pub fn features(&self) -> usize {
        self.second.shape()[1]
    }
}

/// Shapes of batches of images: 1 to 5 of 2 to 4 by 2 to 4 pixels with 1 to 3 channels.
pub fn shapes() -> impl Strategy<Value = [usize; 4]> {
    (1usize..6, 2usize..5, 2usize..5, 1usize..4).prop_map(|(n, h, w, c)| [n, h, w, c])
}

/// Images `(n, h, w, c)` with gray levels `k / 255` as pixels, black and white often. They shrink to black.
pub fn images(shape: [usize; 4]) -> impl Strategy<Value = Tensor> {
    let level = prop_oneof![Just(0u8), Just(255), any::<u8>()].prop_map(|level| f64::from(level) / 255.0);
    prop::collection::vec(level, shape.iter().product::<usize>())
        .prop_map(move |pixels| Tensor::new(&cpu(), shape, &pixels))
}

/// Encoders of inputs with `inputs` numbers: 2 to 12 hidden units, 2 to 6 features, weights over a decade.
pub fn encoders(inputs: usize) -> impl Strategy<Value = RandomEncoder> {
    (2usize..13, 2usize..7, -0.5f64..0.5, any::<bool>(), any::<u64>()).prop_map(
        move |(hidden, d, decade, relu, seed)| {
            let mut random = Key::new(seed).stream();
            let mut matrix = |rows: usize, columns: usize| {
                Tensor::new(&cpu(), [rows, columns], &normals(&mut random, rows * columns, decade))
            };
            RandomEncoder { first: matrix(inputs, hidden), second: matrix(hidden, d), relu }
        },
    )
}

/// Linear heads of 2 to 8 classes on `d` features, weights over two decades.
pub fn linear_heads(d: usize) -> impl Strategy<Value = LinearHead> {
    (2usize..9, -1.0f64..1.0, any::<u64>()).prop_map(move |(k, decade, seed)| {
        let mut random = Key::new(seed).stream();
        let weight = normals(&mut random, k * d, decade);
        LinearHead::new(k, d, weight, normals(&mut random, k, decade))
    })
}

/// Heads with a hidden layer of 1 to 12 ReLUs on `d` features.
pub fn mlp_heads(d: usize) -> impl Strategy<Value = MlpHead> {
    (1usize..13, -1.0f64..1.0, any::<u64>()).prop_flat_map(move |(h, decade, seed)| {
        linear_heads(h).prop_map(move |output| {
            let mut random = Key::new(seed).stream();
            let hidden = normals(&mut random, h * d, decade);
            MlpHead::new(d, hidden, normals(&mut random, h, decade), output)
        })
    })
}

/// Linear heads on the normalized representation, with `d` features and a temperature from 0.05 to 1.
pub fn normalized_heads(d: usize) -> impl Strategy<Value = NormalizedHead> {
    (linear_heads(d), 0.05f64..1.0)
        .prop_map(|(head, temperature)| NormalizedHead::new(head.with_temperature(temperature)))
}

/// Threat models in the pixel box: either norm, ε over two decades up to 0.3.
pub fn threats() -> impl Strategy<Value = Threat> {
    (any::<bool>(), -2.5f64..-0.5).prop_map(|(l2, decade)| {
        let norm = if l2 { Norm::L2 } else { Norm::Linf };
        Threat { norm, epsilon: math::powf(10.0, decade), ..Threat::default() }
    })
}

/// Random points of the balls around `x` `(n, …)`.
pub fn perturbations(x: &Tensor, threat: &Threat) -> impl Strategy<Value = Tensor> + use<> {
    let ball = threat.around(x);
    let n = x.shape()[0];
    any::<u64>().prop_map(move |seed| ball.start(&(0..n).map(|i| Key::new(seed).fold(i)).collect::<Vec<_>>()))
}

/// `n` normal numbers of deviation `10^decade`.
pub fn normals(random: &mut Stream, n: usize, decade: f64) -> Vec<f64> {
    (0..n).map(|_| math::powf(10.0, decade) * random.normal()).collect()
}
