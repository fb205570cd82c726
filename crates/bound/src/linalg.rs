//! The largest singular value of a small matrix.

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
    largest_eigenvalue(&mut gram, m).max(0.0).sqrt()
}

/// The largest eigenvalue of a symmetric matrix, which is destroyed: cyclic sweeps of rotations, each
/// of which makes one pair of off-diagonal elements zero (Golub & Van Loan, section 8.5).
fn largest_eigenvalue(a: &mut [f64], m: usize) -> f64 {
    let total: f64 = a.iter().map(|v| v * v).sum();
    // Convergence is quadratic; ten sweeps are ample, the bound only stops a NaN.
    for _ in 0..30 {
        let off: f64 = (0..m * m).filter(|c| c / m != c % m).map(|c| a[c] * a[c]).sum();
        if off <= 1e-32 * total {
            break;
        }
        for p in 0..m {
            for q in p + 1..m {
                rotate(a, m, p, q);
            }
        }
    }
    (0..m).map(|i| a[i * m + i]).fold(0.0, f64::max)
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
