//! Attacks through encoder and head together, radius by radius, and the search for masked gradients.

use std::rc::Rc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tarrl_attacks::Limits;
use tarrl_eval::DeviceHead;
use tarrl_jobs::{Job, JobContext, Key, Spec, Stage};
use tarrl_study::attack_state::ImageOutcome;
use tarrl_tensor::{DType, Key as Random, Tensor};

use super::clean::Clean;
use super::subject::Subject;
use crate::commands::attack::{Findings, Found, Kind, Plan, StateFile, Target, run};

const STAGE: Stage = Stage { kind: "attack", version: 1 };
const MASKING: Stage = Stage { kind: "masking", version: 1 };

/// Passes of an image at most in the search for its nearest mistake, forward and backward together.
pub(super) const PASSES: u32 = 2000;

/// The outcome of every attacked image at one radius.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) struct Attacked {
    pub(super) epsilon: f64,
    pub(super) images: Vec<ImageOutcome>,
    /// Signs of masked gradients in the attack itself, as `tarrl attack --json` has them.
    pub(super) findings: Value,
}

impl Attacked {
    /// Images that no attack broke.
    pub(super) fn robust(&self) -> usize {
        self.images.iter().filter(|image| !image.broken).count()
    }
}

/// An attack on the head of `clean` at a radius; images that `before` broke, at a smaller radius, stay broken.
pub(super) fn job(subject: &Rc<Subject>, kind: Kind, epsilon: f64, clean: Key, before: Option<Key>) -> Job {
    // Passes of an image that stays, as AutoAttack's and those of PGD.
    let passes = match kind {
        Kind::Pgd => 500.0,
        Kind::Nearest => f64::from(PASSES),
        _ => 4000.0,
    };
    let mut own = json!({"attack": kind.name(), "epsilon": epsilon, "images": subject.indices});
    if kind == Kind::Nearest {
        own["passes"] = json!(PASSES);
    }
    let spec = Spec {
        name: format!("{}, ε = {}", kind.name(), super::radius::radius(epsilon)),
        stage: STAGE,
        seed: subject.seed,
        config: subject.config(own),
        inputs: [Some(clean), before].into_iter().flatten().collect(),
        seconds: 5e-5 * passes * subject.indices.len() as f64,
    };
    let subject = subject.clone();
    Job::new(spec, move |context| {
        let clean: Clean = context.input(0).parse()?;
        let mut images = match before {
            Some(_) => context.input(1).parse::<Attacked>()?.images,
            None => vec![ImageOutcome::default(); subject.indices.len()],
        };
        let rows: Vec<usize> = (0..images.len()).filter(|&row| !images[row].broken).collect();
        let mut findings = Value::Null;
        if !rows.is_empty() {
            let plan = kind.plan(subject.norm, epsilon, subject.batch).map_err(anyhow::Error::msg)?;
            let (found, signs) = attack(&subject, &clean, &plan, (epsilon, &rows), context)?;
            findings = signs;
            for (&row, outcome) in rows.iter().zip(found) {
                images[row] = outcome;
            }
        }
        Ok(serde_json::to_value(Attacked { epsilon, images, findings })?)
    })
}

/// Runs a plan on some of the attacked images.
fn attack(
    subject: &Subject,
    clean: &Clean,
    plan: &Plan,
    (epsilon, rows): (f64, &[usize]),
    context: &JobContext<'_>,
) -> anyhow::Result<(Vec<ImageOutcome>, Value)> {
    let places: Vec<usize> = rows.iter().map(|&row| subject.indices[row]).collect();
    with_target(subject, clean, (epsilon, rows), matches!(plan, Plan::Nearest(..)), |target| {
        let about = json!({"epsilon": epsilon, "rows": rows});
        let about = about.as_object().cloned().unwrap_or_default();
        context.scratch("outcome.state");
        let mut state = StateFile::beside(&context.folder().join("outcome"), about, EVERY);
        let from = state.load()?;
        let total = rows.len() as u64;
        let Found { images, .. } =
            run(plan, target, from, Some(&mut state), context.stop(), &mut |finished, broken| {
                context.progress(finished as u64, total, &format!("{broken} broken"));
            })?;
        let findings = Findings::of(plan, &images).map_or(Value::Null, |found| found.report(&places));
        Ok((images, findings))
    })
}

/// Time between two states.
const EVERY: Duration = Duration::from_secs(20);

/// Encoder and head with some of the attacked images. The randomness of an image is that of `tarrl attack` with the same images.
fn with_target<T>(
    subject: &Subject,
    clean: &Clean,
    (epsilon, rows): (f64, &[usize]),
    nearest: bool,
    then: impl FnOnce(&Target<'_>) -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    let places: Vec<usize> = rows.iter().map(|&row| subject.indices[row]).collect();
    let (x, labels) = subject.images(&places);
    let head = DeviceHead::new(&clean.head.head(), &subject.device, DType::F32);
    let encode = |u: &Tensor| subject.encode(u);
    let classify = |z: &Tensor| head.forward(z);
    let key = Random::new(subject.seed).fold("attack");
    let keys: Vec<Random> = rows.iter().map(|&row| key.fold(row)).collect();
    then(&Target {
        ball: subject.threat(epsilon).around(&x),
        labels: &labels,
        classes: clean.head.k,
        keys: &keys,
        encode: &encode,
        classify: &classify,
        batch: subject.batch,
        // Other attacks have an end of their own.
        limits: Limits { budget: nearest.then_some(PASSES), ..Limits::default() },
    })
}

/// Images whose gradients are examined.
const EXAMINED: usize = 20;

/// A search for masked gradients at the largest radius, on the first images.
pub(super) fn masking(subject: &Rc<Subject>, clean: Key) -> Job {
    let rows: Vec<usize> = (0..subject.indices.len().min(EXAMINED)).collect();
    let epsilon = subject.radii.last().copied().expect("there is a radius");
    let spec = Spec {
        name: "masked gradients".to_owned(),
        stage: MASKING,
        seed: subject.seed,
        config: subject.config(json!({"epsilon": epsilon, "images": &subject.indices[..rows.len()]})),
        inputs: vec![clean],
        seconds: 5e-5 * 950.0 * rows.len() as f64,
    };
    let subject = subject.clone();
    Job::new(spec, move |context| {
        let clean: Clean = context.input(0).parse()?;
        let plan = Kind::Pgd.plan(subject.norm, epsilon, subject.batch).map_err(anyhow::Error::msg)?;
        with_target(&subject, &clean, (epsilon, &rows), false, |target| {
            let Found { images, .. } = run(&plan, target, None, None, context.stop(), &mut |finished, _| {
                context.progress(finished as u64, 2 * rows.len() as u64, "PGD");
            })?;
            let Some(mut findings) = Findings::of(&plan, &images) else { return Ok(Value::Null) };
            findings.check_further(target)?;
            Ok(findings.report(&subject.indices[..rows.len()]))
        })
    })
}
