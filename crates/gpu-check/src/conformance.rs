//! The conformance suite on a GPU, and results that must equal the CPU to the bit.

use std::time::Instant;

use crate::progress::show;
use serde_json::{Value, json};
use tarrl_tensor::{Array, DType, Device, Key, Random, Tensor, conformance, cpu};

/// Runs the suite in f32, f64 and bf16; one line each, and the same as JSON. `failures` is empty if all is well.
pub(crate) fn run(device: &Device) -> (Value, Vec<String>) {
    let mut failures = Vec::new();
    let mut report = serde_json::Map::new();
    for (name, dtype) in [("f32", DType::F32), ("f64", DType::F64), ("bf16", DType::Bf16)] {
        if !device.computes(dtype) {
            show!("   conformance {name}: not run, {} does not compute in it", device.name());
            continue;
        }
        let started = Instant::now();
        let found = conformance::run(device, dtype);
        let seconds = started.elapsed().as_secs_f64();
        show!(
            "   conformance {name}: {} checks, {} failures, {seconds:.1} s",
            found.checks,
            found.failures.len()
        );
        report.insert(
            name.into(),
            json!({"checks": found.checks, "failures": found.failures, "seconds": seconds}),
        );
        failures.extend(found.failures.iter().map(|failure| format!("{name}: {failure}")));
        if dtype == DType::F32 {
            failures.extend(found.missing().iter().map(|op| format!("{name}: no case covers {op}")));
        }
    }
    let exact = exact(device);
    show!("   equal to the CPU to the bit: {}", if exact.is_empty() { "yes" } else { "NO" });
    report.insert("differ_from_cpu".into(), json!(exact));
    failures.extend(exact);
    let silent = faults(device);
    show!("   wrong indices and labels are told: {}", if silent.is_empty() { "yes" } else { "NO" });
    failures.extend(silent);
    (Value::Object(report), failures)
}

/// What must have the CPU's bits and has not.
fn exact(device: &Device) -> Vec<String> {
    let cpu = cpu();
    let keys: Vec<Key> = (0..37usize).map(|row| Key::new(11).fold("exact").fold(row)).collect();
    let mut wrong = Vec::new();
    let mut compare = |what: &str, f: &dyn Fn(&Device) -> Tensor| {
        let bits = |device: &Device| -> Vec<u64> {
            f(device).array().to_f64().into_iter().map(f64::to_bits).collect()
        };
        if bits(device) != bits(&cpu) {
            wrong.push(format!("{what} differs from the CPU"));
        }
    };
    for dtype in [DType::F32, DType::F64] {
        let draw = |device: &Device, law| Tensor::random(device, law, &keys, &[101], dtype);
        compare(&format!("uniform numbers in {dtype:?}"), &|device| draw(device, Random::Uniform));
        let spread = |device: &Device| draw(device, Random::Uniform).mul_scalar(200.0).add_scalar(-100.0);
        compare(&format!("scaling in {dtype:?}"), &spread);
        compare(&format!("ReLU of a sum in {dtype:?}"), &|device| {
            spread(device).add_relu(&draw(device, Random::Uniform))
        });
    }
    compare("the exponential in F32", &|device| {
        let x = Tensor::random(device, Random::Uniform, &keys, &[101], DType::F32);
        x.mul_scalar(200.0).add_scalar(-104.0).exp()
    });
    // More of them than pinned memory is kept for, of two sizes.
    compare("large copies from the host", &|device| {
        let part = |i: usize| {
            let values: Vec<f32> = (0..20_000 * (1 + i % 2)).map(|j| (i * j % 1000) as f32).collect();
            Tensor::new(device, [values.len()], &values).slice(0, 0, 20_000)
        };
        (1..20).map(part).reduce(|sum, part| &sum + &part).expect("there are parts")
    });
    compare("casts to indices", &|device| {
        let values = [-1.0f64, 0.0, 0.99, 7.5, 4_294_967_295.0, 1e12, f64::NAN, f64::INFINITY];
        Tensor::from(Array::new(device, [8], &values).cast(DType::U32))
    });
    if device.computes(DType::Bf16) && !rounds_to_nearest(device) {
        wrong.push("casts to bf16 are not to the nearest, of two the even one".to_owned());
    }
    wrong
}

/// Casts to bf16 against whole numbers, of which those up to 256 are exact and beyond it every second, fourth, …
fn rounds_to_nearest(device: &Device) -> bool {
    let rounded = |x: f32| -> f32 {
        let step = 2f32.powi((x.abs().log2().floor() as i32 - 7).max(0));
        (x / step).round_ties_even() * step
    };
    let mut values: Vec<f32> = (-700i16..700).map(f32::from).collect();
    values.extend([f32::INFINITY, f32::NEG_INFINITY, -0.0, f32::NAN]);
    let expected = values.iter().map(|&v| if v.is_finite() && v != 0.0 { rounded(v) } else { v });
    let cast = Array::new(device, [values.len()], &values).cast(DType::Bf16).cast(DType::F32);
    let found = cast.to_vec::<f32>();
    found.iter().zip(expected).all(|(a, b)| a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan()))
}

/// Wrong operands that only the GPU can see and that did not panic when a result was read.
fn faults(device: &Device) -> Vec<String> {
    let x = Tensor::new(device, [2, 3], &[1.0f32, 2.0, 3.0, 4.0, 5.0, 6.0]);
    let wrong = Array::new(device, [2], &[0u32, 7]);
    let attempts: [(&str, &dyn Fn() -> Tensor); 3] = [
        ("gather", &|| x.gather(0, &wrong)),
        ("scatter_add", &|| x.scatter_add(0, &wrong, 2)),
        ("cross_entropy", &|| x.cross_entropy(&wrong)),
    ];
    // What is expected to panic need not be printed.
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let panics = |f: &dyn Fn() -> Tensor| {
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| f().array().to_f64())).is_err()
    };
    let mut silent: Vec<String> = attempts
        .iter()
        .filter(|(_, f)| !panics(*f))
        .map(|(op, _)| format!("{op} does not tell that an index or a label is wrong"))
        .collect();
    if panics(&|| x.gather(0, &Array::new(device, [1], &[1u32]))) {
        silent.push("a fault is told again".to_owned());
    }
    std::panic::set_hook(hook);
    silent
}
