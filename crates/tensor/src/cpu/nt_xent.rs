//! NT-Xent of rows that come in pairs: their similarities, the cross-entropy of the partner, and its adjoint.

use super::matmul::{Factor, Product, matmul, on_one_thread};
use super::memory::Block;
use super::pointwise::Env;
use super::real::Real;
use super::reduce::total;
use super::symmetric;
use super::wide::wide;

/// Rows of a band, whose part of the gradient stays in the second-level cache.
const BAND: usize = 64;

/// Exponents of which all are at least minus this give normal numbers, and thousands of them add up to one.
const SPREAD: f64 = 72.0;

/// The cross-entropy of each row of `z·zᵀ`, its own entry left out, against its partner, and what the adjoint needs:
/// `e_ij = exp(z_i·z_j − t)`, zero for a row itself and its partner; the exponentials of the partners; the sums of rows
/// of `e`.
///
/// One `t` for all rows, the largest `|z_i|²`, keeps the exponentials as symmetric as the similarities, so that the adjoint
/// takes no other. `None` if they might then be too small: no similarity is below `−t`.
pub(super) fn forward<R: Factor>(env: &Env<'_>, z: &[R], partners: &[u32]) -> Option<[Block<R>; 3]> {
    let m = partners.len();
    let k = z.len() / m;
    for (i, &partner) in partners.iter().enumerate() {
        let partner = partner as usize;
        let paired = partner < m && partner != i && partners[partner] as usize == i;
        assert!(paired, "nt_xent: row {i} of {m} has the partner {partner}, which is not paired with it");
    }
    let mut e = env.memory.block(m * m);
    if symmetric::is_worth(z, z, m) {
        symmetric::gram(env, z, m, &mut e);
    } else {
        matmul(env, &Product { m, n: m, k, tb: true, ..Product::default() }, z, z, &mut e);
    }
    let squares = e.iter().step_by(m + 1).map(|e| e.f64());
    // A NaN stays, and does not fit.
    let top = squares.fold(0.0, |top, square| if square > top || square.is_nan() { square } else { top });
    let fits = 2.0 * top <= SPREAD;
    if !fits {
        return None;
    }
    let [mut losses, mut sums] = [env.memory.block(m), env.memory.block(2 * m)];
    let (of_partners, of_others) = sums.split_at_mut(m);
    let bands = (losses.chunks_mut(BAND)).zip(of_partners.chunks_mut(BAND)).zip(of_others.chunks_mut(BAND));
    let bands = e.chunks_mut(BAND * m).zip(bands).enumerate();
    env.threads.worth(m * m * k).for_each_item(bands, |(band, (e, ((losses, of_partners), of_others)))| {
        let rows = Rows { losses, of_partners, of_others };
        exponentials(e, R::of(top), band * BAND, partners, rows);
    });
    Some([losses, e, sums])
}

/// One entry for each row of a band.
struct Rows<'a, R> {
    losses: &'a mut [R],
    of_partners: &'a mut [R],
    of_others: &'a mut [R],
}

wide! {
    fn exponentials<R: Real>(e: &mut [R], top: R, first: usize, partners: &[u32], rows: Rows<'_, R>) {
        let Rows { losses, of_partners, of_others } = rows;
        let m = partners.len();
        for (i, e) in e.chunks_exact_mut(m).enumerate() {
            for e in e.iter_mut() {
                *e = (*e - top).exp();
            }
            let partner = partners[first + i] as usize;
            of_partners[i] = e[partner];
            e[partner] = R::ZERO;
            e[first + i] = R::ZERO;
            of_others[i] = R::of(total(e));
            losses[i] = (of_others[i] / of_partners[i]).ln_1p();
        }
    }
}

/// Its adjoint: `(w_ij + w_ji)·z` with `w_ij = dy_i·e_ij / Σ`, `Σ` the sum of a row and its partner's exponential, and for
/// the partner minus the sum of the row's others: this does not cancel when the partner has nearly all.
pub(super) fn adjoint<R: Factor>(
    env: &Env<'_>,
    z: &[R],
    partners: &[u32],
    [e, sums]: [&[R]; 2],
    dy: &[R],
) -> Block<R> {
    let m = partners.len();
    let k = z.len() / m;
    let (of_partners, of_others) = sums.split_at(m);
    let mut factors = env.memory.block(m);
    for (i, factor) in factors.iter_mut().enumerate() {
        *factor = dy[i] / (of_partners[i] + of_others[i]);
    }
    let all = |i: usize| factors[i] * of_others[i];
    let threads = env.threads.worth(m * m * k);
    let mut dz = env.memory.block(m * k);
    let mut spaces = env.memory.block(BAND * m * threads.count());
    let bands = dz.chunks_mut(BAND * k).zip(e.chunks(BAND * m)).enumerate();
    threads.for_each_item_with(spaces.chunks_mut(BAND * m), bands, |space, (band, (dz, e))| {
        let first = band * BAND;
        let weights = &mut space[..e.len()];
        both_ways(e, &factors, first, weights);
        for (i, weights) in (first..).zip(weights.chunks_exact_mut(m)) {
            let partner = partners[i] as usize;
            weights[partner] = -(all(i) + all(partner));
        }
        on_one_thread(&Product { m: dz.len() / k, n: k, k: m, ..Product::default() }, weights, z, dz);
    });
    dz
}

wide! {
    fn both_ways<R: Real>(e: &[R], factors: &[R], first: usize, weights: &mut [R]) {
        let m = factors.len();
        for (i, (weights, e)) in weights.chunks_exact_mut(m).zip(e.chunks_exact(m)).enumerate() {
            let own = factors[first + i];
            for ((weight, &e), &other) in weights.iter_mut().zip(e).zip(factors) {
                *weight = e * (own + other);
            }
        }
    }
}
