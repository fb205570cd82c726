//! Linear relaxation of ReLU: lines above and below its displacement, Theorem I2 of docs/certificates.md.

use crate::interval_propagation::{DisplacementBox, relu_lower, relu_upper};
use crate::rounding::{LEAST, UNIT, down, up};
use crate::sector::sector;
use crate::vector::max_or_nan;
use tarrl_tensor::LINE;

/// The common slope of the parallel lines of a unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RelaxationSlope {
    /// That of the chord of its box: the narrowest band.
    Chord,
    /// The middle of its secants: the lines of Theorem I10.
    Sector,
}

/// The lines of all units of one ReLU for a batch, `(n, …)` row-major each.
///
/// For the exact pre-activation `h` and displacement `D` of unit `i`, with
/// `φ(D) = relu(h + D) − relu(h)`:
/// `slope·D + low ≤ φ(D) ≤ slope·D + high` and `tangent·D + floor ≤ φ(D)`.
pub(crate) struct ReluRelaxation {
    /// The slope of two parallel lines.
    pub(crate) slope: Vec<f64>,
    /// The offset of the upper line.
    pub(crate) high: Vec<f64>,
    /// The offset of the parallel lower line.
    pub(crate) low: Vec<f64>,
    /// The slope of a free lower line, 0 or 1.
    pub(crate) tangent: Vec<f64>,
    /// Its offset.
    pub(crate) floor: Vec<f64>,
    /// Whether the unit can be displaced at all.
    alive: Vec<bool>,
    /// Whether the ReLU changes nothing in the whole box.
    active: Vec<bool>,
    /// The ends of the pre-activation.
    ends: Vec<[f64; 2]>,
}

/// What the offsets of lines add to the rows of a bundle.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct LineSums {
    pub(crate) sum: [f64; LINE],
    /// The sum of the sizes of the terms.
    pub(crate) size: [f64; LINE],
}

impl LineSums {
    /// Adds an offset times each coefficient.
    pub(crate) fn add(&mut self, line: &[f64; LINE], offset: f64) {
        line.iter().enumerate().for_each(|(lane, a)| self.add_term(lane, a * offset));
    }

    fn add_term(&mut self, lane: usize, term: f64) {
        self.sum[lane] += term;
        self.size[lane] += term.abs();
    }
}

impl ReluRelaxation {
    /// The lines for pre-activations within `error` of `h`, displaced within `bounds`.
    pub(crate) fn new(h: &[f64], error: &[f64], bounds: &DisplacementBox, slope: RelaxationSlope) -> Self {
        let n = h.len();
        let zeros = || vec![0.0; n];
        let mut lines = ReluRelaxation {
            slope: zeros(),
            high: zeros(),
            low: zeros(),
            tangent: zeros(),
            floor: zeros(),
            alive: vec![false; n],
            active: vec![false; n],
            ends: vec![[0.0; 2]; n],
        };
        for i in 0..n {
            let ends = [down(h[i] - error[i]), up(h[i] + error[i])];
            lines.ends[i] = ends;
            lines.set(i, ends, [bounds.lower[i], bounds.upper[i]], slope);
            let (slopes, offsets) = ([lines.slope[i], lines.tangent[i]], [lines.high[i], lines.floor[i]]);
            lines.active[i] = slopes == [1.0; 2] && offsets == [0.0; 2];
        }
        lines
    }

    fn set(&mut self, i: usize, [h0, h1]: [f64; 2], [l, u]: [f64; 2], slope: RelaxationSlope) {
        if h0 + l >= 0.0 {
            // Active in the whole box: φ(D) = D.
            (self.slope[i], self.tangent[i], self.alive[i]) = (1.0, 1.0, true);
            return;
        }
        if h1 + u <= 0.0 || (l == 0.0 && u == 0.0) {
            return; // Inactive, or never displaced: φ(D) = 0.
        }
        self.alive[i] = true;
        // Any slope is sound with its offset.
        let s = match slope {
            RelaxationSlope::Chord => ((relu_upper(h1, u) - relu_lower(h1, l)) / (u - l)).clamp(0.0, 1.0),
            RelaxationSlope::Sector => sector([h0, h1], [l, u]).0,
        };
        // φ − s D is convex, so that its maximum is at an end, and its minimum at the kink D = −h.
        let left = relu_left(h0, l) - s * l;
        let right = relu_upper(h1, u) - s * u;
        let size = h0.abs() + h1.abs() + u - l;
        self.slope[i] = s;
        let rounding = 8.0 * UNIT * size + 8.0 * LEAST;
        self.high[i] = max_or_nan(left, right) + rounding;
        self.low[i] = -max_or_nan(kink(s, h0), kink(s, h1)) - rounding;
        // The tangent that leaves the smaller triangle.
        let t = if h1 + u > -(h0 + l) { 1.0 } else { 0.0 };
        self.tangent[i] = t;
        self.floor[i] = -max_or_nan(kink(t, h0), kink(t, h1));
        if s.is_nan() {
            (self.high[i], self.low[i], self.floor[i]) = (f64::NAN, f64::NAN, f64::NAN);
        }
    }

    /// Replaces the ReLU of unit `i` in upper bounds: positive coefficients take the upper line, the others the free lower
    /// one.
    pub(crate) fn replace(&self, i: usize, line: &mut [f64; LINE], sums: &mut LineSums) {
        let (high, slope, floor, tangent) = (self.high[i], self.slope[i], self.floor[i], self.tangent[i]);
        for (lane, a) in line.iter_mut().enumerate() {
            // Chosen without a branch: signs change from row to row.
            let (offset, factor) = if *a > 0.0 { (high, slope) } else { (floor, tangent) };
            sums.add_term(lane, *a * offset);
            *a *= factor;
        }
    }

    /// As [`replace`](Self::replace) with a slope in [0, 1] of each row for the free lower line.
    pub(crate) fn replace_with_slopes(
        &self,
        i: usize,
        line: &mut [f64; LINE],
        slopes: &[f64; LINE],
        sums: &mut LineSums,
    ) {
        if self.is_active(i) {
            return;
        }
        for (lane, (a, &free)) in line.iter_mut().zip(slopes).enumerate() {
            let (offset, factor) =
                if *a > 0.0 { (self.high[i], self.slope[i]) } else { (self.floor_of(i, free), free) };
            sums.add_term(lane, *a * offset);
            *a *= factor;
        }
    }

    /// The offset of the lower line of any slope in [0, 1]: Theorem I2.
    fn floor_of(&self, i: usize, slope: f64) -> f64 {
        let [h0, h1] = self.ends[i];
        let rounding =
            if slope == self.tangent[i] { 0.0 } else { 8.0 * UNIT * (h0.abs() + h1.abs()) + 8.0 * LEAST };
        // NaN where a bound of the unit is.
        self.floor[i] * 0.0 - max_or_nan(kink(slope, h0), kink(slope, h1)) - rounding
    }

    /// From displacements before unit `i` to those that the lines of [`replace_with_slopes`](Self::replace_with_slopes) give
    /// for these coefficients, and the derivatives of the bounds in the slopes.
    pub(crate) fn displace(
        &self,
        i: usize,
        coefficients: &[f64; LINE],
        values: &mut [f64; LINE],
        slopes: &[f64; LINE],
    ) -> [f64; LINE] {
        let mut gradient = [0.0; LINE];
        if self.is_active(i) {
            return gradient;
        }
        let (slope, high) = (self.slope[i], self.high[i]);
        let h = 0.5 * self.ends[i][0] + 0.5 * self.ends[i][1];
        for lane in 0..LINE {
            let (a, d) = (coefficients[lane], values[lane]);
            if a > 0.0 {
                values[lane] = slope * d + high;
            } else {
                // The offset is the slope times h, less the kink.
                values[lane] = slopes[lane] * (d + h) - max_or_nan(h, 0.0);
                gradient[lane] = a * (d + h);
            }
        }
        gradient
    }

    /// Whether the ReLU changes nothing in the whole box.
    pub(crate) fn is_active(&self, i: usize) -> bool {
        self.active[i]
    }

    /// Which units of a sample of `len` units can be displaced at all.
    pub(crate) fn alive(&self, sample: usize, len: usize) -> &[bool] {
        &self.alive[sample * len..][..len]
    }

    /// Half the distance of the parallel lines, rounded up, and their middle.
    pub(crate) fn band(&self, i: usize) -> (f64, f64) {
        let middle = 0.5 * self.high[i] + 0.5 * self.low[i];
        let half = max_or_nan(self.high[i] - middle, middle - self.low[i]);
        (middle, if half > 0.0 { up(half) } else { half })
    }
}

/// `relu(h) − s h`: how far the line of slope `s` through the kink lies below zero displacement.
fn kink(s: f64, h: f64) -> f64 {
    if h.is_nan() { h } else { h.max(0.0) - s * h }
}

/// The most that `relu(h + l) − relu(h)` is; it falls with `h`, whose lower end this is.
fn relu_left(h: f64, l: f64) -> f64 {
    if h <= 0.0 {
        0.0
    } else if h + l >= 0.0 {
        l
    } else {
        -h
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn lines(h: f64, error: f64, l: f64, u: f64) -> ReluRelaxation {
        sloped(h, error, l, u, RelaxationSlope::Chord)
    }

    fn sloped(h: f64, error: f64, l: f64, u: f64, slope: RelaxationSlope) -> ReluRelaxation {
        ReluRelaxation::new(&[h], &[error], &DisplacementBox { lower: vec![l], upper: vec![u] }, slope)
    }

    /// Slopes and bands worked by hand for the three units of the dyadic example: `h = (1.5, .25, −.25)`, boxes ±.5.
    #[test]
    fn relaxations_of_the_dyadic_example_units() {
        for (h, slope, high, low) in
            [(1.5, 1.0, 0.0, 0.0), (0.25, 0.75, 0.125, -0.0625), (-0.25, 0.25, 0.125, -0.0625)]
        {
            let found = lines(h, 0.0, -0.5, 0.5);
            // The end of h is rounded outwards, and eight units are added to the offsets.
            for (found, golden) in [(found.slope[0], slope), (found.high[0], high), (found.low[0], low)] {
                assert!((found - golden).abs() < 1e-14, "{h}: {found} {golden}");
            }
        }
    }

    #[test]
    fn a_nan_gives_nan_offsets() {
        for (h, l, u) in [(f64::NAN, -1.0, 1.0), (0.1, f64::NAN, 1.0), (0.1, -1.0, f64::NAN)] {
            let found = lines(h, 0.0, l, u);
            assert!(found.high[0].is_nan() && found.low[0].is_nan(), "{h} {l} {u}");
        }
    }

    /// A number times 2¹²⁰, exactly: numbers below 8 that are multiples of 2⁻¹²⁰.
    fn exact(v: f64) -> i128 {
        let scaled = v * 120f64.exp2();
        assert!(scaled.fract() == 0.0 && v.abs() < 8.0, "{v}");
        scaled as i128
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1000))]

        /// Without any tolerance: `φ − s D`, whole numbers in units of 2⁻¹²⁰, at the ends and at the kink. The eight bits of
        /// the pre-activation and of the ends are exact, slopes and offsets are not.
        #[test]
        fn offsets_cover_their_own_rounding(h in -255i32..255, l in -255i32..0, u in 1i32..255, chord in any::<bool>()) {
            prop_assume!(h != 0);
            let [h, l, u] = [h, l, u].map(|v| f64::from(v) / 128.0);
            let found = sloped(h, 0.0, l, u, if chord { RelaxationSlope::Chord } else { RelaxationSlope::Sector });
            for d in [l, u, (-h).clamp(l, u)] {
                let phi = exact((h + d).max(0.0) - h.max(0.0));
                // d is a whole number of 128ths.
                let line = |slope: f64, offset: f64| exact(slope) / 128 * (d * 128.0) as i128 + exact(offset);
                prop_assert!(phi <= line(found.slope[0], found.high[0]));
                prop_assert!(phi >= line(found.slope[0], found.low[0]));
                prop_assert!(phi >= line(found.tangent[0], found.floor[0]));
            }
        }

        #[test]
        fn the_lines_enclose_the_relu(
            h in -2.0f64..2.0, error in 0.0f64..0.3, l in -2.0f64..=0.0, u in 0.0f64..=2.0,
            at in prop::collection::vec((-1.0f64..=1.0, 0.0f64..=1.0), 8), chord in any::<bool>(),
        ) {
            let found = sloped(h, error, l, u, if chord { RelaxationSlope::Chord } else { RelaxationSlope::Sector });
            for (shift, share) in at {
                let (h, d) = (h + shift * error, l + share * (u - l));
                let phi = (h + d).max(0.0) - h.max(0.0);
                // Two roundings of numbers below 4 in the check itself.
                let tolerance = 4.0 * f64::EPSILON;
                prop_assert!(phi <= found.slope[0] * d + found.high[0] + tolerance);
                prop_assert!(phi >= found.slope[0] * d + found.low[0] - tolerance);
                prop_assert!(phi >= found.tangent[0] * d + found.floor[0] - tolerance);
            }
        }

        /// Offsets a twentieth smaller are wrong at an end or at the kink.
        #[test]
        fn no_offset_can_be_smaller_by_a_twentieth(h in -0.9f64..0.9) {
            let found = lines(h, 0.0, -1.0, 1.0);
            let phi = |d: f64| (h + d).max(0.0) - h.max(0.0);
            let s = found.slope[0];
            let high = 0.95 * found.high[0];
            prop_assert!([-1.0, 1.0].iter().any(|&d| phi(d) > s * d + high));
            prop_assert!(phi(-h) < s * -h + 0.95 * found.low[0]);
        }
    }
}
