//! Directed rounding towards the inside of a ball: differences are decided in exact arithmetic.

use crate::threat::scratch::{Room, Row};
use tarrl_tensor::Element;

/// The element types of inputs, each exactly representable in f64.
pub(crate) trait Real: Element + PartialOrd {
    fn wide(self) -> f64;
    /// The nearest value.
    fn nearest(x: f64) -> Self;
    /// Buffers for numbers of this type.
    fn room(scratch: &mut Room) -> (&mut [Vec<Self>; 2], &mut Row);
    fn up(self) -> Self;
    fn down(self) -> Self;
}

impl Real for f32 {
    fn room(scratch: &mut Room) -> (&mut [Vec<Self>; 2], &mut Row) {
        (&mut scratch.f32, &mut scratch.row)
    }
    fn wide(self) -> f64 {
        f64::from(self)
    }
    fn nearest(x: f64) -> Self {
        x as f32
    }
    fn up(self) -> Self {
        self.next_up()
    }
    fn down(self) -> Self {
        self.next_down()
    }
}

impl Real for f64 {
    fn room(scratch: &mut Room) -> (&mut [Vec<Self>; 2], &mut Row) {
        (&mut scratch.f64, &mut scratch.row)
    }
    fn wide(self) -> f64 {
        self
    }
    fn nearest(x: f64) -> Self {
        x
    }
    fn up(self) -> Self {
        self.next_up()
    }
    fn down(self) -> Self {
        self.next_down()
    }
}

/// The largest value `v` with `v − x ≤ reach`, the difference taken without rounding.
pub(crate) fn above<R: Real>(x: R, reach: f64) -> R {
    let mut v = R::nearest(x.wide() + reach);
    while farther(v.wide(), x.wide(), reach) {
        v = v.down();
    }
    v
}

/// The smallest value `v` with `x − v ≤ reach`, the difference taken without rounding.
pub(crate) fn below<R: Real>(x: R, reach: f64) -> R {
    let mut v = R::nearest(x.wide() - reach);
    while farther(x.wide(), v.wide(), reach) {
        v = v.up();
    }
    v
}

/// The smallest value that is at least `x`.
pub(crate) fn ceiling<R: Real>(x: f64) -> R {
    let v = R::nearest(x);
    if v.wide() < x { v.up() } else { v }
}

/// The largest value that is at most `x`.
pub(crate) fn floor<R: Real>(x: f64) -> R {
    let v = R::nearest(x);
    if v.wide() > x { v.down() } else { v }
}

/// Whether `a − b > reach` in exact arithmetic.
///
/// The rounded difference decides unless it equals `reach`: rounding is monotone and `reach` is
/// representable. Then the error of the subtraction, which is representable too (Knuth's two-sum), does.
pub(crate) fn farther(a: f64, b: f64, reach: f64) -> bool {
    let difference = a - b;
    let taken = difference - a;
    let error = (a - (difference - taken)) + (-b - taken);
    difference > reach || (difference == reach && error > 0.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_subtraction_error_decides_ties() {
        // 1 − (−2⁻⁷⁰) rounds to 1, but is more than 1; 1 − 2⁻⁷⁰ rounds to 1, but is less.
        let tiny = (-70f64).exp2();
        assert!(farther(1.0, -tiny, 1.0) && !farther(1.0, tiny, 1.0) && !farther(1.0, 0.0, 1.0));
    }

    /// For 36 of the 256 gray levels, min(x + 8/255, 1) in f32 is farther than f32 ε from x.
    #[test]
    fn gray_levels_stay_inside() {
        let reach = 8.0 / 255.0;
        let naive = (0..256).filter(|&level| {
            let x = level as f32 / 255.0;
            (x + reach as f32).min(1.0) - x > reach as f32
        });
        assert_eq!(naive.count(), 36);
        for level in 0..256 {
            let x = level as f32 / 255.0;
            let (lo, hi) = (below(x, reach), above(x, reach));
            assert!(f64::from(hi) - f64::from(x) <= reach && f64::from(x) - f64::from(lo) <= reach);
            assert!(f64::from(hi.next_up()) - f64::from(x) > reach, "not the largest at {level}");
            assert!(f64::from(x) - f64::from(lo.next_down()) > reach, "not the smallest at {level}");
        }
    }

    proptest! {
        /// Differences of f32 whose exponents lie within 29 of each other are exact in f64.
        #[test]
        fn bounds_are_inside_and_as_wide_as_can_be(x in 1e-6f32..1.0, reach in 1e-6f64..1.0) {
            let (lo, hi) = (below(x, reach), above(x, reach));
            prop_assert!(f64::from(hi) - f64::from(x) <= reach && f64::from(x) - f64::from(lo) <= reach);
            prop_assert!(f64::from(hi.next_up()) - f64::from(x) > reach);
            prop_assert!(hi >= x && lo <= x);
        }

        #[test]
        fn rounding_of_a_bound_is_inward(x in -2.0f64..2.0) {
            prop_assert!(f64::from(ceiling::<f32>(x)) >= x && f64::from(floor::<f32>(x)) <= x);
            prop_assert!(floor::<f64>(x) == x && ceiling::<f64>(x) == x);
        }
    }
}
