//! The windows that Square writes into an image in l2 and l1 (Andriushchenko et al. 2020, section 3.4).

/// A window: `rows × columns` values, row by row.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Window {
    pub(crate) rows: usize,
    pub(crate) columns: usize,
    pub(crate) values: Vec<f64>,
}

/// η: a pyramid over the upper half of a square of side `side` and its negative over the lower one, of unit
/// length `Σ |η|^p` with p = 2 or 1; `turned` exchanges rows and columns.
pub(crate) fn eta(side: usize, power: i32, turned: bool) -> Window {
    let upper = side / 2;
    let mut values = pyramid(upper, side, power);
    values.extend(pyramid(side - upper, side, power).iter().map(|v| -v));
    unit(&mut values, power);
    if turned {
        let from = values.clone();
        for (i, v) in values.iter_mut().enumerate() {
            *v = from[(i % side) * side + i / side];
        }
    }
    Window { rows: side, columns: side, values }
}

/// Centered squares of sides 1, 3, 5, … cut at the border of a `rows × columns` window, each the inverse
/// square of its number in height (l1: the inverse fourth power); of unit length.
fn pyramid(rows: usize, columns: usize, power: i32) -> Vec<f64> {
    let (middle_row, middle_column) = (rows as isize / 2, columns as isize / 2);
    let mut values = vec![0.0; rows * columns];
    for ring in 0..=(rows / 2).max(columns / 2) {
        let height = ((ring + 1) as f64).powi(if power == 2 { -2 } else { -4 });
        let reach = ring as isize;
        for (i, v) in values.iter_mut().enumerate() {
            let (row, column) = ((i / columns) as isize, (i % columns) as isize);
            if (row - middle_row).abs() <= reach && (column - middle_column).abs() <= reach {
                *v += height;
            }
        }
    }
    unit(&mut values, power);
    values
}

fn unit(values: &mut [f64], power: i32) {
    let sum: f64 = values.iter().map(|v| v.abs().powi(power)).sum();
    let length = if power == 2 { sum.sqrt() } else { sum };
    if length > 0.0 {
        values.iter_mut().for_each(|v| *v /= length);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Side 3 by hand: the upper row is 1 + 1/4 in the middle and 1/4 beside it before scaling; the lower
    /// two rows have their middle at row 1, and the ring of side 3 covers both.
    #[test]
    fn a_window_of_side_three_is_that_worked_out_by_hand() {
        let window = eta(3, 2, false);
        let upper = [0.25f64, 1.25, 0.25];
        let lower = [0.25f64, 0.25, 0.25, 0.25, 1.25, 0.25];
        let length = |v: &[f64]| v.iter().map(|v| v * v).sum::<f64>().sqrt();
        let mut expected: Vec<f64> = upper.iter().map(|v| v / length(&upper)).collect();
        expected.extend(lower.iter().map(|v| -v / length(&lower)));
        for (a, b) in window.values.iter().zip(&expected) {
            assert!((a - b / 2f64.sqrt()).abs() < 1e-12, "{:?}", window.values);
        }
    }

    #[test]
    fn windows_have_unit_length_and_turning_transposes_them() {
        for side in 1..9 {
            let sum =
                |power: i32| eta(side, power, false).values.iter().map(|v| v.abs().powi(power)).sum::<f64>();
            assert!((sum(2) - 1.0).abs() < 1e-12 && (sum(1) - 1.0).abs() < 1e-12);
            let (flat, turned) = (eta(side, 2, false).values, eta(side, 2, true).values);
            for i in 0..side * side {
                assert_eq!(turned[i], flat[(i % side) * side + i / side]);
            }
        }
    }
}
