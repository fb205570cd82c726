//! The speed of kernels and whole steps beside what the card can do at most, and beside PyTorch.

use std::time::Instant;

use serde_json::{Value, json};
use tarrl_benches::{Activity, Step, Workload, median, time, uniform};
use tarrl_cuda::{Gpu, Limits};
use tarrl_encoders::Arch;
use tarrl_tensor::{BatchNorm, Conv, Key, Norm, Recording, Tensor, pull_back};

use crate::commands::peers;

/// Images of a step.
const BATCH: usize = 512;
/// Runs of a kernel that are timed together.
const RUNS: usize = 20;

/// A line of the table: what, its speed, and the share of the limit that it reaches.
struct Row {
    what: String,
    milliseconds: f64,
    speed: f64,
    unit: &'static str,
    share: f64,
    note: String,
}

/// Measures everything; the table as Markdown, and the same as JSON.
pub(crate) fn run(gpu: &Gpu) -> anyhow::Result<(String, Value)> {
    let limits = Limits::measure(gpu);
    let mut rows = kernels(gpu, &limits);
    for activity in [Activity::Forward, Activity::InputGrad, Activity::Train, Activity::SslStep] {
        rows.push(step(gpu, Workload { activity, arch: Arch::ResNet18Cifar }, &limits)?);
    }
    let Limits { copy_gb_per_s, f32_gflops, tf32_gflops, bf16_gflops } = limits;
    let mut table = format!(
        "Limits measured in the same run: copy {copy_gb_per_s:.0} GB/s, products {f32_gflops:.0} GFLOP/s in f32, \
         {tf32_gflops:.0} in TF32, {bf16_gflops:.0} in bf16.\n\n\
         | what | ms | speed | share of the limit | note |\n|---|---:|---:|---:|---|\n"
    );
    let mut json = Vec::new();
    for Row { what, milliseconds, speed, unit, share, note } in rows {
        table += &format!(
            "| {what} | {milliseconds:.3} | {speed:.0} {unit} | {:.0} % | {note} |\n",
            100.0 * share
        );
        json.push(json!({
            "what": what, "ms": milliseconds, "speed": speed, "unit": unit, "share": share, "note": note,
        }));
    }
    let limits = json!({
        "copy_gb_per_s": copy_gb_per_s, "f32_gflops": f32_gflops, "tf32_gflops": tf32_gflops,
        "bf16_gflops": bf16_gflops,
    });
    Ok((table, json!({"limits": limits, "rows": json, "peak_memory": gpu.peak_memory()})))
}

fn kernels(gpu: &Gpu, limits: &Limits) -> Vec<Row> {
    let device = gpu.device();
    let draw = |name: &str, shape: &[usize]| uniform(&device, shape, Key::new(9).fold(name)).add_scalar(-0.5);
    let shape = [BATCH, 32, 32, 64];
    let bytes = 4.0 * shape.iter().product::<usize>() as f64;
    let x = draw("x", &shape).tracked();
    let plain = x.detach();
    let other = draw("other", &shape);
    let (weight, bias) = (draw("weight", &[64]).tracked(), draw("bias", &[64]).tracked());
    let taps = draw("taps", &[3, 3, 64, 64]).tracked();
    let frozen = taps.detach();
    let norm = Norm { eps: 1e-5, relu: true };
    let BatchNorm { y: normed, .. } = x.batch_norm(&weight, &bias, norm);
    let conv = Conv { stride: 1, pad: 1, groups: 1 };
    let (by_input, by_weight) = (x.conv2d(&frozen, conv), plain.conv2d(&taps, conv));
    let macs = (BATCH * 32 * 32) as f64 * 9.0 * 64.0 * 64.0;
    let memory = |what: &str, passes: f64, f: &dyn Fn() -> Tensor| {
        let seconds = seconds(gpu, f);
        let speed = passes * bytes / seconds / 1e9;
        row(what, seconds, speed, "GB/s", speed / limits.copy_gb_per_s)
    };
    let product = |what: &str, f: &dyn Fn() -> Tensor| {
        let seconds = seconds(gpu, f);
        let speed = 2.0 * macs / seconds / 1e9;
        row(what, seconds, speed, "GFLOP/s", speed / limits.f32_gflops)
    };
    vec![
        memory("ReLU", 2.0, &|| plain.relu()),
        memory("sum of two", 3.0, &|| &plain + &other),
        memory("sum of rows", 1.0, &|| plain.reshape([BATCH, 65536]).sum(1)),
        memory("sum of columns", 1.0, &|| plain.reshape([BATCH * 1024, 64]).sum(0)),
        memory("batch norm and ReLU", 3.0, &|| plain.batch_norm(&weight, &bias, norm).y),
        memory("its adjoint", 5.0, &|| pull_back(&normed, &other, &[&x], Recording::Off).remove(0)),
        product("convolution 3×3, 64 channels", &|| plain.conv2d(&frozen, conv)),
        product("its adjoint in the input", &|| {
            pull_back(&by_input, &other, &[&x], Recording::Off).remove(0)
        }),
        product("its adjoint in the weights", &|| {
            pull_back(&by_weight, &other, &[&taps], Recording::Off).remove(0)
        }),
    ]
}

fn row(what: &str, seconds: f64, speed: f64, unit: &'static str, share: f64) -> Row {
    Row { what: what.to_owned(), milliseconds: 1e3 * seconds, speed, unit, share, note: String::new() }
}

/// Seconds of one of many runs that are queued together; the results of all are kept out of the way.
fn seconds(gpu: &Gpu, f: &dyn Fn() -> Tensor) -> f64 {
    drop(f());
    gpu.synchronize();
    let clock = Instant::now();
    for _ in 0..RUNS {
        drop(f());
    }
    gpu.synchronize();
    clock.elapsed().as_secs_f64() / RUNS as f64
}

/// A whole step, ended by reading a result, and PyTorch's best settings on the same card if it is installed.
fn step(gpu: &Gpu, workload: Workload, limits: &Limits) -> anyhow::Result<Row> {
    let mut step = Step::new(workload, BATCH, &gpu.device());
    time(&mut step, 2);
    let mut once = || {
        gpu.synchronize();
        let clock = Instant::now();
        drop(step.run());
        gpu.synchronize();
        clock.elapsed().as_secs_f64()
    };
    let seconds = median(&(0..7).map(|_| once()).collect::<Vec<_>>());
    let speed = step.flops() as f64 / seconds / 1e9;
    let mut row = row(
        &format!("{workload}, {BATCH} images, f32"),
        seconds,
        speed,
        "GFLOP/s",
        speed / limits.f32_gflops,
    );
    let mut notes = Vec::new();
    for (name, setting, dtype) in [
        ("eager f32", "eager", "f32"),
        ("channels-last bf16", "tuned", "bf16"),
        ("compiled channels-last bf16", "compiled", "bf16"),
    ] {
        match peers::torch_on_gpu(workload, BATCH, setting, dtype) {
            Ok(Some(theirs)) => notes.push(format!("PyTorch {name} {:.1} ms", 1e3 * theirs)),
            Ok(None) => {
                notes.push("PyTorch with CUDA is not installed here".to_owned());
                break;
            }
            // PyTorch's trouble is no reason to lose our own figures.
            Err(error) => notes.push(format!("PyTorch {name} failed: {error:#}")),
        }
    }
    row.note = notes.join("; ");
    Ok(row)
}
