//! Training steps as captured graphs and op by op: the same bits, and how many driver calls and waits each takes.

use crate::progress::show;
use anyhow::Context;
use ndarray::Array4;
use serde_json::{Value, json};
use std::sync::Arc;
use tarrl_cuda::{CallCounts, Cuda, Gpu};
use tarrl_data::Dataset;
use tarrl_encoders::{Arch, EncoderConfig};
use tarrl_tensor::{Device, Key, cpu};
use tarrl_train::{Event, Method, Options, Pretraining, TrainConfig};

/// Images of a step, their side, and steps; the emulator takes some seconds for each training.
const BATCH: usize = 4;
const SIDE: usize = 8;
const STEPS: usize = 7;
/// The first step runs as it is, the second is captured, the third is the first that is queued as a whole; the last one of an
/// epoch records more metrics.
const COUNTED: std::ops::Range<usize> = 2..STEPS - 1;
/// What the loss of the first step may differ by from the CPU's, relative to the largest; later ones by a hundred times as
/// much, because normalizing over so few images turns roundings of the parameters into more.
const APART: f64 = 1e-4;

/// The results of a training.
struct Training {
    losses: Vec<f64>,
    encoder: Vec<u8>,
    /// Of a step, on a GPU.
    calls: CallCounts,
}

/// Runs all and prints a line for each method. `failures` is empty if all is well.
pub(crate) fn run(gpu: &Gpu) -> anyhow::Result<(Value, Vec<String>)> {
    let plain = Cuda { graphs: false, ..Cuda::new(gpu.facts().ordinal) }.open().context("gpu-check")?;
    let (mut rows, mut failures) = (Vec::new(), Vec::new());
    for method in methods() {
        let method: Method = serde_json::from_value(method).context("a method of the checks")?;
        let title = method.title.clone();
        let whole = train(&gpu.device(), Some(gpu), &method)?;
        let op_by_op = train(&plain.device(), Some(&plain), &method)?;
        let on_cpu = train(&cpu(), None, &method)?;
        let (steps, one) = (COUNTED.len() as u64, |count: u64| count / COUNTED.len() as u64);
        show!(
            "   a step of {title}: {} calls of the driver and {} waits, as one graph {} and {}",
            one(op_by_op.calls.calls),
            one(op_by_op.calls.waits),
            one(whole.calls.calls),
            one(whole.calls.waits)
        );
        let mut require = |well: bool, what: &str| {
            if !well {
                failures.push(format!("steps of {title}: {what}"));
            }
        };
        require(whole.calls.replays == steps, "not every step after the second was queued as a whole");
        require(
            [&whole, &op_by_op].iter().all(|training| training.calls.waits == steps),
            "a step waits more than once",
        );
        require(whole.encoder == op_by_op.encoder, "with graphs the bits are others");
        let largest = on_cpu.losses.iter().fold(0f64, |top, loss| top.max(loss.abs()));
        let off: Vec<f64> =
            whole.losses.iter().zip(&on_cpu.losses).map(|(a, b)| (a - b).abs() / largest).collect();
        let near = off[0] <= APART && off.iter().all(|&off| off <= APART * 100.0);
        require(near, &format!("losses differ from the CPU's by {off:?} of the largest"));
        let counted = |calls: CallCounts| {
            json!({
                "calls": one(calls.calls), "uploads": one(calls.uploads), "waits": one(calls.waits),
                "replays": one(calls.replays),
            })
        };
        rows.push(json!({"method": title, "op_by_op": counted(op_by_op.calls), "as_one_graph": counted(whole.calls)}));
    }
    Ok((json!({"methods": rows, "failures": failures}), failures))
}

/// One without anything, an attack on R, an attack on the objective with two sets of statistics, a network that follows, and
/// one attack for the objective and R.
fn methods() -> [Value; 5] {
    let attack = json!({"kind": "pgd", "epsilon": 0.03, "steps": 3});
    let projector = json!({"hidden": 16, "out": 8, "layers": 2});
    let simclr = json!({
        "title": "SimCLR", "views": ["strong", "strong"], "objective": {"kind": "nt-xent"}, "projector": projector,
    });
    let [mut tarr, mut acl, mut byol, mut shared] = [(); 4].map(|()| simclr.clone());
    tarr["title"] = json!("TARR");
    tarr["regularizer"] = json!({"weight": 1.0, "inner": attack});
    acl["title"] = json!("ACL");
    acl["network"] = json!({"batch_norm": "dual", "keeps": "adversarial"});
    acl["adversary"] = json!({
        "ascends": "objective", "attacks": "both", "enters": "second", "branch": "adversarial", "attack": attack,
    });
    byol["title"] = json!("BYOL");
    byol["objective"] = json!({"kind": "byol"});
    byol["network"] = json!({"predictor": {"hidden": 16}, "momentum": {"start": 0.99, "end": 1.0}});
    shared["title"] = json!("TARR, shared attack");
    shared["adversary"] =
        json!({"ascends": "objective", "attacks": "both", "enters": "replace", "attack": attack});
    shared["regularizer"] = json!({"weight": 1.0, "anchor": "strong", "inner": {"kind": "adversary"}});
    [simclr, tarr, acl, byol, shared]
}

/// An epoch of a narrow ResNet-18, whose layers are as many as those of a wide one.
fn train(device: &Device, gpu: Option<&Gpu>, method: &Method) -> anyhow::Result<Training> {
    let mut noise = Key::new(7).stream();
    let images = Array4::from_shape_simple_fn((STEPS * BATCH, SIDE, SIDE, 3), || noise.below(256) as u8);
    let labels = (0..STEPS * BATCH).map(|image| image as u16 % 2).collect();
    let data = Arc::new(Dataset::new("noise", images, labels, vec!["even".into(), "odd".into()]));
    let encoder =
        EncoderConfig { arch: Arch::ResNet18Cifar, width: 0.125, in_channels: 3, ..EncoderConfig::default() };
    let config = TrainConfig { encoder, epochs: 1, batch: BATCH, ..TrainConfig::new(method.clone()) };
    let folder = tempfile::tempdir().context("a folder for a training")?;
    let (mut losses, mut counts) = (Vec::new(), Vec::new());
    Pretraining {
        config: &config,
        data: &data,
        teacher: None,
        start: None,
        device,
        folder: folder.path(),
        // A slow machine would otherwise write checkpoints in the steps that are counted, and wait for them.
        options: Options { checkpoint_every_seconds: None, ..Options::default() },
    }
    .run(&mut |event| {
        if let Event::Stepped { record, .. } = event {
            losses.push(record.loss);
            counts.push(gpu.map(Gpu::call_counts).unwrap_or_default());
        }
    })?;
    let encoder = std::fs::read(folder.path().join("encoder.safetensors")).context("the trained encoder")?;
    Ok(Training { losses, encoder, calls: counts[COUNTED.end - 1] - counts[COUNTED.start - 1] })
}
