//! Agreement of a GPU with the CPU: single ops on larger shapes than the conformance suite has, and training steps.

use crate::batches;
use crate::progress::show;
use serde_json::{Value, json};
use tarrl_benches::{encoder_config, uniform};
use tarrl_encoders::{Arch, Encoder, ForwardContext, Precision, parameters, set_parameters, track};
use tarrl_tensor::{
    Array, BatchNorm, Conv, DType, Device, Key, Norm, Pool, Recording, Tensor, Transpose, backward, cpu, vjp,
};

/// What training may differ by, relative to the largest value.
const TRAINING: f64 = 1e-4;
/// What an op in f32 may differ by: some hundred roundings of sums of thousands of terms.
const OPS: f64 = 2e-5;
/// What an op in bf16 may differ by: the result is rounded by up to 2⁻⁸ of itself, and the adjoint of a convolution adds up
/// patches that were rounded before, nine to a pixel, whose errors are of either sign.
const OPS_BF16: f64 = 3.0 / 256.0;
/// What the losses of training in bf16 may differ by. A step rounds weights, maps and their gradients, each by up to
/// 2⁻⁸ of itself, in both directions; ten steps after each other may add up so many roundings.
const BF16: f64 = STEPS as f64 / 256.0;
/// Images of a step; the emulator takes a second for each step.
const BATCH: usize = 4;
const STEPS: usize = 10;
const RATE: f64 = 0.05;

/// Runs both and prints a line each. `failures` is empty if all is well.
pub(crate) fn run(device: &Device) -> (Value, Vec<String>) {
    let cpu = cpu();
    let mut failures = Vec::new();
    let expected = ops(&cpu, DType::F32);
    let mut worst_of = |dtype: DType, tolerance: f64| {
        let mut worst: (f64, &str) = (0.0, "");
        let found = ops(device, dtype);
        for ((name, here), (_, there)) in found.iter().zip(&expected) {
            let apart = apart(here, there);
            if apart > tolerance || apart.is_nan() {
                failures.push(format!(
                    "{name} in {dtype:?} differs from the CPU by {apart:.1e} of its largest value"
                ));
            }
            if apart > worst.0 || apart.is_nan() {
                worst = (apart, name);
            }
        }
        let (count, (worst, name)) = (found.len(), worst);
        show!("   {count} results on larger shapes in {dtype:?}: at most {worst:.1e} from the CPU ({name})");
        worst
    };
    let worst = worst_of(DType::F32, OPS);
    let worst_bf16 = device.computes(DType::Bf16).then(|| worst_of(DType::Bf16, OPS_BF16));
    let (here, there) = (train(device, Precision::F32), train(&cpu, Precision::F32));
    let training = largest(here.iter().zip(&there).map(|(here, there)| apart(here, there)));
    show!("   {STEPS} training steps: losses and parameters at most {training:.1e} from the CPU");
    if training > TRAINING || training.is_nan() {
        failures.push(format!(
            "{STEPS} training steps differ from the CPU by {training:.1e}, more than {TRAINING:e}"
        ));
    }
    let same = train(device, Precision::F32).iter().zip(&here).all(|(again, here)| bits(again) == bits(here));
    show!("   the same steps again: {}", if same { "the same bits" } else { "OTHER BITS" });
    if !same {
        failures.push("two runs of the same training steps have different bits".to_owned());
    }
    let mut bf16 = None;
    if device.computes(DType::Bf16) {
        let narrow = train(device, Precision::Bf16);
        let losses = &narrow[..STEPS];
        let apart = largest(losses.iter().zip(&there).map(|(here, there)| apart(here, there)));
        show!("   {STEPS} training steps in bf16: losses at most {apart:.1e} from those of the CPU in f32");
        if apart > BF16 || apart.is_nan() {
            failures
                .push(format!("{STEPS} losses in bf16 differ from f32 by {apart:.1e}, more than {BF16:.1e}"));
        }
        let same = train(device, Precision::Bf16).iter().zip(&narrow).all(|(a, b)| bits(a) == bits(b));
        show!("   the same steps again: {}", if same { "the same bits" } else { "OTHER BITS" });
        if !same {
            failures.push("two runs of the same training steps in bf16 have different bits".to_owned());
        }
        bf16 = Some(apart);
    }
    let report = json!({"training_bf16": bf16, "ops_bf16": worst_bf16, "ops": worst, "training": training, "same_bits": same, "failures": failures});
    (report, failures)
}

/// The loss of every step and the parameters at the end, of an encoder that learns random targets.
fn train(device: &Device, precision: Precision) -> Vec<Tensor> {
    let key = Key::new(5);
    let encoder = Encoder::new(&encoder_config(Arch::ConvSmall), device, key.fold("encoder"));
    let mut encoder = encoder.with_precision(precision);
    let x = uniform(device, &[BATCH, 28, 28, 1], key.fold("x"));
    let target = uniform(device, &[BATCH, encoder.dim()], key.fold("target"));
    let mut results = Vec::new();
    for _ in 0..STEPS {
        track(&mut encoder);
        let weights = parameters(&encoder);
        let gap = &encoder.forward(&x, &mut ForwardContext::train()) - &target;
        let loss = gap.square().sum_all().mul_scalar(1.0 / BATCH as f64);
        results.push(loss.detach());
        let gradients = backward(loss, &weights.iter().collect::<Vec<_>>());
        let moved = weights.iter().zip(&gradients).map(|(w, g)| &w.detach() - &g.mul_scalar(RATE));
        set_parameters(&mut encoder, &moved.collect::<Vec<_>>());
    }
    results.extend(parameters(&encoder).iter().map(Tensor::detach));
    results
}

/// Results of ops whose shapes take the paths of kernels for long axes, many pieces, packs of channels and long lists. The
/// operands are multiples of 1/256 between −0.4 and 0.6, the same numbers in every type.
fn ops(device: &Device, dtype: DType) -> Vec<(&'static str, Tensor)> {
    let key = Key::new(6);
    let draw_wide = |name: &str, shape: &[usize]| {
        let values = uniform(device, shape, key.fold(name)).to_vec::<f32>();
        let values: Vec<f32> = values.iter().map(|v| ((v - 0.4) * 256.0).round() / 256.0).collect();
        Tensor::new(device, shape, &values)
    };
    let draw = |name: &str, shape: &[usize]| draw_wide(name, shape).cast(dtype);
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
    let logits = long.requires_grad();
    let loss = logits.cross_entropy(&labels);
    results.push(("cross-entropy", loss.detach()));
    results.push(("its gradient", vjp(&loss, &loss.detach(), &[&logits], Recording::Off).remove(0)));
    for (name, conv, c_in, side) in [
        ("convolution", Conv { stride: 1, pad: 1, groups: 1 }, 16, 3),
        ("convolution of stride 2", Conv { stride: 2, pad: 1, groups: 1 }, 8, 3),
        ("convolution of one pixel", Conv::default(), 12, 1),
        ("convolution in groups", Conv { stride: 1, pad: 2, groups: 4 }, 16, 5),
    ] {
        let x = draw(name, &[5, 17, 14, c_in]).requires_grad();
        let w = draw("weights", &[side, side, c_in / conv.groups, 24]).requires_grad();
        let y = x.conv2d(&w, conv);
        results.push((name, y.detach()));
        let pulled = vjp(&y, &draw("dy", y.shape()), &[&x, &w], Recording::Off);
        results.extend(pulled.into_iter().map(|adjoint| (name, adjoint)));
    }
    let x = draw("pool", &[3, 16, 16, 5]).requires_grad();
    let y = x.max_pool(Pool { window: 3, stride: 2, pad: 1 });
    results.push(("max pool", y.detach()));
    results.push(("its adjoint", vjp(&y, &y.detach(), &[&x], Recording::Off).remove(0)));
    let x = draw("norm", &[1500, 40]).requires_grad();
    let (weight, bias) =
        (draw_wide("weight", &[40]).requires_grad(), draw_wide("bias", &[40]).requires_grad());
    let BatchNorm { y, mean, variance } = x.batch_norm(&weight, &bias, Norm { eps: 1e-5, relu: true });
    results.extend([
        ("batch norm", y.detach()),
        ("its mean", mean.into()),
        ("its variance", variance.into()),
    ]);
    let pulled = vjp(&y, &draw("dy", y.shape()), &[&x, &weight, &bias], Recording::Off);
    results.extend(pulled.into_iter().map(|adjoint| ("adjoint of batch norm", adjoint)));
    let skip = draw("skip", &[1500, 40]).requires_grad();
    let BatchNorm { y, .. } = x.batch_norm_add_relu(&weight, &bias, &skip, 1e-5);
    results.push(("batch norm, sum and ReLU", y.detach()));
    let pulled = vjp(&y, &draw("dy", y.shape()), &[&x, &weight, &bias, &skip], Recording::Off);
    results.extend(pulled.into_iter().map(|adjoint| ("adjoint of batch norm, sum and ReLU", adjoint)));
    let (weight, bias) = (draw("matrix", &[24, 40]), draw("row", &[24]));
    results.push(("linear map with a bias", x.linear(&weight, &bias).detach()));
    results.push((
        "affine map of channels",
        x.channel_affine(&draw_wide("a", &[40]), &draw_wide("b", &[40]), true).detach(),
    ));
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
