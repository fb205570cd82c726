//! The conformance suite on a GPU, and what must equal the CPU to the bit.

use std::time::Instant;

use serde_json::{Value, json};
use tarrl_tensor::{Array, DType, Device, Key, Random, Tensor, conformance, cpu};

/// Runs the suite in f32 and f64; one line each, and the same as JSON. `failures` is empty if all is well.
pub(crate) fn run(device: &Device) -> (Value, Vec<String>) {
    let mut failures = Vec::new();
    let mut report = serde_json::Map::new();
    for (name, dtype) in [("f32", DType::F32), ("f64", DType::F64)] {
        let started = Instant::now();
        let found = conformance::run(device, dtype);
        let seconds = started.elapsed().as_secs_f64();
        println!(
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
    println!("   equal to the CPU to the bit: {}", if exact.is_empty() { "yes" } else { "NO" });
    report.insert("differ_from_cpu".into(), json!(exact));
    failures.extend(exact);
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
    compare("casts to indices", &|device| {
        let values = [-1.0f64, 0.0, 0.99, 7.5, 4_294_967_295.0, 1e12, f64::NAN, f64::INFINITY];
        Tensor::from(Array::new(device, [8], &values).cast(DType::U32))
    });
    wrong
}
