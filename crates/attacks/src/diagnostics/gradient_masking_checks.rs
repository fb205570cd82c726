//! Gradient-masking checks: a few attacks that gather the signs of masked gradients.

use crate::classifier::{LabelLoss, classify, margins};
use crate::diagnostics::gradient_masking::{self as masking, Finding, Sign};
use crate::driver::{Flags, Limits, Problem, Query};
use crate::minimal_norm::Classifier;
use crate::pgd::{Pgd, Start};
use crate::threat::{Norm, Threat};
use serde::{Deserialize, Serialize};
use std::cell::RefCell;
use std::ops::Range;
use tarrl_tensor::{Key, Tensor, math};

/// What [`gradient_masking_checks`] runs.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GradientMaskingChecks {
    /// The attack that is checked with the model.
    pub pgd: Pgd,
    /// How often the radius is doubled on the way to the whole box.
    pub doublings: u32,
    /// Passes of the model over the same inputs.
    pub passes: usize,
    /// Random neighbors at which losses are compared.
    pub neighbors: usize,
    /// Samples in memory at a time.
    pub batch: usize,
}

/// PGD-20 at the radius and three times twice as much, five passes, twenty neighbors.
impl Default for GradientMaskingChecks {
    fn default() -> Self {
        GradientMaskingChecks { pgd: Pgd::default(), doublings: 3, passes: 5, neighbors: 20, batch: 256 }
    }
}

/// Signs that attacks on `classifier` fail because gradients are masked around `x` `(n, …)`.
///
/// Runs the given attack on both losses, again with twice its steps, at growing radii up to one from
/// which, in l-infinity and l2, the whole box is reached, as a single step, and as random points of as
/// many passes. Findings name rows of `x`; an empty list is no proof.
///
/// # Panics
/// If there are not as many labels and keys as samples, the radius or a batch is zero, inputs have no range, or
/// `k < 2`.
#[track_caller]
pub fn gradient_masking_checks(
    classifier: Classifier<'_>,
    x: &Tensor,
    threat: &Threat,
    config: &GradientMaskingChecks,
    keys: &[Key],
) -> Vec<Finding> {
    assert!(
        threat.epsilon > 0.0 && config.batch > 0,
        "gradient masking checks: a radius and a batch are more than zero"
    );
    let pgd = Pgd { early_stop: true, include_clean: true, ..config.pgd };
    let attacks = Attacks { classifier, x, keys, pgd, batch: config.batch };
    let passes: Vec<Tensor> = (0..config.passes).map(|_| attacks.logits(x)).collect();
    let clean = attacks.logits(x);
    let mut findings: Vec<Finding> = Vec::new();
    findings.extend(masking::random_model(&passes));
    findings.extend(masking::probabilities(&clean));
    let clean_margins = margins(&clean, classifier.labels).array().to_f64();
    findings.extend(masking::saturation(&clean_margins));
    findings.extend(attacks.unstable(threat, &clean, config.neighbors));

    let attacked = attacks.run(threat, LabelLoss::CrossEntropy, &attacks.pgd);
    let broken = attacked.broken;
    findings.extend(masking::dead_gradient(&attacked.flags, &broken));
    findings.extend(masking::unfinished_ascent(&unbroken(attacked.ascents, &broken)));
    let other = attacks.run(threat, LabelLoss::Margin, &attacks.pgd).broken;
    findings.extend(masking::losses_disagree(&broken, &other));
    let single = Pgd { steps: 1, step_size: threat.epsilon, start: Start::Clean, restarts: 1, ..attacks.pgd };
    let single = attacks.run(threat, LabelLoss::CrossEntropy, &single).broken;
    findings.extend(masking::weaker_wins(Sign::SingleStepWins, &single, &broken));
    let points = attacks.pgd.restarts * (2 * attacks.pgd.steps + 1);
    let blind = Pgd { steps: 0, restarts: points, start: Start::Random, ..attacks.pgd };
    let blind = attacks.run(threat, LabelLoss::CrossEntropy, &blind).broken;
    findings.extend(masking::weaker_wins(Sign::BlackBoxWins, &blind, &broken));
    let longer = Pgd { steps: 2 * attacks.pgd.steps, ..attacks.pgd };
    let longer = attacks.run(threat, LabelLoss::CrossEntropy, &longer).broken;
    findings.extend(masking::more_steps(&broken, &longer));

    let mut curve = vec![(threat.epsilon, broken)];
    for epsilon in attacks.radii(threat, config.doublings) {
        let wide = Threat { epsilon, ..*threat };
        let step_size = attacks.pgd.step_size * epsilon / threat.epsilon;
        let pgd = Pgd { step_size, ..attacks.pgd };
        curve.push((epsilon, attacks.run(&wide, LabelLoss::CrossEntropy, &pgd).broken));
    }
    // Where every input can be reached, no prediction but a constant one survives.
    let k = clean.shape()[1] as f64;
    findings.extend(masking::curve(&curve, 1.0 / k));
    findings
}

struct Attacks<'a> {
    classifier: Classifier<'a>,
    x: &'a Tensor,
    keys: &'a [Key],
    pgd: Pgd,
    batch: usize,
}

/// What an attack showed, sample by sample.
#[derive(Default)]
struct Ran {
    broken: Vec<bool>,
    flags: Vec<Flags>,
    /// The losses along the first ascent.
    ascents: Vec<Vec<f64>>,
}

impl Attacks<'_> {
    fn run(&self, threat: &Threat, loss: LabelLoss, pgd: &Pgd) -> Ran {
        let mut ran = Ran::default();
        for rows in self.batches() {
            let evaluate = classify(self.classifier.logits, &self.classifier.labels[rows.clone()], loss);
            let ascents = RefCell::new(vec![Vec::new(); rows.len()]);
            let recorded = |u: &Tensor, query: Query<'_>| {
                let seen = evaluate(u, query);
                let mut ascents = ascents.borrow_mut();
                for ((&row, &pass), value) in
                    query.rows.iter().zip(query.passes).zip(seen.value.array().to_f64())
                {
                    if pgd.first_ascent().contains(&pass) {
                        ascents[row].push(value);
                    }
                }
                seen
            };
            let limits = Limits { early_stop: pgd.early_stop, ..Limits::default() };
            let ball = threat.around(&self.x.slice(0, rows.start, rows.len()));
            let found = pgd.run(&Problem::new(ball, &recorded, &self.keys[rows], limits));
            ran.broken.extend(found.success());
            ran.flags.extend(found.flags);
            ran.ascents.extend(ascents.into_inner());
        }
        ran
    }

    fn batches(&self) -> impl Iterator<Item = Range<usize>> {
        let (n, batch) = (self.keys.len(), self.batch);
        (0..n).step_by(batch).map(move |from| from..(from + batch).min(n))
    }

    /// `(n, k)` of points `(n, …)`.
    fn logits(&self, points: &Tensor) -> Tensor {
        let part =
            |rows: Range<usize>| (self.classifier.logits)(&points.slice(0, rows.start, rows.len())).detach();
        let parts: Vec<Tensor> = self.batches().map(part).collect();
        Tensor::concat(&parts.iter().collect::<Vec<_>>(), 0)
    }

    /// The doubled radii below that of the box, and that of the box.
    fn radii(&self, threat: &Threat, doublings: u32) -> Vec<f64> {
        let (lo, hi) = threat.bounds.expect("the checks go to the end of a box");
        let d = (self.x.shape().len() / self.x.shape()[0].max(1)) as f64;
        let whole = match threat.norm {
            Norm::Linf => hi - lo,
            Norm::L2 => (hi - lo) * d.sqrt(),
            Norm::L1 => (hi - lo) * d,
            Norm::L0 => d,
        };
        let doubled = (1..=doublings).map(|i| threat.epsilon * math::exp2(f64::from(i)));
        let mut radii: Vec<f64> = doubled.filter(|&r| r > threat.epsilon && r < whole).collect();
        if whole > threat.epsilon {
            radii.push(whole);
        }
        radii
    }

    fn unstable(&self, threat: &Threat, clean: &Tensor, neighbors: usize) -> Option<Finding> {
        let loss = |z: &Tensor| LabelLoss::CrossEntropy.of(z, self.classifier.labels).array().to_f64();
        let ball = threat.around(self.x);
        let near = |i: usize| {
            let keys: Vec<Key> = self.keys.iter().map(|key| key.fold("neighbour").fold(i)).collect();
            loss(&self.logits(&ball.start(&keys)))
        };
        masking::unstable_loss(&loss(clean), &(0..neighbors).map(near).collect::<Vec<_>>())
    }
}

/// The ascents of the samples that were not broken; of the others nothing.
fn unbroken(ascents: Vec<Vec<f64>>, broken: &[bool]) -> Vec<Vec<f64>> {
    let kept = |(ascent, broken): (Vec<f64>, &bool)| if *broken { Vec::new() } else { ascent };
    ascents.into_iter().zip(broken).map(kept).collect()
}
