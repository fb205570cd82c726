//! Symmetric matrices: the products `x·xᵀ` of contrastive losses, and the sums `x + xᵀ` of their gradients.

use super::matmul::{Factor, gram_rows};
use super::memory::Block;
use super::pointwise::Env;
use super::real::Real;

/// Rows of a product that are computed together.
const BAND: usize = 128;
/// Side of the squares that are turned, so that reads and writes go along cache lines.
const SIDE: usize = 16;

/// Whether `a·bᵀ` is the product of one matrix of `m` rows with itself, and large enough to compute half of it.
pub(super) fn is_worth<T>(a: &[T], b: &[T], m: usize) -> bool {
    std::ptr::eq(a, b) && m >= 4 * BAND
}

/// `c = x·xᵀ` for `x` of `m` rows: what lies up to the diagonal is computed, in bands of rows, the rest is its mirror
/// image.
pub(super) fn gram<T: Factor>(env: &Env<'_>, x: &[T], m: usize, c: &mut [T]) {
    let k = x.len() / m;
    let threads = env.threads.worth(m * m * k);
    // The longest bands first, so that no thread is left with one at the end.
    threads.for_each_item(c.chunks_mut(BAND * m).enumerate().rev(), |(band, c)| {
        gram_rows(x, k, band * BAND, c, m);
    });
    for end in (BAND..m).step_by(BAND) {
        let (above, below) = c.split_at_mut(end * m);
        let band = above.chunks_mut(SIDE * m).skip((end - BAND) / SIDE).enumerate();
        threads.for_each_item(band, |(i, rows)| {
            for first in (end..m).step_by(SIDE) {
                let square = turned(&below[(first - end) * m..], m, end - BAND + i * SIDE);
                for (row, square) in rows.chunks_exact_mut(m).zip(square) {
                    match row[first..].first_chunk_mut() {
                        // Of known length, and so without a call for each line.
                        Some(to) => *to = square,
                        None => row[first..].copy_from_slice(&square[..m - first]),
                    }
                }
            }
        });
    }
}

/// `x + xᵀ` for `x` of `n` rows.
pub(super) fn add_transposed<R: Real>(env: &Env<'_>, x: &[R], n: usize) -> Block<R> {
    let mut out = env.memory.block(n * n);
    env.threads.worth(n * n).for_each_chunk(&mut out, (SIDE * n).max(1), |i, out| {
        for first in (0..n).step_by(SIDE) {
            let square = turned(&x[first * n..], n, i * SIDE);
            for ((row, out), square) in (i * SIDE..).zip(out.chunks_exact_mut(n)).zip(square) {
                let x = &x[row * n + first..row * n + n.min(first + SIDE)];
                for ((out, &x), turned) in out[first..].iter_mut().zip(x).zip(square) {
                    *out = x + turned;
                }
            }
        }
    });
    out
}

/// The transpose of the square of the first rows of `x`, of `n` columns, that begins at one of them.
#[inline(always)]
fn turned<R: Real>(x: &[R], n: usize, column: usize) -> [[R; SIDE]; SIDE] {
    let mut square = [[R::ZERO; SIDE]; SIDE];
    for (j, row) in x.chunks_exact(n).take(SIDE).enumerate() {
        match row[column..].first_chunk::<SIDE>() {
            Some(row) => (0..SIDE).for_each(|i| square[i][j] = row[i]),
            None => square.iter_mut().zip(&row[column..]).for_each(|(line, &x)| line[j] = x),
        }
    }
    square
}

#[cfg(test)]
mod tests {
    use super::super::matmul::{Product, matmul};
    use super::super::threads::Threads;
    use super::*;
    use std::sync::Arc;

    fn noise(len: usize) -> Vec<f32> {
        (0..len).map(|i| (i * 2654435761 % 1009) as f32 / 1009.0 - 0.37).collect()
    }

    #[test]
    fn the_symmetric_product_equals_the_full_product() {
        let memory = Arc::default();
        for (m, k) in [(512, 20), (700, 33), (645, 300)] {
            let x = noise(m * k);
            let whole = |threads: &Arc<Threads>| {
                let mut c = vec![f32::NAN; m * m];
                gram(&Env { threads, memory: &memory }, &x, m, &mut c);
                c
            };
            let [one, two, three] = [1, 2, 3].map(|n| whole(&Arc::new(Threads::new(n))));
            let bits = |c: &[f32]| c.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
            assert!(bits(&one) == bits(&two) && bits(&one) == bits(&three));
            let mut want = vec![0.0; m * m];
            let p = Product { m, n: m, k, tb: true, ..Product::default() };
            let wide: Vec<f64> = x.iter().map(|&v| f64::from(v)).collect();
            matmul(
                &Env { threads: &Arc::new(Threads::new(1)), memory: &memory },
                &p,
                &wide,
                &wide,
                &mut want,
            );
            for (i, (&got, want)) in one.iter().zip(want).enumerate() {
                // k products of numbers below 1, added in any order.
                let allowed = (k * k) as f64 * f64::from(f32::EPSILON);
                assert!((f64::from(got) - want).abs() <= allowed, "[{i}] of {m}: {got} {want}");
                assert_eq!(got.to_bits(), one[i % m * m + i / m].to_bits(), "a mirror image");
            }
        }
    }

    #[test]
    fn a_matrix_and_its_transpose_add_up() {
        let memory = Arc::default();
        for n in [0, 1, 15, 16, 17, 100] {
            let x = noise(n * n);
            let sum = add_transposed(&Env { threads: &Arc::new(Threads::new(2)), memory: &memory }, &x, n);
            for i in 0..n * n {
                assert_eq!(sum[i], x[i] + x[i % n * n + i / n], "[{i}] of {n}");
            }
        }
    }
}
