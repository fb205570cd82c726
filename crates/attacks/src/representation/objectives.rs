//! Objectives on representations: displacement, feature matching, contrastive; attacks without labels.
//!
//! The displacement from the clean representation is least at the clean point, where its gradient
//! vanishes: begin at random ([`Start::Random`](crate::Start)) or along the direction that moves most
//! ([`Start::Spectral`](crate::Start)), never at the input. References are constants, computed once.

use crate::driver::{AttackStatus, Evaluation, Query};
use crate::threat::Norm;
use crate::threat::rows::row_index;
use serde::{Deserialize, Serialize};
use tarrl_tensor::{Array, Tensor};

/// What keeps the cosine of a zero vector defined.
const COSINE_FLOOR: f64 = 1e-8;

/// An encoder, `(m, …)` to `(m, d)`.
pub type Encoder<'a> = dyn Fn(&Tensor) -> Tensor + 'a;

/// How far apart two representations are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Distance {
    /// ‖a − b‖², the sum over features.
    #[default]
    SquaredL2,
    /// ‖a − b‖.
    L2,
    /// Σ |a_i − b_i|.
    L1,
    /// 1 − cos(a, b); 1 if either is zero.
    Cosine,
    /// KL(softmax b ‖ softmax a) in nats: representations as logits, `b` the reference.
    Kl,
}

impl Distance {
    /// The distance `(m)` of representations `z` from `reference`, both `(m, d)`.
    ///
    /// # Panics
    /// If the shapes differ or are not `(m, d)`.
    #[track_caller]
    pub fn between(&self, z: &Tensor, reference: &Tensor) -> Tensor {
        let shape = *z.shape();
        assert!(
            shape.rank() == 2 && z.shape() == reference.shape(),
            "distance: representations {shape:?} and {:?}, not both (m, d)",
            reference.shape()
        );
        let gap = || z - reference;
        let values = match self {
            Distance::SquaredL2 => gap().square().sum(1),
            Distance::L2 => gap().norm(1),
            Distance::L1 => gap().abs().sum(1),
            Distance::Cosine => {
                let unit = |v: &Tensor| v.l2_normalize(COSINE_FLOOR);
                (&unit(z) * &unit(reference)).sum(1).neg().add_scalar(1.0)
            }
            Distance::Kl => {
                let log = reference.log_softmax();
                (&log.exp() * &(&log - &z.log_softmax())).sum(1)
            }
        };
        values.reshape([shape[0]])
    }
}

/// The distance of a point's representation from `reference` `(n, d)`, such as that of the clean input or of
/// another encoder, to be ascended: feature displacement.
pub fn away<'a>(
    encoder: &'a Encoder<'a>,
    reference: &'a Tensor,
    distance: Distance,
) -> impl Fn(&Tensor, &[usize]) -> Tensor + 'a {
    move |u, rows| distance.between(&encoder(u), &take(reference, rows))
}

/// The negative distance from `target` `(n, d)`, to be ascended: targeted feature matching.
pub fn towards<'a>(
    encoder: &'a Encoder<'a>,
    target: &'a Tensor,
    distance: Distance,
) -> impl Fn(&Tensor, &[usize]) -> Tensor + 'a {
    move |u, rows| distance.between(&encoder(u), &take(target, rows)).neg()
}

/// The same with a verdict: an input impersonates another when its representation is nearer to `target` than
/// to its `own`, both `(n, d)`. The margin is the difference of the two distances.
pub fn impersonate<'a>(
    encoder: &'a Encoder<'a>,
    own: &'a Tensor,
    target: &'a Tensor,
    distance: Distance,
) -> impl Fn(&Tensor, Query<'_>) -> Evaluation + 'a {
    move |u, query| {
        let z = encoder(u);
        let value = distance.between(&z, &take(target, query.rows)).neg();
        let to_own = distance.between(&z.detach(), &take(own, query.rows)).array().to_f64();
        let margins = value.array().to_f64().into_iter().zip(to_own).map(|(value, own)| -value - own);
        let verdict = margins.map(|margin| AttackStatus { success: margin < 0.0, margin }).collect();
        Evaluation { value, verdict: Some(verdict) }
    }
}

/// The instance-wise contrastive loss of each point against frozen `keys` `(q, d)`, to be ascended:
///
/// ```text
/// −ln( exp(s_ii / τ) / Σ_j exp(s_ij / τ) ),    s_ij = cos(f(u_i), key_j)
/// ```
///
/// The first n keys are the positives of the n samples, the clean representations of themselves or of
/// another view; all others of a sample are its negatives, a queue behind them too. With the keys frozen each
/// value is a function of its own point alone, so that results do not depend on the batch that is
/// attacked together (Kim et al. 2020 recompute them in the batch, with the gradient stopped).
///
/// # Panics
/// If there are fewer than two keys: without a negative the loss is zero everywhere.
#[track_caller]
pub fn instance_wise<'a>(
    encoder: &'a Encoder<'a>,
    keys: &'a Tensor,
    temperature: f64,
) -> impl Fn(&Tensor, &[usize]) -> Tensor + 'a {
    assert!(keys.shape()[0] >= 2, "instance-wise attack: no negatives among keys {:?}", keys.shape());
    let unit = keys.detach().l2_normalize(COSINE_FLOOR).t();
    move |u, rows| {
        let similarity = encoder(u).l2_normalize(COSINE_FLOOR).matmul(&unit).mul_scalar(1.0 / temperature);
        let positive: Vec<u32> = rows.iter().map(|&row| row as u32).collect();
        similarity.cross_entropy(&Array::new(u.device(), [rows.len()], &positive))
    }
}

/// How much the encoder stretches a displacement, `‖f(u) − f(x)‖₂ / max(‖u − x‖, floor)`, to be ascended: a
/// lower bound of a local Lipschitz constant from the norm of the inputs, which is l-infinity, l2 or l1.
///
/// `x` is `(n, …)` and `reference` its representations `(n, d)`.
///
/// # Panics
/// If the norm is l0, or the floor is not above zero.
#[track_caller]
pub fn stretch<'a>(
    encoder: &'a Encoder<'a>,
    (x, reference): (&'a Tensor, &'a Tensor),
    norm: Norm,
    floor: f64,
) -> impl Fn(&Tensor, &[usize]) -> Tensor + 'a {
    assert!(norm != Norm::L0, "stretch: l0 is no norm");
    assert!(floor > 0.0, "stretch: the floor is {floor}");
    move |u, rows| {
        let m = rows.len();
        let moved = (u - &take(x, rows)).reshape([m, x.shape()[1..].iter().product()]);
        let size = match norm {
            Norm::Linf => moved.abs().max(1),
            Norm::L2 => moved.norm(1),
            Norm::L1 | Norm::L0 => moved.abs().sum(1),
        };
        let size = size.reshape([m]);
        let floor = size.zeros_like().add_scalar(floor);
        &Distance::L2.between(&encoder(u), &take(reference, rows)) / &size.maximum(&floor)
    }
}

fn take(all: &Tensor, rows: &[usize]) -> Tensor {
    let all = all.detach();
    let whole = rows.len() == all.shape()[0] && rows.iter().enumerate().all(|(i, &row)| i == row);
    if whole { all } else { all.gather(0, &row_index(&all, rows)) }
}
