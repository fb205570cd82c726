//! Certification of one batch: interval propagation forward, backward substitution for the tight bounds, one zonotope
//! for each sample.

use crate::backward_substitution::{BackwardSubstitution, InputForm, Relaxation};
use crate::certificate::Certificate;
use crate::coefficient_patch::{CoefficientPatch, TargetRows, spatial_extents};
use crate::config::{CertifyConfig, Effort, Precision};
use crate::interval_propagation::{DisplacementBox, IntervalPropagation, input_box};
use crate::lipschitz::OperatorNorms;
use crate::network::{LayerOp, Network};
use crate::relu_relaxation::{RelaxationSlope, ReluRelaxation};
use crate::rounding::{FloatFormat, UNIT, above, down, slack, up};
use crate::sector::{self, ReluLayer, ReluUnit, sector};
use crate::vector::{max_or_nan, min_or_nan};
use crate::zonotope::{Zonotope, ZonotopeParts};
use std::collections::BTreeMap;
use tarrl_attacks::Norm;
use tarrl_tensor::{Device, Tensor};

/// The state of the certification of one batch.
pub(crate) struct BatchCertifier<'a> {
    network: &'a Network,
    config: &'a CertifyConfig,
    epsilon: f64,
    intervals: IntervalPropagation<'a>,
    backward: BackwardSubstitution<'a>,
    norms: Option<&'a OperatorNorms>,
    /// `(value, sample)`: upper bounds of the l2 norm of the displacement, if operator norms are known.
    balls: Vec<Vec<f64>>,
    device: Device,
    /// Forward passes so far.
    pub(crate) passes: f64,
    /// Rows substituted back so far.
    pub(crate) rows: usize,
}

impl<'a> BatchCertifier<'a> {
    pub(crate) fn new(
        network: &'a Network,
        x: &Tensor,
        config: &'a CertifyConfig,
        norms: Option<&'a OperatorNorms>,
    ) -> Self {
        // A radius such as 8/255 is a rounded number itself.
        let epsilon = up(config.threat.epsilon);
        let input = input_box(&x.array().to_f64(), epsilon, config.threat.bounds);
        let mut backward = BackwardSubstitution::new(network, x.device());
        backward.record_magnitude(x.shape()[0], &input);
        let intervals = IntervalPropagation::new(network, x, input);
        let mut run = BatchCertifier {
            network,
            config,
            epsilon,
            intervals,
            backward,
            norms,
            balls: vec![],
            device: x.device().clone(),
            // The clean values, then center, radius and rounding of every step.
            passes: 4.0,
            rows: 0,
        };
        if norms.is_some() {
            run.balls.push(run.box_norms(0));
            if config.threat.norm != Norm::Linf {
                run.balls[0].iter_mut().for_each(|r| *r = r.min(epsilon));
            }
        }
        run
    }

    /// Boxes of all values, and the linear relaxations of all ReLUs.
    pub(crate) fn forward(&mut self) {
        for (at, step) in self.network.steps.iter().enumerate() {
            if let LayerOp::Relu = step.op {
                self.tighten(step.inputs[0]);
                self.relax_relu(at, RelaxationSlope::Chord);
            }
            let mut bounds = self.intervals.interval(at);
            if let Some(norms) = self.norms {
                self.clip_by_row_norms(at, &mut bounds, &norms.rows[at]);
            }
            self.backward.record_magnitude(self.intervals.n, &bounds);
            self.intervals.boxes.push(bounds);
            if let Some(norms) = self.norms {
                self.balls.push(self.displacement_norms(at, norms.steps[at]));
            }
            let error = self.intervals.rounding(at, FloatFormat::DOUBLE, &self.intervals.error);
            self.intervals.error.push(error);
        }
    }

    /// The linear relaxation of the ReLU of step `at`, whose box is known.
    fn relax_relu(&mut self, at: usize, slope: RelaxationSlope) {
        let input = self.network.steps[at].inputs[0];
        let (h, error) = (&self.intervals.clean[input], &self.intervals.error[input]);
        self.backward.lines.insert(at, ReluRelaxation::new(h, error, &self.intervals.boxes[input], slope));
    }

    /// Backward substitution for the unstable units of a pre-activation, whose sign is not fixed over the ball.
    fn tighten(&mut self, value: usize) {
        let first = self.backward.lines.is_empty() && self.config.threat.norm == Norm::Linf;
        // Intervals of one linear map are exact in the l-infinity ball.
        if self.config.effort != Effort::Full || first {
            return;
        }
        let (h, e, bounds) =
            (&self.intervals.clean[value], &self.intervals.error[value], &self.intervals.boxes[value]);
        let unstable = |&i: &usize| {
            let active = h[i] - e[i] + bounds.lower[i] >= 0.0;
            !active && h[i] + e[i] + bounds.upper[i] > 0.0 && bounds.magnitude(i).is_finite()
        };
        let units: Vec<usize> = (0..h.len()).filter(unstable).collect();
        for chunk in units.chunks(self.config.rows) {
            let len = self.network.shapes[value].len();
            let map = spatial_extents(&self.network.shapes[value]);
            let bound = |run: &Self, sign: f64| {
                let (targets, piece) = unit_rows(chunk, len, map, sign);
                run.upper(value, &targets, piece)
            };
            let (upper, lower) = (bound(self, 1.0), bound(self, -1.0));
            for (i, &unit) in chunk.iter().enumerate() {
                self.intervals.boxes[value].intersect(unit, -lower[i], upper[i]);
            }
            self.rows += 2 * chunk.len();
        }
        if !self.balls.is_empty() {
            let ball = self.box_norms(value).into_iter().zip(&self.balls[value]);
            self.balls[value] = ball.map(|(a, &b)| min_or_nan(a, b)).collect();
        }
        self.backward.magnitude[value] = {
            let mut noted = BackwardSubstitution::new(self.network, &self.device);
            noted.record_magnitude(self.intervals.n, &self.intervals.boxes[value]);
            noted.magnitude.remove(0)
        };
    }

    fn upper(&self, value: usize, targets: &TargetRows, rows: CoefficientPatch) -> Vec<f64> {
        let found = self.backward.run(value, targets, rows, Relaxation::OneSided);
        self.backward.upper(&found, targets, &self.intervals.boxes[0], self.config.threat.norm, self.epsilon)
    }

    pub(crate) fn certificates(&mut self) -> Vec<Certificate> {
        if self.config.precision == Precision::F32 {
            self.passes += 1.0;
        }
        let error = self.intervals.errors(self.config.format()).pop().expect("a network has an input");
        let mut found: Vec<Certificate> =
            (0..self.intervals.n).map(|sample| self.box_certificate(sample, &error)).collect();
        if self.config.effort == Effort::Interval {
            return found;
        }
        // The radius of the zonotope of each certificate.
        let mut radii = vec![f64::INFINITY; found.len()];
        for &slope in self.config.slopes.passes() {
            for at in self.backward.lines.keys().copied().collect::<Vec<_>>() {
                self.relax_relu(at, slope);
            }
            for (sample, certificate) in found.iter_mut().enumerate().filter(|(_, c)| !c.is_vacuous()) {
                self.add_zonotope(sample, slope, &error, certificate, &mut radii[sample]);
            }
        }
        found
    }

    /// The certificate of one sample from the box of the output.
    fn box_certificate(&mut self, sample: usize, error: &[f64]) -> Certificate {
        let d = self.network.features();
        let output = self.network.steps.len();
        let clean = self.intervals.clean[output][sample * d..][..d].to_vec();
        let bounds = &self.intervals.boxes[output];
        let mut lower = bounds.lower[sample * d..][..d].to_vec();
        let mut upper = bounds.upper[sample * d..][..d].to_vec();
        let error = &error[sample * d..][..d];
        let finite = |v: &[f64]| v.iter().all(|v| v.is_finite());
        // A floor below this does not keep a vector whose squares underflow from growing.
        let is_floored = self.network.sphere.is_none_or(|floor| floor >= self.config.format().least_length());
        if !(is_floored && finite(&lower) && finite(&upper) && finite(error) && finite(&clean)) {
            return self.vacuous(clean);
        }
        if self.config.effort != Effort::Interval {
            let whole: Vec<usize> = (0..d).collect();
            for (sign, side) in [(1.0, &mut upper), (-1.0, &mut lower)] {
                let (mut targets, piece) = unit_rows(&whole, d, [1, 1, d], sign);
                targets.sample.fill(sample);
                for (i, bound) in self.upper(output, &targets, piece).into_iter().enumerate() {
                    // A lower bound of the output is an upper bound of its negative.
                    if sign * side[i] > bound || bound.is_nan() {
                        side[i] = sign * max_or_nan(bound, 0.0);
                    }
                }
            }
            self.rows += 2 * d;
        }
        for i in 0..d {
            lower[i] = down(lower[i] - 2.0 * error[i]);
            upper[i] = up(upper[i] + 2.0 * error[i]);
        }
        let corner: f64 = (0..d).map(|i| lower[i].abs().max(upper[i]).powi(2)).sum();
        let mut radius = above(above(corner, d).sqrt(), 2);
        if let Some(balls) = self.balls.last() {
            let rounding: f64 = error.iter().map(|e| e * e).sum();
            radius = min_or_nan(radius, above(balls[sample] + 2.0 * above(rounding, d).sqrt(), 4));
        }
        if !(radius.is_finite() && finite(&lower) && finite(&upper)) {
            return self.vacuous(clean);
        }
        Certificate { radius, lower, upper, ..self.vacuous(clean) }
    }

    fn vacuous(&self, clean: Vec<f64>) -> Certificate {
        Certificate::vacuous(clean, self.network.sphere, self.config.format().unit)
    }

    /// Gives a certificate the zonotope of the current relaxation, if it has none with a smaller radius.
    fn add_zonotope(
        &mut self,
        sample: usize,
        slope: RelaxationSlope,
        error: &[f64],
        certificate: &mut Certificate,
        smallest: &mut f64,
    ) {
        let d = self.network.features();
        let (mut input, layers) = self.unroll(sample);
        // Both points of a displacement are computed with rounding.
        input.spread.iter_mut().zip(&error[sample * d..]).for_each(|(s, e)| *s += 2.0 * e);
        let mut whole = input.clone();
        layers.iter().for_each(|layer| layer.add_to(&mut whole));
        let radius = match slope {
            RelaxationSlope::Chord => whole.radius(&self.device),
            RelaxationSlope::Sector => sector::radius(&whole, input, &layers, &self.device),
        };
        self.rows += d;
        if radius.is_nan() {
            *certificate = self.vacuous(std::mem::take(&mut certificate.clean));
            return;
        }
        if certificate.zonotope.is_none() || radius < *smallest {
            *smallest = radius;
            certificate.zonotope = Some(Zonotope::new(whole, self.config.generators, &self.device));
        }
        certificate.radius = certificate.radius.min(radius);
    }

    /// Upper bounds of the l2 norm of the displacement after step `at`, from its box and operator norm: Theorem I8
    /// (docs/certificates.md).
    fn displacement_norms(&self, at: usize, norm: f64) -> Vec<f64> {
        let step = &self.network.steps[at];
        let along = |s: usize| match step.op {
            LayerOp::Add => up(self.balls[step.inputs[0]][s] + self.balls[step.inputs[1]][s]),
            _ => up(self.balls[step.inputs[0]][s] * norm),
        };
        self.box_norms(at + 1).into_iter().enumerate().map(|(s, r)| min_or_nan(r, along(s))).collect()
    }

    /// The largest l2 norm in the box of a value, for every sample.
    fn box_norms(&self, value: usize) -> Vec<f64> {
        let (bounds, n) = (&self.intervals.boxes[value], self.intervals.n);
        let len = bounds.lower.len() / n;
        let square = |s: usize| (s * len..(s + 1) * len).map(|i| bounds.magnitude(i).powi(2)).sum::<f64>();
        (0..n).map(|s| above(above(square(s), len).sqrt(), 2)).collect()
    }

    /// Intersects a box with Cauchy–Schwarz: no element moves farther than the norm of its weights times the norm of the
    /// displacement it reads.
    fn clip_by_row_norms(&self, at: usize, bounds: &mut DisplacementBox, rows: &[f64]) {
        if rows.is_empty() {
            return;
        }
        let balls = &self.balls[self.network.steps[at].inputs[0]];
        let len = bounds.lower.len() / balls.len();
        for i in 0..bounds.lower.len() {
            let most = up(rows[i % rows.len()] * balls[i / len]);
            bounds.intersect(i, -most, most);
        }
    }

    /// The displacement of the output of one sample, split into the part of the input and the part that each ReLU layer
    /// adds, by the current relaxation.
    fn unroll(&self, sample: usize) -> (ZonotopeParts, Vec<ReluLayer>) {
        let d = self.network.features();
        let whole: Vec<usize> = (0..d).collect();
        let (mut targets, piece) = unit_rows(&whole, d, [1, 1, d], 1.0);
        targets.sample.fill(sample);
        let mut units = BTreeMap::<(usize, usize), Vec<f64>>::new();
        let mut collect = |row: usize, step: usize, unit: usize, coefficient: f64| {
            if coefficient != 0.0 {
                units.entry((step, unit)).or_insert_with(|| vec![0.0; d])[row] += coefficient;
            }
        };
        let found =
            self.backward.run(self.network.steps.len(), &targets, piece, Relaxation::Parallel(&mut collect));
        let mut layers = BTreeMap::<usize, ReluLayer>::new();
        for ((step, unit), column) in units {
            let layer = layers.entry(step).or_default();
            let value = self.network.steps[step].inputs[0];
            let i = sample * self.network.shapes[value].len() + unit;
            let (h, e, bounds) = (
                self.intervals.clean[value][i],
                self.intervals.error[value][i],
                &self.intervals.boxes[value],
            );
            let (_, half) = sector([down(h - e), up(h + e)], [bounds.lower[i], bounds.upper[i]]);
            let band = self.backward.lines[&step].band(i);
            layer.columns.extend(column);
            layer.units.push(ReluUnit { band, half, reach: bounds.magnitude(i) });
            layer.ball = self.balls.get(value).map_or(f64::INFINITY, |balls| balls[sample]);
        }
        (self.input_generators(sample, found, &targets), layers.into_values().collect())
    }

    /// The part of the input alone: `A δ`.
    fn input_generators(&self, sample: usize, found: InputForm, targets: &TargetRows) -> ZonotopeParts {
        let d = self.network.features();
        let map = spatial_extents(&self.network.shapes[0]);
        let piece = found.piece.into_whole(targets, map);
        let len: usize = map.iter().product();
        let mut parts =
            ZonotopeParts { offset: vec![0.0; d], spread: found.slack, generators: vec![], ball: vec![] };
        let input = &self.intervals.boxes[0];
        for i in 0..len {
            let column =
                |factor: f64| -> Vec<f64> { (0..d).map(|row| piece.data[row * len + i] * factor).collect() };
            if self.config.threat.norm == Norm::L2 {
                parts.ball.push(column(self.epsilon));
                continue;
            }
            let (l, u) = (input.lower[sample * len + i], input.upper[sample * len + i]);
            let middle = 0.5 * l + 0.5 * u;
            let half = up(max_or_nan(u - middle, middle - l));
            for (row, v) in column(middle).into_iter().enumerate() {
                parts.offset[row] += v;
                // Product and sum are rounded.
                parts.spread[row] += 2.0 * UNIT * (v.abs() + parts.offset[row].abs());
            }
            parts.generators.push(column(half));
        }
        // Offsets of the ReLU units are added to this one later.
        let units = slack(self.network.units());
        parts.spread.iter_mut().zip(&parts.offset).for_each(|(s, b)| *s += units * b.abs());
        parts
    }
}

/// One row for each unit of a batch; units are numbered through all samples.
fn unit_rows(units: &[usize], len: usize, map: [usize; 3], sign: f64) -> (TargetRows, CoefficientPatch) {
    let [h, w, c] = map;
    let mut targets = TargetRows::default();
    let mut data = vec![0.0; units.len() * c];
    for (row, &unit) in units.iter().enumerate() {
        let at = unit % len;
        targets.sample.push(unit / len);
        targets.anchor.push([at / (w * c), at / c % w]);
        data[row * c + at % c] = sign;
    }
    // A vector is a map of one position, which every row covers.
    let scale = usize::from(h * w > 1);
    (targets, CoefficientPatch { scale, offset: [0, 0], size: [1, 1], data })
}
