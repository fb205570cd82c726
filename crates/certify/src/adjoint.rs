//! Adjoints of linear steps on coefficient lines: `A ↦ A W`, at the units that are asked for.

use crate::coefficient_lines::{Buffers, CoefficientLines};
use crate::network::{LayerOp, Network, Step, batched};
use crate::rounding::slack;
use std::ops::Range;
use tarrl_tensor::{Conv, LINE, LineProduct, LineRun, LineTarget, Pool, Shape, Tensor};

/// The adjoint of every linear step of a network.
pub(crate) struct Adjoints {
    steps: Vec<Adjoint>,
    /// What an error of the coefficients of each step is at most, relative to their l1 norm and to the largest displacement
    /// of the value below: Theorem I3 of docs/certificates.md.
    pub(crate) rounding: Vec<f64>,
}

/// The adjoint of one step.
enum Adjoint {
    Conv(ConvAdjoint),
    /// Of a product with `(inputs, outputs)`.
    Linear {
        weights: Vec<f64>,
        outputs: usize,
    },
    /// A factor for each element.
    Scale(Vec<f64>),
    /// Each unit of the input is added to some of the output.
    Sums(Sums),
    /// The same elements in the same order, or no linear step.
    Identity,
}

/// Which units of the output each unit of the input is added to.
struct Sums {
    /// Where the list of each unit begins in `outputs`, and where the last one ends.
    starts: Vec<u32>,
    outputs: Vec<u32>,
}

struct ConvAdjoint {
    /// `(kh, kw, c_in / groups, c_out)` row-major.
    weights: Vec<f64>,
    /// Height, width and channels of the input and of the output.
    input: [usize; 3],
    output: [usize; 3],
    groups: usize,
    /// The taps of each position of the input, in the order of the positions of the output that read it.
    taps: Vec<Vec<Tap>>,
    /// The rows and columns of the input that each row and column of the output reads.
    reach: [Vec<Range<usize>>; 2],
}

/// A weight of the kernel through which a position of the output reads one of the input.
struct Tap {
    position: usize,
    /// Where its weights begin.
    weights: usize,
}

impl Adjoints {
    pub(crate) fn new(network: &Network) -> Self {
        let shapes = |at: usize, step: &Step| (&network.shapes[step.inputs[0]], &network.shapes[at + 1]);
        let steps = network.steps.iter().enumerate();
        let rounding = steps.clone().map(|(at, step)| {
            let (input, _) = shapes(at, step);
            slack(step.op.adjoint_terms()) * step.op.gain(input)
        });
        Adjoints {
            rounding: rounding.collect(),
            steps: steps
                .map(|(at, step)| {
                    let (input, output) = shapes(at, step);
                    Adjoint::new(&step.op, input, output)
                })
                .collect(),
        }
    }

    /// The coefficients below step `at` from those above it, at the units that are `needed`, or at all.
    pub(crate) fn apply(
        &self,
        at: usize,
        mut above: CoefficientLines,
        bundles: usize,
        needed: Option<&[bool]>,
        buffers: &Buffers,
    ) -> CoefficientLines {
        let below = match &self.steps[at] {
            Adjoint::Conv(conv) => conv.apply(&above, bundles, needed, buffers),
            Adjoint::Linear { weights, outputs } => {
                linear(weights, *outputs, &above, bundles, needed, buffers)
            }
            Adjoint::Sums(sums) => sums.apply(&above, bundles, needed, buffers),
            Adjoint::Scale(factors) => {
                let CoefficientLines { units, data, l1 } = &mut above;
                for bundle in data.chunks_mut(units.len().max(1) * LINE) {
                    for (&unit, line) in units.iter().zip(bundle.as_chunks_mut::<LINE>().0) {
                        line.iter_mut().for_each(|a| *a *= factors[unit as usize]);
                    }
                }
                *l1 = None;
                return above;
            }
            Adjoint::Identity => return above,
        };
        buffers.keep(above.data);
        below
    }
}

impl Adjoint {
    fn new(op: &LayerOp, input: &Shape, output: &Shape) -> Self {
        match op {
            LayerOp::Conv { weight, conv, .. } => {
                Adjoint::Conv(ConvAdjoint::new(weight, conv, map(input), map(output)))
            }
            LayerOp::Linear { weight, .. } => {
                Adjoint::Linear { weights: weight.array().to_f64(), outputs: weight.shape()[1] }
            }
            LayerOp::Scale { factor, .. } => {
                Adjoint::Scale(factor.broadcast_to(batched(1, output)).array().to_f64())
            }
            LayerOp::SumPool(pool) => Adjoint::Sums(Sums::of_pool(pool, map(input), map(output))),
            LayerOp::Sum(axis) => {
                // The axes of a batch are counted with the samples.
                let inner: usize = input[*axis..].iter().product();
                let extent = input[*axis - 1];
                Adjoint::Sums(Sums::each(input.len(), |unit| unit / (inner * extent) * inner + unit % inner))
            }
            LayerOp::Permute(order) => {
                let strides = strides(output);
                Adjoint::Sums(Sums::each(input.len(), |unit| {
                    let (mut rest, mut to) = (unit, 0);
                    for axis in (0..input.rank()).rev() {
                        let place = order.iter().position(|&from| from == axis + 1).expect("a permutation");
                        to += rest % input[axis] * strides[place - 1];
                        rest /= input[axis];
                    }
                    to
                }))
            }
            LayerOp::Shift(_) | LayerOp::Relu | LayerOp::Add | LayerOp::Reshape => Adjoint::Identity,
        }
    }
}

impl Sums {
    /// Each unit is added to one.
    fn each(inputs: usize, to: impl Fn(usize) -> usize) -> Self {
        Sums {
            starts: (0..=inputs as u32).collect(),
            outputs: (0..inputs).map(|unit| to(unit) as u32).collect(),
        }
    }

    fn of_pool(pool: &Pool, [h, w, c]: [usize; 3], output: [usize; 3]) -> Self {
        let mut sums = Sums { starts: vec![0], outputs: vec![] };
        for unit in 0..h * w * c {
            let at = [unit / (w * c), unit / c % w];
            let [rows, columns] = [0, 1].map(|axis| {
                let taps = (0..pool.window)
                    .rev()
                    .filter_map(move |tap| window_of(at[axis], tap, pool.stride, pool.pad, output[axis]));
                taps.collect::<Vec<_>>()
            });
            for y in rows {
                sums.outputs.extend(columns.iter().map(|x| ((y * output[1] + x) * c + unit % c) as u32));
            }
            sums.starts.push(sums.outputs.len() as u32);
        }
        sums
    }

    fn apply(
        &self,
        above: &CoefficientLines,
        bundles: usize,
        needed: Option<&[bool]>,
        buffers: &Buffers,
    ) -> CoefficientLines {
        let outputs = self.outputs.iter().max().map_or(0, |&most| most as usize + 1);
        let mut lines: Vec<Option<usize>> = vec![None; outputs];
        for (line, &unit) in above.units.iter().enumerate() {
            lines[unit as usize] = Some(line);
        }
        let terms = |unit: u32| {
            let list = self.starts[unit as usize] as usize..self.starts[unit as usize + 1] as usize;
            self.outputs[list].iter().filter_map(|&output| lines[output as usize])
        };
        let units: Vec<u32> = (0..self.starts.len() as u32 - 1)
            .filter(|&unit| needed.is_none_or(|needed| needed[unit as usize]) && terms(unit).next().is_some())
            .collect();
        let mut data = buffers.take(bundles * units.len() * LINE);
        for (to, from) in data.chunks_mut((units.len() * LINE).max(1)).zip(above.lines()) {
            for (&unit, to) in units.iter().zip(to.as_chunks_mut::<LINE>().0) {
                *to = [0.0; LINE];
                for line in terms(unit) {
                    to.iter_mut().zip(from[line]).for_each(|(to, a)| *to += a);
                }
            }
        }
        CoefficientLines { units, data, l1: None }
    }
}

fn linear(
    weights: &[f64],
    outputs: usize,
    above: &CoefficientLines,
    bundles: usize,
    needed: Option<&[bool]>,
    buffers: &Buffers,
) -> CoefficientLines {
    let all = 0..(weights.len() / outputs) as u32;
    let units: Vec<u32> = all.filter(|&unit| needed.is_none_or(|needed| needed[unit as usize])).collect();
    let rows: Vec<usize> = units.iter().map(|&unit| unit as usize * outputs).collect();
    let mut data = buffers.take(bundles * units.len() * LINE);
    let run = LineRun { first: 0, len: above.units.len(), weights: 0 };
    let product = LineProduct::new(weights, &above.units, &above.data, bundles);
    product.multiply(&rows, &[run], &mut LineTarget { data: &mut data, height: units.len() }, 0);
    CoefficientLines { units, data, l1: None }
}

/// Units of one position of the input, and the lines that they are read by.
struct Span {
    units: Range<usize>,
    runs: Range<usize>,
}

impl ConvAdjoint {
    fn new(weight: &Tensor, conv: &Conv, input: [usize; 3], output: [usize; 3]) -> Self {
        let kernel = [weight.shape()[0], weight.shape()[1]];
        let of_tap = weight.shape()[2] * weight.shape()[3];
        let windows = |at: usize, axis: usize| {
            (0..kernel[axis]).rev().filter_map(move |tap| {
                Some((tap, window_of(at, tap, conv.stride, conv.pad, output[axis])?))
            })
        };
        let taps_of = |position: usize| {
            let (y, x) = (position / input[1], position % input[1]);
            let rows = windows(y, 0);
            rows.flat_map(|(ky, oy)| {
                windows(x, 1).map(move |(kx, ox)| Tap {
                    position: oy * output[1] + ox,
                    weights: (ky * kernel[1] + kx) * of_tap,
                })
            })
            .collect()
        };
        let reach = [0, 1].map(|axis| {
            let of_window = |window: usize| {
                let first = window * conv.stride;
                let cut = |at: usize| at.saturating_sub(conv.pad).min(input[axis]);
                cut(first)..cut(first + kernel[axis])
            };
            (0..output[axis]).map(of_window).collect()
        });
        ConvAdjoint {
            weights: weight.array().to_f64(),
            input,
            output,
            groups: conv.groups,
            taps: (0..input[0] * input[1]).map(taps_of).collect(),
            reach,
        }
    }

    fn apply(
        &self,
        above: &CoefficientLines,
        bundles: usize,
        needed: Option<&[bool]>,
        buffers: &Buffers,
    ) -> CoefficientLines {
        let ([_, w, c_in], [_, out_w, c_out]) = (self.input, self.output);
        let columns: Vec<u32> = above.units.iter().map(|&unit| unit % c_out as u32).collect();
        let (starts, positions) = self.positions(&above.units);
        let mut patch = [usize::MAX..0, usize::MAX..0];
        for position in positions {
            for (axis, at) in [position / out_w, position % out_w].into_iter().enumerate() {
                let reach = &self.reach[axis][at];
                patch[axis] = patch[axis].start.min(reach.start)..patch[axis].end.max(reach.end);
            }
        }
        let (mut units, mut runs, mut spans) = (vec![], vec![], vec![]);
        let per_group = c_in / self.groups;
        for y in patch[0].clone() {
            for position in y * w + patch[1].start..y * w + patch[1].end {
                for group in 0..self.groups {
                    let first = [units.len(), runs.len()];
                    self.add_runs(position, group, &starts, &columns, &mut runs);
                    if runs.len() == first[1] {
                        continue;
                    }
                    let channel = position * c_in + group * per_group;
                    let is_needed = |&unit: &usize| needed.is_none_or(|needed| needed[unit]);
                    let of_group = (channel..channel + per_group).filter(is_needed);
                    units.extend(of_group.map(|unit| unit as u32));
                    spans.push(Span { units: first[0]..units.len(), runs: first[1]..runs.len() });
                }
            }
        }
        let mut data = buffers.take(bundles * units.len() * LINE);
        let mut to = LineTarget { data: &mut data, height: units.len() };
        let product = LineProduct::new(&self.weights, &columns, &above.data, bundles);
        let mut rows = vec![];
        for span in spans {
            rows.clear();
            rows.extend(units[span.units.clone()].iter().map(|&unit| unit as usize % per_group * c_out));
            product.multiply(&rows, &runs[span.runs], &mut to, span.units.start);
        }
        CoefficientLines { units, data, l1: None }
    }

    /// Where the lines of each position of the output begin and where the last ones end, and the positions that have any.
    fn positions(&self, units: &[u32]) -> (Vec<usize>, Vec<usize>) {
        let [h, w, c] = self.output;
        let (mut starts, mut positions) = (Vec::with_capacity(h * w + 1), vec![]);
        for (line, &unit) in units.iter().enumerate() {
            let position = unit as usize / c;
            if positions.last() != Some(&position) {
                positions.push(position);
                starts.resize(position + 1, line);
            }
        }
        starts.resize(h * w + 1, units.len());
        (starts, positions)
    }

    /// Appends the lines that a position of the input is read by, in their order.
    fn add_runs(
        &self,
        position: usize,
        group: usize,
        starts: &[usize],
        columns: &[u32],
        runs: &mut Vec<LineRun>,
    ) {
        let channels = self.output[2] / self.groups;
        for tap in &self.taps[position] {
            let (mut first, mut end) = (starts[tap.position], starts[tap.position + 1]);
            if self.groups > 1 {
                let lines = &columns[first..end];
                let below = |channel: usize| lines.partition_point(|&c| (c as usize) < channel);
                (first, end) = (first + below(group * channels), first + below((group + 1) * channels));
            }
            if end > first {
                runs.push(LineRun { first, len: end - first, weights: tap.weights });
            }
        }
    }
}

/// The window that reads place `at` by its tap `tap`, if there is one.
fn window_of(at: usize, tap: usize, stride: usize, pad: usize, windows: usize) -> Option<usize> {
    let from = (at + pad).checked_sub(tap)?;
    (from % stride == 0 && from / stride < windows).then_some(from / stride)
}

/// Height, width and channels of a value.
fn map(shape: &Shape) -> [usize; 3] {
    match shape[..] {
        [h, w, c] => [h, w, c],
        _ => [1, 1, shape.len()],
    }
}

fn strides(shape: &Shape) -> Vec<usize> {
    (0..shape.rank()).map(|axis| shape[axis + 1..].iter().product()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::Weights;
    use crate::tests::device;
    use tarrl_tensor::Key;

    /// `⟨W x, a⟩ = ⟨x, A a⟩` for whole numbers, whose sums are exact, at the units that are needed; lines of units that `a`
    /// does not read are left out.
    #[track_caller]
    fn is_adjoint(op: &LayerOp, input: &[usize], output: &[usize]) {
        let device = device();
        let mut stream = Key::new(7).stream();
        let mut whole = |n: usize| -> Vec<f64> { (0..n).map(|_| stream.uniform(-4.0, 4.0).round()).collect() };
        let (input, output) = (Shape::new(input), Shape::new(output));
        let x = whole(input.len());
        let y = op.linear(&Tensor::new(&device, batched(1, &input), &x), &output, Weights::Signed);
        assert_eq!(y.shape(), &batched(1, &output));
        let y = y.array().to_f64();
        // Nine rows: a bundle and one row more, on every third unit from their own on.
        let a: Vec<Vec<f64>> = (0..9).map(|_| whole(output.len())).collect();
        let units: Vec<u32> = (0..output.len() as u32).filter(|unit| unit % 3 != 1).collect();
        let mut above = CoefficientLines { data: vec![0.0; 2 * units.len() * LINE], units, l1: None };
        for (row, a) in a.iter().enumerate() {
            let units = above.units.clone();
            let bundle = above.lines_mut().nth(row / LINE).unwrap();
            for (&unit, line) in units.iter().zip(bundle) {
                line[row % LINE] = a[unit as usize];
            }
        }
        let network = Network {
            shapes: vec![input.clone(), output],
            steps: vec![Step { op: op.clone(), inputs: vec![0] }],
            sphere: None,
        };
        let adjoints = Adjoints::new(&network);
        let buffers = Buffers::default();
        let needed: Vec<bool> = (0..input.len()).map(|unit| unit % 4 != 2).collect();
        let all = adjoints.apply(0, above.clone(), 2, None, &buffers);
        let some = adjoints.apply(0, above.clone(), 2, Some(&needed), &buffers);
        assert!(all.units.is_sorted() && all.bundles() == 2);
        for (row, a) in a.iter().enumerate() {
            let found: f64 = {
                let bundle = all.lines().nth(row / LINE).unwrap();
                all.units.iter().zip(bundle).map(|(&unit, line)| line[row % LINE] * x[unit as usize]).sum()
            };
            let expected: f64 = above.units.iter().map(|&unit| a[unit as usize] * y[unit as usize]).sum();
            // Means of a power of two of whole numbers, and weights that are quarters of whole numbers, are exact.
            assert_eq!(found, expected, "row {row}");
        }
        if !matches!(op, LayerOp::Scale { .. } | LayerOp::Reshape) {
            let mut kept = all.clone();
            kept.retain(&needed);
            assert_eq!((some.units, some.data), (kept.units, kept.data));
        }
    }

    fn quarters(shape: &[usize]) -> Tensor {
        let mut stream = Key::new(8).stream();
        let values: Vec<f64> =
            (0..shape.iter().product()).map(|_| stream.uniform(-8.0, 8.0).round() / 4.0).collect();
        Tensor::new(&device(), shape, &values)
    }

    #[test]
    fn convolutions_of_any_stride_padding_and_groups() {
        for (kernel, stride, pad, groups) in
            [(3, 1, 1, 1), (3, 2, 1, 1), (1, 2, 0, 1), (2, 3, 0, 2), (5, 1, 2, 2), (1, 3, 2, 1)]
        {
            let weight = quarters(&[kernel, kernel, 4 / groups, 6]);
            let conv = Conv { stride, pad, groups };
            let op = LayerOp::Conv { magnitude: weight.abs(), weight, conv };
            let out = |extent: usize| (extent + 2 * pad - kernel) / stride + 1;
            is_adjoint(&op, &[7, 6, 4], &[out(7), out(6), 6]);
        }
    }

    #[test]
    fn products_factors_and_sums() {
        let weight = quarters(&[6, 5]);
        is_adjoint(&LayerOp::Linear { magnitude: weight.abs(), weight }, &[6], &[5]);
        let factor = quarters(&[4]);
        is_adjoint(&LayerOp::Scale { magnitude: factor.abs(), factor }, &[2, 3, 4], &[2, 3, 4]);
        for (window, stride, pad) in [(2, 2, 0), (4, 1, 0), (2, 1, 1), (2, 3, 1)] {
            let out = |extent: usize| (extent + 2 * pad - window) / stride + 1;
            is_adjoint(
                &LayerOp::SumPool(Pool { window, stride, pad }),
                &[5, 4, 3],
                &[out(5), out(4), 3],
            );
        }
        is_adjoint(&LayerOp::Sum(1), &[4, 3], &[1, 3]);
        is_adjoint(&LayerOp::Sum(2), &[2, 4, 3], &[2, 1, 3]);
        is_adjoint(&LayerOp::Sum(3), &[2, 4, 3], &[2, 4, 1]);
    }

    #[test]
    fn elements_that_move_to_other_places() {
        is_adjoint(&LayerOp::Reshape, &[2, 3, 4], &[24]);
        for (order, output) in
            [([0, 3, 1, 2], [4, 2, 3]), ([0, 2, 3, 1], [3, 4, 2]), ([0, 1, 3, 2], [2, 4, 3])]
        {
            is_adjoint(&LayerOp::Permute(order.to_vec()), &[2, 3, 4], &output);
        }
    }
}
