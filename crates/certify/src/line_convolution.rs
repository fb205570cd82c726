//! Convolutions of lines, at chosen units, and their adjoints.

use crate::coefficient_lines::{Buffers, CoefficientLines};
use std::ops::Range;
use tarrl_tensor::{Conv, LINE, LineProduct, LineRun, LineTarget, Tensor};

/// The adjoint of a convolution, or the convolution itself, as sums over the lines that are there.
pub(crate) struct LineConvolution {
    /// For each tap the weights of a channel of the result side by side.
    weights: Vec<f64>,
    /// Height, width and channels of what is read and of the result.
    from: [usize; 3],
    to: [usize; 3],
    groups: usize,
    /// Channels of what is read, and of the result, after which weights begin anew.
    periods: [usize; 2],
    /// The taps of each position of the result, in the order of the positions that it reads.
    taps: Vec<Vec<Tap>>,
    /// The rows and columns of the result that may read each row and column.
    reach: [Vec<Range<usize>>; 2],
}

/// A weight of the kernel through which a position is read.
struct Tap {
    position: usize,
    /// Where its weights begin.
    weights: usize,
}

/// The range of no place, whose hull with another one is that one.
const NOWHERE: Range<usize> = Range { start: usize::MAX, end: 0 };

impl LineConvolution {
    /// From coefficients above a convolution from maps `input` to maps `output` to those below.
    pub(crate) fn adjoint(weight: &Tensor, conv: &Conv, input: [usize; 3], output: [usize; 3]) -> Self {
        let periods = [output[2], input[2] / conv.groups];
        let weights = weight.array().to_f64();
        Self::new(weight, weights, conv, [output, input], periods, |at, tap, axis| {
            let from = (at + conv.pad).checked_sub(tap)?;
            (from % conv.stride == 0 && from / conv.stride < output[axis]).then_some(from / conv.stride)
        })
    }

    /// From values below a convolution to those above.
    pub(crate) fn forward(weight: &Tensor, conv: &Conv, input: [usize; 3], output: [usize; 3]) -> Self {
        let periods = [input[2] / conv.groups, output[2]];
        let weights = weight.permute(&[0, 1, 3, 2]).array().to_f64();
        Self::new(weight, weights, conv, [input, output], periods, |at, tap, axis| {
            let from = (at * conv.stride + tap).checked_sub(conv.pad)?;
            (from < input[axis]).then_some(from)
        })
    }

    /// `reads(at, tap, axis)` is the place that a place of the result reads by a tap.
    fn new(
        weight: &Tensor,
        weights: Vec<f64>,
        conv: &Conv,
        [from, to]: [[usize; 3]; 2],
        periods: [usize; 2],
        reads: impl Fn(usize, usize, usize) -> Option<usize>,
    ) -> Self {
        let kernel = [weight.shape()[0], weight.shape()[1]];
        let of_tap = periods[0] * periods[1];
        let mut reach = [0, 1].map(|axis| vec![NOWHERE; from[axis]]);
        for axis in [0, 1] {
            for at in 0..to[axis] {
                for place in (0..kernel[axis]).filter_map(|tap| reads(at, tap, axis)) {
                    let range = &mut reach[axis][place];
                    *range = range.start.min(at)..range.end.max(at + 1);
                }
            }
        }
        let taps = (0..to[0] * to[1]).map(|position| {
            let mut taps = vec![];
            for ky in 0..kernel[0] {
                let Some(y) = reads(position / to[1], ky, 0) else { continue };
                for kx in 0..kernel[1] {
                    let Some(x) = reads(position % to[1], kx, 1) else { continue };
                    taps.push(Tap { position: y * from[1] + x, weights: (ky * kernel[1] + kx) * of_tap });
                }
            }
            taps.sort_by_key(|tap| tap.position);
            taps
        });
        LineConvolution { weights, from, to, groups: conv.groups, periods, taps: taps.collect(), reach }
    }

    /// The units of the result that read any of `units`, of those that are `needed`, or of all.
    pub(crate) fn readers(&self, units: &[u32], needed: Option<&[bool]>) -> Vec<u32> {
        let starts = self.starts(units);
        let mut patch = [NOWHERE; 2];
        for (position, _) in positions(units, self.from[2]) {
            for (axis, at) in [position / self.from[1], position % self.from[1]].into_iter().enumerate() {
                let reach = &self.reach[axis][at];
                patch[axis] = patch[axis].start.min(reach.start)..patch[axis].end.max(reach.end);
            }
        }
        let [_, w, channels] = self.to;
        let mut readers = vec![];
        for y in patch[0].clone() {
            for position in y * w + patch[1].start.min(w)..y * w + patch[1].end {
                if self.taps[position].iter().any(|tap| starts[tap.position] < starts[tap.position + 1]) {
                    let of_position = position * channels..(position + 1) * channels;
                    let units = of_position.start as u32..of_position.end as u32;
                    match needed {
                        None => readers.extend(units),
                        Some(needed) => {
                            let is_needed = units.zip(&needed[of_position]);
                            readers.extend(is_needed.filter(|(_, needed)| **needed).map(|(unit, _)| unit));
                        }
                    }
                }
            }
        }
        readers
    }

    /// The result at `units`, in rising order.
    pub(crate) fn apply(
        &self,
        from: &CoefficientLines,
        bundles: usize,
        units: Vec<u32>,
        buffers: &Buffers,
    ) -> CoefficientLines {
        let [row_length, period] = self.periods;
        let columns: Vec<u32> = remainders(&from.units, row_length).collect();
        let all_rows: Vec<usize> =
            remainders(&units, period).map(|channel| channel as usize * row_length).collect();
        let starts = self.starts(&from.units);
        let mut data = buffers.take(bundles * units.len() * LINE);
        let mut to = LineTarget { data: &mut data, height: units.len() };
        let product = LineProduct::new(&self.weights, &columns, &from.data, bundles);
        let mut runs = vec![];
        // Units of one position and group read the same lines.
        let mut places = positions(&units, self.to[2] / self.groups).peekable();
        while let Some((place, first)) = places.next() {
            let end = places.peek().map_or(units.len(), |&(_, next)| next);
            runs.clear();
            self.add_runs(place / self.groups, place % self.groups, &starts, &from.units, &mut runs);
            product.multiply(&all_rows[first..end], &runs, &mut to, first);
        }
        drop(places);
        CoefficientLines { units, data, l1: None }
    }

    /// Where the lines of each position begin, and where the last ones end.
    fn starts(&self, units: &[u32]) -> Vec<usize> {
        let [h, w, channels] = self.from;
        let mut starts = Vec::with_capacity(h * w + 1);
        for (position, line) in positions(units, channels) {
            starts.resize(position + 1, line);
        }
        starts.resize(h * w + 1, units.len());
        starts
    }

    /// Appends the lines that a position reads in a group of channels, in their order.
    fn add_runs(
        &self,
        position: usize,
        group: usize,
        starts: &[usize],
        units: &[u32],
        runs: &mut Vec<LineRun>,
    ) {
        let (all, channels) = (self.from[2], self.from[2] / self.groups);
        for tap in &self.taps[position] {
            let (mut first, mut end) = (starts[tap.position], starts[tap.position + 1]);
            if self.groups > 1 {
                let lines = &units[first..end];
                let below = |channel: usize| lines.partition_point(|&unit| unit as usize % all < channel);
                (first, end) = (first + below(group * channels), first + below((group + 1) * channels));
            }
            if end > first {
                runs.push(LineRun { first, len: end - first, weights: tap.weights });
            }
        }
    }
}

/// The blocks of `len` units that rising units lie in, each with the place of its first one in the list.
fn positions(units: &[u32], len: usize) -> impl Iterator<Item = (usize, usize)> {
    let mut next = 0;
    units.iter().enumerate().filter_map(move |(line, &unit)| {
        let unit = unit as usize;
        // A division for each block, not for each unit.
        (unit >= next).then(|| {
            let position = unit / len;
            next = (position + 1) * len;
            (position, line)
        })
    })
}

/// The remainders of rising units.
fn remainders(units: &[u32], divisor: usize) -> impl Iterator<Item = u32> {
    let (divisor, mut first) = (divisor as u32, 0);
    units.iter().map(move |&unit| {
        if unit - first >= divisor {
            first = unit / divisor * divisor;
        }
        unit - first
    })
}
