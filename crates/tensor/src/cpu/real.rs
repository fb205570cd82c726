//! Scalar arithmetic of the kernels, for f32 and f64, with the same bits on every processor.

use super::memory::Pooled;
use std::ops::{Add, AddAssign, Div, Mul, Neg, Sub};

/// f32 or f64.
pub(super) trait Real:
    Pooled
    + PartialOrd
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
    + Neg<Output = Self>
    + AddAssign
{
    const ZERO: Self;
    const ONE: Self;
    fn of(x: f64) -> Self;
    fn f64(self) -> f64;
    fn exp(self) -> Self;
    fn ln(self) -> Self;
    fn ln_1p(self) -> Self;
    fn sqrt(self) -> Self;
    fn powf(self, p: f64) -> Self;
    fn tanh(self) -> Self;
    fn erf(self) -> Self;
    fn abs(self) -> Self;
}

macro_rules! real {
    ($t:ty, $exp:path, $ln:path, $ln_1p:path, $powf:path, $tanh:path, $erf:path) => {
        impl Real for $t {
            const ZERO: Self = 0.0;
            const ONE: Self = 1.0;
            fn of(x: f64) -> Self {
                x as $t
            }
            fn f64(self) -> f64 {
                f64::from(self)
            }
            #[inline(always)]
            fn exp(self) -> Self {
                $exp(self)
            }
            fn ln(self) -> Self {
                $ln(self)
            }
            fn ln_1p(self) -> Self {
                $ln_1p(self)
            }
            fn sqrt(self) -> Self {
                self.sqrt()
            }
            fn powf(self, p: f64) -> Self {
                if p == p.trunc() && p.abs() <= 64.0 { self.powi(p as i32) } else { $powf(self, p as $t) }
            }
            fn tanh(self) -> Self {
                $tanh(self)
            }
            fn erf(self) -> Self {
                $erf(self)
            }
            fn abs(self) -> Self {
                self.abs()
            }
        }
    };
}
real!(f32, super::exp::exp, libm::logf, libm::log1pf, libm::powf, libm::tanhf, libm::erff);
real!(f64, super::exp::exp_f64, libm::log, libm::log1p, libm::pow, libm::tanh, libm::erf);
