//! Softmax and NT-Xent of 1024 rows of 128 numbers, both views together.

mod settings;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use settings::settings;
use tarrl_benches::uniform;
use tarrl_objectives::nt_xent;
use tarrl_tensor::{Key, cpu, value_and_grad};

const ROWS: usize = 1024;
const WIDTH: usize = 128;

/// Bytes per second count every operand and result once.
fn softmax(c: &mut Criterion) {
    let device = cpu();
    let x = uniform(&device, &[ROWS, ROWS], Key::new(1));
    let dy = uniform(&device, &[ROWS, ROWS], Key::new(2));
    let y = x.softmax();
    let bytes = 4 * (ROWS * ROWS) as u64;
    let mut group = c.benchmark_group("softmax-1024x1024");
    group.throughput(Throughput::Bytes(2 * bytes));
    group.bench_function("softmax", |b| b.iter(|| x.softmax()));
    group.bench_function("log_softmax", |b| b.iter(|| x.log_softmax()));
    group.throughput(Throughput::Bytes(3 * bytes));
    group.bench_function("softmax_adjoint", |b| {
        b.iter(|| device.softmax_adjoint(y.array(), dy.array(), ROWS, false));
    });
    group.finish();
}

/// Elements per second are FLOP/s of the matrix products: one forward, two for the gradient.
fn contrastive(c: &mut Criterion) {
    let device = cpu();
    let z = uniform(&device, &[ROWS, WIDTH], Key::new(3)).add_scalar(-0.5);
    let loss =
        |z: &tarrl_tensor::Tensor| nt_xent(&z.slice(0, 0, ROWS / 2), &z.slice(0, ROWS / 2, ROWS / 2), 0.5);
    let product = 2 * (ROWS * ROWS * WIDTH) as u64;
    let mut group = c.benchmark_group("nt_xent-1024x128");
    group.throughput(Throughput::Elements(product));
    group.bench_function("value", |b| b.iter(|| loss(&z)));
    group.throughput(Throughput::Elements(3 * product));
    group.bench_function("value_and_grad", |b| b.iter(|| value_and_grad(&z, loss)));
    group.finish();
}

criterion_group! { name = benches; config = settings(); targets = softmax, contrastive }
criterion_main!(benches);
