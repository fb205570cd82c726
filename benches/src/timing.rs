//! Timing of steps: wall-clock seconds, and their median.

use crate::step::Step;
use std::hint::black_box;
use std::time::Instant;

/// The seconds of each of `repeats` runs, after one that is not counted: it fills the pools of memory.
pub fn time(step: &mut Step, repeats: usize) -> Vec<f64> {
    black_box(step.run());
    (0..repeats).map(|_| time_once(step)).collect()
}

/// The seconds of one run.
pub fn time_once(step: &mut Step) -> f64 {
    let clock = Instant::now();
    black_box(step.run());
    clock.elapsed().as_secs_f64()
}

/// The middle value, or the mean of the two in the middle.
///
/// # Panics
/// If there is no value.
pub fn median(values: &[f64]) -> f64 {
    assert!(!values.is_empty(), "median: of no values");
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    if sorted.len() % 2 == 1 { sorted[middle] } else { (sorted[middle - 1] + sorted[middle]) / 2.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(median(&[3.0]), 3.0);
        assert_eq!(median(&[9.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 9.0]), 3.0);
    }
}
