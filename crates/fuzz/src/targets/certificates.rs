//! Target of certificate files.

use crate::target::Target;
use crate::{repair, scratch::Scratch};
use tarrl_attacks::Threat;
use tarrl_bound::LinearHead;
use tarrl_certify::{Certificates, CertifyConfig, Effort, Network, Provenance, certify};
use tarrl_tensor::{DType, Key, Random, Tensor};

pub(super) const CERTIFICATES: Target = Target {
    name: "certificates",
    seeds: files,
    words: &[
        "F32",
        "F64",
        "clean",
        "radius",
        "form.generators",
        "\"shape\":[",
        "\\\"forms\\\":[",
        "\\\"sphere\\\":null",
        "null",
        "[1,2]",
        "tarrl-certificates",
        "\\\"format\\\":1",
    ],
    repair: |bytes| repair::certificates(bytes, &TENSORS),
    read,
};

/// The tensors of the format, in the order of its checksum.
const TENSORS: [&str; 10] = [
    "clean",
    "radius",
    "lower",
    "upper",
    "form.offset",
    "form.spread",
    "form.ellipsoid.weight",
    "form.ellipsoid.matrix",
    "form.generators",
    "form.ball",
];

/// Certificates of a network from 4 pixels to 3 features: intervals alone, zonotopes in two norms, on the sphere and not.
fn files() -> Vec<Vec<u8>> {
    let device = Scratch::new().device;
    let normal = |name: &str, rows: usize, columns: usize| {
        let keys: Vec<Key> = (0..rows).map(|row| Key::new(5).fold(name).fold(row)).collect();
        Tensor::random(&device, Random::Normal, &keys, &[columns], DType::F32)
    };
    let (first, second) = (normal("first", 4, 6), normal("second", 6, 3));
    let x = normal("x", 2, 4).mul_scalar(0.1).add_scalar(0.5);
    let cases = [
        (Threat::linf(0.01), Effort::Interval, false),
        (Threat::linf(0.01), Effort::Full, true),
        (Threat::l2(0.1), Effort::Full, false),
    ];
    let write = |(threat, effort, on_sphere): (Threat, Effort, bool)| {
        let encode = |u: &Tensor| {
            let z = u.matmul(&first.cast(u.dtype())).relu().matmul(&second.cast(u.dtype()));
            if on_sphere { z.l2_normalize(1e-6) } else { z }
        };
        let config = CertifyConfig { threat, effort, ..CertifyConfig::default() };
        let network = Network::trace(&encode, &x).expect("its ops have rules");
        let (samples, cost) = certify(&network, &x, &config).expect("inputs are in range");
        let provenance = Provenance { encoder: "abc".into(), samples: "xyz".into(), config, cost };
        Certificates { provenance, samples }.to_bytes()
    };
    cases.map(write).into()
}

fn read(bytes: &[u8], scratch: &Scratch) -> bool {
    let Ok(certificates) = Certificates::from_reader(bytes) else { return false };
    let written = certificates.to_bytes();
    let again = Certificates::from_bytes(&written).expect("what was written is read");
    assert!(again.to_bytes() == written, "what was read is not what was written");
    let (n, d) = (certificates.samples.len(), certificates.features());
    let weight: Vec<f64> = (0..2 * d).map(|i| if i % 3 == 0 { 1.0 } else { -0.5 }).collect();
    let head = LinearHead::new(2, d, weight, vec![0.0, 0.25]);
    let (config, x) =
        (&certificates.provenance.config, Tensor::full(&scratch.device, [1, 2], DType::F32, 0.5));
    if config.check(&x).is_ok() {
        assert_eq!(config.threat.around(&x).len(), 1);
    }
    let report = certificates.apply(&head, &vec![0; n], &[]).expect("the head takes as many features");
    assert_eq!(report.chains.len(), n);
    true
}
