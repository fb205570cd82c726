//! A step of an attack allocates no memory for values after warm-up, whatever the norm.

#[path = "../../tensor/tests/counting_allocator/mod.rs"]
mod counting_allocator;

use counting_allocator::{CountingAllocator, large_allocations};
use tarrl_attacks::{
    AutoAttack, CarliniWagner, CarliniWagnerRun, Classifier, DeepFool, DeepFoolRun, LabelLoss, Limits, Norm,
    Pgd, PgdRun, Problem, RunConfig, SuiteRun, Threat, classify,
};
use tarrl_tensor::{DType, Key, Random, Tensor, cpu};

/// Allocations of at least this many bytes are counted: an eighth of a batch of inputs, and more than all
/// logits, indices and nodes of the graph are.
const LARGE: usize = 32 * 1024;

#[global_allocator]
static ALLOCATOR: CountingAllocator<LARGE> = CountingAllocator;

/// Large allocations in some steps after some others.
#[track_caller]
fn count(warm_up: usize, steps: usize, step: &mut dyn FnMut() -> bool) -> usize {
    for _ in 0..warm_up {
        assert!(step(), "the attack is over before it is warm");
    }
    let before = large_allocations();
    // The memory of the device, from which all tensors come.
    assert!(before > 0, "the counter sees nothing");
    for _ in 0..steps {
        assert!(step(), "the attack is over before it is measured");
    }
    large_allocations() - before
}

/// One test: the counter sees all threads.
#[test]
fn a_step_allocates_nothing_large_after_warm_up() {
    projected_gradients();
    nearest_mistakes();
    suites();
}

/// Logits whose order no input in the box changes, so that no sample leaves.
fn constant_order<'a>(w: &'a Tensor) -> impl Fn(&Tensor) -> Tensor + 'a {
    let lead: Vec<f32> = (0..10).map(|class| if class == 0 { 1e4 } else { -(class as f32) }).collect();
    let lead = Tensor::new(&cpu(), [1, 10], &lead);
    move |u| &u.matmul(w) + &lead
}

fn inputs_and_weights() -> (Tensor, Tensor, Vec<Key>) {
    let (n, d) = (64usize, 1024usize);
    let keys: Vec<Key> = (0..n).map(|i| Key::new(1).fold(i)).collect();
    let rows: Vec<Key> = (0..d).map(|i| Key::new(2).fold(i)).collect();
    let x = Tensor::random(&cpu(), Random::Uniform, &keys, &[d], DType::F32);
    (x, Tensor::random(&cpu(), Random::Normal, &rows, &[10], DType::F32), keys)
}

fn nearest_mistakes() {
    let (x, w, keys) = inputs_and_weights();
    let logits = constant_order(&w);
    let labels = [0; 64];
    let target = Classifier { logits: &logits, labels: &labels };
    let ball = Threat::l2(1.0).around(&x);
    target.nearest(&ball, &keys, Limits::default(), |nearest| {
        let config = CarliniWagner { abort_early: false, initial_c: 1.0, ..CarliniWagner::default() };
        let mut run = CarliniWagnerRun::new(config, nearest);
        // The first step evaluates the inputs and takes no gradient.
        assert_eq!(count(6, 6, &mut || run.step()), 0, "cw");
        assert!(run.finish().backward.iter().all(|&passes| passes == 11));
    });
    for norm in [Norm::L2, Norm::Linf] {
        let ball = Threat::new(norm, 1.0).around(&x);
        target.nearest(&ball, &keys, Limits::default(), |nearest| {
            let mut run = DeepFoolRun::new(DeepFool::default(), nearest);
            assert_eq!(count(5, 6, &mut || run.step()), 0, "deepfool, {norm}");
            assert!(run.finish().backward.iter().all(|&passes| passes == 11 * 9));
        });
    }
}

/// Logits whose order no input in the balls of [`suites`] changes, though some in the box do. A suite evaluates no point
/// twice, so that a step that does not move takes no round. Here steps move: the cross-entropy has a
/// slope, the best value of a coordinate near a half is at the kink and in no corner, and FAB reaches
/// the boundaries that it steps to.
fn robust_logits<'a>(w: &'a Tensor) -> impl Fn(&Tensor) -> Tensor + 'a {
    let lead: Vec<f32> = (0..10).map(|class| if class == 0 { 10.0 } else { 0.0 }).collect();
    let lead = Tensor::new(&cpu(), [1, 10], &lead);
    move |u| &u.add_scalar(-0.5).abs().matmul(w).mul_scalar(0.1) + &lead
}

/// Every attack of the suite on its own.
fn suites() {
    let (x, w, keys) = inputs_and_weights();
    let logits = robust_logits(&w);
    for (norm, epsilon) in [(Norm::Linf, 0.01), (Norm::L2, 0.2), (Norm::L1, 2.0)] {
        for part in AutoAttack::default().parts(norm) {
            let name = part.name();
            let ball = Threat::new(norm, epsilon).around(&x);
            let mut run = SuiteRun::new(ball, &[0; 64], &keys, vec![part], RunConfig::default());
            let found = count(8, 6, &mut || run.round(&|u, _| logits(u)));
            assert_eq!(found, 0, "{name}, {norm}");
            assert_eq!(run.progress().finished, 0, "{name}, {norm}: not all samples were in all rounds");
        }
    }
}

fn projected_gradients() {
    let (x, w, keys) = inputs_and_weights();
    let labels: Vec<u32> = x.matmul(&w).argmax(1).to_vec();
    let logits = |u: &Tensor| u.matmul(&w);
    let evaluate = classify(&logits, &labels, LabelLoss::CrossEntropy);
    for (norm, epsilon) in [(Norm::Linf, 0.01), (Norm::L2, 0.2), (Norm::L1, 2.0), (Norm::L0, 3.0)] {
        let problem =
            Problem::new(Threat::new(norm, epsilon).around(&x), &evaluate, &keys, Limits::default());
        for momentum in [0.0, 1.0] {
            let config = Pgd { steps: 12, step_size: epsilon / 4.0, momentum, ..Pgd::default() };
            let mut run = PgdRun::new(config, &problem);
            let count = count(5, 6, &mut || run.step());
            assert_eq!(count, 0, "large allocations in six steps of {norm}, momentum {momentum}");
            assert!(run.finish().success().contains(&true), "{norm}: the attack does nothing");
        }
    }
}
