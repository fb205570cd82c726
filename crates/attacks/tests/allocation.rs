//! A step of an attack allocates no memory for values after warm-up, whatever the norm.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};
use tarrl_attacks::{LabelLoss, Limits, Norm, Pgd, PgdRun, Problem, Threat, classify};
use tarrl_tensor::{DType, Key, Random, Tensor, cpu};

/// Allocations of at least this many bytes are counted: an eighth of a batch of inputs, and more than all
/// logits, indices and nodes of the graph are.
const LARGE: usize = 32 * 1024;

static COUNT: AtomicUsize = AtomicUsize::new(0);

struct Counting;

// SAFETY: every call goes to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if layout.size() >= LARGE {
            COUNT.fetch_add(1, Ordering::SeqCst);
        }
        // SAFETY: the caller's obligations are the system allocator's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn a_step_allocates_nothing_large_after_warm_up() {
    let (n, d, device) = (64usize, 1024usize, cpu());
    let keys: Vec<Key> = (0..n).map(|i| Key::new(1).fold(i)).collect();
    let rows: Vec<Key> = (0..d).map(|i| Key::new(2).fold(i)).collect();
    let x = Tensor::random(&device, Random::Uniform, &keys, &[d], DType::F32);
    let w = Tensor::random(&device, Random::Normal, &rows, &[10], DType::F32);
    let labels: Vec<u32> = x.matmul(&w).argmax(1).to_vec();
    let logits = |u: &Tensor| u.matmul(&w);
    let evaluate = classify(&logits, &labels, LabelLoss::CrossEntropy);
    for (norm, epsilon) in [(Norm::Linf, 0.01), (Norm::L2, 0.2), (Norm::L1, 2.0), (Norm::L0, 3.0)] {
        let problem =
            Problem::new(Threat::new(norm, epsilon).around(&x), &evaluate, &keys, Limits::default());
        for momentum in [0.0, 1.0] {
            let config = Pgd { steps: 12, step_size: epsilon / 4.0, momentum, ..Pgd::default() };
            let mut run = PgdRun::new(config, &problem);
            for _ in 0..5 {
                run.step();
            }
            let before = COUNT.load(Ordering::SeqCst);
            // The memory of the device, from which all tensors come.
            assert!(before > 0, "the counter sees nothing");
            for _ in 0..6 {
                assert!(run.step());
            }
            let count = COUNT.load(Ordering::SeqCst) - before;
            assert_eq!(count, 0, "large allocations in six steps of {norm}, momentum {momentum}");
            assert!(run.finish().success().contains(&true), "{norm}: the attack does nothing");
        }
    }
}
