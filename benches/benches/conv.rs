//! Convolutions: every one of both encoders, forward and both adjoints. Elements per second are FLOP/s.

mod settings;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use settings::settings;
use tarrl_benches::{Activity, Workload, distinct, label, layers, uniform};
use tarrl_tensor::{Key, cpu};

fn convolutions(c: &mut Criterion) {
    let device = cpu();
    let key = Key::new(0);
    for workload in Workload::ALL.into_iter().filter(|w| w.activity == Activity::Forward) {
        let arch = workload.arch;
        for shape in distinct(&layers(arch, workload.usual_batch())) {
            let operand = |extents: &[usize], name| uniform(&device, extents, key.fold(name)).array().clone();
            let (x, w) = (operand(&shape.input(), "x"), operand(&shape.weight(), "w"));
            let dy = operand(&shape.output(), "dy");
            let mut group = c.benchmark_group(arch.name());
            group.throughput(Throughput::Elements(2 * shape.macs() as u64));
            group.bench_function(BenchmarkId::new("conv2d", label(&shape)), |b| {
                b.iter(|| device.conv2d(&x, &w, &shape));
            });
            group.bench_function(BenchmarkId::new("conv2d_input", label(&shape)), |b| {
                b.iter(|| device.conv2d_input(&dy, &w, &shape));
            });
            group.bench_function(BenchmarkId::new("conv2d_weight", label(&shape)), |b| {
                b.iter(|| device.conv2d_weight(&x, &dy, &shape));
            });
            group.finish();
        }
    }
}

criterion_group! { name = benches; config = settings(); targets = convolutions }
criterion_main!(benches);
