//! Dense linear algebra on small matrices: spectral norm, eigenvalues, inverse Cholesky factor.

use super::stable::largest;
use tarrl_tensor::math;

/// `a · b` of two vectors of one length.
pub(crate) fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// `n u / (1 − n u)` in f64: the relative error of a sum of `n` products in any order (Higham 2002, section 3.1).
pub(crate) fn gamma(n: usize) -> f64 {
    let nu = 0.5 * f64::EPSILON * n as f64;
    nu / (1.0 - nu)
}

/// The spectral norm of a row-major `(rows, columns)` matrix: the root of the largest eigenvalue of the
/// smaller of its two Gram matrices. NaN if an element is.
///
/// Unlike power iteration this does not approach the value from below, which would make a bound
/// unsound; what remains is rounding, some 1e-15 of the value.
pub fn spectral_norm(matrix: &[f64], rows: usize, columns: usize) -> f64 {
    debug_assert_eq!(matrix.len(), rows * columns);
    let top = largest(matrix.iter().map(|v| v.abs()).chain([0.0]));
    if (top < 1e-100 && top > 0.0) || (top > 1e100 && top.is_finite()) {
        // Products would underflow or overflow.
        let scaled: Vec<f64> = matrix.iter().map(|v| v / top).collect();
        return top * spectral_norm(&scaled, rows, columns);
    }
    let m = rows.min(columns);
    let at =
        |i: usize, k: usize| if rows <= columns { matrix[i * columns + k] } else { matrix[k * columns + i] };
    let inner = rows.max(columns);
    let mut gram = vec![0.0; m * m];
    for i in 0..m {
        for j in 0..=i {
            let dot: f64 = (0..inner).map(|k| at(i, k) * at(j, k)).sum();
            (gram[i * m + j], gram[j * m + i]) = (dot, dot);
        }
    }
    symmetric_norm(gram, m).sqrt()
}

/// The spectral norm of a symmetric `(m, m)` matrix, its largest eigenvalue without its sign. NaN if an element is.
pub fn symmetric_norm(a: Vec<f64>, m: usize) -> f64 {
    let larger = |most: f64, value: f64| if value.abs() <= most { most } else { value.abs() };
    let values = eigenvalues(a, m);
    if values.iter().any(|v| v.is_nan()) { f64::NAN } else { values.into_iter().fold(0.0, larger) }
}

/// The eigenvalues of a symmetric `(m, m)` matrix, in no order, each up to rounding of the largest; NaN if an element
/// is: the matrix is made tridiagonal by reflections, and that diagonal by QL steps with implicit shifts (Golub & Van Loan,
/// sections 8.3.1 and 8.3.3).
pub(crate) fn eigenvalues(a: Vec<f64>, m: usize) -> Vec<f64> {
    let (mut diagonal, mut beside) = tridiagonal(a, m);
    let sizes = diagonal.iter().zip(&beside).map(|(d, b)| d.abs() + b.abs());
    let least = f64::EPSILON * sizes.fold(0.0, f64::max);
    for first in 0..m {
        // Two or three steps find an eigenvalue; the limit only stops an iteration on NaN.
        for step in 0.. {
            let last = (first..m - 1).find(|&i| beside[i].abs() <= least).unwrap_or(m - 1);
            if last == first {
                break;
            }
            if step == 50 {
                return vec![f64::NAN; m];
            }
            ql_step(&mut diagonal[first..=last], &mut beside[first..=last]);
        }
    }
    diagonal
}

/// One QL step on a tridiagonal matrix, with the shift of Wilkinson: `beside[i]` is the element between
/// `i` and `i + 1` next to the diagonal, and the last one is scratch space.
fn ql_step(diagonal: &mut [f64], beside: &mut [f64]) {
    let last = diagonal.len() - 1;
    let half = (diagonal[1] - diagonal[0]) / (2.0 * beside[0]);
    let shift = diagonal[0] - beside[0] / (half + math::hypot(half, 1.0).copysign(half));
    let (mut g, mut s, mut c, mut moved) = (diagonal[last] - shift, 1.0, 1.0, 0.0);
    for i in (0..last).rev() {
        let (f, b) = (s * beside[i], c * beside[i]);
        let r = math::hypot(f, g);
        beside[i + 1] = r;
        if r == 0.0 {
            // The matrix decouples here.
            diagonal[i + 1] -= moved;
            beside[last] = 0.0;
            return;
        }
        (s, c) = (f / r, g / r);
        let rest = diagonal[i + 1] - moved;
        let t = (diagonal[i] - rest) * s + 2.0 * c * b;
        moved = s * t;
        diagonal[i + 1] = rest + moved;
        g = c * t - b;
    }
    diagonal[0] -= moved;
    beside[0] = g;
    beside[last] = 0.0;
}

/// Diagonal and subdiagonal of a tridiagonal matrix with the eigenvalues of a symmetric one (Householder). The last
/// element of the subdiagonal is scratch space.
fn tridiagonal(mut a: Vec<f64>, m: usize) -> (Vec<f64>, Vec<f64>) {
    let mut beside = vec![0.0; m];
    let (mut v, mut w) = (vec![0.0; m], vec![0.0; m]);
    for k in 0..m.saturating_sub(1) {
        let below = k + 1..m;
        let (v, w) = (&mut v[below.clone()], &mut w[below.clone()]);
        v.copy_from_slice(&a[k * m..][below.clone()]);
        if below.len() == 1 || v.iter().all(|&x| x == 0.0) {
            beside[k] = v[0];
            continue;
        }
        // Scaled, so that no square is lost.
        let scale = v.iter().fold(0.0, |most: f64, x| most.max(x.abs()));
        let length = scale * v.iter().map(|x| (x / scale).powi(2)).sum::<f64>().sqrt();
        // The reflection 1 − 2 v vᵀ, with |v| = 1, that turns the row into (beside, 0, …).
        beside[k] = -length.copysign(v[0]);
        v.iter_mut().for_each(|x| *x /= length);
        v[0] += 1.0f64.copysign(v[0]);
        let size = v.iter().map(|x| x * x).sum::<f64>().sqrt();
        v.iter_mut().for_each(|x| *x /= size);
        // A ← A − v wᵀ − w vᵀ with w = 2 (A v − (vᵀ A v) v).
        w.fill(0.0);
        for (&x, row) in v.iter().zip(a.chunks_exact(m).skip(k + 1)) {
            w.iter_mut().zip(&row[below.clone()]).for_each(|(w, a)| *w += x * a);
        }
        let along: f64 = v.iter().zip(w.iter()).map(|(v, w)| v * w).sum();
        w.iter_mut().zip(v.iter()).for_each(|(w, v)| *w = 2.0 * (*w - along * v));
        for ((&x, &y), row) in v.iter().zip(w.iter()).zip(a.chunks_exact_mut(m).skip(k + 1)) {
            let terms = v.iter().zip(w.iter());
            row[below.clone()].iter_mut().zip(terms).for_each(|(a, (v, w))| *a -= x * w + y * v);
        }
    }
    ((0..m).map(|i| a[i * m + i]).collect(), beside)
}

/// The lower triangular `W` with `W A Wᵀ = 1`, the inverse of the Cholesky factor of a symmetric `(m, m)`
/// matrix; `None` if that is not positive definite.
pub(crate) fn inverse_factor(a: &[f64], m: usize) -> Option<Vec<f64>> {
    let mut l = vec![0.0; m * m];
    for i in 0..m {
        for j in 0..=i {
            let known: f64 = (0..j).map(|k| l[i * m + k] * l[j * m + k]).sum();
            let rest = a[i * m + j] - known;
            l[i * m + j] = match i == j {
                // Written so that NaN is refused.
                true if rest > 0.0 => rest.sqrt(),
                true => return None,
                false => rest / l[j * m + j],
            };
        }
    }
    let mut w = vec![0.0; m * m];
    for j in 0..m {
        for i in j..m {
            let known: f64 = (j..i).map(|k| l[i * m + k] * w[k * m + j]).sum();
            w[i * m + j] = (f64::from(u8::from(i == j)) - known) / l[i * m + i];
        }
    }
    Some(w)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tarrl_tensor::Key;

    #[test]
    fn norms_of_known_matrices_and_of_nan() {
        assert!((spectral_norm(&[1.0, 2.0, 3.0, 4.0], 2, 2) - 5.464985704219043).abs() < 1e-14);
        assert_eq!(spectral_norm(&[0.0; 6], 2, 3), 0.0);
        assert_eq!(spectral_norm(&[3.0, 4.0], 1, 2), 5.0);
        assert_eq!(spectral_norm(&[3.0, 4.0], 2, 1), 5.0);
        for scale in [1e-310, 1e-200, 1e200, 1e307] {
            let found = spectral_norm(&[1.0, 2.0, 3.0, 4.0].map(|v| v * scale), 2, 2);
            // A subnormal scale has four digits less.
            assert!((found / scale / 5.464985704219043 - 1.0).abs() < 1e-9, "{scale:e}: {found:e}");
        }
        assert_eq!(symmetric_norm(vec![-2.0, 0.0, 0.0, 1.0], 2), 2.0);
        for nan in [[0, 0], [1, 1], [0, 1], [0, 2], [1, 2], [2, 2]] {
            let mut a = vec![0.0; 9];
            nan.iter().zip(nan.iter().rev()).for_each(|(i, j)| a[3 * i + j] = f64::NAN);
            assert!(symmetric_norm(a, 3).is_nan(), "{nan:?}");
        }
        assert!(spectral_norm(&[1.0, f64::NAN, 0.0, 1.0, 2.0, 3.0], 2, 3).is_nan());
    }

    /// `2 − 2 cos(π j / (m + 1))` are those of the second difference, and those of its square their squares.
    #[test]
    fn eigenvalues_of_a_known_matrix() {
        for m in [1, 2, 3, 10, 41] {
            let difference = |i: usize, j: usize| [2.0, -1.0].get(i.abs_diff(j)).copied().unwrap_or(0.0);
            let entry = |c: usize| (0..m).map(|k| difference(c / m, k) * difference(k, c % m)).sum();
            let mut found = eigenvalues((0..m * m).map(entry).collect(), m);
            found.sort_by(f64::total_cmp);
            for (j, found) in found.into_iter().enumerate() {
                let angle = std::f64::consts::PI * (j + 1) as f64 / (m + 1) as f64;
                let want = (2.0 - 2.0 * angle.cos()).powi(2);
                // A hundred roundings of the largest, which is 16.
                assert!((found - want).abs() < 100.0 * 16.0 * f64::EPSILON, "{m}: {found} {want}");
            }
        }
    }

    /// Sums of eigenvalues and of their squares are the trace and the squared Frobenius norm, whatever the scale and
    /// however many eigenvalues are equal or zero.
    #[test]
    fn eigenvalues_have_the_moments_of_their_matrix() {
        let mut random = Key::new(6).stream();
        for (m, rank) in [(2, 1), (5, 5), (17, 3), (64, 64), (64, 10), (9, 0)] {
            for scale in [1e-150, 1.0, 1e150] {
                let g: Vec<f64> = (0..rank * m).map(|_| random.normal()).collect();
                let entry =
                    |c: usize| scale * (0..rank).map(|r| g[r * m + c / m] * g[r * m + c % m]).sum::<f64>();
                let a: Vec<f64> = (0..m * m).map(entry).collect();
                let moments = |values: &[f64]| {
                    [values.iter().sum::<f64>(), values.iter().map(|v| (v / scale).powi(2)).sum::<f64>()]
                };
                let trace = (0..m).map(|i| a[i * m + i]).sum::<f64>();
                let square = a.iter().map(|v| (v / scale).powi(2)).sum::<f64>();
                let found = moments(&eigenvalues(a, m));
                assert!((found[0] - trace).abs() <= 1e-13 * trace, "{m}, {rank}: {found:?} {trace}");
                assert!((found[1] - square).abs() <= 1e-13 * square, "{m}, {rank}: {found:?} {square}");
            }
        }
    }

    #[test]
    fn the_inverse_factor_of_a_known_matrix() {
        // [[4, 2], [2, 5]] has the Cholesky factor [[2, 0], [1, 2]], whose inverse is [[½, 0], [−¼, ½]].
        assert_eq!(inverse_factor(&[4.0, 2.0, 2.0, 5.0], 2), Some(vec![0.5, 0.0, -0.25, 0.5]));
        assert_eq!(inverse_factor(&[1.0, 1.0, 1.0, 1.0], 2), None);
        assert_eq!(inverse_factor(&[f64::NAN], 1), None);
    }

    /// No unit vector is stretched by more, and the best of them, found by power iteration, by as much.
    #[test]
    fn the_spectral_norm_is_what_power_iteration_approaches() {
        let mut random = Key::new(5).stream();
        for (rows, columns) in [(3, 7), (10, 4), (24, 24)] {
            let a: Vec<f64> = (0..rows * columns).map(|_| random.normal()).collect();
            let norm = spectral_norm(&a, rows, columns);
            let mut v: Vec<f64> = (0..columns).map(|_| random.normal()).collect();
            let mut stretch = 0.0;
            for _ in 0..3000 {
                let av: Vec<f64> =
                    a.chunks(columns).map(|row| row.iter().zip(&v).map(|(a, v)| a * v).sum()).collect();
                let w: Vec<f64> =
                    (0..columns).map(|j| (0..rows).map(|i| a[i * columns + j] * av[i]).sum()).collect();
                let length = w.iter().map(|w| w * w).sum::<f64>().sqrt();
                stretch = av.iter().map(|v| v * v).sum::<f64>().sqrt()
                    / v.iter().map(|v| v * v).sum::<f64>().sqrt();
                v = w.iter().map(|w| w / length).collect();
                assert!(stretch <= norm * (1.0 + 1e-13));
            }
            assert!(stretch >= norm * (1.0 - 1e-9), "{rows}x{columns}: {stretch} but {norm}");
        }
    }
}
