//! Small dense matrices: the largest singular value, all eigenvalues, an inverse factor.

/// The spectral norm of a row-major `(rows, columns)` matrix: the root of the largest eigenvalue of the
/// smaller of its two Gram matrices, by Jacobi's rotations.
///
/// Unlike power iteration this does not approach the value from below, which would make a bound
/// unsound; what remains is rounding, some 1e-15 of the value.
pub(crate) fn spectral_norm(matrix: &[f64], rows: usize, columns: usize) -> f64 {
    debug_assert_eq!(matrix.len(), rows * columns);
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
    eigenvalues(gram, m).into_iter().fold(0.0, f64::max).sqrt()
}

/// The eigenvalues of a symmetric `(m, m)` matrix, in no order: cyclic sweeps of rotations, each of
/// which makes one pair of off-diagonal elements zero (Golub & Van Loan, section 8.5).
pub(crate) fn eigenvalues(mut a: Vec<f64>, m: usize) -> Vec<f64> {
    let total: f64 = a.iter().map(|v| v * v).sum();
    // Convergence is quadratic; ten sweeps are ample, the bound only stops a NaN.
    for _ in 0..30 {
        let off: f64 = (0..m * m).filter(|c| c / m != c % m).map(|c| a[c] * a[c]).sum();
        if off <= 1e-32 * total {
            break;
        }
        for p in 0..m {
            for q in p + 1..m {
                rotate(&mut a, m, p, q);
            }
        }
    }
    (0..m).map(|i| a[i * m + i]).collect()
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

fn rotate(a: &mut [f64], m: usize, p: usize, q: usize) {
    let apq = a[p * m + q];
    if apq == 0.0 {
        return;
    }
    let theta = (a[q * m + q] - a[p * m + p]) / (2.0 * apq);
    let t = theta.signum() / (theta.abs() + theta.hypot(1.0));
    let c = 1.0 / t.hypot(1.0);
    let s = t * c;
    for k in 0..m {
        let (x, y) = (a[k * m + p], a[k * m + q]);
        (a[k * m + p], a[k * m + q]) = (c * x - s * y, s * x + c * y);
    }
    for k in 0..m {
        let (x, y) = (a[p * m + k], a[q * m + k]);
        (a[p * m + k], a[q * m + k]) = (c * x - s * y, s * x + c * y);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tarrl_tensor::Key;

    #[test]
    fn known_values() {
        assert!((spectral_norm(&[1.0, 2.0, 3.0, 4.0], 2, 2) - 5.464985704219043).abs() < 1e-14);
        assert_eq!(spectral_norm(&[0.0; 6], 2, 3), 0.0);
        assert_eq!(spectral_norm(&[3.0, 4.0], 1, 2), 5.0);
        assert_eq!(spectral_norm(&[3.0, 4.0], 2, 1), 5.0);
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
    fn it_is_the_largest_stretch() {
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
