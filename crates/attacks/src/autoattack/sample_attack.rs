//! APGD, FAB and Square of one sample behind one trait: a state that names the point to evaluate next, takes in what was
//! seen there, and moves.

use crate::autoattack::apgd_state::ApgdState;
use crate::autoattack::fab_state::FabState;
use crate::autoattack::logit_losses::{LogitLoss, status_of};
use crate::autoattack::mode::Mode;
use crate::autoattack::sample_ball::SampleBall;
use crate::autoattack::square_state::SquareState;
use crate::driver::accounting::SampleRecord;
use serde::{Deserialize, Serialize};
use tarrl_tensor::Key;

/// One attack of one sample.
pub(crate) trait SampleAttack {
    /// The point to evaluate next.
    fn point(&self) -> &[f32];

    /// What is wanted there.
    fn query(&self) -> QueryKind;

    /// The cotangents in the logits `z` (k) whose vector-Jacobian products the attack wants there.
    fn cotangents(&self, z: &[f64], label: usize) -> Vec<Vec<f64>>;

    /// Takes in what was seen at the point and moves to the next; `false` if there is none.
    fn advance(&mut self, ball: &SampleBall, seen: &Seen<'_>, record: &mut SampleRecord) -> bool;

    /// Steps taken.
    fn steps(&self) -> u32;
}

/// What is wanted at a point, so that points of one kind share a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum QueryKind {
    /// Gradients, unless the point is a success.
    Gradient,
    /// Gradients perhaps.
    MaybeGradient,
    /// Logits alone.
    Logits,
}

/// What was seen at a point.
pub(crate) struct Seen<'a> {
    /// The logits (k) of each draw.
    pub(crate) z: &'a [Vec<f64>],
    /// The vector-Jacobian products of the cotangents.
    pub(crate) gradients: &'a [Vec<f32>],
    pub(crate) label: usize,
    /// The randomness of this run of the attack.
    pub(crate) key: Key,
}

impl Seen<'_> {
    /// The logits of the last draw.
    fn last(&self) -> &[f64] {
        &self.z[self.z.len() - 1]
    }
}

/// The attack that a sample is in.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum CurrentAttack {
    /// The sample itself has still to be evaluated.
    Clean,
    #[serde(rename = "Climb")]
    Apgd(LogitApgd),
    #[serde(rename = "Walk")]
    Fab(FabState),
    #[serde(rename = "Squares")]
    Square(SquareState),
}

/// APGD on a loss of logits.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct LogitApgd(pub(crate) ApgdState, pub(crate) LogitLoss);

impl CurrentAttack {
    /// Whether the attack that begins as `start` can come to this state.
    pub(crate) fn can_follow(&self, start: &CurrentAttack, ball: &SampleBall) -> bool {
        match (self, start) {
            (CurrentAttack::Apgd(now), CurrentAttack::Apgd(start)) => {
                now.1 == start.1 && now.0.can_follow(&start.0, ball)
            }
            (CurrentAttack::Fab(now), CurrentAttack::Fab(start)) => now.can_follow(start),
            (CurrentAttack::Square(now), CurrentAttack::Square(start)) => now.can_follow(start),
            _ => false,
        }
    }

    /// The attack; `None` while the sample itself has still to be evaluated.
    pub(crate) fn attack(&self) -> Option<&dyn SampleAttack> {
        match self {
            CurrentAttack::Clean => None,
            CurrentAttack::Apgd(apgd) => Some(apgd),
            CurrentAttack::Fab(fab) => Some(fab),
            CurrentAttack::Square(square) => Some(square),
        }
    }

    pub(crate) fn attack_mut(&mut self) -> Option<&mut dyn SampleAttack> {
        match self {
            CurrentAttack::Clean => None,
            CurrentAttack::Apgd(apgd) => Some(apgd),
            CurrentAttack::Fab(fab) => Some(fab),
            CurrentAttack::Square(square) => Some(square),
        }
    }
}

impl SampleAttack for LogitApgd {
    fn point(&self) -> &[f32] {
        self.0.point()
    }

    fn query(&self) -> QueryKind {
        if self.0.wants_gradient() { QueryKind::Gradient } else { QueryKind::Logits }
    }

    fn cotangents(&self, z: &[f64], label: usize) -> Vec<Vec<f64>> {
        if self.0.wants_gradient() { vec![self.1.value_and_grad(z, label).1] } else { Vec::new() }
    }

    fn advance(&mut self, ball: &SampleBall, seen: &Seen<'_>, record: &mut SampleRecord) -> bool {
        let value_of = |z: &[f64]| self.1.value_and_grad(z, seen.label).0;
        let value = match self.0.mode() {
            Mode::Reference => value_of(seen.last()),
            Mode::Paper => seen.z.iter().map(|z| value_of(z)).sum::<f64>() / seen.z.len() as f64,
        };
        record.note_value(value);
        self.0.advance(ball, value, seen.gradients.first().map_or(&[], |g| &g[..]))
    }

    fn steps(&self) -> u32 {
        self.0.steps
    }
}

impl SampleAttack for FabState {
    fn point(&self) -> &[f32] {
        FabState::point(self)
    }

    fn query(&self) -> QueryKind {
        // Beyond the boundary the point is drawn back, without a gradient.
        if self.beyond { QueryKind::MaybeGradient } else { QueryKind::Gradient }
    }

    fn cotangents(&self, z: &[f64], _label: usize) -> Vec<Vec<f64>> {
        FabState::cotangents(self, z)
    }

    fn advance(&mut self, ball: &SampleBall, seen: &Seen<'_>, _record: &mut SampleRecord) -> bool {
        FabState::advance(self, ball, seen.last(), seen.gradients)
    }

    fn steps(&self) -> u32 {
        self.steps
    }
}

impl SampleAttack for SquareState {
    fn point(&self) -> &[f32] {
        SquareState::point(self)
    }

    fn query(&self) -> QueryKind {
        QueryKind::Logits
    }

    fn cotangents(&self, _z: &[f64], _label: usize) -> Vec<Vec<f64>> {
        Vec::new()
    }

    fn advance(&mut self, ball: &SampleBall, seen: &Seen<'_>, _record: &mut SampleRecord) -> bool {
        let deterministic = seen.z.len() == 1;
        SquareState::advance(self, ball, status_of(seen.last(), seen.label).margin, seen.key, deterministic)
    }

    fn steps(&self) -> u32 {
        self.steps
    }
}
