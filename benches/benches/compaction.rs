//! AutoAttack on an encoder of the default profile, with samples that leave at their first success and with samples
//! that stay to the end of the run that broke them, as in the reference. One line of JSON for each radius:
//!
//! ```text
//! cargo bench -p tarrl-benches --bench compaction
//! ```
//!
//! The encoder is trained here, by SimCLR as in the default profile but for two epochs, the head is a linear probe, and
//! nothing of the attack is left out. Both ways take turns; the fates of all images are compared.

use std::ops::RangeInclusive;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;
use tarrl_attacks::{AutoAttack, RunConfig, SuiteOutcome, Threat, auto_attack};
use tarrl_benches::median;
use tarrl_data::Catalog;
use tarrl_encoders::{EncoderConfig, Frozen, checkpoint::load_encoder};
use tarrl_eval::{ProbeConfig, linear_probe, pixels};
use tarrl_tensor::{Cpu, DType, Device, Key, Tensor};
use tarrl_train::{AdamW, OptimizerConfig, TrainConfig, config::read_toml, pretrain};

/// As many as the default profile attacks with AutoAttack.
const IMAGES: usize = 40;
/// The radii of its tables.
const RADII: [f64; 2] = [0.05, 0.1];
/// Pairs of runs at each radius.
const PAIRS: usize = 3;

fn main() {
    // `cargo test --benches` builds and starts benches too, and is not after minutes of work.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let victim = Victim::new();
    // Nothing moves at radius zero: an image that is classified correctly goes through all attacks.
    let still = victim.attack(victim.correct()..=victim.correct(), 0.0, true).0;
    let (forward, backward) = (still.forward[0], still.backward[0]);
    println!(r#"{{"robust_image":{{"forward":{forward},"backward":{backward}}}}}"#);
    for epsilon in RADII {
        let pairs: Vec<_> = (0..PAIRS)
            .map(|_| [true, false].map(|compact| victim.attack(0..=IMAGES - 1, epsilon, compact)))
            .collect();
        let [compact, whole] = &pairs[0];
        assert_eq!(compact.0.success, whole.0.success, "compaction changes a fate");
        let passes = |found: &SuiteOutcome| -> u64 {
            found.forward.iter().chain(&found.backward).map(|&p| u64::from(p)).sum()
        };
        let [fast, slow] = [
            median(&pairs.iter().map(|pair| pair[0].1).collect::<Vec<_>>()),
            median(&pairs.iter().map(|pair| pair[1].1).collect::<Vec<_>>()),
        ];
        println!(
            r#"{{"workload":"autoattack:conv-small","epsilon":{epsilon},"images":{IMAGES},"robust":{},"compact_s":{fast:.3},"whole_runs_s":{slow:.3},"ratio":{:.2},"compact_passes":{},"whole_runs_passes":{}}}"#,
            compact.0.success.iter().filter(|broken| !**broken).count(),
            slow / fast,
            passes(&compact.0),
            passes(&whole.0)
        );
    }
}

/// A trained encoder with a head, and images that it has not seen.
struct Victim {
    encoder: Frozen,
    /// `(d, k)`
    weight: Tensor,
    /// `(1, k)`
    bias: Tensor,
    x: Tensor,
    labels: Vec<u32>,
}

impl Victim {
    fn new() -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let device = Cpu::default().open();
        let data = Catalog::new(root.join("datasets"), "data").load("fashion-mnist-sample");
        let data = data.expect("the sample is part of the repository");
        let method = read_toml(&root.join("experiments/methods/simclr.toml")).expect("a method");
        let config = TrainConfig {
            encoder: EncoderConfig { width: 0.5, ..EncoderConfig::default() },
            optimizer: OptimizerConfig::AdamW(AdamW { lr: 2e-3, ..AdamW::default() }),
            epochs: 2,
            ..TrainConfig::new(method)
        };
        let folder = tempfile::tempdir().expect("a folder for the checkpoint");
        let train = Arc::new(data.train);
        pretrain(&config, &train, &device, folder.path(), &mut |_| {}).expect("a training");
        let encoder = load_encoder(&folder.path().join("encoder.safetensors"), &device);
        let encoder = encoder.expect("the encoder just written").frozen();

        let labels = |of: &[u16]| of.iter().map(|&y| u32::from(y)).collect::<Vec<_>>();
        let seen = train.balanced_subset(200, Key::new(1)).expect("enough images");
        let features = encoder.forward(&images(&seen, &device));
        let probe = ProbeConfig { l2: vec![1e-3], ..ProbeConfig::default() };
        let head = linear_probe(&features, &labels(&seen.labels), 10, &probe, Key::new(2)).head;
        let put = |shape: [usize; 2], v: &[f64]| Tensor::new(&device, shape, v).cast(DType::F32);
        let test = data.test.balanced_subset(IMAGES / 10, Key::new(3)).expect("enough images");
        Victim {
            weight: put([10, head.features()], head.weight()).t(),
            bias: put([1, 10], head.bias()),
            x: images(&test, &device),
            labels: labels(&test.labels),
            encoder,
        }
    }

    fn logits(&self, u: &Tensor) -> Tensor {
        &self.encoder.forward(u).matmul(&self.weight) + &self.bias
    }

    /// The first image that is classified correctly.
    fn correct(&self) -> usize {
        let said = self.logits(&self.x).argmax(1).to_vec::<u32>();
        said.iter().zip(&self.labels).position(|(a, b)| a == b).expect("the probe has learnt something")
    }

    /// What AutoAttack finds on some of the images, and in how many seconds.
    fn attack(&self, of: RangeInclusive<usize>, epsilon: f64, compact: bool) -> (SuiteOutcome, f64) {
        let logits = |u: &Tensor| self.logits(u);
        let run = RunConfig { compact, ..RunConfig::default() };
        let config = AutoAttack { run, ..AutoAttack::default() };
        let keys: Vec<Key> = (0..IMAGES).map(|image| Key::new(4).fold(image)).collect();
        let x = self.x.slice(0, *of.start(), of.end() + 1 - of.start());
        let clock = Instant::now();
        let found =
            auto_attack(&logits, &x, &self.labels[of.clone()], &Threat::linf(epsilon), &config, &keys[of]);
        (found, clock.elapsed().as_secs_f64())
    }
}

fn images(data: &tarrl_data::Dataset, device: &Device) -> Tensor {
    pixels(data, &(0..data.len()).collect::<Vec<_>>(), device)
}
