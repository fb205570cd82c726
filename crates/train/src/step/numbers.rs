//! The numbers of a step, read from the device at once: each reading waits for all work before it.

use super::StepOutput;
use crate::spread::directional_std;
use tarrl_tensor::Tensor;

/// What the terms of a step are worth, as scalars on the device.
#[derive(Default)]
pub(super) struct Terms {
    /// Terms of the objective.
    pub(super) objective: Vec<Tensor>,
    /// R.
    pub(super) regularizer: Option<Tensor>,
    /// The certified term.
    pub(super) certified: Option<Tensor>,
}

/// The numbers of a step in one line on the device, and which is which.
#[derive(Clone, Default)]
pub(super) struct Values {
    /// Terms of the objective, R and the certified term where they are, the health of the step.
    pub(super) line: Option<Tensor>,
    /// Terms of the objective.
    objectives: usize,
    /// Whether there are R and the certified term.
    others: [bool; 2],
}

/// What a step is worth, and how its gradients and representations are.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Numbers {
    /// What is minimized.
    pub(crate) loss: f64,
    /// The objective, on attacked views too where the method says so.
    pub(crate) objective: f64,
    /// R, unweighted.
    pub(crate) regularizer: f64,
    /// The certified term, unweighted.
    pub(crate) certified: f64,
    /// The squared length of each parameter's gradient.
    pub(crate) squares: Vec<f64>,
    /// [`directional_std`] of what the objective compares.
    pub(crate) embedding_std: f64,
    /// The same of the representations.
    pub(crate) feature_std: f64,
    /// Mean distance of the representations from their mean.
    pub(crate) feature_spread: f64,
}

impl Values {
    /// Of a step whose terms are `terms` and whose gradients and representations are those of `output`.
    pub(super) fn of(terms: Terms, output: &StepOutput) -> Self {
        let features = output.features.as_ref().expect("every method has a term of its objective");
        let embeddings = output.embeddings.as_ref().unwrap_or(features);
        let health = [directional_std(embeddings), directional_std(features), tarrl_bound::spread(features)];
        let squares = output.gradients.iter().map(|g| g.square().sum_all());
        let Terms { objective, regularizer, certified } = terms;
        let (objectives, others) = (objective.len(), [regularizer.is_some(), certified.is_some()]);
        let scalars = objective.into_iter().chain(regularizer).chain(certified).chain(health).chain(squares);
        let scalars: Vec<Tensor> = scalars.map(|scalar| scalar.detach().reshape([1])).collect();
        let line = Some(Tensor::concat(&scalars.iter().collect::<Vec<_>>(), 0));
        Values { line, objectives, others }
    }
}

impl StepOutput {
    /// The numbers of the step, with one wait for the device.
    pub(crate) fn read(&self) -> Numbers {
        let Values { line, objectives, others } = &self.values;
        let line = line.as_ref().expect("a step has numbers").array().to_f64();
        let mut numbers = line.into_iter();
        let mut next = || numbers.next().expect("a number for each scalar");
        let objective: f64 = (0..*objectives).map(|_| next()).sum();
        let [regularizer, certified] = others.map(|there| if there { next() } else { 0.0 });
        let [embedding_std, feature_std, feature_spread] = [(); 3].map(|()| next());
        let loss = objective + self.weight * regularizer + self.certified_weight * certified;
        let squares = numbers.collect();
        Numbers {
            loss,
            objective,
            regularizer,
            certified,
            squares,
            embedding_std,
            feature_std,
            feature_spread,
        }
    }
}
