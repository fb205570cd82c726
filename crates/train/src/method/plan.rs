//! The images that a step needs, and their places by purpose.

use super::Method;
use super::adversary::{AdversaryCombine, AdversaryView};
use super::view::anchored;
use tarrl_data::augment::View;
use tarrl_tensor::Tensor;

/// The images of a step, and their places by purpose. An image with two purposes besides the objective is loaded once.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Plan {
    /// The views of the objective, then what else is needed.
    pub(crate) images: Vec<View>,
    /// How many views the objective has.
    pub(crate) views: usize,
    /// The anchor of the regularizer, if that does not share the attack of the adversary.
    pub(crate) regularizer: Option<usize>,
    /// The anchor of the certified term.
    pub(crate) certified: Option<usize>,
    /// The views that the adversary attacks.
    pub(crate) attacked: Vec<usize>,
    /// The view of the distillation.
    pub(crate) distilled: Option<usize>,
    /// The view that the teacher of the distillation sees.
    pub(crate) taught: Option<usize>,
    /// The view of the pseudo-labels.
    pub(crate) labeled: Option<usize>,
    /// The clean image of the invariance.
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
        let regularizer = method.regularizer.as_ref().filter(|r| !r.shares_attack());
        let regularizer = regularizer.map(|r| extra(anchored(r.config().anchor)));
        let certified = method.certified.as_ref().map(|c| extra(anchored(c.anchor)));
        let attacked = method.adversary.as_ref().map_or(Vec::new(), |adversary| match adversary.attacks {
            AdversaryView::First => vec![0],
            AdversaryView::Both => vec![0, 1],
            AdversaryView::Weak => vec![extra(View::Weak)],
            AdversaryView::Clean => vec![extra(View::Clean)],
        });
        let distilled = method.distillation.as_ref().map(|d| extra(anchored(d.view)));
        let taught = method.distillation.as_ref().zip(distilled);
        let taught = taught.map(|(d, view)| d.teacher_view.map_or(view, |taught| extra(anchored(taught))));
        let labeled = method.pseudo_labels.as_ref().map(|p| extra(anchored(p.view)));
        let invariant = method.invariance.map(|_| extra(View::Clean));
        Plan { images, views, regularizer, certified, attacked, distilled, taught, labeled, invariant }
    }
}

impl Plan {
    /// The attacked images that go through the network without their clean versions, where the adversary `enters`.
    pub(crate) fn without_clean(&self, enters: AdversaryCombine) -> impl Iterator<Item = usize> {
        let replaced = enters == AdversaryCombine::Replace;
        self.attacked.iter().copied().filter(move |&place| replaced || place >= self.views)
    }
}

/// Images `(n, h, w, c)` stacked along the batch dimension.
pub(crate) fn stack<'a>(images: impl Iterator<Item = &'a Tensor>) -> Tensor {
    let images: Vec<&Tensor> = images.collect();
    if let [image] = images[..] { image.clone() } else { Tensor::concat(&images, 0) }
}

impl Method {
    /// The views of an image that a step needs: those of the objective, then those of the other terms and of the
    /// adversary, one where they agree.
    pub fn all_views(&self) -> Vec<View> {
        Plan::new(self).images
    }
}
