//! Rows of random numbers, each row its own stream: bits do not depend on the other rows.

use super::memory::Block;
use super::pointwise::Env;
use super::real::Real;
use crate::backend::Random;
use crate::key::{Key, unit};
use crate::math;

pub(super) fn random<R: Real>(env: &Env<'_>, law: Random, rows: &[Key], width: usize) -> Block<R> {
    env.fill_rows(rows.len(), width, |first, out| {
        for (key, row) in rows[first..].iter().zip(out.chunks_exact_mut(width.max(1))) {
            for (block, values) in row.chunks_mut(4).enumerate() {
                let words = key.block(block as u64);
                let numbers = match law {
                    Random::Uniform => words.map(|w| f64::from(unit(w))),
                    Random::Normal => {
                        let (a, b) = box_muller(words[0], words[1]);
                        let (c, d) = box_muller(words[2], words[3]);
                        [a, b, c, d]
                    }
                };
                for (y, x) in values.iter_mut().zip(numbers) {
                    *y = R::of(x);
                }
            }
        }
    })
}

fn box_muller(u: u32, v: u32) -> (f64, f64) {
    // (u + 1) / 2³² is in (0, 1], so the logarithm is finite.
    let radius = (-2.0 * math::ln((f64::from(u) + 1.0) / 4_294_967_296.0)).sqrt();
    let (sin, cos) = math::sin_cos(std::f64::consts::TAU * (f64::from(v) / 4_294_967_296.0));
    (radius * cos, radius * sin)
}
