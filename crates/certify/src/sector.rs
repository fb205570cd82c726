//! Sector bounds: every ReLU as a factor in an interval of secant slopes, and the radius that follows. Theorem I10 of
//! docs/certificates.md.

use crate::rounding::{above, down, up};
use crate::vector::{max_or_nan, min_or_nan};
use crate::zonotope::ZonotopeParts;
use tarrl_bound::linalg::spectral_norm;
use tarrl_tensor::Device;

/// The middle and the half width of an interval that holds every secant `(relu(h + D) − relu(h)) / D` of a unit
/// with pre-activation `h` in `[h0, h1]` and displacement `D` in `[l, u]`, zero inside.
///
/// It is narrower than `[0, 1]` because one end of a secant is the clean point.
pub(crate) fn sector([h0, h1]: [f64; 2], [l, u]: [f64; 2]) -> (f64, f64) {
    let top = if h1 > 0.0 {
        1.0
    } else if u == 0.0 {
        0.0
    } else {
        up(up(h1 + u) / u).clamp(0.0, 1.0)
    };
    let bottom = if h0 > 0.0 && h0 + l >= 0.0 {
        1.0
    } else if h0 > 0.0 {
        down(h0 / -l).clamp(0.0, 1.0)
    } else {
        0.0
    };
    let middle = 0.5 * top + 0.5 * bottom;
    (middle, up(max_or_nan(top - middle, middle - bottom)))
}

/// What one layer of ReLUs adds to `Δz = A δ + Σ M E κ Δ`, for the units whose secants are not known exactly.
#[derive(Clone, Debug, Default)]
pub(crate) struct ReluLayer {
    /// `Mᵀ (units, d)` row-major: what a unit does to the output.
    pub(crate) columns: Vec<f64>,
    pub(crate) units: Vec<ReluUnit>,
    /// An upper bound of the length of the displacement before the ReLU.
    pub(crate) ball: f64,
}

/// A ReLU unit of a [`ReluLayer`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct ReluUnit {
    /// The middle and the half width of its band.
    pub(crate) band: (f64, f64),
    /// κ: the half width of its secants.
    pub(crate) half: f64,
    /// The largest displacement before it.
    pub(crate) reach: f64,
}

/// An upper bound of `‖Δz‖₂`: for each layer either its generators, together with those of `input`, or the product of
/// the norms of `M √κ` and `√κ Δ`, whichever is less alone.
///
/// `whole` is `input` with the generators and offsets of all layers.
pub(crate) fn radius(
    whole: &ZonotopeParts,
    input: ZonotopeParts,
    layers: &[ReluLayer],
    device: &Device,
) -> f64 {
    let plain = whole.radius(device);
    let d = input.offset.len();
    let (mut kept, mut products) = (input, Vec::new());
    for layer in layers {
        let product = layer.product(d);
        let mut alone =
            ZonotopeParts { offset: vec![0.0; d], spread: vec![], generators: vec![], ball: vec![] };
        layer.add_to(&mut alone);
        if alone.radius(device) <= product {
            layer.add_to(&mut kept);
        } else {
            products.push(product);
        }
    }
    if products.is_empty() {
        return plain;
    }
    let mixed = kept.radius(device) + products.iter().sum::<f64>();
    min_or_nan(plain, above(mixed, products.len() + 1))
}

impl ReluLayer {
    /// `‖M √κ‖ q` with `q ≥ ‖√κ Δ‖` from the boxes of the units and from the ball around all of them.
    fn product(&self, d: usize) -> f64 {
        let scaled: Vec<f64> = self
            .columns
            .chunks(d)
            .zip(&self.units)
            .flat_map(|(column, unit)| column.iter().map(|m| m * unit.half.sqrt()))
            .collect();
        let boxes = self.units.iter().map(|unit| unit.half * unit.reach * unit.reach).sum::<f64>();
        let widest = self.units.iter().map(|unit| unit.half).fold(0.0, |most, half| max_or_nan(half, most));
        let q = min_or_nan(above(boxes, self.units.len() + 2).sqrt(), above(widest, 2).sqrt() * self.ball);
        above(spectral_norm(&scaled, self.units.len(), d) * (1.0 + 1e-9) * q, 8)
    }

    /// Appends the band of every unit as a generator, and its middle to the offset.
    pub(crate) fn add_to(&self, parts: &mut ZonotopeParts) {
        for (column, unit) in self.columns.chunks(parts.offset.len()).zip(&self.units) {
            let (middle, half) = unit.band;
            parts.offset.iter_mut().zip(column).for_each(|(b, m)| *b += m * middle);
            parts.generators.push(column.iter().map(|m| m * half).collect());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The sectors of the dyadic example, `h = (1.5, .25, −.25)` and boxes ±.5: [1, 1], [.5, 1] and [0, .5].
    #[test]
    fn sectors_of_the_dyadic_example_units() {
        for (h, bottom, top) in [(1.5, 1.0, 1.0), (0.25, 0.5, 1.0), (-0.25, 0.0, 0.5)] {
            let (middle, half) = sector([h, h], [-0.5, 0.5]);
            // Ends are rounded outwards once or twice.
            assert!((middle - half - bottom).abs() < 1e-15 && (middle + half - top).abs() < 1e-15, "{h}");
            assert!(middle - half <= bottom && middle + half >= top);
        }
    }

    #[test]
    fn a_nan_gives_a_nan_sector() {
        for [h, l, u] in [[f64::NAN, -1.0, 1.0], [-0.1, -1.0, f64::NAN], [0.1, f64::NAN, 1.0]] {
            let (middle, half) = sector([h, h], [l, u]);
            assert!(middle.is_nan() && half.is_nan(), "{h} {l} {u}: {middle} {half}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1000))]

        #[test]
        fn the_sector_holds_every_secant(
            h in -2.0f64..2.0, error in 0.0f64..0.3, l in -2.0f64..=0.0, u in 0.0f64..=2.0,
            at in prop::collection::vec((-1.0f64..=1.0, 0.0f64..=1.0), 8),
        ) {
            let (middle, half) = sector([h - error, h + error], [l, u]);
            for (shift, share) in at {
                let (h, d) = (h + shift * error, l + share * (u - l));
                let phi = (h + d).max(0.0) - h.max(0.0);
                // Two roundings of numbers below 4 in the check itself.
                prop_assert!((phi - middle * d).abs() <= half * d.abs() + 4.0 * f64::EPSILON);
            }
        }

        /// The steepest and the flattest secant are attained at an end of the box.
        #[test]
        fn no_sector_can_be_narrower_by_a_twentieth(h in -0.9f64..0.9) {
            let (middle, half) = sector([h, h], [-1.0, 1.0]);
            let phi = |d: f64| (h + d).max(0.0) - h.max(0.0);
            prop_assert!([-1.0, 1.0].iter().any(|&d| (phi(d) - middle * d).abs() > 0.95 * half));
        }
    }

    /// One unit that feeds one output by 2, a sector of half width ½ and a reach of 3: 2·√½ times √½·3. A ball of
    /// radius 1 makes it 2·½·1.
    #[test]
    fn the_product_of_norms_of_one_unit() {
        let unit = ReluUnit { band: (0.0, 1.5), half: 0.5, reach: 3.0 };
        for (ball, golden) in [(9.0, 3.0), (1.0, 1.0)] {
            let found = ReluLayer { columns: vec![2.0], units: vec![unit], ball }.product(1);
            assert!(found >= golden && found < golden + 1e-8, "{found} {golden}");
        }
    }
}
