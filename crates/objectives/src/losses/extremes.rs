//! Every loss on embeddings that are huge, tiny, collapsed, repeated or zero, in f32: a finite value with finite
//! gradients, or no number that looks like one, with a remedy.

use super::Objective;
use crate::embeddings::Embeddings;
use crate::testing::{labels, normal};
use tarrl_tensor::{DType, Key, Tensor, cpu, grad};

const N: usize = 8;
const D: usize = 4;

/// Every loss, at settings that fit eight rows of four numbers.
fn all() -> Vec<Objective> {
    let read = |kind: &&str| toml::from_str::<Objective>(&format!("kind = '{kind}'")).expect("defaults");
    let mut all: Vec<Objective> = Objective::KINDS.iter().map(read).collect();
    for objective in &mut all {
        match objective {
            Objective::WMse(config) => config.block = N,
            Objective::Dino(config) => config.prototypes = D,
            _ => {}
        }
    }
    let whitened = all.iter().find_map(|objective| match objective {
        Objective::WMse(config) => Some(super::WMse { epsilon: 1e-4, ..*config }),
        _ => None,
    });
    all.extend(whitened.map(Objective::WMse));
    all
}

/// Two views whose rows are alike in some way, before they are scaled.
fn shapes() -> Vec<(&'static str, [Tensor; 2])> {
    let views = [normal(1, N, D), normal(2, N, D)];
    let map = |f: &dyn Fn(&Tensor) -> Tensor| [f(&views[0]), f(&views[1])];
    let columns = |kept: usize| {
        let mask: Vec<f64> = (0..D).map(|j| f64::from(u8::from(j < kept))).collect();
        Tensor::new(&cpu(), [1, D], &mask)
    };
    vec![
        ("random", views.clone()),
        ("equal views", [views[0].clone(), views[0].clone()]),
        ("collapsed", map(&|z| z.slice(0, 0, 1).broadcast_to([N, D]))),
        ("one constant", [0, 1].map(|_| Tensor::full(&cpu(), [N, D], DType::F64, 1.0))),
        ("zeros", map(&Tensor::zeros_like)),
        (
            "a row of zeros",
            map(&|z| Tensor::concat(&[&z.slice(0, 0, 1).zeros_like(), &z.slice(0, 1, N - 1)], 0)),
        ),
        (
            "two rows, again and again",
            map(&|z| {
                Tensor::concat(
                    &(0..N / 2).map(|_| z.slice(0, 0, 2)).collect::<Vec<_>>().iter().collect::<Vec<_>>(),
                    0,
                )
            }),
        ),
        ("dead columns", map(&|z| z * &columns(2).broadcast_to([N, D]))),
    ]
}

fn loss_and_gradients(objective: &Objective, views: &[Tensor; 2], scale: f64) -> (f64, Vec<f64>) {
    let scaled = |z: &Tensor| z.mul_scalar(scale).cast(DType::F32);
    let online = [scaled(&views[0]).requires_grad(), scaled(&views[1]).requires_grad()];
    let targets = [scaled(&views[1]), scaled(&views[0])];
    let (loss, y) = (objective.as_loss(), labels(&[0, 1, 2, 3, 0, 1, 2, 3]));
    let needs = loss.needs();
    let state = loss.initial_state(&cpu(), Key::new(1), D);
    let value = loss.loss(&Embeddings {
        online: &online,
        targets: if needs.targets { &targets } else { &[] },
        labels: needs.labels.then_some(&y),
        state: state.as_deref(),
        key: Key::new(7),
    });
    let gradients = grad(&value, &[&online[0], &online[1]]);
    (value.item(), gradients.iter().flat_map(|g| g.array().to_f64()).collect())
}

/// Whether all is finite.
fn is_finite((value, gradients): &(f64, Vec<f64>)) -> bool {
    value.is_finite() && gradients.iter().all(|g| g.is_finite())
}

/// VICReg has a value that f32 cannot hold where embeddings are huge, and W-MSE without ε none where they do not span
/// all dimensions; both have a remedy for the message of a training.
#[test]
fn every_loss_is_finite_on_extreme_embeddings_or_has_a_remedy() {
    for objective in all() {
        let mut unfit = Vec::new();
        for (name, views) in shapes() {
            for scale in [1e-30, 1e-9, 1.0, 1e6, 1e15, 1e18] {
                let found = loss_and_gradients(&objective, &views, scale);
                if !is_finite(&found) {
                    unfit.push((name, scale));
                }
            }
        }
        let allowed = |&(name, scale): &(&str, f64)| match &objective {
            Objective::VicReg(_) => scale > 1e6 && name != "zeros",
            // An ε of 1e-4 is lost beside the covariance of embeddings of 1e6.
            Objective::WMse(config) => {
                let is_singular = !["random", "equal views", "a row of zeros"].contains(&name);
                is_singular && (config.epsilon == 0.0 || scale >= 1e6)
            }
            _ => false,
        };
        assert!(unfit.iter().all(allowed), "{objective:?}: not finite for {unfit:?}");
        assert!(unfit.is_empty() || objective.as_loss().remedy().is_some(), "{objective:?}: {unfit:?}");
    }
}

/// An overflow of the loss shows: infinity, not the absence of a number, and no finite number.
#[test]
fn vicreg_overflows_to_infinity() {
    let [(_, views), ..] = &shapes()[..] else { unreachable!() };
    let objective = Objective::VicReg(super::VicReg::default());
    assert_eq!(loss_and_gradients(&objective, views, 1e18).0, f64::INFINITY);
}

/// Without ε the loss of W-MSE does not change with the scale: that is so where squares overflow or vanish, too.
#[test]
fn w_mse_is_invariant_to_any_scale() {
    let [(_, views), ..] = &shapes()[..] else { unreachable!() };
    let objective = Objective::WMse(super::WMse { block: N, ..super::WMse::default() });
    let (value, gradients) = loss_and_gradients(&objective, views, 1.0);
    for scale in [1e-30, 1e-18, 1e-10, 1e10, 1e18, 1e30] {
        let (found, slopes) = loss_and_gradients(&objective, views, scale);
        // Whitening eight rows of four numbers, condition about 10, loses some tens of units in the last place of f32.
        assert!((found - value).abs() < 1e-4, "{scale}: {found} but {value}");
        let largest = gradients.iter().fold(0f64, |m, g| m.max(g.abs()));
        let off = gradients.iter().zip(&slopes).map(|(g, s)| (g - s * scale).abs()).fold(0.0, f64::max);
        assert!(off < 1e-3 * largest, "{scale}: a gradient is off by {off} of {largest}");
    }
}
