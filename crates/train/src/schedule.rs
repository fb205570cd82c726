//! Learning-rate schedule: linear warm-up and cosine decay.

use tarrl_tensor::math;

/// Linear warm-up, step by step, then a cosine to zero (Loshchilov & Hutter 2017).
///
/// With base b, start s, w warm-up steps and T steps in all, step t has
/// `s + t·(b − s)/(w − 1)` for t < w, then `b/2·(1 + cos(π·(t − w)/(T − w)))`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Schedule {
    /// The peak.
    pub(crate) base: f64,
    /// The rate of the first step, if there is a warm-up of two steps or more.
    pub(crate) start: f64,
    /// Steps of warm-up.
    pub(crate) warmup: u64,
    /// Steps in all.
    pub(crate) total: u64,
}

impl Schedule {
    /// A schedule whose warm-up takes equal strides from zero, the first of which is already taken at
    /// step 0: no step is spent on a rate of nothing.
    pub(crate) fn new(base: f64, warmup: u64, total: u64) -> Self {
        Schedule { base, start: base / warmup.max(1) as f64, warmup, total }
    }

    /// The learning rate of step `t`, counted from 0.
    pub(crate) fn at(&self, t: u64) -> f64 {
        if t < self.warmup {
            let reached = if self.warmup > 1 { t as f64 / (self.warmup - 1) as f64 } else { 1.0 };
            return self.start + reached * (self.base - self.start);
        }
        let rest = self.total.saturating_sub(self.warmup).max(1) as f64;
        let along = ((t - self.warmup) as f64 / rest).min(1.0);
        0.5 * self.base * (1.0 + math::cos(std::f64::consts::PI * along))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warm_up_reaches_the_peak_and_the_cosine_halves_it_midway() {
        let schedule = Schedule { base: 1.0, start: 0.1, warmup: 10, total: 100 };
        assert_eq!([schedule.at(0), schedule.at(10)], [0.1, 1.0]);
        assert!((schedule.at(55) - 0.5).abs() < 1e-12);
    }

    /// Values of the published warm-up-cosine scheduler at b = 1, s = 3e-5, w = 10, T = 100, to nine digits.
    #[test]
    fn rates_match_a_published_scheduler() {
        let schedule = Schedule { base: 1.0, start: 3e-5, warmup: 10, total: 100 };
        for (t, rate) in [
            (0, 3e-5),
            (1, 0.111137778),
            (5, 0.555568889),
            (9, 1.0),
            (10, 1.0),
            (55, 0.5),
            (99, 0.000304586),
            (100, 0.0),
        ] {
            assert!((schedule.at(t) - rate).abs() < 5e-10, "step {t}: {} is not {rate}", schedule.at(t));
        }
    }

    #[test]
    fn warm_up_takes_equal_strides_from_zero() {
        let schedule = Schedule::new(2.0, 4, 10);
        let rates: Vec<f64> = (0..4).map(|t| schedule.at(t)).collect();
        assert_eq!(rates, [0.5, 1.0, 1.5, 2.0]);
    }

    #[test]
    fn degenerate_lengths_stay_finite() {
        assert_eq!(Schedule::new(1.0, 0, 10).at(0), 1.0);
        assert_eq!(Schedule::new(1.0, 1, 10).at(0), 1.0);
        assert_eq!(Schedule::new(1.0, 5, 5).at(4), 1.0);
        assert_eq!(Schedule::new(1.0, 0, 1).at(1), 0.0);
        assert_eq!(Schedule::new(1.0, 2, 10).at(1_000), 0.0);
    }
}
