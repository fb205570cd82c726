//! LinearMaps of linear steps on coefficient lines: `A ↦ A W`, at the units that are asked for.

use crate::coefficient_lines::{Buffers, CoefficientLines};
use crate::line_convolution::LineConvolution;
use crate::network::{LayerOp, Network, Step, batched};
use crate::rounding::slack;
use tarrl_tensor::{LINE, LineProduct, LineRun, LineTarget, Pool, Shape};

/// Every linear step of a network.
pub(crate) struct LinearMaps {
    steps: Vec<LinearMap>,
    /// What an error of the coefficients of each step is at most, relative to their l1 norm and to the largest displacement
    /// of the value below: Theorem I3 of docs/certificates.md.
    pub(crate) rounding: Vec<f64>,
}

/// One step.
enum LinearMap {
    /// The adjoint of a convolution, and the convolution if it is wanted.
    Conv { adjoint: LineConvolution, forward: Option<Box<LineConvolution>> },
    /// A product with `(inputs, outputs)`.
    Linear { weights: Vec<f64>, outputs: usize },
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

impl LinearMaps {
    /// `forward` says whether the steps themselves are wanted too.
    pub(crate) fn new(network: &Network, forward: bool) -> Self {
        let shapes = |at: usize, step: &Step| (&network.shapes[step.inputs[0]], &network.shapes[at + 1]);
        let steps = network.steps.iter().enumerate();
        let rounding = steps.clone().map(|(at, step)| {
            let (input, _) = shapes(at, step);
            slack(step.op.adjoint_terms()) * step.op.gain(input)
        });
        LinearMaps {
            rounding: rounding.collect(),
            steps: steps
                .map(|(at, step)| {
                    let (input, output) = shapes(at, step);
                    LinearMap::new(&step.op, input, output, forward)
                })
                .collect(),
        }
    }

    /// The coefficients below step `at` from those above it, at the units that are `needed`, or at all.
    pub(crate) fn adjoint(
        &self,
        at: usize,
        mut above: CoefficientLines,
        bundles: usize,
        needed: Option<&[bool]>,
        buffers: &Buffers,
    ) -> CoefficientLines {
        let below = match &self.steps[at] {
            LinearMap::Conv { adjoint, .. } => {
                adjoint.apply(&above, bundles, adjoint.readers(&above.units, needed), buffers)
            }
            LinearMap::Linear { weights, outputs } => {
                linear(weights, *outputs, &above, bundles, needed, buffers)
            }
            LinearMap::Sums(sums) => sums.adjoint(&above, bundles, needed, buffers),
            LinearMap::Scale(factors) => {
                scale(&mut above, factors);
                return above;
            }
            LinearMap::Identity => return above,
        };
        buffers.keep(above.data);
        below
    }

    /// The result of step `at` at `units` from the values of its input, of which some may be missing: they are zero.
    pub(crate) fn forward(
        &self,
        at: usize,
        below: &CoefficientLines,
        bundles: usize,
        units: &[u32],
        buffers: &Buffers,
    ) -> CoefficientLines {
        match &self.steps[at] {
            LinearMap::Conv { forward, .. } => {
                let forward = forward.as_ref().expect("it was wanted");
                forward.apply(below, bundles, units.to_vec(), buffers)
            }
            LinearMap::Linear { weights, outputs } => {
                self::forward(weights, *outputs, below, bundles, units, buffers)
            }
            LinearMap::Sums(sums) => sums.forward(below, bundles, units, buffers),
            LinearMap::Scale(factors) => {
                let mut values = below.at(bundles, units, buffers);
                scale(&mut values, factors);
                values
            }
            LinearMap::Identity => below.at(bundles, units, buffers),
        }
    }
}

impl LinearMap {
    fn new(op: &LayerOp, input: &Shape, output: &Shape, forward: bool) -> Self {
        match op {
            LayerOp::Conv { weight, conv, .. } => {
                let [input, output] = [map(input), map(output)];
                LinearMap::Conv {
                    adjoint: LineConvolution::adjoint(weight, conv, input, output),
                    forward: forward.then(|| Box::new(LineConvolution::forward(weight, conv, input, output))),
                }
            }
            LayerOp::Linear { weight, .. } => {
                LinearMap::Linear { weights: weight.array().to_f64(), outputs: weight.shape()[1] }
            }
            LayerOp::Scale { factor, .. } => {
                LinearMap::Scale(factor.broadcast_to(batched(1, output)).array().to_f64())
            }
            LayerOp::SumPool(pool) => LinearMap::Sums(Sums::of_pool(pool, map(input), map(output))),
            LayerOp::Sum(axis) => {
                // The axes of a batch are counted with the samples.
                let inner: usize = input[*axis..].iter().product();
                let extent = input[*axis - 1];
                LinearMap::Sums(Sums::each(input.len(), |unit| {
                    unit / (inner * extent) * inner + unit % inner
                }))
            }
            LayerOp::Permute(order) => {
                let strides = strides(output);
                LinearMap::Sums(Sums::each(input.len(), |unit| {
                    let (mut rest, mut to) = (unit, 0);
                    for axis in (0..input.rank()).rev() {
                        let place = order.iter().position(|&from| from == axis + 1).expect("a permutation");
                        to += rest % input[axis] * strides[place - 1];
                        rest /= input[axis];
                    }
                    to
                }))
            }
            LayerOp::Shift(_) | LayerOp::Relu | LayerOp::Add | LayerOp::Reshape => LinearMap::Identity,
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

    /// The sums at `units` of the output.
    fn forward(
        &self,
        below: &CoefficientLines,
        bundles: usize,
        units: &[u32],
        buffers: &Buffers,
    ) -> CoefficientLines {
        let mut data = buffers.take(bundles * units.len() * LINE);
        data.fill(0.0);
        for (to, from) in data.chunks_mut((units.len() * LINE).max(1)).zip(below.lines()) {
            for (&unit, from) in below.units.iter().zip(from) {
                let list = self.starts[unit as usize] as usize..self.starts[unit as usize + 1] as usize;
                for output in &self.outputs[list] {
                    if let Ok(line) = units.binary_search(output) {
                        to[line * LINE..].iter_mut().zip(from).for_each(|(to, v)| *to += v);
                    }
                }
            }
        }
        CoefficientLines { units: units.to_vec(), data, l1: None }
    }

    fn adjoint(
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

/// The product with `(inputs, outputs)` at `units` of its output.
fn forward(
    weights: &[f64],
    outputs: usize,
    below: &CoefficientLines,
    bundles: usize,
    units: &[u32],
    buffers: &Buffers,
) -> CoefficientLines {
    let mut data = buffers.take(bundles * units.len() * LINE);
    let mut to = LineTarget { data: &mut data, height: units.len() };
    // Rows of the transposed weights lie apart: one line is a run of its own.
    let runs: Vec<LineRun> = below
        .units
        .iter()
        .enumerate()
        .map(|(line, &unit)| LineRun { first: line, len: 1, weights: unit as usize * outputs })
        .collect();
    let columns = vec![0; below.units.len()];
    let rows: Vec<usize> = units.iter().map(|&unit| unit as usize).collect();
    LineProduct::new(weights, &columns, &below.data, bundles).multiply(&rows, &runs, &mut to, 0);
    CoefficientLines { units: units.to_vec(), data, l1: None }
}

fn scale(lines: &mut CoefficientLines, factors: &[f64]) {
    let CoefficientLines { units, data, l1 } = lines;
    for bundle in data.chunks_mut(units.len().max(1) * LINE) {
        for (&unit, line) in units.iter().zip(bundle.as_chunks_mut::<LINE>().0) {
            line.iter_mut().for_each(|a| *a *= factors[unit as usize]);
        }
    }
    *l1 = None;
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
    use tarrl_tensor::{Conv, Key, Tensor};

    /// `⟨W x, a⟩ = ⟨x, A a⟩` for whole numbers, whose sums are exact, at the units that are needed; lines of units that `a`
    /// does not read are left out.
    #[track_caller]
    fn is_adjoint(op: &LayerOp, input: &[usize], output: &[usize]) {
        let device = device();
        let mut stream = Key::new(7).stream();
        let mut whole =
            |n: usize| -> Vec<f64> { (0..n).map(|_| stream.uniform(-4.0, 4.0).round()).collect() };
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
            let first = row / LINE * above.units.len();
            for (line, &unit) in above.units.iter().enumerate() {
                above.data[(first + line) * LINE + row % LINE] = a[unit as usize];
            }
        }
        let network = Network {
            shapes: vec![input, output],
            steps: vec![Step { op: op.clone(), inputs: vec![0] }],
            sphere: None,
        };
        let maps = LinearMaps::new(&network, true);
        let buffers = Buffers::default();
        let needed: Vec<bool> = (0..input.len()).map(|unit| unit % 4 != 2).collect();
        let all = maps.adjoint(0, above.clone(), 2, None, &buffers);
        let some = maps.adjoint(0, above.clone(), 2, Some(&needed), &buffers);
        assert!(all.units.is_sorted() && all.bundles() == 2);
        // The step itself, on the same vector in every row, at the units that `a` reads.
        let below = CoefficientLines {
            units: (0..input.len() as u32).collect(),
            data: (0..2).flat_map(|_| x.iter().flat_map(|&v| [v; LINE])).collect(),
            l1: None,
        };
        let forward = maps.forward(0, &below, 2, &above.units, &buffers);
        assert_eq!(forward.units, above.units);
        for bundle in forward.lines() {
            for (&unit, line) in above.units.iter().zip(bundle) {
                assert_eq!(*line, [y[unit as usize]; LINE]);
            }
        }
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
            is_adjoint(&LayerOp::SumPool(Pool { window, stride, pad }), &[5, 4, 3], &[out(5), out(4), 3]);
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
