//! One certificate for each sample of a batch, for any task.

use crate::backward::{AtInput, Backward, Mode};
use crate::certificate::{Certificate, least};
use crate::config::{CertifyConfig, Cost, Effort, Precision, Slopes};
use crate::error::CertifyError;
use crate::interval::{Around, Bounds, input_box};
use crate::lipschitz::Norms;
use crate::network::{LayerOp, Network};
use crate::relax::{Lines, Slope};
use crate::rounding::{UNIT, above, down, slack, up};
use crate::rows::{Piece, Targets, map_of};
use crate::sector::{self, Layer, Unit, sector};
use crate::zonotope::{Parts, Zonotope};
use std::collections::BTreeMap;
use std::panic::resume_unwind;
use std::sync::atomic::{AtomicUsize, Ordering};
use tarrl_attacks::Norm;
use tarrl_tensor::{Device, Tensor};

/// Certificates of all samples `x` `(n, …)`, in their order, and what they cost.
///
/// # Errors
/// If an input is not finite or lies outside the threat model's range, or a setting is out of its range. A bound that
/// overflows is no error: its certificate claims nothing.
///
/// # Panics
/// If the samples have another shape than the recorded ones.
#[track_caller]
pub fn certify(
    network: &Network,
    x: &Tensor,
    config: &CertifyConfig,
) -> Result<(Vec<Certificate>, Cost), CertifyError> {
    config.check(x)?;
    let n = x.shape()[0];
    // In a cube whole layers move as far as their boxes say.
    let round = config.threat.norm != Norm::Linf || config.slopes != Slopes::Chord;
    let norms = round.then(|| network.norms());
    let threads = x.device().threads();
    let batch = config.batch.min(n.div_ceil(threads)).max(1);
    let starts: Vec<usize> = (0..n).step_by(batch).collect();
    let found = on_threads(threads, &starts, |&start| {
        let part = x.slice(0, start, batch.min(n - start));
        let mut run = Run::new(network, &part, config, norms.as_ref());
        run.forward();
        let certificates = run.certificates();
        (certificates, Cost { forward: run.passes * part.shape()[0] as f64, rows: run.rows as f64 })
    });
    let mut certificates = Vec::with_capacity(n);
    let mut cost = Cost::default();
    for (samples, of_batch) in found {
        certificates.extend(samples);
        cost.forward += of_batch.forward;
        cost.rows += of_batch.rows;
    }
    // Sums of whole numbers: the mean does not depend on the batches.
    cost.forward /= n as f64;
    cost.rows /= n as f64;
    Ok((certificates, cost))
}

/// `f` of every item, in their order: much of the work between the kernels is the host's, and batches are independent.
fn on_threads<I: Sync, T: Send>(threads: usize, items: &[I], f: impl Fn(&I) -> T + Sync) -> Vec<T> {
    let next = AtomicUsize::new(0);
    let work = || {
        let mut found = Vec::new();
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let Some(item) = items.get(at) else { break };
            found.push((at, f(item)));
        }
        found
    };
    let mut found = std::thread::scope(|scope| {
        let others: Vec<_> = (1..threads.min(items.len())).map(|_| scope.spawn(work)).collect();
        let mut found = work();
        for other in others {
            found.extend(other.join().unwrap_or_else(|panic| resume_unwind(panic)));
        }
        found
    });
    found.sort_unstable_by_key(|(at, _)| *at);
    found.into_iter().map(|(_, found)| found).collect()
}

/// The work on one batch.
struct Run<'a> {
    network: &'a Network,
    config: &'a CertifyConfig,
    epsilon: f64,
    around: Around<'a>,
    backward: Backward<'a>,
    norms: Option<&'a Norms>,
    /// `(value, sample)`: how long the displacement of a value is at most, if the norms are known.
    balls: Vec<Vec<f64>>,
    device: Device,
    passes: f64,
    rows: usize,
}

impl<'a> Run<'a> {
    fn new(network: &'a Network, x: &Tensor, config: &'a CertifyConfig, norms: Option<&'a Norms>) -> Self {
        // A radius such as 8/255 is itself rounded.
        let epsilon = up(config.threat.epsilon);
        let input = input_box(&x.array().to_f64(), epsilon, config.threat.bounds);
        let mut backward = Backward::new(network, x.device());
        backward.note(x.shape()[0], &input);
        let around = Around::new(network, x, input);
        let mut run = Run {
            network,
            config,
            epsilon,
            around,
            backward,
            norms,
            balls: vec![],
            device: x.device().clone(),
            // The clean values, then center, radius and rounding of every step.
            passes: 4.0,
            rows: 0,
        };
        if norms.is_some() {
            run.balls.push(run.of_box(0));
            if config.threat.norm != Norm::Linf {
                run.balls[0].iter_mut().for_each(|r| *r = r.min(epsilon));
            }
        }
        run
    }

    /// Boxes of all values, and the lines of all ReLUs.
    fn forward(&mut self) {
        for (at, step) in self.network.steps.iter().enumerate() {
            if let LayerOp::Relu = step.map {
                self.tighten(step.inputs[0]);
                self.draw(at, Slope::Chord);
            }
            let mut bounds = self.around.interval(at);
            if let Some(norms) = self.norms {
                self.shrink(at, &mut bounds, &norms.rows[at]);
            }
            self.backward.note(self.around.n, &bounds);
            self.around.boxes.push(bounds);
            if let Some(norms) = self.norms {
                self.balls.push(self.ball(at, norms.steps[at]));
            }
            let error = self.around.rounding(at, UNIT, &self.around.error);
            self.around.error.push(error);
        }
    }

    /// The lines of the ReLU of step `at`, whose box is known.
    fn draw(&mut self, at: usize, slope: Slope) {
        let input = self.network.steps[at].inputs[0];
        let (h, error) = (&self.around.clean[input], &self.around.error[input]);
        self.backward.lines.insert(at, Lines::new(h, error, &self.around.boxes[input], slope));
    }

    /// Linear bounds for the units of a pre-activation whose sign is open.
    fn tighten(&mut self, value: usize) {
        let first = self.backward.lines.is_empty() && self.config.threat.norm == Norm::Linf;
        // Intervals of one linear map are exact in the l-infinity ball.
        if self.config.effort != Effort::Full || first {
            return;
        }
        let (h, e, bounds) =
            (&self.around.clean[value], &self.around.error[value], &self.around.boxes[value]);
        let open = |&i: &usize| {
            let active = h[i] - e[i] + bounds.lower[i] >= 0.0;
            !active && h[i] + e[i] + bounds.upper[i] > 0.0 && bounds.reach(i).is_finite()
        };
        let units: Vec<usize> = (0..h.len()).filter(open).collect();
        for chunk in units.chunks(self.config.rows) {
            let len = self.network.shapes[value].len();
            let map = map_of(&self.network.shapes[value]);
            let bound = |run: &Self, sign: f64| {
                let (targets, piece) = unit_rows(chunk, len, map, sign);
                run.upper(value, &targets, piece)
            };
            let (upper, lower) = (bound(self, 1.0), bound(self, -1.0));
            for (i, &unit) in chunk.iter().enumerate() {
                self.around.boxes[value].intersect(unit, -lower[i], upper[i]);
            }
            self.rows += 2 * chunk.len();
        }
        if !self.balls.is_empty() {
            let ball = self.of_box(value).into_iter().zip(&self.balls[value]);
            self.balls[value] = ball.map(|(a, &b)| least(a, b)).collect();
        }
        self.backward.reach[value] = {
            let mut noted = Backward::new(self.network, &self.device);
            noted.note(self.around.n, &self.around.boxes[value]);
            noted.reach.remove(0)
        };
    }

    fn upper(&self, value: usize, targets: &Targets, rows: Piece) -> Vec<f64> {
        let found = self.backward.run(value, targets, rows, Mode::Upper);
        self.backward.upper(&found, targets, &self.around.boxes[0], self.config.threat.norm, self.epsilon)
    }

    fn certificates(&mut self) -> Vec<Certificate> {
        let unit = match self.config.precision {
            Precision::F64 => UNIT,
            Precision::F32 => f64::from(f32::EPSILON) / 2.0,
        };
        if self.config.precision == Precision::F32 {
            self.passes += 1.0;
        }
        let error = self.around.errors(unit).pop().expect("a network has an input");
        let mut found: Vec<Certificate> =
            (0..self.around.n).map(|sample| self.boxed(sample, &error)).collect();
        if self.config.effort == Effort::Interval {
            return found;
        }
        // The radius of the form that each certificate has.
        let mut radii = vec![f64::INFINITY; found.len()];
        for &slope in self.config.slopes.passes() {
            for at in self.backward.lines.keys().copied().collect::<Vec<_>>() {
                self.draw(at, slope);
            }
            for (sample, certificate) in found.iter_mut().enumerate().filter(|(_, c)| !c.is_vacuous()) {
                self.add_form(sample, slope, &error, certificate, &mut radii[sample]);
            }
        }
        found
    }

    /// What the box of the output says of one sample.
    fn boxed(&mut self, sample: usize, error: &[f64]) -> Certificate {
        let d = self.network.features();
        let output = self.network.steps.len();
        let clean = self.around.clean[output][sample * d..][..d].to_vec();
        let bounds = &self.around.boxes[output];
        let mut lower = bounds.lower[sample * d..][..d].to_vec();
        let mut upper = bounds.upper[sample * d..][..d].to_vec();
        let error = &error[sample * d..][..d];
        let finite = |v: &[f64]| v.iter().all(|v| v.is_finite());
        if !(finite(&lower) && finite(&upper) && finite(error) && finite(&clean)) {
            return Certificate::vacuous(clean, self.network.sphere);
        }
        if self.config.effort != Effort::Interval {
            let whole: Vec<usize> = (0..d).collect();
            for (sign, side) in [(1.0, &mut upper), (-1.0, &mut lower)] {
                let (mut targets, piece) = unit_rows(&whole, d, [1, 1, d], sign);
                targets.sample.fill(sample);
                for (i, bound) in self.upper(output, &targets, piece).into_iter().enumerate() {
                    // Lower ends are upper ends of minus the output.
                    if sign * side[i] > bound || bound.is_nan() {
                        side[i] = sign * bound.max(0.0);
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
            radius = least(radius, above(balls[sample] + 2.0 * above(rounding, d).sqrt(), 4));
        }
        if !(radius.is_finite() && finite(&lower) && finite(&upper)) {
            return Certificate::vacuous(clean, self.network.sphere);
        }
        Certificate { clean, radius, lower, upper, form: None, sphere: self.network.sphere }
    }

    /// Gives a certificate the form of the lines that are drawn, if it has none with a smaller radius.
    fn add_form(
        &mut self,
        sample: usize,
        slope: Slope,
        error: &[f64],
        certificate: &mut Certificate,
        least: &mut f64,
    ) {
        let d = self.network.features();
        let (mut input, layers) = self.unroll(sample);
        // Both ends of a displacement are computed with rounding.
        input.spread.iter_mut().zip(&error[sample * d..]).for_each(|(s, e)| *s += 2.0 * e);
        let mut whole = input.clone();
        layers.iter().for_each(|layer| layer.add_to(&mut whole));
        let radius = match slope {
            Slope::Chord => whole.radius(&self.device),
            Slope::Sector => sector::radius(&whole, input, &layers, &self.device),
        };
        self.rows += d;
        if radius.is_nan() {
            *certificate = Certificate::vacuous(std::mem::take(&mut certificate.clean), self.network.sphere);
            return;
        }
        if certificate.form.is_none() || radius < *least {
            *least = radius;
            certificate.form = Some(Zonotope::new(whole, self.config.generators, &self.device));
        }
        certificate.radius = certificate.radius.min(radius);
    }

    /// How long the displacement of the value after step `at` is, whose box and operator norm are known: Theorem I8
    /// (docs/certificates.md).
    fn ball(&self, at: usize, norm: f64) -> Vec<f64> {
        let step = &self.network.steps[at];
        let along = |s: usize| match step.map {
            LayerOp::Add => up(self.balls[step.inputs[0]][s] + self.balls[step.inputs[1]][s]),
            _ => up(self.balls[step.inputs[0]][s] * norm),
        };
        self.of_box(at + 1).into_iter().enumerate().map(|(s, r)| least(r, along(s))).collect()
    }

    /// The length of the longest vector in the box of a value, for every sample.
    fn of_box(&self, value: usize) -> Vec<f64> {
        let (bounds, n) = (&self.around.boxes[value], self.around.n);
        let len = bounds.lower.len() / n;
        let square = |s: usize| (s * len..(s + 1) * len).map(|i| bounds.reach(i).powi(2)).sum::<f64>();
        (0..n).map(|s| above(above(square(s), len).sqrt(), 2)).collect()
    }

    /// No element moves farther than the norm of its weights times the length of what it reads.
    fn shrink(&self, at: usize, bounds: &mut Bounds, rows: &[f64]) {
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

    /// The displacement of the output of one sample as what comes of the input alone and what each layer of ReLUs
    /// adds to it, by the lines that are drawn.
    fn unroll(&self, sample: usize) -> (Parts, Vec<Layer>) {
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
            self.backward.run(self.network.steps.len(), &targets, piece, Mode::Parallel(&mut collect));
        let mut layers = BTreeMap::<usize, Layer>::new();
        for ((step, unit), column) in units {
            let layer = layers.entry(step).or_default();
            let value = self.network.steps[step].inputs[0];
            let i = sample * self.network.shapes[value].len() + unit;
            let (h, e, bounds) =
                (self.around.clean[value][i], self.around.error[value][i], &self.around.boxes[value]);
            let (_, half) = sector([down(h - e), up(h + e)], [bounds.lower[i], bounds.upper[i]]);
            let band = self.backward.lines[&step].band(i);
            layer.columns.extend(column);
            layer.units.push(Unit { band, half, reach: bounds.reach(i) });
            layer.ball = self.balls.get(value).map_or(f64::INFINITY, |balls| balls[sample]);
        }
        (self.of_input(sample, found, &targets), layers.into_values().collect())
    }

    /// What comes of the input alone: `A δ`.
    fn of_input(&self, sample: usize, found: AtInput, targets: &Targets) -> Parts {
        let d = self.network.features();
        let map = map_of(&self.network.shapes[0]);
        let piece = found.piece.spread(targets, map);
        let len: usize = map.iter().product();
        let mut parts = Parts { offset: vec![0.0; d], spread: found.slack, generators: vec![], ball: vec![] };
        let input = &self.around.boxes[0];
        for i in 0..len {
            let column =
                |factor: f64| -> Vec<f64> { (0..d).map(|row| piece.data[row * len + i] * factor).collect() };
            if self.config.threat.norm == Norm::L2 {
                parts.ball.push(column(self.epsilon));
                continue;
            }
            let (l, u) = (input.lower[sample * len + i], input.upper[sample * len + i]);
            let middle = 0.5 * l + 0.5 * u;
            let half = up((u - middle).max(middle - l));
            for (row, v) in column(middle).into_iter().enumerate() {
                parts.offset[row] += v;
                // Product and sum are rounded.
                parts.spread[row] += 2.0 * UNIT * (v.abs() + parts.offset[row].abs());
            }
            parts.generators.push(column(half));
        }
        // The offsets of units are added to this one.
        let units = slack(self.network.units());
        parts.spread.iter_mut().zip(&parts.offset).for_each(|(s, b)| *s += units * b.abs());
        parts
    }
}

/// One row for each unit of a batch, numbered through all samples.
fn unit_rows(units: &[usize], len: usize, map: [usize; 3], sign: f64) -> (Targets, Piece) {
    let [h, w, c] = map;
    let mut targets = Targets::default();
    let mut data = vec![0.0; units.len() * c];
    for (row, &unit) in units.iter().enumerate() {
        let at = unit % len;
        targets.sample.push(unit / len);
        targets.anchor.push([at / (w * c), at / c % w]);
        data[row * c + at % c] = sign;
    }
    // A vector is a map of one position: every row is then the whole of it.
    let scale = usize::from(h * w > 1);
    (targets, Piece { scale, offset: [0, 0], size: [1, 1], data })
}
