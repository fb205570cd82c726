//! Matrix products `C = op(A) op(B)` by faer's kernels, cut by shape: the same bits for any number of threads.

use super::threads::Threads;
use faer::linalg::matmul;
use faer::traits::ComplexField;
use faer::{Accum, MatMut, MatRef, Par};

/// The product `c (m, n) = op(a) op(b)` with a sum over `k`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Product {
    /// Rows of `c`.
    pub(super) m: usize,
    /// Columns of `c`.
    pub(super) n: usize,
    /// Length of each sum.
    pub(super) k: usize,
    /// `a` is stored as `(k, m)` instead of `(m, k)`.
    pub(super) ta: bool,
    /// `b` is stored as `(n, k)` instead of `(k, n)`.
    pub(super) tb: bool,
}

/// Rows or columns of a piece of `c` at most; enough that packing the other factor for each piece costs little.
const PIECE: usize = 256;

/// Overwrites `c`. Panics if a slice does not have the length that `p` says.
#[track_caller]
pub(super) fn matmul<T>(threads: &Threads, p: &Product, a: &[T], b: &[T], c: &mut [T])
where
    T: ComplexField + Copy,
{
    let Product { m, n, k, ta, tb } = *p;
    assert!(
        a.len() == m * k && b.len() == k * n && c.len() == m * n,
        "matmul: lengths {}, {}, {} do not fit {p:?}",
        a.len(),
        b.len(),
        c.len()
    );
    let a = stored(a, m, k, ta);
    let b = stored(b, k, n, tb);
    let c = MatMut::from_row_major_slice_mut(c, m, n);
    // The longer side is cut; products are symmetric, (A B)ᵀ = Bᵀ Aᵀ, so that only cuts of rows are needed.
    let (a, b, c) = if m >= n { (a, b, c) } else { (b.transpose(), a.transpose(), c.transpose_mut()) };
    let rows = (c.nrows() / 4).next_multiple_of(16).clamp(PIECE / 4, PIECE);
    threads.worth(m * n * k).for_each_item(pieces(c, rows), |(first, c)| {
        let a = a.subrows(first, c.nrows());
        matmul::matmul(c, Accum::Replace, a, b, T::one_impl(), Par::Seq);
    });
}

/// A stored factor, looked at as `(rows, columns)`.
fn stored<T>(x: &[T], rows: usize, columns: usize, transposed: bool) -> MatRef<'_, T> {
    if transposed {
        MatRef::from_column_major_slice(x, rows, columns)
    } else {
        MatRef::from_row_major_slice(x, rows, columns)
    }
}

/// Cuts a matrix into pieces of so many rows, each with the index of its first row.
fn pieces<T>(c: MatMut<'_, T>, rows: usize) -> impl Iterator<Item = (usize, MatMut<'_, T>)> {
    let mut rest = Some(c);
    let mut first = 0;
    std::iter::from_fn(move || {
        let c = rest.take().filter(|c| c.nrows() > 0)?;
        let here = rows.min(c.nrows());
        let (piece, other) = c.split_at_row_mut(here);
        rest = Some(other);
        first += here;
        Some((first - here, piece))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn products() -> Vec<Product> {
        let sizes = [
            (1, 1, 1),
            (6, 16, 4),
            (7, 17, 300),
            (600, 5, 33),
            (64, 100, 64),
            (13, 530, 257),
            (3, 3, 0),
            (0, 3, 3),
            (3, 0, 3),
        ];
        let transposed = [(false, false), (true, false), (false, true), (true, true)];
        sizes.iter().flat_map(|&(m, n, k)| transposed.map(|(ta, tb)| Product { m, n, k, ta, tb })).collect()
    }

    /// Multiples of 1/8 that repeat with an odd period: with sums this short every product below is exact.
    fn factor<T: From<f32>>(len: usize, period: usize) -> Vec<T> {
        (0..len).map(|i| T::from((i * 7 % period) as f32 / 8.0 - 1.0)).collect()
    }

    fn reference(p: &Product, a: &[f64], b: &[f64]) -> Vec<f64> {
        let a = |i: usize, l: usize| if p.ta { a[l * p.m + i] } else { a[i * p.k + l] };
        let b = |l: usize, j: usize| if p.tb { b[j * p.k + l] } else { b[l * p.n + j] };
        let entry = |i: usize| (0..p.k).map(|l| a(i / p.n, l) * b(l, i % p.n)).sum();
        (0..p.m * p.n).map(entry).collect()
    }

    #[test]
    fn products_of_short_fractions_are_exact_for_any_threads() {
        for threads in [1, 2, 3].map(Threads::new) {
            for p in products() {
                let want = reference(&p, &factor(p.m * p.k, 17), &factor(p.k * p.n, 19));
                let mut single = vec![f32::NAN; p.m * p.n];
                matmul(&threads, &p, &factor(p.m * p.k, 17), &factor(p.k * p.n, 19), &mut single);
                assert!(single.iter().zip(&want).all(|(&got, &want)| f64::from(got) == want), "{p:?}");
                let mut double = vec![f64::NAN; p.m * p.n];
                matmul(&threads, &p, &factor(p.m * p.k, 17), &factor(p.k * p.n, 19), &mut double);
                assert_eq!(double, want, "{p:?}");
            }
        }
    }

    #[test]
    fn sums_round_in_the_same_order_for_any_number_of_threads() {
        let pools = [1, 2, 3].map(Threads::new);
        for p in products() {
            let noise = |len: usize, seed: usize| -> Vec<f32> {
                (0..len).map(|i| ((i * 2654435761 + seed) % 1009) as f32 / 1009.0 - 0.37).collect()
            };
            let (a, b) = (noise(p.m * p.k, 3), noise(p.k * p.n, 5));
            let [one, two, three] = [0, 1, 2].map(|i| {
                let mut c = vec![f32::NAN; p.m * p.n];
                matmul(&pools[i], &p, &a, &b, &mut c);
                c.into_iter().map(f32::to_bits).collect::<Vec<_>>()
            });
            assert!(one == two && two == three, "{p:?}");
        }
    }

    #[test]
    #[should_panic(expected = "do not fit")]
    fn wrong_lengths_are_refused() {
        let p = Product { m: 2, n: 2, k: 2, ..Product::default() };
        matmul(&Threads::new(1), &p, &[0.0f32; 4], &[0.0; 4], &mut [0.0; 3]);
    }
}
