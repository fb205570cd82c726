//! A training step allocates no memory for values after warm-up: everything comes back from the pool.

mod counting_allocator;

use counting_allocator::{CountingAllocator, large_allocations};
use tarrl_tensor::{Array, Conv, Cpu, Key, Norm, Random, Tensor, grad};

/// Allocations of at least this many bytes are counted. Nodes, shapes and closures of the graph are
/// smaller; every activation and gradient of the step below is larger.
const LARGE: usize = 16 * 1024;

#[global_allocator]
static ALLOCATOR: CountingAllocator<LARGE> = CountingAllocator;

#[test]
fn a_step_allocates_nothing_large_after_warm_up() {
    for threads in [1, 2] {
        let device = Cpu { threads, ..Cpu::default() }.open();
        let normal = |seed: u64, shape: [usize; 4]| {
            let keys: Vec<Key> = (0..shape[0]).map(|i| Key::new(seed).fold(i)).collect();
            Tensor::random(&device, Random::Normal, &keys, &shape[1..], tarrl_tensor::DType::F32)
        };
        let x = normal(0, [8, 14, 14, 16]);
        let labels = Array::new(&device, [8], &[0u32, 1, 2, 3, 4, 5, 6, 7]);
        let mut weights = [normal(1, [3, 3, 16, 32]), normal(2, [3, 3, 32, 32]), normal(3, [3, 3, 32, 64])]
            .map(|w| &w * 0.05);
        let (ones, zeros) = (|c| full(&device, c, 1.0), |c| full(&device, c, 0.0));
        let mut step = || {
            let tracked = weights.each_ref().map(Tensor::requires_grad);
            let mut h = x.clone();
            for (i, w) in tracked.iter().enumerate() {
                let c = w.shape()[3];
                let conv = Conv { stride: if i == 2 { 2 } else { 1 }, pad: 1, groups: 1 };
                h = h.conv2d(w, conv).batch_norm(&ones(c), &zeros(c), Norm { eps: 1e-5, relu: true }).y;
            }
            let loss = h.global_avg_pool().cross_entropy(&labels).mean_all();
            let gradients = grad(&loss, &tracked.each_ref());
            for (w, g) in weights.iter_mut().zip(&gradients) {
                *w = &*w - &(g * 0.01);
            }
            loss.item()
        };
        let first = step();
        step();
        let before = large_allocations();
        assert!(before > 1, "the counter sees nothing"); // the slabs of memory
        let mut last = first;
        for _ in 0..3 {
            last = step();
        }
        assert_eq!(large_allocations() - before, 0, "large allocations in three steps, {threads} threads");
        assert!(last < first, "the step does not learn: {first} to {last}");
    }
}

fn full(device: &tarrl_tensor::Device, c: usize, value: f64) -> Tensor {
    Tensor::full(device, [c], tarrl_tensor::DType::F32, value)
}
