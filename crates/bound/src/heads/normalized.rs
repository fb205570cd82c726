//! Cosine heads: softmax heads on l2-normalized representations, bounded by spherical caps.

use super::linear::LinearHead;
use super::softmax::SoftmaxHead;
use crate::numerics::LpNorm;
use crate::numerics::linalg::dot;
use crate::theorems::gap;
use std::f64::consts::PI;
use tarrl_tensor::math;

/// Vectors shorter than this are divided by it instead of by their length.
const FLOOR: f64 = 1e-12;

/// A linear head on `z = g / ‖g‖`; a cosine head if its rows are unit vectors and it has no bias.
///
/// With unit rows and temperature τ its constant is at most `2/τ`, known before there is a task.
#[derive(Clone, Debug, PartialEq)]
pub struct NormalizedHead {
    head: LinearHead,
}

impl NormalizedHead {
    /// The head on unit vectors; a temperature is divided into `head` with
    /// [`LinearHead::with_temperature`].
    pub fn new(head: LinearHead) -> Self {
        NormalizedHead { head }
    }

    /// The linear head on unit vectors.
    pub fn on_sphere(&self) -> &LinearHead {
        &self.head
    }

    /// Upper bounds `(k)` of the increase of each gap when `g` moves by at most `radius` and moreover `v_j · g` by
    /// at most `supports[j]`: Theorem A4b (docs/theory.md), and A4 where that is smaller.
    ///
    /// # Panics
    /// If a shape does not fit or the label is out of range.
    #[track_caller]
    pub fn directional_supports(&self, g: &[f64], label: usize, radius: f64, supports: &[f64]) -> Vec<f64> {
        let length = LpNorm::L2.of(g);
        let unit = unit(g);
        let caps = self.radius_supports(g, label, radius);
        assert_eq!(supports.len(), caps.len(), "NormalizedHead: {} supports", supports.len());
        let increase = |j: usize| {
            let v = self.head.gap_vector(j, label);
            let reach = dot(&v, g) + supports[j];
            // The length of g' lies in [length − radius, length + radius].
            let divisor = if reach < 0.0 { length + radius } else { length - radius };
            let sharp = reach / divisor - dot(&v, &unit);
            // Below the floor the divisor is not the length; NaN keeps the cap.
            if length - radius >= FLOOR && sharp < caps[j] { sharp.max(0.0) } else { caps[j] }
        };
        (0..caps.len()).map(increase).collect()
    }

    /// Whether no point of the ball is classified otherwise, from supports of the vector before its
    /// normalization alone, without any radius: a head without bias decides by direction, Theorem A4b
    /// (docs/theory.md).
    ///
    /// # Panics
    /// If the head has a bias or a shape does not fit.
    #[track_caller]
    pub fn is_certified_by_direction(&self, g: &[f64], label: usize, supports: &[f64]) -> bool {
        assert!(
            self.head.bias().iter().all(|&b| b == self.head.bias()[0]),
            "NormalizedHead: with a bias the decision depends on the length; use directional_supports"
        );
        let products: Vec<f64> =
            (0..self.head.classes()).map(|j| dot(&self.head.gap_vector(j, label), g)).collect();
        gap::is_certified(&products, label, supports)
    }
}

impl SoftmaxHead for NormalizedHead {
    fn classes(&self) -> usize {
        self.head.classes()
    }

    fn features(&self) -> usize {
        self.head.features()
    }

    fn gaps(&self, g: &[f64], label: usize) -> Vec<f64> {
        self.head.gaps(&unit(g), label)
    }

    /// Theorem A4 (docs/theory.md): the increase over a spherical cap.
    fn radius_supports(&self, g: &[f64], label: usize, radius: f64) -> Vec<f64> {
        let length = LpNorm::L2.of(g);
        let unit = unit(g);
        (0..self.head.classes())
            .map(|j| {
                let v = self.head.gap_vector(j, label);
                if length - radius >= FLOOR {
                    cap_support(&v, &unit, angle(length, radius))
                } else {
                    // Below the floor only ‖z'‖ ≤ 1 is left.
                    LpNorm::L2.of(&v) - dot(&v, &unit)
                }
            })
            .collect()
    }

    fn gap_rounding(&self, g: &[f64], label: usize, _: f64) -> Vec<f64> {
        // Elements of unit vectors, which are known up to the rounding of their length.
        self.head.rounding_of_sums(&vec![1.0; g.len()], label, g.len() + 8)
    }
}

/// The largest angle between `g` and `g'` if `‖g‖ = length` and `‖g' − g‖ ≤ radius`: `asin(radius / length)`,
/// or π if the ball holds the origin. Theorem A4 (docs/theory.md).
pub fn angle(length: f64, radius: f64) -> f64 {
    if radius < length { math::asin(radius / length) } else { fail_closed(radius, PI) }
}

/// The largest distance of the unit vectors of `g` and `g'`, as [`angle`]: `2 sin(θ/2) ≤ √2 radius / length`,
/// or 2. Theorem A4 (docs/theory.md).
pub fn chord(length: f64, radius: f64) -> f64 {
    2.0 * math::sin(0.5 * angle(length, radius))
}

/// `max v · (u − z)` over the unit vectors `u` within the angle `theta` of the unit vector `z`:
/// `‖v‖ cos(max(0, φ − θ)) − v·z` with φ the angle between `v` and `z`. Theorem A4 (docs/theory.md).
///
/// # Panics
/// If the lengths differ.
#[track_caller]
pub fn cap_support(v: &[f64], z: &[f64], theta: f64) -> f64 {
    let length = LpNorm::L2.of(v);
    if length == 0.0 {
        return fail_closed(theta, 0.0);
    }
    let aim: Vec<f64> = v.iter().map(|x| x / length).collect();
    let opposite: Vec<f64> = z.iter().map(|x| -x).collect();
    // Half the angle from the two diagonals of the rhombus: accurate for any angle.
    let half = math::atan2(LpNorm::L2.distance(&aim, z), LpNorm::L2.distance(&aim, &opposite));
    // Differences of cosines as products, which do not cancel.
    let increase = if 2.0 * half > theta {
        2.0 * math::sin(2.0 * half - 0.5 * theta) * math::sin(0.5 * theta)
    } else {
        2.0 * math::sin(half).powi(2)
    };
    length * fail_closed(theta, increase)
}

/// `value`, or NaN if what it was computed from is not a number, which comparisons hide.
fn fail_closed(source: f64, value: f64) -> f64 {
    if source.is_nan() { f64::NAN } else { value }
}

fn unit(g: &[f64]) -> Vec<f64> {
    let length = LpNorm::L2.of(g);
    let divisor = if length < FLOOR { FLOOR } else { length };
    g.iter().map(|v| v / divisor).collect()
}
