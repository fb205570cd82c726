//! Sums by a binary tree over shards.

use std::ops::AddAssign;

/// The sum of equally long lines by a binary tree: neighbors first, then neighbors of those sums. The tree of `2k` lines
/// begins with those of its halves, so that ranks may each add their own lines first.
///
/// # Panics
/// If there is no line, or their number is no power of two.
pub fn tree_sum<T: Copy + AddAssign>(mut lines: Vec<Vec<T>>) -> Vec<T> {
    assert!(lines.len().is_power_of_two(), "a tree over {} lines", lines.len());
    let mut distance = 1;
    while distance < lines.len() {
        for left in (0..lines.len()).step_by(2 * distance) {
            let (head, tail) = lines.split_at_mut(left + distance);
            head[left].iter_mut().zip(&tail[0]).for_each(|(a, &b)| *a += b);
        }
        distance *= 2;
    }
    lines.swap_remove(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_may_be_added_first() {
        // In f32, 1 + 2⁻²⁴ is 1: the order shows.
        let tiny = f32::EPSILON / 2.0;
        let lines: Vec<Vec<f32>> = [1.0, tiny, tiny, tiny, 3.0, 0.1, 0.7, tiny].map(|x| vec![x]).into();
        let whole = tree_sum(lines.clone());
        for ranks in [1, 2, 4, 8] {
            let parts = lines.chunks(8 / ranks).map(|part| tree_sum(part.to_vec())).collect();
            assert_eq!(tree_sum(parts)[0].to_bits(), whole[0].to_bits(), "{ranks} ranks");
        }
        let in_turn = lines.iter().fold(0.0f32, |sum, line| sum + line[0]);
        assert_ne!(whole[0].to_bits(), in_turn.to_bits(), "the example does not show the order");
    }

    #[test]
    #[should_panic(expected = "a tree over 3 lines")]
    fn three_lines_have_no_tree() {
        tree_sum(vec![vec![1.0f32]; 3]);
    }
}
