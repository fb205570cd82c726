//! Backward substitution (CROWN): linear bounds of a value in terms of the input, Theorems I3 and I4 of
//! docs/certificates.md.

use crate::coefficient_patch::{CoefficientPatch, TargetRows, spatial_extents};
use crate::interval_propagation::DisplacementBox;
use crate::network::{LayerOp, Network, batched};
use crate::relu_relaxation::ReluRelaxation;
use crate::rounding::{TINY, UNIT, above, slack, up};
use crate::vector::max_or_nan;
use std::collections::BTreeMap;
use tarrl_attacks::Norm;
use tarrl_tensor::{Array, ConvShape, DType, Device, Pool, Tensor};

/// What a substitution reads: magnitudes and ReLU relaxations of all values before its target.
pub(crate) struct BackwardSubstitution<'a> {
    pub(crate) network: &'a Network,
    pub(crate) device: Device,
    /// The relaxation of each ReLU step so far.
    pub(crate) lines: BTreeMap<usize, ReluRelaxation>,
    /// `(value, sample)`: the largest `|Δ|` of any element.
    pub(crate) magnitude: Vec<Vec<f64>>,
    /// The factors of each scaling step, for every element of a sample.
    factors: BTreeMap<usize, Vec<f64>>,
}

/// How a ReLU is relaxed.
pub(crate) enum Relaxation<'a> {
    /// For an upper bound: positive coefficients take the upper line, negative ones the free lower line.
    OneSided,
    /// By parallel lines: an identity with one free number in [−1, 1] for each unstable unit; the callback receives
    /// `(row, step, unit, coefficient)` of its band.
    Parallel(&'a mut dyn FnMut(usize, usize, usize, f64)),
}

/// Rows expressed at the input: `row·value ≤ piece·δ + constant`, up to `slack`.
pub(crate) struct InputForm {
    pub(crate) piece: CoefficientPatch,
    pub(crate) constant: Vec<f64>,
    /// Roundings of coefficients and of the constant.
    pub(crate) slack: Vec<f64>,
}

impl<'a> BackwardSubstitution<'a> {
    pub(crate) fn new(network: &'a Network, device: &Device) -> Self {
        let mut factors = BTreeMap::new();
        for (at, step) in network.steps.iter().enumerate() {
            if let LayerOp::Scale { factor, .. } = &step.op {
                let whole = factor.broadcast_to(batched(1, &network.shapes[at + 1]));
                factors.insert(at, whole.array().to_f64());
            }
        }
        BackwardSubstitution {
            network,
            device: device.clone(),
            lines: BTreeMap::new(),
            magnitude: vec![],
            factors,
        }
    }

    /// Records the magnitudes of the next value.
    pub(crate) fn record_magnitude(&mut self, n: usize, bounds: &DisplacementBox) {
        let len = bounds.lower.len() / n;
        let most = |s: usize| (s * len..(s + 1) * len).fold(0.0, |m, i| max_or_nan(bounds.magnitude(i), m));
        self.magnitude.push((0..n).map(most).collect());
    }

    /// Substitutes rows of value `target` back to the input.
    pub(crate) fn run(
        &self,
        target: usize,
        targets: &TargetRows,
        rows: CoefficientPatch,
        mut mode: Relaxation<'_>,
    ) -> InputForm {
        let n = targets.sample.len();
        let mut pending: Vec<Option<CoefficientPatch>> = vec![None; target + 1];
        pending[target] = Some(rows);
        let mut found = InputForm {
            piece: CoefficientPatch::whole([0, 0, 0], vec![]),
            constant: vec![0.0; n],
            slack: vec![0.0; n],
        };
        // The sum of the absolute constants, from which their rounding follows.
        let mut size = vec![0.0; n];
        for at in (0..target).rev() {
            let Some(piece) = pending[at + 1].take() else { continue };
            let step = &self.network.steps[at];
            let input = step.inputs[0];
            let below = match &step.op {
                LayerOp::Relu => {
                    self.add_rounding(&mut found.slack, &piece, targets, 4.0 * UNIT, input);
                    self.relu(at, piece, targets, &mut mode, (&mut found.constant, &mut size))
                }
                LayerOp::Shift(_) => piece,
                LayerOp::Add => {
                    self.accumulate(&mut pending, step.inputs[1], piece.clone(), targets, &mut found.slack);
                    piece
                }
                map => {
                    let k = slack(map.adjoint_terms()) * map.gain(&self.network.shapes[input]);
                    self.add_rounding(&mut found.slack, &piece, targets, k, input);
                    self.adjoint(at, piece, targets)
                }
            };
            self.accumulate(&mut pending, input, below, targets, &mut found.slack);
        }
        let units = self.network.units();
        for (total, size) in found.slack.iter_mut().zip(size) {
            *total = above(*total + slack(units) * size, 2 * self.network.steps.len());
        }
        found.piece = pending[0].take().expect("every value comes from the input");
        found
    }

    /// The upper bound of each row over the inputs `δ` in `input` and, for the Euclidean ball, in its radius.
    pub(crate) fn upper(
        &self,
        found: &InputForm,
        targets: &TargetRows,
        input: &DisplacementBox,
        norm: Norm,
        epsilon: f64,
    ) -> Vec<f64> {
        let map = spatial_extents(&self.network.shapes[0]);
        let (len, width) = (map.iter().product::<usize>(), found.piece.width(map[2]));
        let bound = |row: usize| {
            let a = &found.piece.data[row * width..][..width];
            let base = targets.sample[row] * len;
            let (mut most, mut square) = (0.0, 0.0);
            for (from, to, n) in found.piece.runs(targets.anchor[row], map) {
                for (i, &a) in a[from..][..n].iter().enumerate() {
                    let end = if a > 0.0 { input.upper[base + to + i] } else { input.lower[base + to + i] };
                    most += a * end;
                    square += a * a;
                }
            }
            let mut most = above(most, width);
            if norm == Norm::L2 {
                let ball = above(epsilon * above(square, width).sqrt(), 4);
                most = if ball < most || ball.is_nan() { ball } else { most };
            }
            up(up(most + found.slack[row]) + found.constant[row])
        };
        (0..targets.sample.len()).map(bound).collect()
    }

    /// Adds the effect of relative errors `k` in the coefficients of rows, and of underflow in each.
    fn add_rounding(
        &self,
        slack: &mut [f64],
        piece: &CoefficientPatch,
        targets: &TargetRows,
        k: f64,
        value: usize,
    ) {
        let width = piece.data.len() / slack.len();
        let lost = self.network.shapes[value].len() as f64 * UNDERFLOW;
        let rows = slack.iter_mut().zip(&targets.sample).zip(l1_of_rows(&piece.data, width));
        for ((slack, &sample), l1) in rows {
            let magnitude = self.magnitude[value][sample];
            *slack += above(l1, width) * k * magnitude + lost * magnitude + TINY;
        }
    }

    fn accumulate(
        &self,
        pending: &mut [Option<CoefficientPatch>],
        value: usize,
        piece: CoefficientPatch,
        targets: &TargetRows,
        slack: &mut [f64],
    ) {
        let map = spatial_extents(&self.network.shapes[value]);
        pending[value] = Some(match pending[value].take() {
            None => piece,
            Some(other) => {
                let sum = other.plus(piece, targets, map);
                self.add_rounding(slack, &sum, targets, 2.0 * UNIT, value);
                sum
            }
        });
    }

    fn relu(
        &self,
        at: usize,
        mut piece: CoefficientPatch,
        targets: &TargetRows,
        mode: &mut Relaxation<'_>,
        (constant, size): (&mut [f64], &mut [f64]),
    ) -> CoefficientPatch {
        let lines = &self.lines[&at];
        let map = spatial_extents(&self.network.shapes[at + 1]);
        let (len, width) = (map.iter().product::<usize>(), piece.width(map[2]));
        for row in 0..targets.sample.len() {
            let base = targets.sample[row] * len;
            let (mut sum, mut most) = (0.0, 0.0);
            let mut add = |term: f64| {
                sum += term;
                most += term.abs();
            };
            for (from, to, n) in piece.runs(targets.anchor[row], map) {
                let coefficients = &mut piece.data[row * width + from..][..n];
                let units = base + to..base + to + n;
                match mode {
                    Relaxation::OneSided => lines.replace(units, coefficients, &mut add),
                    Relaxation::Parallel(generator) => {
                        for ((i, a), unit) in coefficients.iter_mut().enumerate().zip(units) {
                            let (middle, half) = lines.band(unit);
                            if half != 0.0 {
                                add(*a * middle);
                                generator(row, at, to + i, *a);
                            }
                            *a *= lines.slope[unit];
                        }
                    }
                }
            }
            constant[row] += sum;
            size[row] += most;
        }
        piece
    }

    fn adjoint(&self, at: usize, piece: CoefficientPatch, targets: &TargetRows) -> CoefficientPatch {
        let step = &self.network.steps[at];
        let (input, output) = (&self.network.shapes[step.inputs[0]], &self.network.shapes[at + 1]);
        let (from, to) = (spatial_extents(output), spatial_extents(input));
        match &step.op {
            LayerOp::Scale { .. } => self.scale(at, piece, targets, from),
            LayerOp::Conv { weight, conv, .. } => {
                let n = targets.sample.len();
                let [kh, kw] = [weight.shape()[0], weight.shape()[1]];
                let size = [(piece.size[0] - 1) * conv.stride + kh, (piece.size[1] - 1) * conv.stride + kw];
                let shape = ConvShape {
                    n,
                    h: size[0],
                    w: size[1],
                    c_in: to[2],
                    kh,
                    kw,
                    c_out: from[2],
                    conv: tarrl_tensor::Conv { pad: 0, ..*conv },
                };
                let dy = Array::new(&self.device, [n, piece.size[0], piece.size[1], from[2]], &piece.data);
                let dx = self.device.conv2d_input(&dy, weight.array(), &shape);
                let data = Array::wrap(&self.device, shape.input(), DType::F64, dx).to_vec::<f64>();
                fit(strided(&piece, [conv.stride, conv.pad], size, data), targets, to)
            }
            LayerOp::SumPool(pool) => {
                let data = adjoint_of_sum_pool(&piece, pool, from[2]);
                let size = [0, 1].map(|axis| (piece.size[axis] - 1) * pool.stride + pool.window);
                fit(strided(&piece, [pool.stride, pool.pad], size, data), targets, to)
            }
            map => {
                let rows = targets.sample.len();
                let whole = piece.into_whole(targets, from);
                let dy = Tensor::new(&self.device, batched(rows, output), &whole.data);
                let dx = match map {
                    LayerOp::Linear { weight, .. } => dy.matmul(&weight.t()),
                    LayerOp::Sum(_) => dy.broadcast_to(batched(rows, input)),
                    LayerOp::Permute(order) => {
                        let mut inverse = vec![0; order.len()];
                        order.iter().enumerate().for_each(|(to, &from)| inverse[from] = to);
                        dy.permute(&inverse)
                    }
                    _ => dy.reshape(batched(rows, input)),
                };
                CoefficientPatch::whole(to, dx.to_vec())
            }
        }
    }

    fn scale(
        &self,
        at: usize,
        mut piece: CoefficientPatch,
        targets: &TargetRows,
        map: [usize; 3],
    ) -> CoefficientPatch {
        let (factors, width) = (&self.factors[&at], piece.width(map[2]));
        for (row, &anchor) in targets.anchor.iter().enumerate() {
            for (from, to, n) in piece.runs(anchor, map) {
                let coefficients = &mut piece.data[row * width + from..][..n];
                coefficients.iter_mut().zip(&factors[to..]).for_each(|(a, f)| *a *= f);
            }
        }
        piece
    }
}

/// Far above what underflow takes from a coefficient: a sum of up to 10⁷ products, each wrong by the least number.
const UNDERFLOW: f64 = 1e-316;

/// The l1 norm of each row, four rows at a time, so that additions do not wait for each other.
fn l1_of_rows(data: &[f64], width: usize) -> Vec<f64> {
    let mut sums = Vec::with_capacity(data.len() / width);
    let mut fours = data.chunks_exact(4 * width);
    for four in &mut fours {
        let (ab, cd) = four.split_at(2 * width);
        let ((a, b), (c, d)) = (ab.split_at(width), cd.split_at(width));
        let mut four = [0.0; 4];
        for (((a, b), c), d) in a.iter().zip(b).zip(c).zip(d) {
            [a, b, c, d].iter().zip(&mut four).for_each(|(v, sum)| *sum += v.abs());
        }
        sums.extend(four);
    }
    sums.extend(fours.remainder().chunks(width).map(|row| row.iter().map(|v| v.abs()).sum::<f64>()));
    sums
}

/// The patch of the input that windows of this stride and padding read.
fn strided(
    piece: &CoefficientPatch,
    [stride, pad]: [usize; 2],
    size: [usize; 2],
    data: Vec<f64>,
) -> CoefficientPatch {
    let offset = piece.offset.map(|o| o * stride as isize - pad as isize);
    CoefficientPatch { scale: piece.scale * stride, offset, size, data }
}

/// Clips a patch at the border of the map, or expands it to the whole map where that is no larger.
fn fit(mut piece: CoefficientPatch, targets: &TargetRows, map: [usize; 3]) -> CoefficientPatch {
    if piece.scale == 0 || piece.size[0] >= map[0] || piece.size[1] >= map[1] {
        return piece.into_whole(targets, map);
    }
    piece.clear_outside(targets, map);
    piece
}

fn adjoint_of_sum_pool(piece: &CoefficientPatch, pool: &Pool, c: usize) -> Vec<f64> {
    let [ph, pw] = piece.size;
    let [h, w] = piece.size.map(|p| (p - 1) * pool.stride + pool.window);
    let rows = piece.data.len() / (ph * pw * c);
    let mut data = vec![0.0; rows * h * w * c];
    for (position, values) in piece.data.chunks(c).enumerate() {
        let (row, py, px) = (position / (ph * pw), position / pw % ph, position % pw);
        for y in py * pool.stride..py * pool.stride + pool.window {
            for x in px * pool.stride..px * pool.stride + pool.window {
                let to = &mut data[((row * h + y) * w + x) * c..][..c];
                to.iter_mut().zip(values).for_each(|(to, v)| *to += v);
            }
        }
    }
    data
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn l1_norms_of_rows_are_plain_sums() {
        for rows in 0..10 {
            for width in [1, 3, 8] {
                let data: Vec<f64> =
                    (0..rows * width).map(|i| (0.1 + i as f64) * (-1f64).powi(i as i32)).collect();
                let lengths: Vec<f64> =
                    data.chunks(width).map(|row| row.iter().map(|v| v.abs()).sum()).collect();
                assert_eq!(l1_of_rows(&data, width), lengths);
            }
        }
    }
}
