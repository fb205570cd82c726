//! The conformance suite, which any backend can run: every op against a plain f64 evaluation, adjoints against central
//! differences, second order, and the adjoint identity of linear ops.
//!
//! ```
//! use tarrl_tensor::{conformance, cpu, DType};
//! let report = conformance::run(&cpu(), DType::F32);
//! assert!(report.failures.is_empty(), "{report}");
//! assert!(report.missing().is_empty());
//! ```

mod case;
mod checks;
mod layout;
mod linear;
mod normalize;
mod pointwise;
mod reduce;
mod report;

use crate::array::DType;
use crate::backend::Device;
use case::Case;

pub use report::Report;

/// Runs every case on `device` in `dtype` (F32, F64 or Bf16; in F64 no cast is left to record).
///
/// Tolerances: a value may differ from the f64 reference by `ε·(32 + 4·terms)` of the largest
/// magnitude, with ε the machine epsilon of `dtype` and `terms` the length of the sums; derivatives are
/// checked in F64 (1e-6 relative to central differences, whose own error is about 1e-9 here), and in F32 and
/// Bf16 against the same derivative in F64. In Bf16 arithmetic is that of F32, and beside its errors there may be one of
/// 2⁻⁸ of the largest magnitude, half a step of 8 bits; adjoints, which write down several values on the way, have four
/// times as much.
pub fn run(device: &Device, dtype: DType) -> Report {
    let mut report = Report::default();
    for case in cases() {
        checks::check(&case, device, dtype, &mut report);
    }
    report
}

fn cases() -> Vec<Case> {
    [pointwise::cases(), reduce::cases(), layout::cases(), linear::cases(), normalize::cases()]
        .into_iter()
        .flatten()
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::array::Array;
    use crate::cpu::{Arithmetic, Cpu, cpu};
    use crate::op::Op;
    use crate::tensor::Tensor;

    #[test]
    fn the_cpu_conforms_in_f64() {
        let report = run(&Cpu { threads: 0, arithmetic: Arithmetic::Direct }.open(), DType::F64);
        assert!(report.failures.is_empty(), "{report}");
    }

    #[test]
    fn the_cpu_conforms_in_f32() {
        let report = run(&cpu(), DType::F32);
        assert!(report.failures.is_empty(), "{report}");
        assert_eq!(report.missing(), Vec::<&str>::new());
    }

    /// The suite must be able to fail: a wrong adjoint and a wrong value are both found.
    #[test]
    fn the_suite_finds_mistakes() {
        let wrong_adjoint = |x: &Tensor| {
            let y: Array = x.square().array().clone();
            let saved = crate::Saved::new(x);
            Tensor::record(Op::Custom("wrong"), y, &[x], move |p| {
                vec![Some(&(p.dy() * &p.get(&saved)) * 1.9)]
            })
        };
        let mut report = Report::default();
        let case = Case::new("square", [case::Input::range([4], -1.0, 1.0)])
            .op(move |x| wrong_adjoint(&x[0]))
            .reference(|x| x[0].mapv(|v| v * v));
        checks::check(&case, &cpu(), DType::F64, &mut report);
        assert!(report.failures.iter().any(|f| f.contains("gradient")), "{report}");

        let mut report = Report::default();
        let case = Case::new("square", [case::Input::range([4], -1.0, 1.0)])
            .op(|x| x[0].square())
            .reference(|x| x[0].mapv(|v| v * v + 1e-9));
        checks::check(&case, &cpu(), DType::F64, &mut report);
        assert!(report.failures.iter().any(|f| f.contains("value")), "{report}");
    }

    #[test]
    fn bits_do_not_depend_on_the_number_of_threads() {
        let bits = |threads: usize| -> Vec<u64> {
            let device = Cpu { threads, arithmetic: Arithmetic::Fast }.open();
            let mut bits = Vec::new();
            for case in cases() {
                let inputs = case.tensors(&device, DType::F32);
                let y = (case.op)(&inputs);
                bits.extend(y.array().to_f64().into_iter().map(f64::to_bits));
            }
            bits
        };
        let one = bits(1);
        assert_eq!(one, bits(2));
        assert_eq!(one, bits(3));
    }
}
