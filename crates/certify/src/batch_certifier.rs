//! Certification of one batch: interval propagation forward, backward substitution for the tight bounds, one zonotope
//! for each sample.

use crate::backward_substitution::{
    BackwardSubstitution, Band, InputBall, InputForm, Relaxation, Rows, magnitudes,
};
use crate::certificate::Certificate;
use crate::coefficient_lines::Buffers;
use crate::config::{CertifyConfig, Effort, Precision};
use crate::interval_propagation::{DisplacementBox, IntervalPropagation, input_box};
use crate::linear_maps::LinearMaps;
use crate::lipschitz::OperatorNorms;
use crate::network::{LayerOp, Network};
use crate::parallel::parallel_map;
use crate::relu_relaxation::{RelaxationSlope, ReluRelaxation};
use crate::rounding::{FloatFormat, UNIT, above, down, slack, up};
use crate::sector::{self, ReluLayer, ReluUnit, sector};
use crate::vector::{max_or_nan, min_or_nan};
use crate::zonotope::{Zonotope, ZonotopeParts};
use std::collections::BTreeMap;
use tarrl_attacks::Norm;
use tarrl_tensor::{Device, LINE, Tensor};

/// What the certification of every batch reads.
pub(crate) struct Prepared {
    pub(crate) maps: LinearMaps,
    pub(crate) norms: Option<OperatorNorms>,
    pub(crate) buffers: Buffers,
}

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
    /// Threads that substitute rows.
    threads: usize,
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
        prepared: &'a Prepared,
        threads: usize,
    ) -> Self {
        // A radius such as 8/255 is a rounded number itself.
        let epsilon = up(config.threat.epsilon);
        let input = input_box(&x.array().to_f64(), epsilon, config.threat.bounds);
        let mut backward = BackwardSubstitution::new(network, &prepared.maps, &prepared.buffers);
        backward.record_magnitude(x.shape()[0], &input);
        let intervals = IntervalPropagation::new(network, x, input);
        let mut run = BatchCertifier {
            network,
            config,
            epsilon,
            intervals,
            backward,
            norms: prepared.norms.as_ref(),
            balls: vec![],
            device: x.device().clone(),
            threads,
            // The clean values, then center, radius and rounding of every step.
            passes: 4.0,
            rows: 0,
        };
        if run.norms.is_some() {
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
        if !matches!(self.config.effort, Effort::Full | Effort::Optimized) || first {
            return;
        }
        let groups = self.unstable(value);
        let found = parallel_map(self.threads, &groups, |group| self.bounds(value, group));
        let len = self.network.shapes[value].len();
        for (group, (bounds, rows)) in groups.iter().zip(found) {
            for (&unit, [lower, upper]) in group.units.iter().zip(bounds) {
                self.intervals.boxes[value].intersect(group.sample * len + unit, lower, upper);
            }
            self.rows += rows;
        }
        if !self.balls.is_empty() {
            let ball = self.box_norms(value).into_iter().zip(&self.balls[value]);
            self.balls[value] = ball.map(|(a, &b)| min_or_nan(a, b)).collect();
        }
        self.backward.magnitude[value] = magnitudes(self.intervals.n, &self.intervals.boxes[value]);
    }

    /// The units of a value whose sign is not fixed, in groups that read the same patch of the values below.
    fn unstable(&self, value: usize) -> Vec<UnitGroup> {
        let (h, e, bounds) =
            (&self.intervals.clean[value], &self.intervals.error[value], &self.intervals.boxes[value]);
        let shape = &self.network.shapes[value];
        let len = shape.len();
        let together = if shape.rank() == 3 { shape[2] } else { len };
        let unstable = |&i: &usize| {
            let active = h[i] - e[i] + bounds.lower[i] >= 0.0;
            !active && h[i] + e[i] + bounds.upper[i] > 0.0 && bounds.magnitude(i).is_finite()
        };
        let mut groups = vec![];
        for first in (0..h.len()).step_by(together) {
            let units: Vec<usize> = (first..first + together).filter(unstable).map(|i| i % len).collect();
            let parts = units.chunks(self.config.rows.div_ceil(2));
            groups.extend(parts.map(|units| UnitGroup { sample: first / len, units: units.to_vec() }));
        }
        groups
    }

    /// Lower and upper bounds of the units of a group, and how many rows they took.
    fn bounds(&self, value: usize, group: &UnitGroup) -> (Vec<[f64; 2]>, usize) {
        let base = group.sample * self.network.shapes[value].len();
        let (h, e) = (&self.intervals.clean[value][base..], &self.intervals.error[value][base..]);
        // A unit that its upper bound shows to be inactive in the whole ball needs no lower one; in other balls than this one
        // the length of the displacement before a ReLU is read too.
        let may_be_inactive = |unit: usize| self.config.threat.norm == Norm::Linf && h[unit] <= 0.0;
        let mut found = vec![[f64::NEG_INFINITY, f64::INFINITY]; group.units.len()];
        let mut rows: Vec<(usize, f64)> = group.units.iter().map(|&unit| (unit, 1.0)).collect();
        rows.extend(group.units.iter().filter(|&&unit| !may_be_inactive(unit)).map(|&unit| (unit, -1.0)));
        // Lanes that the last bundle has left cost nothing: the units most likely to be active take them, so that often none
        // has to be substituted a second time.
        let mut likely: Vec<usize> =
            group.units.iter().copied().filter(|&unit| may_be_inactive(unit)).collect();
        likely.sort_by(|&a, &b| h[b].total_cmp(&h[a]));
        let spare = rows.len().next_multiple_of(LINE) - rows.len();
        rows.extend(likely.into_iter().take(spare).map(|unit| (unit, -1.0)));
        let mut taken = 0;
        let mut substitute = |rows: &[(usize, f64)], found: &mut [[f64; 2]]| {
            taken += rows.len();
            let upper = self.upper(Rows { sample: group.sample, value, units: rows });
            for (&(unit, sign), bound) in rows.iter().zip(upper) {
                let i = group.units.binary_search(&unit).expect("a unit of the group");
                // An upper bound of the negative is a lower bound.
                found[i][usize::from(sign > 0.0)] = sign * bound;
            }
        };
        substitute(&rows, &mut found);
        let mut open = vec![];
        for (&unit, bounds) in group.units.iter().zip(&mut found).filter(|(unit, _)| may_be_inactive(**unit))
        {
            let is_active = up(h[unit] + e[unit]) + bounds[1] > 0.0 || bounds[1].is_nan();
            if !is_active {
                // Also where a lane was left, so that no bound depends on how units are grouped.
                bounds[0] = f64::NEG_INFINITY;
            } else if bounds[0] == f64::NEG_INFINITY {
                open.push((unit, -1.0));
            }
        }
        if !open.is_empty() {
            substitute(&open, &mut found);
        }
        if self.config.effort == Effort::Optimized {
            taken += self.optimize(value, group, &mut found);
        }
        (found, taken)
    }

    /// Makes the bounds of the units tighter whose sign is still open, and returns how many rows that took.
    fn optimize(&self, value: usize, group: &UnitGroup, found: &mut [[f64; 2]]) -> usize {
        let base = group.sample * self.network.shapes[value].len();
        let (h, e) = (&self.intervals.clean[value][base..], &self.intervals.error[value][base..]);
        let is_open = |&i: &usize| {
            let (unit, [lower, upper]) = (group.units[i], found[i]);
            h[unit] - e[unit] + lower < 0.0 && h[unit] + e[unit] + upper > 0.0
        };
        let open: Vec<usize> = (0..group.units.len()).filter(is_open).collect();
        let rows: Vec<(usize, f64)> =
            open.iter().flat_map(|&i| [(group.units[i], 1.0), (group.units[i], -1.0)]).collect();
        if rows.is_empty() {
            return 0;
        }
        let (bounds, taken) = self.best_upper(Rows { sample: group.sample, value, units: &rows });
        for (pair, &i) in bounds.chunks(2).zip(&open) {
            found[i] = [max_or_nan(-pair[1], found[i][0]), min_or_nan(pair[0], found[i][1])];
        }
        taken
    }

    fn upper(&self, rows: Rows<'_>) -> Vec<f64> {
        self.backward.upper(rows, &self.ball())
    }

    /// Upper bounds of rows by the best lines of the effort, and how many rows were substituted for them.
    fn best_upper(&self, rows: Rows<'_>) -> (Vec<f64>, usize) {
        match self.config.effort {
            Effort::Optimized => self.backward.optimized_upper(rows, &self.ball()),
            _ => (self.upper(rows), rows.units.len()),
        }
    }

    fn ball(&self) -> InputBall<'_> {
        InputBall { input: &self.intervals.boxes[0], norm: self.config.threat.norm, epsilon: self.epsilon }
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
            let signed = |feature| [(feature, 1.0), (feature, -1.0)];
            let rows: Vec<(usize, f64)> = (0..d).flat_map(signed).collect();
            let parts: Vec<&[(usize, f64)]> = rows.chunks(OUTPUT_ROWS).collect();
            let found = parallel_map(self.threads, &parts, |units| {
                self.best_upper(Rows { sample, value: output, units })
            });
            let (bounds, taken): (Vec<_>, Vec<_>) = found.into_iter().unzip();
            for (&(i, sign), bound) in rows.iter().zip(bounds.into_iter().flatten()) {
                // A lower bound of the output is an upper bound of its negative.
                let side = if sign > 0.0 { &mut upper[i] } else { &mut lower[i] };
                if sign * *side > bound || bound.is_nan() {
                    *side = sign * max_or_nan(bound, 0.0);
                }
            }
            self.rows += taken.into_iter().sum::<usize>();
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
        let rows: Vec<(usize, f64)> = (0..d).map(|feature| (feature, 1.0)).collect();
        let parts: Vec<&[(usize, f64)]> = rows.chunks(OUTPUT_ROWS).collect();
        let value = self.network.steps.len();
        let found = parallel_map(self.threads, &parts, |units| {
            let mut bands = vec![];
            let mut collect = |band: Band<'_>| {
                if band.coefficients.iter().any(|&a| a != 0.0) {
                    bands.push((band.step, band.unit, band.bundle, *band.coefficients));
                }
            };
            let mode = Relaxation::Parallel(&mut collect);
            (self.backward.run(Rows { sample, value, units }, mode), bands)
        });
        let (forms, bands): (Vec<_>, Vec<_>) = found.into_iter().unzip();
        let mut units = BTreeMap::<(usize, usize), Vec<f64>>::new();
        for (part, bands) in bands.into_iter().enumerate() {
            for (step, unit, bundle, line) in bands {
                let column = units.entry((step, unit)).or_insert_with(|| vec![0.0; d]);
                let first = part * OUTPUT_ROWS + bundle * LINE;
                column[first..].iter_mut().zip(line).for_each(|(to, a)| *to = a);
            }
        }
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
        (self.input_generators(sample, &forms), layers.into_values().collect())
    }

    /// The part of the input alone: `A δ`, from the forms of the parts of the rows.
    fn input_generators(&self, sample: usize, forms: &[InputForm]) -> ZonotopeParts {
        let d = self.network.features();
        let len = self.network.shapes[0].len();
        let mut columns = vec![0.0; len * d];
        let mut spread = vec![];
        for (part, form) in forms.iter().enumerate() {
            for (bundle, lines) in form.lines.lines().enumerate() {
                let first = part * OUTPUT_ROWS + bundle * LINE;
                for (&unit, line) in form.lines.units.iter().zip(lines) {
                    let column = &mut columns[unit as usize * d..][..d];
                    column[first..].iter_mut().zip(line).for_each(|(to, a)| *to = *a);
                }
            }
            spread.extend(&form.slack);
            spread.truncate(d.min((part + 1) * OUTPUT_ROWS));
        }
        let mut parts = ZonotopeParts { offset: vec![0.0; d], spread, generators: vec![], ball: vec![] };
        // The constants of bands are added with the layers.
        let input = &self.intervals.boxes[0];
        for (i, column) in columns.chunks(d).enumerate() {
            let scaled = |factor: f64| -> Vec<f64> { column.iter().map(|a| a * factor).collect() };
            if self.config.threat.norm == Norm::L2 {
                parts.ball.push(scaled(self.epsilon));
                continue;
            }
            let (l, u) = (input.lower[sample * len + i], input.upper[sample * len + i]);
            let middle = 0.5 * l + 0.5 * u;
            let half = up(max_or_nan(u - middle, middle - l));
            for (row, v) in scaled(middle).into_iter().enumerate() {
                parts.offset[row] += v;
                // Product and sum are rounded.
                parts.spread[row] += 2.0 * UNIT * (v.abs() + parts.offset[row].abs());
            }
            parts.generators.push(scaled(half));
        }
        // Offsets of the ReLU units are added to this one later.
        let units = slack(self.network.units());
        parts.spread.iter_mut().zip(&parts.offset).for_each(|(s, b)| *s += units * b.abs());
        parts
    }
}

/// Units of one sample that are substituted together.
struct UnitGroup {
    sample: usize,
    /// In rising order.
    units: Vec<usize>,
}

/// Rows of the output that are substituted at a time: few, so that the maps of a part stay in the cache, and that a feature
/// which is the mean of one channel needs lines for few channels.
const OUTPUT_ROWS: usize = 4 * LINE;
