//! Matrix products on x86-64: the kernels of private-gemm-x86 where a product is large, plain loops elsewhere.
//!
//! Each entry is a sum over `k` in one of four orders, chosen by the shape and by how the factors lie:
//!
//! - large products: that of the kernels, which is the same for every row and any number of rows;
//! - small products: the first summand, and to it the others up to the last; where the right factor is stored by columns,
//!   in pieces of 64 summands, whose sums are added;
//! - a single column of a factor stored by columns: zero, and to it the summands from the first to the last, so that the
//!   sum of negative zeros is a positive one;
//! - a single column of a factor stored by rows: four vectors of 256 bits take turns, and their lanes are added in halves.
//!
//! With FMA a summand is not rounded before it is added. A processor without AVX2 and FMA takes the loops for all products.

use super::matrix::Matrix;
use crate::cpu::real::Real;
use private_gemm_x86::{Accum, DType, DstKind, IType, InstrSet, gemm};

/// Multiply-adds up to which a product is small.
const SMALL: usize = 16 * 16 * 16;

/// Summands that are added up before they are added to the sum of those before.
const PIECE: usize = 64;

/// An element of a product: `f32` or `f64`.
pub(in crate::cpu) trait Factor: Real {
    const TYPE: DType;
    fn fused(self, by: Self, sum: Self) -> Self;
    /// The sum of products of two rows, with the lanes of a vector of 256 bits.
    fn dot<const FUSED: bool>(a: &[Self], b: &[Self]) -> Self;
}

macro_rules! factor {
    ($t:ty, $kind:expr, $lanes:literal) => {
        impl Factor for $t {
            const TYPE: DType = $kind;
            #[inline(always)]
            fn fused(self, by: Self, sum: Self) -> Self {
                self.mul_add(by, sum)
            }
            #[inline(always)]
            fn dot<const FUSED: bool>(a: &[Self], b: &[Self]) -> Self {
                dot_of_lanes::<Self, $lanes, FUSED>(a, b)
            }
        }
    };
}
factor!(f32, DType::F32, 8);
factor!(f64, DType::F64, 4);

/// How the entries of a small product are summed.
#[derive(Clone, Copy)]
enum Order {
    /// To the first summand.
    First,
    /// To zero.
    Zero,
    /// To zero in every lane.
    Lanes,
}

/// Overwrites `c`, on this thread.
pub(super) fn multiply<T: Factor>(c: Matrix<&mut [T]>, a: Matrix<&[T]>, b: Matrix<&[T]>) {
    let (m, n, k) = (c.rows, c.columns, a.columns);
    if m == 0 || n == 0 {
        return;
    }
    let has_fma = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
    let of_a_column = |c_step: usize, a: [usize; 2], b_step: usize| match (c_step, a, b_step) {
        (1, [1, _], _) => Some(Order::Zero),
        (_, [_, 1], 1) => Some(Order::Lanes),
        _ => None,
    };
    let mut order = None;
    if n == 1 {
        order = of_a_column(c.row_step, [a.row_step, a.column_step], b.row_step);
    }
    let mut turned = false;
    if order.is_none() && m == 1 {
        order = of_a_column(c.column_step, [b.column_step, b.row_step], a.column_step);
        turned = true;
    }
    let by_columns = c.row_step == 1 && a.row_step == 1;
    let by_rows = c.column_step == 1 && b.column_step == 1;
    let is_outer = k == 1 && (by_columns || by_rows);
    if order.is_none() && (is_outer || m * n * k <= SMALL || !has_fma) {
        order = Some(Order::First);
    }
    let Some(order) = order else { return blocked(c, a, b) };
    // A single row is the column of the turned product.
    let (c, a, b) = if turned { (c.transposed(), b.transposed(), a.transposed()) } else { (c, a, b) };
    if has_fma {
        // SAFETY: the processor has AVX2 and FMA.
        unsafe { small_with_fma(order, c, a, b) }
    } else {
        small::<T, false>(order, c, a, b);
    }
}

#[target_feature(enable = "avx2,fma")]
fn small_with_fma<T: Factor>(order: Order, c: Matrix<&mut [T]>, a: Matrix<&[T]>, b: Matrix<&[T]>) {
    small::<T, true>(order, c, a, b);
}

#[inline(always)]
fn small<T: Factor, const FUSED: bool>(order: Order, c: Matrix<&mut [T]>, a: Matrix<&[T]>, b: Matrix<&[T]>) {
    let k = a.columns;
    if matches!(order, Order::Lanes) {
        for i in 0..c.rows {
            for j in 0..c.columns {
                let (row, column) = (&a.data[i * a.row_step..][..k], &b.data[j * b.column_step..][..k]);
                c.data[i * c.row_step + j * c.column_step] = T::dot::<FUSED>(row, column);
            }
        }
        return;
    }
    // Entries that lie side by side in `c` are added to one after the other.
    let (c, a, b) =
        if c.row_step == 1 { (c, a, b) } else { (c.transposed(), b.transposed(), a.transposed()) };
    assert!(c.row_step == 1, "products are written row by row");
    for j in 0..c.columns {
        let column = j * c.column_step;
        let entries = &mut c.data[column..][..c.rows];
        if a.row_step != 1 {
            for (i, entry) in entries.iter_mut().enumerate() {
                *entry = sum_of_pieces::<T, FUSED>(a, b, i, j);
            }
            continue;
        }
        entries.fill(T::ZERO);
        for l in 0..k {
            let factor = b.at(l, j);
            let column = &a.data[l * a.column_step..][..a.rows];
            if l == 0 && matches!(order, Order::First) {
                entries.iter_mut().zip(column).for_each(|(entry, &x)| *entry = x * factor);
            } else {
                let all = entries.iter_mut().zip(column);
                all.for_each(|(entry, &x)| *entry = add::<T, FUSED>(x, factor, *entry));
            }
        }
    }
}

/// An entry of a factor whose columns do not lie together.
#[inline(always)]
fn sum_of_pieces<T: Factor, const FUSED: bool>(a: Matrix<&[T]>, b: Matrix<&[T]>, i: usize, j: usize) -> T {
    let mut total = T::ZERO;
    for first in (0..a.columns).step_by(PIECE) {
        let rest = first + 1..a.columns.min(first + PIECE);
        let start = a.at(i, first) * b.at(first, j);
        let sum = rest.fold(start, |sum, l| add::<T, FUSED>(a.at(i, l), b.at(l, j), sum));
        total = if first == 0 { sum } else { total + sum };
    }
    total
}

#[inline(always)]
fn add<T: Factor, const FUSED: bool>(x: T, y: T, sum: T) -> T {
    if FUSED { x.fused(y, sum) } else { x * y + sum }
}

#[inline(always)]
fn dot_of_lanes<T: Factor, const LANES: usize, const FUSED: bool>(a: &[T], b: &[T]) -> T {
    let mut sums = [[T::ZERO; LANES]; 4];
    let mut add_all = |turn: usize, x: &[T; LANES], y: &[T; LANES]| {
        let sums = &mut sums[turn % 4];
        for lane in 0..LANES {
            sums[lane] = add::<T, FUSED>(x[lane], y[lane], sums[lane]);
        }
    };
    let ((vectors, a_rest), (others, b_rest)) = (a.as_chunks(), b.as_chunks());
    for (turn, (x, y)) in vectors.iter().zip(others).enumerate() {
        add_all(turn, x, y);
    }
    if !a_rest.is_empty() {
        let (mut x, mut y) = ([T::ZERO; LANES], [T::ZERO; LANES]);
        x[..a_rest.len()].copy_from_slice(a_rest);
        y[..b_rest.len()].copy_from_slice(b_rest);
        add_all(vectors.len(), &x, &y);
    }
    let mut lanes: [T; LANES] =
        std::array::from_fn(|l| (sums[0][l] + sums[1][l]) + (sums[2][l] + sums[3][l]));
    let mut width = LANES / 2;
    while width > 0 {
        for lane in 0..width {
            lanes[lane] += lanes[lane + width];
        }
        width /= 2;
    }
    lanes[0]
}

/// The kernels; called where AVX2 and FMA were detected.
fn blocked<T: Factor>(c: Matrix<&mut [T]>, a: Matrix<&[T]>, b: Matrix<&[T]>) {
    assert!(a.columns == b.rows && a.rows == c.rows && b.columns == c.columns, "factors of other shapes");
    assert!(last(&a) < a.data.len() && last(&b) < b.data.len() && last(&c) < c.data.len(), "a short slice");
    let instructions = if is_x86_feature_detected!("avx512f") { InstrSet::Avx512 } else { InstrSet::Avx256 };
    let (none, one) = (std::ptr::null(), T::ONE);
    // SAFETY: the instructions were detected here or by the caller. Every entry of the three matrices lies in its slice, as
    // the last one does; `c` is not shared. Without lists of rows and columns, and without a diagonal, nothing else is read
    // but the scale, which outlives the call and has the type that is named.
    unsafe {
        gemm(
            T::TYPE,
            IType::U64,
            instructions,
            c.rows,
            c.columns,
            a.columns,
            c.data.as_mut_ptr().cast(),
            c.row_step as isize,
            c.column_step as isize,
            none,
            none,
            DstKind::Full,
            Accum::Replace,
            a.data.as_ptr().cast(),
            a.row_step as isize,
            a.column_step as isize,
            false,
            none,
            0,
            b.data.as_ptr().cast(),
            b.row_step as isize,
            b.column_step as isize,
            false,
            (&raw const one).cast(),
            1,
        );
    }
}

/// Where the last entry is. Panics if no slice could have it.
fn last<D>(x: &Matrix<D>) -> usize {
    let rows = (x.rows - 1).checked_mul(x.row_step);
    let columns = (x.columns - 1).checked_mul(x.column_step);
    rows.zip(columns).and_then(|(rows, columns)| rows.checked_add(columns)).expect("no slice is as long")
}

#[cfg(test)]
mod tests {
    use super::super::matrix::stored;
    use super::*;

    /// The product of `a` and `b` with entries `sum(summands of the entry)`.
    fn reference(
        (m, n, k): (usize, usize, usize),
        a: Matrix<&[f32]>,
        b: Matrix<&[f32]>,
        sum: fn(&[(f32, f32)]) -> f32,
    ) -> Vec<u32> {
        let entry = |i: usize, j: usize| {
            let summands: Vec<(f32, f32)> = (0..k).map(|l| (a.at(i, l), b.at(l, j))).collect();
            sum(&summands).to_bits()
        };
        (0..m * n).map(|at| entry(at / n, at % n)).collect()
    }

    fn plus(sum: f32, (x, y): (f32, f32)) -> f32 {
        let fused = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
        if fused { x.mul_add(y, sum) } else { x * y + sum }
    }

    fn from_zero(summands: &[(f32, f32)]) -> f32 {
        summands.iter().copied().fold(0.0, plus)
    }

    fn from_first(summands: &[(f32, f32)]) -> f32 {
        let (x, y) = summands[0];
        summands[1..].iter().copied().fold(x * y, plus)
    }

    fn in_pieces(summands: &[(f32, f32)]) -> f32 {
        summands.chunks(64).map(from_first).reduce(|sum, piece| sum + piece).unwrap()
    }

    /// The summand `l` is in lane `l % 8` of the vector `l / 8 % 4`.
    fn in_lanes(summands: &[(f32, f32)]) -> f32 {
        let lane = |vector: usize, lane: usize| {
            let of_lane = summands.iter().enumerate().filter(|(l, _)| l / 8 % 4 == vector && l % 8 == lane);
            of_lane.fold(0.0, |sum, (_, &summand)| plus(sum, summand))
        };
        let x = [0, 1, 2, 3, 4, 5, 6, 7].map(|l| (lane(0, l) + lane(1, l)) + (lane(2, l) + lane(3, l)));
        let x = [0, 1, 2, 3].map(|l| x[l] + x[l + 4]);
        (x[0] + x[2]) + (x[1] + x[3])
    }

    /// Numbers of several sizes; every fifth is a negative zero.
    fn noise(len: usize, seed: usize) -> Vec<f32> {
        let value = |i: usize| ((i * 2_654_435_761 + seed) % 1009) as f32 / 1009.0 - 0.37;
        (0..len).map(|i| if i % 5 == 2 { -0.0 } else { value(i) * (1 << (i % 11)) as f32 }).collect()
    }

    #[test]
    fn the_order_of_a_small_sum_is_that_of_its_shape() {
        type Case = ((usize, usize, usize), bool, bool, fn(&[(f32, f32)]) -> f32);
        let cases: [Case; 12] = [
            ((3, 5, 130), false, false, from_first),
            ((3, 5, 130), true, false, from_first),
            ((3, 5, 130), false, true, in_pieces),
            ((2, 9, 200), true, true, in_pieces),
            ((5, 7, 1), false, true, from_first),
            ((7, 1, 300), true, false, from_zero),
            ((7, 1, 300), true, true, from_zero),
            ((7, 1, 300), false, false, in_lanes),
            ((2000, 1, 37), false, true, in_lanes),
            ((1, 9, 77), false, false, from_zero),
            ((1, 9, 77), false, true, in_lanes),
            ((1, 900, 64), true, true, in_lanes),
        ];
        for ((m, n, k), ta, tb, sum) in cases {
            let (a, b) = (noise(m * k, 3), noise(k * n, 5));
            let (a, b) = (stored(&a, m, k, ta), stored(&b, k, n, tb));
            let mut c = vec![f32::NAN; m * n];
            multiply(Matrix::row_major(&mut c[..], m, n), a, b);
            let got: Vec<u32> = c.into_iter().map(f32::to_bits).collect();
            assert_eq!(got, reference((m, n, k), a, b, sum), "{m} {n} {k} {ta} {tb}");
        }
    }

    #[test]
    #[should_panic]
    fn a_slice_that_ends_before_its_matrix_is_refused() {
        let (a, b) = (vec![1.0f32; 32 * 32 - 1], vec![1.0; 32 * 32]);
        let mut c = vec![0.0; 32 * 32];
        let (a, b) = (Matrix::row_major(&a[..], 32, 32), Matrix::row_major(&b[..], 32, 32));
        multiply(Matrix::row_major(&mut c[..], 32, 32), a, b);
    }
}
