//! Methods as states of one sample: a point to evaluate next, what is differentiated there, and a move.

use crate::sample::{Found, Sample};

/// What was seen at a point.
pub(crate) struct Seen<'a> {
    /// The scores (k).
    pub(crate) z: &'a [f64],
    /// z_y − max_{k≠y} z_k.
    pub(crate) margin: f64,
    /// Whether the point is misclassified.
    pub(crate) mistake: bool,
    pub(crate) distance: f64,
    /// The gradients in the input of what the method named, finite.
    pub(crate) gradients: Vec<Vec<f64>>,
}

/// A minimum-norm method at work on one sample.
pub(crate) trait Method {
    /// The point to evaluate next.
    fn point(&self) -> &[f32];

    /// Whether a gradient may be wanted there.
    fn wants_gradients(&self) -> bool {
        true
    }

    /// The gradients in the scores `z` (k) of what is to be differentiated there, of a sample with label `y`; none: the
    /// point needs its scores alone.
    fn slopes(&self, z: &[f64], y: usize) -> Vec<Vec<f64>> {
        vec![rise(z, y, rival(z, y))]
    }

    /// Takes in what was seen, `found` included, and moves; `false` at the end.
    fn advance(&mut self, sample: &Sample, found: &Found, seen: &Seen<'_>) -> bool;

    /// Whether a stored state can be one of its configuration on a sample, on a model of so many classes.
    fn fits(&self, sample: &Sample, classes: usize) -> bool;
}

/// The class of the largest score beside the label's, of equals the first.
pub(crate) fn rival(z: &[f64], y: usize) -> usize {
    let others = (0..z.len()).filter(|&k| k != y);
    others.reduce(|best, k| if z[k] > z[best] { k } else { best }).unwrap_or(0)
}

/// The gradient of z_k − z_y in the scores.
pub(crate) fn rise(z: &[f64], y: usize, k: usize) -> Vec<f64> {
    let mut slope = vec![0.0; z.len()];
    slope[k] += 1.0;
    slope[y] -= 1.0;
    slope
}
