//! The exponential function, without branches, so that loops over it become vector code.

/// `eˣ`, within one and a half units in the last place; the same bits on every processor.
///
/// `x = n ln 2 + r` with `|r| ≤ ln 2 / 2`, the Taylor series of `eʳ` to `r⁷` (remainder below 6e-9, a tenth of a unit),
/// and `2ⁿ` in two factors, so that results below the normal range are rounded only once more.
#[inline(always)]
pub(super) fn exp(x: f32) -> f32 {
    // Adding it leaves the nearest whole number in the low bits.
    const ROUND: f32 = 12_582_912.0; // 1.5 · 2²³
    // ln 2 in two parts, the first with so few digits that its product with n is exact.
    const LN2_HIGH: f32 = 0.693_359_4; // 355 / 512
    const LN2_LOW: f32 = -2.121_944_4e-4; // ln 2 − 355 / 512
    // Beyond these the result is infinite or zero in any case.
    let inside = if x > 89.0 { 89.0 } else { x };
    let inside = if inside < -104.0 { -104.0 } else { inside };
    let shifted = inside * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = (inside - n * LN2_HIGH) - n * LN2_LOW;
    let mut tail = 1.0 / 5040.0;
    for c in [1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5] {
        tail = tail * r + c;
    }
    let series = (tail * (r * r) + r) + 1.0;
    let n = (shifted.to_bits() as i32).wrapping_sub(ROUND.to_bits() as i32);
    let half = n >> 1;
    series * power_of_two(half) * power_of_two(n - half)
}

/// `2ⁿ` for `|n| ≤ 126`.
#[inline(always)]
fn power_of_two(n: i32) -> f32 {
    f32::from_bits((n.wrapping_add(127) << 23) as u32)
}

/// [`exp`] in double precision: the series to `r¹³`, with a remainder below 5e-18, a fortieth of a unit.
#[inline(always)]
pub(super) fn exp_f64(x: f64) -> f64 {
    const ROUND: f64 = 6_755_399_441_055_744.0; // 1.5 · 2⁵²
    // The first part has 32 digits; its product with n, of eleven, is exact.
    const LN2_HIGH: f64 = f64::from_bits(0x3FE6_2E42_FEE0_0000);
    const LN2_LOW: f64 = 1.908_214_929_270_587_7e-10; // ln 2 − LN2_HIGH
    let inside = if x > 710.0 { 710.0 } else { x };
    let inside = if inside < -746.0 { -746.0 } else { inside };
    let shifted = inside * std::f64::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = (inside - n * LN2_HIGH) - n * LN2_LOW;
    let mut tail = 1.0 / 6_227_020_800.0;
    for c in [
        1.0 / 479_001_600.0,
        1.0 / 39_916_800.0,
        1.0 / 3_628_800.0,
        1.0 / 362_880.0,
        1.0 / 40_320.0,
        1.0 / 5040.0,
        1.0 / 720.0,
        1.0 / 120.0,
        1.0 / 24.0,
        1.0 / 6.0,
        0.5,
    ] {
        tail = tail * r + c;
    }
    let series = (tail * (r * r) + r) + 1.0;
    // The low half of ROUND is zero.
    let n = shifted.to_bits() as i32;
    let half = n >> 1;
    let power = |n: i32| f64::from_bits(((n + 1023) as u64) << 52);
    series * power(half) * power(n - half)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One unit in the last place of a number near `y`.
    fn unit(y: f64) -> f64 {
        let y = y as f32;
        f64::from(y.next_up()) - f64::from(y)
    }

    #[test]
    fn exp_is_close_to_the_exponential_in_double_precision() {
        let mut worst: f64 = 0.0;
        for i in -104_000..=88_720 {
            let x = i as f32 / 1000.0 + 1e-4 * (i % 7) as f32;
            let want = f64::from(x).exp();
            if want < f64::from(f32::MAX) {
                worst = worst.max((f64::from(exp(x)) - want).abs() / unit(want));
            }
        }
        assert!(worst < 1.5, "{worst} units");
    }

    /// The reference is within 0.51 units itself, and results are whole units apart.
    #[test]
    fn exp_f64_is_within_one_unit_of_the_standard_library() {
        for i in -745_200..=709_780 {
            let x = f64::from(i) / 1000.0 + 1e-4 * f64::from(i % 7);
            let (got, want) = (exp_f64(x), x.exp());
            assert!(want.to_bits().abs_diff(got.to_bits()) <= 1, "{x}: {got:e} {want:e}");
        }
    }

    #[test]
    fn exp_f64_is_right_at_overflow_and_underflow() {
        assert_eq!([0.0, -0.0, 710.0, f64::INFINITY].map(exp_f64), [1.0, 1.0, f64::INFINITY, f64::INFINITY]);
        assert_eq!([-746.0, -1e300, f64::NEG_INFINITY].map(exp_f64), [0.0; 3]);
        assert!(exp_f64(f64::NAN).is_nan() && exp_f64(-745.1) > 0.0 && exp_f64(709.78).is_finite());
    }

    #[test]
    fn exp_is_right_at_overflow_and_underflow() {
        assert_eq!([0.0, -0.0, 89.0, f32::INFINITY].map(exp), [1.0, 1.0, f32::INFINITY, f32::INFINITY]);
        assert_eq!([-104.0, -1e30, f32::NEG_INFINITY].map(exp), [0.0; 3]);
        assert!(exp(f32::NAN).is_nan() && exp(-103.0) > 0.0 && exp(88.7).is_finite());
    }
}
