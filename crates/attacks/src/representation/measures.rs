//! Label-free measures of attacked representations: universal quantile, breakaway and overlap risk (Petrov et al.
//! 2022).
//!
//! All of them take representations `(n, d)`, row by row of the same inputs, and measure Euclidean
//! distances in f64.

use tarrl_tensor::Tensor;

/// The distances of all pairs of different rows of `z` `(n, d)`, ascending: what [`quantile`] compares
/// with.
pub fn pair_distances(z: &Tensor) -> Vec<f64> {
    let rows = Rows::of(z);
    let pairs = (0..rows.n).flat_map(|i| (0..i).map(move |j| (i, j)));
    let mut distances: Vec<f64> = pairs.map(|(i, j)| distance(rows.row(i), rows.row(j))).collect();
    distances.sort_unstable_by(f64::total_cmp);
    distances
}

/// The universal quantile of a displacement: the share of the clean pairs, ascending distances, that are
/// nearer to each other than it is long. At 0.5 an attack moves an input as far as two inputs typically are
/// apart.
///
/// # Panics
/// If there are no pairs.
#[track_caller]
pub fn quantile(displacement: f64, pairs: &[f64]) -> f64 {
    assert!(!pairs.is_empty(), "quantile: no pairs to compare with");
    pairs.partition_point(|&pair| pair < displacement) as f64 / pairs.len() as f64
}

/// `(n)`: of the other inputs, the share whose clean representation is nearer to the attacked one of
/// an input than its own clean one. Their mean is the breakaway risk.
///
/// # Panics
/// If the shapes differ or there are fewer than two rows.
#[track_caller]
pub fn breakaway(attacked: &Tensor, clean: &Tensor) -> Vec<f64> {
    let (u, x) = both("breakaway", attacked, clean);
    (0..x.n).map(|i| nearer_than_own(&u, &x, i) as f64 / (x.n - 1) as f64).collect()
}

/// `(n)`: whether the clean representation of an input is among the `k` nearest to its attacked one. Their
/// mean is the nearest-neighbor accuracy.
///
/// # Panics
/// As [`breakaway`].
#[track_caller]
pub fn finds_itself(attacked: &Tensor, clean: &Tensor, k: usize) -> Vec<bool> {
    let (u, x) = both("finds_itself", attacked, clean);
    (0..x.n).map(|i| nearer_than_own(&u, &x, i) < k).collect()
}

/// `(n)`: the overlap margins of pairs of inputs x and y, each attacked towards the other:
/// `(‖f(x) − f(y→x)‖ − ‖f(x) − f(x→y)‖) / ‖f(x) − f(y)‖`. Where it is negative, y has come
/// nearer to x than x itself has stayed; their share is the overlap risk.
///
/// # Panics
/// If the shapes differ.
#[track_caller]
pub fn overlap_margins(x: &Tensor, y: &Tensor, x_to_y: &Tensor, y_to_x: &Tensor) -> Vec<f64> {
    let (x_rows, y_rows) = both("overlap_margins", x, y);
    let (there, back) = both("overlap_margins", x_to_y, y_to_x);
    assert_eq!(x.shape(), x_to_y.shape(), "overlap_margins: {:?} and {:?}", x.shape(), x_to_y.shape());
    let margin = |i: usize| {
        let from_x = |rows: &Rows| distance(x_rows.row(i), rows.row(i));
        (from_x(&back) - from_x(&there)) / from_x(&y_rows)
    };
    (0..x_rows.n).map(margin).collect()
}

struct Rows {
    values: Vec<f64>,
    n: usize,
    d: usize,
}

impl Rows {
    #[track_caller]
    fn of(z: &Tensor) -> Rows {
        let &[n, d] = &z.shape()[..] else { panic!("representations are (n, d), not {:?}", z.shape()) };
        Rows { values: z.array().to_f64(), n, d }
    }

    fn row(&self, i: usize) -> &[f64] {
        &self.values[i * self.d..][..self.d]
    }
}

#[track_caller]
fn both(what: &str, a: &Tensor, b: &Tensor) -> (Rows, Rows) {
    assert!(
        a.shape() == b.shape() && a.shape()[0] >= 2,
        "{what}: representations {:?} and {:?}; need the same shape and two rows",
        a.shape(),
        b.shape()
    );
    (Rows::of(a), Rows::of(b))
}

fn nearer_than_own(attacked: &Rows, clean: &Rows, i: usize) -> usize {
    let own = distance(attacked.row(i), clean.row(i));
    (0..clean.n).filter(|&j| j != i && distance(attacked.row(i), clean.row(j)) < own).count()
}

fn distance(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum::<f64>().sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;
    use tarrl_tensor::cpu;

    fn points(values: &[f64]) -> Tensor {
        Tensor::new(&cpu(), [values.len(), 1], values)
    }

    /// Four points on a line, worked out by hand.
    #[test]
    fn points_on_a_line() {
        let clean = points(&[0.0, 1.0, 3.0, 7.0]);
        assert_eq!(pair_distances(&clean), [1.0, 2.0, 3.0, 4.0, 6.0, 7.0]);
        assert_eq!(quantile(3.5, &pair_distances(&clean)), 0.5);
        assert_eq!((quantile(0.0, &[1.0]), quantile(2.0, &[1.0])), (0.0, 1.0));
        // 0 → 2.4 has 1 and 3 nearer than 0; 1 → 1 has none; 3 → 6 has 7 nearer; 7 → 0 has all.
        let attacked = points(&[2.4, 1.0, 6.0, 0.0]);
        assert_eq!(breakaway(&attacked, &clean), [2.0 / 3.0, 0.0, 1.0 / 3.0, 1.0]);
        assert_eq!(finds_itself(&attacked, &clean, 1), [false, true, false, false]);
        assert_eq!(finds_itself(&attacked, &clean, 3), [true, true, true, false]);
    }

    #[test]
    fn overlap_is_a_sign() {
        let (x, y) = (points(&[0.0, 0.0]), points(&[10.0, 10.0]));
        // The first pair keeps apart; in the second each comes past the middle.
        let margins = overlap_margins(&x, &y, &points(&[3.0, 6.0]), &points(&[7.0, 4.0]));
        assert_eq!(margins, [0.4, -0.2]);
    }

    #[test]
    #[should_panic(expected = "need the same shape and two rows")]
    fn one_row_has_no_others() {
        breakaway(&points(&[1.0]), &points(&[1.0]));
    }
}
