//! Certificates: a radius, a box and a zonotope around the displacement of one sample, and its support function.

use crate::box_and_ball::box_and_ball;
use crate::rounding::{UNIT, above, gamma, slack, up};
use crate::vector::{at_scale, dot, l2_norm, max_or_nan, min_or_nan};
use crate::zonotope::Zonotope;
use tarrl_tensor::math;

/// The displacement of one sample, bounded from above: for every `x′` of the ball at once, for every
/// task, and for the arithmetic that it was made for.
#[derive(Clone, Debug, PartialEq)]
pub struct Certificate {
    /// `(d)`: the output of the network at the sample, in f64, before any normalization to the sphere.
    pub(crate) clean: Vec<f64>,
    /// `‖Δ‖₂` is at most this.
    pub(crate) radius: f64,
    /// `(d)`: `Δ` is at least this.
    pub(crate) lower: Vec<f64>,
    /// `(d)`: `Δ` is at most this.
    pub(crate) upper: Vec<f64>,
    /// The zonotope, if one was made.
    pub(crate) zonotope: Option<Zonotope>,
    /// The least norm that the output is divided by, if representations lie on the sphere.
    pub(crate) sphere: Option<f64>,
    /// The unit roundoff of the normalization to the sphere.
    pub(crate) unit: f64,
}

/// Which part of a certificate is used; each is sound by itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Evidence {
    /// The radius alone.
    Radius,
    /// The box alone.
    Box,
    /// The box and the radius together.
    BoxAndBall,
    /// The zonotope alone; the box where there is none.
    Zonotope,
    /// The smallest of all bounds.
    #[default]
    All,
}

impl Certificate {
    /// A certificate without any claim, for bounds that are NaN or overflow.
    pub(crate) fn vacuous(clean: Vec<f64>, sphere: Option<f64>, unit: f64) -> Self {
        let d = clean.len();
        Certificate {
            clean,
            radius: f64::INFINITY,
            lower: vec![f64::NEG_INFINITY; d],
            upper: vec![f64::INFINITY; d],
            zonotope: None,
            sphere,
            unit,
        }
    }

    /// Whether the certificate claims nothing.
    pub fn is_vacuous(&self) -> bool {
        !self.radius.is_finite()
    }

    /// The number of features d.
    pub fn features(&self) -> usize {
        self.clean.len()
    }

    /// The zonotope, if there is one.
    pub fn zonotope(&self) -> Option<&Zonotope> {
        self.zonotope.as_ref()
    }

    /// `(d)`: the representation at the sample, on the sphere if the encoder puts it there.
    pub fn representation(&self) -> Vec<f64> {
        match self.sphere {
            None => self.clean.clone(),
            Some(floor) => {
                let norm = l2_norm(&self.clean).max(floor);
                self.clean.iter().map(|z| z / norm).collect()
            }
        }
    }

    /// An upper bound of `‖f(x′) − f(x)‖₂` over the ball, of representations after any normalization to the sphere.
    pub fn radius(&self) -> f64 {
        match self.cone() {
            Cone::None => self.radius,
            Cone::Whole if self.is_vacuous() => f64::INFINITY,
            Cone::Whole => up(2.0 + self.sphere_rounding()),
            Cone::Angle { theta, .. } => up(above(2.0 * math::sin(0.5 * theta), 4) + self.sphere_rounding()),
        }
    }

    /// An upper bound of `v · (f(x′) − f(x))` over the ball for `v (d)`; infinity, where a bound overflows, claims nothing.
    ///
    /// # Panics
    /// If `v` has not `d` elements.
    #[track_caller]
    pub fn support(&self, v: &[f64], evidence: Evidence) -> f64 {
        assert_eq!(
            v.len(),
            self.features(),
            "certificate: a direction of {} on {} features",
            v.len(),
            self.features()
        );
        let bound =
            if self.is_vacuous() { f64::INFINITY } else { at_scale(v, |v| self.finite_support(v, evidence)) };
        if bound.is_nan() { f64::INFINITY } else { bound }
    }

    /// As [`support`](Certificate::support) of a certificate with a finite radius; NaN where parts of it overflow.
    fn finite_support(&self, v: &[f64], evidence: Evidence) -> f64 {
        let flat = self.flat(v, evidence);
        let Some(floor) = self.sphere else { return flat };
        let norm = l2_norm(v);
        let z = self.representation();
        let along: f64 = dot(v, &z);
        let rounding = norm * self.sphere_rounding();
        let cap = match self.cone() {
            Cone::Angle { theta, .. } => {
                let cosine = (along / norm.max(f64::MIN_POSITIVE)).clamp(-1.0, 1.0);
                let phi = math::acos(cosine);
                // The arc cosine loses half the digits near ±1: the angle is only known up to that.
                let away = max_or_nan(phi - theta - 1e-7, 0.0);
                let chord = norm * 2.0 * math::sin(0.5 * theta);
                let cap = norm * math::cos(away) - along;
                above(if cap < chord { max_or_nan(cap, 0.0) } else { chord }, 8)
            }
            _ => norm - along,
        };
        let (n0, r) = (l2_norm(&self.clean), self.radius);
        let mut bound = cap;
        if n0 - r > max_or_nan(floor, 0.0) {
            // Theorem I7: the un-normalized form keeps its directions behind the normalization.
            let a = dot(v, &self.clean) + flat;
            let moved = if a < 0.0 { a / (n0 + r) } else { a / (n0 - r) } - along;
            let moved = moved + slack(v.len() + 8) * (norm * 4.0 + a.abs() / (n0 - r));
            bound = if moved < bound || moved.is_nan() { moved } else { bound };
        }
        // The clean point is feasible.
        up(max_or_nan(bound, 0.0) + rounding)
    }

    fn flat(&self, v: &[f64], evidence: Evidence) -> f64 {
        let radius = || above(self.radius * above(l2_norm(v), v.len()), 2);
        let of_box = || {
            let terms = v.iter().enumerate().map(|(i, v)| max_or_nan(v * self.lower[i], v * self.upper[i]));
            above(terms.sum(), v.len())
        };
        let zonotope = || self.zonotope.as_ref().map_or_else(of_box, |zonotope| zonotope.support(v));
        let both = || box_and_ball(v, &self.lower, &self.upper, self.radius);
        let found = match evidence {
            Evidence::Radius => radius(),
            Evidence::Box => of_box(),
            Evidence::BoxAndBall => both(),
            Evidence::Zonotope => zonotope(),
            Evidence::All => {
                [radius(), of_box(), both(), zonotope()].into_iter().fold(f64::INFINITY, min_or_nan)
            }
        };
        // A direction that is itself a rounded difference of two rows is known up to 2u of its elements.
        let size: f64 =
            v.iter().enumerate().map(|(i, v)| v.abs() * max_or_nan(-self.lower[i], self.upper[i])).sum();
        up(max_or_nan(found, 0.0) + above(4.0 * UNIT * size, v.len()))
    }

    fn cone(&self) -> Cone {
        let Some(floor) = self.sphere else { return Cone::None };
        let norm = l2_norm(&self.clean);
        // Rounded so that the ball is larger and the norm smaller.
        let (r, n0) = (above(self.radius, 4), norm * (1.0 - slack(self.features() + 8)));
        if r < n0 && n0 - r > floor {
            Cone::Angle { theta: above(math::asin((r / n0).min(1.0)), 8) }
        } else {
            Cone::Whole
        }
    }

    /// Dividing by a computed norm moves a unit vector by this much at most, at both points.
    fn sphere_rounding(&self) -> f64 {
        2.02 * gamma(self.features() + 16, self.unit)
    }
}

/// The cone of directions that a normalized representation can reach.
enum Cone {
    /// Nothing is normalized.
    None,
    /// Any.
    Whole,
    /// Within an angle of the clean one: Theorem I7.
    Angle { theta: f64 },
}
