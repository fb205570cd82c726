//! Checkpoints of APGD: the steps after which it judges its progress.

use crate::autoattack::mode::Mode;

/// The steps after which an ascent of `steps` steps in l-infinity or l2 is judged, rising.
///
/// Paper: ⌈p_j N⌉ with p_0 = 0, p_1 = 0.22, p_{j+1} = p_j + max(p_j − p_{j−1} − 0.03, 0.06) (Croce &
/// Hein 2020, section 3.2). Reference: intervals of ⌊0.22 N⌋ steps that shrink by ⌊0.03 N⌋ down to
/// ⌊0.06 N⌋, each at least one. The two agree at 100 steps.
pub(crate) fn checkpoints(steps: usize, mode: Mode) -> Vec<usize> {
    match mode {
        Mode::Reference => {
            let part = |share: f64| ((share * steps as f64) as usize).max(1);
            let (mut interval, least, less) = (part(0.22), part(0.06), part(0.03));
            let mut at = interval;
            let mut all = Vec::new();
            while at <= steps {
                all.push(at);
                interval = interval.saturating_sub(less).max(least);
                at += interval;
            }
            all
        }
        Mode::Paper => {
            let (mut before, mut at) = (0u64, 22u64); // in hundredths, so that no rounding decides
            let mut all = Vec::new();
            while at <= 100 {
                all.push((at * steps as u64).div_ceil(100) as usize);
                (before, at) = (at, at + (at - before).saturating_sub(3).max(6));
            }
            all.dedup();
            all.retain(|&at| at > 0);
            all
        }
    }
}

/// The same for l1: every ⌊0.04 N⌋ steps, at least one.
pub(crate) fn sparse_checkpoints(steps: usize) -> Vec<usize> {
    let interval = ((0.04 * steps as f64) as usize).max(1);
    (1..=steps / interval).map(|j| j * interval).collect()
}
