//! The checkpoints of APGD, by hand.

use crate::autoattack::checkpoints::{checkpoints, sparse_checkpoints};
use crate::autoattack::mode::Mode;

/// Worked out by hand from the two rules.
#[test]
fn checkpoints_are_those_worked_out_by_hand() {
    let hundred = [22, 41, 57, 70, 80, 87, 93, 99];
    assert_eq!(checkpoints(100, Mode::Reference), hundred);
    assert_eq!(checkpoints(100, Mode::Paper), hundred);
    assert_eq!(checkpoints(200, Mode::Reference), hundred.map(|c| 2 * c));
    assert_eq!(checkpoints(50, Mode::Reference), [11, 21, 30, 38, 45]);
    assert_eq!(checkpoints(50, Mode::Paper), [11, 21, 29, 35, 40, 44, 47, 50]);
    assert_eq!(checkpoints(20, Mode::Paper), [5, 9, 12, 14, 16, 18, 19, 20]);
    assert_eq!(checkpoints(10, Mode::Paper), [3, 5, 6, 7, 8, 9, 10]);
    assert_eq!(checkpoints(20, Mode::Reference)[..5], [4, 7, 9, 10, 11]);
    assert!(checkpoints(0, Mode::Paper).is_empty() && checkpoints(0, Mode::Reference).is_empty());
    assert_eq!(sparse_checkpoints(100)[..3], [4, 8, 12]);
    assert_eq!(sparse_checkpoints(10), (1..=10).collect::<Vec<_>>());
}
