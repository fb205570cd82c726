//! Time of a step in whole trainings: loader, optimizer, records and checkpoints included.

use crate::workloads::BATCH;
use anyhow::Context;
use ndarray::Array4;
use serde_json::{Value, json};
use std::sync::Arc;
use tarrl_benches::encoder_config;
use tarrl_data::Dataset;
use tarrl_encoders::{Arch, Precision};
use tarrl_tensor::{Device, Key};
use tarrl_train::{EpochRecord, Event, Method, Options, Pretraining, TrainConfig};

/// Steps of an epoch.
const STEPS: usize = 20;

/// A method without an attack, one that attacks its views, and the one that the project is about.
fn methods() -> [Value; 3] {
    let simclr = json!({"title": "SimCLR", "views": ["strong", "strong"], "objective": {"kind": "nt-xent"}});
    let attack = json!({"kind": "pgd", "epsilon": 0.03, "steps": 5});
    let [mut acl, mut tarr] = [(); 2].map(|()| simclr.clone());
    acl["title"] = json!("ACL");
    acl["network"] = json!({"batch_norm": "dual", "keeps": "adversarial"});
    acl["adversary"] =
        json!({"attacks": "both", "enters": "second", "branch": "adversarial", "attack": attack});
    tarr["title"] = json!("TARR");
    tarr["regularizer"] = json!({"weight": 1.0, "inner": attack});
    [simclr, acl, tarr]
}

/// What an epoch after the first says, for each method.
pub(crate) fn run(device: &Device, precision: Precision) -> anyhow::Result<Vec<(String, EpochRecord)>> {
    let run = |method: Value| {
        let method: Method = serde_json::from_value(method).context("a method of the checks")?;
        Ok((method.title.clone(), epoch(device, precision, method)?))
    };
    methods().into_iter().map(run).collect()
}

/// Two epochs on noise; the first one makes plans and compiles kernels.
fn epoch(device: &Device, precision: Precision, method: Method) -> anyhow::Result<EpochRecord> {
    let mut noise = Key::new(6).stream();
    let images = Array4::from_shape_simple_fn((STEPS * BATCH, 32, 32, 3), || noise.below(256) as u8);
    let labels = (0..images.dim().0).map(|image| image as u16 % 2).collect();
    let data = Arc::new(Dataset::new("noise", images, labels, vec!["even".into(), "odd".into()]));
    let config = TrainConfig {
        encoder: encoder_config(Arch::ResNet18Cifar),
        epochs: 2,
        batch: BATCH,
        precision,
        ..TrainConfig::new(method)
    };
    let folder = tempfile::tempdir().context("a folder for a training")?;
    let mut last = None;
    Pretraining {
        config: &config,
        data: &data,
        teacher: None,
        start: None,
        device,
        folder: folder.path(),
        options: Options { loader_threads: 4, ..Options::default() },
    }
    .run(&mut |event| {
        if let Event::Epoch(record) = event {
            last = Some((*record).clone());
        }
    })?;
    last.context("the training had no epoch")
}

/// Milliseconds of a step: all of it, waiting for the batch, saving.
pub(crate) fn milliseconds(epoch: &EpochRecord) -> [f64; 3] {
    [epoch.seconds, epoch.waiting, epoch.saving].map(|seconds| 1e3 * seconds / STEPS as f64)
}
