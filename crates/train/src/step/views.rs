//! The embeddings of a view, and the objective on some of them.

use super::context::StepContext;
use super::scope::Scope;
use crate::model::NetworkOutput;
use tarrl_objectives::Embeddings;
use tarrl_tensor::Tensor;

/// The embeddings of one view.
#[derive(Clone)]
pub(super) struct ViewEmbeddings {
    /// Of the trained or attacked networks.
    pub(super) online: NetworkOutput,
    /// `(n, out)`: the momentum encoder's target of the view, or of the view that it was made of, if there is one.
    pub(super) ema: Option<Tensor>,
}

impl ViewEmbeddings {
    /// View `part` of several in `output`, made of the image at `place` of the plan.
    pub(super) fn new(
        ctx: &StepContext<'_>,
        output: &NetworkOutput,
        part: usize,
        place: usize,
        scope: Scope,
    ) -> Self {
        let ema = ctx.targets_of(scope).get(place).cloned().flatten();
        ViewEmbeddings { online: output.part(part, ctx.images_of(scope)), ema }
    }
}

/// The method's objective on `views`, in their order, of these images: a scalar.
#[track_caller]
pub(super) fn objective(ctx: &StepContext<'_>, views: &[&ViewEmbeddings], scope: Scope) -> Tensor {
    let online: Vec<Tensor> = views.iter().filter_map(|view| view.online.embeddings.clone()).collect();
    let target = |view: &&ViewEmbeddings| {
        view.ema.clone().or_else(|| view.online.projections.as_ref().map(Tensor::detach))
    };
    let targets: Vec<Tensor> = views.iter().filter_map(target).collect();
    ctx.method.loss().expect("a term of an objective").loss(&Embeddings {
        online: &online,
        targets: &targets,
        labels: Some(ctx.labels_of(scope)),
        state: ctx.input.state,
        key: ctx.input.key,
    })
}
