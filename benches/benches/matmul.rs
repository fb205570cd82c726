//! Matrix products: squares, and the thin ones of projectors, similarities and heads. Elements per second are FLOP/s.

mod settings;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use settings::settings;
use tarrl_benches::uniform;
use tarrl_tensor::{Key, Transpose, cpu};

/// `(what, [m, k, n], how the operands are stored)`.
const THIN: [(&str, [usize; 3], Transpose); 5] = [
    ("projector-forward", [512, 128, 512], Transpose::RIGHT),
    ("projector-input", [512, 512, 128], Transpose::NONE),
    ("projector-weight", [512, 512, 128], Transpose::LEFT),
    ("similarities", [1024, 128, 1024], Transpose::RIGHT),
    ("head", [10_000, 128, 10], Transpose::RIGHT),
];

fn products(c: &mut Criterion) {
    let squares = [256, 384, 512, 768, 1024].map(|n| ("square", [n; 3], Transpose::NONE));
    let device = cpu();
    let mut group = c.benchmark_group("matmul");
    for (what, [m, k, n], transpose) in squares.into_iter().chain(THIN) {
        let a = uniform(&device, &if transpose.a { [k, m] } else { [m, k] }, Key::new(1));
        let b = uniform(&device, &if transpose.b { [n, k] } else { [k, n] }, Key::new(2));
        group.throughput(Throughput::Elements(2 * (m * k * n) as u64));
        group.bench_function(BenchmarkId::new(what, format!("{m}x{k}x{n}")), |bench| {
            bench.iter(|| a.matmul_with(&b, transpose));
        });
    }
    group.finish();
}

criterion_group! { name = benches; config = settings(); targets = products }
criterion_main!(benches);
