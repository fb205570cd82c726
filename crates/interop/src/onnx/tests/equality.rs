//! Attacks and certificates through a file: what they find is what they find on the encoder itself.

use super::builder::none;
use super::round_trips::{config, encoder, exported, images};
use crate::onnx::{Export, ExportBatch, Graph, export};
use tarrl_attacks::{Pgd, Threat, pgd};
use tarrl_certify::{Certificate, CertifyConfig, Effort, Network, certify};
use tarrl_encoders::{Arch, Encoder};
use tarrl_tensor::{Arithmetic, Cpu, DType, Key, Tensor};

const SIDE: usize = 8;
const EPSILON: f64 = 2.0 / 255.0;

fn direct() -> tarrl_tensor::Device {
    Cpu { threads: 1, arithmetic: Arithmetic::Direct }.open()
}

/// Where PGD on the displacement ends, from a random start.
fn attacked(f: &dyn Fn(&Tensor) -> Tensor, x: &Tensor) -> Vec<f64> {
    let clean = f(x).detach();
    let objective = |u: &Tensor, rows: &[usize]| {
        let index: Vec<u32> = rows.iter().map(|&row| row as u32).collect();
        let index = tarrl_tensor::Array::new(u.device(), [index.len()], &index);
        let moved = &f(u) - &clean.gather(0, &index);
        moved.square().sum(1).reshape([rows.len()])
    };
    let threat = Threat::linf(EPSILON);
    let keys: Vec<Key> = (0..x.shape()[0]).map(|i| Key::new(1).fold(i)).collect();
    let found = pgd(x, &objective, &threat, &Pgd::usual(&threat, 5), &keys);
    [found.best.array().to_f64(), found.value].concat()
}

fn certified(f: &dyn Fn(&Tensor) -> Tensor, x: &Tensor, effort: Effort) -> Vec<Certificate> {
    let network = Network::trace(f, &x.slice(0, 0, 1)).unwrap();
    let config = CertifyConfig { threat: Threat::linf(EPSILON), effort, ..CertifyConfig::default() };
    certify(&network, x, &config).unwrap().0
}

fn read(bytes: &[u8]) -> Graph {
    Graph::from_bytes(bytes, &none, &direct()).unwrap()
}

/// The file with the very weights that the encoder computes with.
fn same_weights(encoder: &Encoder) -> Vec<u8> {
    let inference = encoder.inference();
    let names = inference.constants();
    let what = Export {
        image: [SIDE, SIDE, 3],
        dtype: DType::F32,
        batch: ExportBatch::Any,
        names: &names,
        metadata: &[],
    };
    export(&|x| inference.forward(x), &what, &direct()).unwrap()
}

/// The graphs are equal: weights, ops and their order. So are all bits.
#[test]
fn with_the_same_weights_outputs_attacks_and_certificates_have_the_same_bits() {
    for (arch, effort) in [(Arch::ConvSmall, Effort::Full), (Arch::ResNet18Cifar, Effort::Linear)] {
        let encoder = encoder(&config(arch, SIDE), 5);
        let (inference, graph) = (encoder.inference(), read(&same_weights(&encoder)));
        let x = images(&direct(), 3, SIDE);
        let (native, imported) = (|x: &Tensor| inference.forward(x), |x: &Tensor| graph.forward(x));
        assert_eq!(native(&x).to_vec::<f32>(), imported(&x).to_vec::<f32>(), "{arch:?}");
        assert_eq!(attacked(&native, &x), attacked(&imported, &x), "{arch:?}");
        let x = x.slice(0, 0, 2);
        assert!(
            certified(&native, &x, effort) == certified(&imported, &x, effort),
            "{arch:?}: certificates differ"
        );
    }
}

/// Weights that were folded in f64 and rounded once differ from those folded in f32 by some of their last bits.
#[test]
fn with_weights_folded_in_f64_outputs_and_certificates_agree_to_a_millionth() {
    for (arch, effort) in [(Arch::ConvSmall, Effort::Full), (Arch::ResNet18Cifar, Effort::Linear)] {
        let encoder = encoder(&config(arch, SIDE), 5);
        let (inference, graph) = (encoder.inference(), read(&exported(&encoder, SIDE, ExportBatch::One)));
        let x = images(&direct(), 2, SIDE);
        let near = |a: &[f64], b: &[f64], what: &str| {
            let scale = a.iter().fold(1.0f64, |m, v| m.max(v.abs()));
            let worst = a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
            assert!(worst <= 1e-6 * scale, "{arch:?} {what}: {worst} of {scale}");
        };
        let (native, imported) = (|x: &Tensor| inference.forward(x), |x: &Tensor| graph.forward(x));
        near(&native(&x).array().to_f64(), &imported(&x).array().to_f64(), "outputs");
        let radii = |f: &dyn Fn(&Tensor) -> Tensor| -> Vec<f64> {
            certified(f, &x, effort).iter().map(Certificate::radius).collect()
        };
        near(&radii(&native), &radii(&imported), "radii");
    }
}
