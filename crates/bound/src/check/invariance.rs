//! Invariance checks: a common row of a head, an invertible map of the representation.

use super::violation::{Violation, equals};
use crate::heads::LinearHead;
use crate::numerics::LpNorm;
use crate::theorems::whitening::Whitening;

/// A vector added to all rows of a head changes neither its losses nor its constants: Theorem A3
/// (docs/theory.md). `common` `(d)` may be some times larger than the rows, not many powers of ten.
///
/// # Errors
/// The quantity that changed.
///
/// # Panics
/// If a shape does not fit.
#[track_caller]
pub fn head_ignores_common_row(head: &LinearHead, common: &[f64], z: &[f64]) -> Result<(), Violation> {
    let (k, d) = (head.classes(), head.features());
    assert_eq!(common.len(), d, "a common row of {} for {d} features", common.len());
    let weight = head.weight().iter().enumerate().map(|(i, w)| w + common[i % d]).collect();
    let moved = LinearHead::new(k, d, weight, head.bias().to_vec());
    // The rows keep an error of 1e-16 of the common row; differences of rows are compared with both.
    let scale = LpNorm::L1.of(common) + LpNorm::L1.of(head.weight());
    let same = |what: &str, a: f64, b: f64| equals(what, a + scale, b + scale, 1e-12);
    for norm in LpNorm::ALL {
        same(&format!("the constant in {norm:?}"), moved.constant(norm), head.constant(norm))?;
    }
    same("the spectral constant", moved.spectral_constant(), head.spectral_constant())?;
    let size = 1.0 + LpNorm::L1.of(z);
    (0..k).try_for_each(|y| {
        same(&format!("the loss of label {y}"), moved.loss(z, y) / size, head.loss(z, y) / size)
    })
}

/// The whitened length of a displacement does not change under an invertible linear map of the
/// representation: Theorem A6 (docs/theory.md). `z` `(n, d)`, `delta` `(d)` and `map` `(d, d)`, row-major; a
/// relative error of `tolerance` is forgiven, which the condition of the map and of the data decide.
///
/// # Errors
/// If the length changed, or a covariance is singular.
///
/// # Panics
/// If a shape does not fit.
#[track_caller]
pub fn length_ignores_linear_map(
    z: &[f64],
    delta: &[f64],
    map: &[f64],
    tolerance: f64,
) -> Result<(), Violation> {
    let d = delta.len();
    assert!(
        map.len() == d * d && z.len().is_multiple_of(d),
        "a map of {} numbers on {d} features",
        map.len()
    );
    let apply =
        |v: &[f64]| -> Vec<f64> { map.chunks(d).map(|row| crate::numerics::linalg::dot(row, v)).collect() };
    let mapped: Vec<f64> = z.chunks(d).flat_map(apply).collect();
    let length = |z: &[f64], delta: &[f64]| Whitening::of(z, d, 0.0).map_or(f64::NAN, |w| w.length(delta));
    equals("the whitened length", length(&mapped, &apply(delta)), length(z, delta), tolerance)
}
