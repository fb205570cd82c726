//! Normalization, activation and pooling of the largest feature map of each encoder.
//! Bytes per second count every operand and result once, so they compare with a copy of memory.

mod settings;

use criterion::{Bencher, Criterion, Throughput, criterion_group, criterion_main};
use settings::settings;
use tarrl_benches::uniform;
use tarrl_encoders::BATCH_NORM_EPS;
use tarrl_tensor::{Array, BatchNormSaved, Key, Norm, Pool, Recording, Tensor, cpu, vjp};

fn maps(c: &mut Criterion) {
    for (encoder, shape) in [("conv-small", [256, 28, 28, 32]), ("resnet18-cifar", [64, 32, 32, 64])] {
        one_map(c, encoder, shape);
    }
}

fn one_map(c: &mut Criterion, encoder: &str, shape: [usize; 4]) {
    let device = cpu();
    let [n, h, w, channels] = shape;
    let x = uniform(&device, &shape, Key::new(1));
    let dy = uniform(&device, &shape, Key::new(2));
    let [scale, shift] = [3, 4].map(|seed| uniform(&device, &[channels], Key::new(seed)));
    let norm = Norm { eps: BATCH_NORM_EPS, relu: true };
    let map = 4 * (n * h * w * channels) as u64;
    let mut group = c.benchmark_group(encoder);
    let mut bench = |name: &str, bytes: u64, f: &mut dyn FnMut(&mut Bencher<'_>)| {
        group.throughput(Throughput::Bytes(bytes));
        group.bench_function(name, |b| f(b));
    };

    // The statistics alone: what follows them is applied by whoever reads the result.
    bench("batch_norm", map, &mut |b| {
        b.iter(|| device.batch_norm(x.array(), scale.array(), shift.array(), norm));
    });
    let out = device.batch_norm(x.array(), scale.array(), shift.array(), norm);
    let [mean, variance] = [out.mean, out.variance].map(|of| Array::wrap(&device, [channels], x.dtype(), of));
    let saved = BatchNormSaved {
        x: x.array(),
        weight: scale.array(),
        bias: shift.array(),
        mean: &mean,
        variance: &variance,
    };
    bench("batch_norm_adjoint", 3 * map, &mut |b| {
        b.iter(|| device.batch_norm_adjoint(&saved, dy.array(), norm));
    });
    let affine = || x.channel_affine(&scale, &shift, true);
    bench("channel_affine", 3 * map, &mut |b| b.iter(|| affine().add_relu(&dy)));
    bench("add_relu", 3 * map, &mut |b| b.iter(|| x.add_relu(&dy)));
    bench("mask", 3 * map, &mut |b| b.iter(|| dy.mask(&x)));

    let halving = Pool { window: 2, stride: 2, pad: 0 };
    bench("avg_pool", map + map / 4, &mut |b| b.iter(|| x.avg_pool(halving)));
    bench("max_pool", map + map / 4, &mut |b| b.iter(|| x.max_pool(halving)));
    bench("global_avg_pool", map, &mut |b| b.iter(|| x.global_avg_pool()));
    let variable = x.requires_grad();
    let mut adjoint = |name: &str, y: Tensor| {
        let dy = uniform(&device, y.shape(), Key::new(5));
        bench(name, map + 4 * y.array().len() as u64, &mut |b| {
            b.iter(|| vjp(&y, &dy, &[&variable], Recording::Off));
        });
    };
    adjoint("avg_pool_adjoint", variable.avg_pool(halving));
    adjoint("max_pool_adjoint", variable.max_pool(halving));
    adjoint("global_avg_pool_adjoint", variable.global_avg_pool());
    group.finish();
}

criterion_group! { name = benches; config = settings(); targets = maps }
criterion_main!(benches);
