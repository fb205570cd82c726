//! Matrix products `C = op(A) op(B)`, cut by shape: the same bits for any number of threads.
//!
//! On x86-64 the kernels are those that faer takes, with the same bits; elsewhere faer itself is asked, which takes more
//! than a minute of CPU time to compile with its other kernels.

mod matrix;
#[cfg(not(target_arch = "x86_64"))]
mod portable;
#[cfg(target_arch = "x86_64")]
mod x86_64;

use self::matrix::{Matrix, stored};
use super::pointwise::Env;
#[cfg(not(target_arch = "x86_64"))]
use portable as kernels;
#[cfg(target_arch = "x86_64")]
use x86_64 as kernels;

pub(super) use kernels::Factor;

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

/// Rows of a piece of `c` at most; enough that packing the other factor for each piece costs little.
const PIECE: usize = 256;

/// Multiply-adds above which the blocked kernels are taken, whose sums run over `k` in the same order for every row
/// and any number of rows. Below, and for a single row, others are taken; such pieces are filled up with rows of zeros,
/// so that a row has the same bits whatever comes with it.
const BLOCKED: usize = 16 * 16 * 16;

/// Overwrites `c`. Panics if a slice does not have the length that `p` says.
#[track_caller]
pub(super) fn matmul<T: Factor>(env: &Env<'_>, p: &Product, a: &[T], b: &[T], c: &mut [T]) {
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
    let rows = (m / 4).next_multiple_of(16).clamp(PIECE / 4, PIECE);
    let enough = BLOCKED.checked_div(n * k).map_or(0, |rows| (rows + 1).max(2));
    env.threads.worth(m * n * k).for_each_chunk(c, (rows * n).max(1), |i, c| {
        let here = c.len() / n;
        let a = a.some_rows(i * rows, here);
        if here >= enough {
            kernels::multiply(Matrix::row_major(c, here, n), a, b);
        } else {
            let mut filled = env.memory.block(enough * k);
            filled.fill(T::ZERO);
            let mut product = env.memory.block(enough * n);
            // Stored as the factor is: the order of a sum depends on it where there is a single column.
            let (row_step, column_step) = if ta { (1, enough) } else { (k, 1) };
            for i in 0..here {
                for l in 0..k {
                    filled[i * row_step + l * column_step] = a.at(i, l);
                }
            }
            let filled = stored(&filled, enough, k, ta);
            kernels::multiply(Matrix::row_major(&mut product, enough, n), filled, b);
            c.copy_from_slice(&product[..here * n]);
        }
    });
}

/// The product of rows of `x (m, k)`, from `first` on, with all rows up to the last of them: `c` holds whole rows of `m`
/// columns, of which the others are left as they are.
pub(super) fn gram_rows<T: Factor>(x: &[T], k: usize, first: usize, c: &mut [T], m: usize) {
    let rows = c.len() / m;
    let x = Matrix::row_major(x, m, k);
    let c = Matrix { columns: first + rows, ..Matrix::row_major(c, rows, m) };
    kernels::multiply(c, x.some_rows(first, rows), x.some_rows(0, first + rows).transposed());
}

/// Overwrites `c`. The bits of a row depend on how many rows there are.
pub(super) fn on_one_thread<T: Factor>(p: &Product, a: &[T], b: &[T], c: &mut [T]) {
    kernels::multiply(Matrix::row_major(c, p.m, p.n), stored(a, p.m, p.k, p.ta), stored(b, p.k, p.n, p.tb));
}

#[cfg(test)]
mod tests {
    use super::super::threads::Threads;
    use super::*;
    use std::sync::Arc;

    fn product<T: Factor>(threads: &Arc<Threads>, p: &Product, a: &[T], b: &[T]) -> Vec<T> {
        let memory = Arc::default();
        let mut c = vec![T::of(f64::NAN); p.m * p.n];
        matmul(&Env { threads, memory: &memory }, p, a, b, &mut c);
        c
    }

    /// Numbers without a pattern that could hide a wrong order.
    fn noise(len: usize, seed: usize) -> Vec<f32> {
        (0..len).map(|i| ((i * 2654435761 + seed) % 1009) as f32 / 1009.0 - 0.37).collect()
    }

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
        for threads in [1, 2, 3].map(|n| Arc::new(Threads::new(n))) {
            for p in products() {
                let want = reference(&p, &factor(p.m * p.k, 17), &factor(p.k * p.n, 19));
                let single = product::<f32>(&threads, &p, &factor(p.m * p.k, 17), &factor(p.k * p.n, 19));
                assert!(single.iter().zip(&want).all(|(&got, &want)| f64::from(got) == want), "{p:?}");
                let double = product::<f64>(&threads, &p, &factor(p.m * p.k, 17), &factor(p.k * p.n, 19));
                assert_eq!(double, want, "{p:?}");
            }
        }
    }

    #[test]
    fn sums_round_in_the_same_order_for_any_number_of_threads() {
        let pools = [1, 2, 3].map(|n| Arc::new(Threads::new(n)));
        for p in products() {
            let (a, b) = (noise(p.m * p.k, 3), noise(p.k * p.n, 5));
            let [one, two, three] = [0, 1, 2]
                .map(|i| product(&pools[i], &p, &a, &b).into_iter().map(f32::to_bits).collect::<Vec<_>>());
            assert!(one == two && two == three, "{p:?}");
        }
    }

    #[test]
    fn a_row_has_the_same_bits_whatever_comes_with_it() {
        let threads = Arc::new(Threads::new(2));
        let shapes = [(1, 20), (1, 300), (2, 3), (3, 1), (5, 64), (10, 128), (17, 700), (128, 513)];
        for (n, k) in shapes {
            for (ta, tb) in [(false, false), (false, true), (true, false), (true, true)] {
                let b = noise(k * n, 5);
                let all = noise(700 * k, 3);
                // The first `m` rows of `all`, stored as asked.
                let rows = |m: usize| {
                    let p = Product { m, n, k, ta, tb };
                    let a: Vec<f32> = if ta {
                        (0..k * m).map(|i| all[i % m * k + i / m]).collect()
                    } else {
                        all[..m * k].to_vec()
                    };
                    product(&threads, &p, &a, &b).into_iter().map(f32::to_bits).collect::<Vec<_>>()
                };
                let whole = rows(700);
                for m in [1, 2, 3, 8, 63, 65, 130, 257, 699] {
                    assert_eq!(rows(m), whole[..m * n], "{m} rows, n {n}, k {k}, stored {ta} {tb}");
                }
            }
        }
    }

    #[test]
    #[should_panic(expected = "do not fit")]
    fn wrong_lengths_are_refused() {
        let p = Product { m: 2, n: 2, k: 2, ..Product::default() };
        product(&Arc::new(Threads::new(1)), &p, &[0.0f32; 4], &[0.0; 3]);
    }
}
