//! An encoder of your own in a study: pre-train it and judge it as two jobs with keys, results on disk and resume.
//!
//! `cargo run -p tarrl-examples --example 06_your_encoder_in_the_study`
//!
//! Profiles name the encoders of `tarrl-encoders` (`encoder = { arch = "resnet18-cifar" }`). Another one takes part through
//! the same crates: a [`Module`] lists its tensors, closures lend it to the losses and attacks, and the study's job engine
//! runs it.

#![forbid(unsafe_code)]

use serde_json::{Value, json};
use tarrl_attacks::{Pgd, Threat};
use tarrl_bound::{Regularizer, RegularizerConfig};
use tarrl_encoders::{
    Linear, LinearBias, Module, ParamBuilder, Role, checkpoint, detach, parameters, set_parameters, track,
};
use tarrl_eval::{ProbeConfig, RobustConfig, linear_probe, robust_accuracy};
use tarrl_jobs::{Display, Graph, Job, Plan, RunEnvironment, Runs, Session, Spec, Stage, Stop, execute};
use tarrl_objectives::nt_xent;
use tarrl_tensor::{DType, Key, Random, Tensor, cpu, grad};

/// Two linear maps on the pixels, which the study knows nothing of.
#[derive(Clone, Debug)]
struct MyEncoder {
    first: Linear,
    second: Linear,
}

impl MyEncoder {
    fn new(seed: u64) -> Self {
        let site = ParamBuilder::new(&cpu(), Key::new(seed));
        let linear = |name: &str, sizes| Linear::new(&site.at(name), sizes, LinearBias::With);
        MyEncoder { first: linear("first", [PIXELS, 32]), second: linear("second", [32, 8]) }
    }

    /// `(n, h, w, c)` to `(n, 8)`
    fn encode(&self, x: &Tensor) -> Tensor {
        self.second.forward(&self.first.forward(&x.reshape([x.shape()[0], PIXELS])).relu())
    }
}

/// All that optimizers and checkpoints need to know.
impl Module for MyEncoder {
    fn visit(&self, f: &mut dyn FnMut(&str, Role, &Tensor)) {
        self.first.visit(f);
        self.second.visit(f);
    }

    fn visit_mut(&mut self, f: &mut dyn FnMut(&str, Role, &mut Tensor)) {
        self.first.visit_mut(f);
        self.second.visit_mut(f);
    }
}

const PIXELS: usize = 16;
const IMAGES: usize = 64;

/// Prints accuracy with and without an attack, computed once and read back the second time.
pub fn main() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let result = study(folder.path())?;
    println!("clean accuracy {}, under PGD-20 {}", result["clean"], result["robust"]);
    assert_eq!(study(folder.path())?, result, "the second run reads the results of the first");
    assert_eq!((result["clean"].as_f64(), result["robust"].as_f64()), (Some(1.0), Some(0.875)));
    Ok(())
}

/// A graph of two jobs. The key of a job is a hash of all that determines it, its inputs' keys included.
fn study(folder: &std::path::Path) -> anyhow::Result<Value> {
    let spec = |name: &str, kind, config, inputs| Spec {
        name: name.into(),
        stage: Stage { kind, version: 1 },
        seed: 0,
        config,
        inputs,
        seconds: 1.0,
    };
    let mut graph = Graph::default();
    let config = json!({"encoder": "two maps", "weight": 3.0, "steps": 60});
    let trained = graph.add(Job::new(spec("pre-train", "my-pretrain", config, vec![]), |job| {
        let encoder = pretrain(job.seed());
        checkpoint::save(&job.output("encoder.safetensors"), &encoder, &Default::default())?;
        Ok(json!("encoder.safetensors"))
    }));
    let config = json!({"epsilon": 0.18});
    let judged = graph.add(Job::new(spec("judge", "my-robustness", config, vec![trained]), |job| {
        let mut encoder = MyEncoder::new(0);
        checkpoint::load(&job.input(0).folder.join("encoder.safetensors"), &mut encoder)?;
        Ok(judge(&encoder))
    }));

    let runs = Runs::new(folder, "mine");
    let claims = runs.open()?;
    let plan = Plan::new(&graph, &runs);
    let display = Display::lines(&plan, Box::new(std::io::sink()));
    let environment = RunEnvironment { provenance: Value::Null, device: cpu() };
    let (environment, stop) = (&environment, &Stop::default());
    let session = Session { runs: &runs, claims: &claims, environment, stop, display: &display };
    let results = execute(&plan, &session).into_result()?;
    Ok(results[&judged].output.clone())
}

/// NT-Xent of two noisy views, and the regularizer.
fn pretrain(seed: u64) -> MyEncoder {
    let (x, _) = images();
    let regularizer = Regularizer::new(RegularizerConfig { weight: 3.0, ..Default::default() }).unwrap();
    let mut encoder = MyEncoder::new(seed);
    for step in 0..60u64 {
        let mut online = encoder.clone();
        track(&mut online);
        let encode = |x: &Tensor| online.encode(x);
        let [a, b] = ["a", "b"].map(|view| encode(&(&x + &noise(&format!("{view}{step}")).mul_scalar(0.05))));
        let keys: Vec<Key> = (0..IMAGES).map(|i| Key::new(seed).fold(step).fold(i)).collect();
        let attacked = regularizer.attack(&encode, &x, 1.0, &keys);
        let robust = regularizer.value(&encode(&x), &encode(&attacked));
        let loss = &nt_xent(&a, &b, 0.5) + &(&robust * regularizer.weight());

        let values = parameters(&online);
        let gradients = grad(&loss, &values.iter().collect::<Vec<_>>());
        let moved: Vec<Tensor> =
            values.iter().zip(&gradients).map(|(v, g)| &v.detach() - &(g * 0.1)).collect();
        set_parameters(&mut encoder, &moved);
    }
    detach(&mut encoder);
    encoder
}

/// The study's protocol: a linear probe on clean features, then an attack through head and encoder.
fn judge(encoder: &MyEncoder) -> Value {
    let (x, labels) = images();
    let encode = |x: &Tensor| encoder.encode(x);
    let probe = linear_probe(&encode(&x), &labels, 2, &ProbeConfig::default(), Key::new(1));
    let head = probe.expect("finite features of two classes").head;
    let threat = Threat::linf(0.18);
    let config = RobustConfig { threat, pgd: Pgd::usual(&threat, 20), ..RobustConfig::default() };
    let found = robust_accuracy(&encode, &head, &x, &labels, &config, Key::new(2));
    json!({"clean": found.clean_accuracy(), "robust": found.robust_accuracy()})
}

/// `(n, 4, 4, 1)`, brighter on the left or on the right, with noise; the side is the label.
fn images() -> (Tensor, Vec<u32>) {
    let labels: Vec<u32> = (0..IMAGES as u32).map(|i| i % 2).collect();
    let bright = |i: usize, column: usize| if (column < 2) == (labels[i] == 0) { 0.7f32 } else { 0.3 };
    let values: Vec<f32> = (0..IMAGES * PIXELS).map(|at| bright(at / PIXELS, at % 4)).collect();
    let clean = Tensor::new(&cpu(), [IMAGES, 4, 4, 1], &values);
    (&clean + &noise("images").mul_scalar(0.05), labels)
}

fn noise(name: &str) -> Tensor {
    let keys: Vec<Key> = (0..IMAGES).map(|i| Key::new(3).fold(name).fold(i)).collect();
    Tensor::random(&cpu(), Random::Normal, &keys, &[4, 4, 1], DType::F32)
}
