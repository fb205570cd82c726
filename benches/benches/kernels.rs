//! Kernels on the shapes of the encoders, one line each: milliseconds, GFLOP/s and GB/s, and both as a share of
//! what was measured of this machine just before.
//!
//! Operations are those of the definition, so that Winograd's convolution may stand above the peak. Bytes count every
//! operand and result once.

use std::time::Instant;
use tarrl_benches::{Activity, Workload, distinct, label, layers, median, uniform};
use tarrl_encoders::BATCH_NORM_EPS;
use tarrl_tensor::{
    Array, BatchNormSaved, ConvShape, Device, Key, Limits, Norm, Pool, Recording, Tensor, cpu, vjp,
};

fn main() {
    // `cargo bench -- --test` runs each kernel once, to see that it works; a word picks the lines that contain it.
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let word = arguments.iter().find(|argument| !argument.starts_with("--")).cloned().unwrap_or_default();
    let table = Table { limits: Limits::measure(0), once: arguments.iter().any(|a| a == "--test"), word };
    println!(
        "{} threads: {:.0} GFLOP/s from registers, {:.1} GB/s of copying\n",
        table.limits.threads, table.limits.gflops, table.limits.copy_gb_per_s
    );
    println!("| kernel | ms | GFLOP/s | of peak | GB/s | of copy |\n|---|---:|---:|---:|---:|---:|");
    let device = cpu();
    for workload in Workload::ALL.into_iter().filter(|w| w.activity == Activity::Forward) {
        let (arch, batch) = (workload.arch, workload.usual_batch());
        let shapes = layers(arch, batch);
        for shape in distinct(&shapes) {
            convolution(&table, &device, arch.name(), &shape);
        }
        let mut maps: Vec<[usize; 4]> = Vec::new();
        for shape in shapes {
            let map = [shape.n, shape.out_h(), shape.out_w(), shape.c_out];
            if !maps.contains(&map) {
                maps.push(map);
                between(&table, &device, arch.name(), map);
            }
        }
    }
}

struct Table {
    limits: Limits,
    once: bool,
    word: String,
}

impl Table {
    /// A line: floating-point operations, bytes, and what to time.
    fn line<T>(&self, name: &str, flops: usize, bytes: usize, mut f: impl FnMut() -> T) {
        if !name.contains(&self.word) {
            return;
        }
        f();
        let mut seconds = Vec::new();
        let start = Instant::now();
        while !self.once && seconds.len() < 15 && start.elapsed().as_secs_f64() < 0.4 || seconds.is_empty() {
            let clock = Instant::now();
            std::hint::black_box(f());
            seconds.push(clock.elapsed().as_secs_f64());
        }
        let time = median(&seconds);
        let (gflops, gb) = (flops as f64 / time / 1e9, bytes as f64 / time / 1e9);
        let share = |part: f64, whole: f64| format!("{:.0} %", 100.0 * part / whole);
        println!(
            "| {name} | {:.3} | {gflops:.0} | {} | {gb:.1} | {} |",
            1e3 * time,
            share(gflops, self.limits.gflops),
            share(gb, self.limits.copy_gb_per_s)
        );
    }
}

fn convolution(table: &Table, device: &Device, arch: &str, shape: &ConvShape) {
    let operand = |extents: &[usize], name| uniform(device, extents, Key::new(0).fold(name)).array().clone();
    let (x, w, dy) =
        (operand(&shape.input(), "x"), operand(&shape.weight(), "w"), operand(&shape.output(), "dy"));
    let (flops, bytes) = (2 * shape.macs(), 4 * (x.len() + w.len() + dy.len()));
    let name = |kernel: &str| format!("{arch} {kernel} {}", label(shape));
    table.line(&name("conv2d"), flops, bytes, || device.conv2d(&x, &w, shape));
    table.line(&name("conv2d_input"), flops, bytes, || device.conv2d_input(&dy, &w, shape));
    table.line(&name("conv2d_weight"), flops, bytes, || device.conv2d_weight(&x, &dy, shape));
}

/// What lies between convolutions, on a map `(n, h, w, c)`.
fn between(table: &Table, device: &Device, arch: &str, shape: [usize; 4]) {
    let [n, h, w, channels] = shape;
    let x = uniform(device, &shape, Key::new(1));
    let dy = uniform(device, &shape, Key::new(2));
    let [scale, shift] = [3, 4].map(|seed| uniform(device, &[channels], Key::new(seed)));
    let norm = Norm { eps: BATCH_NORM_EPS, relu: true };
    let map = 4 * n * h * w * channels;
    let name = |kernel: &str| format!("{arch} {kernel} {channels}@{h}x{w}");
    // The statistics alone: what follows them is applied by whoever reads the result.
    table.line(&name("batch_norm"), 0, map, || {
        device.batch_norm(x.array(), scale.array(), shift.array(), norm)
    });
    let out = device.batch_norm(x.array(), scale.array(), shift.array(), norm);
    let [mean, variance] = [out.mean, out.variance].map(|of| Array::wrap(device, [channels], x.dtype(), of));
    let saved = BatchNormSaved {
        x: x.array(),
        weight: scale.array(),
        bias: shift.array(),
        mean: &mean,
        variance: &variance,
    };
    table.line(&name("batch_norm_adjoint"), 0, 3 * map, || {
        device.batch_norm_adjoint(&saved, dy.array(), norm)
    });
    table.line(&name("channel_affine_add_relu"), 0, 3 * map, || {
        x.channel_affine(&scale, &shift, false).add_relu(&dy)
    });
    table.line(&name("add_relu"), 0, 3 * map, || x.add_relu(&dy));
    table.line(&name("mask"), 0, 3 * map, || dy.mask(&x));
    table.line(&name("global_avg_pool"), 0, map, || x.global_avg_pool());
    if h < 2 {
        return;
    }
    let halving = Pool { window: 2, stride: 2, pad: 0 };
    table.line(&name("avg_pool"), 0, map + map / 4, || x.avg_pool(halving));
    table.line(&name("max_pool"), 0, map + map / 4, || x.max_pool(halving));
    let variable = x.requires_grad();
    let adjoint = |kernel: &str, y: Tensor| {
        let dy = uniform(device, y.shape(), Key::new(5));
        table
            .line(&name(kernel), 0, map + 4 * y.array().len(), || vjp(&y, &dy, &[&variable], Recording::Off));
    };
    adjoint("avg_pool_adjoint", variable.avg_pool(halving));
    adjoint("max_pool_adjoint", variable.max_pool(halving));
    adjoint("global_avg_pool_adjoint", variable.global_avg_pool());
}
