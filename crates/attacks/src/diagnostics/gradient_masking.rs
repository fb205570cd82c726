//! Gradient masking: signs that a robust accuracy is not what it seems, with the samples and the numbers.
//!
//! An attack that fails because gradients are hidden looks like a robust model. The signs are those of Athalye
//! et al. (2018), Carlini et al. (2019), the flags of AutoAttack (Croce & Hein 2020) and the indicators
//! of attack failure of Pintor et al. (2022). All functions are pure: facts in, findings out.
//! [`gradient_masking_checks`](super::gradient_masking_checks()) gathers the facts with a few attacks; those of
//! [`dead_gradient`] and [`square_wins`] come with any finished attack.

use crate::autoattack::AttackSpec;
use crate::driver::{Flags, Origin};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use tarrl_tensor::Tensor;

/// What was noticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Sign {
    /// Repeated passes of the same inputs differ: use expectation over transformation.
    RandomModel,
    /// The logits are probabilities: losses on them saturate.
    ProbabilitiesAsLogits,
    /// Gradients were zero or no numbers where an attack needed them.
    DeadGradient,
    /// Margins are so large that softmax probabilities round to one.
    Saturation,
    /// The loss jumps between neighboring points.
    UnstableLoss,
    /// One step broke samples that many steps did not.
    SingleStepWins,
    /// An attack without gradients broke samples that one with gradients did not.
    BlackBoxWins,
    /// Twice the steps broke notably more.
    MoreStepsHelp,
    /// The loss was still rising when the attack ended.
    UnfinishedAscent,
    /// Two losses broke very different samples.
    LossesDisagree,
    /// A sample broken at some radius was not broken at a larger one.
    NotMonotone,
    /// At the largest radius the accuracy is above chance.
    AboveChance,
    /// Adversarial examples that exist by construction were not found.
    MissesKnownExamples,
}

/// A sign that was seen.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    /// What was noticed.
    pub sign: Sign,
    /// Whether the accuracy is inconclusive while this stands.
    pub blocking: bool,
    /// The rows of the batch that show it.
    pub samples: Vec<usize>,
    /// The numbers behind it, by name.
    pub numbers: BTreeMap<String, f64>,
}

impl Sign {
    /// What it means and what to do.
    pub fn advice(self) -> &'static str {
        match self {
            Sign::RandomModel => "passes of the same inputs differ; attack it with draws (EOT)",
            Sign::ProbabilitiesAsLogits => {
                "the logits are probabilities; give the attack what is before the softmax"
            }
            Sign::DeadGradient => "gradients are zero or no numbers; use a scale-free loss or another start",
            Sign::Saturation => "cross-entropy is saturated; use a margin loss",
            Sign::UnstableLoss => "the loss jumps between neighbors; gradients say little of it",
            Sign::SingleStepWins => {
                "one step breaks what many steps do not; the step size is wrong or gradients lie"
            }
            Sign::BlackBoxWins => {
                "an attack without gradients breaks what gradients do not; gradients are masked"
            }
            Sign::MoreStepsHelp => "more steps break more; the attack has not converged",
            Sign::UnfinishedAscent => "the loss was still rising at the end; take more steps",
            Sign::LossesDisagree => "two losses break different samples; report their union",
            Sign::NotMonotone => {
                "samples broken at a small radius survive a larger one; the search fails there"
            }
            Sign::AboveChance => {
                "the largest radius leaves accuracy above chance; the attack cannot find what is there"
            }
            Sign::MissesKnownExamples => {
                "the attack misses adversarial examples that are known to exist; it is too weak for this model"
            }
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let of = self.numbers.get("of").copied().unwrap_or(0.0);
        write!(f, "{} of {of} samples: {}", self.samples.len(), self.sign.advice())
    }
}

/// Whether nothing blocking was found.
pub fn is_conclusive(findings: &[Finding]) -> bool {
    findings.iter().all(|finding| !finding.blocking)
}

/// Logits `(n, k)` of several passes over the same inputs: blocking if rows, scaled to length one,
/// are more than 1e-4 apart in any two of them.
///
/// # Panics
/// If the shapes differ.
#[track_caller]
pub fn random_model(passes: &[Tensor]) -> Option<Finding> {
    let rows: Vec<Vec<Vec<f64>>> = passes.iter().map(unit_rows).collect();
    let n = rows.first().map_or(0, Vec::len);
    assert!(rows.iter().all(|r| r.len() == n), "random_model: passes of different batches");
    let apart = |i: usize| {
        let pairs = rows
            .iter()
            .enumerate()
            .flat_map(|(a, first)| rows[..a].iter().map(move |second| (first, second)));
        pairs.map(|(a, b)| distance(&a[i], &b[i])).fold(0.0, f64::max)
    };
    let gaps: Vec<f64> = (0..n).map(apart).collect();
    let samples = which(n, |i| gaps[i] > 1e-4 || gaps[i].is_nan());
    let largest = gaps.iter().copied().fold(0.0, f64::max);
    report(Sign::RandomModel, true, n, samples, &[("largest-gap", largest)])
}

/// Logits `(n, k)` that all look like probabilities: between 0 and 1 and of sum 1, to 1e-5. Blocking.
pub fn probabilities(logits: &Tensor) -> Option<Finding> {
    let k = logits.shape()[1].max(1);
    let values = logits.array().to_f64();
    let n = values.len() / k;
    let all = values.chunks(k).all(|z| {
        let inside = z.iter().all(|v| (-1e-5..1.0 + 1e-5).contains(v));
        inside && (z.iter().sum::<f64>() - 1.0).abs() < 1e-5
    });
    let samples = which(n, |_| all);
    report(Sign::ProbabilitiesAsLogits, true, n, samples, &[])
}

/// The flags `(n)` of an attack and what it broke `(n)`: samples whose gradient was zero or no number, or whose value
/// was no number, and that it did not break. Blocking if they are more than a hundredth.
pub fn dead_gradient(flags: &[Flags], broken: &[bool]) -> Option<Finding> {
    let n = flags.len();
    let samples = which(n, |i| {
        let flags = flags[i];
        !broken[i] && (flags.zero_gradient || flags.bad_gradient || flags.nan_value)
    });
    let share = samples.len() as f64 / n.max(1) as f64;
    report(Sign::DeadGradient, share > 0.01, n, samples, &[("share", share)])
}

/// Samples whose clean margin `(n)` is beyond 16.6, where the f32 cross-entropy of two classes, taken as a
/// logarithm of a sum, is exactly zero. Losses here do not round that way; others may.
pub fn saturation(margins: &[f64]) -> Option<Finding> {
    let samples = which(margins.len(), |i| margins[i] > 16.6);
    let largest = margins.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    report(Sign::Saturation, false, margins.len(), samples, &[("largest-margin", largest)])
}

/// Losses at the inputs `(n)` and at random neighbors of each, several of `(n)`: samples whose mean relative
/// change, each at most 1, is above a tenth.
pub fn unstable_loss(clean: &[f64], neighbors: &[Vec<f64>]) -> Option<Finding> {
    let change = |i: usize| {
        let relative = |loss: f64| {
            let (change, size) = ((loss - clean[i]).abs(), clean[i].abs());
            if size > 0.0 { (change / size).min(1.0) } else { change.min(1.0) }
        };
        neighbors.iter().map(|losses| relative(losses[i])).sum::<f64>() / neighbors.len().max(1) as f64
    };
    let samples = which(clean.len(), |i| change(i) > 0.1);
    let mean = (0..clean.len()).map(change).sum::<f64>() / clean.len().max(1) as f64;
    report(Sign::UnstableLoss, false, clean.len(), samples, &[("mean-change", mean)])
}

/// What an attack that ought to be the weaker one broke, and what the stronger one did, row by row: blocking if
/// more than 2 in 1000 samples fell to the weaker alone.
pub fn weaker_wins(sign: Sign, weaker: &[bool], stronger: &[bool]) -> Option<Finding> {
    let n = weaker.len();
    let samples = which(n, |i| weaker[i] && !stronger[i]);
    let blocking = samples.len() as f64 > 0.002 * n as f64;
    report(sign, blocking, n, samples, &[("weaker", accuracy(weaker)), ("stronger", accuracy(stronger))])
}

/// The attacks of a suite, and what broke each of its samples `(n)`: those that fell to Square, which takes no
/// gradient, after attacks that take some had failed. Blocking if they are more than 2 in 1000, as AutoAttack
/// warns of it.
pub fn square_wins(parts: &[AttackSpec], origin: &[Option<Origin>]) -> Option<Finding> {
    let square =
        parts.iter().position(|part| matches!(part, AttackSpec::Square { .. })).filter(|&at| at > 0)?;
    let name = parts[square].name();
    let samples = which(origin.len(), |i| origin[i].as_ref().is_some_and(|origin| origin.attack == name));
    let share = samples.len() as f64 / origin.len().max(1) as f64;
    report(Sign::BlackBoxWins, share > 0.002, origin.len(), samples, &[("share", share)])
}

/// What an attack broke, and what it did with more steps or restarts: blocking if the accuracy falls by more
/// than half a point.
pub fn more_steps(short: &[bool], long: &[bool]) -> Option<Finding> {
    let (n, count) = (short.len(), |broken: &[bool]| broken.iter().filter(|b| **b).count() as f64);
    if count(long) - count(short) <= 0.005 * n as f64 {
        return None;
    }
    let samples = which(n, |i| long[i] && !short[i]);
    report(
        Sign::MoreStepsHelp,
        true,
        n,
        samples,
        &[("accuracy", accuracy(short)), ("with-more", accuracy(long))],
    )
}

/// What two losses broke: more than a twentieth of the samples fell to one alone.
pub fn losses_disagree(first: &[bool], second: &[bool]) -> Option<Finding> {
    let n = first.len();
    let samples = which(n, |i| first[i] != second[i]);
    if samples.len() as f64 <= 0.05 * n as f64 {
        return None;
    }
    report(
        Sign::LossesDisagree,
        false,
        n,
        samples,
        &[("first", accuracy(first)), ("second", accuracy(second))],
    )
}

/// The losses of unbroken samples along an ascent, one history each, empty for others: those whose largest so far,
/// scaled to [0, 1], rises by more than 0.05 over the last quarter of at least four steps.
pub fn unfinished_ascent(histories: &[Vec<f64>]) -> Option<Finding> {
    let rises = |history: &Vec<f64>| {
        let best = |until: usize| history[..until].iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let (n, quarter) = (history.len(), history.len().saturating_sub(1) / 4);
        let range = best(n) - history.first().copied().unwrap_or(0.0);
        quarter > 0 && range > 0.0 && (best(n) - best(n - quarter)) / range > 0.05
    };
    let samples = which(histories.len(), |i| rises(&histories[i]));
    report(Sign::UnfinishedAscent, false, histories.len(), samples, &[])
}

/// What was broken at growing radii, and the accuracy of guessing. A sample that a larger radius does not break
/// though a smaller one did is a failure of the search, as the smaller ball lies in the larger.
/// An accuracy above chance at a radius from which every input can be reached blocks.
///
/// # Panics
/// If the radii do not grow.
#[track_caller]
pub fn curve(broken: &[(f64, Vec<bool>)], chance: f64) -> Vec<Finding> {
    assert!(broken.windows(2).all(|w| w[0].0 < w[1].0), "curve: the radii do not grow");
    let n = broken.first().map_or(0, |(_, broken)| broken.len());
    let lost = which(n, |i| broken.windows(2).any(|pair| pair[0].1[i] && !pair[1].1[i]));
    let blocking = lost.len() as f64 > 0.002 * n as f64;
    let mut findings: Vec<Finding> = report(Sign::NotMonotone, blocking, n, lost, &[]).into_iter().collect();
    if let Some((epsilon, broken)) = broken.last() {
        let left = accuracy(broken);
        if left > chance {
            let survivors = which(n, |i| !broken[i]);
            let numbers = [("epsilon", *epsilon), ("accuracy", left), ("chance", chance)];
            findings.extend(report(Sign::AboveChance, true, n, survivors, &numbers));
        }
    }
    findings
}

fn which(n: usize, is: impl Fn(usize) -> bool) -> Vec<usize> {
    (0..n).filter(|&i| is(i)).collect()
}

fn accuracy(broken: &[bool]) -> f64 {
    broken.iter().filter(|b| !**b).count() as f64 / broken.len().max(1) as f64
}

fn report(
    sign: Sign,
    blocking: bool,
    of: usize,
    samples: Vec<usize>,
    numbers: &[(&str, f64)],
) -> Option<Finding> {
    let all =
        numbers.iter().chain(&[("of", of as f64)]).map(|&(name, value)| (name.to_owned(), value)).collect();
    (!samples.is_empty()).then_some(Finding { sign, blocking, samples, numbers: all })
}

#[track_caller]
fn unit_rows(logits: &Tensor) -> Vec<Vec<f64>> {
    let &[_, k] = &logits.shape()[..] else { panic!("logits are (n, k), not {:?}", logits.shape()) };
    let unit = |z: &[f64]| {
        let length = z.iter().map(|v| v * v).sum::<f64>().sqrt() + 1e-10;
        z.iter().map(|v| v / length).collect()
    };
    logits.array().to_f64().chunks(k).map(unit).collect()
}

fn distance(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum::<f64>().sqrt()
}
