//! Optimized slopes (α-CROWN): the free lower lines of a substitution, moved along the gradient of its bounds.
//!
//! Theorem I2 of docs/certificates.md holds for any slope in [0, 1], so that nothing here can make a bound unsound: each
//! step is a substitution of its own, and the smallest bound of each row is kept.

use crate::backward_substitution::{BackwardSubstitution, InputBall, Relaxation, Rows};
use crate::coefficient_lines::CoefficientLines;
use crate::network::LayerOp;
use crate::slope_tape::Tape;
use crate::vector::min_or_nan;
use std::collections::BTreeMap;
use tarrl_tensor::LINE;

/// How far slopes move in each step, against the sign of the gradient. The first substitution has slopes of 0 and 1.
const STEPS: [f64; 3] = [0.5, 0.5, 0.25];

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
