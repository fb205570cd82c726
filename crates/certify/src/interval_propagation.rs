//! Interval bound propagation of the displacement: Theorem I1 of docs/certificates.md.

use crate::network::{LayerOp, Network, Step, Weights, batched};
use crate::rounding::{FloatFormat, TINY, UNIT, above, down, up};
use crate::vector::max_or_nan;
use tarrl_tensor::{Device, Shape, Tensor};

/// A box around the displacement of one value for a batch: `lower ≤ Δ ≤ upper`, zero inside.
#[derive(Clone, Debug)]
pub(crate) struct DisplacementBox {
    /// `(n, …)` row-major.
    pub(crate) lower: Vec<f64>,
    /// `(n, …)` row-major.
    pub(crate) upper: Vec<f64>,
}

impl DisplacementBox {
    /// The largest `|Δ|` of element `i`.
    pub(crate) fn magnitude(&self, i: usize) -> f64 {
        max_or_nan(-self.lower[i], self.upper[i])
    }

    /// Makes the box smaller by another one that holds too; NaN stays NaN.
    pub(crate) fn intersect(&mut self, i: usize, lower: f64, upper: f64) {
        if lower > self.lower[i] || lower.is_nan() {
            self.lower[i] = if lower > 0.0 { 0.0 } else { lower };
        }
        if upper < self.upper[i] || upper.is_nan() {
            self.upper[i] = if upper < 0.0 { 0.0 } else { upper };
        }
    }
}

/// Clean values, boxes and rounding errors of every value of a network for a batch of samples.
pub(crate) struct IntervalPropagation<'a> {
    pub(crate) network: &'a Network,
    pub(crate) n: usize,
    /// The values at the samples, in f64.
    pub(crate) clean: Vec<Vec<f64>>,
    /// Boxes around the displacement of each value, exact arithmetic.
    pub(crate) boxes: Vec<DisplacementBox>,
    /// How far f64 arithmetic may be from exact, at any point of the ball.
    pub(crate) error: Vec<Vec<f64>>,
    device: Device,
}

impl<'a> IntervalPropagation<'a> {
    /// The initial state, with the box of the input alone.
    pub(crate) fn new(network: &'a Network, x: &Tensor, input: DisplacementBox) -> Self {
        let clean: Vec<Vec<f64>> = network.values(x).iter().map(|v| v.array().to_f64()).collect();
        let error = vec![vec![0.0; clean[0].len()]];
        IntervalPropagation {
            network,
            n: x.shape()[0],
            clean,
            boxes: vec![input],
            error,
            device: x.device().clone(),
        }
    }

    /// The box of the value after step `at` by interval arithmetic.
    pub(crate) fn interval(&self, at: usize) -> DisplacementBox {
        let step = &self.network.steps[at];
        let input = step.inputs[0];
        let bounds = &self.boxes[input];
        match &step.op {
            LayerOp::Relu => self.relu(input),
            LayerOp::Shift(_) => bounds.clone(),
            LayerOp::Add => {
                let other = &self.boxes[step.inputs[1]];
                let sum = |a: &[f64], b: &[f64], safe: fn(f64) -> f64| {
                    a.iter().zip(b).map(|(a, b)| safe(a + b)).collect()
                };
                DisplacementBox {
                    lower: sum(&bounds.lower, &other.lower, down),
                    upper: sum(&bounds.upper, &other.upper, up),
                }
            }
            map if map.is_exact() => DisplacementBox {
                lower: self.push(at, &bounds.lower, Weights::Signed),
                upper: self.push(at, &bounds.upper, Weights::Signed),
            },
            map => {
                let terms = map.terms(&self.network.shapes[input]);
                let k = map.gamma(&self.network.shapes[input], UNIT);
                let center: Vec<f64> =
                    bounds.lower.iter().zip(&bounds.upper).map(|(l, u)| 0.5 * l + 0.5 * u).collect();
                let around = |i: usize| {
                    let c = center[i];
                    above(max_or_nan(bounds.upper[i] - c, c - bounds.lower[i]) + k * c.abs(), 4)
                };
                let radius: Vec<f64> = (0..center.len()).map(around).collect();
                let center = self.push(at, &center, Weights::Signed);
                let radius = self.push(at, &radius, Weights::Absolute);
                let end = |sign: f64, safe: fn(f64) -> f64| {
                    center.iter().zip(&radius).map(|(c, r)| safe(c + sign * above(*r, terms))).collect()
                };
                DisplacementBox { lower: end(-1.0, down), upper: end(1.0, up) }.with_zero()
            }
        }
    }

    /// The error of the arithmetic of a format in the value after step `at`, whose box is known; infinite where a sum may
    /// overflow.
    pub(crate) fn rounding(&self, at: usize, format: FloatFormat, error: &[Vec<f64>]) -> Vec<f64> {
        let unit = format.unit;
        let step = &self.network.steps[at];
        let before = &error[step.inputs[0]];
        let (value, bounds) = (&self.clean[at + 1], &self.boxes[at + 1]);
        let result = |i: usize, e: f64| {
            // The clean value is itself known within e.
            let size = value[i].abs() + bounds.magnitude(i) + 3.0 * e;
            if size > format.largest { f64::INFINITY } else { above(e + 4.0 * unit * size, 6) }
        };
        match &step.op {
            LayerOp::Relu => before.clone(),
            map if map.is_exact() => self.push(at, before, Weights::Signed),
            LayerOp::Shift(_) => (0..value.len()).map(|i| result(i, before[i])).collect(),
            LayerOp::Add => {
                let other = &error[step.inputs[1]];
                (0..value.len()).map(|i| result(i, before[i] + other[i])).collect()
            }
            map => {
                let input = step.inputs[0];
                let k = map.gamma(&self.network.shapes[input], unit);
                let (clean, bounds) = (&self.clean[input], &self.boxes[input]);
                let term = |i: usize| {
                    above(before[i] + k * (clean[i].abs() + bounds.magnitude(i) + 2.0 * before[i]), 6)
                };
                let terms: Vec<f64> = (0..clean.len()).map(term).collect();
                let length = map.terms(&self.network.shapes[input]);
                let sum = |&e: &f64| {
                    // No partial sum of the products is larger than e / k.
                    let overflows = above(e, length) / k > format.largest;
                    if overflows { f64::INFINITY } else { above(e + length as f64 * format.least, length) }
                };
                self.push(at, &terms, Weights::Absolute).iter().map(sum).collect()
            }
        }
    }

    /// The errors of all values in a format; all boxes are known.
    pub(crate) fn errors(&self, format: FloatFormat) -> Vec<Vec<f64>> {
        let mut error = vec![vec![0.0; self.clean[0].len()]];
        for at in 0..self.network.steps.len() {
            error.push(self.rounding(at, format, &error));
        }
        error
    }

    fn relu(&self, input: usize) -> DisplacementBox {
        let (h, e, bounds) = (&self.clean[input], &self.error[input], &self.boxes[input]);
        let upper = |i: usize| relu_upper(up(h[i] + e[i]), bounds.upper[i]);
        let lower = |i: usize| relu_lower(up(h[i] + e[i]), bounds.lower[i]);
        DisplacementBox { lower: (0..h.len()).map(lower).collect(), upper: (0..h.len()).map(upper).collect() }
    }

    fn push(&self, at: usize, values: &[f64], weights: Weights) -> Vec<f64> {
        let Step { op, inputs } = &self.network.steps[at];
        let shape = |v: usize| -> Shape { batched(self.n, &self.network.shapes[v]) };
        let x = Tensor::new(&self.device, shape(inputs[0]), values);
        op.linear(&x, &self.network.shapes[at + 1], weights).array().to_f64()
    }
}

impl DisplacementBox {
    fn with_zero(mut self) -> Self {
        self.lower.iter_mut().for_each(|l| *l = if *l > 0.0 { 0.0 } else { *l });
        self.upper.iter_mut().for_each(|u| *u = if *u < 0.0 { 0.0 } else { *u });
        self
    }
}

/// The maximum of `relu(h + D) − relu(h)` over `D ≤ u`, for `u ≥ 0`; it increases with `h`.
pub(crate) fn relu_upper(h: f64, u: f64) -> f64 {
    if h + u <= 0.0 {
        0.0
    } else if h >= 0.0 {
        u
    } else {
        let end = up(h + u);
        if end > u { u } else { end }
    }
}

/// The minimum of `relu(h + D) − relu(h)` over `D ≥ l`, for `l ≤ 0`; it decreases with `h`.
pub(crate) fn relu_lower(h: f64, l: f64) -> f64 {
    if h <= 0.0 {
        0.0
    } else if h + l >= 0.0 || l.is_nan() {
        l
    } else {
        -h
    }
}

/// The box of `{x' : ‖x' − x‖ ≤ ε, low ≤ x' ≤ high}` around `x`, as displacements, rounded outwards. In the
/// Euclidean ball no coordinate moves farther than ε either.
pub(crate) fn input_box(x: &[f64], epsilon: f64, bounds: Option<(f64, f64)>) -> DisplacementBox {
    let (low, high) = bounds.unwrap_or((f64::NEG_INFINITY, f64::INFINITY));
    let side = |room: f64| {
        if room < 0.0 {
            TINY
        } else if room < epsilon {
            up(room)
        } else {
            epsilon
        }
    };
    DisplacementBox {
        lower: x.iter().map(|&x| -side(x - low)).collect(),
        upper: x.iter().map(|&x| side(high - x)).collect(),
    }
}
