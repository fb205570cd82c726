//! Balls around the samples of a batch: projection, quantization, membership. Random points are drawn in
//! `ball_sampling.rs`, steps taken in `steepest_ascent.rs`.

use crate::threat::directed_rounding::{Real, above, below, ceiling, farther, floor};
use crate::threat::projection::{Room, project_row, surely_inside};
use crate::threat::quantize::Levels;
use crate::threat::rows::{per_sample, row_index};
use crate::threat::scratch::{Row, Scratch};
use crate::threat::threat_model::{Norm, Threat};
use std::sync::Arc;
use tarrl_tensor::{DType, Tensor};

/// How far outside the box a value may lie to be clamped silently.
const BOX_SLACK: f64 = 1e-6;

/// The box of inputs without a range.
const EVERYWHERE: (f64, f64) = (f64::MIN, f64::MAX);

/// One ball for each sample of a batch `(n, …)`, cut with the box. See [`Threat::around`].
#[derive(Clone, Debug)]
pub struct Ball {
    threat: Threat,
    radii: Vec<f64>,
    center: Tensor,
    region: Region,
    pub(crate) scratch: Scratch,
}

/// What projection needs, computed once.
#[derive(Clone, Debug)]
enum Region {
    /// The least and largest feasible value of each coordinate: the exact projection is a clamp.
    Cube { lo: Tensor, hi: Tensor },
    /// The centers on the host, where lengths are taken in f64.
    Host { center: Arc<Vec<f64>> },
}

impl Threat {
    /// The balls around the samples of a batch `(n, …)`.
    ///
    /// Values outside the box by at most 1e-6 (the rounding of a normalization undone) are clamped.
    ///
    /// # Panics
    /// If values lie farther outside or are NaN, naming their range; if ε is negative or not finite; if
    /// the norm is l0 or there are levels, and no box.
    #[track_caller]
    pub fn around(&self, x: &Tensor) -> Ball {
        let n = x.shape().first().copied().unwrap_or(0);
        Ball::new(self, x, vec![self.epsilon; n])
    }

    /// The same for inputs that are known to lie in the box, such as augmented images: they are not checked, so that the
    /// host need not wait for a device. What does lie outside is clamped.
    ///
    /// # Panics
    /// As [`around`](Threat::around) for what the threat model itself lacks.
    #[track_caller]
    pub fn around_known(&self, x: &Tensor) -> Ball {
        let n = x.shape().first().copied().unwrap_or(0);
        Ball::known(self, x, vec![self.epsilon; n])
    }

    /// The same with a radius for each sample, in place of ε.
    ///
    /// # Panics
    /// As [`around`](Threat::around), and if there are not as many radii as samples.
    #[track_caller]
    pub fn around_each(&self, x: &Tensor, radii: &[f64]) -> Ball {
        Ball::new(self, x, radii.to_vec())
    }
}

impl Ball {
    #[track_caller]
    pub(crate) fn new(threat: &Threat, x: &Tensor, radii: Vec<f64>) -> Self {
        let ball = Ball::known(threat, x, radii);
        check_box(x, threat.bounds.unwrap_or(EVERYWHERE));
        ball
    }

    /// Around inputs that lie in the box.
    #[track_caller]
    pub(crate) fn known(threat: &Threat, x: &Tensor, radii: Vec<f64>) -> Self {
        assert!(x.shape().rank() >= 1, "threat model: a batch has a sample axis, got {:?}", x.shape());
        let n = x.shape()[0];
        assert_eq!(radii.len(), n, "threat model: {} radii for {n} samples", radii.len());
        let epsilon = radii.iter().copied().find(|r| !(*r >= 0.0 && r.is_finite())).unwrap_or(threat.epsilon);
        assert!(epsilon >= 0.0 && epsilon.is_finite(), "threat model: epsilon is {epsilon}");
        assert!(
            threat.bounds.is_some() || (threat.norm != Norm::L0 && threat.levels.is_none()),
            "threat model: {} perturbations {}need a box",
            threat.norm,
            if threat.levels.is_some() { "on levels " } else { "" }
        );
        assert!(threat.levels.is_none_or(|levels| levels >= 2), "threat model: fewer than two levels");
        let (lo, hi) = threat.bounds.unwrap_or(EVERYWHERE);
        assert!(lo <= hi, "threat model: the box [{lo}, {hi}] is empty");
        let (lo, hi) = representable((lo, hi), x.dtype());
        let center = x.detach().clamp(lo, hi);
        let region = match threat.norm {
            Norm::Linf => cube(&center, threat, &radii),
            _ => Region::Host { center: Arc::new(center.array().to_f64()) },
        };
        Ball { threat: *threat, radii, center, region, scratch: Scratch::default() }
    }

    /// The centers `(n, …)`: the inputs, clamped into the box.
    pub fn center(&self) -> &Tensor {
        &self.center
    }

    /// `(n)`: ε of each sample.
    pub fn radii(&self) -> &[f64] {
        &self.radii
    }

    /// The threat model; its ε is not that of the samples if they have their own.
    pub fn threat(&self) -> &Threat {
        &self.threat
    }

    /// The number of samples.
    pub fn len(&self) -> usize {
        self.radii.len()
    }

    /// Whether there is no sample.
    pub fn is_empty(&self) -> bool {
        self.radii.is_empty()
    }

    /// The points `u` brought into the balls and the box.
    ///
    /// For l-infinity, l1 and l0 the nearest point of ball ∩ box. For l2 the displacement is scaled to
    /// length ε, then cut with the box: feasible, since cutting shortens it, and the nearest point of the
    /// ball where the box does not cut. The result is inside in exact arithmetic, not only as rounded
    /// sums see it.
    #[track_caller]
    pub fn project(&self, u: &Tensor) -> Tensor {
        self.check_points("project", u);
        match &self.region {
            Region::Cube { lo, hi } => u.maximum(lo).minimum(hi),
            Region::Host { center } => match u.dtype() {
                DType::F64 => self.project_rows::<f64>(u, center),
                _ => self.project_rows::<f32>(u, center),
            },
        }
    }

    /// Points `u` of the balls moved to the levels of the threat model without leaving the balls; `u`
    /// itself if there are none.
    ///
    /// A coordinate goes to the nearest level that its ball contains, in l2 and l1 as far as the
    /// length allows, those that lose most first. One that has not moved keeps its value, and so does
    /// one without any level between it and its center.
    #[track_caller]
    pub fn snap(&self, u: &Tensor) -> Tensor {
        self.check_points("snap", u);
        let (Some(count), Some((lo, hi))) = (self.threat.levels, self.threat.bounds) else {
            return u.clone();
        };
        let levels = Levels { norm: self.threat.norm, lo, hi, steps: f64::from(count - 1) };
        let x = self.center.array().to_f64();
        match u.dtype() {
            DType::F64 => levels.snap::<f64>(u, &x, &self.radii),
            _ => levels.snap::<f32>(u, &x, &self.radii),
        }
    }

    /// `(n)`: the distance of each point from its center, in f64.
    #[track_caller]
    pub fn distances(&self, u: &Tensor) -> Vec<f64> {
        self.check_points("distances", u);
        self.each_row(u, |_, u, x| self.threat.norm.length(u.iter().zip(x).map(|(u, x)| u - x)))
    }

    /// `(n)`: whether each point lies in its ball and in the box, in exact arithmetic; l2 and l1 lengths
    /// within some roundings of the radius count as outside.
    #[track_caller]
    pub fn contains(&self, u: &Tensor) -> Vec<bool> {
        self.check_points("contains", u);
        let (lo, hi) = self.bounds();
        self.each_row(u, |i, u, x| {
            let radius = self.radii[i];
            let near = match self.threat.norm {
                Norm::Linf => {
                    u.iter().zip(x).all(|(&u, &x)| !farther(u, x, radius) && !farther(x, u, radius))
                }
                norm => surely_inside(norm, &u.iter().zip(x).map(|(u, x)| u - x).collect::<Vec<_>>(), radius),
            };
            near && u.iter().all(|v| (lo..=hi).contains(v))
        })
    }

    /// A function of the number, the point and the center of every row, in room that is kept.
    fn each_row<T>(&self, u: &Tensor, f: impl Fn(usize, &[f64], &[f64]) -> T) -> Vec<T> {
        match u.dtype() {
            DType::F64 => self.each_row_of::<f64, T>(u, f),
            _ => self.each_row_of::<f32, T>(u, f),
        }
    }

    fn each_row_of<R: Real, T>(&self, u: &Tensor, f: impl Fn(usize, &[f64], &[f64]) -> T) -> Vec<T> {
        let mut scratch = self.scratch.lock();
        let ([points, centers], _) = R::room(&mut scratch);
        u.array().read_into(points);
        self.center.array().read_into(centers);
        let width = self.width();
        let (mut point, mut center) = (Vec::with_capacity(width), Vec::with_capacity(width));
        let mut row = |i: usize| {
            for (to, from) in [(&mut point, &*points), (&mut center, &*centers)] {
                to.clear();
                to.extend(from[i * width..][..width].iter().map(|v| v.wide()));
            }
            f(i, &point, &center)
        };
        (0..self.len()).map(&mut row).collect()
    }

    /// The points `u` brought into the box, wherever they lie in the balls.
    pub fn into_box(&self, u: &Tensor) -> Tensor {
        let (lo, hi) = representable(self.bounds(), u.dtype());
        u.clamp(lo, hi)
    }

    /// The balls of the samples at `positions`, in that order.
    pub fn keep(&self, positions: &[usize]) -> Ball {
        let rows = row_index(&self.center, positions);
        let region = match &self.region {
            Region::Cube { lo, hi } => Region::Cube { lo: lo.gather(0, &rows), hi: hi.gather(0, &rows) },
            Region::Host { center } => {
                let row = |&i: &usize| center[i * self.width()..][..self.width()].iter().copied();
                Region::Host { center: Arc::new(positions.iter().flat_map(row).collect()) }
            }
        };
        let radii = positions.iter().map(|&i| self.radii[i]).collect();
        Ball {
            threat: self.threat,
            radii,
            center: self.center.gather(0, &rows),
            region,
            scratch: self.scratch.clone(),
        }
    }

    /// The number of coordinates of a sample.
    pub fn width(&self) -> usize {
        self.center.shape()[1..].iter().product()
    }

    /// The box; all finite numbers if inputs have no range.
    pub(crate) fn bounds(&self) -> (f64, f64) {
        self.threat.bounds.unwrap_or(EVERYWHERE)
    }

    /// Displacements projected on the host; each coordinate rounded towards its center, so that no
    /// rounding lengthens them.
    fn project_rows<R: Real>(&self, u: &Tensor, center: &[f64]) -> Tensor {
        let (lo, hi) = self.bounds();
        let (lo, hi) = (ceiling::<R>(lo), floor::<R>(hi));
        let width = self.width().max(1);
        let mut scratch = self.scratch.lock();
        let ([points, _], row) = R::room(&mut scratch);
        u.array().read_into(points);
        for ((point, x), &radius) in points.chunks_mut(width).zip(center.chunks(width)).zip(&self.radii) {
            project_point(self.threat.norm, point, Room { x, lo: lo.wide(), hi: hi.wide() }, radius, row);
        }
        Tensor::new(u.device(), *u.shape(), points)
    }

    #[track_caller]
    pub(crate) fn check_points(&self, verb: &str, u: &Tensor) {
        let balls = self.center.shape();
        assert_eq!(u.shape(), balls, "{verb}: points {:?}, balls {balls:?}", u.shape());
    }
}

/// Brings `point` into a ball that is no cube, and the box of `room`, whose bounds are values of `R`. The
/// displacement is projected in f64 and each coordinate rounded towards the center.
pub(crate) fn project_point<R: Real>(
    norm: Norm,
    point: &mut [R],
    room: Room<'_>,
    radius: f64,
    (v, order): &mut Row,
) {
    let (lo, hi) = (R::nearest(room.lo), R::nearest(room.hi));
    v.clear();
    v.extend(point.iter().zip(room.x).map(|(v, &x)| v.wide() - x));
    let boxed = point.iter().all(|v| (lo..=hi).contains(v));
    if boxed && surely_inside(norm, v, radius) {
        return;
    }
    project_row(norm, v, room, radius, order);
    for ((point, &x), &change) in point.iter_mut().zip(room.x).zip(v.iter()) {
        let moved = towards::<R>(x, change);
        *point = if moved < lo {
            lo
        } else if moved > hi {
            hi
        } else {
            moved
        };
    }
}

/// `x + change`, rounded so that it is not farther from `x` than `change`.
fn towards<R: Real>(x: f64, change: f64) -> R {
    let x = R::nearest(x);
    if change >= 0.0 { above(x, change) } else { below(x, -change) }
}

/// The smallest and the largest feasible value of each coordinate: to the bit those of `directed_rounding`, in
/// operations on whole arrays, so that a GPU's inputs stay where they are.
fn cube(center: &Tensor, threat: &Threat, radii: &[f64]) -> Region {
    let (lo, hi) = representable(threat.bounds.unwrap_or(EVERYWHERE), center.dtype());
    let x = center.cast(DType::F64);
    let reach = per_sample(&x, radii);
    let stored = |v: &Tensor| v.cast(center.dtype()).clamp(lo, hi);
    // As `farther(a, b, reach)`, 1 for true.
    let farther = |a: &Tensor, b: &Tensor| {
        let difference = a - b;
        let taken = &difference - a;
        let error = &(a - &(&difference - &taken)) + &(&b.neg() - &taken);
        let positive = error.greater(&error.zeros_like());
        difference.greater(&reach).maximum(&(&difference.equal(&reach) * &positive))
    };
    let least = stored(&(&x - &reach)).cast(DType::F64);
    let least = &least + &(&farther(&x, &least) * &neighbor(&least, center.dtype()));
    let largest = stored(&(&x + &reach)).cast(DType::F64);
    let largest = &largest - &(&farther(&largest, &x) * &neighbor(&largest, center.dtype()));
    Region::Cube { lo: stored(&least), hi: stored(&largest) }
}

/// What to add to or subtract from values of a type, so that the sum rounds to the next of them: between a half and one
/// and a half of the distance to it, on both sides of a power of two.
fn neighbor(v: &Tensor, dtype: DType) -> Tensor {
    let (half_ulp, least) = match dtype {
        DType::F64 => (f64::EPSILON / 2.0, f64::from_bits(1)),
        _ => (f64::from(f32::EPSILON) / 2.0, 0.625 * f64::from(f32::from_bits(1))),
    };
    v.abs().mul_scalar(1.25 * half_ulp).add_scalar(least)
}

/// The outermost values of a type in the box.
pub(crate) fn representable((lo, hi): (f64, f64), dtype: DType) -> (f64, f64) {
    match dtype {
        DType::F64 => (lo, hi),
        _ => (f64::from(ceiling::<f32>(lo)), f64::from(floor::<f32>(hi))),
    }
}

#[track_caller]
fn check_box(x: &Tensor, (lo, hi): (f64, f64)) {
    let (least, largest, nan) = range(x);
    assert!(!nan, "threat model: an input is NaN");
    assert!(
        x.shape().is_empty() || (least >= lo - BOX_SLACK && largest <= hi + BOX_SLACK),
        "threat model: inputs range over [{least}, {largest}], outside the box [{lo}, {hi}]; \
         attacks take unnormalized inputs, and normalization belongs inside the model"
    );
}

/// The least and the largest value, and whether one is NaN; infinite and wrong way round if there is none.
fn range(x: &Tensor) -> (f64, f64, bool) {
    if x.shape().is_empty() {
        return (f64::INFINITY, f64::NEG_INFINITY, false);
    }
    let n = x.shape()[0];
    let rows = x.detach().reshape([n, x.shape().len() / n]);
    // One download. A sum is NaN if a term is; infinities show in the extremes.
    let found = Tensor::concat(&[&rows.min(1), &rows.max(1), &rows.sum(1)], 0).array().to_f64();
    let (least, rest) = found.split_at(n);
    let (largest, sums) = rest.split_at(n);
    let infinite = |i: usize| least[i] == f64::NEG_INFINITY && largest[i] == f64::INFINITY;
    let nan = (0..n).any(|i| sums[i].is_nan() && !infinite(i));
    let least = least.iter().copied().fold(f64::INFINITY, f64::min);
    (least, largest.iter().copied().fold(f64::NEG_INFINITY, f64::max), nan)
}
