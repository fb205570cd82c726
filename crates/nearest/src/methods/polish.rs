//! The last steps of every method: to the nearest point of the linearized face as long as that is a nearer mistake, then a
//! bisection of the radius.

use crate::method::{Method, Seen, rise, rival};
use crate::methods::super_deepfool::nearest_of_face;
use crate::sample::{Found, Sample};
use serde::{Deserialize, Serialize};
use tarrl_attacks::{Norm, bits};

/// How much farther than the face the nearest point of it is put, as a share of its distance.
const BEYOND: f64 = 1e-4;
/// Halvings of the way to a point that is no nearer mistake.
const HALVINGS: u32 = 3;
/// The share of the distance at which the bisection of the radius ends.
const FINEST: f64 = 1e-4;

/// Where it stands.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Phase {
    /// At the nearest mistake, whose gradient is not known.
    Mistake,
    /// At the nearest point of its face.
    Face,
    /// Between the two, after so many halvings.
    Between(u32),
    /// At the nearest mistake drawn towards the sample.
    Radius,
}

/// The last steps of one sample.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct PolishState {
    /// Evaluations that are left.
    pub(crate) left: usize,
    phase: Phase,
    /// The share of the distance by which the radius is known to be reducible, and that by which it is known not to be.
    #[serde(with = "bits")]
    reducible: f64,
    #[serde(with = "bits")]
    irreducible: f64,
    #[serde(with = "bits")]
    share: f64,
    /// The nearest mistake, and the one that the bisection began at.
    #[serde(with = "bits")]
    best: Vec<f32>,
    #[serde(with = "bits")]
    face: Vec<f32>,
    #[serde(with = "bits")]
    u: Vec<f32>,
}

impl PolishState {
    /// At most so many evaluations.
    pub(crate) fn new(sample: &Sample, found: &Found, evaluations: usize) -> Self {
        let start = if found.is_any() { found.point.clone() } else { sample.x().to_vec() };
        PolishState {
            left: if found.is_any() { evaluations } else { 0 },
            phase: Phase::Mistake,
            reducible: 0.0,
            irreducible: 1.0,
            share: 0.0,
            best: start.clone(),
            face: start.clone(),
            u: start,
        }
    }

    /// From a mistake with its gradient to the nearest point of its face, or to the bisection if that is no nearer.
    fn move_to_face(&mut self, sample: &Sample, gradient: &[f64], margin: f64) -> bool {
        let distance = sample.ball.distance(&self.best);
        let face = nearest_of_face(sample, &self.best, gradient, margin, BEYOND);
        if sample.ball.distance(&face) >= distance * (1.0 - FINEST) {
            return self.bisect(sample);
        }
        self.face.clone_from(&face);
        (self.u, self.phase) = (face, Phase::Face);
        true
    }

    /// The first point of the bisection.
    fn bisect(&mut self, sample: &Sample) -> bool {
        if sample.norm() == Norm::L0 {
            return false;
        }
        (self.reducible, self.irreducible, self.share) = (0.0, 1.0, 4.0 * FINEST);
        self.phase = Phase::Radius;
        self.draw_in(sample);
        true
    }

    fn draw_in(&mut self, sample: &Sample) {
        self.u.clone_from(&self.best);
        sample.project(&mut self.u, sample.ball.distance(&self.best) * (1.0 - self.share));
    }

    fn between(&mut self, halvings: u32) {
        let share = 0.5f64.powi(halvings as i32);
        let (best, face) = (&self.best, &self.face);
        let middle = |(b, f): (&f32, &f32)| (f64::from(*b) + share * (f64::from(*f) - f64::from(*b))) as f32;
        self.u = best.iter().zip(face).map(middle).collect();
        self.phase = Phase::Between(halvings);
    }
}

impl Method for PolishState {
    fn point(&self) -> &[f32] {
        &self.u
    }

    fn wants_gradients(&self) -> bool {
        self.phase != Phase::Radius
    }

    fn slopes(&self, z: &[f64], y: usize) -> Vec<Vec<f64>> {
        let k = rival(z, y);
        let wanted = self.wants_gradients() && (self.phase == Phase::Mistake || z[k] >= z[y]);
        if wanted { vec![rise(z, y, k)] } else { Vec::new() }
    }

    fn advance(&mut self, sample: &Sample, _found: &Found, seen: &Seen<'_>) -> bool {
        if self.left == 0 {
            return false;
        }
        self.left -= 1;
        let nearer = seen.mistake && seen.distance < sample.ball.distance(&self.best);
        match self.phase {
            Phase::Mistake => match seen.gradients.first().filter(|_| seen.mistake) {
                Some(gradient) => self.move_to_face(sample, gradient, seen.margin),
                None => false,
            },
            Phase::Face | Phase::Between(_) if nearer => {
                self.best.clone_from(&self.u);
                match seen.gradients.first() {
                    Some(gradient) => self.move_to_face(sample, gradient, seen.margin),
                    None => self.bisect(sample),
                }
            }
            Phase::Face | Phase::Between(_) => {
                let halvings = if let Phase::Between(halvings) = self.phase { halvings } else { 0 };
                if halvings >= HALVINGS || sample.norm() == Norm::L0 {
                    return self.bisect(sample);
                }
                self.between(halvings + 1);
                true
            }
            Phase::Radius => {
                if seen.mistake {
                    self.reducible = self.share;
                } else {
                    self.irreducible = self.share;
                }
                if self.irreducible - self.reducible < FINEST {
                    return false;
                }
                // Four times as far until it is no mistake, then halves.
                let farther =
                    if self.reducible > 0.0 { 4.0 * self.reducible } else { 0.5 * self.irreducible };
                self.share = if farther < self.irreducible {
                    farther
                } else {
                    0.5 * (self.reducible + self.irreducible)
                };
                self.draw_in(sample);
                true
            }
        }
    }

    fn fits(&self, sample: &Sample, _classes: usize) -> bool {
        let width = sample.width();
        let shares = [self.reducible, self.irreducible, self.share];
        self.u.len() == width
            && self.best.len() == width
            && self.face.len() == width
            && shares.iter().all(|share| (0.0..=1.0).contains(share))
    }
}
