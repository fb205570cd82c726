//! The cost of a step, counted in images that pass through an encoder.

use super::plan::Plan;
use super::{Adversary, AdversaryCombine, AdversaryLoss, AdversaryReference, AdversaryView, Method};
use tarrl_bound::InnerKind;

impl Method {
    /// Images that go forward through an encoder, and that a gradient goes back through, for every image of the
    /// dataset in an epoch: what [`EpochRecord::forward`](crate::EpochRecord) and `backward` count.
    ///
    /// ```
    /// # let text = "title = 'SimCLR'\nviews = ['strong', 'strong']\nobjective = { kind = 'nt-xent' }";
    /// let simclr: tarrl_train::Method = toml::from_str(text).unwrap();
    /// assert_eq!(simclr.passes(), [2.0, 2.0]);
    /// ```
    pub fn passes(&self) -> [f64; 2] {
        let plan = Plan::new(self);
        let mut passes = [0, 0];
        let mut add = |forward: usize, backward: usize| {
            passes[0] += forward;
            passes[1] += backward;
        };
        if self.objective.is_some() {
            let rows = match &self.adversary {
                Some(adversary) => {
                    let [forward, backward] = attack(adversary, &plan);
                    add(forward, backward);
                    let shared =
                        self.shared_regularizer().map(|_| plan.without_clean(adversary.enters).count());
                    rows(adversary, &plan) + shared.unwrap_or(0)
                }
                None => plan.views,
            };
            add(rows, rows);
            if self.network.momentum.is_some() {
                let apart = plan.attacked.iter().filter(|&&place| place >= plan.views).count();
                add(plan.views + apart, 0);
            }
        }
        if let Some(distillation) = &self.distillation {
            let steps = distillation.attack.steps();
            add(1 + steps + 2, steps + 2);
        }
        if let Some(labels) = &self.pseudo_labels {
            let steps = labels.attack.steps();
            add(steps + 1, steps + 1);
        }
        if let Some(regularizer) = &self.regularizer {
            let inner = &regularizer.config().inner;
            match inner.kind {
                // The image once; then, for each ascent, its steps and its last point; then both in training.
                InnerKind::Pgd | InnerKind::Fgsm | InnerKind::Apgd => {
                    add(1 + inner.restarts * (inner.steps() + 1) + 2, inner.restarts * inner.steps() + 2);
                }
                InnerKind::Jacobian => add(1, 1 + 2 * inner.steps()),
                InnerKind::Adversary => {}
            }
        }
        if self.certified.is_some() {
            add(3, 3);
        }
        passes.map(|count| count as f64)
    }
}

/// Passes of the attack on views.
fn attack(adversary: &Adversary, plan: &Plan) -> [usize; 2] {
    let moved = plan.attacked.len();
    let still = match (adversary.ascends, adversary.against, adversary.attacks) {
        (AdversaryLoss::Representation, ..) => moved,
        (_, _, AdversaryView::Both) => 0,
        (_, AdversaryReference::Original, _) => 1,
        (_, AdversaryReference::Others, AdversaryView::First) => plan.views - 1,
        (_, AdversaryReference::Others, _) => plan.views,
    };
    let steps = adversary.attack.steps() * moved;
    [still + steps, steps]
}

/// Rows that the objective is trained on.
fn rows(adversary: &Adversary, plan: &Plan) -> usize {
    match adversary.enters {
        AdversaryCombine::Replace => plan.views,
        AdversaryCombine::Second => 2 * plan.views + plan.invariant.iter().len(),
        AdversaryCombine::Third | AdversaryCombine::Pair => plan.views + plan.attacked.len(),
    }
}
