//! Every method file on small synthetic images: it trains, and resumes to the same bits after it was killed.

mod common;

use common::images;
use std::fs;
use std::path::{Path, PathBuf};
use tarrl_encoders::checkpoint::load_encoder;
use tarrl_encoders::{BatchNormMode, BnBranch, Encoder, EncoderConfig, Module, ProjectorConfig, parameters};
use tarrl_tensor::{Cpu, Device, Key};
use tarrl_train::{EpochRecord, Finish, Method, Options, Pretraining, Record, TrainConfig};

fn files() -> Vec<PathBuf> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../experiments/methods");
    let mut files: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

/// Three steps of 80 images for each of two epochs.
fn config(mut method: Method) -> TrainConfig {
    method.projector = ProjectorConfig { hidden: 16, out: 8, ..method.projector };
    if let Some(predictor) = &mut method.network.predictor {
        predictor.hidden = 4;
    }
    if let Some(labels) = &mut method.pseudo_labels {
        labels.clusters = vec![2, 5];
    }
    let encoder = EncoderConfig { width: 0.125, ..EncoderConfig::default() };
    TrainConfig { encoder, epochs: 2, batch: 80, warmup_epochs: 0.5, seed: 3, ..TrainConfig::new(method) }
}

/// Any encoder can teach, and be a start.
fn encoder(name: Option<&String>, config: &TrainConfig, device: &Device) -> Option<Encoder> {
    name.map(|_| Encoder::new(&config.encoder, device, Key::new(8)))
}

fn run(config: &TrainConfig, folder: &Path, threads: usize, options: Options) -> Finish {
    let (data, device) = (images(), Cpu { threads, ..Cpu::default() }.open());
    let teacher = encoder(config.method.teacher.as_ref(), config, &device);
    let start = encoder(config.method.start.as_ref(), config, &device);
    let (teacher, start) = (teacher.as_ref(), start.as_ref());
    let training = Pretraining { config, data: &data, teacher, start, device: &device, folder, options };
    training.run(&mut |_| {}).unwrap()
}

fn bytes(folder: &Path) -> [blake3::Hash; 2] {
    ["checkpoint.safetensors", "encoder.safetensors"]
        .map(|file| blake3::hash(&fs::read(folder.join(file)).unwrap()))
}

fn epochs(folder: &Path) -> Vec<EpochRecord> {
    let text = fs::read_to_string(folder.join("metrics.jsonl")).unwrap();
    let records = text.lines().map(|line| serde_json::from_str(line).unwrap());
    records.filter_map(|record| if let Record::Epoch(epoch) = record { Some(epoch) } else { None }).collect()
}

/// Trains without interruption, and again killed after a step that no checkpoint holds, and compares the results.
fn trains_and_resumes(name: &str, config: &TrainConfig) {
    let (whole, parts) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    assert!(matches!(run(config, whole.path(), 1, Options::default()), Finish::Trained(_)), "{name}");
    let killed = Options { checkpoint_every_steps: Some(2), stop_after_steps: Some(5), ..Options::default() };
    assert!(matches!(run(config, parts.path(), 2, killed), Finish::Stopped { step: 5 }), "{name}");
    run(config, parts.path(), 2, Options::default());
    assert_eq!(bytes(whole.path()), bytes(parts.path()), "{name}");
    for epoch in epochs(whole.path()) {
        assert!(epoch.loss.is_finite() && (0.0..=1.0).contains(&epoch.knn), "{name}: {epoch:?}");
        // Three steps of 80 images.
        let counted = [epoch.forward, epoch.backward].map(|count| count as f64 / 240.0);
        assert_eq!(counted, config.method.passes(), "{name}");
    }
    // The result is an encoder with one set of statistics.
    let device = Cpu::default().open();
    let kept = load_encoder(&whole.path().join("encoder.safetensors"), &device).unwrap();
    assert_eq!((kept.dim(), kept.config().norm), (16, BatchNormMode::Single), "{name}");
}

#[test]
fn every_method_file_trains_and_resumes_to_the_same_bits() {
    for file in files() {
        let name = file.file_stem().unwrap().to_string_lossy().into_owned();
        trains_and_resumes(&name, &config(Method::read(&file).unwrap()));
    }
}

#[test]
fn parts_without_a_method_file_train_and_resume_to_the_same_bits() {
    let momentum = "network = { momentum = { start = 0.9 } }";
    let predicted = "network = { predictor = {}, momentum = {} }";
    for (objective, rest) in [
        ("'dino', prototypes = 6", momentum),
        ("'swav', prototypes = 6", ""),
        ("'w-mse', block = 20", ""),
        ("'supcon'", ""),
        ("'moco-v3'", predicted),
        ("'moco-v2', queue = 200", momentum),
        ("'nt-xent'", "[adversary]\nascends = 'representation'"),
        ("'supcon'", "[adversary]\nattacks = 'both'\nenters = 'second'"),
        ("'nt-xent'", "network = { average = 0.5 }"),
        (
            "'nt-xent'",
            "noise = { sigma = 0.5, unit = 'fixed' }\n[adversary]\nattacks = 'both'\nenters = 'second'",
        ),
        ("'byol'", "noise = { sigma = 0.5 }\nnetwork = { predictor = {}, momentum = {} }"),
        ("'nt-xent'", "[adversary]\nattacks = 'clean'\nenters = 'third'\nmode = 'train'"),
        (
            "'nt-xent'",
            "[adversary]\nattacks = 'clean'\nenters = 'third'\n[regularizer]\nramp = 0.5\nweight_ramp = 0.5\n\
             inner = { kind = 'adversary' }",
        ),
    ] {
        let text = format!(
            "title = 't'\nviews = ['strong', 'strong']\nobjective = {{ kind = {objective} }}\n{rest}"
        );
        let method: Method = toml::from_str(&text).unwrap_or_else(|error| panic!("{text}: {error}"));
        trains_and_resumes(objective, &config(method));
    }
}

/// An encoder in evaluation mode differs between the two sets of statistics; the file decides which one is kept.
#[test]
fn the_kept_statistics_are_those_that_the_file_names() {
    let method = |keeps: BnBranch| {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../experiments/methods");
        let mut method = Method::read(&Path::new(folder).join("acl.toml")).unwrap();
        method.network.keeps = Some(keeps);
        config(method)
    };
    let [clean, adversarial] = [BnBranch::Clean, BnBranch::Adversarial].map(|keeps| {
        let folder = tempfile::tempdir().unwrap();
        let Finish::Trained(trained) = run(&method(keeps), folder.path(), 1, Options::default()) else {
            panic!("nothing stopped it")
        };
        let mut found = Vec::new();
        trained.encoder.visit(&mut |name, _, tensor| found.push((name.to_string(), tensor.array().to_f64())));
        found
    });
    for ((name, a), (_, b)) in clean.iter().zip(&adversarial) {
        let shared = name.starts_with("conv") || name.ends_with("num_batches_tracked");
        assert_eq!(a == b, shared, "{name}");
    }
}

/// A checkpoint is bound to the encoders that it was trained with.
#[test]
fn a_checkpoint_of_another_teacher_or_start_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let methods = concat!(env!("CARGO_MANIFEST_DIR"), "/../../experiments/methods");
    let config = config(Method::read(&Path::new(methods).join("deacl.toml")).unwrap());
    run(&config, folder.path(), 1, Options::default());
    let (data, device) = (images(), Cpu::default().open());
    let [same, other] = [8, 9].map(|key| Encoder::new(&config.encoder, &device, Key::new(key)));
    let refused = |teacher, start, reason: &str| {
        let (folder, options) = (folder.path(), Options::default());
        let training =
            Pretraining { config: &config, data: &data, teacher, start, device: &device, folder, options };
        let found = training.run(&mut |_| {}).unwrap_err().to_string();
        assert!(found.contains(reason), "{found}");
    };
    refused(Some(&other), Some(&same), "written with another teacher");
    refused(Some(&same), Some(&other), "written with another start");
    refused(None, Some(&same), "learns from an encoder; train the method `simclr` first");
    refused(Some(&same), None, "starts from an encoder; train the method `simclr` first");
    let wide = EncoderConfig { width: 0.25, ..config.encoder.clone() };
    let wide = Encoder::new(&wide, &device, Key::new(8));
    refused(Some(&same), Some(&wide), "an encoder of another configuration");
}

/// Steps that are too short to be seen: the result says where training began.
#[test]
fn a_started_encoder_begins_with_the_weights_of_its_start() {
    let text =
        "title = 't'\nviews = ['strong', 'strong']\nobjective = { kind = 'nt-xent' }\nstart = 'simclr'";
    let dual = "[network]\nbatch_norm = 'dual'\n[adversary]\nenters = 'second'\nbranch = 'adversarial'";
    for rest in ["", dual] {
        let method: Method = toml::from_str(&format!("{text}\n{rest}")).unwrap();
        let optimizer = toml::from_str("kind = 'sgd'\nlr = 1e-20").unwrap();
        let config = TrainConfig { optimizer, ..config(method) };
        let (folder, device) = (tempfile::tempdir().unwrap(), Cpu::default().open());
        let Finish::Trained(trained) = run(&config, folder.path(), 1, Options::default()) else {
            panic!("nothing stopped it")
        };
        let values = |encoder: &Encoder| {
            let found = parameters(encoder);
            found.iter().map(|tensor| tensor.array().to_f64()).collect::<Vec<_>>()
        };
        let start = Encoder::new(&config.encoder, &device, Key::new(8));
        let (found, expected) = (values(&trained.encoder), values(&start));
        for (found, expected) in found.iter().flatten().zip(expected.iter().flatten()) {
            // Weights of 0 move by the step, others by less than their rounding.
            assert!((found - expected).abs() < 1e-15, "{rest}: {found} but {expected}");
        }
    }
}

/// After one step the average is a tenth of the start and nine tenths of the encoder of that step.
#[test]
fn the_average_of_one_step_is_between_the_start_and_the_last_encoder() {
    let trained = |network: &str| {
        let text = format!(
            "title = 't'\nviews = ['strong', 'strong']\nobjective = {{ kind = 'nt-xent' }}\nstart = 'simclr'\n{network}"
        );
        let config =
            TrainConfig { epochs: 1, batch: 256, ..config(toml::from_str(&text).expect("a method")) };
        let folder = tempfile::tempdir().unwrap();
        match run(&config, folder.path(), 1, Options::default()) {
            Finish::Trained(trained) => (trained.encoder, config),
            Finish::Stopped { .. } => panic!("nothing stopped it"),
        }
    };
    let ((last, config), (average, _)) = (trained(""), trained("network = { average = 0.9 }"));
    let start = Encoder::new(&config.encoder, &Cpu::default().open(), Key::new(8));
    let tensors = |encoder: &Encoder| {
        let mut found = Vec::new();
        encoder.visit(&mut |name, _, tensor| {
            // Counts of batches are copied.
            if !name.ends_with("num_batches_tracked") {
                found.extend(tensor.array().to_f64());
            }
        });
        found
    };
    let (start, last, average) = (tensors(&start), tensors(&last), tensors(&average));
    for ((start, last), average) in start.iter().zip(&last).zip(&average) {
        let expected = 0.1 * start + 0.9 * last;
        assert!((average - expected).abs() <= 1e-6 * (start.abs() + last.abs()), "{average} but {expected}");
    }
    assert!(start != last && average != last);
}
