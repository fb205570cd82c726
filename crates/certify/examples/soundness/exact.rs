//! Exact membership in a ball: sums of floating-point numbers and of their products in fixed point, without any rounding.

use tarrl_attacks::Norm;

/// The exponent of the lowest bit: below that of any product of two f64.
const LOWEST: i32 = -2176;

/// Sums of up to 2³¹ numbers and products whose absolute values are below 2¹²⁸: digits of 32 bits, each with room for carries.
struct Exact([i64; 74]);

impl Exact {
    fn new() -> Self {
        Exact([0; 74])
    }

    /// Adds `sign · a · b`.
    fn add(&mut self, sign: i64, a: f64, b: f64) {
        let ((m, e), (n, f)) = (parts(a), parts(b));
        let sign = sign * if (a < 0.0) == (b < 0.0) { 1 } else { -1 };
        let product = u128::from(m) * u128::from(n);
        let place = (e + f - LOWEST) as usize;
        for k in 0..4 {
            let digit = (product >> (32 * k)) as u64 & 0xffff_ffff;
            let shifted = digit << (place % 32);
            let at = place / 32 + k;
            if shifted != 0 {
                self.0[at] += sign * (shifted & 0xffff_ffff) as i64;
                self.0[at + 1] += sign * (shifted >> 32) as i64;
            }
        }
    }

    fn sum_is_above_zero(mut self) -> bool {
        for at in 0..self.0.len() - 1 {
            let carry = self.0[at].div_euclid(1 << 32);
            self.0[at + 1] += carry;
            self.0[at] -= carry << 32;
        }
        // All digits but the last are not negative now, and the last has the sign.
        let last = self.0[self.0.len() - 1];
        last > 0 || (last == 0 && self.0.iter().any(|&digit| digit != 0))
    }
}

/// `|v| = m 2ᵉ`.
fn parts(v: f64) -> (u64, i32) {
    let (exponent, mantissa) = ((v.to_bits() >> 52 & 0x7ff) as i32, v.to_bits() & ((1 << 52) - 1));
    if exponent == 0 { (mantissa, -1074) } else { (mantissa | 1 << 52, exponent - 1075) }
}

/// Whether `u` is farther from `x` than `epsilon` or outside `[0, 1]`.
///
/// # Panics
/// If a number is not finite, or the norm is l0.
pub(crate) fn leaves(norm: Norm, x: &[f64], u: &[f64], epsilon: f64) -> bool {
    assert!(x.iter().chain(u).all(|v| v.is_finite()), "a point is not finite");
    if u.iter().any(|v| !(0.0..=1.0).contains(v)) {
        return true;
    }
    let pairs = x.iter().zip(u);
    let away = |sum: &mut Exact, x: f64, u: f64| {
        let sign = if u > x { 1 } else { -1 };
        sum.add(sign, u, 1.0);
        sum.add(-sign, x, 1.0);
    };
    let mut sum = Exact::new();
    match norm {
        Norm::Linf => {
            return pairs.into_iter().any(|(&x, &u)| {
                let mut sum = Exact::new();
                away(&mut sum, x, u);
                sum.add(-1, epsilon, 1.0);
                sum.sum_is_above_zero()
            });
        }
        Norm::L1 => {
            pairs.for_each(|(&x, &u)| away(&mut sum, x, u));
            sum.add(-1, epsilon, 1.0);
        }
        Norm::L2 => {
            for (&x, &u) in pairs {
                // (u − x)² = u² − 2 u x + x².
                sum.add(1, u, u);
                sum.add(-1, 2.0 * u, x);
                sum.add(1, x, x);
            }
            sum.add(-1, epsilon, epsilon);
        }
        Norm::L0 => panic!("sparse changes are not certified"),
    }
    sum.sum_is_above_zero()
}

#[test]
fn membership_is_decided_in_the_last_bit() {
    let (tiny, half, least) = ((-60f64).exp2(), (-53f64).exp2(), f64::from_bits(1));
    assert!(!leaves(Norm::L1, &[0.0, 0.0], &[1.0 - half, half], 1.0));
    assert!(leaves(Norm::L1, &[0.0, 0.0], &[1.0, tiny], 1.0));
    assert!(leaves(Norm::L2, &[0.0, 0.0], &[0.6, 0.8], 1.0), "0.8 is rounded up by more than 0.6 is down");
    assert!(!leaves(Norm::L2, &[0.0, 0.0], &[0.6, 0.8f64.next_down()], 1.0));
    assert!(leaves(Norm::Linf, &[1.0], &[least], 1.0 - half) && !leaves(Norm::Linf, &[1.0], &[least], 1.0));
    for norm in [Norm::Linf, Norm::L1, Norm::L2] {
        assert!(leaves(norm, &[0.0], &[2.0 * least], least) && !leaves(norm, &[0.0], &[least], least));
        assert!(leaves(norm, &[0.5], &[0.5f64.next_up()], 0.0) && !leaves(norm, &[0.5], &[0.5], 0.0));
        assert!(leaves(norm, &[0.0], &[-least], 1.0), "outside of the pixels");
    }
}
