//! Checks of encoders: a closure from inputs `(n, …)` to representations `(n, d)`.

use super::violation::{Violation, at_most, equals};
use crate::heads::SoftmaxHead;
use crate::numerics::LpNorm;
use tarrl_attacks::{Pgd, Start, Threat, pgd};
use tarrl_tensor::{DType, Key, Tensor};

/// The bound of a head at given points: for each sample the loss at `moved` `(n, …)` is at most the bound at
/// `x` `(n, …)` for the displacement of its representation, and a head that certifies that radius decides for
/// the label at both. Theorems A2 and B2 (docs/theory.md).
///
/// # Errors
/// The first sample for which it is not so.
///
/// # Panics
/// If the shapes do not fit or a label is out of range.
#[track_caller]
pub fn bound_holds(
    encoder: &dyn Fn(&Tensor) -> Tensor,
    head: &dyn SoftmaxHead,
    x: &Tensor,
    moved: &Tensor,
    labels: &[usize],
) -> Result<(), Violation> {
    let (z, z_moved) = (encode(encoder, x), encode(encoder, moved));
    assert!(
        z.len() == z_moved.len() && z.len() == labels.len(),
        "bound_holds: {} and {} representations, {} labels",
        z.len(),
        z_moved.len(),
        labels.len()
    );
    for (i, ((clean, attacked), &label)) in z.iter().zip(&z_moved).zip(labels).enumerate() {
        let radius = LpNorm::L2.distance(clean, attacked);
        let what = format!("the loss of sample {i} against its bound");
        at_most(&what, head.loss(attacked, label), head.radius_bound(clean, label, radius))?;
        let right = |z: &[f64]| head.gaps(z, label).iter().enumerate().all(|(j, &m)| j == label || m < 0.0);
        // The radius is rounded, so that its point may lie a rounding error outside.
        if head.is_certified(clean, label, radius * (1.0 + 1e-11)) && !(right(clean) && right(attacked)) {
            return Err(Violation::Flipped(format!("sample {i}")));
        }
    }
    Ok(())
}

/// Attack ≤ certificate, sample by sample and without any slack: what a sound certificate, evaluated against
/// points re-encoded in f64, must satisfy.
///
/// # Errors
/// The first sample for which it is not so, or is not a number.
///
/// # Panics
/// If there are not as many of both.
#[track_caller]
pub fn attack_is_below_certificate(attacked: &[f64], certified: &[f64]) -> Result<(), Violation> {
    let (n, m) = (attacked.len(), certified.len());
    assert_eq!(n, m, "attack_is_below_certificate: {n} displacements and {m} certificates");
    for (i, (&found, &bound)) in attacked.iter().zip(certified).enumerate() {
        let ordered = found <= bound;
        if !ordered {
            let what = format!("the displacement of sample {i} against its certificate");
            return Err(Violation::Above { what, found, bound });
        }
    }
    Ok(())
}

/// Whether what `measure` returns for each sample, `(n)`, never decreases as ε increases through `epsilons`. A share
/// `relative` of the smaller value is tolerated: zero for a certificate or an exact maximum; more for an attack,
/// which may find less in a larger ball, much less where an encoder saturates.
///
/// # Errors
/// The first sample and ε for which it is not so.
pub fn is_monotone_in_epsilon(
    measure: &dyn Fn(f64) -> Vec<f64>,
    epsilons: &[f64],
    relative: f64,
) -> Result<(), Violation> {
    let measured: Vec<Vec<f64>> = epsilons.iter().map(|&epsilon| measure(epsilon)).collect();
    for (pair, e) in measured.windows(2).zip(epsilons.windows(2)) {
        for (i, (small, large)) in pair[0].iter().zip(&pair[1]).enumerate() {
            at_most(
                &format!("R of sample {i} at ε = {} against {}", e[0], e[1]),
                small * (1.0 - relative),
                *large,
            )?;
        }
    }
    Ok(())
}

/// Whether `measure` gives exactly zero for every sample at ε = 0.
///
/// # Errors
/// The first sample for which it is not so.
pub fn is_zero_at_zero_epsilon(measure: &dyn Fn(f64) -> Vec<f64>) -> Result<(), Violation> {
    for (i, r) in measure(0.0).into_iter().enumerate() {
        equals(&format!("R of sample {i} at ε = 0"), r, 0.0, 0.0)?;
    }
    Ok(())
}

/// Whether the representation of a row depends on that row alone, up to a relative error of `tolerance`:
/// otherwise no statement about the ball around one input is one about the encoder. Batch normalization in
/// training mode fails.
///
/// # Errors
/// The first row that changes when it is encoded alone.
pub fn rows_are_independent(
    encoder: &dyn Fn(&Tensor) -> Tensor,
    x: &Tensor,
    tolerance: f64,
) -> Result<(), Violation> {
    for (i, row) in encode(encoder, x).iter().enumerate() {
        let alone = &encode(encoder, &x.slice(0, i, 1))[0];
        let moved = LpNorm::L2.distance(row, alone);
        let what = format!("the change of row {i} when it is encoded alone");
        at_most(&what, moved, tolerance * LpNorm::L2.of(alone))?;
    }
    Ok(())
}

/// A lower bound of `R_2(x)` for each sample, `(n)`: the displacement that PGD reaches, from a random start as
/// it must, with the points encoded again and compared in f64. For use as the `measure` of the checks above
/// and as the lower side of [`attack_is_below_certificate`].
///
/// # Panics
/// As [`pgd`].
#[track_caller]
pub fn displacements(
    encoder: &dyn Fn(&Tensor) -> Tensor,
    x: &Tensor,
    threat: &Threat,
    config: &Pgd,
    key: Key,
) -> Vec<f64> {
    let n = x.shape()[0];
    let keys: Vec<Key> = (0..n).map(|i| key.fold(i)).collect();
    let z = encoder(&x.detach()).detach();
    let away = |u: &Tensor, rows: &[usize]| {
        // Without early stopping the rows are always the whole batch.
        debug_assert_eq!(rows.len(), n);
        (&encoder(u) - &z).square().sum(1).reshape([n])
    };
    let config = Pgd { start: Start::Random, include_clean: true, early_stop: false, ..*config };
    let found = pgd(x, &away, threat, &config, &keys).best;
    let pairs = encode(encoder, x).into_iter().zip(encode(encoder, &found));
    pairs.map(|(z, moved)| LpNorm::L2.distance(&z, &moved)).collect()
}

/// The representations, one row each.
#[track_caller]
fn encode(encoder: &dyn Fn(&Tensor) -> Tensor, x: &Tensor) -> Vec<Vec<f64>> {
    let z = encoder(&x.detach()).detach().cast(DType::F64);
    let (n, rank) = (x.shape()[0], z.shape().rank());
    assert!(rank == 2 && z.shape()[0] == n, "encoder: {n} inputs to {:?}, not (n, d)", z.shape());
    z.to_vec::<f64>().chunks(z.shape()[1].max(1)).map(<[f64]>::to_vec).collect()
}
