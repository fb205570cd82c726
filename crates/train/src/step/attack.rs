//! The adversarial views of a step.

use super::{Side, StepOutput, Work, compare};
use crate::ascend::ascend;
use crate::method::{Adversary, Against, Ascends, Mode, Plan};
use crate::model::{Embedded, Model};
use tarrl_encoders::{BnBranch, ForwardContext, detach};
use tarrl_tensor::Tensor;

/// The images of the plan that are attacked, moved: constants, each `(n, h, w, c)`.
///
/// The network is a constant too: no gradient of a weight is computed. In the mode of evaluation its batch norms
/// are folded away.
pub(super) fn attack(work: &Work<'_>, adversary: &Adversary, output: &mut StepOutput) -> Vec<Tensor> {
    let Work { net, input, plan, .. } = work;
    let embed = network(net.model, adversary.mode, adversary.branch);
    let n = input.keys.len();
    // What the attacked views are compared with, which stays.
    let others = match adversary.ascends {
        Ascends::Representation => plan.attacked.clone(),
        Ascends::Objective => others(adversary, plan),
    };
    let still = (!others.is_empty()).then(|| embed(&work.images(&others)).detach());
    output.forward += (others.len() * n) as u64;
    let still: Vec<Side> = still
        .iter()
        .flat_map(|all| (0..others.len()).map(|part| work.side(all, part, others[part])))
        .collect();
    let value = |u: &Tensor| {
        let embedded = embed(u);
        let moved: Vec<Side> = (plan.attacked.iter().enumerate())
            .map(|(part, &place)| work.side(&embedded, part, place))
            .collect();
        match adversary.ascends {
            Ascends::Objective => compare(work, &still.iter().chain(&moved).collect::<Vec<_>>()),
            Ascends::Representation => {
                let squares = still.iter().zip(&moved).map(|(z, u)| (&u.own.h - &z.own.h).square().sum_all());
                squares.reduce(|sum, square| &sum + &square).expect("an attack moves a view")
            }
        }
    };
    let start = input.starts.adversary.as_ref().expect("an adversary begins somewhere");
    let (points, passes) = ascend(&work.images(&plan.attacked), &value, &adversary.attack, start);
    output.forward += passes;
    output.backward += passes;
    (0..plan.attacked.len()).map(|view| points.slice(0, view * n, n)).collect()
}

/// The views that a single attacked view is compared with; two are compared with each other.
fn others(adversary: &Adversary, plan: &Plan) -> Vec<usize> {
    match (&plan.attacked[..], adversary.against) {
        (&[source], Against::Original) => vec![source],
        (&[source], Against::Others) => (0..plan.views).filter(|&view| view != source).collect(),
        _ => Vec::new(),
    }
}

/// The networks as they are attacked, constants only.
fn network(model: &Model, mode: Mode, branch: BnBranch) -> Box<dyn Fn(&Tensor) -> Embedded> {
    let mut still = model.clone();
    detach(&mut still);
    match mode {
        Mode::Train => Box::new(move |u| still.embed(u, &mut ForwardContext::train().branch(branch))),
        Mode::Eval => {
            let (frozen, heads) = (still.encoder.inference_branch(branch), still.heads);
            Box::new(move |u| heads.embed(frozen.forward(u), &mut ForwardContext::eval().branch(branch)))
        }
    }
}
