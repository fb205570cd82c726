//! Export, import and export again.

use super::builder::none;
use crate::onnx::{Export, ExportBatch, Graph, OnnxError, export};
use proptest::prelude::*;
use tarrl_encoders::{Arch, Encoder, EncoderConfig, Module, Role};
use tarrl_tensor::{DType, Device, Key, Random, Tensor, cpu};

/// An encoder whose statistics, scales and shifts are no ones and zeros.
pub(super) fn encoder(config: &EncoderConfig, seed: u64) -> Encoder {
    let mut encoder = Encoder::new(config, &cpu(), Key::new(seed));
    encoder.visit_mut(&mut |name, role, tensor| {
        if tensor.dtype() == DType::U32
            || !matches!(role, Role::Buffer | Role::NormScale | Role::NormShift | Role::Bias)
        {
            return;
        }
        let keys = [Key::new(seed).fold(name)];
        let row = tensor.shape().to_vec();
        let noise = Tensor::random(&cpu(), Random::Uniform, &keys, &row, DType::F32).reshape(&row[..]);
        let positive = role == Role::NormScale || name.ends_with("running_var");
        *tensor = if positive { noise.add_scalar(0.5) } else { noise.mul_scalar(0.2).add_scalar(-0.1) };
    });
    encoder
}

pub(super) fn config(arch: Arch, side: usize) -> EncoderConfig {
    EncoderConfig {
        arch,
        width: 1.0 / 16.0,
        in_channels: 3,
        mean: vec![0.4914, 0.4822, 0.4465],
        std: vec![0.2471, 0.2435, 0.2616],
        side: if arch.needs_side() { side } else { 0 },
        ..EncoderConfig::default()
    }
}

/// The file of an encoder, folded in f64.
pub(super) fn exported(encoder: &Encoder, side: usize, batch: ExportBatch) -> Vec<u8> {
    let mut wide = encoder.clone();
    tarrl_encoders::cast(&mut wide, DType::F64);
    let inference = wide.inference();
    let what = Export {
        image: [side, side, encoder.config().in_channels],
        dtype: DType::F64,
        batch,
        names: &inference.constants(),
        metadata: &[("a".into(), "b".into())],
    };
    export(&|x| inference.forward(x), &what, &cpu()).unwrap()
}

fn again(graph: &Graph, side: usize, batch: ExportBatch) -> Result<Vec<u8>, OnnxError> {
    let what = Export {
        image: [side, side, graph.channels()],
        dtype: DType::F32,
        batch,
        names: &graph.constants(),
        metadata: graph.metadata(),
    };
    export(&|x| graph.forward(x), &what, &cpu())
}

pub(super) fn images(device: &Device, n: usize, side: usize) -> Tensor {
    let keys: Vec<Key> = (0..n).map(|i| Key::new(11).fold(i)).collect();
    Tensor::random(device, Random::Uniform, &keys, &[side, side, 3], DType::F32)
}

/// Compares two files node by node, so that a difference is named.
fn assert_same(second: &[u8], first: &[u8], what: &str) {
    let [second, first] = [second, first].map(|bytes| crate::onnx::proto::ModelProto::decode(bytes).unwrap());
    let (a, b) = (second.graph.unwrap(), first.graph.unwrap());
    for (a, b) in a.nodes.iter().zip(&b.nodes) {
        assert_eq!(format!("{a:?}"), format!("{b:?}"), "{what}: a node differs");
    }
    for (a, b) in a.initializers.iter().zip(&b.initializers) {
        assert_eq!((&a.name, &a.dims), (&b.name, &b.dims), "{what}: a tensor differs");
        assert!(a.raw == b.raw, "{what}: the values of {} differ", a.name);
    }
    assert_eq!((a.nodes.len(), a.initializers.len()), (b.nodes.len(), b.initializers.len()), "{what}");
    assert_eq!((a.inputs, a.outputs), (b.inputs, b.outputs), "{what}");
    assert_eq!((second.metadata, second.opsets), (first.metadata, first.opsets), "{what}");
}

#[test]
fn every_architecture_is_the_same_after_export_and_import_and_its_second_file_the_first() {
    let side = 16;
    for arch in Arch::ALL {
        let encoder = encoder(&config(arch, side), 3);
        let x = images(&cpu(), 3, side);
        let native = encoder.inference().forward(&x).array().to_f64();
        let scale = native.iter().fold(1.0f64, |m, v| m.max(v.abs()));
        for batch in [ExportBatch::One, ExportBatch::Any] {
            let bytes = exported(&encoder, side, batch);
            let graph = Graph::from_bytes(&bytes, &none, &cpu()).unwrap_or_else(|e| panic!("{arch:?}: {e}"));
            assert_eq!((graph.dim(), graph.channels()), (encoder.dim(), 3));
            assert_eq!(graph.notes().len(), 1, "{:?}", graph.notes());
            let found = graph.forward(&x).array().to_f64();
            let worst = native.iter().zip(&found).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
            // Weights that were folded in f64 and in f32 differ by a rounding of f32, through up to fifty layers.
            assert!(worst <= 2e-5 * scale, "{arch:?}: {worst} of {scale}");
            let second = again(&graph, side, batch).unwrap_or_else(|e| panic!("{arch:?}: {e}"));
            assert_same(&second, &bytes, &format!("{arch:?} {batch:?}"));
        }
    }
}

#[test]
fn weights_have_the_names_of_the_checkpoint() {
    let bytes = exported(&encoder(&config(Arch::ResNet18Cifar, 16), 1), 16, ExportBatch::One);
    let graph = Graph::from_bytes(&bytes, &none, &cpu()).unwrap();
    let names: Vec<String> = graph.constants().into_iter().map(|(name, _)| name).collect();
    for name in ["conv1.weight", "conv1.bias", "layer1.0.conv2.weight", "layer4.0.downsample.0.weight"] {
        assert!(names.iter().any(|other| other == name), "{name}: {names:?}");
    }
}

/// A network of random layers on images.
#[derive(Clone, Debug)]
struct Random3 {
    side: usize,
    layers: Vec<(u8, usize)>,
    seed: u64,
}

fn random() -> impl Strategy<Value = Random3> {
    (4usize..9, proptest::collection::vec((0u8..12, 1usize..4), 1..8), any::<u64>())
        .prop_map(|(side, layers, seed)| Random3 { side, layers, seed })
}

impl Random3 {
    fn forward(&self, x: &Tensor) -> Tensor {
        let weight = |i: usize, shape: &[usize]| {
            let keys = [Key::new(self.seed).fold(i)];
            Tensor::random(&cpu(), Random::Normal, &keys, shape, DType::F32).reshape(shape).mul_scalar(0.4)
        };
        let mut x = x.clone();
        for (i, &(kind, size)) in self.layers.iter().enumerate() {
            let [_, h, w, c] = x.shape()[..] else { unreachable!("images") };
            let conv = tarrl_tensor::Conv { stride: 1, pad: size / 2, groups: 1 };
            x = match kind {
                0 | 1 if h >= size => x.conv2d(&weight(i, &[size, size, c, size + 1]), conv),
                2 => x.relu(),
                3 => x.channel_affine(&weight(i, &[c]), &weight(i + 100, &[c]), size == 1),
                4 => &x + &x.relu(),
                5 if h > 2 => x.max_pool(tarrl_tensor::Pool { window: 2, stride: size.min(2), pad: 0 }),
                6 if h > 2 => x.avg_pool(tarrl_tensor::Pool { window: 2, stride: size.min(2), pad: 1 }),
                7 => x.mul_scalar(0.25 * size as f64).add_scalar(0.125),
                8 => &x + &weight(i, &[1, h, w, 1]),
                9 => x.gelu(),
                10 => x.sigmoid().neg(),
                _ => Tensor::concat(&[&x, &x.tanh()], 3),
            };
        }
        let n = x.shape()[0];
        let flat = x.permute(&[0, 3, 1, 2]).reshape([n, x.shape().len() / n]);
        let k = flat.shape()[1];
        let y = flat.linear(&weight(900, &[5, k]), &weight(901, &[5]));
        if self.seed.is_multiple_of(2) { y.l2_normalize(1e-12) } else { y.relu() }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]
    #[test]
    fn random_networks_are_the_same_after_export_and_import(net in random()) {
        let what = Export {
            image: [net.side, net.side, 3],
            dtype: DType::F32,
            batch: ExportBatch::Any,
            names: &[],
            metadata: &[],
        };
        let bytes = export(&|x| net.forward(x), &what, &cpu()).unwrap();
        let graph = Graph::from_bytes(&bytes, &none, &cpu()).unwrap();
        let x = images(&cpu(), 2, net.side);
        let (native, found) = (net.forward(&x).array().to_f64(), graph.forward(&x).array().to_f64());
        let scale = native.iter().fold(1.0f64, |m, v| m.max(v.abs()));
        for (a, b) in native.iter().zip(&found) {
            // Reciprocals and affine maps that were joined are rounded once more, in up to eight layers.
            prop_assert!((a - b).abs() <= 1e-5 * scale, "{a} {b}");
        }
        let second = again(&graph, net.side, ExportBatch::Any).unwrap();
        let third = again(&Graph::from_bytes(&second, &none, &cpu()).unwrap(), net.side, ExportBatch::Any).unwrap();
        prop_assert!(second == third, "the third file is not the second");
    }
}
