//! DINO: self-distillation with a centered teacher (Caron et al. 2021).

use crate::embeddings::Embeddings;
use crate::error::{ObjectiveError, StateError, at_least, fraction, positive};
use crate::loss::SslLoss;
use crate::needs::Needs;
use crate::rows;
use crate::state::{self, LossState, find};
use serde::{Deserialize, Serialize};
use tarrl_tensor::{DType, Device, Key, Tensor};

/// [`dino`] with targets of [`Center::targets`] from the first views.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Dino {
    /// τ of the student.
    pub temperature: f64,
    /// τ of the teacher. Lower where outputs become uniform.
    pub teacher_temperature: f64,
    /// The weight of the past in the center.
    pub center_momentum: f64,
    /// How many of the views, the first, have targets.
    pub global: usize,
    /// How many classes the head has.
    pub prototypes: usize,
}

/// 0.1, 0.04, 0.9 and two global views of the paper; 2048 classes, usual for CIFAR-10.
impl Default for Dino {
    fn default() -> Self {
        Dino {
            temperature: 0.1,
            teacher_temperature: 0.04,
            center_momentum: 0.9,
            global: 2,
            prototypes: 2048,
        }
    }
}

impl SslLoss for Dino {
    fn name(&self) -> &'static str {
        "DINO"
    }

    fn needs(&self) -> Needs {
        let prototypes = Some(self.prototypes);
        Needs { targets: true, momentum: true, center: true, prototypes, ..Needs::default() }
    }

    fn check(&self) -> Result<(), ObjectiveError> {
        positive("temperature", self.temperature)?;
        positive("teacher_temperature", self.teacher_temperature)?;
        fraction("center_momentum", self.center_momentum)?;
        at_least(1, "global", self.global)?;
        at_least(2, "prototypes", self.prototypes)
    }

    #[track_caller]
    fn loss(&self, batch: &Embeddings<'_>) -> Tensor {
        let center: &Center = batch.state("dino: no center");
        let targets = (0..self.global.min(batch.targets.len()))
            .map(|view| center.targets(batch.target(view), self.teacher_temperature));
        let targets: Vec<Tensor> = targets.collect();
        dino(&batch.views(), &targets.iter().collect::<Vec<_>>(), self.temperature)
    }

    fn initial_state(&self, device: &Device, _: Key, _: usize) -> Option<Box<dyn LossState>> {
        Some(Box::new(Center::new(device, self.prototypes)))
    }

    fn update(&self, state: &mut dyn LossState, targets: &[Tensor]) {
        let global = &targets[..self.global.min(targets.len())];
        state::own::<Center>(state).update(&global.iter().collect::<Vec<_>>(), self.center_momentum);
    }
}

/// The loss of DINO: the cross-entropy of each target against each student of another view, averaged over these pairs and
/// the rows: a scalar, in nats (Caron et al. 2021, equation 3 and algorithm 1).
///
/// `student` are logits `(n, k)` of all crops; `targets` distributions `(n, k)` of the first few of them, the global
/// ones, from [`Center::targets`]. Target `i` is not compared with student `i`. Only the students receive gradient.
/// `ln k` exactly means that all outputs are uniform: lower the teacher's temperature. Near 0 they have one class: center
/// more.
///
/// # Panics
/// If there is no pair, the shapes differ, or τ is not positive.
#[track_caller]
pub fn dino(student: &[&Tensor], targets: &[&Tensor], temperature: f64) -> Tensor {
    rows::temperature("dino", temperature);
    let logs: Vec<Tensor> = student.iter().map(|s| s.mul_scalar(1.0 / temperature).log_softmax()).collect();
    let mut terms = Vec::new();
    for (i, target) in targets.iter().enumerate() {
        let target = target.detach();
        for (_, logs) in logs.iter().enumerate().filter(|(j, _)| *j != i) {
            let n = rows::pair("dino", &target, logs);
            terms.push((&target * logs).sum_all().mul_scalar(-1.0 / n as f64));
        }
    }
    assert!(!terms.is_empty(), "dino: {} students and {} targets make no pair", student.len(), targets.len());
    let sum = terms[1..].iter().fold(terms[0].clone(), |sum, term| &sum + term);
    sum.mul_scalar(1.0 / terms.len() as f64)
}

/// The running mean of the teacher's logits `(k)`, which is subtracted so that no class dominates.
#[derive(Clone, Debug)]
pub struct Center {
    value: Tensor,
}

impl Center {
    /// Zeros, F32.
    pub fn new(device: &Device, classes: usize) -> Self {
        Center { value: Tensor::full(device, [classes], DType::F32, 0.0) }
    }

    /// `(k)`: the center, a constant.
    pub fn value(&self) -> &Tensor {
        &self.value
    }

    /// `softmax((t − c)/τ)` of the teacher's logits t `(n, k)`: a constant.
    ///
    /// # Panics
    /// If the number of classes differs or τ is not positive.
    #[track_caller]
    pub fn targets(&self, teacher: &Tensor, temperature: f64) -> Tensor {
        rows::temperature("Center::targets", temperature);
        self.check(teacher);
        (&teacher.detach() - &self.value).mul_scalar(1.0 / temperature).softmax()
    }

    /// `c ← m·c + (1 − m)·mean of all logits`, over rows and views, without temperature (equation 4). To be called
    /// after the loss of a step.
    ///
    /// # Panics
    /// If there are no logits, or the number of classes differs.
    #[track_caller]
    pub fn update(&mut self, teacher: &[&Tensor], momentum: f64) {
        teacher.iter().for_each(|logits| self.check(logits));
        let mean = Tensor::concat(teacher, 0).detach().mean(0).reshape(*self.value.shape());
        self.value = &self.value.mul_scalar(momentum) + &mean.mul_scalar(1.0 - momentum);
    }

    #[track_caller]
    fn check(&self, logits: &Tensor) {
        assert!(
            logits.shape().rank() == 2 && logits.shape()[1] == self.value.shape()[0],
            "Center: logits {:?}, center {:?}",
            logits.shape(),
            self.value.shape()
        );
    }
}

/// Tensors: `center`.
impl LossState for Center {
    fn name(&self) -> &'static str {
        "center"
    }

    fn tensors(&self) -> Vec<(&'static str, Tensor)> {
        vec![("center", self.value.clone())]
    }

    fn restore(&mut self, stored: &dyn Fn(&str) -> Option<Tensor>) -> Result<(), StateError> {
        self.value = find(self, stored)?.remove(0);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
