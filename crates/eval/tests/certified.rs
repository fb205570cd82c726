//! attack ≤ certificate, wherever there is a certificate: on random networks and on a trained encoder, in every norm
//! that certificates know, without labels and through a head.

use std::sync::OnceLock;
use tarrl_attacks::representation::{Distance, away};
use tarrl_attacks::{
    Apgd, AutoAttack, Evaluation, LabelLoss, Limits, Norm, Pgd, Problem, Query, Start, Threat, apgd,
    attack_classifier, auto_attack, pgd,
};
use tarrl_bound::LinearHead;
use tarrl_certify::{Certificate, CertifyConfig, Effort, Evidence, Network, certify};
use tarrl_data::{Catalog, Dataset};
use tarrl_encoders::{
    BATCH_NORM_MOMENTUM, Encoder, EncoderConfig, ForwardContext, InferenceEncoder, Module, parameters,
    set_parameters, track,
};
use tarrl_eval::{ProbeConfig, linear_probe, pixels};
use tarrl_objectives::nt_xent;
use tarrl_tensor::{Arithmetic, Array, Cpu, DType, Device, Key, Pool, Random, Tensor, Transpose, backward};

/// Those that certificates exist in; sparse changes are refused.
const NORMS: [Norm; 3] = [Norm::Linf, Norm::L2, Norm::L1];
const EFFORTS: [Effort; 3] = [Effort::Interval, Effort::Linear, Effort::Full];

/// Plain sums, which is what certificates speak of.
fn device() -> Device {
    Cpu { threads: 1, arithmetic: Arithmetic::Direct }.open()
}

fn keys(key: Key, n: usize) -> Vec<Key> {
    (0..n).map(|i| key.fold(i)).collect()
}

/// Where label-free attacks on `encode` end: PGD from random starts and from the direction that moves most, and APGD.
fn ends(encode: &dyn Fn(&Tensor) -> Tensor, x: &Tensor, threat: &Threat, key: Key) -> Vec<Tensor> {
    let n = x.shape()[0];
    let clean = encode(x).detach();
    let moved = away(encode, &clean, Distance::SquaredL2);
    let config = Pgd { steps: 15, step_size: threat.epsilon / 4.0, restarts: 3, ..Pgd::default() };
    let spectral = Pgd { start: Start::Spectral, restarts: 1, ..config };
    let evaluate = |u: &Tensor, visit: Query<'_>| Evaluation::of(moved(u, visit.rows));
    let problem = Problem::new(threat.around(x), &evaluate, &keys(key.fold("apgd"), n), Limits::default());
    vec![
        pgd(x, &moved, threat, &config, &keys(key.fold("random"), n)).best,
        pgd(x, &moved, threat, &spectral, &keys(key.fold("spectral"), n)).best,
        apgd(&problem, &Apgd { steps: 25, restarts: 2, ..Apgd::default() }).best,
    ]
}

/// `(n, d)`: how far points move in f64. They are f32 and so the same points.
fn moved(network: &Network, x: &Tensor, u: &Tensor) -> Vec<Vec<f64>> {
    let (there, here) = (network.forward(u).array().to_f64(), network.forward(x).array().to_f64());
    let all: Vec<f64> = there.iter().zip(&here).map(|(a, b)| a - b).collect();
    all.chunks(network.features()).map(<[f64]>::to_vec).collect()
}

/// Compares with no slack; the share of the certified radius that was reached.
#[track_caller]
fn below(certificate: &Certificate, moved: &[f64], what: &str) -> f64 {
    let squared: f64 = moved.iter().map(|v| v * v).sum();
    assert!(squared.sqrt() <= certificate.radius(), "{what}: {} of {}", squared.sqrt(), certificate.radius());
    // The hardest direction is the one that was moved in.
    assert!(squared <= certificate.support(moved, Evidence::All), "{what}: {squared}");
    if certificate.radius() > 0.0 { squared.sqrt() / certificate.radius() } else { 1.0 }
}

/// Rectified networks of random widths on inputs near the ends of the box and far from them.
#[test]
fn attacks_stay_below_certificates_on_random_networks() {
    let device = device();
    for seed in 0..16 {
        let key = Key::new(seed);
        let mut stream = key.stream();
        let widths: Vec<usize> =
            [vec![2 + stream.below(9)], (0..1 + stream.below(3)).map(|_| 3 + stream.below(12)).collect()]
                .concat();
        let layers: Vec<Tensor> = widths
            .windows(2)
            .enumerate()
            .map(|(i, w)| {
                let rows = keys(key.fold("layer").fold(i), w[0]);
                Tensor::random(&device, Random::Normal, &rows, &[w[1]], DType::F32)
            })
            .collect();
        let encode = |x: &Tensor| {
            let last = layers.len() - 1;
            layers.iter().enumerate().fold(x.add_scalar(-0.5), |x, (i, w)| {
                let y = x.matmul(w).add_scalar(0.25);
                if i < last { y.relu() } else { y }
            })
        };
        let x = Tensor::random(&device, Random::Uniform, &keys(key.fold("x"), 5), &[widths[0]], DType::F32);
        let x = x.mul_scalar(1.4).add_scalar(-0.2).clamp(0.0, 1.0);
        let network = Network::trace(&encode, &x).unwrap();
        for (norm, epsilon) in NORMS.into_iter().flat_map(|norm| [(norm, 0.01), (norm, 0.2)]) {
            let threat = Threat::new(norm, epsilon);
            let moved: Vec<_> =
                ends(&encode, &x, &threat, key).iter().map(|u| moved(&network, &x, u)).collect();
            for effort in EFFORTS {
                let config = CertifyConfig { threat, effort, ..CertifyConfig::default() };
                let found = certify(&network, &x, &config).unwrap().0;
                for (i, certificate) in found.iter().enumerate() {
                    let what = format!("network {seed}, {effort:?}, {norm} {epsilon}, sample {i}");
                    moved.iter().for_each(|points| {
                        below(certificate, &points[i], &what);
                    });
                }
            }
        }
    }
}

/// A small encoder that has learned a little without labels, a head on it, and images it has not seen.
struct Trained {
    encoder: InferenceEncoder,
    head: LinearHead,
    /// `(n, 14, 14, 1)`
    x: Tensor,
    labels: Vec<usize>,
}

impl Trained {
    fn get() -> &'static Trained {
        static TRAINED: OnceLock<Trained> = OnceLock::new();
        TRAINED.get_or_init(Trained::new)
    }

    fn new() -> Self {
        let (device, key) = (device(), Key::new(7));
        let datasets = concat!(env!("CARGO_MANIFEST_DIR"), "/../../datasets");
        let data = Catalog::new(datasets, "data").load("fashion-mnist-sample").unwrap();
        let small = |data: &Dataset, rows: &[usize]| {
            pixels(data, rows, &device).avg_pool(Pool { window: 2, stride: 2, pad: 0 })
        };
        let config = EncoderConfig { width: 0.125, ..EncoderConfig::default() };
        let mut encoder = Encoder::new(&config, &device, key);
        for step in 0..40usize {
            let x = small(&data.train, &(64 * step..64 * (step + 1)).collect::<Vec<_>>());
            let noise = |view: &str| {
                let keys = keys(key.fold(view).fold(step), 64);
                let noise = Tensor::random(&device, Random::Normal, &keys, &x.shape()[1..], DType::F32);
                (&x + &noise.mul_scalar(0.1)).clamp(0.0, 1.0)
            };
            track(&mut encoder);
            let mut pass = ForwardContext::train();
            let z = encoder.forward(&Tensor::concat(&[&noise("first"), &noise("second")], 0), &mut pass);
            let loss = nt_xent(&z.slice(0, 0, 64), &z.slice(0, 64, 64), 0.5);
            let weights = parameters(&encoder);
            let slopes = backward(loss, &weights.iter().collect::<Vec<_>>());
            let next: Vec<Tensor> =
                weights.iter().zip(&slopes).map(|(w, g)| (w - &g.mul_scalar(0.5)).detach()).collect();
            set_parameters(&mut encoder, &next);
            encoder.update_running_stats(&pass, BATCH_NORM_MOMENTUM);
        }
        let encoder = encoder.inference();
        let seen: Vec<usize> = (0..1000).collect();
        let features = encoder.forward(&small(&data.train, &seen));
        let truth: Vec<u32> = seen.iter().map(|&i| u32::from(data.train.labels[i])).collect();
        let probe = ProbeConfig { l2: vec![1e-2], ..ProbeConfig::default() };
        let head = linear_probe(&features, &truth, 10, &probe, key).unwrap().head;
        let unseen: Vec<usize> = (0..8).collect();
        let x = small(&data.test, &unseen);
        let labels = unseen.iter().map(|&i| usize::from(data.test.labels[i])).collect();
        Trained { encoder, head, x, labels }
    }

    fn encode(&self, x: &Tensor) -> Tensor {
        self.encoder.forward(x)
    }

    /// The certificates in a ball, and the network that they speak of.
    fn certificates(&self, threat: Threat, effort: Effort) -> (Vec<Certificate>, Network) {
        let network = Network::trace(&|x| self.encode(x), &self.x).unwrap();
        let config = CertifyConfig { threat, effort, ..CertifyConfig::default() };
        (certify(&network, &self.x, &config).unwrap().0, network)
    }
}

#[test]
fn attacks_stay_below_certificates_on_a_trained_encoder() {
    let trained = Trained::get();
    for (norm, epsilon) in
        [(Norm::Linf, 0.004), (Norm::Linf, 0.05), (Norm::L2, 0.05), (Norm::L2, 0.5), (Norm::L1, 0.05)]
    {
        let threat = Threat::new(norm, epsilon);
        let points = ends(&|x| trained.encode(x), &trained.x, &threat, Key::new(8));
        let mut closest = [0f64; 3];
        for (effort, closest) in EFFORTS.into_iter().zip(&mut closest) {
            let (found, network) = trained.certificates(threat, effort);
            for u in &points {
                for (i, moved) in moved(&network, &trained.x, u).iter().enumerate() {
                    let what = format!("{effort:?} {norm} {epsilon}, image {i}");
                    *closest = closest.max(below(&found[i], moved, &what));
                }
            }
        }
        // The attacks are not idle and more effort is tighter.
        assert!(closest[2] > 0.01 && closest[2] >= closest[0], "{norm} {epsilon}: {closest:?}");
    }
}

/// Attacks on the label, AutoAttack among them, break no image that certificate and head call certified; nor does
/// any loss that they reach exceed the certified one.
#[test]
fn no_attack_breaks_a_certified_image_through_a_head() {
    let trained = Trained::get();
    let (head, labels) = (&trained.head, &trained.labels);
    let targets: Vec<u32> = labels.iter().map(|&y| y as u32).collect();
    let weight = Tensor::new(trained.x.device(), [10, head.features()], head.weight()).cast(DType::F32);
    let bias = Array::new(trained.x.device(), [10], head.bias()).cast(DType::F32);
    let bias = Tensor::from(bias);
    let logits = |u: &Tensor| {
        &trained.encode(u).matmul_with(&weight, Transpose { b: true, ..Transpose::default() }) + &bias
    };
    let (mut certified, mut broken) = (0, 0);
    for (norm, epsilon) in [
        (Norm::Linf, 0.001),
        (Norm::Linf, 0.004),
        (Norm::Linf, 0.1),
        (Norm::L2, 0.02),
        (Norm::L2, 1.5),
        (Norm::L1, 0.02),
        (Norm::L1, 15.0),
    ] {
        let threat = Threat::new(norm, epsilon);
        let (found, network) = trained.certificates(threat, Effort::Full);
        let suite = AutoAttack { steps: 20, queries: 100, ..AutoAttack::default() };
        let all = auto_attack(&logits, &trained.x, &targets, &threat, &suite, &keys(Key::new(9), 8));
        let steps = Pgd { steps: 20, step_size: epsilon / 4.0, restarts: 2, ..Pgd::default() };
        let climbed = attack_classifier(
            &logits,
            &trained.x,
            &targets,
            LabelLoss::CrossEntropy,
            &threat,
            &steps,
            &keys(Key::new(10), 8),
        );
        let points = [all.adversarial, climbed.adversarial, climbed.worst];
        let ends: Vec<Vec<f64>> = points.iter().map(|u| network.forward(u).array().to_f64()).collect();
        let d = network.features();
        for (i, certificate) in found.iter().enumerate() {
            let (y, z) = (labels[i], certificate.representation());
            let supports: Vec<f64> = (0..10)
                .map(
                    |j| if j == y { 0.0 } else { certificate.support(&head.gap_vector(j, y), Evidence::All) },
                )
                .collect();
            let (gaps, bound) = (head.gaps(&z, y), head.logit_gap_bound(&z, y, &supports));
            let safe = (0..10).all(|j| j == y || gaps[j] + supports[j] < 0.0);
            for end in &ends {
                let end = &end[i * d..][..d];
                // Gaps and loss are themselves rounded in f64.
                assert!(head.loss(end, y) <= bound + 1e-11 * (1.0 + bound), "{norm} {epsilon} image {i}");
                let right = head.gaps(end, y).iter().enumerate().all(|(j, &gap)| j == y || gap < 0.0);
                assert!(!safe || right, "{norm} {epsilon}: image {i} is certified and broken");
            }
            certified += usize::from(safe);
            broken += usize::from(all.success[i]);
        }
    }
    assert!(certified >= 8 && broken >= 8, "{certified} certified and {broken} broken of 56 show too little");
}
