//! Rounding error bounds of floating-point sums, always rounded outwards.

/// The unit roundoff of f64.
pub(crate) const UNIT: f64 = f64::EPSILON / 2.0;

/// A binary floating-point format with gradual underflow, as IEEE 754 defines it; a device that flushes subnormal numbers to
/// zero is not covered.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct FloatFormat {
    /// The unit roundoff.
    pub(crate) unit: f64,
    /// The least positive number: a product that underflows is wrong by half of it.
    pub(crate) least: f64,
    /// The largest finite number: beyond it nothing is claimed.
    pub(crate) largest: f64,
}

impl FloatFormat {
    /// f64.
    pub(crate) const DOUBLE: FloatFormat = FloatFormat { unit: UNIT, least: LEAST, largest: f64::MAX };
    /// f32: unit roundoff 2⁻²⁴, least number 2⁻¹⁴⁹.
    pub(crate) const SINGLE: FloatFormat = FloatFormat {
        unit: f32::EPSILON as f64 / 2.0,
        least: f32::from_bits(1) as f64,
        largest: f32::MAX as f64,
    };

    /// The least length of a vector whose squares, summed in this format, lose no more to underflow than to rounding.
    pub(crate) fn least_length(self) -> f64 {
        // For a million features.
        1e3 * (self.least / self.unit).sqrt()
    }
}

/// The least positive f64, 2⁻¹⁰⁷⁴.
pub(crate) const LEAST: f64 = f64::from_bits(1);

/// Added wherever a sum of products may underflow: far above `n` times the least positive number, far
/// below anything that matters.
pub(crate) const TINY: f64 = 1e-290;

/// `γ_n = n u / (1 − n u)`: the relative error of a sum of `n` products in any order, blocked, with or
/// without fused multiply-add, at unit roundoff `u` (Higham 2002, section 3.1).
///
/// # Panics
/// If `n u` is not below one: for sums of that length there is no bound.
#[track_caller]
pub(crate) fn gamma(n: usize, unit: f64) -> f64 {
    let nu = n as f64 * unit;
    assert!(nu < 1.0, "gamma: sums of {n} terms at unit roundoff {unit} have no bounded error");
    nu / (1.0 - nu)
}

/// [`gamma`] of f64 with room for the roundings of the formula that uses it.
pub(crate) fn slack(n: usize) -> f64 {
    1.01 * gamma(n + 8, UNIT)
}

/// The next number above; infinity and NaN stay.
pub(crate) fn up(v: f64) -> f64 {
    v.next_up()
}

/// The next number below.
pub(crate) fn down(v: f64) -> f64 {
    v.next_down()
}

/// An upper bound of an exact sum of non-negative terms from its float value: Theorem R1 of
/// docs/certificates.md.
pub(crate) fn above(sum: f64, terms: usize) -> f64 {
    sum * (1.0 + 2.0 * slack(terms)) + TINY
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The published values of γ_28 and γ_577 in both precisions.
    #[test]
    fn gammas_match_published_values() {
        let single = f64::from(f32::EPSILON) / 2.0;
        for (found, golden) in [
            (gamma(28, single), 1.6689328390431102e-06),
            (gamma(577, single), 3.439306287749292e-05),
            (gamma(28, UNIT), 3.108624468950448e-15),
            (gamma(577, UNIT), 6.405986852087563e-14),
        ] {
            // The published values have sixteen digits.
            assert!((found / golden - 1.0).abs() < 1e-12, "{found} {golden}");
        }
    }

    #[test]
    fn vectors_above_the_least_length_are_measured_to_their_rounding() {
        for format in [FloatFormat::SINGLE, FloatFormat::DOUBLE] {
            // A million squares, each wrong by half the least number.
            let (length, lost) = (format.least_length(), 0.5e6 * format.least);
            assert!(lost <= format.unit * length * length && lost > 0.1 * format.unit * length * length);
        }
    }

    #[test]
    fn rounding_goes_to_the_safe_side() {
        assert!(up(1.0) > 1.0 && down(1.0) < 1.0 && up(0.0) > 0.0);
        assert!(above(0.0, 1) > 0.0 && above(f64::NAN, 1).is_nan() && above(f64::INFINITY, 3).is_infinite());
    }

    /// A thousand dot products in f32, in random order and partly with fused multiply-add, against f64.
    #[test]
    fn no_sum_in_single_precision_is_farther_from_the_exact_one() {
        let single = f64::from(f32::EPSILON) / 2.0;
        let mut worst = 0.0f64;
        for trial in 0..1000usize {
            let mut stream = tarrl_tensor::Key::new(31).fold(trial).stream();
            let n = 2 + trial % 60;
            let mut terms: Vec<[f32; 2]> =
                (0..n).map(|_| [stream.normal() as f32, stream.uniform(-1.0, 3.0) as f32]).collect();
            terms.sort_by_key(|[a, _]| a.to_bits().wrapping_mul(2_654_435_761));
            let fused = stream.chance(0.5);
            let add = |sum: f32, [a, b]: &[f32; 2]| if fused { a.mul_add(*b, sum) } else { sum + a * b };
            let found = f64::from(terms.iter().fold(0.0, add));
            // Products of two f32 are exact in f64, and their sum is nearly.
            let exact: f64 = terms.iter().map(|[a, b]| f64::from(*a) * f64::from(*b)).sum();
            let size: f64 = terms.iter().map(|[a, b]| (f64::from(*a) * f64::from(*b)).abs()).sum();
            let share = (found - exact).abs() / (gamma(n + 1, single) * size);
            assert!(share <= 1.0, "{n} terms: {share}");
            worst = worst.max(share);
        }
        assert!(worst > 0.1, "the bound is never approached within a factor of ten: {worst}");
    }
}
