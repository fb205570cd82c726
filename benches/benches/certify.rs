//! Certificates of each kind compared with a forward pass in f64 on the same images: elements per second are images, so that
//! a thousand divided by them is seconds for a thousand samples, and the quotient with `forward` is what a certificate
//! costs in forward passes. What linear bounds cost depends on how many units can change sign within the radius; here
//! the encoders are untrained and the images random.

mod settings;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use settings::settings;
use tarrl_attacks::Threat;
use tarrl_benches::{encoder_config, image_shape, uniform};
use tarrl_certify::smoothing::{SmoothingConfig, draw_smoothing_samples};
use tarrl_certify::{CertifyConfig, Effort, Network, Slopes, certify};
use tarrl_encoders::{Arch, Encoder, EncoderConfig};
use tarrl_tensor::{Key, Tensor, cpu};

/// Radii at which certificates are made, in pixels.
const EPSILONS: [f64; 2] = [0.01, 0.1];

fn certificates(c: &mut Criterion) {
    let device = cpu();
    for (arch, width, images) in [(Arch::ConvSmall, 0.5, 2), (Arch::ConvFlat, 1.0, 8)] {
        let config = EncoderConfig { width, ..encoder_config(arch) };
        let encoder = Encoder::new(&config, &device, Key::new(1)).inference();
        let encode = |x: &Tensor| encoder.forward(x);
        let x = uniform(&device, &[&[images], &image_shape(arch)[..]].concat(), Key::new(2));
        let network = Network::trace(&encode, &x.slice(0, 0, 1)).expect("every op has a rule");
        let mut group = c.benchmark_group("certify");
        group.throughput(Throughput::Elements(images as u64));
        group.bench_function(BenchmarkId::new("forward", arch.name()), |b| b.iter(|| network.forward(&x)));
        for (name, effort, slopes) in [
            ("interval", Effort::Interval, Slopes::Chord),
            ("linear", Effort::Linear, Slopes::Chord),
            ("full", Effort::Full, Slopes::Chord),
            ("full-both-slopes", Effort::Full, Slopes::Best),
            ("optimized", Effort::Optimized, Slopes::Chord),
        ] {
            for epsilon in EPSILONS {
                let threat = Threat::linf(epsilon);
                let config = CertifyConfig { threat, effort, slopes, ..CertifyConfig::default() };
                let id = BenchmarkId::new(format!("{name}-{epsilon}"), arch.name());
                group.bench_function(id, |b| b.iter(|| certify(&network, &x, &config).expect("settings")));
            }
        }
        let smoothing = SmoothingConfig { draws: 1000, ..SmoothingConfig::default() };
        group.throughput(Throughput::Elements(1));
        group.bench_function(BenchmarkId::new("smoothing-1000-draws", arch.name()), |b| {
            let one = x.slice(0, 0, 1);
            b.iter(|| {
                draw_smoothing_samples(&encode, &one, &smoothing, Key::new(3)).expect("settings").covariance()
            });
        });
        group.bench_function(BenchmarkId::new("center-1000-draws", arch.name()), |b| {
            let one = x.slice(0, 0, 1);
            // Any points will do as candidates: the cost depends on how many there are.
            let d = network.features();
            let candidates = uniform(&device, &[1000, d], Key::new(4)).array().to_f64();
            b.iter(|| {
                draw_smoothing_samples(&encode, &one, &smoothing, Key::new(3))
                    .expect("settings")
                    .center(&candidates, 0.1)
            });
        });
        group.finish();
    }
}

criterion_group! { name = benches; config = settings(); targets = certificates }
criterion_main!(benches);
