//! The slopes of free lower lines in one substitution, with what their gradient reads.

use crate::coefficient_lines::CoefficientLines;
use crate::relu_relaxation::{LineSums, ReluRelaxation};
use std::collections::BTreeMap;
use tarrl_tensor::LINE;

/// The slopes of a substitution, and what their gradient reads.
#[derive(Debug, Default)]
pub(crate) struct Tape {
    /// By step: the coefficients behind each ReLU, and the slope of the free lower line for each of them.
    pub(crate) relus: BTreeMap<usize, ReluTape>,
    /// By value: the units that have lines.
    pub(crate) values: BTreeMap<usize, Vec<u32>>,
}

/// What was recorded at one ReLU.
#[derive(Debug)]
pub(crate) struct ReluTape {
    pub(crate) coefficients: CoefficientLines,
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

impl ReluTape {
    /// Moves the slopes of free lower lines, where these are taken; from displacements before the ReLU to those that its
    /// lines give.
    pub(crate) fn move_slopes(
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
