//! Nearest-neighbor heads: the radius within which a query of a k-nearest-neighbor vote keeps its label.

use crate::numerics::LpNorm;
use crate::numerics::linalg::gamma;

/// The vote of the `k` nearest points of a bank, by l2 distance, for one label against the rest; `k` odd.
///
/// The bank is clean and fixed; the query moves.
#[derive(Clone, Debug, PartialEq)]
pub struct KnnHead {
    /// `(n, d)`, row-major.
    bank: Vec<f64>,
    labels: Vec<usize>,
    d: usize,
    k: usize,
}

impl KnnHead {
    /// The head on the bank `(n, d)`, row-major, with `labels` `(n)`.
    ///
    /// # Panics
    /// If the lengths do not fit, `k` is even or larger than the bank, or an element is not finite.
    #[track_caller]
    pub fn new(d: usize, k: usize, bank: Vec<f64>, labels: Vec<usize>) -> Self {
        assert!(
            labels.len().checked_mul(d) == Some(bank.len()) && k % 2 == 1 && k <= labels.len(),
            "KnnHead: {k} neighbors (odd, at most the bank) among {} labels and {} numbers of {d} features",
            labels.len(),
            bank.len()
        );
        assert!(bank.iter().all(|v| v.is_finite()), "KnnHead: an element is not finite");
        KnnHead { bank, labels, d, k }
    }

    /// Whether more than half of the `k` nearest points of the bank have `label`.
    ///
    /// # Panics
    /// If `z` has not `d` elements.
    #[track_caller]
    pub fn votes_for(&self, z: &[f64], label: usize) -> bool {
        let mut order: Vec<(f64, usize)> = self.distances(z).into_iter().zip(0..).collect();
        order.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        order[..self.k].iter().filter(|(_, i)| self.labels[*i] == label).count() > self.k / 2
    }

    /// The largest radius known within which every query is given `label`, zero if none is: below it (not at
    /// it) [`votes_for`](KnnHead::votes_for) holds. Theorem B4 (docs/theory.md), by bisecting hyperplanes;
    /// exact for one neighbor.
    ///
    /// A point of another label overtakes a point `a` only across the hyperplane between them, at the
    /// distance `(‖z − q‖² − ‖z − a‖²) / (2 ‖a − q‖)` from `z`.
    ///
    /// # Panics
    /// If `z` has not `d` elements.
    #[track_caller]
    pub fn certified_radius(&self, z: &[f64], label: usize) -> f64 {
        let [own, rest] = self.split(z, label);
        let mut best = 0.0;
        for m in self.k / 2 + 1..=self.k.min(own.len()) {
            let mut safe: Vec<f64> = rest.iter().map(|&q| self.overtaken_at(&own[..m], q)).collect();
            safe.sort_by(f64::total_cmp);
            // At most k − m others may come before a member of the m nearest.
            let radius = safe.get(self.k - m).copied().unwrap_or(f64::INFINITY);
            best = if radius > best { radius } else { best };
        }
        best
    }

    /// As [`certified_radius`](KnnHead::certified_radius), from the sorted distances alone:
    /// `D_label(m) + r < D_other(k − m + 1) − r`. Cheaper, never larger.
    ///
    /// # Panics
    /// If `z` has not `d` elements.
    #[track_caller]
    pub fn simple_radius(&self, z: &[f64], label: usize) -> f64 {
        let [own, rest] = self.split(z, label);
        let half = |a: f64, q: f64| 0.5 * (q - a) - 4.0 * gamma(self.d + 8) * (q + a);
        let gap = |m: usize| rest.get(self.k - m).map_or(f64::INFINITY, |q| half(own[m - 1].0, q.0));
        (self.k / 2 + 1..=self.k.min(own.len())).map(gap).fold(0.0, f64::max)
    }

    /// The distance to the nearest hyperplane across which `q` comes before one of `own`; zero for equal
    /// points and for anything that is not a number.
    fn overtaken_at(&self, own: &[(f64, usize)], q: (f64, usize)) -> f64 {
        let to_plane = |a: &(f64, usize)| {
            let apart = LpNorm::L2.distance(self.point(a.1), self.point(q.1));
            // (q² − a²) as a product, which does not cancel. Distances are rounded, here and at the moved query, where they
            // are at most twice as large: of far points that are near to each other not much is known.
            let sum = q.0 + a.0;
            ((q.0 - a.0) - 10.0 * gamma(self.d + 8) * sum) * sum / (2.0 * apart)
        };
        own.iter().map(to_plane).fold(f64::INFINITY, |least, r| if r > 0.0 { least.min(r) } else { 0.0 })
    }

    /// The points of `label` and those of others, each as distance and index, nearest first.
    fn split(&self, z: &[f64], label: usize) -> [Vec<(f64, usize)>; 2] {
        let all = self.distances(z).into_iter().zip(0..);
        let (mut own, mut rest): (Vec<_>, Vec<_>) = all.partition(|(_, i)| self.labels[*i] == label);
        own.sort_by(|a, b| a.0.total_cmp(&b.0));
        rest.sort_by(|a, b| a.0.total_cmp(&b.0));
        [own, rest]
    }

    #[track_caller]
    fn distances(&self, z: &[f64]) -> Vec<f64> {
        assert_eq!(z.len(), self.d, "KnnHead: a representation of {} on {} features", z.len(), self.d);
        (0..self.labels.len()).map(|i| LpNorm::L2.distance(self.point(i), z)).collect()
    }

    fn point(&self, i: usize) -> &[f64] {
        &self.bank[i * self.d..(i + 1) * self.d]
    }
}
