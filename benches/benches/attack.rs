//! PGD steps without the gradient: bytes per second count the point, the gradient, both ends of the ball
//! and the result once.

mod settings;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use settings::settings;
use tarrl_attacks::Threat;
use tarrl_benches::{Activity, Workload, image_shape, uniform};
use tarrl_tensor::{Key, cpu};

fn pgd_step(c: &mut Criterion) {
    let device = cpu();
    for workload in Workload::ALL.into_iter().filter(|w| w.activity == Activity::Forward) {
        let batch = workload.usual_batch();
        let shape = [&[batch], &image_shape(workload.arch)[..]].concat();
        let x = uniform(&device, &shape, Key::new(1));
        let gradient = uniform(&device, &shape, Key::new(2)).add_scalar(-0.5);
        let keys: Vec<Key> = (0..batch).map(|image| Key::new(3).fold(image)).collect();
        let mut group = c.benchmark_group("pgd");
        group.throughput(Throughput::Bytes(5 * 4 * x.array().len() as u64));
        for (norm, threat) in [("linf", Threat::linf(8.0 / 255.0)), ("l2", Threat::l2(0.5))] {
            let id = |verb: &str| BenchmarkId::new(format!("{norm}-{verb}"), workload.arch.name());
            group.bench_function(id("around"), |b| b.iter(|| threat.around(&x)));
            let ball = threat.around(&x);
            let start = ball.start(&keys);
            group.bench_function(id("step"), |b| {
                b.iter(|| ball.project(&ball.step(&start, &gradient, threat.epsilon / 2.0)));
            });
        }
        group.finish();
    }
}

criterion_group! { name = benches; config = settings(); targets = pgd_step }
criterion_main!(benches);
