//! The numbers of a step, read from the device at once: each reading waits for all work before it.

use super::StepOutput;
use crate::spread::directional_std;
use tarrl_tensor::Tensor;

/// What the terms of a step are worth, as scalars on the device.
#[derive(Default)]
pub(super) struct Values {
    /// Terms of the objective.
    pub(super) objective: Vec<Tensor>,
    /// R.
    pub(super) regularizer: Option<Tensor>,
    /// The certified term.
    pub(super) certified: Option<Tensor>,
}

/// How the gradients and the representations of a step are.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Health {
    /// The squared length of each parameter's gradient.
    pub(crate) squares: Vec<f64>,
    /// [`directional_std`] of what the objective compares.
    pub(crate) embedding_std: f64,
    /// The same of the representations.
    pub(crate) feature_std: f64,
    /// Mean distance of the representations from their mean.
    pub(crate) feature_spread: f64,
}

/// Reads the values of the terms and the health of the step, with one wait for the device.
pub(super) fn read(values: Values, output: &mut StepOutput) {
    let features = output.features.as_ref().expect("every method has a term of its objective");
    let embeddings = output.embeddings.as_ref().unwrap_or(features);
    let health = [directional_std(embeddings), directional_std(features), tarrl_bound::spread(features)];
    let squares = output.gradients.iter().map(|g| g.square().sum_all());
    let Values { objective, regularizer, certified } = values;
    let terms = objective.len();
    let others = [regularizer.is_some(), certified.is_some()];
    let scalars = objective.into_iter().chain(regularizer).chain(certified).chain(health).chain(squares);
    let mut numbers = Tensor::items(&scalars.collect::<Vec<_>>()).into_iter();
    let mut next = || numbers.next().expect("a number for each scalar");
    output.objective = (0..terms).map(|_| next()).sum();
    [output.regularizer, output.certified] = others.map(|there| if there { next() } else { 0.0 });
    let [embedding_std, feature_std, feature_spread] = [(); 3].map(|()| next());
    output.health = Health { squares: numbers.collect(), embedding_std, feature_std, feature_spread };
}
