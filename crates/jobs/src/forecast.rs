//! Time forecasts: how long the remaining jobs will take.

use std::collections::BTreeMap;

/// Turns estimated costs into expected times by the measured times of finished jobs.
///
/// Estimates are seconds on some other machine, so they are right up to a factor, which may differ from stage to
/// stage. The factor of a stage is `(measured + p·g) / (estimated + p)` over its finished jobs, where `g` is the
/// same ratio over all jobs shrunk towards one: a stage without measurements is expected to be off as the others are.
#[derive(Clone, Debug, Default)]
pub(crate) struct Forecast {
    stages: BTreeMap<String, Totals>,
    all: Totals,
}

#[derive(Clone, Copy, Debug, Default)]
struct Totals {
    estimated: f64,
    measured: f64,
}

/// `p`: how many seconds of estimate must have been worked off until a measurement weighs as much as the prior.
const PRIOR_SECONDS: f64 = 2.0;

/// From this part of a job on, its own pace alone predicts its end.
const TRUSTED_FRACTION: f64 = 0.2;

impl Forecast {
    /// Learns that a job of `kind` estimated at `estimated` seconds took `measured` seconds.
    pub(crate) fn observe(&mut self, kind: &str, estimated: f64, measured: f64) {
        for totals in [self.stages.entry(kind.to_owned()).or_default(), &mut self.all] {
            totals.estimated += estimated;
            totals.measured += measured;
        }
    }

    /// Expected seconds of a whole job.
    pub(crate) fn seconds(&self, kind: &str, estimated: f64) -> f64 {
        let overall = self.all.ratio(1.0);
        estimated * self.stages.get(kind).map_or(overall, |totals| totals.ratio(overall))
    }

    /// Expected seconds until a job ends that has run for `elapsed` seconds and has done `fraction` of its steps.
    pub(crate) fn rest(&self, kind: &str, estimated: f64, elapsed: f64, fraction: f64) -> f64 {
        let before = (self.seconds(kind, estimated) - elapsed).max(0.0);
        if fraction <= 0.0 {
            return before;
        }
        let by_pace = elapsed * (1.0 - fraction).max(0.0) / fraction;
        let trust = (fraction / TRUSTED_FRACTION).min(1.0);
        trust * by_pace + (1.0 - trust) * before
    }
}

impl Totals {
    fn ratio(self, prior: f64) -> f64 {
        (self.measured + PRIOR_SECONDS * prior) / (self.estimated + PRIOR_SECONDS)
    }
}

/// A time for people: `0.4 s`, `12 s`, `3 min 20 s`, `1 h 05 min`.
pub(crate) fn spell_seconds(seconds: f64) -> String {
    let whole = seconds.round() as u64;
    match whole {
        _ if seconds < 9.95 => format!("{seconds:.1} s"),
        0..60 => format!("{whole} s"),
        60..3600 => format!("{} min {:02} s", whole / 60, whole % 60),
        _ => format!("{} h {:02} min", whole / 3600, whole % 3600 / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_measurements_the_estimates_stand() {
        let forecast = Forecast::default();
        assert_eq!(forecast.seconds("pretrain", 40.0), 40.0);
        assert_eq!(forecast.rest("pretrain", 40.0, 10.0, 0.0), 30.0);
        assert_eq!(forecast.rest("pretrain", 40.0, 50.0, 0.0), 0.0);
    }

    #[test]
    fn a_slow_machine_is_learned_and_stages_are_kept_apart() {
        let mut forecast = Forecast::default();
        forecast.observe("pretrain", 1000.0, 3000.0);
        forecast.observe("attack", 1000.0, 1000.0);
        // Of 1000 s against a prior of 2 s, a few per mille of the prior are left.
        assert!((forecast.seconds("pretrain", 10.0) - 30.0).abs() < 0.1);
        assert!((forecast.seconds("attack", 10.0) - 10.0).abs() < 0.1);
        assert!((forecast.seconds("probe", 10.0) - 20.0).abs() < 0.1);
    }

    #[test]
    fn one_short_job_does_not_overturn_the_rest() {
        let mut forecast = Forecast::default();
        forecast.observe("probe", 0.1, 1.0);
        let seconds = forecast.seconds("probe", 10.0);
        assert!((10.0..20.0).contains(&seconds), "{seconds}");
    }

    #[test]
    fn a_job_well_under_way_is_judged_by_its_own_pace() {
        let forecast = Forecast::default();
        assert_eq!(forecast.rest("pretrain", 40.0, 60.0, 0.5), 60.0);
        assert_eq!(forecast.rest("pretrain", 40.0, 60.0, 1.0), 0.0);
        let early = forecast.rest("pretrain", 40.0, 10.0, 0.1);
        assert!((early - (0.5 * 90.0 + 0.5 * 30.0)).abs() < 1e-9, "{early}");
    }

    #[test]
    fn times_are_spelled_for_people() {
        for (seconds, text) in [
            (0.04, "0.0 s"),
            (9.94, "9.9 s"),
            (9.96, "10 s"),
            (59.4, "59 s"),
            (59.6, "1 min 00 s"),
            (3725.0, "1 h 02 min"),
        ] {
            assert_eq!(spell_seconds(seconds), text);
        }
    }
}
