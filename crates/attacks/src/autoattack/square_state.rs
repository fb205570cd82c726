//! Square of one sample (Andriushchenko et al. 2020; l1: Croce & Hein 2021): random search with square windows, by
//! forward passes alone.

use crate::autoattack::mode::Mode;
use crate::autoattack::sample_ball::SampleBall;
use crate::autoattack::square_window::eta;
use crate::driver::bits;
use crate::threat::Norm;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use tarrl_tensor::{Key, Shape, Stream};

/// Configuration of Square.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Square {
    /// Proposals of each restart, at most one forward pass each.
    pub queries: usize,
    /// p: the share of the pixels in the first windows.
    pub share: f64,
    /// Searches from different random points; at least one.
    pub restarts: usize,
    /// Whose schedule and windows.
    pub mode: Mode,
}

/// The parameters of AutoAttack.
impl Default for Square {
    fn default() -> Self {
        Square { queries: 5000, share: 0.8, restarts: 1, mode: Mode::Reference }
    }
}

/// The queries after which the share of a window halves, for a search of ten thousand.
const HALVINGS: [usize; 9] = [10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000];
/// How often a proposal that changes nothing is drawn again.
const REDRAWS: usize = 20;
/// How far inside the l1 ball proposals stay.
const INSIDE: f64 = 1.0 - 1e-6;
const SMALL_NORM: f64 = 1e-12;

/// The extents of an image in memory: rows, columns and, innermost, channels. A vector is one row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Extents {
    pub(crate) h: usize,
    pub(crate) w: usize,
    pub(crate) c: usize,
}

impl Extents {
    /// Those of the samples of a batch `(n, h, w, c)`, `(n, h, w)` or `(n, d)`.
    #[track_caller]
    pub(crate) fn of(batch: &Shape) -> Self {
        match batch[1..] {
            [h, w, c] => Extents { h, w, c },
            [h, w] => Extents { h, w, c: 1 },
            [d] => Extents { h: 1, w: d, c: 1 },
            _ => panic!("square: samples of shape {:?} are neither images nor vectors", &batch[1..]),
        }
    }

    fn at(&self, row: usize, column: usize, channel: usize) -> usize {
        (row * self.w + column) * self.c + channel
    }
}

/// A search in progress.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct SquareState {
    config: Square,
    extents: Extents,
    /// Proposals so far, the start not among them.
    #[serde(rename = "taken")]
    pub(crate) steps: u32,
    /// The best margin so far.
    #[serde(with = "bits")]
    margin: f64,
    #[serde(with = "bits")]
    best: Vec<f32>,
    #[serde(with = "bits")]
    proposal: Vec<f32>,
    /// Points that have been evaluated with windows of the present size, each by 128 bits that stand for it.
    seen: BTreeSet<[u64; 2]>,
}

impl SquareState {
    /// A search from a random start.
    pub(crate) fn new(ball: &SampleBall, config: &Square, extents: Extents, key: Key) -> Self {
        SquareState::from_draws(ball, config, extents, &mut Random(key.fold("start").stream()))
    }

    pub(crate) fn from_draws(
        ball: &SampleBall,
        config: &Square,
        extents: Extents,
        draws: &mut dyn Draws,
    ) -> Self {
        let proposal = match ball.norm {
            Norm::Linf => stripes(ball, extents, draws),
            _ => tiles(ball, extents, draws),
        };
        let (best, seen) = (ball.x.clone(), BTreeSet::new());
        SquareState { config: *config, extents, steps: 0, margin: f64::INFINITY, best, proposal, seen }
    }

    /// Whether a search that begins as `start` can come to this state.
    pub(crate) fn can_follow(&self, start: &SquareState) -> bool {
        let fixed =
            |state: &SquareState| (state.config, state.extents, state.best.len(), state.proposal.len());
        fixed(self) == fixed(start) && self.steps as usize <= self.config.queries
    }

    /// The point to evaluate next.
    pub(crate) fn point(&self) -> &[f32] {
        &self.proposal
    }

    /// Takes in the margin there and draws the next proposal; `false` if there is none. Of a
    /// deterministic model, proposals whose margin is known are not evaluated again.
    pub(crate) fn advance(
        &mut self,
        ball: &SampleBall,
        mut margin: f64,
        key: Key,
        deterministic: bool,
    ) -> bool {
        while (self.steps as usize) < self.config.queries {
            self.advance_with(ball, margin, &mut Random(key.fold(self.steps as usize).stream()));
            match self.known().filter(|_| deterministic) {
                Some(known) => margin = known,
                None => return true,
            }
        }
        self.take_in(margin);
        false
    }

    /// The same with given draws, before the last proposal.
    pub(crate) fn advance_with(&mut self, ball: &SampleBall, margin: f64, draws: &mut dyn Draws) {
        self.take_in(margin);
        if share(&self.config, self.steps as usize) != share(&self.config, self.steps as usize + 1) {
            self.seen.clear();
        }
        let tries = if self.config.mode == Mode::Paper { REDRAWS } else { 1 };
        for _ in 0..tries {
            self.propose(ball, draws);
            if self.proposal != self.best {
                break;
            }
        }
        self.steps += 1;
    }

    fn take_in(&mut self, margin: f64) {
        // A margin of zero is taken each time that it comes.
        if margin > 0.0 {
            self.seen.insert(name(&self.proposal));
        }
        if margin < self.margin || margin <= 0.0 {
            self.margin = margin;
            self.best.clone_from(&self.proposal);
        }
    }

    /// The margin of a proposal that is the best point; of another one that has been seen only that it is no better.
    fn known(&self) -> Option<f64> {
        if bits::same(&self.proposal, &self.best) {
            return Some(self.margin);
        }
        self.seen.contains(&name(&self.proposal)).then_some(f64::INFINITY)
    }

    fn propose(&mut self, ball: &SampleBall, draws: &mut dyn Draws) {
        let share = share(&self.config, self.steps as usize);
        self.proposal = match ball.norm {
            Norm::Linf => self.square(ball, share, draws),
            _ => self.pair(ball, share, draws),
        };
    }

    /// l-infinity: a square of one random vertex of the ball, each channel of its own sign.
    fn square(&self, ball: &SampleBall, share: f64, draws: &mut dyn Draws) -> Vec<f32> {
        let (e, size) = (self.extents, side(self.extents, share, 1));
        let (top, left) = (draws.below(self.origins(e.h, size.0)), draws.below(self.origins(e.w, size.1)));
        let mut u = self.best.clone();
        let reach = 2.0 * ball.epsilon;
        let signs = draws.signs(e.c);
        for row in top..top + size.0 {
            for column in left..left + size.1 {
                for (channel, sign) in signs.iter().enumerate() {
                    let v = &mut u[e.at(row, column, channel)];
                    *v = (f64::from(*v) + reach * sign) as f32;
                }
            }
        }
        ball.project(&mut u);
        u
    }

    /// l2 and l1: the displacement of a second window moves into the first one.
    fn pair(&self, ball: &SampleBall, share: f64, draws: &mut dyn Draws) -> Vec<f32> {
        let (e, power) = (self.extents, power(ball.norm));
        let size = side(e, share, 3);
        let (h, w) = (self.origins(e.h, size.0), self.origins(e.w, size.1));
        let first = (draws.below(h), draws.below(w));
        let second = (draws.below(h), draws.below(w));
        let mut delta: Vec<f64> = ball.displacement(&self.best).collect();
        let total = sum(delta.iter().copied(), power);
        let unused = (ball.epsilon.powi(power) - total).max(0.0);
        let shape = eta_of(size, power, draws);
        let signs = draws.signs(e.c);
        let inside = |corner: (usize, usize), row: usize, column: usize| {
            (corner.0..corner.0 + size.0).contains(&row) && (corner.1..corner.1 + size.1).contains(&column)
        };
        for (channel, sign) in signs.iter().enumerate() {
            let mut windows = 0.0;
            for row in 0..e.h {
                for column in 0..e.w {
                    if inside(first, row, column) || inside(second, row, column) {
                        windows += delta[e.at(row, column, channel)].abs().powi(power);
                    }
                }
            }
            let cells: Vec<usize> = (0..size.0 * size.1)
                .map(|i| e.at(first.0 + i / size.1, first.1 + i % size.1, channel))
                .collect();
            let own = root(sum(cells.iter().map(|&at| delta[at]), power), power) + SMALL_NORM;
            let mut new: Vec<f64> =
                cells.iter().zip(&shape).map(|(&at, shape)| shape * sign + delta[at] / own).collect();
            let length = root(sum(new.iter().copied(), power), power) + SMALL_NORM;
            // All of the budget that no window holds goes to this channel in l1, its share in l2: the
            // powers of the reference.
            let wanted = if power == 2 {
                (unused / e.c as f64 + windows).sqrt()
            } else {
                (unused / e.c as f64 + windows) * e.c as f64
            };
            new.iter_mut().for_each(|v| *v *= wanted / length);
            for row in second.0..second.0 + size.0 {
                for column in second.1..second.1 + size.1 {
                    delta[e.at(row, column, channel)] = 0.0;
                }
            }
            cells.iter().zip(&new).for_each(|(&at, v)| delta[at] = *v);
        }
        settle(ball, &delta)
    }

    /// The number of places for a window along an axis. In the reference the last one is never drawn.
    fn origins(&self, extent: usize, size: usize) -> usize {
        match self.config.mode {
            Mode::Reference => (extent - size).max(1),
            Mode::Paper => extent - size + 1,
        }
    }
}

/// Bits that stand for a point: two points share them with a probability of 2⁻¹²⁸.
fn name(point: &[f32]) -> [u64; 2] {
    // Two numbers at a time, and both halves side by side: each key waits for the one before it.
    let mut halves = [Key::new(0), Key::new(1)];
    for pair in point.chunks(2) {
        let bits = pair.iter().fold(0, |bits, v| bits << 32 | u64::from(v.to_bits()));
        halves = [halves[0].fold(bits), halves[1].fold(bits)];
    }
    halves.map(Key::seed)
}

/// The share of the pixels in the windows of query `taken`.
fn share(config: &Square, taken: usize) -> f64 {
    let at = match config.mode {
        Mode::Reference => taken,
        Mode::Paper => taken * 10_000 / config.queries.max(1),
    };
    let halvings = HALVINGS.iter().filter(|&&after| at > after).count();
    config.share * 0.5f64.powi(halvings as i32)
}

/// The rows and columns of a window of a share of the pixels: a square whose side is odd and at least
/// `least` if that is more than one, and no larger than the image; for a vector a part of it.
fn side(e: Extents, share: f64, least: usize) -> (usize, usize) {
    if e.h == 1 {
        return (1, ((share * e.w as f64).round() as usize).clamp(1, e.w));
    }
    // Halves to the even side, as the reference rounds.
    let mut side = ((share * (e.h * e.w) as f64).sqrt().round_ties_even() as usize).max(least);
    if least > 1 {
        side |= 1;
    }
    let side = side.min(e.h).min(e.w);
    (side, side)
}

/// l-infinity: a vertex of the ball for each column and channel.
fn stripes(ball: &SampleBall, e: Extents, draws: &mut dyn Draws) -> Vec<f32> {
    let signs = draws.signs(e.c * e.w);
    let mut u = ball.x.clone();
    for row in 0..e.h {
        for column in 0..e.w {
            for channel in 0..e.c {
                let v = &mut u[e.at(row, column, channel)];
                *v = (f64::from(*v) + ball.epsilon * signs[channel * e.w + column]) as f32;
            }
        }
    }
    ball.project(&mut u);
    u
}

/// l2 and l1: five tiles along each side, or as many as fit, each a pyramid of random sign and turn.
fn tiles(ball: &SampleBall, e: Extents, draws: &mut dyn Draws) -> Vec<f32> {
    let power = power(ball.norm);
    let tile = |extent: usize| (extent / 5).max(1);
    let side = if e.h == 1 { (1, tile(e.w)) } else { (tile(e.h.min(e.w)), tile(e.h.min(e.w))) };
    let offset = |extent: usize, side: usize| (extent - extent / side * side) / 2;
    let mut delta = vec![0.0; ball.width()];
    for down in 0..e.h / side.0 {
        for right in 0..e.w / side.1 {
            let shape = eta_of(side, power, draws);
            let signs = draws.signs(e.c);
            let (top, left) = (offset(e.h, side.0) + down * side.0, offset(e.w, side.1) + right * side.1);
            for (i, v) in shape.iter().enumerate() {
                for (channel, sign) in signs.iter().enumerate() {
                    delta[e.at(top + i / side.1, left + i % side.1, channel)] += v * sign;
                }
            }
        }
    }
    settle(ball, &delta)
}

/// x + δ with δ scaled to length ε for l2, projected for l1; then cut with the box.
fn settle(ball: &SampleBall, delta: &[f64]) -> Vec<f32> {
    let l2 = ball.norm == Norm::L2;
    let scale = if l2 { ball.epsilon / (Norm::L2.length(delta.iter().copied()) + SMALL_NORM) } else { 1.0 };
    let mut u: Vec<f32> = ball.x.iter().zip(delta).map(|(&x, d)| (f64::from(x) + scale * d) as f32).collect();
    ball.project_within(&mut u, if l2 { ball.epsilon } else { ball.epsilon * INSIDE });
    u
}

/// η for a window: a pyramid above a negative one, in a vector a constant of either sign.
fn eta_of((rows, columns): (usize, usize), power: i32, draws: &mut dyn Draws) -> Vec<f64> {
    if rows == columns {
        return eta(rows, power, draws.turned()).values;
    }
    let size = (rows * columns) as f64;
    vec![if power == 2 { size.sqrt().recip() } else { size.recip() }; rows * columns]
}

fn power(norm: Norm) -> i32 {
    if norm == Norm::L2 { 2 } else { 1 }
}

fn sum(values: impl Iterator<Item = f64>, power: i32) -> f64 {
    values.map(|v| v.abs().powi(power)).sum()
}

fn root(sum: f64, power: i32) -> f64 {
    if power == 2 { sum.sqrt() } else { sum }
}

/// The random decisions of a search.
pub(crate) trait Draws {
    /// A whole number below `n`.
    fn below(&mut self, n: usize) -> usize;
    /// Signs, 1 or −1.
    fn signs(&mut self, n: usize) -> Vec<f64>;
    /// Whether a shape is turned.
    fn turned(&mut self) -> bool;
}

struct Random(Stream);

impl Draws for Random {
    fn below(&mut self, n: usize) -> usize {
        self.0.below(n)
    }
    fn signs(&mut self, n: usize) -> Vec<f64> {
        (0..n).map(|_| if self.0.chance(0.5) { 1.0 } else { -1.0 }).collect()
    }
    fn turned(&mut self) -> bool {
        self.0.chance(0.5)
    }
}
