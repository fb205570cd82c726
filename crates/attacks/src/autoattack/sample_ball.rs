//! The ball of one sample on the host, in which attacks step that move each sample on its own.

use crate::threat::ball::project_point;
use crate::threat::directed_rounding::{above, below, ceiling, floor};
use crate::threat::projection::{Room, surely_inside};
use crate::threat::{Norm, Threat};

/// One sample's ball, cut with the box. Coordinates are f32.
#[derive(Clone, Debug)]
pub struct SampleBall {
    pub(crate) norm: Norm,
    /// ε.
    pub(crate) epsilon: f64,
    /// The sample.
    pub(crate) x: Vec<f32>,
    /// The same in f64, for projection.
    wide: Vec<f64>,
    /// The box.
    lo: f32,
    hi: f32,
    /// The least and largest value of each coordinate in the cube; empty for other norms.
    cube: Vec<(f32, f32)>,
}

impl SampleBall {
    /// The ball of `threat` with its own radius around `x`, which lies in the box.
    pub fn new(threat: &Threat, epsilon: f64, x: &[f32]) -> Self {
        let (lo, hi) = threat.bounds.unwrap_or((f64::MIN, f64::MAX));
        let (lo, hi) = (ceiling::<f32>(lo), floor::<f32>(hi));
        let range = |&x: &f32| (below(x, epsilon).max(lo), above(x, epsilon).min(hi));
        let cube = if threat.norm == Norm::Linf { x.iter().map(range).collect() } else { Vec::new() };
        let wide = x.iter().map(|&v| f64::from(v)).collect();
        SampleBall { norm: threat.norm, epsilon, x: x.to_vec(), wide, lo, hi, cube }
    }

    /// The norm that its radius is measured in.
    pub fn norm(&self) -> Norm {
        self.norm
    }

    /// The sample.
    pub fn center(&self) -> &[f32] {
        &self.x
    }

    /// The number of coordinates.
    pub(crate) fn width(&self) -> usize {
        self.x.len()
    }

    /// The least and largest value of any coordinate.
    pub fn bounds(&self) -> (f32, f32) {
        (self.lo, self.hi)
    }

    /// Brings `u` into the ball and the box, inside in exact arithmetic.
    pub(crate) fn project(&self, u: &mut [f32]) {
        self.project_within(u, self.epsilon);
    }

    /// The same for another radius; for l-infinity the radius is always ε.
    pub fn project_within(&self, u: &mut [f32], radius: f64) {
        if self.norm == Norm::Linf {
            u.iter_mut().zip(&self.cube).for_each(|(u, &(lo, hi))| *u = u.max(lo).min(hi));
        } else {
            let room = Room { x: &self.wide, lo: self.lo.into(), hi: self.hi.into() };
            project_point(self.norm, u, room, radius, &mut Default::default());
        }
    }

    /// Clamps `u` into the box alone.
    pub fn clamp(&self, u: &mut [f32]) {
        u.iter_mut().for_each(|u| *u = u.max(self.lo).min(self.hi));
    }

    /// Whether `u` lies in ball and box, in exact arithmetic.
    pub fn contains(&self, u: &[f32]) -> bool {
        if self.norm == Norm::Linf {
            return u.iter().zip(&self.cube).all(|(u, (lo, hi))| lo <= u && u <= hi);
        }
        let moved: Vec<f64> = self.displacement(u).collect();
        u.iter().all(|u| (self.lo..=self.hi).contains(u)) && surely_inside(self.norm, &moved, self.epsilon)
    }

    /// ‖u − x‖ in f64.
    pub fn distance(&self, u: &[f32]) -> f64 {
        self.norm.length(self.displacement(u))
    }

    /// The number of coordinates that differ from the sample's.
    pub(crate) fn moved(&self, u: &[f32]) -> usize {
        u.iter().zip(&self.x).filter(|(u, x)| u != x).count()
    }

    /// u − x in f64.
    pub fn displacement(&self, u: &[f32]) -> impl Iterator<Item = f64> {
        u.iter().zip(&self.wide).map(|(&u, x)| f64::from(u) - x)
    }

    /// A point at distance ε from random numbers, one for each coordinate: uniform in [−1, 1) for
    /// l-infinity, scaled to the largest of `radius`; normal for l2, scaled to the length `radius`; normal
    /// for l1, projected (Croce & Hein 2020, 2021). Projected then.
    pub(crate) fn start(&self, noise: &[f64], radius: f64) -> Vec<f32> {
        let size = match self.norm {
            Norm::Linf | Norm::L2 => self.norm.length(noise.iter().copied()),
            Norm::L1 | Norm::L0 => radius,
        };
        let scale = if size > 0.0 { radius / size } else { 0.0 };
        let scale = if self.norm == Norm::L1 { 1.0 } else { scale };
        let mut u: Vec<f32> = self.wide.iter().zip(noise).map(|(x, t)| (x + scale * t) as f32).collect();
        self.project_within(&mut u, radius);
        u
    }
}
