//! `cargo xtask gpu-check`: all parts on one GPU, and the files about it.

use std::fs;
use std::path::Path;

use anyhow::{Context, bail};
use serde_json::{Map, Value, json};
use tarrl_cuda::{Cuda, Gpu};

use super::{agreement, conformance, measure};
use crate::commands::gpu_check::Part;
use crate::{machine, workspace_root};

/// Runs the parts, and writes `gpu-check.json` and `gpu-check.md` to `out` if it is given.
pub(crate) fn run(ordinal: usize, parts: &[Part], out: Option<&Path>) -> anyhow::Result<()> {
    let gpu = Cuda::new(ordinal).open().context("gpu-check did not run")?;
    let device = gpu.device();
    println!("   {}; {}", device.name(), versions(&gpu));
    let mut report = Map::new();
    let mut table = format!("# The GPU backend on {}\n\n{}.\n\n", gpu.facts().name, versions(&gpu));
    let mut failures = Vec::new();
    for part in parts {
        let (name, value) = match part {
            Part::Conformance => {
                let (mut value, failed) = conformance::run(&device);
                failures.extend(failed);
                if gpu.facts().cudnn.is_some() {
                    println!("   the same without cuDNN, convolutions as products of patches:");
                    let plain = Cuda { cudnn: false, ..Cuda::new(ordinal) }.open().context("gpu-check")?;
                    let (patches, failed) = conformance::run(&plain.device());
                    failures.extend(failed.into_iter().map(|failure| format!("without cuDNN, {failure}")));
                    value["without_cudnn"] = patches;
                }
                ("conformance", value)
            }
            Part::Agreement => {
                let (value, failed) = agreement::run(&device);
                failures.extend(failed);
                ("agreement", value)
            }
            Part::Speed => {
                let (lines, value) = measure::run(&gpu)?;
                println!("{lines}");
                table += &lines;
                ("speed", value)
            }
        };
        report.insert(name.to_owned(), value);
    }
    report.insert("failures".into(), json!(failures));
    report.insert("machine".into(), machine::provenance(workspace_root(), &device.name()));
    report.insert("gpu".into(), facts(&gpu));
    table += &match failures.len() {
        0 => "\nEvery check passed.\n".to_owned(),
        n => format!("\n{n} checks FAILED:\n\n- {}\n", failures.join("\n- ")),
    };
    if let Some(out) = out {
        write(out, &Value::Object(report), &table)?;
    }
    for failure in &failures {
        println!("   FAILED: {failure}");
    }
    if failures.is_empty() { Ok(()) } else { bail!("{} checks failed; see above", failures.len()) }
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

fn write(out: &Path, report: &Value, table: &str) -> anyhow::Result<()> {
    fs::create_dir_all(out).with_context(|| format!("cannot make {}", out.display()))?;
    for (name, text) in
        [("gpu-check.json", serde_json::to_string_pretty(report)?), ("gpu-check.md", table.to_owned())]
    {
        let path = out.join(name);
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        println!("   wrote {}", path.display());
    }
    Ok(())
}
