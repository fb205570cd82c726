#!/usr/bin/env bash
# What: the Rust crate statrs 0.19.1: the normal law's tails and the quantiles of
#   the chi-squared law, against values of forty digits.
# Guess: close to double precision, 1e-13 relative or better, as SciPy.
# Behavior: the complementary error function is good to 5e-11 in the tails, not
#   1e-15; the normal law at -8 carries five more digits than are right. The
#   quantile of the chi-squared law with one degree of freedom at 1e-6 is 600
#   times too large (its own distribution function gives 2.4e-5 for it), while
#   0.025 and 0.975 are right.
# TARRL: takes the error function from libm, inverts it with a Newton step on the
#   logarithm, and uses no quantile of the chi-squared law; limits of proportions
#   are found by bisection on the incomplete beta function.
set -euo pipefail
source "$(dirname "$0")/lib.sh"
cargo_with 'statrs = { version = "=0.19.1", default-features = false, features = ["std"] }' 'libm = "=0.2.16"' <<'RS'
use statrs::distribution::{ChiSquared, ContinuousCDF, Normal};

fn main() {
    let normal = Normal::new(0.0, 1.0).unwrap();
    let mut worst: f64 = 0.0;
    for (x, exact) in [(-5.0, 2.866515718791939e-7), (-8.0, 6.220960574271785e-16), (-12.0, 1.776482112077679e-33)] {
        let (found, other) = (normal.cdf(x), 0.5 * libm::erfc(-x / 2f64.sqrt()));
        let error = (found / exact - 1.0).abs();
        println!("normal law at {x}: {found:e}, relative error {error:e}; by libm {:e}", (other / exact - 1.0).abs());
        assert!((other / exact - 1.0).abs() < 1e-13);
        worst = worst.max(error);
    }
    assert!((1e-11..1e-9).contains(&worst));

    let law = ChiSquared::new(1.0).unwrap();
    for (p, exact) in [(1e-6, 1.5707963267957191e-12), (0.025, 9.820691171752583e-4), (0.975, 5.023886187314889)] {
        let found = law.inverse_cdf(p);
        println!("chi-squared quantile of {p:e}: {found:e}, exact {exact:e}, its own law there {:e}", law.cdf(found));
        let right = (found / exact - 1.0).abs() < 1e-9;
        assert_eq!(right, p > 1e-3);
    }
    assert!(law.inverse_cdf(1e-6) > 100.0 * 1.5707963267957191e-12);
}
RS
"$PROGRAM"
