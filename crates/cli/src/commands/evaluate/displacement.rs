//! Displacement without labels, and the bound of the head with that radius.

use std::rc::Rc;

use serde::{Deserialize, Serialize};
use serde_json::json;
use tarrl_attacks::{LabelLoss, Pgd, attack_classifier};
use tarrl_bound::{AttackedSample, BoundReport};
use tarrl_eval::{DeviceHead, displacement_attack, displacements};
use tarrl_jobs::{Job, Key, Spec, Stage};
use tarrl_study::outcomes::Outcomes;
use tarrl_tensor::{Array, DType, Key as Random, Tensor};

use super::clean::Clean;
use super::subject::Subject;

const STAGE: Stage = Stage { kind: "displacement", version: 1 };

/// Steps and restarts of the ascent.
const STEPS: usize = 20;
const RESTARTS: usize = 3;

/// Displacements at one radius.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) struct Displaced {
    pub(super) epsilon: f64,
    /// `(n)`: the largest displacement that the ascent without labels reached.
    pub(super) reached: Vec<f64>,
    /// Whether the head is right where that ascent ended.
    pub(super) correct: Outcomes,
    /// Mean losses of the head.
    pub(super) bound: Bound,
}

/// The bound of the head, means over the images.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) struct Bound {
    pub(super) clean: f64,
    /// Under PGD on the loss.
    pub(super) attacked: f64,
    /// `ln(1 + Σ exp(m_j + ‖v_j‖ r))`.
    pub(super) gap: f64,
    /// `L + C r`.
    pub(super) additive: f64,
    /// The mean of the largest displacement that any attack here reached.
    pub(super) radius: f64,
    pub(super) constant: f64,
    pub(super) violations: usize,
}

pub(super) fn job(subject: &Rc<Subject>, epsilon: f64, clean: Key) -> Job {
    let spec = Spec {
        name: format!("displacement and bound, ε = {}", super::radius::radius(epsilon)),
        stage: STAGE,
        seed: subject.seed,
        config: subject.config(json!({
            "epsilon": epsilon, "steps": STEPS, "restarts": RESTARTS, "images": subject.indices,
        })),
        inputs: vec![clean],
        seconds: 5e-5 * (2 * STEPS * (RESTARTS + 1)) as f64 * subject.indices.len() as f64,
    };
    let subject = subject.clone();
    Job::new(spec, move |context| {
        let clean: Clean = context.input(0).parse()?;
        let head = clean.head.head();
        let on_device = DeviceHead::new(&head, &subject.device, DType::F32);
        let logits = |u: &Tensor| on_device.forward(&subject.encode(u));
        let threat = subject.threat(epsilon);
        let (n, d) = (subject.indices.len(), subject.model.dim());
        let key = Random::new(context.seed()).fold("displacement");
        let (mut reached, mut correct) = (Vec::new(), Vec::new());
        let (mut representations, mut ends, mut truth) = (Vec::new(), Vec::new(), Vec::new());
        for start in (0..n).step_by(subject.batch) {
            context.progress(start as u64, n as u64, "");
            let places = &subject.indices[start..(start + subject.batch).min(n)];
            let (x, labels) = subject.images(places);
            let keys: Vec<Random> = (start..start + places.len()).map(|i| key.fold(i)).collect();
            let attack = displacement_attack(&threat, STEPS, RESTARTS);
            let found = displacements(&|u| subject.encode(u), &x, &threat, &attack, &keys);
            let at_end = Tensor::from(Array::new(&subject.device, [places.len(), d], &narrow(&found.ends)));
            let predictions = on_device.forward(&at_end).argmax(1).to_vec::<u32>();
            correct.extend(predictions.iter().zip(&labels).map(|(a, b)| a == b));
            reached.extend(found.reached);
            representations.extend(found.clean);
            let keys: Vec<Random> = keys.iter().map(|key| key.fold("loss")).collect();
            let loss = LabelLoss::CrossEntropy;
            let pgd = Pgd { include_clean: true, ..Pgd::usual(&threat, STEPS) };
            let worst = attack_classifier(&logits, &x, &labels, loss, &threat, &pgd, &keys).worst;
            ends.extend(subject.encode(&worst).detach().array().to_f64());
            truth.extend(labels);
        }
        let row = |values: &'_ [f64], i: usize| values[i * d..][..d].to_vec();
        let rows: Vec<(Vec<f64>, Vec<f64>)> =
            (0..n).map(|i| (row(&representations, i), row(&ends, i))).collect();
        let sample = |i: usize| AttackedSample {
            clean: &rows[i].0,
            attacked: &rows[i].1,
            label: truth[i] as usize,
            radius: reached[i],
        };
        let report = BoundReport::of(&head, &(0..n).map(sample).collect::<Vec<_>>());
        let bound = Bound {
            clean: report.mean.clean,
            attacked: report.mean.attacked,
            gap: finite(report.mean.gap),
            additive: finite(report.mean.additive),
            radius: report.radius,
            constant: report.constant,
            violations: report.violations,
        };
        anyhow::ensure!(
            report.violations == 0,
            "the bound does not hold for {} images: a representation is no number, or the program has an error",
            report.violations
        );
        Ok(serde_json::to_value(Displaced { epsilon, reached, correct: Outcomes(correct), bound })?)
    })
}

fn narrow(values: &[f64]) -> Vec<f32> {
    values.iter().map(|&value| value as f32).collect()
}

/// JSON has no infinity.
fn finite(value: f64) -> f64 {
    value.min(tarrl_eval::NO_CLAIM)
}
