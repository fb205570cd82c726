//! PyTorch on the same steps, on the same card in the same run.

use serde_json::{Value, json};
use tarrl_benches::Workload;
use tarrl_encoders::{Arch, Precision};

use crate::report_writer::ReportWriter;
use crate::workloads::{BATCH, STEPS, title};
use tarrl_benches::peers::{torch_has_gpu, torch_on_gpu};

/// PyTorch as anybody would write it, in the layout and type that suit the card, and compiled: beside our step in the
/// same type.
const SETTINGS: [(&str, [&str; 2], Precision); 3] = [
    ("compiled channels-last bf16", ["compiled", "bf16"], Precision::Bf16),
    ("channels-last bf16", ["tuned", "bf16"], Precision::Bf16),
    ("eager f32", ["eager", "f32"], Precision::F32),
];

/// Runs PyTorch as long as there is time, and puts its time over ours: above 1 we are faster.
pub(crate) fn run(report: &mut ReportWriter<'_>) -> anyhow::Result<()> {
    if !torch_has_gpu() {
        report.line("\nNot compared with PyTorch: it is not installed here with CUDA.");
        return report.put("peers", Value::Null);
    }
    report.line("\n| step | PyTorch | ms | over ours |\n|---|---|---:|---:|");
    for activity in STEPS {
        for (name, setting, precision) in SETTINGS {
            let workload = Workload { activity, arch: Arch::ResNet18Cifar };
            if report.left().is_zero() {
                report.line(&format!("| {workload} | {name} | no time was left | |"));
                continue;
            }
            let entry = match torch_on_gpu(workload, BATCH, setting, report.left()) {
                Ok(seconds) => {
                    let ours = report.milliseconds(&title(workload, precision));
                    let ratio = ours.map(|ours| 1e3 * seconds / ours);
                    let shown = ratio.map_or("–".to_owned(), |ratio| format!("{ratio:.2}"));
                    report.line(&format!("| {workload} | {name} | {:.1} | {shown} |", 1e3 * seconds));
                    json!({"workload": workload.to_string(), "setting": name, "ms": 1e3 * seconds, "over_ours": ratio})
                }
                // PyTorch's trouble is no reason to lose our own figures.
                Err(error) => {
                    report.line(&format!("| {workload} | {name} | failed: {error:#} | |"));
                    json!({"workload": workload.to_string(), "setting": name, "error": format!("{error:#}")})
                }
            };
            report.add("peers", entry)?;
        }
    }
    Ok(())
}
