//! AutoAttack on encoders of the default profile under three early-exit policies with identical outcomes: samples leave the
//! batch at their first success; at the end of the run that broke them, as in the reference; or never, so that every image
//! goes through every attack. One line of JSON for each encoder and radius:
//!
//! ```text
//! cargo bench -p tarrl-benches --bench compaction                # all
//! cargo bench -p tarrl-benches --bench compaction -- tarr        # one encoder
//! cargo bench -p tarrl-benches --bench compaction -- tarr 0.05   # one radius alone
//! ```
//!
//! The encoders are trained here, by SimCLR and by TARR with the sizes, the optimizer and the epochs of the default
//! profile; the head is a linear probe, and the attack is complete. The policies run one after the other, and the outcomes
//! of all images are compared. The first lines of an encoder have the passes of its robust images. Encoders are kept in the
//! target folder, so that they are trained once.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;
use tarrl_attacks::{AutoAttack, EarlyExit, RunConfig, SuiteOutcome, Threat, auto_attack};
use tarrl_benches::median;
use tarrl_data::Catalog;
use tarrl_encoders::{EncoderConfig, InferenceEncoder, checkpoint::load_encoder};
use tarrl_eval::{ProbeConfig, linear_probe, pixels};
use tarrl_tensor::{Cpu, DType, Device, Key, Tensor};
use tarrl_train::{AdamW, OptimizerConfig, TrainConfig, config::read_toml, pretrain};

/// The methods whose encoders are attacked, by the names of their files.
const METHODS: [&str; 2] = ["simclr", "tarr-simclr"];
/// As many as the default profile attacks with AutoAttack.
const IMAGES: usize = 40;
/// The radii of its tables.
const RADII: [f64; 2] = [0.05, 0.1];
/// Those at which passes of robust images are counted; at the first of them unprotected encoders have some.
const COUNTED: [f64; 3] = [0.01, 0.05, 0.1];
/// Repetitions of the three policies at each radius; more of them by starting the bench again, which trains nothing anew.
const TURNS: usize = 1;
const POLICIES: [EarlyExit; 3] = [EarlyExit::AtOnce, EarlyExit::AfterRun, EarlyExit::Never];

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    // `cargo test --benches` builds and starts benches too, and is not after minutes of work.
    if !arguments.iter().any(|argument| argument == "--bench") {
        return;
    }
    let named = |name: &str| arguments.iter().any(|argument| argument == name);
    let methods = METHODS.iter().filter(|method| named(method)).copied().collect::<Vec<_>>();
    let radii = RADII.into_iter().filter(|epsilon| named(&epsilon.to_string())).collect::<Vec<_>>();
    for method in if methods.is_empty() { METHODS.to_vec() } else { methods } {
        let target = Target::new(method);
        for epsilon in COUNTED.iter().filter(|_| radii.is_empty()) {
            target.count(*epsilon);
        }
        for epsilon in if radii.is_empty() { RADII.to_vec() } else { radii.clone() } {
            target.compare(epsilon);
        }
    }
}

/// A trained encoder with a head, and images that it has not seen.
struct Target {
    method: String,
    encoder: InferenceEncoder,
    /// `(d, k)`
    weight: Tensor,
    /// `(1, k)`
    bias: Tensor,
    x: Tensor,
    labels: Vec<u32>,
}

impl Target {
    fn new(method: &str) -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let device = Cpu::default().open();
        let data = Catalog::new(root.join("datasets"), "data").load("fashion-mnist-sample");
        let data = data.expect("the sample is part of the repository");
        let file = root.join(format!("experiments/methods/{method}.toml"));
        let config = TrainConfig {
            encoder: EncoderConfig { width: 0.5, ..EncoderConfig::default() },
            optimizer: OptimizerConfig::AdamW(AdamW { lr: 2e-3, ..AdamW::default() }),
            epochs: 4,
            batch: 64,
            ..TrainConfig::new(read_toml(&file).expect("a method"))
        };
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("compaction-{method}"));
        let train = Arc::new(data.train);
        pretrain(&config, &train, &device, &folder, &mut |_| {}).expect("a training");
        let encoder = load_encoder(&folder.join("encoder.safetensors"), &device);
        let encoder = encoder.expect("the encoder just written").inference();

        let labels = |of: &[u16]| of.iter().map(|&y| u32::from(y)).collect::<Vec<_>>();
        let seen = train.balanced_subset(200, Key::new(1)).expect("enough images");
        let features = encoder.forward(&images(&seen, &device));
        let probe = ProbeConfig { l2: vec![1e-3], ..ProbeConfig::default() };
        let head = linear_probe(&features, &labels(&seen.labels), 10, &probe, Key::new(2));
        let head = head.expect("finite features").head;
        let put = |shape: [usize; 2], v: &[f64]| Tensor::new(&device, shape, v).cast(DType::F32);
        let test = data.test.balanced_subset(IMAGES / 10, Key::new(3)).expect("enough images");
        Target {
            method: method.to_owned(),
            weight: put([10, head.features()], head.weight()).t(),
            bias: put([1, 10], head.bias()),
            x: images(&test, &device),
            labels: labels(&test.labels),
            encoder,
        }
    }

    /// Prints what the robust images cost.
    fn count(&self, epsilon: f64) {
        let found = self.attack(epsilon, EarlyExit::AtOnce).0;
        let robust: Vec<usize> = (0..IMAGES).filter(|&i| !found.success[i]).collect();
        let text = |passes: &[u32]| {
            let of: Vec<u32> = robust.iter().map(|&i| passes[i]).collect();
            let mean = of.iter().map(|&p| f64::from(p)).sum::<f64>() / of.len() as f64;
            format!(r#"{{"mean":{mean:.0},"most":{}}}"#, of.iter().max().unwrap_or(&0))
        };
        println!(
            r#"{{"robust_images":"{}","epsilon":{epsilon},"robust":{},"forward":{},"backward":{}}}"#,
            self.method,
            robust.len(),
            if robust.is_empty() { "null".into() } else { text(&found.forward) },
            if robust.is_empty() { "null".into() } else { text(&found.backward) },
        );
    }

    /// Prints how long each policy takes.
    fn compare(&self, epsilon: f64) {
        let turns: Vec<_> = (0..TURNS).map(|_| POLICIES.map(|leave| self.attack(epsilon, leave))).collect();
        let founds = &turns[0];
        for (found, _) in &founds[1..] {
            assert_eq!(found.success, founds[0].0.success, "an early-exit policy changes an outcome");
        }
        let passes = |way: usize| -> u64 {
            let found: &SuiteOutcome = &founds[way].0;
            found.forward.iter().chain(&found.backward).map(|&p| u64::from(p)).sum()
        };
        let seconds =
            [0, 1, 2].map(|way: usize| median(&turns.iter().map(|turn| turn[way].1).collect::<Vec<_>>()));
        let [left, stayed, everything] = seconds;
        let found = &founds[0].0;
        let mistaken = found.origin.iter().flatten().filter(|origin| origin.attack == "clean").count();
        println!(
            r#"{{"workload":"autoattack:conv-small","method":"{}","epsilon":{epsilon},"images":{IMAGES},"mistakes":{mistaken},"robust":{},"at_once_s":{left:.3},"after_run_s":{stayed:.3},"never_s":{everything:.3},"after_run_ratio":{:.2},"never_ratio":{:.2},"at_once_passes":{},"after_run_passes":{},"never_passes":{}}}"#,
            self.method,
            found.success.iter().filter(|broken| !**broken).count(),
            stayed / left,
            everything / left,
            passes(0),
            passes(1),
            passes(2)
        );
    }

    fn logits(&self, u: &Tensor) -> Tensor {
        &self.encoder.forward(u).matmul(&self.weight) + &self.bias
    }

    /// What AutoAttack finds, and in how many seconds.
    fn attack(&self, epsilon: f64, early_exit: EarlyExit) -> (SuiteOutcome, f64) {
        let logits = |u: &Tensor| self.logits(u);
        let run = RunConfig { early_exit, ..RunConfig::default() };
        let config = AutoAttack { run, ..AutoAttack::default() };
        let keys: Vec<Key> = (0..IMAGES).map(|image| Key::new(4).fold(image)).collect();
        let clock = Instant::now();
        let found = auto_attack(&logits, &self.x, &self.labels, &Threat::linf(epsilon), &config, &keys);
        (found, clock.elapsed().as_secs_f64())
    }
}

fn images(data: &tarrl_data::Dataset, device: &Device) -> Tensor {
    pixels(data, &(0..data.len()).collect::<Vec<_>>(), device)
}
