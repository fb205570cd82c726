//! What a step draws: initial points of its attacks and the noise of representations, sampled before the step, so that it
//! needs nothing from the host.

use crate::batch_pgd::initial_point;
use crate::method::{Method, Plan, stack};
use tarrl_tensor::{DType, Key, Random, Tensor};

/// The initial points of each attack, `(m, h, w, c)`, in the balls around the images that it perturbs; `None` without the
/// attack, or if it samples its own.
#[derive(Clone, Debug, Default)]
pub(crate) struct InitialPoints {
    /// Of the attacked views of the plan, stacked.
    pub(super) adversary: Option<Tensor>,
    /// Of the distillation.
    pub(super) distillation: Option<Tensor>,
    /// Of the pseudo-labels.
    pub(super) pseudo_labels: Option<Tensor>,
    /// Of the regularizer, around its anchor.
    pub(super) regularizer: Option<Tensor>,
    /// `(v·n, d)`: standard normal noise for the representations of each view in turn that a term of the objective compares.
    pub(super) noise: Option<Tensor>,
}

impl InitialPoints {
    /// Samples those of a step on `views`, the images of the plan `(n, h, w, c)`, with one key for each image and epoch; `dim`
    /// are the features of a representation.
    pub(crate) fn sample(
        method: &Method,
        plan: &Plan,
        views: &[Tensor],
        epsilon_scale: f64,
        keys: &[Key],
        dim: usize,
    ) -> Self {
        let adversary = method.adversary_attack(epsilon_scale).map(|attack| {
            let keys: Vec<Key> = (0..plan.attacked.len())
                .flat_map(|view| keys.iter().map(move |key| key.fold("adversary").fold(view)))
                .collect();
            let images = stack(plan.attacked.iter().map(|&place| &views[place]));
            initial_point(&images, &attack, &keys)
        });
        let named = |name: &str| -> Vec<Key> { keys.iter().map(|key| key.fold(name)).collect() };
        let distillation = method.distillation.as_ref().zip(plan.distilled).map(|(distillation, view)| {
            initial_point(&views[view], &distillation.attack, &named("distillation"))
        });
        let pseudo_labels = method
            .pseudo_labels
            .as_ref()
            .zip(plan.labeled)
            .map(|(labels, view)| initial_point(&views[view], &labels.attack, &named("pseudo-labels")));
        let regularizer = method.regularizer.as_ref().zip(plan.regularizer);
        let regularizer = regularizer
            .and_then(|(regularizer, anchor)| regularizer.start(&views[anchor], epsilon_scale, keys));
        let noise = method.noise.map(|_| {
            // The views, their attacked forms and the clean image of the invariance.
            let rows = plan.views + plan.attacked.len() + 1;
            let keys: Vec<Key> =
                (0..rows).flat_map(|row| keys.iter().map(move |key| key.fold("noise").fold(row))).collect();
            Tensor::random(views[0].device(), Random::Normal, &keys, &[dim], DType::F32)
        });
        InitialPoints { adversary, distillation, pseudo_labels, regularizer, noise }
    }

    /// All that are there, in a fixed order.
    pub(super) fn each(&self) -> impl Iterator<Item = &Tensor> {
        let InitialPoints { adversary, distillation, pseudo_labels, regularizer, noise } = self;
        adversary.iter().chain(distillation).chain(pseudo_labels).chain(regularizer).chain(noise)
    }

    /// Replaces those that are there by `others`, in the same order.
    pub(super) fn with(&self, mut others: impl Iterator<Item = Tensor>) -> InitialPoints {
        let mut other = |start: &Option<Tensor>| start.as_ref().and_then(|_| others.next());
        InitialPoints {
            adversary: other(&self.adversary),
            distillation: other(&self.distillation),
            pseudo_labels: other(&self.pseudo_labels),
            regularizer: other(&self.regularizer),
            noise: other(&self.noise),
        }
    }
}
