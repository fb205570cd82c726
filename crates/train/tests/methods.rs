//! Every method file of the project on small synthetic images: it trains, it is killed, it goes on to the same bits.

mod common;

use common::images;
use std::fs;
use std::path::{Path, PathBuf};
use tarrl_encoders::checkpoint::load_encoder;
use tarrl_encoders::{Encoder, EncoderConfig, ProjectorConfig};
use tarrl_tensor::{Cpu, Device, Key};
use tarrl_train::{EpochRecord, Finish, Method, Options, Pretraining, Record, TrainConfig};

fn files() -> Vec<PathBuf> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../experiments/methods");
    let mut files: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

/// Three steps of 64 images for each of two epochs.
fn config(file: &Path) -> TrainConfig {
    let mut method = Method::read(file).unwrap();
    method.projector = ProjectorConfig { hidden: 16, out: 8, ..method.projector };
    if let Some(predictor) = &mut method.network.predictor {
        *predictor = ProjectorConfig { hidden: 4, out: 8, ..*predictor };
    }
    if let Some(labels) = &mut method.pseudo_labels {
        labels.clusters = vec![2, 5];
    }
    let encoder = EncoderConfig { width: 0.125, ..EncoderConfig::default() };
    TrainConfig { encoder, epochs: 2, batch: 80, warmup_epochs: 0.5, seed: 3, ..TrainConfig::new(method) }
}

/// Any encoder can teach.
fn teacher(config: &TrainConfig, device: &Device) -> Option<Encoder> {
    config.method.teacher.as_ref().map(|_| Encoder::new(&config.encoder, device, Key::new(8)))
}

fn run(config: &TrainConfig, folder: &Path, threads: usize, options: Options) -> Finish {
    let (data, device) = (images(), Cpu { threads, ..Cpu::default() }.open());
    let teacher = teacher(config, &device);
    let teacher = teacher.as_ref();
    Pretraining { config, data: &data, teacher, device: &device, folder, options }.run(&mut |_| {}).unwrap()
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

#[test]
fn every_method_trains_and_goes_on_to_the_same_bits() {
    for file in files() {
        let (whole, parts) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let config = config(&file);
        let name = file.file_stem().unwrap().to_string_lossy().into_owned();
        assert!(matches!(run(&config, whole.path(), 1, Options::default()), Finish::Trained(_)), "{name}");
        let killed =
            Options { checkpoint_every_steps: Some(2), stop_after_steps: Some(5), ..Options::default() };
        assert!(matches!(run(&config, parts.path(), 2, killed), Finish::Stopped { step: 5 }), "{name}");
        run(&config, parts.path(), 2, Options::default());
        assert_eq!(bytes(whole.path()), bytes(parts.path()), "{name}");

        let records = epochs(whole.path());
        for epoch in &records {
            assert!(epoch.loss.is_finite() && (0.0..=1.0).contains(&epoch.knn), "{name}: {epoch:?}");
            // Three steps of 80 images.
            let counted = [epoch.forward, epoch.backward].map(|count| count as f64 / 240.0);
            assert_eq!(counted, config.method.passes(), "{name}");
        }
        // What is left is an encoder with one set of statistics that anybody can read.
        let device = Cpu::default().open();
        let kept = load_encoder(&whole.path().join("encoder.safetensors"), &device).unwrap();
        assert_eq!(kept.dim(), 16, "{name}");
    }
}
