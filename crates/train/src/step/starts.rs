//! Where the attacks of a step begin, drawn before anything else of it: what is left needs nothing from the host.

use super::together;
use crate::ascend;
use crate::method::{Method, Plan};
use tarrl_tensor::{Key, Tensor};

/// The first points of each attack, `(m, h, w, c)`, in the balls around the images that it moves; `None` where there is no
/// such attack, or one that finds its own.
#[derive(Clone, Debug, Default)]
pub(crate) struct Starts {
    /// On the attacked views of the plan, one below the other.
    pub(super) adversary: Option<Tensor>,
    /// On what is learned from the teacher.
    pub(super) distillation: Option<Tensor>,
    /// On what pseudo-labels are learned from.
    pub(super) pseudo_labels: Option<Tensor>,
    /// On the anchor.
    pub(super) regularizer: Option<Tensor>,
}

impl Starts {
    /// Of a step on `views`, the images of the plan `(n, h, w, c)`, with one key for each image.
    pub(crate) fn draw(
        method: &Method,
        plan: &Plan,
        views: &[Tensor],
        epsilon_scale: f64,
        keys: &[Key],
    ) -> Self {
        let adversary = method.adversary.as_ref().map(|adversary| {
            let keys: Vec<Key> = (0..plan.attacked.len())
                .flat_map(|view| keys.iter().map(move |key| key.fold("adversary").fold(view)))
                .collect();
            let images = together(plan.attacked.iter().map(|&place| &views[place]));
            ascend::start(&images, &adversary.attack, &keys)
        });
        let named = |name: &str| -> Vec<Key> { keys.iter().map(|key| key.fold(name)).collect() };
        let distillation = method.distillation.as_ref().zip(plan.distilled).map(|(distillation, view)| {
            ascend::start(&views[view], &distillation.attack, &named("distillation"))
        });
        let pseudo_labels = method
            .pseudo_labels
            .as_ref()
            .zip(plan.labeled)
            .map(|(labels, view)| ascend::start(&views[view], &labels.attack, &named("pseudo-labels")));
        let regularizer = method.regularizer.as_ref().zip(plan.regularizer);
        let regularizer = regularizer
            .and_then(|(regularizer, anchor)| regularizer.start(&views[anchor], epsilon_scale, keys));
        Starts { adversary, distillation, pseudo_labels, regularizer }
    }

    /// All of them, in a fixed order.
    pub(super) fn each(&self) -> impl Iterator<Item = &Tensor> {
        let Starts { adversary, distillation, pseudo_labels, regularizer } = self;
        adversary.iter().chain(distillation).chain(pseudo_labels).chain(regularizer)
    }

    /// Those that are there replaced by others, in the same order.
    pub(super) fn with(&self, mut others: impl Iterator<Item = Tensor>) -> Starts {
        let mut other = |start: &Option<Tensor>| start.as_ref().and_then(|_| others.next());
        Starts {
            adversary: other(&self.adversary),
            distillation: other(&self.distillation),
            pseudo_labels: other(&self.pseudo_labels),
            regularizer: other(&self.regularizer),
        }
    }
}
