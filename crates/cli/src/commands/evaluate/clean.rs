//! Clean accuracy: a linear head, nearest neighbors, and how representations are spread.

use std::rc::Rc;

use serde::{Deserialize, Serialize};
use serde_json::json;
use tarrl_eval::{DeviceHead, Diagnostics, Knn, ProbeConfig, diagnose, features, labels, linear_probe};
use tarrl_jobs::{Job, Spec, Stage};
use tarrl_study::outcomes::Outcomes;
use tarrl_study::stages::head::{HEAD, HeadFile, Weights};
use tarrl_tensor::Key as Random;

use super::subject::Subject;

const STAGE: Stage = Stage { kind: "clean", version: 1 };

/// What is measured without an attack.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) struct Clean {
    /// The head that everything else attacks.
    pub(super) head: Weights,
    /// The chosen weight of its squared norm, if it was fitted here.
    pub(super) l2: Option<f64>,
    /// Whether the head classifies each test image correctly.
    pub(super) correct: Outcomes,
    /// Whether twenty nearest neighbors do, if there are training images.
    pub(super) neighbors: Option<Outcomes>,
    /// How the representations of the test images are spread.
    pub(super) diagnostics: Diagnostics,
}

pub(super) fn job(subject: &Rc<Subject>) -> Job {
    let spec = Spec {
        name: "linear head and nearest neighbors".to_owned(),
        stage: STAGE,
        seed: subject.seed,
        config: subject.config(json!({
            "probe": ProbeConfig::default(), "neighbors": subject.train.as_ref().map(labels_hash),
        })),
        inputs: vec![],
        seconds: 1e-3 * (subject.test.len() + subject.train.as_ref().map_or(0, |train| train.len())) as f64,
    };
    let subject = subject.clone();
    Job::new(spec, move |context| {
        let total = 3;
        context.progress(0, total, "representations of the training images");
        let train = subject.train_features();
        context.progress(1, total, "representations of the test images");
        let test = features(&|x| subject.encode(x), &subject.test, &subject.device, subject.batch);
        let truth = labels(&subject.test.labels);
        context.progress(2, total, "linear head");
        let train_labels = subject.train.as_ref().map(|train| labels(&train.labels));
        let (head, l2) = match (&subject.head, train, &train_labels) {
            (Some((head, _)), ..) => (head.clone(), None),
            (None, Some(train), Some(train_labels)) => {
                let key = Random::new(context.seed()).fold("probe");
                let classes = subject.test.classes.len();
                let probe = linear_probe(train, train_labels, classes, &ProbeConfig::default(), key)?;
                context.log(&format!("linear head: l2 {:.1e}, {} iterations", probe.l2, probe.iterations));
                (probe.head, Some(probe.l2))
            }
            _ => anyhow::bail!("there are neither training images nor a head"),
        };
        HeadFile { head: head.clone(), encoder: Some(subject.hash.clone()) }.save(&context.output(HEAD))?;
        let logits = DeviceHead::new(&head, &subject.device, test.dtype()).forward(&test);
        let predictions = logits.argmax(1).to_vec::<u32>();
        let right = |found: &[u32]| Outcomes(found.iter().zip(&truth).map(|(a, b)| a == b).collect());
        let neighbors = match (train, &train_labels) {
            (Some(train), Some(labels)) => Some(right(&Knn::NEAR.predict(train, labels, &test)?)),
            _ => None,
        };
        let clean = Clean {
            head: Weights::of(&head),
            l2,
            correct: right(&predictions),
            neighbors,
            diagnostics: diagnose(&test)?,
        };
        Ok(serde_json::to_value(clean)?)
    })
}

/// What nearest neighbors depend on beside the images that identify the head.
fn labels_hash(train: &tarrl_data::Dataset) -> String {
    let bytes: Vec<u8> = train.labels.iter().flat_map(|label| label.to_le_bytes()).collect();
    format!("{} of {}", blake3::hash(&bytes).to_hex(), train.len())
}
