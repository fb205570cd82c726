//! Attacked images of the tasks: a balanced part of the test images, the attack on it, and what it leaves correct.

use serde::{Deserialize, Serialize};
use tarrl_attacks::{Pgd, Threat};
use tarrl_bound::LinearHead;
use tarrl_data::{Dataset, Manifest};
use tarrl_eval::{RobustConfig, SampleOutcome, robust_curve};
use tarrl_tensor::{Key as Random, Tensor};

use super::head::BATCH;
use crate::context::StudyContext;

/// Images that a classifier labels correctly, clean and under attack.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Counts {
    /// Images.
    pub n: usize,
    /// Correct without attack.
    pub clean: usize,
    /// Correct at each radius of the tables, smallest first.
    pub robust: Vec<usize>,
}

impl Counts {
    /// The share that is correct without attack.
    pub fn clean_accuracy(&self) -> f64 {
        self.clean as f64 / self.n as f64
    }

    /// The share that is correct at the radius at place `level`.
    pub fn robust_accuracy(&self, level: usize) -> f64 {
        self.robust[level] as f64 / self.n as f64
    }
}

/// The radii of the tables.
pub(super) fn radii(study: &StudyContext) -> Vec<f64> {
    study.profile.attack.epsilons.iter().map(|e| e.value()).collect()
}

/// PGD with the steps of the profile and one restart, within the first radius of the tables.
pub(super) fn attack(study: &StudyContext) -> RobustConfig {
    let threat = Threat::linf(radii(study)[0]);
    let pgd = Pgd { restarts: 1, ..Pgd::usual(&threat, study.profile.attack.steps) };
    RobustConfig { threat, pgd, batch: BATCH, keep: 0, ..RobustConfig::default() }
}

/// `images` of `data`, balanced over its classes, one of each at least; the same for every encoder.
pub(super) fn sample(data: &Dataset, images: usize) -> anyhow::Result<Dataset> {
    let per_class = images.min(data.len()) / data.classes.len();
    Ok(data.balanced_subset(per_class.max(1), Random::new(0).fold("tasks"))?)
}

/// The outcomes of a head at every radius of the tables, smallest first.
pub(super) fn outcomes(
    study: &StudyContext,
    encode: &dyn Fn(&Tensor) -> Tensor,
    head: &LinearHead,
    pixels: &Tensor,
    labels: &[u32],
    key: Random,
) -> Vec<Vec<SampleOutcome>> {
    let curve = robust_curve(encode, head, pixels, labels, &radii(study), &attack(study), key);
    curve.into_iter().map(|level| level.samples).collect()
}

/// What `outcomes`, one list for each radius, leave correct of the images that `counts` picks.
pub(super) fn count(outcomes: &[Vec<SampleOutcome>], counts: impl Fn(usize) -> bool) -> Counts {
    let of = |level: &[SampleOutcome], correct: &dyn Fn(&SampleOutcome) -> bool| {
        level.iter().enumerate().filter(|(i, sample)| counts(*i) && correct(sample)).count()
    };
    Counts {
        n: of(&outcomes[0], &|_| true),
        clean: of(&outcomes[0], &|sample| !sample.wrong),
        robust: outcomes.iter().map(|level| of(level, &|sample| !sample.broken)).collect(),
    }
}

/// Estimated seconds of `passes` forward and backward passes of an image: four of 14.7 million multiply-adds take 0.8 ms, on
/// two cores.
pub(super) fn seconds(study: &StudyContext, manifest: &Manifest, passes: usize) -> f64 {
    8e-4 / 14.7e6 * study.multiply_adds(manifest) * passes as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_picked_images_are_counted() {
        let sample =
            |wrong, broken| SampleOutcome { wrong, broken, margin: 0.0, loss: 0.0, forward: 0, backward: 0 };
        let near = vec![sample(false, false), sample(true, true), sample(false, true)];
        let far = vec![sample(false, true), sample(true, true), sample(false, true)];
        let all = count(&[near.clone(), far.clone()], |_| true);
        assert_eq!(all, Counts { n: 3, clean: 2, robust: vec![1, 0] });
        let last = count(&[near, far], |i| i == 2);
        assert_eq!(last, Counts { n: 1, clean: 1, robust: vec![0, 0] });
        assert_eq!((all.clean_accuracy(), all.robust_accuracy(0)), (2.0 / 3.0, 1.0 / 3.0));
    }
}
