//! Speed of kernels and whole steps as shares of the card's measured limits, and what loading adds to a step.

use std::sync::Arc;
use std::time::Instant;

use anyhow::Context;
use ndarray::Array4;
use serde_json::json;
use tarrl_benches::{Activity, Step, Workload, encoder_config, median, time, uniform};
use tarrl_cuda::{Cuda, Gpu, Limits};
use tarrl_data::{Dataset, Loader, LoaderConfig};
use tarrl_encoders::{Arch, Encoder, Precision};
use tarrl_tensor::{BatchNorm, CapturedFn, Conv, Device, Key, Norm, Recording, Tensor, value_and_grad, vjp};

use crate::report_writer::ReportWriter;
use crate::trainer;
use crate::workloads::{BATCH, STEPS, title, title_of};

/// Runs of a kernel that are timed together.
const RUNS: usize = 20;

/// A line of the table: what, its speed, and the share of the limit that it reaches.
struct Row {
    what: String,
    milliseconds: f64,
    speed: f64,
    unit: &'static str,
    share: f64,
}

/// Measures limits, kernels and steps, one after the other as long as there is time.
pub(crate) fn run(gpu: &Gpu, report: &mut ReportWriter<'_>) -> anyhow::Result<()> {
    let limits = Limits::measure(gpu);
    let Limits { copy_gb_per_s, f32_gflops, tf32_gflops, bf16_gflops } = limits;
    report.line(&format!(
        "Limits measured in the same run: copy {copy_gb_per_s:.0} GB/s, products {f32_gflops:.0} GFLOP/s in f32, \
         {tf32_gflops:.0} in TF32, {bf16_gflops:.0} in bf16.\n"
    ));
    report.put(
        "limits",
        json!({
            "copy_gb_per_s": copy_gb_per_s, "f32_gflops": f32_gflops, "tf32_gflops": tf32_gflops,
            "bf16_gflops": bf16_gflops,
        }),
    )?;
    report.line("| what | ms | speed | share of the limit |\n|---|---:|---:|---:|");
    for precision in precisions(&gpu.device()) {
        for activity in STEPS {
            if !report.left().is_zero() {
                let workload = Workload { activity, arch: Arch::ResNet18Cifar };
                put(report, step(gpu, workload, precision, &limits))?;
            }
        }
    }
    if !report.left().is_zero() {
        let quickest = precisions(&gpu.device()).next().expect("every device computes in f32");
        replays(gpu, quickest, &limits).into_iter().try_for_each(|row| put(report, row))?;
    }
    if !report.left().is_zero() {
        kernels(gpu, &limits).into_iter().try_for_each(|row| put(report, row))?;
    }
    if report.left().is_zero() {
        report.line("\nThe time was over before everything was measured.");
        return Ok(());
    }
    let [resident, loaded] = loading(gpu)?;
    let overhead = 100.0 * (loaded / resident - 1.0);
    report.line(&format!(
        "\nA training step on {BATCH} images in two views: {:.1} ms on images that stay on the card, {:.1} ms on batches of \
         the loader ({overhead:+.1} %).",
        1e3 * resident,
        1e3 * loaded
    ));
    report.put(
        "loading",
        json!({"resident_ms": 1e3 * resident, "loaded_ms": 1e3 * loaded, "overhead_percent": overhead}),
    )?;
    trainings(gpu, report)
}

/// The steps of whole trainings, as one graph and op by op, and what of them the host spends waiting for batches, while the
/// card computes, and saving.
fn trainings(gpu: &Gpu, report: &mut ReportWriter<'_>) -> anyhow::Result<()> {
    let plain = Cuda { graphs: false, ..Cuda::new(gpu.facts().ordinal) }.open().context("gpu-check")?;
    for (how, device) in [("as one graph", gpu.device()), ("op by op", plain.device())] {
        if report.left().is_zero() {
            report.line("\nNo time was left for trainings op by op.");
            return Ok(());
        }
        let quickest = precisions(&device).next().expect("every device computes in f32");
        for (name, epoch) in trainer::run(&device, quickest)? {
            let [step, waiting, saving] = trainer::milliseconds(&epoch);
            report.line(&format!(
                "\nA step of training by {name} on {BATCH} images, {how}: {step:.1} ms; the host waited {waiting:.1} for the \
                 batch, and {saving:.1} are a step's share of the checkpoint."
            ));
            let facts = json!({
                "method": name, "how": how, "step_ms": step, "waiting_ms": waiting, "saving_ms": saving,
            });
            report.add("trainings", facts)?;
        }
    }
    Ok(())
}

/// The types that a device computes in, the quickest first.
fn precisions(device: &Device) -> impl Iterator<Item = Precision> {
    [Precision::Bf16, Precision::F32].into_iter().filter(|precision| precision.check(device).is_ok())
}

/// The most that products reach in this type.
fn products(limits: &Limits, precision: Precision) -> f64 {
    match precision {
        Precision::F32 => limits.f32_gflops,
        Precision::Bf16 => limits.bf16_gflops,
    }
}

fn put(report: &mut ReportWriter<'_>, row: Row) -> anyhow::Result<()> {
    let Row { what, milliseconds, speed, unit, share } = row;
    report.line(&format!("| {what} | {milliseconds:.3} | {speed:.0} {unit} | {:.0} % |", 100.0 * share));
    report
        .add("rows", json!({"what": what, "ms": milliseconds, "speed": speed, "unit": unit, "share": share}))
}

/// Seconds of a self-supervised step on images that stay on the card, and on batches of strong views that a loader
/// prepares meanwhile.
fn loading(gpu: &Gpu) -> anyhow::Result<[f64; 2]> {
    /// Steps that are timed together, after some that are not.
    const STEPS: usize = 12;
    const BEFORE: usize = 3;
    let device = gpu.device();
    let mut noise = Key::new(3).stream();
    let images = Array4::from_shape_simple_fn((BATCH, 32, 32, 3), || noise.below(256) as u8);
    let data = Arc::new(Dataset::new("noise", images, vec![0; BATCH], vec!["all".into()]));
    let config = LoaderConfig {
        batch: BATCH,
        epochs: BEFORE + STEPS,
        threads: 4,
        bytes: device.augment().is_some(),
        ..LoaderConfig::default()
    };
    let workload = Workload { activity: Activity::SslStep, arch: Arch::ResNet18Cifar };
    let quickest = precisions(&device).next().expect("every device computes in f32");
    let mut step = Step::in_precision(workload, BATCH, &device, quickest);
    let mut timed = |next: &mut dyn FnMut() -> anyhow::Result<[Tensor; 2]>| {
        let mut clock = Instant::now();
        for number in 0..BEFORE + STEPS {
            if number == BEFORE {
                gpu.synchronize();
                clock = Instant::now();
            }
            drop(step.run_on(&next()?));
        }
        gpu.synchronize();
        anyhow::Ok(clock.elapsed().as_secs_f64() / STEPS as f64)
    };
    let resident = [(); 2].map(|()| uniform(&device, &[BATCH, 32, 32, 3], Key::new(5)));
    let resident = timed(&mut || Ok(resident.clone()))?;
    let mut loader = Loader::new(data, Key::new(4), &config)?;
    let loaded = timed(&mut || {
        let batch = loader.next().context("the loader ended too early")?;
        let views: Vec<Tensor> = batch.on(&device).into_iter().map(Tensor::from).collect();
        Ok(<[Tensor; 2]>::try_from(views).expect("the loader gives two views"))
    })?;
    Ok([resident, loaded])
}

/// What a captured graph saves of a gradient in the images: where kernels are short the host cannot keep up with them.
fn replays(gpu: &Gpu, precision: Precision, limits: &Limits) -> Vec<Row> {
    const IMAGES: usize = 32;
    let device = gpu.device();
    let x = uniform(&device, &[IMAGES, 32, 32, 3], Key::new(8));
    let encoder = Encoder::new(&encoder_config(Arch::ResNet18Cifar), &device, Key::new(2));
    let frozen = encoder.with_precision(precision).inference();
    let slope = |inputs: &[Tensor]| {
        let (value, slope) = value_and_grad(&inputs[0], |x| frozen.forward(x).square().sum_all());
        vec![value, slope]
    };
    let workload = Workload { activity: Activity::InputGrad, arch: Arch::ResNet18Cifar };
    let flops = Step::in_precision(workload, IMAGES, &device, precision).flops() as f64;
    let mut replayed = CapturedFn::new(slope);
    let timed = |how: &str, f: &mut dyn FnMut() -> Vec<Tensor>| {
        for _ in 0..3 {
            drop(f());
        }
        gpu.synchronize();
        let clock = Instant::now();
        for _ in 0..RUNS {
            drop(f());
        }
        gpu.synchronize();
        let seconds = clock.elapsed().as_secs_f64() / RUNS as f64;
        let speed = flops / seconds / 1e9;
        let what = format!("{}, {how}", title_of(workload, IMAGES, precision));
        row(&what, seconds, speed, "GFLOP/s", speed / products(limits, precision))
    };
    let inputs = [x];
    let plain = timed("op by op", &mut || slope(&inputs));
    let whole = timed("as one graph", &mut || replayed.call(&inputs));
    vec![plain, whole]
}

fn kernels(gpu: &Gpu, limits: &Limits) -> Vec<Row> {
    let device = gpu.device();
    let draw = |name: &str, shape: &[usize]| uniform(&device, shape, Key::new(9).fold(name)).add_scalar(-0.5);
    let shape = [BATCH, 32, 32, 64];
    let bytes = 4.0 * shape.iter().product::<usize>() as f64;
    let x = draw("x", &shape).requires_grad();
    let plain = x.detach();
    let other = draw("other", &shape);
    let (weight, bias) = (draw("weight", &[64]).requires_grad(), draw("bias", &[64]).requires_grad());
    let taps = draw("taps", &[3, 3, 64, 64]).requires_grad();
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
        memory("its adjoint", 5.0, &|| vjp(&normed, &other, &[&x], Recording::Off).remove(0)),
        product("convolution 3×3, 64 channels", &|| plain.conv2d(&frozen, conv)),
        product("its adjoint in the input", &|| vjp(&by_input, &other, &[&x], Recording::Off).remove(0)),
        product("its adjoint in the weights", &|| {
            vjp(&by_weight, &other, &[&taps], Recording::Off).remove(0)
        }),
    ]
}

fn row(what: &str, seconds: f64, speed: f64, unit: &'static str, share: f64) -> Row {
    Row { what: what.to_owned(), milliseconds: 1e3 * seconds, speed, unit, share }
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

/// A whole step, from an idle card until it is idle again.
fn step(gpu: &Gpu, workload: Workload, precision: Precision, limits: &Limits) -> Row {
    let mut step = Step::in_precision(workload, BATCH, &gpu.device(), precision);
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
    row(&title(workload, precision), seconds, speed, "GFLOP/s", speed / products(limits, precision))
}
