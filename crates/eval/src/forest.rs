//! Random forests: decision trees on bootstrap samples, as a predictor that has no gradient.

use crate::fit_error::FitError;
use crate::probe::check_training;
use serde::{Deserialize, Serialize};
use tarrl_tensor::{Key, Stream, Tensor};

/// How a [`Forest`] is grown (Breiman et al. 1984, Breiman 2001).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ForestConfig {
    /// Trees that vote; one alone sees every sample and every feature.
    pub trees: usize,
    /// Splits from the root to a leaf at most.
    pub depth: usize,
    /// Samples of a leaf at least.
    pub leaf: usize,
}

impl Default for ForestConfig {
    /// Thirty trees of depth 10 with five samples in a leaf.
    fn default() -> Self {
        ForestConfig { trees: 30, depth: 10, leaf: 5 }
    }
}

/// Trees that vote with the shares of the classes in their leaves.
#[derive(Clone, Debug, PartialEq)]
pub struct Forest {
    trees: Vec<Vec<Node>>,
    classes: usize,
}

/// A node of a tree; the root is the first.
#[derive(Clone, Debug, PartialEq)]
enum Node {
    /// The next node is `below` where `z[feature] <= threshold`, else `above`.
    Split { feature: usize, threshold: f32, below: usize, above: usize },
    /// The shares of the classes.
    Leaf(Vec<f64>),
}

impl Forest {
    /// Grows trees on `features (n, d)` with `labels (n)`, each below `classes`. Every split has the least impurity of Gini
    /// among the thresholds between neighbors, of all features for one tree, of √d random ones for several, which also see
    /// a bootstrap sample each. Tree `i` depends on `key.fold(i)` alone.
    ///
    /// # Errors
    /// If there are fewer than two classes, a feature is not finite, or a setting is 0.
    ///
    /// # Panics
    /// If the shapes do not fit.
    #[track_caller]
    pub fn fit(
        features: &Tensor,
        labels: &[u32],
        classes: usize,
        config: &ForestConfig,
        key: Key,
    ) -> Result<Self, FitError> {
        check_training(features, labels, classes)?;
        for (field, value) in [("trees", config.trees), ("depth", config.depth), ("leaf", config.leaf)] {
            if value == 0 {
                return Err(FitError::Setting { field, value: 0.0, range: "it must be at least 1" });
            }
        }
        let (n, d) = (labels.len(), features.shape()[1]);
        // Column by column, so that a split reads memory in order.
        let columns = features.t().to_vec::<f32>();
        let alone = config.trees == 1;
        let grow = |tree: usize| {
            let mut stream = key.fold(tree).stream();
            let rows = (0..n).map(|i| if alone { i } else { stream.below(n) }).collect();
            let tried = if alone { d } else { (d as f64).sqrt().ceil() as usize };
            let mut grower =
                Grower { columns: &columns, labels, classes, config, tried, stream, nodes: Vec::new() };
            grower.node(rows, 0);
            grower.nodes
        };
        Ok(Forest { trees: (0..config.trees).map(grow).collect(), classes })
    }

    /// The label of each of `queries (m, d)`; the lowest wins a tie. What is not a number is above every threshold.
    ///
    /// # Panics
    /// If the queries have fewer features than the forest saw.
    #[track_caller]
    pub fn predict(&self, queries: &Tensor) -> Vec<u32> {
        let d = queries.shape()[1];
        let label = |z: &[f32]| {
            let mut votes = vec![0.0; self.classes];
            for tree in &self.trees {
                votes.iter_mut().zip(leaf(tree, z)).for_each(|(vote, share)| *vote += share);
            }
            (0..votes.len()).rev().max_by(|&a, &b| votes[a].total_cmp(&votes[b])).unwrap_or(0) as u32
        };
        queries.to_vec::<f32>().chunks(d).map(label).collect()
    }
}

/// The shares of the leaf that `z` comes to.
fn leaf<'a>(tree: &'a [Node], z: &[f32]) -> &'a [f64] {
    let mut at = 0;
    loop {
        match &tree[at] {
            Node::Leaf(shares) => return shares,
            Node::Split { feature, threshold, below, above } => {
                at = if z[*feature] <= *threshold { *below } else { *above };
            }
        }
    }
}

/// A tree in growth.
struct Grower<'a> {
    /// `(d, n)`
    columns: &'a [f32],
    labels: &'a [u32],
    classes: usize,
    config: &'a ForestConfig,
    /// Features that a split chooses from.
    tried: usize,
    stream: Stream,
    nodes: Vec<Node>,
}

impl Grower<'_> {
    /// Adds the tree on `rows` and gives the place of its root.
    fn node(&mut self, rows: Vec<usize>, depth: usize) -> usize {
        let at = self.nodes.len();
        let counts = self.counts(&rows);
        self.nodes.push(Node::Leaf(counts.iter().map(|&c| c as f64 / rows.len() as f64).collect()));
        let is_pure = counts.iter().filter(|&&count| count > 0).count() < 2;
        if depth == self.config.depth || is_pure {
            return at;
        }
        let Some((feature, threshold)) = self.split(&rows) else { return at };
        let value = |row: usize| self.columns[feature * self.labels.len() + row];
        let (low, high): (Vec<usize>, Vec<usize>) =
            rows.into_iter().partition(|&row| value(row) <= threshold);
        let below = self.node(low, depth + 1);
        let above = self.node(high, depth + 1);
        self.nodes[at] = Node::Split { feature, threshold, below, above };
        at
    }

    fn counts(&self, rows: &[usize]) -> Vec<usize> {
        let mut counts = vec![0; self.classes];
        rows.iter().for_each(|&row| counts[self.labels[row] as usize] += 1);
        counts
    }

    /// The feature and the threshold with the least impurity, if two leaves are large enough; the first of equals.
    fn split(&mut self, rows: &[usize]) -> Option<(usize, f32)> {
        let (n, d) = (self.labels.len(), self.columns.len() / self.labels.len());
        let mut features: Vec<usize> = (0..d).collect();
        if self.tried < d {
            self.stream.shuffle(&mut features);
        }
        let all = self.counts(rows);
        let mut best = (f64::NEG_INFINITY, None);
        for &feature in &features[..self.tried.min(d)] {
            let mut sorted: Vec<(f32, u32)> =
                rows.iter().map(|&row| (self.columns[feature * n + row], self.labels[row])).collect();
            sorted.sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
            let (mut low, mut high) = (vec![0usize; self.classes], all.clone());
            // Σ c² of both sides, of which impurity is what is missing.
            let mut squares = [0.0, all.iter().map(|&c| (c * c) as f64).sum::<f64>()];
            for (i, pair) in sorted.windows(2).enumerate() {
                let class = pair[0].1 as usize;
                squares[0] += (2 * low[class] + 1) as f64;
                squares[1] -= (2 * high[class] - 1) as f64;
                low[class] += 1;
                high[class] -= 1;
                let sizes = [i + 1, sorted.len() - i - 1];
                if pair[0].0 == pair[1].0 || sizes.iter().any(|&size| size < self.config.leaf) {
                    continue;
                }
                let purity = squares[0] / sizes[0] as f64 + squares[1] / sizes[1] as f64;
                if purity > best.0 {
                    // Halves first, so that the sum cannot overflow; never the upper neighbor.
                    let middle = 0.5 * pair[0].0 + 0.5 * pair[1].0;
                    let threshold = if middle < pair[1].0 { middle } else { pair[0].0 };
                    best = (purity, Some((feature, threshold)));
                }
            }
        }
        best.1
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use tarrl_tensor::cpu;

    const TREE: ForestConfig = ForestConfig { trees: 1, depth: 2, leaf: 1 };

    /// Of six points the first feature splits off two of class 1 between 3 and 4, Σ c²/n = 10/4 + 2 = 4.5; the second has the
    /// same between 2 and 4, and the first of equals wins. Of the four others the second feature splits off the last.
    #[test]
    fn a_tree_of_six_points_by_hand() {
        let x = Tensor::new(&cpu(), [6, 2], &[1.0f32, 1.0, 2.0, 2.0, 3.0, 1.0, 4.0, 1.0, 1.0, 4.0, 4.0, 5.0]);
        let labels = [0, 0, 0, 1, 1, 1];
        let forest = Forest::fit(&x, &labels, 2, &TREE, Key::new(0)).unwrap();
        let leaf = |shares: [f64; 2]| Node::Leaf(shares.to_vec());
        let want = vec![
            Node::Split { feature: 0, threshold: 3.5, below: 1, above: 4 },
            Node::Split { feature: 1, threshold: 3.0, below: 2, above: 3 },
            leaf([1.0, 0.0]),
            leaf([0.0, 1.0]),
            leaf([0.0, 1.0]),
        ];
        assert_eq!(forest.trees, [want]);
        let queries = Tensor::new(&cpu(), [4, 2], &[3.5f32, 3.0, 3.6, 3.0, 0.0, 3.1, f32::NAN, 0.0]);
        assert_eq!(forest.predict(&queries), [0, 1, 1, 1]);
    }

    #[test]
    fn small_leaves_and_a_depth_of_one_stop_the_growth() {
        let x = Tensor::new(&cpu(), [4, 1], &[1.0f32, 2.0, 3.0, 4.0]);
        let grow = |config| Forest::fit(&x, &[0, 1, 0, 1], 2, &config, Key::new(0)).unwrap().trees[0].len();
        assert_eq!(grow(ForestConfig { depth: 9, ..TREE }), 7);
        assert_eq!(grow(ForestConfig { depth: 1, ..TREE }), 3);
        assert_eq!(grow(ForestConfig { depth: 9, leaf: 2, ..TREE }), 3);
        assert_eq!(grow(ForestConfig { depth: 9, leaf: 3, ..TREE }), 1);
    }

    #[test]
    fn what_no_forest_grows_on_is_refused() {
        let x = Tensor::new(&cpu(), [2, 1], &[1.0f32, f32::NAN]);
        let fit = |x: &Tensor, config| Forest::fit(x, &[0, 1], 2, &config, Key::new(0));
        assert_eq!(fit(&x, TREE), Err(FitError::NotFinite { sample: 1 }));
        let x = Tensor::new(&cpu(), [2, 1], &[1.0f32, 2.0]);
        for (config, name) in [
            (ForestConfig { trees: 0, ..TREE }, "trees"),
            (ForestConfig { depth: 0, ..TREE }, "depth"),
            (ForestConfig { leaf: 0, ..TREE }, "leaf"),
        ] {
            assert!(
                matches!(fit(&x, config), Err(FitError::Setting { field, .. }) if field == name),
                "{name}"
            );
        }
        assert_eq!(Forest::fit(&x, &[0, 0], 1, &TREE, Key::new(0)), Err(FitError::Classes(1)));
    }

    proptest! {
        /// A deep tree with leaves of one sample gives every distinct sample its label.
        #[test]
        fn a_deep_tree_knows_its_samples(seed: u64, n in 2usize..40) {
            let mut s = Key::new(seed).stream();
            let x: Vec<f32> = (0..n * 3).map(|_| s.normal() as f32).collect();
            let labels: Vec<u32> = (0..n).map(|_| s.below(4) as u32).collect();
            let x = Tensor::new(&cpu(), [n, 3], &x);
            let forest = Forest::fit(&x, &labels, 4, &ForestConfig { depth: 64, ..TREE }, Key::new(seed)).unwrap();
            prop_assert_eq!(forest.predict(&x), labels);
        }

        /// Trees depend on their keys alone: more trees begin with the same ones.
        #[test]
        fn a_larger_forest_begins_with_the_smaller(seed: u64) {
            let mut s = Key::new(seed).stream();
            let x: Vec<f32> = (0..120).map(|_| s.normal() as f32).collect();
            let labels: Vec<u32> = (0..30).map(|_| s.below(3) as u32).collect();
            let x = Tensor::new(&cpu(), [30, 4], &x);
            let grow = |trees| Forest::fit(&x, &labels, 3, &ForestConfig { trees, depth: 4, leaf: 2 }, Key::new(1));
            let (few, many) = (grow(2).unwrap(), grow(5).unwrap());
            prop_assert_eq!(&few.trees[..], &many.trees[..2]);
        }
    }
}
