//! The linear maps of Winograd's convolution F(4×4, 3×3), `Y = Aᵀ [(G g Gᵀ) ⊙ (Bᵀ d B)] A` for a patch `d` of 6×6 and a
//! kernel `g` of 3×3 (Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", 2016, section 4.1).
//!
//! It multiplies polynomials by their values at `0, ±a, ±b, ∞`. The usual `a = 1, b = 2` makes the entries of `B` and `A`
//! unequal in size and loses digits; with `a = 1/√2, b = √2`, where `a·b = 1`, errors are four to five times smaller.
use crate::cpu::gemm::vector::Vector;

/// Side of a tile of the output.
pub(super) const OUT: usize = 4;
/// Side of the patch below it, and of its image under the transform.
pub(super) const SIDE: usize = 6;
/// Elements of a transformed patch.
pub(super) const POSITIONS: usize = SIDE * SIDE;

const A: f64 = std::f64::consts::FRAC_1_SQRT_2;
const B: f64 = std::f64::consts::SQRT_2;
const A2: f64 = 0.5;
const B2: f64 = 2.0;
/// `1 / Π (p − q)` over the other finite points `q`, for `p = ±a` and `p = ±b`.
const SCALE_A: f64 = 1.0 / (2.0 * A2 * (A2 - B2));
const SCALE_B: f64 = 1.0 / (2.0 * B2 * (B2 - A2));

/// A linear map of one axis, from `N` to `M` numbers.
pub(super) trait Linear<const N: usize, const M: usize> {
    fn apply<V: Vector<Scalar = f32>>(x: [V; N]) -> [V; M];
}

/// `Bᵀ d`
pub(super) struct Input;
/// `G g`
pub(super) struct Kernel;
/// `Aᵀ m`
pub(super) struct Output;
/// `A y`, the adjoint of [`Output`].
pub(super) struct OutputAdjoint;
/// `Gᵀ u`, the adjoint of [`Kernel`].
pub(super) struct KernelAdjoint;

impl Linear<SIDE, SIDE> for Input {
    #[inline(always)]
    fn apply<V: Vector<Scalar = f32>>(d: [V; SIDE]) -> [V; SIDE] {
        let (even_a, odd_a) = (times::<V>(-B2, d[2], d[4]), scale::<V>(A, times::<V>(-B2, d[1], d[3])));
        let (even_b, odd_b) = (times::<V>(-A2, d[2], d[4]), scale::<V>(B, times::<V>(-A2, d[1], d[3])));
        [
            times::<V>(-A2 - B2, d[2], d[0].add(d[4])),
            even_a.add(odd_a),
            even_a.sub(odd_a),
            even_b.add(odd_b),
            even_b.sub(odd_b),
            times::<V>(-A2 - B2, d[3], d[1].add(d[5])),
        ]
    }
}

impl Linear<3, SIDE> for Kernel {
    #[inline(always)]
    fn apply<V: Vector<Scalar = f32>>(g: [V; 3]) -> [V; SIDE] {
        let even_a = scale::<V>(SCALE_A, times::<V>(A2, g[2], g[0]));
        let even_b = scale::<V>(SCALE_B, times::<V>(B2, g[2], g[0]));
        let (odd_a, odd_b) = (scale::<V>(SCALE_A * A, g[1]), scale::<V>(SCALE_B * B, g[1]));
        [g[0], even_a.add(odd_a), even_a.sub(odd_a), even_b.add(odd_b), even_b.sub(odd_b), g[2]]
    }
}

impl Linear<SIDE, OUT> for Output {
    #[inline(always)]
    fn apply<V: Vector<Scalar = f32>>(m: [V; SIDE]) -> [V; OUT] {
        let (even_a, odd_a) = (m[1].add(m[2]), m[1].sub(m[2]));
        let (even_b, odd_b) = (m[3].add(m[4]), m[3].sub(m[4]));
        [
            m[0].add(even_a).add(even_b),
            times::<V>(B, odd_b, scale::<V>(A, odd_a)),
            times::<V>(B2, even_b, scale::<V>(A2, even_a)),
            times::<V>(B * B2, odd_b, times::<V>(A * A2, odd_a, m[5])),
        ]
    }
}

impl Linear<OUT, SIDE> for OutputAdjoint {
    #[inline(always)]
    fn apply<V: Vector<Scalar = f32>>(y: [V; OUT]) -> [V; SIDE] {
        let even_a = times::<V>(A2, y[2], y[0]);
        let odd_a = times::<V>(A * A2, y[3], scale::<V>(A, y[1]));
        let even_b = times::<V>(B2, y[2], y[0]);
        let odd_b = times::<V>(B * B2, y[3], scale::<V>(B, y[1]));
        [y[0], even_a.add(odd_a), even_a.sub(odd_a), even_b.add(odd_b), even_b.sub(odd_b), y[3]]
    }
}

impl Linear<SIDE, 3> for KernelAdjoint {
    #[inline(always)]
    fn apply<V: Vector<Scalar = f32>>(u: [V; SIDE]) -> [V; 3] {
        let (even_a, odd_a) = (u[1].add(u[2]), u[1].sub(u[2]));
        let (even_b, odd_b) = (u[3].add(u[4]), u[3].sub(u[4]));
        [
            times::<V>(SCALE_B, even_b, times::<V>(SCALE_A, even_a, u[0])),
            times::<V>(SCALE_B * B, odd_b, scale::<V>(SCALE_A * A, odd_a)),
            times::<V>(SCALE_B * B2, even_b, times::<V>(SCALE_A * A2, even_a, u[5])),
        ]
    }
}

/// `factor · x + to`
#[inline(always)]
fn times<V: Vector<Scalar = f32>>(factor: f64, x: V, to: V) -> V {
    V::constant(factor as f32).multiply_add(x, to)
}

#[inline(always)]
fn scale<V: Vector<Scalar = f32>>(factor: f64, x: V) -> V {
    V::constant(factor as f32).mul(x)
}

/// Where the entries of a square lie: entry `(i, j)` at `i·down + j·across`. Entries outside of the first `rows` rows and
/// `columns` columns are beyond the border of an image: they read as zero and are not written.
#[derive(Clone, Copy)]
pub(super) struct Square {
    pub(super) down: usize,
    pub(super) across: usize,
    pub(super) rows: usize,
    pub(super) columns: usize,
}

impl Square {
    /// The 36 positions of a transform, `pitch` apart.
    pub(super) fn positions(pitch: usize) -> Square {
        Square { down: SIDE * pitch, across: pitch, rows: SIDE, columns: SIDE }
    }

    fn inside(&self, i: usize, j: usize) -> bool {
        i < self.rows && j < self.columns
    }

    /// One past the last scalar of a vector of `width` in any of the first `n`×`n` entries inside.
    pub(super) fn end(&self, n: usize, width: usize) -> usize {
        match (self.rows.min(n), self.columns.min(n)) {
            (0, _) | (_, 0) => 0,
            (rows, columns) => (rows - 1) * self.down + (columns - 1) * self.across + width,
        }
    }
}

/// Applies a map of one axis to both axes of a square of vectors: columns first, then rows.
///
/// # Safety
/// `from` can be read, and `to` be written, up to the ends ([`Square::end`]) of their squares, and the processor has the
/// instructions of `V`.
#[inline(always)]
pub(super) unsafe fn both<V: Vector<Scalar = f32>, L: Linear<N, M>, const N: usize, const M: usize>(
    from: *const f32,
    read: Square,
    to: *mut f32,
    write: Square,
) {
    let mut half = [[V::zero(); N]; M];
    for j in 0..N {
        let mut column = [V::zero(); N];
        for (i, entry) in column.iter_mut().enumerate() {
            if read.inside(i, j) {
                // SAFETY: the entry is inside of the square that the caller grants.
                *entry = unsafe { V::load(from.add(i * read.down + j * read.across)) };
            }
        }
        for (row, value) in half.iter_mut().zip(L::apply(column)) {
            row[j] = value;
        }
    }
    for (i, row) in half.into_iter().enumerate() {
        for (j, value) in L::apply(row).into_iter().enumerate() {
            if write.inside(i, j) {
                // SAFETY: the entry is inside of the square that the caller grants.
                unsafe { value.store(to.add(i * write.down + j * write.across)) };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::gemm::vector::portable::Single;

    fn value(i: usize) -> f32 {
        ((i * 37 + 11) % 64) as f32 / 32.0 - 1.0
    }

    fn apply<L: Linear<N, M>, const N: usize, const M: usize>(x: [f32; N]) -> [f32; M] {
        L::apply(x.map(Single::constant)).map(|v| {
            let mut out = [0.0; Single::LEN];
            // SAFETY: `out` has room for a vector.
            unsafe { v.store(out.as_mut_ptr()) };
            out[0]
        })
    }

    fn unit<const N: usize>(k: usize) -> [f32; N] {
        std::array::from_fn(|i| f32::from(u8::from(i == k)))
    }

    /// The identity that defines the algorithm, on one axis: four outputs of a kernel of three from six inputs.
    #[test]
    fn the_transforms_convolve_four_outputs_of_three_taps() {
        let d: [f32; SIDE] = std::array::from_fn(value);
        let g: [f32; 3] = std::array::from_fn(|i| value(i + 10));
        let (v, u) = (apply::<Input, 6, 6>(d), apply::<Kernel, 3, 6>(g));
        let y = apply::<Output, 6, 4>(std::array::from_fn(|i| v[i] * u[i]));
        for (i, y) in y.into_iter().enumerate() {
            let want: f32 = (0..3).map(|a| d[i + a] * g[a]).sum();
            // A dozen roundings of numbers below 16.
            assert!((y - want).abs() < 200.0 * f32::EPSILON, "{y} {want}");
        }
    }

    /// Each adjoint has the transposed matrix.
    #[test]
    fn the_adjoints_are_transposes() {
        for i in 0..SIDE {
            for k in 0..OUT {
                let (a, b) = (apply::<Output, 6, 4>(unit(i))[k], apply::<OutputAdjoint, 4, 6>(unit(k))[i]);
                assert_eq!(a, b);
            }
            for k in 0..3 {
                let (a, b) = (apply::<Kernel, 3, 6>(unit(k))[i], apply::<KernelAdjoint, 6, 3>(unit(i))[k]);
                assert!((a - b).abs() <= f32::EPSILON, "{a} {b}");
            }
        }
    }
}
