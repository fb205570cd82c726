//! Eigendecomposition of symmetric positive semi-definite matrices, in f64.

use tarrl_tensor::{DType, Tensor, Transpose, math};

/// `A = Σᵢ λᵢ vᵢ vᵢᵀ`, largest eigenvalue first; only eigenvalues above the rounding of the largest
/// (`d · ε · λ₁`) are kept, smaller ones are zero for all that f64 can tell.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Spectrum {
    /// The positive eigenvalues.
    pub(crate) values: Vec<f64>,
    /// Their unit eigenvectors `(d)` each.
    pub(crate) vectors: Vec<Vec<f64>>,
}

impl Spectrum {
    /// Of a matrix `(d, d)`, row-major, by one-sided Jacobi rotations: rows are turned in pairs until all
    /// are orthogonal; then row `i` is `λᵢ vᵢᵀ`. Rows are contiguous, and the order of rotations is fixed.
    pub(crate) fn of(matrix: Vec<f64>) -> Spectrum {
        let d = matrix.len().isqrt();
        let mut rows: Vec<Vec<f64>> = matrix.chunks(d).map(<[f64]>::to_vec).collect();
        let noise = d as f64 * f64::EPSILON;
        for _ in 0..SWEEPS {
            let mut turned = false;
            let floor = noise * noise * rows.iter().map(|r| dot(r, r)).fold(0.0, f64::max);
            for p in 0..d {
                for q in p + 1..d {
                    turned |= rotate(&mut rows, p, q, floor);
                }
            }
            if !turned {
                break;
            }
        }
        let mut pairs: Vec<(f64, Vec<f64>)> = rows.into_iter().map(|r| (dot(&r, &r).sqrt(), r)).collect();
        pairs.sort_by(|a, b| b.0.total_cmp(&a.0));
        let floor = noise * pairs.first().map_or(0.0, |top| top.0);
        pairs.retain(|pair| pair.0 > floor);
        let vectors = pairs.iter().map(|(value, row)| row.iter().map(|v| v / value).collect()).collect();
        Spectrum { values: pairs.into_iter().map(|pair| pair.0).collect(), vectors }
    }

    /// Of `XᵀX` for the rows of `x (n, d)`: the squares of the singular values of `x`.
    pub(crate) fn of_gram(x: &Tensor) -> Spectrum {
        let x = x.cast(DType::F64);
        Spectrum::of(x.matmul_with(&x, Transpose { a: true, b: false }).to_vec())
    }
}

/// Makes rows `p` and `q` orthogonal, the longer first; whether there was anything to do.
fn rotate(rows: &mut [Vec<f64>], p: usize, q: usize, floor: f64) -> bool {
    let (head, tail) = rows.split_at_mut(q);
    let (a, b) = (&mut head[p], &mut tail[0]);
    let (aa, bb, ab) = (dot(a, a), dot(b, b), dot(a, b));
    if ab.abs() <= ORTHOGONAL * (aa * bb).sqrt() || aa.max(bb) <= floor {
        return false;
    }
    let zeta = (bb - aa) / (2.0 * ab);
    let tangent = zeta.signum() / (zeta.abs() + math::hypot(zeta, 1.0));
    let cosine = 1.0 / math::hypot(tangent, 1.0);
    let sine = cosine * tangent;
    for (x, y) in a.iter_mut().zip(b.iter_mut()) {
        (*x, *y) = (cosine * *x - sine * *y, sine * *x + cosine * *y);
    }
    true
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    // Four sums at a time, in an order that depends on the length alone.
    let (mut sums, split) = ([0.0; 4], a.len() / 4 * 4);
    for (x, y) in a[..split].chunks_exact(4).zip(b[..split].chunks_exact(4)) {
        for lane in 0..4 {
            sums[lane] += x[lane] * y[lane];
        }
    }
    let rest: f64 = a[split..].iter().zip(&b[split..]).map(|(x, y)| x * y).sum();
    (sums[0] + sums[1]) + (sums[2] + sums[3]) + rest
}

/// Jacobi converges quadratically; ten sweeps are usual, more mean that nothing changes any more.
const SWEEPS: usize = 40;

/// The cosine below which two rows count as orthogonal.
const ORTHOGONAL: f64 = 1e-14;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn eigenvalues_and_vectors_of_a_two_by_two_matrix_are_exact() {
        // Eigenvalues 3 and 1 along (1, 1) and (1, −1).
        let s = Spectrum::of(vec![2.0, 1.0, 1.0, 2.0]);
        assert!((s.values[0] - 3.0).abs() < 1e-14 && (s.values[1] - 1.0).abs() < 1e-14);
        assert!((s.vectors[0][0] - s.vectors[0][1]).abs() < 1e-14);
        assert!((s.vectors[1][0] + s.vectors[1][1]).abs() < 1e-14);
    }

    #[test]
    fn equal_rows_have_one_eigenvalue() {
        assert_eq!(Spectrum::of(vec![0.5; 64 * 64]).values.len(), 1);
        assert_eq!(Spectrum::of(vec![0.0; 9]).values.len(), 0);
    }

    proptest! {
        /// `A = XᵀX` is the sum of its parts, which are orthonormal.
        #[test]
        fn eigenpairs_reconstruct_the_matrix(seed: u64, d in 1usize..20, n in 1usize..30) {
            let mut s = tarrl_tensor::Key::new(seed).stream();
            let x: Vec<Vec<f64>> = (0..n).map(|_| (0..d).map(|_| s.normal()).collect()).collect();
            let a: Vec<f64> = (0..d * d).map(|i| x.iter().map(|r| r[i / d] * r[i % d]).sum()).collect();
            let found = Spectrum::of(a.clone());
            prop_assert!(found.values.len() <= d.min(n));
            let tolerance = 1e-12 * found.values[0];
            for i in 0..d * d {
                let sum: f64 = found.values.iter().zip(&found.vectors).map(|(l, v)| l * v[i / d] * v[i % d]).sum();
                prop_assert!((sum - a[i]).abs() < tolerance, "{} {}", sum, a[i]);
            }
        }
    }
}
