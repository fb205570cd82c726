//! Optimized slopes (α-CROWN): the free lower lines of a substitution, moved along the gradient of its bounds.
//!
//! Theorem I2 of docs/certificates.md holds for any slope in [0, 1], so that nothing here can make a bound unsound: each
//! step is a substitution of its own, and the smallest bound of each row is kept.

use crate::backward_substitution::{BackwardSubstitution, InputBall, Relaxation, Rows};
use crate::coefficient_lines::CoefficientLines;
use crate::network::LayerOp;
use crate::relu_relaxation::{LineSums, ReluRelaxation};
use crate::vector::min_or_nan;
use std::collections::BTreeMap;
use tarrl_tensor::LINE;

/// How far slopes move in each step, against the sign of the gradient. The first substitution has slopes of 0 and 1.
const STEPS: [f64; 3] = [0.5, 0.5, 0.25];

/// The slopes of a substitution, and what their gradient reads.
#[derive(Debug, Default)]
pub(crate) struct Tape {
    /// By step: the coefficients behind each ReLU, and the slope of the free lower line for each of them.
    relus: BTreeMap<usize, ReluTape>,
    /// By value: the units that have lines.
    values: BTreeMap<usize, Vec<u32>>,
}

#[derive(Debug)]
struct ReluTape {
    coefficients: CoefficientLines,
    slopes: Vec<f64>,
}

impl Tape {
    pub(crate) fn record_units(&mut self, value: usize, units: &[u32]) {
        self.values.entry(value).or_insert_with(|| units.to_vec());
    }

    /// Replaces the ReLU of step `at` in coefficients of a sample whose units begin at `first`; slopes of 0 and 1 at first.
    pub(crate) fn replace(
        &mut self,
        at: usize,
        relu: &ReluRelaxation,
        first: usize,
        lines: &mut CoefficientLines,
        sums: &mut [LineSums],
    ) {
        let tape = self.relus.entry(at).or_insert_with(|| {
            let bundle = lines.units.iter().flat_map(|&unit| [relu.tangent[first + unit as usize]; LINE]);
            ReluTape {
                coefficients: lines.clone(),
                slopes: bundle.collect::<Vec<_>>().repeat(lines.bundles()),
            }
        });
        tape.coefficients.data.copy_from_slice(&lines.data);
        let width = lines.units.len().max(1) * LINE;
        let bundles = lines.data.chunks_mut(width).zip(tape.slopes.chunks(width)).zip(sums);
        for ((data, slopes), sums) in bundles {
            let both = data.as_chunks_mut::<LINE>().0.iter_mut().zip(slopes.as_chunks().0);
            for (&unit, (line, slopes)) in lines.units.iter().zip(both) {
                relu.replace_with_slopes(first + unit as usize, line, slopes, sums);
            }
        }
    }
}

impl BackwardSubstitution<'_> {
    /// Upper bounds of rows with optimized slopes, and how many rows were substituted for them.
    pub(crate) fn optimized_upper(&self, rows: Rows<'_>, ball: &InputBall<'_>) -> (Vec<f64>, usize) {
        let mut tape = Tape::default();
        let mut best = vec![f64::INFINITY; rows.units.len()];
        let mut substitute = |tape: &mut Tape| {
            let found = self.run(rows, Relaxation::Recorded(tape));
            let bounds = self.bounds(&found, rows, ball);
            best.iter_mut().zip(bounds).for_each(|(best, bound)| *best = min_or_nan(*best, bound));
            found.lines
        };
        for step in STEPS {
            let lines = substitute(&mut tape);
            let points = self.maximizers(&lines, rows.sample, ball);
            self.move_slopes(&mut tape, rows, points, step);
            self.buffers.keep(lines.data);
        }
        substitute(&mut tape);
        (best, (STEPS.len() + 1) * rows.units.len())
    }

    /// Moves every slope against the gradient of the bound of its row. By Danskin's theorem that is the gradient at the
    /// inputs `points` at which the bounds are attained, pushed forward through the lines that were chosen.
    fn move_slopes(&self, tape: &mut Tape, rows: Rows<'_>, points: CoefficientLines, step: f64) {
        let bundles = rows.units.len().div_ceil(LINE);
        let mut values = BTreeMap::from([(0, points)]);
        for (at, layer) in self.network.steps.iter().enumerate().take(rows.value) {
            let Some(units) = tape.values.get(&(at + 1)) else { continue };
            let below = &values[&layer.inputs[0]];
            let above = match &layer.op {
                LayerOp::Relu => {
                    let relu = &self.lines[&at];
                    let first = rows.sample * self.network.shapes[at + 1].len();
                    let tape = tape.relus.get_mut(&at).expect("it was replaced");
                    let before = below.at(bundles, &tape.coefficients.units, self.buffers);
                    let after = tape.move_slopes(relu, first, before, step);
                    if after.units == *units { after } else { after.at(bundles, units, self.buffers) }
                }
                LayerOp::Add => {
                    let other = values[&layer.inputs[1]].at(bundles, units, self.buffers);
                    below.at(bundles, units, self.buffers).plus(other, bundles, self.buffers)
                }
                _ => self.maps.forward(at, below, bundles, units, self.buffers),
            };
            values.insert(at + 1, above);
        }
        values.into_values().for_each(|lines| self.buffers.keep(lines.data));
    }
}

impl ReluTape {
    /// Moves the slopes of free lower lines, where these are taken; from displacements before the ReLU to those that its
    /// lines give.
    fn move_slopes(
        &mut self,
        relu: &ReluRelaxation,
        first: usize,
        mut values: CoefficientLines,
        step: f64,
    ) -> CoefficientLines {
        let coefficients = self.coefficients.data.as_chunks::<LINE>().0;
        let slopes = self.slopes.as_chunks_mut::<LINE>().0;
        let units = values.units.iter().cycle();
        let lines = values.data.as_chunks_mut::<LINE>().0.iter_mut().zip(coefficients.iter().zip(slopes));
        for (&unit, (line, (coefficients, slopes))) in units.zip(lines) {
            let gradient = relu.displace(first + unit as usize, coefficients, line, slopes);
            for (slope, gradient) in slopes.iter_mut().zip(gradient) {
                if gradient != 0.0 && !gradient.is_nan() {
                    *slope = (*slope - step * gradient.signum()).clamp(0.0, 1.0);
                }
            }
        }
        values
    }
}
