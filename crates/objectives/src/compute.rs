//! From the choice of a loss to the loss.

use crate::embeddings::Embeddings;
use crate::objective::Objective;
use crate::{
    barlow_twins, byol, cross_entropy, dino, moco_v2, moco_v3, nt_xent, nt_xent_together, simsiam, sinkhorn,
    sup_con, swav, trades, vicreg, w_mse,
};
use tarrl_tensor::{Array, Tensor};

#[track_caller]
pub(crate) fn of(objective: &Objective, step: &Embeddings<'_>) -> Tensor {
    let online: Vec<&Tensor> = step.online.iter().collect();
    match objective {
        Objective::NtXent { temperature } => {
            over_pairs(step, &|i, j| nt_xent(online[i], online[j], *temperature))
        }
        Objective::NtXentTogether { temperature, sides } => nt_xent_together(&online, *temperature, *sides),
        Objective::MocoV2(config) => {
            let queue = step.queue.expect("moco-v2: no queue");
            let one = |q: usize, k: usize| moco_v2([online[q], target(step, k)], queue, config.temperature);
            over_pairs(step, &|i, j| &one(i, j) + &one(j, i))
        }
        Objective::MocoV3 { temperature } => {
            let one = |q: usize, k: usize| moco_v3(online[q], target(step, k), *temperature);
            over_pairs(step, &|i, j| &one(i, j) + &one(j, i))
        }
        Objective::Byol {} => {
            let one = |p: usize, k: usize| byol(online[p], target(step, k));
            over_pairs(step, &|i, j| &one(i, j) + &one(j, i))
        }
        Objective::SimSiam {} => {
            let one = |p: usize, z: usize| simsiam(online[p], target(step, z));
            over_pairs(step, &|i, j| (&one(i, j) + &one(j, i)).mul_scalar(0.5))
        }
        Objective::BarlowTwins(config) => {
            over_pairs(step, &|i, j| barlow_twins(online[i], online[j], config))
        }
        Objective::VicReg(config) => over_pairs(step, &|i, j| vicreg(online[i], online[j], config)),
        Objective::WMse(config) => w_mse(&online, config, step.key),
        Objective::SwAv(config) => {
            let codes: Vec<Tensor> =
                online.iter().map(|s| sinkhorn(s, config.epsilon, config.iterations)).collect();
            over_pairs(step, &|i, j| swav([online[i], online[j]], [&codes[i], &codes[j]], config.temperature))
        }
        Objective::Dino(config) => {
            let center = step.center.expect("dino: no center");
            let targets = (0..config.global.min(step.targets.len()))
                .map(|i| center.targets(target(step, i), config.teacher_temperature));
            dino(&online, &targets.collect::<Vec<_>>().iter().collect::<Vec<_>>(), config.temperature)
        }
        Objective::SupCon(config) => sup_con(&online, labels(step), config),
        Objective::CrossEntropy {} => {
            let losses = online.iter().map(|logits| cross_entropy(logits, labels(step)));
            mean(losses.collect())
        }
        Objective::Trades { beta } => match online[..] {
            [clean, adversarial] => trades([clean, adversarial], labels(step), *beta),
            _ => panic!("trades: {} views; it compares the clean and the attacked one", online.len()),
        },
    }
}

/// The mean of a loss over all pairs of views i < j.
#[track_caller]
fn over_pairs(step: &Embeddings<'_>, loss: &dyn Fn(usize, usize) -> Tensor) -> Tensor {
    let views = step.online.len();
    assert!(views > 1, "an objective of pairs of views: {views} views");
    mean((0..views).flat_map(|i| (i + 1..views).map(move |j| (i, j))).map(|(i, j)| loss(i, j)).collect())
}

#[track_caller]
fn mean(losses: Vec<Tensor>) -> Tensor {
    assert!(!losses.is_empty(), "an objective without views");
    let sum = losses[1..].iter().fold(losses[0].clone(), |sum, loss| &sum + loss);
    if losses.len() == 1 { sum } else { sum.mul_scalar(1.0 / losses.len() as f64) }
}

#[track_caller]
fn target<'a>(step: &Embeddings<'a>, view: usize) -> &'a Tensor {
    step.targets.get(view).unwrap_or_else(|| panic!("an objective with targets: none of view {view}"))
}

#[track_caller]
fn labels<'a>(step: &Embeddings<'a>) -> &'a Array {
    step.labels.expect("an objective of labels: there are none")
}
