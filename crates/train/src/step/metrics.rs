//! The metrics of a step, kept in one array on the device and read once.

use crate::collapse::directional_std;
use tarrl_tensor::Tensor;

/// The values of the terms, scalars on the device.
#[derive(Default)]
pub(super) struct TermScalars {
    /// Terms of the objective.
    pub(super) objective: Vec<Tensor>,
    /// R, and its factor in the loss.
    pub(super) regularizer: Option<(Tensor, f64)>,
    /// The certified term, and its factor in the loss.
    pub(super) certified: Option<(Tensor, f64)>,
}

/// All scalars of a step in one array on the device, with its layout.
#[derive(Clone, Default)]
pub(super) struct StepScalars {
    /// Terms of the objective, R, the certified term, three collapse measures, squared norms of the gradients.
    line: Option<Tensor>,
    /// How many terms the objective has.
    objectives: usize,
    /// The factor of R, if there is one.
    regularizer: Option<f64>,
    /// The factor of the certified term, if there is one.
    certified: Option<f64>,
}

/// The metrics of a step.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct StepMetrics {
    /// What is minimized.
    pub(crate) loss: f64,
    /// The objective, on adversarial views too where the method says so.
    pub(crate) objective: f64,
    /// R, unweighted.
    pub(crate) regularizer: f64,
    /// The certified term, unweighted.
    pub(crate) certified: f64,
    /// The squared norm of each parameter's gradient.
    pub(crate) squares: Vec<f64>,
    /// [`directional_std`] of what the objective compares.
    pub(crate) embedding_std: f64,
    /// The same of the representations.
    pub(crate) feature_std: f64,
    /// Mean distance of the representations from their mean.
    pub(crate) feature_spread: f64,
}

impl StepScalars {
    pub(super) fn new(
        terms: TermScalars,
        features: &Tensor,
        embeddings: Option<&Tensor>,
        gradients: &[Tensor],
    ) -> Self {
        let embeddings = embeddings.unwrap_or(features);
        let collapse =
            [directional_std(embeddings), directional_std(features), tarrl_bound::spread(features)];
        let squares = gradients.iter().map(|g| g.square().sum_all());
        let TermScalars { objective, regularizer, certified } = terms;
        let objectives = objective.len();
        let weights = [&regularizer, &certified].map(|term| term.as_ref().map(|(_, weight)| *weight));
        let others = regularizer.into_iter().chain(certified).map(|(value, _)| value);
        let scalars = objective.into_iter().chain(others).chain(collapse).chain(squares);
        let scalars: Vec<Tensor> = scalars.map(|scalar| scalar.detach().reshape([1])).collect();
        let line = Some(Tensor::concat(&scalars.iter().collect::<Vec<_>>(), 0));
        StepScalars { line, objectives, regularizer: weights[0], certified: weights[1] }
    }

    /// The array, if the step has been computed.
    pub(super) fn line_mut(&mut self) -> &mut Option<Tensor> {
        &mut self.line
    }

    /// The metrics, with one wait for the device.
    pub(super) fn read(&self) -> StepMetrics {
        let line = self.line.as_ref().expect("a step has numbers").array().to_f64();
        let mut numbers = line.into_iter();
        let mut next = || numbers.next().expect("a number for each scalar");
        let objective: f64 = (0..self.objectives).map(|_| next()).sum();
        let [(regularizer, weight), (certified, certified_weight)] = [self.regularizer, self.certified]
            .map(|weight| weight.map_or((0.0, 0.0), |weight| (next(), weight)));
        let [embedding_std, feature_std, feature_spread] = [(); 3].map(|()| next());
        let loss = objective + weight * regularizer + certified_weight * certified;
        let squares = numbers.collect();
        StepMetrics {
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
