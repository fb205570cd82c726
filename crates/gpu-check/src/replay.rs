//! Captured functions against the same functions run op by op, to the bit.

use std::cell::{Cell, RefCell};
use std::panic::{self, AssertUnwindSafe};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use crate::progress::show;
use serde_json::{Value, json};
use tarrl_benches::uniform;
use tarrl_tensor::{Array, CapturedFn, Conv, DType, Device, Key, Pool, Tensor, Transpose, grad};

/// Calls of each function; the second captures.
const CALLS: usize = 6;
/// Runs of a function that is captured: at the first call, the rehearsal, and the one that is recorded.
const RUNS: usize = 3;

/// Runs all checks and prints a line. `failures` is empty if all is well.
pub(crate) fn run(device: &Device) -> (Value, Vec<String>) {
    let mut checks = vec![
        ("results of another signature", two_signatures(device)),
        (
            "a function that reads a value on the host",
            never_captured(device, &|x| x.mul_scalar(x.sum_all().item())),
        ),
        (
            "a function that brings a value from the host",
            never_captured(device, &|x| x + &Tensor::new(device, [3], &[1.0f32, 2.0, 3.0])),
        ),
        ("a function whose weights are gone", weights_stay(device)),
        ("work of another thread meanwhile", threads(device)),
    ];
    for dtype in [DType::F32, DType::F64, DType::Bf16].into_iter().filter(|&dtype| device.computes(dtype)) {
        checks.push(("steps of an attack", attack(device, dtype)));
    }
    // What is expected to panic need not be printed.
    let hook = panic::take_hook();
    panic::set_hook(Box::new(|_| {}));
    checks.extend((1..=RUNS).map(|at| ("a function that panics", panicking(device, at))));
    checks.push(("a fault in a replay", fault(device)));
    panic::set_hook(hook);
    let failures: Vec<String> =
        checks.iter().filter(|(_, well)| !well).map(|(what, _)| format!("replay: {what}: wrong")).collect();
    show!("   replay: {} checks, {} failures", checks.len(), failures.len());
    (json!({"checks": checks.len(), "failures": failures}), failures)
}

/// A small network under attack: forward, loss, backward, sign, projection; every call with other points and labels.
/// Results are read at the end, when all calls have been made.
fn attack(device: &Device, dtype: DType) -> bool {
    let key = Key::new(8);
    let wide = dtype.wide();
    let draw = |name: &str, shape: &[usize]| uniform(device, shape, key.fold(name)).add_scalar(-0.5);
    let taps = draw("taps", &[3, 3, 2, 8]).cast(dtype);
    let (scale, shift) = (draw("scale", &[8]).cast(wide), draw("shift", &[8]).cast(wide));
    let (weight, bias) = (draw("weight", &[5, 32]).cast(dtype), draw("bias", &[5]).cast(dtype));
    let runs = Cell::new(0);
    let step = |inputs: &[Tensor]| {
        runs.set(runs.get() + 1);
        let [u, center, labels] = inputs else { unreachable!("three inputs") };
        let point = u.requires_grad();
        let map = point.cast(dtype).conv2d(&taps, Conv { stride: 1, pad: 1, groups: 1 });
        let map = map.channel_affine(&scale, &shift, true);
        let features = map.max_pool(Pool { window: 4, stride: 4, pad: 0 }).reshape([u.shape()[0], 32]);
        let losses = features.linear(&weight, &bias).cast(wide).cross_entropy(labels.array());
        let slope = grad(&losses.sum_all(), &[&point]).remove(0);
        let moved = &(u + &slope.sign().mul_scalar(0.03)) - center;
        vec![(center + &moved.clamp(-0.1, 0.1)).clamp(0.0, 1.0), losses.detach(), slope]
    };
    let inputs = |call: usize| {
        let key = key.fold("call").fold(call);
        let center = uniform(device, &[3, 8, 8, 2], key).cast(wide);
        let u = (&center + &uniform(device, &[3, 8, 8, 2], key.fold("u")).cast(wide).mul_scalar(0.1))
            .clamp(0.0, 1.0);
        [u, center, Tensor::new(device, [3], &[call as u32 % 5, 1, 4])]
    };
    let mut replayed = CapturedFn::new(step);
    let found: Vec<_> = (0..CALLS).map(|call| replayed.call(&inputs(call))).collect();
    let captured = runs.get() == RUNS;
    // A step of zero would make every check pass.
    let moves = found.iter().all(|results| results[2].array().to_f64().iter().any(|&v| v != 0.0));
    captured && moves && (0..CALLS).all(|call| same_bits(&found[call], &step(&inputs(call))))
}

fn two_signatures(device: &Device) -> bool {
    let runs = Cell::new(0);
    let gram = |x: &[Tensor]| {
        runs.set(runs.get() + 1);
        vec![x[0].matmul_with(&x[0], Transpose::RIGHT).softmax(), x[0].clone()]
    };
    let inputs = |call: usize| [uniform(device, &[4 + call % 2, 7], Key::new(9).fold(call))];
    let mut replayed = CapturedFn::new(gram);
    let found: Vec<_> = (0..2 * CALLS).map(|call| replayed.call(&inputs(call))).collect();
    runs.get() == 2 * RUNS && (0..2 * CALLS).all(|call| same_bits(&found[call], &gram(&inputs(call))))
}

/// Whether the function runs at every call, and once more at the second, with the right results.
fn never_captured(device: &Device, f: &dyn Fn(&Tensor) -> Tensor) -> bool {
    let runs = Cell::new(0);
    let mut replayed = CapturedFn::new(|x: &[Tensor]| {
        runs.set(runs.get() + 1);
        vec![f(&x[0])]
    });
    let input = |call: usize| uniform(device, &[3], Key::new(10).fold(call));
    let right = (0..CALLS).all(|call| same_bits(&replayed.call(&[input(call)]), &[f(&input(call))]));
    right && runs.get() == CALLS + 1
}

/// A panic in one of the runs leaves the device as it was, and the function as if it had never been called.
fn panicking(device: &Device, at: usize) -> bool {
    let runs = Cell::new(0);
    let mut replayed = CapturedFn::new(|x: &[Tensor]| {
        runs.set(runs.get() + 1);
        let y = x[0].exp();
        assert!(runs.get() != at, "as expected");
        vec![&y + &y]
    });
    let x = uniform(device, &[5], Key::new(11));
    let calls = if at == 1 { 1 } else { 2 };
    let call = |replayed: &mut CapturedFn<_>| {
        panic::catch_unwind(AssertUnwindSafe(|| replayed.call(std::slice::from_ref(&x))))
    };
    let first: Vec<bool> = (0..calls).map(|_| call(&mut replayed).is_ok()).collect();
    let expected = [&x.exp() + &x.exp()];
    let later = (0..CALLS).all(|_| call(&mut replayed).is_ok_and(|y| same_bits(&y, &expected)));
    !first[calls - 1] && later && runs.get() == at + RUNS
}

/// A label out of range in a replay is told when a result is read, and no more after that.
fn fault(device: &Device) -> bool {
    let logits = uniform(device, &[2, 3], Key::new(12));
    let mut replayed = CapturedFn::new(|labels: &[Tensor]| vec![logits.cross_entropy(labels[0].array())]);
    let mut read = |labels: [u32; 2]| {
        let labels = Tensor::new(device, [2], &labels);
        panic::catch_unwind(AssertUnwindSafe(|| replayed.call(&[labels])[0].array().to_f64())).is_ok()
    };
    let good = (0..CALLS).all(|_| read([0, 2]));
    good && !read([1, 3]) && read([1, 1])
}

/// What the function reads stays with the graph, though it holds it no longer.
fn weights_stay(device: &Device) -> bool {
    let draw = |name: &str| uniform(device, &[6], Key::new(13).fold(name));
    let weights = RefCell::new(draw("weights"));
    let mut replayed = CapturedFn::new(|x: &[Tensor]| vec![&x[0] * &*weights.borrow()]);
    let x = draw("x");
    let before: Vec<_> = (0..2).map(|_| replayed.call(std::slice::from_ref(&x))).collect();
    weights.replace(draw("others"));
    let _taken: Vec<Array> = (0..4).map(|_| Array::full(device, [6], DType::F32, 7.0)).collect();
    before.iter().all(|y| same_bits(y, &replayed.call(std::slice::from_ref(&x))))
}

/// Another thread computes on the device while this one captures.
fn threads(device: &Device) -> bool {
    let (x, done) = (uniform(device, &[40], Key::new(14)), AtomicBool::new(false));
    let compute = || x.exp().square().sum_all().item().to_bits();
    let expected = compute();
    thread::scope(|scope| {
        let other = scope.spawn(|| {
            let mut right = true;
            while !done.load(Ordering::Relaxed) {
                right &= compute() == expected;
            }
            right
        });
        let here = (1..20).all(|n| {
            let mut replayed = CapturedFn::new(|x: &[Tensor]| vec![x[0].exp().square().sum_all()]);
            let x = uniform(device, &[40 * n], Key::new(14));
            let expected = [x.exp().square().sum_all()];
            (0..3).all(|_| same_bits(&replayed.call(std::slice::from_ref(&x)), &expected))
        });
        done.store(true, Ordering::Relaxed);
        other.join().is_ok_and(|there| there) && here
    })
}

fn same_bits(here: &[Tensor], there: &[Tensor]) -> bool {
    let bits = |x: &Tensor| -> Vec<u64> { x.array().to_f64().into_iter().map(f64::to_bits).collect() };
    here.len() == there.len()
        && here.iter().zip(there).all(|(a, b)| a.shape() == b.shape() && bits(a) == bits(b))
}
