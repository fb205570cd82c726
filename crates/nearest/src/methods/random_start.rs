//! Random points around a sample for which no mistake has been found, as where its gradient is zero: ever farther, until
//! one is a mistake.

use crate::method::{Method, Seen};
use crate::sample::{Found, Sample};
use serde::{Deserialize, Serialize};
use tarrl_attacks::{Norm, bits};

/// Random points of one sample.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct RandomStart {
    pub(crate) tries: usize,
    tried: usize,
    #[serde(with = "bits")]
    u: Vec<f32>,
}

impl RandomStart {
    pub(crate) fn new(sample: &Sample, tries: usize) -> Self {
        RandomStart { tries, tried: 0, u: random_point(sample, 0, tries) }
    }
}

/// The point of a try: towards a random corner of the box by a share that grows over the tries; in l0 that share of the
/// values is at it.
fn random_point(sample: &Sample, number: usize, tries: usize) -> Vec<f32> {
    let mut stream = sample.key.fold("random-start").fold(number).stream();
    let share = (number + 1) as f64 / tries.max(1) as f64;
    let (lo, hi) = sample.ball.bounds();
    let bounded = sample.threat.bounds.is_some();
    let mut draw = |x: &f32| {
        let (up, moves) = (stream.chance(0.5), stream.chance(share));
        let corner = if !bounded {
            f64::from(*x) + share * stream.normal()
        } else if up {
            hi.into()
        } else {
            lo.into()
        };
        match sample.norm() {
            Norm::L0 if moves => corner as f32,
            Norm::L0 => *x,
            _ => (f64::from(*x) + share * (corner - f64::from(*x))) as f32,
        }
    };
    let mut u: Vec<f32> = sample.x().iter().map(&mut draw).collect();
    sample.ball.clamp(&mut u);
    u
}

impl Method for RandomStart {
    fn point(&self) -> &[f32] {
        &self.u
    }

    fn wants_gradients(&self) -> bool {
        false
    }

    fn slopes(&self, _z: &[f64], _y: usize) -> Vec<Vec<f64>> {
        Vec::new()
    }

    fn advance(&mut self, sample: &Sample, _found: &Found, seen: &Seen<'_>) -> bool {
        self.tried += 1;
        if seen.mistake || self.tried >= self.tries {
            return false;
        }
        self.u = random_point(sample, self.tried, self.tries);
        true
    }

    fn fits(&self, sample: &Sample, _classes: usize) -> bool {
        self.u.len() == sample.width() && self.tried <= self.tries
    }
}
