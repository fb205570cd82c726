//! Cases whose work is counted: one step of training, attack, certificate and head, of a small encoder on one thread.

use crate::counting_allocator::{Allocations, allocations_of_this_thread};
use crate::counting_backend::{CountingBackend, Kernels};
use crate::work::Work;
use std::path::Path;
use std::sync::Arc;
use tarrl_attacks::{
    AutoAttack, LabelLoss, Limits, Pgd, PgdRun, Problem, RunConfig, SuiteRun, Threat, classify,
};
use tarrl_benches::uniform;
use tarrl_certify::{CertifyConfig, Effort, Network, certify};
use tarrl_data::Dataset;
use tarrl_encoders::{Encoder, EncoderConfig};
use tarrl_eval::{Lbfgs, ProbeConfig, linear_probe};
use tarrl_tensor::{Cpu, Device, Key, Tensor};
use tarrl_train::config::read_toml;
use tarrl_train::{Event, Method, Options, Pretraining, TrainConfig};

/// Images of a step.
const BATCH: usize = 16;

/// Steps before the one that is counted, after which all memory is there that a step takes.
const WARM_UP: usize = 4;

/// A case: its name in the file, and what counts it.
type Case = (&'static str, fn() -> Work);

/// All cases.
pub(crate) const CASES: [Case; 8] = [
    ("train-simclr", || train("simclr")),
    ("train-acl", || train("acl")),
    ("train-tarr-simclr", || train("tarr-simclr")),
    ("attack-pgd", pgd),
    ("attack-apgd", apgd),
    ("certify-interval", || certificate(Effort::Interval)),
    ("certify-full", || certificate(Effort::Full)),
    ("head", head),
];

/// Multiply-adds that follow from shapes alone, by the name of the case: that the counts are right, and not only the same
/// as before.
pub(crate) fn by_hand() -> [(&'static str, u64); 3] {
    // ConvSmall at a quarter of its width: 8, 16, 16 and 32 channels on 28, 14, 14 and 7 pixels, windows of nine.
    let first = 28 * 28 * 8 * 9;
    let encoder = first + 14 * 14 * 16 * (8 + 16) * 9 + 7 * 7 * 32 * 16 * 9;
    let projector = 32 * 256 + 256 * 128;
    let (images, views) = (BATCH as u64, 2 * BATCH as u64);
    // Forward, and the adjoints in activations and weights; the pixels need no gradient. NT-Xent multiplies all embeddings
    // with each other, forward and back.
    let simclr = views * (3 * encoder - first + 3 * projector) + 2 * views * views * 128;
    [
        ("train-simclr", simclr),
        // Forward and the adjoint in the input, of encoder and head.
        ("attack-pgd", images * 2 * (encoder + 32 * 10)),
        // Logits and gradient, of 200 rows of 32 features and a bias.
        ("head", 2 * 200 * 33 * 10),
    ]
}

/// A moment in a computation.
#[derive(Clone, Copy)]
struct Moment {
    kernels: Kernels,
    allocations: Allocations,
}

impl Moment {
    fn now(device: &CountingBackend) -> Self {
        Moment { kernels: device.kernels(), allocations: allocations_of_this_thread() }
    }

    /// The work between this moment and a later one. `passes` are those of all images forward and backward.
    fn until(&self, end: &Moment, passes: [f64; 2]) -> Work {
        let [forward, backward] = passes;
        Work {
            forward,
            backward,
            kernels: end.kernels.calls - self.kernels.calls,
            multiply_adds: end.kernels.multiply_adds - self.kernels.multiply_adds,
            transfers: end.kernels.transfers - self.kernels.transfers,
            allocations: end.allocations.count - self.allocations.count,
            allocated_bytes: end.allocations.bytes - self.allocations.bytes,
        }
    }
}

/// One thread, so that all allocations are those of the thread that counts.
fn counted() -> (Arc<CountingBackend>, Device) {
    let counter = CountingBackend::new(Cpu { threads: 1, ..Cpu::default() }.open());
    let device: Device = counter.clone();
    (counter, device)
}

fn config() -> EncoderConfig {
    EncoderConfig { width: 0.25, ..EncoderConfig::default() }
}

fn encoder(device: &Device) -> Encoder {
    Encoder::new(&config(), device, Key::new(1))
}

fn images(device: &Device, n: usize) -> Tensor {
    uniform(device, &[n, 28, 28, 1], Key::new(2))
}

fn keys() -> Vec<Key> {
    (0..BATCH).map(|i| Key::new(3).fold(i)).collect()
}

/// A step of pre-training with a method of the project: from the end of one step to the end of the next. The loader's
/// thread is not counted.
fn train(method: &str) -> Work {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../experiments/methods/{method}.toml"));
    let method: Method = read_toml(&path).unwrap();
    let config = TrainConfig {
        encoder: config(),
        epochs: 1,
        batch: BATCH,
        warmup_epochs: 0.0,
        ..TrainConfig::new(method)
    };
    let steps = WARM_UP + 2;
    let n = steps * BATCH;
    let pixels: Vec<u8> = (0..n * 28 * 28).map(|i| (i * 7919 % 251) as u8).collect();
    let pixels = ndarray::Array4::from_shape_vec((n, 28, 28, 1), pixels).unwrap();
    let labels = (0..n).map(|i| (i % 2) as u16).collect();
    let data = Arc::new(Dataset::new("stripes", pixels, labels, vec!["a".into(), "b".into()]));
    let folder = tempfile::tempdir().unwrap();
    let (counter, device) = counted();
    let options = Options { log_every: u64::MAX, checkpoint_every_seconds: None, ..Options::default() };
    let (mut moments, mut passes) = (Vec::new(), None);
    moments.reserve(steps);
    let training = Pretraining {
        config: &config,
        data: &data,
        teacher: None,
        start: None,
        device: &device,
        folder: folder.path(),
        options,
    };
    training
        .run(&mut |event| match event {
            Event::Stepped { .. } => moments.push(Moment::now(&counter)),
            Event::Epoch(epoch) => passes = Some([epoch.forward, epoch.backward]),
            _ => {}
        })
        .unwrap();
    let passes = passes.expect("an epoch ended").map(|images| images as f64 / n as f64);
    moments[WARM_UP - 1].until(&moments[WARM_UP], passes)
}

/// Logits of ten classes whose order no input changes: the first wins by far.
fn logits(device: &Device) -> impl Fn(&Tensor) -> Tensor {
    let encoder = encoder(device);
    let weights = uniform(device, &[encoder.dim(), 10], Key::new(4)).mul_scalar(0.01);
    let encoder = encoder.inference();
    let lead: Vec<f32> = (0..10).map(|class| if class == 0 { 10.0 } else { 0.0 }).collect();
    let lead = Tensor::new(device, [1, 10], &lead);
    move |x| &encoder.forward(x).matmul(&weights) + &lead
}

/// A step of PGD in the l-infinity ball.
fn pgd() -> Work {
    let (counter, device) = counted();
    let x = images(&device, BATCH);
    let logits = logits(&device);
    let evaluate = classify(&logits, &[0; BATCH], LabelLoss::CrossEntropy);
    let problem = Problem::new(Threat::linf(0.1).around(&x), &evaluate, &keys(), Limits::default());
    let config = Pgd { steps: 2 * WARM_UP, step_size: 0.02, ..Pgd::default() };
    // The passes are read at the end of a run.
    let run = |steps: usize| {
        let mut run = PgdRun::new(config, &problem);
        let mut moments = Vec::with_capacity(steps + 1);
        moments.push(Moment::now(&counter));
        for _ in 0..steps {
            assert!(run.step(), "the attack is over before it is measured");
            moments.push(Moment::now(&counter));
        }
        let outcome = run.finish();
        (moments, [outcome.forward, outcome.backward].map(|passes| passes.iter().sum::<u32>()))
    };
    let (_, before) = run(WARM_UP);
    let (moments, after) = run(WARM_UP + 1);
    let passes = [0, 1].map(|way| f64::from(after[way] - before[way]) / BATCH as f64);
    moments[WARM_UP].until(&moments[WARM_UP + 1], passes)
}

/// An iteration of APGD on the cross-entropy in the l-infinity ball.
fn apgd() -> Work {
    let (counter, device) = counted();
    let x = images(&device, BATCH);
    let logits = logits(&device);
    let part = AutoAttack::default().parts(tarrl_attacks::Norm::Linf).swap_remove(0);
    assert_eq!(part.name(), "apgd-ce");
    let ball = Threat::linf(0.1).around(&x);
    let mut run = SuiteRun::new(ball, &[0; BATCH], &keys(), vec![part], RunConfig::default());
    let mut round = || {
        assert!(run.round(&|u, _| logits(u)), "the attack is over before it is measured");
        (Moment::now(&counter), run.progress())
    };
    let (start, before) = (0..WARM_UP).map(|_| round()).last().expect("several rounds");
    let (end, after) = round();
    assert_eq!(after.finished, 0, "not all samples were in the round");
    let passes = [after.forward - before.forward, after.backward - before.backward];
    start.until(&end, passes.map(|passes| passes as f64 / BATCH as f64))
}

/// A certificate of one image. Its passes are those with weights or their absolute values, and rows that were substituted
/// back to the input.
fn certificate(effort: Effort) -> Work {
    let (counter, device) = counted();
    let encoder = encoder(&device).inference();
    let x = images(&device, 1);
    let network = Network::trace(&|x: &Tensor| encoder.forward(x), &x).unwrap();
    let config = CertifyConfig { threat: Threat::linf(0.005), effort, ..CertifyConfig::default() };
    certify(&network, &x, &config).unwrap();
    let start = Moment::now(&counter);
    let (_, cost) = certify(&network, &x, &config).unwrap();
    start.until(&Moment::now(&counter), [cost.forward, cost.rows])
}

/// A step of L-BFGS of the linear head: the difference between fits that end one step apart.
fn head() -> Work {
    let (counter, device) = counted();
    let features = uniform(&device, &[200, 32], Key::new(5));
    let labels: Vec<u32> = (0..200).map(|i| i * i % 10).collect();
    let fit = |steps: usize| {
        let solver = Lbfgs { max_iterations: steps, tolerance: 0.0, ..Lbfgs::default() };
        let config = ProbeConfig { l2: vec![1e-3], solver, ..ProbeConfig::default() };
        let start = Moment::now(&counter);
        let probe = linear_probe(&features, &labels, 10, &config, Key::new(6)).unwrap();
        assert_eq!(probe.iterations, steps);
        start.until(&Moment::now(&counter), [0.0; 2])
    };
    fit(WARM_UP);
    let (before, after) = (fit(WARM_UP), fit(WARM_UP + 1));
    after.less(&before)
}
