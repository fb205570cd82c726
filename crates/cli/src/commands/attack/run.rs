//! Execution of an attack plan, from wherever an interrupted run stopped.

use std::ops::Range;

use anyhow::Context;
use tarrl_attacks::{AttackSpec, Classifier, LabelLoss, Limits, Problem, RunConfig, SuiteRun, classify};
use tarrl_jobs::Stop;
use tarrl_nearest::{Nearest, NearestRun, with_scores};
use tarrl_tensor::Tensor;

use super::feature;
use super::outcome::{of_nearest, of_outcome, of_suite};
use super::plan::{Plan, Single};
use super::state::StateFile;
use super::target::Target;
use tarrl_study::attack_state::{AttackProgress, BatchProgress, ImageOutcome};

/// Rounds of a suite between two reports of progress.
const ROUNDS: u64 = 16;

/// What an attack found.
pub(crate) struct Found {
    /// The outcome of each image.
    pub(crate) images: Vec<ImageOutcome>,
    /// The points of a suite, in the shape of the images: misclassified ones where the image is broken, else those of least
    /// margin.
    pub(crate) points: Option<Tensor>,
}

impl From<Vec<ImageOutcome>> for Found {
    fn from(images: Vec<ImageOutcome>) -> Self {
        Found { images, points: None }
    }
}

/// Runs `plan` to its end; `watch` is told how many images are finished and broken.
///
/// # Errors
/// If the state cannot be written, or belongs to another attack, or there was a reason to stop; the state is then saved.
pub(crate) fn run(
    plan: &Plan,
    target: &Target<'_>,
    from: Option<AttackProgress>,
    state: Option<&mut StateFile>,
    stop: &Stop,
    watch: &mut dyn FnMut(usize, usize),
) -> anyhow::Result<Found> {
    match (plan, from) {
        (Plan::Suite(..), Some(AttackProgress::Images(_) | AttackProgress::Nearest(..)))
        | (Plan::Batches(_), Some(AttackProgress::Suite(_) | AttackProgress::Nearest(..)))
        | (Plan::Nearest(..), Some(AttackProgress::Suite(_) | AttackProgress::Images(_))) => {
            anyhow::bail!("the state is of another kind of attack; remove it to start anew")
        }
        (Plan::Suite(parts, config), from) => {
            let run = match from {
                Some(AttackProgress::Suite(suite)) => {
                    let ball = target.ball.clone();
                    SuiteRun::resume(
                        ball,
                        target.labels,
                        target.keys,
                        parts.clone(),
                        *config,
                        target.classes,
                        &suite,
                    )
                    .context("remove the state to start anew")?
                }
                _ => start(parts, *config, target),
            };
            let is_fab =
                |part: &AttackSpec| matches!(part, AttackSpec::Fab { .. } | AttackSpec::FabTargeted { .. });
            run_suite(run, target, parts.iter().all(is_fab), state, stop, watch)
        }
        (Plan::Batches(single), from) => {
            let finished = match from {
                Some(AttackProgress::Images(images)) => images,
                _ => Vec::new(),
            };
            let (images, all) = (finished.len(), target.labels.len());
            anyhow::ensure!(
                images <= all,
                "the state is of {images} of {all} images; remove it to start anew"
            );
            Ok(run_batches(single, target, finished, state, stop, watch)?.into())
        }
        (Plan::Nearest(nearest, name), from) => {
            let (finished, batch) = match from {
                Some(AttackProgress::Nearest(finished, batch)) => (finished, batch),
                _ => (Vec::new(), None),
            };
            Ok(run_nearest(nearest, name, target, (finished, batch), state, stop, watch)?.into())
        }
    }
}

/// The state of a plan before its first evaluation.
pub(crate) fn initial(plan: &Plan, target: &Target<'_>) -> AttackProgress {
    match plan {
        Plan::Suite(parts, config) => AttackProgress::Suite(start(parts, *config, target).state()),
        Plan::Batches(_) => AttackProgress::Images(Vec::new()),
        Plan::Nearest(..) => AttackProgress::Nearest(Vec::new(), None),
    }
}

fn start(parts: &[AttackSpec], config: RunConfig, target: &Target<'_>) -> SuiteRun {
    SuiteRun::new(target.ball.clone(), target.labels, target.keys, parts.to_vec(), config)
}

/// Attack after attack, sample by sample. `nearest`: they minimize the distance.
fn run_suite(
    mut run: SuiteRun,
    target: &Target<'_>,
    nearest: bool,
    mut state: Option<&mut StateFile>,
    stop: &Stop,
    watch: &mut dyn FnMut(usize, usize),
) -> anyhow::Result<Found> {
    let mut rounds = 0u64;
    while run.round(&|u, _| target.logits(u)) {
        rounds += 1;
        if let Some(reason) = stop.reason() {
            if let Some(state) = &mut state {
                state.save(AttackProgress::Suite(run.state()))?;
            }
            return Err(reason.into());
        }
        if rounds.is_multiple_of(ROUNDS) {
            let now = run.progress();
            watch(now.finished, now.broken);
            if let Some(state) = &mut state {
                state.save_if_due(|| AttackProgress::Suite(run.state()))?;
            }
        }
    }
    let found = run.finish();
    Ok(Found { images: of_suite(&found, nearest), points: Some(found.adversarial) })
}

/// One attack, batch by batch.
fn run_batches(
    single: &Single,
    target: &Target<'_>,
    mut finished: Vec<ImageOutcome>,
    mut state: Option<&mut StateFile>,
    stop: &Stop,
    watch: &mut dyn FnMut(usize, usize),
) -> anyhow::Result<Vec<ImageOutcome>> {
    let clean = matches!(single, Single::Feature(..)).then(|| target.representations());
    while finished.len() < target.labels.len() {
        let of = finished.len()..(finished.len() + target.batch).min(target.labels.len());
        finished.extend(match (single, &clean) {
            (Single::Feature(goal, config), Some(clean)) => feature::run(*goal, config, target, clean, of),
            _ => one_batch(single, target, of),
        });
        watch(finished.len(), finished.iter().filter(|image| image.broken).count());
        if let Some(reason) = stop.reason().filter(|_| finished.len() < target.labels.len()) {
            if let Some(state) = &mut state {
                state.save(AttackProgress::Images(finished))?;
            }
            return Err(reason.into());
        }
        if let Some(state) = &mut state {
            state.save_if_due(|| AttackProgress::Images(finished.clone()))?;
        }
    }
    Ok(finished)
}

/// A minimum-norm attack, batch by batch; it is resumed in the middle of a batch.
fn run_nearest(
    plan: &Nearest,
    name: &str,
    target: &Target<'_>,
    (mut finished, mut interrupted): (Vec<ImageOutcome>, Option<Box<BatchProgress>>),
    mut state: Option<&mut StateFile>,
    stop: &Stop,
    watch: &mut dyn FnMut(usize, usize),
) -> anyhow::Result<Vec<ImageOutcome>> {
    let all = target.labels.len();
    while finished.len() < all {
        // An interrupted batch stays as large as it was.
        let images = interrupted.as_ref().map_or(target.batch, |batch| batch.images);
        anyhow::ensure!(images > 0, "the state has a batch of no image; remove it to start anew");
        let of = finished.len()..(finished.len() + images).min(all);
        let ball = target.ball.keep(&of.clone().collect::<Vec<_>>());
        let (labels, keys) = (&target.labels[of.clone()], &target.keys[of.clone()]);
        let scores = |u: &Tensor, _: &[usize]| target.logits(u);
        let found = with_scores(&scores, labels, &ball, keys, target.limits, |nearest| {
            let mut run = NearestRun::new(plan.clone(), nearest);
            if let Some(batch) = interrupted.take() {
                run = run.resume(&batch.state).context("remove the state to start anew")?;
            }
            let mut rounds = 0u64;
            while run.step() {
                rounds += 1;
                if let Some(reason) = stop.reason() {
                    if let Some(state) = &mut state {
                        let batch = BatchProgress { images: of.len(), state: run.state() };
                        state.save(AttackProgress::Nearest(finished.clone(), Some(Box::new(batch))))?;
                    }
                    return Err(reason.into());
                }
                if rounds.is_multiple_of(ROUNDS) {
                    let broken = finished.iter().filter(|image| image.broken).count();
                    watch(finished.len() + run.finished(), broken);
                    if let Some(state) = &mut state {
                        let batch = || Box::new(BatchProgress { images: of.len(), state: run.state() });
                        state.save_if_due(|| AttackProgress::Nearest(finished.clone(), Some(batch())))?;
                    }
                }
            }
            anyhow::Ok(of_nearest(&run.finish(), name))
        })?;
        finished.extend(found);
        watch(finished.len(), finished.iter().filter(|image| image.broken).count());
        if let Some(state) = &mut state {
            state.save_if_due(|| AttackProgress::Nearest(finished.clone(), None))?;
        }
    }
    anyhow::ensure!(
        finished.len() == all,
        "the state is of {} of {all} images; remove it to start anew",
        finished.len()
    );
    Ok(finished)
}

fn one_batch(single: &Single, target: &Target<'_>, of: Range<usize>) -> Vec<ImageOutcome> {
    let ball = target.ball.keep(&of.clone().collect::<Vec<_>>());
    let (labels, keys) = (&target.labels[of.clone()], &target.keys[of]);
    let logits = |u: &Tensor| target.logits(u);
    let classifier = Classifier { logits: &logits, labels };
    let limits = Limits::default();
    match single {
        Single::Pgd(config) => {
            let evaluate = classify(&logits, labels, LabelLoss::CrossEntropy);
            let limits = Limits { early_stop: config.early_stop, ..limits };
            of_outcome(&config.run(&Problem::new(ball, &evaluate, keys, limits)), false)
        }
        Single::CarliniWagner(config) => of_outcome(&config.run(classifier, &ball, limits), true),
        Single::DeepFool(config) => of_outcome(&config.run(classifier, &ball, limits), true),
        Single::HopSkipJump(config) => of_outcome(&config.run(classifier, &ball, keys, limits), true),
        Single::Feature(..) => unreachable!("`run_batches` runs it with the clean representations"),
    }
}
