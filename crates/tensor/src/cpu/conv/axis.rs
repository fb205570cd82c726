//! A convolution and its input adjoint along one axis, as plain correlations.

/// Targets `first + step·i` for `i < count`; target `i` sums source `i·advance + a − lead` times kernel element
/// `kernel_first + kernel_step·a` over `a < taps`. Sources beyond the border are zero.
///
/// A forward convolution is one such correlation. Its adjoint with stride `s` is `s` of them, one for each residue of the
/// padded target position: these meet disjoint subsets of the kernel, and each reads the source with advance 1.
#[derive(Clone, Copy, Debug)]
pub(super) struct Axis {
    pub(super) first: usize,
    pub(super) step: usize,
    pub(super) count: usize,
    pub(super) advance: usize,
    pub(super) lead: isize,
    pub(super) taps: usize,
    kernel_first: usize,
    kernel_step: isize,
}

impl Axis {
    pub(super) fn forward(out: usize, kernel: usize, stride: usize, pad: usize) -> Axis {
        Axis {
            first: 0,
            step: 1,
            count: out,
            advance: stride,
            lead: pad as isize,
            taps: kernel,
            kernel_first: 0,
            kernel_step: 1,
        }
    }

    /// The targets `t < size` with `(t + pad) % stride == residue`.
    pub(super) fn adjoint(size: usize, kernel: usize, stride: usize, pad: usize, residue: usize) -> Axis {
        let first = (residue + stride * pad - pad) % stride;
        let taps = kernel.saturating_sub(residue).div_ceil(stride);
        Axis {
            first,
            step: stride,
            count: size.saturating_sub(first).div_ceil(stride),
            advance: 1,
            lead: taps as isize - 1 - ((first + pad - residue) / stride) as isize,
            taps,
            kernel_first: residue + taps.saturating_sub(1) * stride,
            kernel_step: -(stride as isize),
        }
    }

    /// The kernel element below tap `a`.
    pub(super) fn kernel(&self, a: usize) -> usize {
        (self.kernel_first as isize + self.kernel_step * a as isize) as usize
    }

    /// How many targets lie below `end`.
    pub(super) fn below(&self, end: usize) -> usize {
        end.saturating_sub(self.first).div_ceil(self.step).min(self.count)
    }
}

/// The stretch of source that a set of axes of equal advance reads for the targets `i < count` of each.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Reach {
    /// Sources before that of target 0; negative if it begins after it.
    pub(super) lead: isize,
    /// How many sources.
    pub(super) len: usize,
}

impl Reach {
    /// `count` gives the number of targets of an axis.
    pub(super) fn of(axes: impl Iterator<Item = Axis> + Clone, count: impl Fn(&Axis) -> usize) -> Reach {
        let used = axes.filter(|axis| axis.taps > 0 && count(axis) > 0);
        let Some(lead) = used.clone().map(|axis| axis.lead).max() else { return Reach::default() };
        let end = |axis: Axis| ((count(&axis) - 1) * axis.advance + axis.taps) as isize - axis.lead;
        let end = used.map(end).max().unwrap_or(0);
        Reach { lead, len: (end + lead) as usize }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Both forms list the same triples (input, output, kernel element).
    #[test]
    fn the_adjoint_meets_the_same_pairs() {
        for (size, kernel, stride, pad) in
            [(7, 3, 1, 1), (8, 3, 2, 1), (7, 3, 2, 0), (5, 1, 2, 0), (6, 5, 3, 2), (1, 3, 1, 1), (4, 2, 3, 4)]
        {
            let out = (size + 2 * pad - kernel) / stride + 1;
            let mut forward = pairs(Axis::forward(out, kernel, stride, pad), size);
            let mut adjoint: Vec<_> = (0..stride)
                .flat_map(|r| pairs(Axis::adjoint(size, kernel, stride, pad, r), out))
                .map(|(target, source, k)| (source, target, k))
                .collect();
            forward.sort();
            adjoint.sort();
            assert_eq!(forward, adjoint, "size {size}, kernel {kernel}, stride {stride}, pad {pad}");
        }
    }

    fn pairs(axis: Axis, sources: usize) -> Vec<(usize, usize, usize)> {
        let mut pairs = Vec::new();
        for i in 0..axis.count {
            for a in 0..axis.taps {
                let source = (i * axis.advance + a) as isize - axis.lead;
                if (0..sources as isize).contains(&source) {
                    pairs.push((axis.first + axis.step * i, source as usize, axis.kernel(a)));
                }
            }
        }
        pairs
    }
}
