//! One certificate for each sample of a batch, for any task.

use crate::certify::backward::{Backward, Mode};
use crate::certify::certificate::Certificate;
use crate::certify::error::CertifyError;
use crate::certify::form::{LinearForm, Parts};
use crate::certify::interval::{Around, input_box};
use crate::certify::network::{Map, Network};
use crate::certify::relax::Lines;
use crate::certify::rounding::{UNIT, above, down, up};
use crate::certify::rows::{Piece, Targets, map_of};
use serde::{Deserialize, Serialize};
use tarrl_attacks::{Norm, Threat};
use tarrl_tensor::{Device, Tensor};

/// How certificates are made.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CertifyConfig {
    /// What the attacker may do.
    pub threat: Threat,
    /// What is spent on it.
    pub effort: Effort,
    /// The arithmetic of the network that is used afterwards.
    pub precision: Precision,
    /// Generators of a linear form that are kept one by one, the longest first.
    pub generators: usize,
    /// Samples in memory at a time; changes no result.
    pub batch: usize,
    /// Rows that are substituted at a time; changes no result.
    pub rows: usize,
}

/// What is spent on a certificate, from cheap and loose to dear and tight.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Effort {
    /// Intervals alone (Theorem I1): a box and its radius. Tight only where training made it so.
    Interval,
    /// Linear forms of the outputs on interval boxes of the units.
    Linear,
    /// Linear forms of the outputs, and linear bounds of every unit whose sign is open.
    #[default]
    Full,
}

/// The arithmetic of the network that a certificate speaks of. Products are plain sums, in any order, with or
/// without fused multiply-add; fast convolution algorithms are not covered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Precision {
    /// f64, as [`Network::forward`] computes.
    #[default]
    F64,
    /// f32, op by op as recorded.
    F32,
}

/// The l-infinity ball of 8/255 at full effort in f64, with 512 generators.
impl Default for CertifyConfig {
    fn default() -> Self {
        CertifyConfig {
            threat: Threat::default(),
            effort: Effort::default(),
            precision: Precision::default(),
            generators: 512,
            batch: 16,
            rows: 512,
        }
    }
}

/// What certificates cost, on the average of one sample.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Cost {
    /// Forward passes in f64, with the weights or their absolute values.
    pub forward: f64,
    /// Rows that were substituted back to the input, most of them over a small patch.
    pub rows: f64,
}

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
    let mut certificates = Vec::with_capacity(n);
    let mut cost = Cost::default();
    for start in (0..n).step_by(config.batch) {
        let part = x.slice(0, start, config.batch.min(n - start));
        let mut run = Run::new(network, &part, config);
        run.forward();
        certificates.extend(run.certificates());
        cost.forward += run.passes * run.around.n as f64 / n as f64;
        cost.rows += run.rows as f64 / n as f64;
    }
    Ok((certificates, cost))
}

impl CertifyConfig {
    fn check(&self, x: &Tensor) -> Result<(), CertifyError> {
        let setting = |field, value, range| Err(CertifyError::Setting { field, value, range });
        // The l1 ball lies in the box of the same radius, which is what is propagated; sparse changes lie in none.
        if self.threat.norm == Norm::L0 {
            return Err(CertifyError::UnsupportedNorm(self.threat.norm));
        }
        let epsilon = self.threat.epsilon;
        if !(epsilon >= 0.0 && epsilon.is_finite()) {
            return setting("threat.epsilon", epsilon, "it must be finite and not negative");
        }
        for (field, value) in [("batch", self.batch), ("rows", self.rows)] {
            if value == 0 {
                return setting(field, 0.0, "take at least one");
            }
        }
        let values = x.array().to_f64();
        if !values.iter().all(|v| v.is_finite()) {
            return Err(CertifyError::NotFinite("an input".into()));
        }
        if let Some((low, high)) = self.threat.bounds
            && let Some(&outside) = values.iter().find(|v| !(low..=high).contains(*v))
        {
            return setting("an input", outside, "it has to lie in the range `threat.bounds`");
        }
        Ok(())
    }
}

/// The work on one batch.
struct Run<'a> {
    network: &'a Network,
    config: &'a CertifyConfig,
    epsilon: f64,
    around: Around<'a>,
    backward: Backward<'a>,
    device: Device,
    passes: f64,
    rows: usize,
}

impl<'a> Run<'a> {
    fn new(network: &'a Network, x: &Tensor, config: &'a CertifyConfig) -> Self {
        // A radius such as 8/255 is itself rounded.
        let epsilon = up(config.threat.epsilon);
        let input = input_box(&x.array().to_f64(), epsilon, config.threat.bounds);
        let mut backward = Backward::new(network, x.device());
        backward.note(x.shape()[0], &input);
        let around = Around::new(network, x, input);
        // The clean values, then centre, radius and rounding of every step.
        Run { network, config, epsilon, around, backward, device: x.device().clone(), passes: 4.0, rows: 0 }
    }

    /// Boxes of all values, and the lines of all ReLUs.
    fn forward(&mut self) {
        for (at, step) in self.network.steps.iter().enumerate() {
            if let Map::Relu = step.map {
                let input = step.inputs[0];
                self.tighten(input);
                let lines = Lines::new(
                    &self.around.clean[input],
                    &self.around.error[input],
                    &self.around.boxes[input],
                );
                self.backward.lines.insert(at, lines);
            }
            let bounds = self.around.interval(at);
            self.backward.note(self.around.n, &bounds);
            self.around.boxes.push(bounds);
            let error = self.around.rounding(at, UNIT, &self.around.error);
            self.around.error.push(error);
        }
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
        (0..self.around.n).map(|sample| self.certificate(sample, &error)).collect()
    }

    fn certificate(&mut self, sample: usize, error: &[f64]) -> Certificate {
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
        let mut form = None;
        let mut radius = f64::INFINITY;
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
            let mut parts = self.form(sample);
            // Both ends of a displacement are computed with rounding.
            parts.spread.iter_mut().zip(error).for_each(|(s, e)| *s += 2.0 * e);
            radius = parts.radius(&self.device);
            form = Some(LinearForm::new(parts, self.config.generators, &self.device));
            self.rows += 3 * d;
        }
        for i in 0..d {
            lower[i] = down(lower[i] - 2.0 * error[i]);
            upper[i] = up(upper[i] + 2.0 * error[i]);
        }
        let corner: f64 = (0..d).map(|i| lower[i].abs().max(upper[i]).powi(2)).sum();
        let corner = above(above(corner, d).sqrt(), 2);
        radius = if corner < radius { corner } else { radius };
        if !(radius.is_finite() && finite(&lower) && finite(&upper)) {
            return Certificate::vacuous(clean, self.network.sphere);
        }
        Certificate { clean, radius, lower, upper, form, sphere: self.network.sphere }
    }

    /// The linear form of the output of one sample.
    fn form(&self, sample: usize) -> Parts {
        let d = self.network.features();
        let whole: Vec<usize> = (0..d).collect();
        let (mut targets, piece) = unit_rows(&whole, d, [1, 1, d], 1.0);
        targets.sample.fill(sample);
        let mut units = std::collections::BTreeMap::<(usize, usize), Vec<f64>>::new();
        let mut collect = |row: usize, step: usize, unit: usize, coefficient: f64| {
            if coefficient != 0.0 {
                units.entry((step, unit)).or_insert_with(|| vec![0.0; d])[row] += coefficient;
            }
        };
        let found =
            self.backward.run(self.network.steps.len(), &targets, piece, Mode::Parallel(&mut collect));
        let map = map_of(&self.network.shapes[0]);
        let piece = found.piece.spread(&targets, map);
        let len: usize = map.iter().product();
        let mut parts = Parts {
            offset: found.constant,
            spread: found.slack,
            generators: units.into_values().collect(),
            ball: vec![],
        };
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
