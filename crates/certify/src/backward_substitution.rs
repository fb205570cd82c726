//! Backward substitution (CROWN): linear bounds of a value in terms of the input, Theorems I3 and I4 of
//! docs/certificates.md.

use crate::coefficient_lines::{Buffers, CoefficientLines};
use crate::interval_propagation::DisplacementBox;
use crate::linear_maps::LinearMaps;
use crate::network::{LayerOp, Network};
use crate::relu_relaxation::{LineSums, ReluRelaxation};
use crate::rounding::{TINY, UNIT, above, slack, up};
use crate::slope_tape::Tape;
use crate::vector::max_or_nan;
use std::collections::BTreeMap;
use tarrl_attacks::Norm;
use tarrl_tensor::LINE;

/// What a substitution reads: magnitudes and ReLU relaxations of all values before its target.
pub(crate) struct BackwardSubstitution<'a> {
    pub(crate) network: &'a Network,
    pub(crate) maps: &'a LinearMaps,
    pub(crate) buffers: &'a Buffers,
    /// The relaxation of each ReLU step so far.
    pub(crate) lines: BTreeMap<usize, ReluRelaxation>,
    /// `(value, sample)`: the largest `|Δ|` of any element.
    pub(crate) magnitude: Vec<Vec<f64>>,
}

/// How a ReLU is relaxed.
pub(crate) enum Relaxation<'a> {
    /// For an upper bound: positive coefficients take the upper line, negative ones the free lower line.
    OneSided,
    /// As [`OneSided`](Relaxation::OneSided), with free lower lines of the slopes of a tape, which records what their
    /// gradient reads.
    Recorded(&'a mut Tape),
    /// By parallel lines: an identity with one free number in [−1, 1] for each unstable unit, whose band is passed on.
    Parallel(&'a mut dyn FnMut(Band<'_>)),
}

/// What the band of an unstable unit does to a bundle of rows.
pub(crate) struct Band<'a> {
    pub(crate) step: usize,
    pub(crate) unit: usize,
    pub(crate) bundle: usize,
    pub(crate) coefficients: &'a [f64; LINE],
}

/// Rows of one sample to substitute, each an only coefficient of a unit of a value: `(unit, factor)`.
#[derive(Clone, Copy)]
pub(crate) struct Rows<'a> {
    pub(crate) sample: usize,
    pub(crate) value: usize,
    pub(crate) units: &'a [(usize, f64)],
}

/// The inputs that bounds are taken over: a box and, in the Euclidean ball, its radius.
pub(crate) struct InputBall<'a> {
    pub(crate) input: &'a DisplacementBox,
    pub(crate) norm: Norm,
    pub(crate) epsilon: f64,
}

impl InputBall<'_> {
    /// The largest value in the box of each row of a bundle, and the sum of the squares of its coefficients.
    fn sums(&self, base: usize, units: &[u32], lines: &[[f64; LINE]]) -> ([f64; LINE], [f64; LINE]) {
        let (mut most, mut square) = ([0.0; LINE], [0.0; LINE]);
        for (&unit, line) in units.iter().zip(lines) {
            let i = base + unit as usize;
            let (low, high) = (self.input.lower[i], self.input.upper[i]);
            for lane in 0..LINE {
                let a = line[lane];
                most[lane] += a * if a > 0.0 { high } else { low };
                square[lane] += a * a;
            }
        }
        (most, square)
    }
}

/// Rows expressed at the input: `row·value ≤ lines·δ + constant`, up to `slack`.
pub(crate) struct InputForm {
    pub(crate) lines: CoefficientLines,
    pub(crate) constant: Vec<f64>,
    /// Roundings of coefficients and of the constant.
    pub(crate) slack: Vec<f64>,
}

impl<'a> BackwardSubstitution<'a> {
    pub(crate) fn new(network: &'a Network, maps: &'a LinearMaps, buffers: &'a Buffers) -> Self {
        BackwardSubstitution { network, maps, buffers, lines: BTreeMap::new(), magnitude: vec![] }
    }

    /// Records the magnitudes of the next value.
    pub(crate) fn record_magnitude(&mut self, n: usize, bounds: &DisplacementBox) {
        self.magnitude.push(magnitudes(n, bounds));
    }

    /// Substitutes rows back to the input.
    pub(crate) fn run(&self, rows: Rows<'_>, mut mode: Relaxation<'_>) -> InputForm {
        let Rows { sample, value: target, units } = rows;
        let bundles = units.len().div_ceil(LINE);
        let mut pending: Vec<Option<CoefficientLines>> = vec![None; target + 1];
        pending[target] = Some(CoefficientLines::of_units(units));
        let (mut sums, mut lost) = (vec![LineSums::default(); bundles], vec![0.0; bundles * LINE]);
        for at in (0..target).rev() {
            let Some(mut lines) = pending[at + 1].take() else { continue };
            if let Relaxation::Recorded(tape) = &mut mode {
                tape.record_units(at + 1, &lines.units);
            }
            let step = &self.network.steps[at];
            let input = step.inputs[0];
            match &step.op {
                LayerOp::Relu => {
                    let relu = &self.lines[&at];
                    let len = self.network.shapes[input].len();
                    lines.retain(relu.alive(sample, len));
                    self.add_rounding(&mut lost, &mut lines, 4.0 * UNIT, [sample, input]);
                    self.relu(at, sample, &mut lines, &mut mode, &mut sums);
                }
                LayerOp::Shift(_) => {}
                LayerOp::Add => {
                    self.accumulate(&mut pending, lines.clone(), [sample, step.inputs[1]], &mut lost);
                }
                _ => {
                    self.add_rounding(&mut lost, &mut lines, self.maps.rounding[at], [sample, input]);
                    lines = self.maps.adjoint(at, lines, bundles, self.needed(input, sample), self.buffers);
                }
            }
            self.accumulate(&mut pending, lines, [sample, input], &mut lost);
        }
        let units = self.network.units();
        let constants = || sums.iter().flat_map(|sums| sums.sum.iter().zip(&sums.size));
        for (total, (_, size)) in lost.iter_mut().zip(constants()) {
            *total = above(*total + slack(units) * size, 2 * self.network.steps.len());
        }
        InputForm {
            lines: pending[0].take().expect("every value comes from the input"),
            constant: constants().map(|(sum, _)| *sum).collect(),
            slack: lost,
        }
    }

    /// The upper bound of each row.
    pub(crate) fn upper(&self, rows: Rows<'_>, ball: &InputBall<'_>) -> Vec<f64> {
        let found = self.run(rows, Relaxation::OneSided);
        let bounds = self.bounds(&found, rows, ball);
        self.buffers.keep(found.lines.data);
        bounds
    }

    /// The upper bound of each row over the inputs.
    pub(crate) fn bounds(&self, found: &InputForm, rows: Rows<'_>, ball: &InputBall<'_>) -> Vec<f64> {
        let base = rows.sample * self.network.shapes[0].len();
        let terms = found.lines.units.len();
        let mut bounds = Vec::with_capacity(found.slack.len());
        for lines in found.lines.lines() {
            let (most, square) = ball.sums(base, &found.lines.units, lines);
            for (most, square) in most.into_iter().zip(square) {
                let most = above(most, terms);
                let length = above(ball.epsilon * above(square, terms).sqrt(), 4);
                let smaller = ball.norm == Norm::L2 && (length < most || length.is_nan());
                bounds.push(if smaller { length } else { most });
            }
        }
        // Where no unit is read at all, the constants are left.
        bounds.resize(found.slack.len(), above(0.0, 1));
        let rest = found.slack.iter().zip(&found.constant);
        let bound = |(most, (slack, constant)): (f64, (&f64, &f64))| up(up(most + slack) + constant);
        bounds.into_iter().zip(rest).map(bound).take(rows.units.len()).collect()
    }

    /// For each row the input at which its bound is attained, up to rounding.
    pub(crate) fn maximizers(
        &self,
        lines: &CoefficientLines,
        sample: usize,
        ball: &InputBall<'_>,
    ) -> CoefficientLines {
        let base = sample * self.network.shapes[0].len();
        let mut points = lines.clone();
        let units = &lines.units;
        for (to, lines) in points.data.chunks_mut((units.len() * LINE).max(1)).zip(lines.lines()) {
            let (most, square) = ball.sums(base, units, lines);
            for (&unit, to) in units.iter().zip(to.as_chunks_mut::<LINE>().0) {
                let i = base + unit as usize;
                for lane in 0..LINE {
                    let a = to[lane];
                    let length = ball.epsilon * square[lane].sqrt();
                    to[lane] = if ball.norm == Norm::L2 && length < most[lane] {
                        ball.epsilon * ball.epsilon * a / length
                    } else if a > 0.0 {
                        ball.input.upper[i]
                    } else {
                        ball.input.lower[i]
                    };
                }
            }
        }
        points
    }

    /// The units of a value at which a coefficient can matter: not those of a ReLU that is inactive in the whole ball, which
    /// are displaced by nothing.
    fn needed(&self, value: usize, sample: usize) -> Option<&[bool]> {
        let mut at = value.checked_sub(1)?;
        // These keep the places of the elements, and nothing stays nothing.
        while matches!(
            self.network.steps[at].op,
            LayerOp::Shift(_) | LayerOp::Scale { .. } | LayerOp::Reshape
        ) {
            at = self.network.steps[at].inputs[0].checked_sub(1)?;
        }
        let relu = self.lines.get(&at)?;
        Some(relu.alive(sample, self.network.shapes[value].len()))
    }

    /// Adds the effect of relative errors `k` in the coefficients of rows, and of underflow in each.
    fn add_rounding(
        &self,
        slack: &mut [f64],
        lines: &mut CoefficientLines,
        k: f64,
        [sample, value]: [usize; 2],
    ) {
        let terms = lines.units.len();
        let magnitude = self.magnitude[value][sample];
        let lost = self.network.shapes[value].len() as f64 * UNDERFLOW * magnitude + TINY;
        let bundles = slack.len() / LINE;
        for (slack, &l1) in slack.iter_mut().zip(lines.l1_norms(bundles)) {
            *slack += above(l1, terms) * k * magnitude + lost;
        }
    }

    fn accumulate(
        &self,
        pending: &mut [Option<CoefficientLines>],
        lines: CoefficientLines,
        [sample, value]: [usize; 2],
        slack: &mut [f64],
    ) {
        pending[value] = Some(match pending[value].take() {
            None => lines,
            Some(other) => {
                let mut sum = other.plus(lines, slack.len() / LINE, self.buffers);
                self.add_rounding(slack, &mut sum, 2.0 * UNIT, [sample, value]);
                sum
            }
        });
    }

    /// Replaces the ReLU of step `at` by its lines. Slopes are in [0, 1], so that l1 norms stay upper bounds.
    fn relu(
        &self,
        at: usize,
        sample: usize,
        lines: &mut CoefficientLines,
        mode: &mut Relaxation<'_>,
        sums: &mut [LineSums],
    ) {
        let relu = &self.lines[&at];
        let first = sample * self.network.shapes[at + 1].len();
        if let Relaxation::Recorded(tape) = mode {
            return tape.replace(at, relu, first, lines, sums);
        }
        let CoefficientLines { units, data, .. } = lines;
        // Active units keep their coefficients in every bundle.
        let changed: Vec<(usize, usize)> = units
            .iter()
            .enumerate()
            .map(|(line, &unit)| (line, unit as usize))
            .filter(|(_, unit)| !relu.is_active(first + unit))
            .collect();
        let bundles = data.chunks_mut(units.len().max(1) * LINE).zip(sums).enumerate();
        for (bundle, (data, sums)) in bundles {
            let data = data.as_chunks_mut::<LINE>().0;
            for &(line, unit) in &changed {
                let line = &mut data[line];
                match mode {
                    Relaxation::OneSided => relu.replace(first + unit, line, sums),
                    Relaxation::Recorded(_) => unreachable!("a tape replaces whole steps"),
                    Relaxation::Parallel(pass_on) => {
                        let (middle, half) = relu.band(first + unit);
                        if half != 0.0 {
                            sums.add(line, middle);
                            pass_on(Band { step: at, unit, bundle, coefficients: line });
                        }
                        line.iter_mut().for_each(|a| *a *= relu.slope[first + unit]);
                    }
                }
            }
        }
    }
}

/// The largest `|Δ|` of any element, for each sample.
pub(crate) fn magnitudes(n: usize, bounds: &DisplacementBox) -> Vec<f64> {
    let len = bounds.lower.len() / n;
    (0..n).map(|s| (s * len..(s + 1) * len).fold(0.0, |m, i| max_or_nan(bounds.magnitude(i), m))).collect()
}

/// Far above what underflow takes from a coefficient: a sum of up to 10⁷ products, each wrong by the least number.
const UNDERFLOW: f64 = 1e-316;
