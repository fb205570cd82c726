//! Test fixture: a small random network with images and labels.

use tarrl_bound::LinearHead;
use tarrl_tensor::{Cpu, Key, Tensor};

/// Images `(n, 3, 3, 1)` in [0, 1], an encoder of two layers to `d` features and a head of `k` classes
/// that gives most of them their label.
pub(crate) struct Toy {
    key: Key,
    pub(crate) images: Tensor,
    pub(crate) labels: Vec<u32>,
    pub(crate) head: LinearHead,
    first: Tensor,
    second: Tensor,
}

impl Toy {
    pub(crate) fn new(seed: u64, n: usize, d: usize, k: usize, threads: usize) -> Toy {
        let key = Key::new(seed);
        let device = Cpu { threads, ..Cpu::default() }.open();
        let mut s = key.fold("images").stream();
        let pixels: Vec<f32> = (0..n * 9).map(|_| s.unit()).collect();
        let weight = numbers(key.fold("head"), k * d);
        // Without bias towards a class: the head judges how features differ from their middle.
        let bias = weight.chunks(d).map(|w| -0.5 * w.iter().sum::<f64>()).collect();
        let mut toy = Toy {
            key,
            images: Tensor::new(&device, [n, 3, 3, 1], &pixels),
            labels: vec![0; n],
            head: LinearHead::new(k, d, weight, bias),
            first: Tensor::new(&device, [9, 16], &narrow(&numbers(key.fold("first"), 9 * 16))),
            second: Tensor::new(&device, [16, d], &narrow(&numbers(key.fold("second"), 16 * d))),
        };
        // The identity suits a test with nine features; others see the network.
        let z = if d == 9 { toy.images.array().to_f64() } else { toy.encode(&toy.images).array().to_f64() };
        for (i, z) in z.chunks(d).enumerate() {
            let logits = toy.head.logits(z);
            let best = (0..k).max_by(|&a, &b| logits[a].total_cmp(&logits[b])).unwrap_or(0);
            // Every seventh label is wrong.
            toy.labels[i] = if i % 7 == 6 { (best + 1) % k } else { best } as u32;
        }
        toy
    }

    /// Features `(n, d)`.
    pub(crate) fn encode(&self, x: &Tensor) -> Tensor {
        x.reshape([x.shape()[0], 9]).matmul(&self.first).relu().matmul(&self.second)
    }

    /// A random matrix `(m, n)`, row-major.
    pub(crate) fn matrix(&self, m: usize, n: usize) -> Vec<f32> {
        narrow(&numbers(self.key.fold("matrix"), m * n))
    }
}

fn numbers(key: Key, n: usize) -> Vec<f64> {
    let mut s = key.stream();
    (0..n).map(|_| 0.5 * s.normal()).collect()
}

fn narrow(v: &[f64]) -> Vec<f32> {
    v.iter().map(|&v| v as f32).collect()
}
