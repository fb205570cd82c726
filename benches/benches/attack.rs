//! What a step of PGD does beside the gradient: bytes per second count the point, the gradient, both ends of the ball
//! and the result once. And AutoAttack on a small encoder, with samples that leave at their first success and with
//! samples that stay to the end of the run that broke them, as in the reference.

mod settings;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use settings::settings;
use tarrl_attacks::{AutoAttack, RunConfig, SuiteRun, Threat};
use tarrl_benches::{Activity, Workload, encoder_config, image_shape, uniform};
use tarrl_encoders::{Arch, Encoder, EncoderConfig};
use tarrl_tensor::{Key, Tensor, cpu};

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

/// A short AutoAttack on images of which some are broken early, some late and some not at all: the radii grow
/// from image to image.
fn autoattack(c: &mut Criterion) {
    let device = cpu();
    let config = EncoderConfig { width: 0.25, ..encoder_config(Arch::ConvSmall) };
    let encoder = Encoder::new(&config, &device, Key::new(4));
    let (features, images) = (encoder.dim(), 24);
    let encoder = encoder.frozen();
    let head = uniform(&device, &[features, 10], Key::new(5)).add_scalar(-0.5);
    let logits = |u: &Tensor| encoder.forward(u).matmul(&head);
    let x = uniform(&device, &[&[images], &image_shape(Arch::ConvSmall)[..]].concat(), Key::new(6));
    let labels = logits(&x).argmax(1).to_vec::<u32>();
    let keys: Vec<Key> = (0..images).map(|image| Key::new(7).fold(image)).collect();
    let radii: Vec<f64> = (0..images).map(|image| 0.002 * 1.2f64.powi(image as i32)).collect();
    let mut group = c.benchmark_group("autoattack");
    group.throughput(Throughput::Elements(images as u64));
    for (name, compact) in [("compact", true), ("whole-runs", false)] {
        let run = RunConfig { compact, ..RunConfig::default() };
        let attack = AutoAttack { steps: 20, queries: 100, run, ..AutoAttack::default() };
        group.bench_function(BenchmarkId::new(name, "conv-small"), |b| {
            b.iter(|| {
                let ball = Threat::default().around_each(&x, &radii);
                let parts = attack.parts(ball.threat().norm);
                let mut run = SuiteRun::new(ball, &labels, &keys, parts, attack.run);
                while run.round(&|u, _| logits(u)) {}
                run.finish()
            });
        });
    }
    group.finish();
}

criterion_group! { name = benches; config = settings(); targets = pgd_step, autoattack }
criterion_main!(benches);
