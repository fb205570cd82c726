//! Attacks of this workspace on the networks and images of `docs/attacks-compared.md`, as rows of its tables.
//!
//! ```text
//! python benches/peers/attacks_compared.py --export networks.safetensors
//! cargo run --release -p tarrl-benches --example attacks_compared networks.safetensors
//! ```

#![forbid(unsafe_code)]

use anyhow::{Context, Result, ensure};
use safetensors::{Dtype, SafeTensors};
use std::cell::Cell;
use tarrl_attacks::{
    Apgd, AttackSpec, AutoAttack, Ball, CarliniWagner, Classifier, DeepFool, LabelLoss, Limits, Mode, Norm,
    Outcome, Pgd, RunConfig, Square, SuiteRun, Threat, attack_classifier, verdicts,
};
use tarrl_tensor::{Conv, Device, Key, Tensor, cpu};

/// The radii of the tables.
const THREATS: [(Norm, f64); 3] = [(Norm::Linf, 0.1), (Norm::L2, 0.5), (Norm::L1, 3.0)];

/// How far logits may be from those of PyTorch.
const TOLERANCE: f64 = 1e-4;

fn main() -> Result<()> {
    let path = std::env::args().nth(1).context("name the file that attacks_compared.py --export wrote")?;
    let bytes = std::fs::read(&path).with_context(|| path.clone())?;
    let file = SafeTensors::deserialize(&bytes)?;
    let (ten, two) = (Network::read(&file, "ten")?, Network::read(&file, "two")?);
    for (norm, epsilon) in THREATS {
        let threat = Threat::new(norm, epsilon);
        println!("{norm}, ε = {epsilon}");
        for (name, attack) in attacks(norm) {
            let plain = measure(&ten, &threat, 1.0, &attack);
            let steep = measure(&ten, &threat, 30.0, &attack);
            let pair = measure(&two, &threat, 1.0, &attack);
            println!(
                "| TARRL {name} | {:.0} | {:+.1e} | {:.0} | {:.0} | {:.0} | no mode |",
                plain.percent(),
                plain.excess,
                plain.passes,
                steep.percent(),
                pair.percent()
            );
            if name == "AutoAttack standard" {
                let reference = integers(&file, &format!("ten.broken.{norm}"))?;
                let same =
                    plain.broken.iter().zip(&reference).filter(|&(&ours, &theirs)| ours == (theirs == 1));
                println!("as pyautoattack's standard: {} of {} images", same.count(), reference.len());
            }
        }
    }
    Ok(())
}

/// A trained network in evaluation mode, and images that it has right.
struct Network {
    weights: [Tensor; 3],
    biases: [Tensor; 3],
    /// `(n, 8, 8, 1)`
    images: Tensor,
    labels: Vec<u32>,
}

impl Network {
    /// The network and images stored under `name`, whose logits must be those that PyTorch stored.
    fn read(file: &SafeTensors<'_>, name: &str) -> Result<Self> {
        let device = cpu();
        let get = |key: &str| floats(file, &device, &format!("{name}.{key}"));
        // The linear layer reads channels (8, 4, 4); here the channel is the innermost.
        let linear = get("6.weight")?;
        let classes = linear.shape()[0];
        let inner = |weight: &Tensor| weight.permute(&[2, 3, 1, 0]);
        let network = Network {
            weights: [
                inner(&get("0.weight")?),
                inner(&get("2.weight")?),
                inner(&linear.reshape([classes, 8, 4, 4])).reshape([128, classes]),
            ],
            biases: [get("0.bias")?, get("2.bias")?, get("6.bias")?],
            images: get("images")?.permute(&[0, 2, 3, 1]),
            labels: integers(file, &format!("{name}.labels"))?,
        };
        let logits = network.logits(&network.images).array().to_f64();
        let stored = get("logits")?.array().to_f64();
        let far = logits.iter().zip(&stored).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        eprintln!("{name}: {} images, logits within {far:.1e} of PyTorch's", network.labels.len());
        ensure!(logits.len() == stored.len() && far <= TOLERANCE, "{name}: other logits than PyTorch's");
        Ok(network)
    }

    /// `(m, 8, 8, 1)` to `(m, classes)`.
    fn logits(&self, u: &Tensor) -> Tensor {
        let conv = |u: &Tensor, i: usize, stride: usize| {
            let window = Conv { stride, pad: 1, ..Conv::default() };
            u.conv2d_bias(&self.weights[i], &self.biases[i], None, window, true)
        };
        let features = conv(&conv(u, 0, 1), 1, 2).reshape([u.shape()[0], 128]);
        let logits = features.matmul(&self.weights[2]);
        &logits + &self.biases[2].broadcast_to(*logits.shape())
    }
}

fn floats(file: &SafeTensors<'_>, device: &Device, name: &str) -> Result<Tensor> {
    let view = file.tensor(name)?;
    ensure!(view.dtype() == Dtype::F32, "{name}: {:?}, not F32", view.dtype());
    let (values, _) = view.data().as_chunks::<4>();
    let values: Vec<f32> = values.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect();
    Ok(Tensor::new(device, view.shape(), &values))
}

fn integers(file: &SafeTensors<'_>, name: &str) -> Result<Vec<u32>> {
    let view = file.tensor(name)?;
    ensure!(view.dtype() == Dtype::I32, "{name}: {:?}, not I32", view.dtype());
    let (values, _) = view.data().as_chunks::<4>();
    Ok(values.iter().map(|&bytes| u32::from_le_bytes(bytes)).collect())
}

/// An attack on logits around images with labels: the points `(n, 8, 8, 1)` and the forward passes of each sample.
type Attack = Box<dyn Fn(&dyn Fn(&Tensor) -> Tensor, &Network, &Threat) -> (Tensor, Vec<u32>)>;

/// The attacks in the norm that have a counterpart in the tables.
fn attacks(norm: Norm) -> Vec<(&'static str, Attack)> {
    let standard = AutoAttack::default().parts(norm);
    let apgd = vec![standard[0].clone()];
    let square =
        |mode| vec![AttackSpec::Square { config: Square { queries: 500, mode, ..Square::default() } }];
    let first = match &standard[0] {
        AttackSpec::Apgd { config: Apgd { restarts: 1, .. }, .. } => "APGD (ce), 100 steps",
        _ => "APGD (ce), 100 steps, 5 restarts",
    };
    let mut all: Vec<(&'static str, Attack)> = vec![
        ("FGSM", ascent(|threat| Pgd::single_step(threat.epsilon))),
        ("PGD, 40 steps of eps/16", ascent(|threat| Pgd::usual(threat, 40))),
        (first, suite(apgd)),
        ("Square, 500 of 10,000", suite(square(Mode::Reference))),
        ("Square, 500, schedule scaled", suite(square(Mode::Paper))),
        ("AutoAttack standard", suite(standard)),
    ];
    if norm == Norm::L2 || norm == Norm::Linf {
        all.push((
            "DeepFool, defaults",
            nearest(|target, ball| DeepFool::default().run(target, ball, Limits::default())),
        ));
    }
    if norm == Norm::L2 {
        all.push((
            "Carlini-Wagner, defaults",
            nearest(|target, ball| CarliniWagner::default().run(target, ball, Limits::default())),
        ));
    }
    all
}

/// Projected ascent of the cross-entropy.
fn ascent(config: fn(&Threat) -> Pgd) -> Attack {
    Box::new(move |logits, network, threat| {
        let Network { images, labels, .. } = network;
        let (config, keys) = (config(threat), keys(labels.len()));
        let found =
            attack_classifier(logits, images, labels, LabelLoss::CrossEntropy, threat, &config, &keys);
        (found.adversarial, found.forward)
    })
}

/// Parts of AutoAttack.
fn suite(parts: Vec<AttackSpec>) -> Attack {
    Box::new(move |logits, network, threat| {
        let Network { images, labels, .. } = network;
        let (ball, keys) = (threat.around(images), keys(labels.len()));
        let mut run = SuiteRun::new(ball, labels, &keys, parts.clone(), RunConfig::default());
        while run.round(&|u, _| logits(u)) {}
        let found = run.finish();
        (found.adversarial, found.forward)
    })
}

/// An attack of minimum norm: its point where that is in the ball, else the image.
fn nearest(run: fn(Classifier<'_>, &Ball) -> Outcome) -> Attack {
    Box::new(move |logits, network, threat| {
        let ball = threat.around(&network.images);
        let found = run(Classifier { logits, labels: &network.labels }, &ball);
        let inside = ball.contains(&found.best);
        let (points, images) = (found.best.array().to_f64(), network.images.array().to_f64());
        let width = images.len() / inside.len();
        let of = |(i, (&u, &x)): (usize, (&f64, &f64))| if inside[i / width] { u as f32 } else { x as f32 };
        let kept: Vec<f32> = points.iter().zip(&images).enumerate().map(of).collect();
        (Tensor::new(&cpu(), *network.images.shape(), &kept), found.forward)
    })
}

fn keys(n: usize) -> Vec<Key> {
    (0..n).map(|image| Key::new(0).fold(image)).collect()
}

/// What an attack did.
struct Measured {
    /// `(n)`: whether the network without the factor has the point wrong.
    broken: Vec<bool>,
    /// The largest distance less ε.
    excess: f64,
    /// Forward passes of each image, on average.
    passes: f64,
}

impl Measured {
    fn percent(&self) -> f64 {
        100.0 * self.broken.iter().filter(|&&broken| broken).count() as f64 / self.broken.len() as f64
    }
}

/// The attack through logits times `factor`.
fn measure(network: &Network, threat: &Threat, factor: f64, attack: &Attack) -> Measured {
    let rows = Cell::new(0);
    let logits = |u: &Tensor| {
        rows.set(rows.get() + u.shape()[0]);
        network.logits(u).mul_scalar(factor)
    };
    let (points, forward) = attack(&logits, network, threat);
    let counted: u32 = forward.iter().sum();
    assert_eq!(rows.get(), counted as usize, "passes of the closure and those of the outcome");
    let broken = verdicts(&network.logits(&points), &network.labels).iter().map(|v| v.success).collect();
    let (u, x) = (points.array().to_f64(), network.images.array().to_f64());
    let width = x.len() / network.labels.len();
    let lengths = u
        .chunks(width)
        .zip(x.chunks(width))
        .map(|(u, x)| threat.norm.length(u.iter().zip(x).map(|(u, x)| u - x)));
    let excess = lengths.fold(f64::NEG_INFINITY, f64::max) - threat.epsilon;
    Measured { broken, excess, passes: rows.get() as f64 / network.labels.len() as f64 }
}
