//! Whether a GPU computes what the CPU computes: single ops on larger shapes than the conformance suite has, and
//! training step by step.

use super::batches;
use serde_json::{Value, json};
use tarrl_benches::{encoder_config, uniform};
use tarrl_encoders::{Arch, Encoder, Pass, parameters, set_parameters, track};
use tarrl_tensor::{
    Array, BatchNorm, Conv, Device, Key, Norm, Pool, Recording, Tensor, Transpose, cpu, grad_once, pull_back,
};

/// What training may differ by, relative to the largest value.
const TRAINING: f64 = 1e-4;
/// What an op in f32 may differ by: some hundred roundings of sums of thousands of terms.
const OPS: f64 = 2e-5;
/// Images of a step; the emulator takes a second for each step.
const BATCH: usize = 4;
const STEPS: usize = 10;
const RATE: f64 = 0.05;

/// Runs both and prints a line each. `failures` is empty if all is well.
pub(crate) fn run(device: &Device) -> (Value, Vec<String>) {
    let cpu = cpu();
    let mut failures = Vec::new();
    let mut worst: (f64, &str) = (0.0, "");
    let ops = ops(device);
    let count = ops.len();
    for ((name, here), (_, there)) in ops.iter().zip(self::ops(&cpu)) {
        let apart = apart(here, &there);
        if apart > OPS || apart.is_nan() {
            failures.push(format!("{name} differs from the CPU by {apart:.1e} of its largest value"));
        }
        if apart > worst.0 || apart.is_nan() {
            worst = (apart, name);
        }
    }
    println!("   {count} results on larger shapes: at most {:.1e} from the CPU ({})", worst.0, worst.1);
    let (here, there) = (train(device), train(&cpu));
    let training = largest(here.iter().zip(&there).map(|(here, there)| apart(here, there)));
    println!("   {STEPS} training steps: losses and parameters at most {training:.1e} from the CPU");
    if training > TRAINING || training.is_nan() {
        failures.push(format!(
            "{STEPS} training steps differ from the CPU by {training:.1e}, more than {TRAINING:e}"
        ));
    }
    let same = train(device).iter().zip(&here).all(|(again, here)| bits(again) == bits(here));
    println!("   the same steps again: {}", if same { "the same bits" } else { "OTHER BITS" });
    if !same {
        failures.push("two runs of the same training steps have different bits".to_owned());
    }
    let report = json!({"ops": worst.0, "training": training, "same_bits": same, "failures": failures});
    (report, failures)
}

/// The loss of every step and the parameters at the end, of an encoder that learns random targets.
fn train(device: &Device) -> Vec<Tensor> {
    let key = Key::new(5);
    let mut encoder = Encoder::new(&encoder_config(Arch::ConvSmall), device, key.fold("encoder"));
    let x = uniform(device, &[BATCH, 28, 28, 1], key.fold("x"));
    let target = uniform(device, &[BATCH, encoder.dim()], key.fold("target"));
    let mut results = Vec::new();
    for _ in 0..STEPS {
        track(&mut encoder);
        let weights = parameters(&encoder);
        let gap = &encoder.forward(&x, &mut Pass::train()) - &target;
        let loss = gap.square().sum_all().mul_scalar(1.0 / BATCH as f64);
        results.push(loss.detach());
        let gradients = grad_once(loss, &weights.iter().collect::<Vec<_>>());
        let moved = weights.iter().zip(&gradients).map(|(w, g)| &w.detach() - &g.mul_scalar(RATE));
        set_parameters(&mut encoder, &moved.collect::<Vec<_>>());
    }
    results.extend(parameters(&encoder).iter().map(Tensor::detach));
    results
}

/// Results of ops whose shapes take the paths of kernels for long axes, many pieces, four channels and long lists.
fn ops(device: &Device) -> Vec<(&'static str, Tensor)> {
    let key = Key::new(6);
    let draw = |name: &str, shape: &[usize]| uniform(device, shape, key.fold(name)).add_scalar(-0.4);
    let index = |n: usize, f: &dyn Fn(usize) -> usize| {
        Array::new(device, [n], &(0..n).map(|i| f(i) as u32).collect::<Vec<_>>())
    };
    let long = draw("long", &[3, 10_000]);
    let tall = draw("tall", &[1500, 70]);
    let cube = draw("cube", &[4, 600, 37]);
    let mut results = vec![
        ("sum of rows", long.sum(1)),
        ("sum of all", long.sum_all()),
        ("sum of columns", tall.sum(0)),
        ("sum of the middle", cube.sum(1)),
        ("maximum of rows", long.max(1)),
        ("maximum of the middle", cube.max(1)),
        ("softmax", long.softmax()),
        ("log-softmax", long.log_softmax()),
        ("product", tall.matmul_with(&tall, Transpose::LEFT)),
        ("scatter to many places", tall.scatter_add(0, &index(1500, &|i| i * 7 % 400), 400)),
        ("scatter to few places", tall.scatter_add(0, &index(1500, &|i| i * 7 % 3), 5)),
        ("gather", tall.gather(0, &index(50, &|i| i * 31 % 1500))),
    ];
    let labels = index(3, &|i| i * 4000);
    let logits = long.tracked();
    let loss = logits.cross_entropy(&labels);
    results.push(("cross-entropy", loss.detach()));
    results.push(("its gradient", pull_back(&loss, &loss.detach(), &[&logits], Recording::Off).remove(0)));
    for (name, conv, c_in, side) in [
        ("convolution", Conv { stride: 1, pad: 1, groups: 1 }, 16, 3),
        ("convolution of stride 2", Conv { stride: 2, pad: 1, groups: 1 }, 8, 3),
        ("convolution of one pixel", Conv::default(), 12, 1),
        ("convolution in groups", Conv { stride: 1, pad: 2, groups: 4 }, 16, 5),
    ] {
        let x = draw(name, &[5, 17, 14, c_in]).tracked();
        let w = draw("weights", &[side, side, c_in / conv.groups, 24]).tracked();
        let y = x.conv2d(&w, conv);
        results.push((name, y.detach()));
        let pulled = pull_back(&y, &draw("dy", y.shape()), &[&x, &w], Recording::Off);
        results.extend(pulled.into_iter().map(|adjoint| (name, adjoint)));
    }
    let x = draw("pool", &[3, 16, 16, 5]).tracked();
    let y = x.max_pool(Pool { window: 3, stride: 2, pad: 1 });
    results.push(("max pool", y.detach()));
    results.push(("its adjoint", pull_back(&y, &y.detach(), &[&x], Recording::Off).remove(0)));
    let x = draw("norm", &[1500, 40]).tracked();
    let (weight, bias) = (draw("weight", &[40]).tracked(), draw("bias", &[40]).tracked());
    let BatchNorm { y, mean, variance } = x.batch_norm(&weight, &bias, Norm { eps: 1e-5, relu: true });
    results.extend([
        ("batch norm", y.detach()),
        ("its mean", mean.into()),
        ("its variance", variance.into()),
    ]);
    let pulled = pull_back(&y, &draw("dy", y.shape()), &[&x, &weight, &bias], Recording::Off);
    results.extend(pulled.into_iter().map(|adjoint| ("adjoint of batch norm", adjoint)));
    results.extend(batches::views(device));
    results.extend(batches::updates(device));
    results
}

/// The largest difference, relative to the largest value of the second.
fn apart(here: &Tensor, there: &Tensor) -> f64 {
    let (here, there) = (here.array().to_f64(), there.array().to_f64());
    let size = there.iter().fold(1e-30f64, |top, v| top.max(v.abs()));
    largest(here.iter().zip(&there).map(|(a, b)| (a - b).abs())) / size
}

/// Not `max`, which passes over a NaN.
fn largest(values: impl Iterator<Item = f64>) -> f64 {
    values.fold(0.0, |top, value| if value > top || value.is_nan() { value } else { top })
}

fn bits(x: &Tensor) -> Vec<u64> {
    x.array().to_f64().into_iter().map(f64::to_bits).collect()
}
