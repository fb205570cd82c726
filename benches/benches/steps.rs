//! Training, attack and inference steps of both encoders on small batches. Elements per second are images per second; for the figures at the
//! usual batches, with peak memory, see `cargo xtask bench`.

mod settings;

use criterion::{BenchmarkId, Criterion, SamplingMode, Throughput, criterion_group, criterion_main};
use settings::settings;
use tarrl_benches::{Step, Workload};
use tarrl_tensor::cpu;

fn steps(c: &mut Criterion) {
    let device = cpu();
    let mut group = c.benchmark_group("steps");
    group.sampling_mode(SamplingMode::Flat);
    for workload in Workload::ALL {
        let batch = workload.usual_batch() / 8;
        group.throughput(Throughput::Elements(batch as u64));
        group.bench_function(BenchmarkId::new(workload.to_string(), batch), |b| {
            let mut step = Step::new(workload, batch, &device);
            b.iter(|| step.run());
        });
    }
    group.finish();
}

criterion_group! { name = benches; config = settings(); targets = steps }
criterion_main!(benches);
