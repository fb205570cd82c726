//! Which images a step needs, and what each of them is for.

use super::Method;
use super::adversary::Attacked;
use super::view::anchored;
use tarrl_data::augment::View;

/// The images of a step, and their places by purpose. One that serves two purposes beside the objective is painted
/// once.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Plan {
    /// The views of the objective, then what else is needed.
    pub(crate) images: Vec<View>,
    /// How many views the objective has.
    pub(crate) views: usize,
    /// The anchor of the regularizer.
    pub(crate) regularizer: Option<usize>,
    /// The anchor of the certified term.
    pub(crate) certified: Option<usize>,
    /// What the adversary moves.
    pub(crate) attacked: Vec<usize>,
    /// What is learned from the teacher.
    pub(crate) distilled: Option<usize>,
    /// What pseudo-labels are learned from.
    pub(crate) labeled: Option<usize>,
    /// What views are to agree with.
    pub(crate) invariant: Option<usize>,
}

impl Plan {
    pub(crate) fn new(method: &Method) -> Self {
        let views = method.views.len();
        let mut images = method.views.clone();
        let mut extra = |view: View| match images[views..].iter().position(|other| *other == view) {
            Some(at) => views + at,
            None => {
                images.push(view);
                images.len() - 1
            }
        };
        let regularizer = method.regularizer.as_ref().map(|r| extra(anchored(r.config().anchor)));
        let certified = method.certified.as_ref().map(|c| extra(anchored(c.anchor)));
        let attacked = method.adversary.as_ref().map_or(Vec::new(), |adversary| match adversary.attacks {
            Attacked::First => vec![0],
            Attacked::Both => vec![0, 1],
            Attacked::Weak => vec![extra(View::Weak)],
            Attacked::Clean => vec![extra(View::Clean)],
        });
        let distilled = method.distillation.as_ref().map(|d| extra(anchored(d.view)));
        let labeled = method.pseudo_labels.as_ref().map(|p| extra(anchored(p.view)));
        let invariant = method.invariance.map(|_| extra(View::Clean));
        Plan { images, views, regularizer, certified, attacked, distilled, labeled, invariant }
    }
}
