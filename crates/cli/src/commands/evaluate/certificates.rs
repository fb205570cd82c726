//! Certificates of a few images, at radii where they say something, and the heads that they are applied to.

use std::rc::Rc;

use anyhow::Context;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tarrl_certify::{Certificates, CertifyConfig, Network, Provenance, certify};
use tarrl_eval::{
    BoundEvaluation, BoundLevel, Displacements, DownstreamTask, FittedTask, NO_CLAIM, TaskHead,
    displacement_attack, median, tasks_of_classes,
};
use tarrl_jobs::files::write_atomic;
use tarrl_jobs::{Job, Key, Spec, Stage};
use tarrl_study::stages::certify::hash_pixels;
use tarrl_tensor::{Key as Random, Tensor};

use super::clean::Clean;
use super::subject::Subject;

const STAGE: Stage = Stage { kind: "certificates", version: 1 };

/// Steps of PGD on the loss of every task.
const STEPS: usize = 20;

/// Smaller radii that are certified before those that are attacked, as shares of the smallest of these.
const SHARES: [f64; 2] = [1.0 / 16.0, 1.0 / 4.0];

/// More classes than this have no tasks of one class against the rest.
const MOST_CLASSES: usize = 20;

/// The most pixels of training images that statistics are taken of.
const MOST_PIXELS: usize = 1 << 29;

/// What certificates say, radius by radius.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub(super) struct Certified {
    /// Why nothing is certified.
    pub(super) refused: Option<String>,
    /// Rising radii.
    pub(super) levels: Vec<Level>,
    /// The radius from which on nothing is certified any more, so that larger ones were left out.
    pub(super) nothing_from: Option<f64>,
}

/// The certificates of one radius.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) struct Level {
    /// The file with them.
    pub(super) file: String,
    /// `(n)`: the certified displacement of each image.
    pub(super) displacement: Vec<f64>,
    /// Clean, attacked, bounded and certified loss of every head.
    pub(super) bound: BoundLevel,
}

pub(super) fn job(subject: &Rc<Subject>, clean: Key) -> Job {
    let least = subject.radii[0];
    let radii: Vec<f64> =
        SHARES.iter().map(|share| share * least).chain(subject.radii.iter().copied()).collect();
    let spec = Spec {
        name: "certificates, and the bound of many heads".to_owned(),
        stage: STAGE,
        seed: subject.seed,
        config: subject.config(json!({
            "radii": radii, "certify": CertifyConfig::default(), "images": places(subject), "steps": STEPS,
            "train": subject.train.as_ref().map(|train| train.len()),
        })),
        inputs: vec![clean],
        seconds: 0.5 * (radii.len() * subject.certified.len()) as f64,
    };
    let subject = subject.clone();
    Job::new(spec, move |context| {
        let clean: Clean = context.input(0).parse()?;
        let places = places(&subject);
        let (x, _) = subject.images(&places);
        let encode = |x: &Tensor| subject.encode(x);
        let network = match Network::trace(&encode, &x.slice(0, 0, 1)) {
            Ok(network) => network,
            Err(error) => {
                let refused = Some(error.to_string());
                return Ok(serde_json::to_value(Certified { refused, ..Certified::default() })?);
            }
        };
        let tasks = tasks(&subject, &clean, &places, context.seed())?;
        let mut found = Certified::default();
        for (i, &epsilon) in radii.iter().enumerate() {
            context.progress(
                i as u64,
                radii.len() as u64,
                &format!("ε = {}", super::radius::radius(epsilon)),
            );
            let threat = subject.threat(epsilon);
            let config = CertifyConfig { threat, ..CertifyConfig::default() };
            let (samples, cost) = match certify(&network, &x, &config) {
                Ok(certified) => certified,
                Err(error) => {
                    found.refused = Some(error.to_string());
                    break;
                }
            };
            let key = Random::new(context.seed()).fold("certify");
            let attack = displacement_attack(&threat, STEPS, 3);
            let displacements =
                Displacements::measure(&encode, &network, &x, &threat, &samples, &attack, key)?;
            let file = format!("certificates-{i}.safetensors");
            let provenance =
                Provenance { encoder: subject.hash.clone(), samples: hash_pixels(&x), config, cost };
            let certificates = Certificates { provenance, samples };
            let path = context.output(&file);
            write_atomic(&path, &certificates.to_bytes())
                .with_context(|| format!("cannot write {}", path.display()))?;
            let evaluation = BoundEvaluation {
                encoder: &encode,
                network: &network,
                images: &x,
                tasks: &tasks,
                steps: STEPS,
            };
            let bound = evaluation.measure(&displacements, &certificates)?;
            let says_nothing =
                bound.tasks.iter().all(|task| task.correct.is_none_or(|correct| correct.certified == 0))
                    && median(displacements.certified.iter().copied())
                        > NO_CLAIM.min(1e3 * largest(&displacements.reached));
            found.levels.push(Level { file, displacement: displacements.certified.clone(), bound });
            if says_nothing {
                found.nothing_from = Some(epsilon);
                break;
            }
        }
        Ok(serde_json::to_value(found)?)
    })
}

fn largest(values: &[f64]) -> f64 {
    values.iter().copied().fold(0.0, f64::max)
}

/// The places of the certified images in the split.
pub(super) fn places(subject: &Subject) -> Vec<usize> {
    subject.certified.iter().map(|&row| subject.indices[row]).collect()
}

/// The head of the evaluation, and tasks that are fitted on the training images.
fn tasks(subject: &Subject, clean: &Clean, places: &[usize], seed: u64) -> anyhow::Result<Vec<FittedTask>> {
    let sample = subject.test.subset(places);
    let head = TaskHead::Classifier {
        head: clean.head.head(),
        labels: sample.labels.iter().map(|&label| label.into()).collect(),
    };
    let key = Random::new(seed).fold("bound");
    let own = "this head".to_owned();
    let mut fitted = vec![FittedTask { name: own.clone(), family: own, head, key: key.fold("head") }];
    if let (Some(train), Some(features)) = (&subject.train, subject.train_features())
        && train.classes.len() == sample.classes.len()
    {
        let has_room = train.images.len() <= MOST_PIXELS;
        let tasks = tasks_of_classes(&train.classes, train.classes.len() <= MOST_CLASSES);
        // Statistics of pixels need all of them as numbers of 32 bits.
        for task in tasks.iter().filter(|task| has_room || !matches!(task, DownstreamTask::Statistic(_))) {
            fitted.push(task.fit(train, &sample, features, key)?);
        }
    }
    Ok(fitted)
}
