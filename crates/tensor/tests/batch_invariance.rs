//! Batch invariance: a sample's output and input gradient have the same bits alone and in any batch.

use proptest::prelude::*;
use tarrl_tensor::{Array, Conv, Cpu, DType, Device, Key, Pool, Random, Tensor, Transpose, grad};

/// A map of a batch `(n, …)` whose rows do not meet.
struct Layer {
    name: String,
    /// The shape of one sample.
    sample: Vec<usize>,
    apply: Box<dyn Fn(&Tensor) -> Tensor>,
}

impl Layer {
    fn new(name: impl Into<String>, sample: &[usize], apply: impl Fn(&Tensor) -> Tensor + 'static) -> Layer {
        Layer { name: name.into(), sample: sample.to_vec(), apply: Box::new(apply) }
    }
}

const LARGEST: usize = 70;

/// Normal numbers, one stream for each sample.
fn normal(
    device: &Device,
    what: &str,
    samples: std::ops::Range<usize>,
    shape: &[usize],
    dtype: DType,
) -> Tensor {
    let keys: Vec<Key> = samples.map(|i| Key::new(11).fold(what).fold(i)).collect();
    Tensor::random(device, Random::Normal, &keys, shape, dtype)
}

fn weight(device: &Device, shape: &[usize], dtype: DType) -> Tensor {
    let fan: usize = shape[..shape.len() - 1].iter().product();
    normal(device, "weight", 0..1, shape, dtype).reshape(shape).mul_scalar((fan as f64).sqrt().recip())
}

/// Convolutions of the encoders, each behind a folded batch norm and a ReLU: `(side, c_in, c_out, kernel, stride)`.
///
/// ConvSmall at 28 and 32; ResNet-18 and the wide network at 32; VGG down to maps of 2; the shortcuts; the patches of the
/// vision transformer, which have no border; kernels of five, and channels that fill no cache line.
const CONVOLUTIONS: [(usize, usize, usize, usize, usize); 25] = [
    (28, 1, 32, 3, 1),
    (28, 32, 64, 3, 2),
    (14, 64, 64, 3, 1),
    (14, 64, 128, 3, 2),
    (32, 3, 32, 3, 1),
    (16, 64, 64, 3, 1),
    (32, 3, 64, 3, 1),
    (32, 64, 64, 3, 1),
    (32, 64, 128, 3, 2),
    (16, 128, 128, 3, 1),
    (8, 256, 256, 3, 1),
    (4, 512, 512, 3, 1),
    (2, 512, 512, 3, 1),
    (32, 64, 128, 1, 2),
    (8, 256, 512, 1, 2),
    (16, 32, 160, 1, 1),
    (32, 3, 192, 4, 4),
    (14, 8, 16, 5, 1),
    (14, 32, 32, 5, 2),
    (7, 32, 32, 3, 1),
    (5, 32, 32, 3, 1),
    (3, 48, 32, 3, 1),
    (12, 6, 10, 3, 1),
    (12, 33, 17, 3, 1),
    (9, 2, 40, 3, 1),
];

fn convolutions(device: &Device) -> Vec<Layer> {
    let layer = |(side, c_in, c_out, kernel, stride): (usize, usize, usize, usize, usize)| {
        let name = format!("{kernel}x{kernel} stride {stride}, {c_in} to {c_out} channels at {side}");
        let w = weight(device, &[kernel, kernel, c_in, c_out], DType::F32);
        let [scale, shift] =
            ["scale", "shift"].map(|what| normal(device, what, 0..1, &[c_in], DType::F32).reshape([c_in]));
        let conv = Conv { stride, pad: if kernel == 4 { 0 } else { kernel / 2 }, groups: 1 };
        Layer::new(name, &[side, side, c_in], move |x| {
            x.channel_affine(&scale, &shift, true).conv2d(&w, conv)
        })
    };
    CONVOLUTIONS.into_iter().map(layer).collect()
}

fn others(device: &Device, dtype: DType) -> Vec<Layer> {
    let pool = Pool { window: 2, stride: 2, pad: 0 };
    let linear = |inputs: usize, outputs: usize| {
        let w = weight(device, &[outputs, inputs], dtype);
        let bias = normal(device, "bias", 0..1, &[outputs], dtype).reshape([outputs]);
        Layer::new(format!("linear {inputs} to {outputs}"), &[inputs], move |x| x.linear(&w, &bias))
    };
    let mut layers: Vec<Layer> =
        [(128, 10), (512, 1), (512, 2), (512, 10), (300, 3), (784, 256), (2048, 128), (5, 4), (1, 7)]
            .map(|(k, m)| linear(k, m))
            .into();
    let (q, k) = (weight(device, &[24, 24], dtype), weight(device, &[24, 24], dtype).mul_scalar(-0.5));
    let tokens = weight(device, &[24, 96], dtype);
    let grouped = weight(device, &[3, 3, 1, 24], dtype);
    layers.extend([
        Layer::new("max pool", &[8, 8, 24], move |x| x.max_pool(pool)),
        Layer::new("average pool", &[8, 8, 24], move |x| x.avg_pool(pool)),
        Layer::new("global average of few pixels", &[7, 7, 33], Tensor::global_avg_pool),
        Layer::new("global average of many pixels", &[40, 40, 20], Tensor::global_avg_pool),
        Layer::new("global average of one channel", &[40, 40, 1], Tensor::global_avg_pool),
        Layer::new("convolution of each channel alone", &[8, 8, 24], move |x| {
            x.conv2d(&grouped, Conv { stride: 1, pad: 1, groups: 24 })
        }),
        Layer::new("softmax", &[10], Tensor::softmax),
        Layer::new("log-softmax of many", &[700], Tensor::log_softmax),
        Layer::new("gelu, silu, tanh", &[5, 7], |x| x.gelu().silu().tanh()),
        Layer::new("length of a row", &[700], |x| x.square().sum(1).add_scalar(1e-3).sqrt()),
        Layer::new("normalization of a row", &[9, 24], |x| {
            let centered = x - &x.mean(2);
            &centered * &centered.square().mean(2).add_scalar(1e-6).powf(-0.5)
        }),
        Layer::new("largest of a row", &[33], |x| x.max(1)),
        Layer::new("tokens", &[17, 24], move |x| {
            let n = x.shape()[0];
            x.reshape([n * 17, 24]).matmul(&tokens).reshape([n, 17, 96])
        }),
        Layer::new("attention", &[17, 24], move |x| {
            let n = x.shape()[0];
            let rows = |w: &Tensor| x.reshape([n * 17, 24]).matmul(w).reshape([n, 17, 24]);
            rows(&q).matmul_with(&rows(&k), Transpose::RIGHT).softmax().matmul(x)
        }),
        Layer::new("cross-entropy", &[10], |x| {
            // The label is the sample's own, whatever comes with it.
            let labels = x.array().to_f64().chunks(10).map(|row| u32::from(row[0] > 0.0)).collect::<Vec<_>>();
            x.cross_entropy(&Array::new(x.device(), [labels.len()], &labels))
        }),
    ]);
    layers
}

/// Output and input gradient of each of some neighboring samples, as bits.
fn run(layer: &Layer, device: &Device, samples: std::ops::Range<usize>, dtype: DType) -> Vec<[Vec<u64>; 2]> {
    let n = samples.len();
    let x = normal(device, &layer.name, samples.clone(), &layer.sample, dtype).requires_grad();
    let y = (layer.apply)(&x);
    let dy = normal(device, "dy", samples, &y.shape()[1..], dtype).reshape(*y.shape());
    let [dx] = &grad(&(&y * &dy).sum_all(), &[&x])[..] else { unreachable!("one gradient") };
    let bits = |t: &Tensor| t.array().to_f64().into_iter().map(f64::to_bits).collect::<Vec<_>>();
    let (y, dx) = (bits(&y), bits(dx));
    let [per_y, per_x] = [y.len() / n, dx.len() / n];
    (0..n).map(|i| [y[i * per_y..][..per_y].to_vec(), dx[i * per_x..][..per_x].to_vec()]).collect()
}

fn device() -> Device {
    Cpu { threads: 2, ..Cpu::default() }.open()
}

fn all() -> Vec<(Layer, DType)> {
    let device = device();
    let mut layers: Vec<(Layer, DType)> =
        convolutions(&device).into_iter().map(|l| (l, DType::F32)).collect();
    for dtype in [DType::F32, DType::F64] {
        layers.extend(others(&device, dtype).into_iter().map(|l| (l, dtype)));
    }
    layers
}

#[test]
fn a_sample_alone_has_the_bits_of_every_batch_it_is_in() {
    let device = device();
    for (layer, dtype) in all() {
        let whole = run(&layer, &device, 0..LARGEST, dtype);
        for (start, n) in [(0, 1), (LARGEST - 1, 1), (3, 2), (20, 5), (7, 23), (0, 33)] {
            let part = run(&layer, &device, start..start + n, dtype);
            assert!(
                part == whole[start..start + n],
                "{} in {dtype:?}: {n} samples from {start} on",
                layer.name
            );
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn two_batches_that_share_samples_agree_on_them(
        layer in any::<prop::sample::Index>(),
        (a, b) in (1..=LARGEST, 1..=LARGEST),
        offset in any::<prop::sample::Index>(),
    ) {
        let (device, layers) = (device(), all());
        let (layer, dtype) = &layers[layer.index(layers.len())];
        // The second batch begins at a sample of the first.
        let offset = offset.index(a);
        let first = run(layer, &device, 0..a, *dtype);
        let second = run(layer, &device, offset..offset + b, *dtype);
        let shared = b.min(a - offset);
        prop_assert!(first[offset..offset + shared] == second[..shared], "{} in {:?}", layer.name, dtype);
    }
}
