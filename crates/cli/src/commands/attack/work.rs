//! The attack itself, from wherever an interrupted one stopped.

use anyhow::Context;
use serde::{Deserialize, Serialize};
use tarrl_attacks::{
    Ball, Classifier, Flags, LabelLoss, Limits, Origin, Outcome, Problem, SuiteOutcome, SuiteRun, classify,
};
use tarrl_tensor::{Key, Tensor};

use super::feature::representations;
use super::kind::{Plan, Single};
use super::saved::{Notebook, Progress};

/// Rounds of a suite between two looks at the clock.
const ROUNDS: u64 = 16;

/// What became of an image.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
pub(super) struct Row {
    /// Whether it was broken in the ball.
    pub(super) broken: bool,
    /// z_y − max_{i≠y} z_i at the misclassified point of least margin, or at the point of least margin; absent if it
    /// is no number.
    pub(super) margin: Option<f64>,
    /// How far the nearest mistake is that was found, in the ball or beyond, for attacks that look for it.
    pub(super) distance: Option<f64>,
    /// What broke it first.
    pub(super) origin: Option<Origin>,
    pub(super) forward: u32,
    pub(super) backward: u32,
    pub(super) flags: Flags,
}

/// A batch of images under attack.
pub(super) struct Work<'a> {
    pub(super) plan: &'a Plan,
    pub(super) ball: Ball,
    pub(super) labels: &'a [u32],
    pub(super) keys: &'a [Key],
    /// Images to representations.
    pub(super) encode: &'a dyn Fn(&Tensor) -> Tensor,
    /// Representations to logits.
    pub(super) classify: &'a dyn Fn(&Tensor) -> Tensor,
    /// Images in memory at a time.
    pub(super) batch: usize,
}

impl Work<'_> {
    /// Runs it to its end; `watch` is told how many images are finished and broken.
    ///
    /// # Errors
    /// If the state cannot be written, or is of another attack.
    pub(super) fn run(
        &self,
        from: Option<Progress>,
        mut notes: Option<&mut Notebook>,
        watch: &mut dyn FnMut(usize, usize),
    ) -> anyhow::Result<Vec<Row>> {
        match (self.plan, from) {
            (Plan::Suite(..), Some(Progress::Rows(_))) | (Plan::Batches(_), Some(Progress::Suite(_))) => {
                anyhow::bail!("the state is of another kind of attack; remove it to start anew")
            }
            (Plan::Suite(parts, config), from) => {
                let ball = self.ball.clone();
                let mut run = match from {
                    Some(Progress::Suite(state)) => {
                        SuiteRun::resume(ball, self.labels, self.keys, parts.clone(), *config, &state)
                            .context("remove the state to start anew")?
                    }
                    _ => SuiteRun::new(ball, self.labels, self.keys, parts.clone(), *config),
                };
                let mut rounds = 0u64;
                while run.round(&|u, _| self.logits(u)) {
                    rounds += 1;
                    if rounds.is_multiple_of(ROUNDS) {
                        let now = run.progress();
                        watch(now.finished, now.broken);
                        if let Some(notes) = &mut notes {
                            notes.note(|| Progress::Suite(run.state()))?;
                        }
                    }
                }
                Ok(of_suite(&run.finish()))
            }
            (Plan::Batches(single), from) => {
                let mut rows = match from {
                    Some(Progress::Rows(rows)) => rows,
                    _ => Vec::new(),
                };
                let clean = matches!(single, Single::Feature(..)).then(|| representations(self));
                while rows.len() < self.labels.len() {
                    let of = rows.len()..(rows.len() + self.batch).min(self.labels.len());
                    rows.extend(match (single, &clean) {
                        (Single::Feature(goal, config), Some(clean)) => goal.run(config, self, clean, of),
                        _ => self.one_batch(single, of),
                    });
                    watch(rows.len(), rows.iter().filter(|row| row.broken).count());
                    if let Some(notes) = &mut notes {
                        notes.note(|| Progress::Rows(rows.clone()))?;
                    }
                }
                Ok(rows)
            }
        }
    }

    /// The state before the first look.
    pub(super) fn nothing_yet(&self) -> Progress {
        match self.plan {
            Plan::Suite(parts, config) => {
                let run = SuiteRun::new(self.ball.clone(), self.labels, self.keys, parts.clone(), *config);
                Progress::Suite(run.state())
            }
            Plan::Batches(_) => Progress::Rows(Vec::new()),
        }
    }

    /// Images to logits.
    pub(super) fn logits(&self, u: &Tensor) -> Tensor {
        (self.classify)(&(self.encode)(u))
    }

    fn one_batch(&self, single: &Single, of: std::ops::Range<usize>) -> Vec<Row> {
        let ball = self.ball.keep(&of.clone().collect::<Vec<_>>());
        let (labels, keys) = (&self.labels[of.clone()], &self.keys[of]);
        let logits = |u: &Tensor| self.logits(u);
        let target = Classifier { logits: &logits, labels };
        let limits = Limits::default();
        match single {
            Single::Pgd(config) => {
                let evaluate = classify(&logits, labels, LabelLoss::CrossEntropy);
                let limits = Limits { early_stop: config.early_stop, ..limits };
                of_outcome(&config.run(&Problem::new(ball, &evaluate, keys, limits)), false)
            }
            Single::CarliniWagner(config) => of_outcome(&config.run(target, &ball, limits), true),
            Single::DeepFool(config) => of_outcome(&config.run(target, &ball, limits), true),
            Single::HopSkipJump(config) => of_outcome(&config.run(target, &ball, keys, limits), true),
            Single::Feature(..) => unreachable!("it goes its own way"),
        }
    }
}

fn of_suite(found: &SuiteOutcome) -> Vec<Row> {
    let row = |i: usize| Row {
        broken: found.success[i],
        margin: finite(found.margin[i]),
        distance: None,
        origin: found.origin[i].clone(),
        forward: found.forward[i],
        backward: found.backward[i],
        flags: found.flags[i],
    };
    (0..found.success.len()).map(row).collect()
}

/// `nearest`: values are negative distances of mistakes. A mistake at the image itself came before the attack.
pub(super) fn of_outcome(found: &Outcome, nearest: bool) -> Vec<Row> {
    let (success, distances) = (found.success(), found.distances());
    let row = |i: usize| {
        let mut origin = found.origin[i].clone();
        if let Some(origin) = origin.as_mut().filter(|_| nearest && distances[i] == 0.0) {
            *origin = Origin { attack: "clean".to_owned(), ..Origin::default() };
        }
        Row {
            broken: success[i],
            margin: found.closest.as_ref().and_then(|closest| finite(closest.verdict[i].margin)),
            distance: if nearest { finite(distances[i]) } else { None },
            origin,
            forward: found.forward[i],
            backward: found.backward[i],
            flags: found.flags[i],
        }
    };
    (0..success.len()).map(row).collect()
}

fn finite(value: f64) -> Option<f64> {
    value.is_finite().then_some(value)
}
