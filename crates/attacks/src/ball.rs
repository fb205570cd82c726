//! The balls around the samples of a batch, and the three verbs of a threat model on them.

use crate::round::{Real, above, below, ceiling, floor};
use crate::threat::{Norm, Threat};
use tarrl_tensor::{Array, DType, Key, Random, Tensor};

/// How far outside the box a value may lie and be clamped without a word.
const BOX_SLACK: f64 = 1e-6;

/// The box of inputs without a range.
const EVERYWHERE: (f64, f64) = (f64::MIN, f64::MAX);

/// One ball for each sample of a batch `(n, …)`, cut with the box. See [`Threat::around`].
#[derive(Clone, Debug)]
pub struct Ball {
    threat: Threat,
    center: Tensor,
    region: Region,
}

/// What projection needs, computed once.
#[derive(Clone, Debug)]
enum Region {
    /// The least and largest feasible value of each coordinate: the exact projection is a clamp.
    Cube { lo: Tensor, hi: Tensor },
    /// The centers on the host, where lengths are taken in f64.
    Sphere { center: Vec<f64> },
}

impl Ball {
    #[track_caller]
    pub(crate) fn new(threat: &Threat, x: &Tensor) -> Self {
        let epsilon = threat.epsilon;
        assert!(epsilon >= 0.0 && epsilon.is_finite(), "threat model: epsilon is {epsilon}");
        assert!(x.shape().rank() >= 1, "threat model: a batch has a sample axis, got {:?}", x.shape());
        let center = inside_box(x, threat.bounds.unwrap_or(EVERYWHERE));
        let region = match (threat.norm, center.dtype()) {
            (Norm::Linf, DType::F64) => cube::<f64>(&center, threat),
            (Norm::Linf, _) => cube::<f32>(&center, threat),
            (Norm::L2, _) => Region::Sphere { center: center.array().to_f64() },
        };
        Ball { threat: *threat, center, region }
    }

    /// The centers `(n, …)`: the inputs, clamped into the box.
    pub fn center(&self) -> &Tensor {
        &self.center
    }

    /// A random point of each ball, from one key per sample: uniform in the ball (l-infinity: in the
    /// cube; l2: a normal direction, a radius that is the d-th root of a uniform number), then projected.
    ///
    /// # Panics
    /// If there are not as many keys as samples.
    #[track_caller]
    pub fn start(&self, keys: &[Key]) -> Tensor {
        let shape = *self.center.shape();
        assert_eq!(keys.len(), shape[0], "start: {} keys for {} samples", keys.len(), shape[0]);
        let draw = |law| Tensor::random(self.center.device(), law, keys, &shape[1..], self.center.dtype());
        let moved = match self.threat.norm {
            Norm::Linf => {
                draw(Random::Uniform).mul_scalar(2.0).add_scalar(-1.0).mul_scalar(self.threat.epsilon)
            }
            Norm::L2 => {
                let d = shape[1..].iter().product::<usize>().max(1);
                let radius = |key: &Key| {
                    let share = key.fold("radius").stream().uniform(0.0, 1.0).powf(1.0 / d as f64);
                    self.threat.epsilon * share
                };
                let radii: Vec<f64> = keys.iter().map(radius).collect();
                let radii = Tensor::new(self.center.device(), [keys.len(), 1], &radii);
                let direction = unit_rows(&draw(Random::Normal).reshape([keys.len(), d]));
                (&direction * &radii.cast(direction.dtype())).reshape(shape)
            }
        };
        self.project(&(&self.center + &moved))
    }

    /// A move of length `size` from `u` along the direction of steepest ascent of the ball's norm:
    /// the sign of the gradient for l-infinity, the unit gradient for l2. Not projected.
    ///
    /// A sample whose gradient is zero stays.
    #[track_caller]
    pub fn step(&self, u: &Tensor, gradient: &Tensor, size: f64) -> Tensor {
        let shape = *gradient.shape();
        let direction = match self.threat.norm {
            Norm::Linf => gradient.sign(),
            Norm::L2 => unit_rows(&gradient.reshape([shape[0], shape.len() / shape[0]])).reshape(shape),
        };
        u + &direction.mul_scalar(size)
    }

    /// The points `u` brought into the balls and the box.
    ///
    /// For l-infinity the nearest point. For l2 the displacement is scaled to length ε, then cut with
    /// the box: feasible, since cutting shortens it, and the nearest point of the ball where the box
    /// does not cut. In exact arithmetic no coordinate leaves the l-infinity ball, and the f64 length
    /// of an l2 displacement is at most ε.
    #[track_caller]
    pub fn project(&self, u: &Tensor) -> Tensor {
        assert_eq!(
            u.shape(),
            self.center.shape(),
            "project: points {:?}, balls {:?}",
            u.shape(),
            self.center.shape()
        );
        match &self.region {
            Region::Cube { lo, hi } => u.maximum(lo).minimum(hi),
            Region::Sphere { center } => match u.dtype() {
                DType::F64 => self.shorten::<f64>(u, center),
                _ => self.shorten::<f32>(u, center),
            },
        }
    }

    /// The balls of the samples at `positions`, in that order.
    pub(crate) fn keep(&self, positions: &[usize]) -> Ball {
        let rows = row_index(&self.center, positions);
        let region = match &self.region {
            Region::Cube { lo, hi } => Region::Cube { lo: lo.gather(0, &rows), hi: hi.gather(0, &rows) },
            Region::Sphere { center } => {
                let width = center.len() / self.center.shape()[0].max(1);
                let row = |&i: &usize| center[i * width..(i + 1) * width].iter().copied();
                Region::Sphere { center: positions.iter().flat_map(row).collect() }
            }
        };
        Ball { threat: self.threat, center: self.center.gather(0, &rows), region }
    }

    /// Displacements scaled on the host, coordinates rounded towards the center, so that the length is
    /// at most ε as f64 computes it; then cut with the box.
    fn shorten<R: Real>(&self, u: &Tensor, center: &[f64]) -> Tensor {
        let (lo, hi) = self.threat.bounds.unwrap_or(EVERYWHERE);
        let (lo, hi) = (ceiling::<R>(lo), floor::<R>(hi));
        let mut points = u.to_vec::<R>();
        let width = (points.len() / u.shape()[0].max(1)).max(1);
        for (point, x) in points.chunks_mut(width).zip(center.chunks(width)) {
            let wanted: Vec<f64> = point.iter().zip(x).map(|(v, &x)| v.wide() - x).collect();
            // The first round is the projection; the rounding of its sum may leave an excess of some
            // 1e-16, which the next ones take away.
            let mut excess = 1e-15;
            while distance(point, x) > self.threat.epsilon {
                let scale = self.threat.epsilon / length(&wanted) * (1.0 - excess);
                for ((v, &x), wanted) in point.iter_mut().zip(x).zip(&wanted) {
                    *v = towards::<R>(x, scale * wanted);
                }
                excess *= 4.0;
            }
            for v in point.iter_mut() {
                *v = if *v < lo {
                    lo
                } else if *v > hi {
                    hi
                } else {
                    *v
                };
            }
        }
        Tensor::new(u.device(), *u.shape(), &points)
    }
}

/// `x + change`, rounded so that it is not farther from `x` than `change`.
fn towards<R: Real>(x: f64, change: f64) -> R {
    let x = R::nearest(x);
    if change >= 0.0 { above(x, change) } else { below(x, -change) }
}

fn distance<R: Real>(point: &[R], x: &[f64]) -> f64 {
    point.iter().zip(x).map(|(v, x)| (v.wide() - x).powi(2)).sum::<f64>().sqrt()
}

fn length(v: &[f64]) -> f64 {
    v.iter().map(|v| v * v).sum::<f64>().sqrt()
}

/// Rows divided by their length, zero rows left: first by their largest element, so that squares
/// neither vanish nor overflow.
fn unit_rows(rows: &Tensor) -> Tensor {
    let largest = rows.abs().max(1);
    let zero = largest.equal(&largest.zeros_like());
    let scaled = rows / &(&largest + &zero);
    &scaled / &(&scaled.norm(1) + &zero)
}

pub(crate) fn row_index(like: &Tensor, positions: &[usize]) -> Array {
    let positions: Vec<u32> = positions.iter().map(|&i| i as u32).collect();
    Array::new(like.device(), [positions.len()], &positions)
}

fn cube<R: Real>(center: &Tensor, threat: &Threat) -> Region {
    let x = center.to_vec::<R>();
    let (lo, hi) = threat.bounds.unwrap_or(EVERYWHERE);
    let (lo, hi) = (ceiling::<R>(lo), floor::<R>(hi));
    let least = |&x: &R| {
        let v = below(x, threat.epsilon);
        if v < lo { lo } else { v }
    };
    let largest = |&x: &R| {
        let v = above(x, threat.epsilon);
        if v > hi { hi } else { v }
    };
    let tensor = |data: Vec<R>| Tensor::new(center.device(), *center.shape(), &data);
    Region::Cube { lo: tensor(x.iter().map(least).collect()), hi: tensor(x.iter().map(largest).collect()) }
}

#[track_caller]
fn inside_box(x: &Tensor, (lo, hi): (f64, f64)) -> Tensor {
    assert!(lo <= hi, "threat model: the box [{lo}, {hi}] is empty");
    let values = x.array().to_f64();
    let (mut least, mut largest, mut nan) = (f64::INFINITY, f64::NEG_INFINITY, false);
    for &v in &values {
        (least, largest, nan) = (least.min(v), largest.max(v), nan || v.is_nan());
    }
    assert!(!nan, "threat model: an input is NaN");
    assert!(
        values.is_empty() || (least >= lo - BOX_SLACK && largest <= hi + BOX_SLACK),
        "threat model: inputs range over [{least}, {largest}], outside the box [{lo}, {hi}]; \
         attacks take unnormalised inputs, and normalisation belongs inside the model"
    );
    let (lo, hi) = match x.dtype() {
        DType::F64 => (lo, hi),
        _ => (f64::from(ceiling::<f32>(lo)), f64::from(floor::<f32>(hi))),
    };
    x.detach().clamp(lo, hi)
}
