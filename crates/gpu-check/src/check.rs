//! Checks on one GPU (`tarrl gpu-check`): the parts in their order, and the report.

use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use serde_json::{Value, json};
use tarrl_cuda::{Cuda, Gpu};

use crate::progress::show;
use crate::report_writer::ReportWriter;
use crate::{agreement, conformance, measure, pytorch, ranks, replay, steps};
use tarrl_jobs::machine;

/// A part of the check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Every op against a plain evaluation.
    Conformance,
    /// Ops on larger shapes and ten training steps against the CPU, and again.
    Agreement,
    /// Captured functions against the same functions run as they are.
    Replay,
    /// Whole trainings with graphs and without: the same bits, and what the host has to do in a step.
    Steps,
    /// Sums and a training over NCCL, on as many GPUs as there are up to four.
    Ranks,
    /// Kernels and whole steps against the limits of the card, and steps on images from the loader.
    Speed,
    /// The same steps in PyTorch.
    Peers,
}

/// Runs the parts and begins nothing more after `most`; writes `gpu-check.json` and `gpu-check.md` to `out`, if it is given,
/// after every piece.
///
/// # Errors
/// Fails if there is no such GPU, a check fails, or the files cannot be written.
pub fn run(ordinal: usize, parts: &[Part], out: Option<&Path>, most: Duration) -> anyhow::Result<()> {
    let gpu = Cuda::new(ordinal).open().context("gpu-check did not run")?;
    let device = gpu.device();
    show!("   {}; {}", device.name(), versions(&gpu));
    let heading = format!("# The GPU backend on {}\n\n{}.\n", gpu.facts().name, versions(&gpu));
    let mut report = ReportWriter::new(out, &heading, most);
    report
        .put("machine", machine::provenance_on(std::path::Path::new(env!("CARGO_MANIFEST_DIR")), &device))?;
    report.put("gpu", facts(&gpu))?;
    for part in parts {
        match part {
            Part::Conformance => {
                let (mut value, failed) = conformance::run(&device);
                report.fail(failed);
                if gpu.facts().cudnn.is_some() {
                    show!("   the same without cuDNN, convolutions as products of patches:");
                    let plain = Cuda { cudnn: false, ..Cuda::new(ordinal) }.open().context("gpu-check")?;
                    let (patches, failed) = conformance::run(&plain.device());
                    report.fail(
                        failed.into_iter().map(|failure| format!("without cuDNN, {failure}")).collect(),
                    );
                    value["without_cudnn"] = patches;
                }
                report.put("conformance", value)?;
            }
            Part::Agreement => {
                let (value, failed) = agreement::run(&device);
                report.fail(failed);
                report.put("agreement", value)?;
            }
            Part::Replay => {
                let (value, failed) = replay::run(&device);
                report.fail(failed);
                report.put("replay", value)?;
            }
            Part::Steps => {
                let (value, failed) = steps::run(&gpu)?;
                report.fail(failed);
                report.put("steps", value)?;
            }
            Part::Ranks => {
                let (value, failed) = ranks::run(ordinal)?;
                report.fail(failed);
                report.put("ranks", value)?;
            }
            Part::Speed => measure::run(&gpu, &mut report)?,
            Part::Peers => pytorch::run(&mut report)?,
        }
    }
    report.put("gpu", facts(&gpu))?;
    report.put("convolutions", json!(gpu.convolutions()))?;
    report.finish()
}

fn versions(gpu: &Gpu) -> String {
    let facts = gpu.facts();
    format!(
        "{}, {} multiprocessors, {:.0} GiB; driver for CUDA {}, NVRTC {}, cuBLAS {}, {}",
        facts.arch,
        facts.processors,
        facts.memory as f64 / f64::from(1 << 30),
        facts.driver,
        facts.nvrtc,
        facts.cublas,
        facts.cudnn.as_ref().map_or("no cuDNN".to_owned(), |version| format!("cuDNN {version}"))
    )
}

fn facts(gpu: &Gpu) -> Value {
    let f = gpu.facts();
    json!({
        "name": f.name, "arch": f.arch, "processors": f.processors, "memory": f.memory, "driver": f.driver,
        "nvrtc": f.nvrtc, "cublas": f.cublas, "cudnn": f.cudnn, "peak_memory": gpu.peak_memory(),
    })
}
