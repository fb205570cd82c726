//! Adversarial views: the attack on the views of a batch.

use super::context::StepContext;
use super::output::Passes;
use super::scope::Scope;
use super::views::{ViewEmbeddings, objective};
use crate::batch_pgd::batch_pgd;
use crate::method::{Adversary, AdversaryLoss, AdversaryReference, EncoderMode, Plan};
use crate::model::{Model, NetworkOutput};
use tarrl_encoders::{BnBranch, ForwardContext, detach};
use tarrl_tensor::Tensor;

/// The result of the attack on views.
#[derive(Default)]
pub(super) struct Attack {
    /// The adversarial views, constants, each `(n, h, w, c)`, in the order of [`Plan::attacked`].
    pub(super) views: Vec<Tensor>,
    pub(super) passes: Passes,
}

/// Attacks the views that the method's adversary names; nothing without an adversary.
///
/// The network is a constant: no gradient of a weight is computed. In evaluation mode its batch norms are folded away.
pub(super) fn attack(ctx: &StepContext<'_>) -> Attack {
    let Some(adversary) = &ctx.method.adversary else { return Attack::default() };
    let (plan, n) = (&ctx.plan, ctx.batch_size());
    let embed = frozen_network(ctx.networks.model, adversary.mode, adversary.branch);

    // The references, which are not perturbed.
    let places = match adversary.ascends {
        AdversaryLoss::Representation => plan.attacked.clone(),
        AdversaryLoss::Objective => references(adversary, plan),
    };
    let output = (!places.is_empty()).then(|| embed(&ctx.images(&places)).detach());
    let references: Vec<ViewEmbeddings> = output
        .iter()
        .flat_map(|all| {
            (0..places.len()).map(|part| ViewEmbeddings::new(ctx, all, part, places[part], Scope::Shard))
        })
        .collect();

    // The loss of the attack at perturbed images u `(attacked·n, h, w, c)`.
    let loss = |u: &Tensor| {
        let output = embed(u);
        let perturbed: Vec<ViewEmbeddings> = (plan.attacked.iter().enumerate())
            .map(|(part, &place)| ViewEmbeddings::new(ctx, &output, part, place, Scope::Shard))
            .collect();
        match adversary.ascends {
            AdversaryLoss::Objective => {
                objective(ctx, &references.iter().chain(&perturbed).collect::<Vec<_>>(), Scope::Shard)
            }
            AdversaryLoss::Representation => {
                let squares = references.iter().zip(&perturbed).map(|(clean, moved)| {
                    (&moved.online.features - &clean.online.features).square().sum_all()
                });
                squares.reduce(|sum, square| &sum + &square).expect("an attack moves a view")
            }
        }
    };
    let start = ctx.input.initial_points.adversary.as_ref().expect("an adversary has an initial point");
    let attack = ctx.method.adversary_attack(ctx.input.epsilon_scale).expect("an adversary has an attack");
    let (points, steps) = batch_pgd(&ctx.images(&plan.attacked), &loss, &attack, start);
    Attack {
        views: (0..plan.attacked.len()).map(|view| points.slice(0, view * n, n)).collect(),
        passes: Passes { forward: (places.len() * n) as u64 + steps, backward: steps },
    }
}

/// The views that a single attacked view is compared with; two are compared with each other.
fn references(adversary: &Adversary, plan: &Plan) -> Vec<usize> {
    match (&plan.attacked[..], adversary.against) {
        (&[source], AdversaryReference::Original) => vec![source],
        (&[source], AdversaryReference::Others) => (0..plan.views).filter(|&view| view != source).collect(),
        _ => Vec::new(),
    }
}

/// The attacked networks, without gradients in parameters.
fn frozen_network(
    model: &Model,
    mode: EncoderMode,
    branch: BnBranch,
) -> Box<dyn Fn(&Tensor) -> NetworkOutput> {
    let mut model = model.clone();
    detach(&mut model);
    match mode {
        EncoderMode::Train => Box::new(move |u| model.embed(u, &mut ForwardContext::train().branch(branch))),
        EncoderMode::Eval => {
            let (encoder, heads) = (model.encoder.inference_branch(branch), model.heads);
            Box::new(move |u| heads.embed(encoder.forward(u), &mut ForwardContext::eval().branch(branch)))
        }
    }
}
