//! Adversarial soundness: networks whose worst point is planted where no gradient attack finds it, and numbers at the ends of
//! what floating point holds.

use super::soundness::{holds, points};
use super::{EFFORTS, config, device, normal};
use crate::{CertifyConfig, Effort, Network, Precision, Slopes, certify};
use tarrl_attacks::{Norm, Threat};
use tarrl_tensor::{Device, Key, Tensor};

const PIXELS: usize = 12;
const FEATURES: usize = 3;

/// A network of two parts: a random one of one hidden layer, and units that are active only within `1/64` of the way to a
/// corner of their own. All numbers are dyadic, so that planted points lie in the ball exactly.
struct Planted {
    device: Device,
    x: Tensor,
    /// `(pixels, units)`, `(units)`, `(units, features)` of both parts.
    layers: [Tensor; 6],
    /// The corner of each planted unit, `(pixels)` each.
    worst: Vec<Vec<f64>>,
}

impl Planted {
    /// Inputs in `[0, 1]`, half of them at the ends if `at_bounds`; planted units end in weights of `height`.
    fn new(key: Key, threat: &Threat, at_bounds: bool, height: f64) -> Planted {
        let device = device();
        let mut stream = key.stream();
        let epsilon = threat.epsilon;
        let pixel = |stream: &mut tarrl_tensor::Stream| match stream.below(4) {
            0 if at_bounds => 0.0,
            1 if at_bounds => 1.0,
            _ => (64 + stream.below(128)) as f64 / 256.0,
        };
        let x: Vec<f64> = (0..PIXELS).map(|_| pixel(&mut stream)).collect();
        let units = 4;
        let (mut weight, mut bias, mut worst) = (vec![0.0; PIXELS * units], vec![], vec![]);
        for unit in 0..units {
            // In the l-infinity ball a corner, in the l1 ball one pixel, in the l2 ball four pixels by ε/2 each.
            let moved: Vec<usize> = match threat.norm {
                Norm::Linf => (0..PIXELS).collect(),
                Norm::L2 => (0..4).map(|i| (unit + 3 * i) % PIXELS).collect(),
                _ => vec![unit],
            };
            let step = epsilon / (moved.len() as f64).sqrt();
            let step = if threat.norm == Norm::Linf { epsilon } else { step };
            let mut end = x.clone();
            let mut reach = 0.0;
            for &i in &moved {
                let sign = if stream.chance(0.5) { 1.0 } else { -1.0 };
                let to = (x[i] + sign * step).clamp(0.0, 1.0);
                weight[i * units + unit] = sign;
                reach += sign * to;
                end[i] = to;
            }
            let way = reach - (0..PIXELS).map(|i| weight[i * units + unit] * x[i]).sum::<f64>();
            bias.push(way / 64.0 - reach);
            worst.push(end);
        }
        let single = |shape: &[usize], values: &[f64]| {
            let values: Vec<f32> = values.iter().map(|&v| v as f32).collect();
            Tensor::new(&device, shape, &values)
        };
        let out: Vec<f64> = (0..units * FEATURES).map(|_| height * stream.uniform(1.0, 2.0)).collect();
        let layers = [
            single(&[PIXELS, units], &weight),
            single(&[1, units], &bias),
            single(&[units, FEATURES], &out),
            normal(&device, key.fold("first"), &[PIXELS, 8], 0.5),
            normal(&device, key.fold("bias"), &[1, 8], 0.2),
            normal(&device, key.fold("second"), &[8, FEATURES], 0.5),
        ];
        Planted { x: single(&[1, PIXELS], &x), device, layers, worst }
    }

    fn encode(&self, x: &Tensor) -> Tensor {
        let [a, b, c, d, e, f] = self.layers.each_ref().map(|t| t.cast(x.dtype()));
        let planted = (&x.matmul(&a) + &b).relu().matmul(&c);
        &planted + &(&x.matmul(&d) + &e).relu().matmul(&f)
    }

    fn worst(&self, dtype: tarrl_tensor::DType) -> Vec<Tensor> {
        let point = |p: &Vec<f64>| Tensor::new(&self.device, [1, PIXELS], p).cast(dtype);
        self.worst.iter().map(point).collect()
    }
}

/// How far each of `ends` moves the output of `f`, in f64 differences.
pub(super) fn moved(f: &dyn Fn(&Tensor) -> Tensor, x: &Tensor, ends: &[Tensor]) -> Vec<Vec<f64>> {
    let clean = f(x).array().to_f64();
    let along = |u: &Tensor| f(u).array().to_f64().iter().zip(&clean).map(|(a, b)| a - b).collect();
    ends.iter().map(along).collect()
}

fn length(v: &[f64]) -> f64 {
    v.iter().map(|v| v * v).sum::<f64>().sqrt()
}

/// Every certificate of one sample.
pub(super) fn all_certificates(threat: Threat) -> Vec<CertifyConfig> {
    let slopes = [Slopes::Chord, Slopes::Sector, Slopes::Best];
    let configs = EFFORTS.into_iter().flat_map(|effort| slopes.map(|slopes| (effort, slopes)));
    let configs = configs.filter(|(effort, slopes)| *effort != Effort::Interval || *slopes == Slopes::Chord);
    let with = |(effort, slopes)| {
        [Precision::F64, Precision::F32].map(|precision| CertifyConfig {
            slopes,
            precision,
            ..config(effort, threat)
        })
    };
    configs.flat_map(with).collect()
}

pub(super) const BALLS: [(Norm, f64); 3] =
    [(Norm::Linf, 1.0 / 64.0), (Norm::L2, 1.0 / 16.0), (Norm::L1, 0.125)];

#[test]
fn every_certificate_holds_at_planted_points_that_attacks_miss() {
    let (mut missed, mut count) = (0, 0);
    for seed in 0..20u64 {
        for (norm, epsilon) in BALLS {
            let key = Key::new(seed).fold("planted");
            let threat = Threat::new(norm, epsilon);
            let height = [1.0, 1e3, 1e6][seed as usize % 3];
            let net = Planted::new(key, &threat, seed % 2 == 1, height);
            let network = Network::trace(&|x| net.encode(x), &net.x).unwrap();
            let attacked = points(&|x| net.encode(x), &net.x, &threat, key);
            let double = tarrl_tensor::DType::F64;
            let in_double = moved(&|x| network.forward(x), &net.x, &net.worst(double));
            let attack = moved(&|x| network.forward(x), &net.x, &attacked);
            let in_single = moved(&|x| net.encode(x), &net.x, &net.worst(net.x.dtype()));
            let most = |of: &[Vec<f64>]| of.iter().map(|v| length(v)).fold(0.0, f64::max);
            missed += usize::from(most(&attack) < 0.9 * most(&in_double));
            count += 1;
            for config in all_certificates(threat) {
                let found = certify(&network, &net.x, &config).unwrap().0.remove(0);
                assert!(!found.is_vacuous(), "{config:?}");
                let points = match config.precision {
                    Precision::F64 => in_double.iter().chain(&attack),
                    Precision::F32 => in_single.iter().chain(&[]),
                };
                points.for_each(|point| holds(&found, point, &format!("seed {seed} {config:?}")));
            }
        }
    }
    assert!(2 * missed > count, "attacks found {} of {count} planted points", count - missed);
}

/// One hidden layer with weights of `scale` before the ReLU and its inverse behind: products that underflow or overflow in
/// f32, and bounds that do in f64, claim nothing but never too little.
#[test]
fn subnormal_and_huge_weights_break_no_certificate() {
    let mut informative = 0;
    for (trial, (first, second)) in [
        (1e-40, 1e30),
        (1e-30, 1e30),
        (1e30, 1e-30),
        (1e30, 1e-40),
        (3e38, 3e38),
        (1e-45, 1e-45),
        (1e20, 1e18),
    ]
    .into_iter()
    .enumerate()
    {
        for (norm, epsilon) in BALLS {
            let (device, key) = (device(), Key::new(7).fold(trial));
            let threat = Threat::new(norm, epsilon);
            let scaled = |name: &str, shape: &[usize], factor: f64| {
                let values = normal(&device, key.fold(name), shape, 1.0).array().to_f64();
                let values: Vec<f32> =
                    values.iter().map(|v| (v * factor).clamp(-3e38, 3e38) as f32).collect();
                Tensor::new(&device, shape, &values)
            };
            let [a, b] = [scaled("a", &[PIXELS, 6], first), scaled("b", &[6, FEATURES], second)];
            let encode = |x: &Tensor| x.matmul(&a.cast(x.dtype())).relu().matmul(&b.cast(x.dtype()));
            let x = super::pixels(&device, key.fold("x"), &[1, PIXELS]);
            let network = Network::trace(&encode, &x).unwrap();
            let forward = |x: &Tensor| network.forward(x);
            let double =
                moved(&forward, &x, &points(&forward, &x.cast(tarrl_tensor::DType::F64), &threat, key));
            let single = moved(&encode, &x, &points(&encode, &x, &threat, key));
            for config in all_certificates(threat) {
                let found = certify(&network, &x, &config).unwrap().0.remove(0);
                informative += usize::from(!found.is_vacuous());
                let points = if config.precision == Precision::F64 { &double } else { &single };
                // What overflows in the deployed arithmetic has no displacement to speak of.
                let finite = points.iter().filter(|p| p.iter().all(|v| v.is_finite()));
                finite.for_each(|p| holds(&found, p, &format!("{first:e} {second:e} {config:?}")));
            }
        }
    }
    assert!(informative > 100, "{informative} certificates claim something");
}

/// Pre-activations that are exactly zero at the sample, and others whose zero is exactly at the end of their box.
#[test]
fn ties_of_relus_break_no_certificate() {
    for (norm, epsilon) in BALLS {
        let (device, threat) = (device(), Threat::new(norm, epsilon));
        let key = Key::new(9);
        let x = Tensor::new(&device, [1, PIXELS], &[0.5f32; PIXELS]);
        // Each unit reads one pixel; its zero is at the sample or at an end of the ball, from both sides.
        let mut weight = vec![0.0f32; PIXELS * PIXELS];
        let mut bias = vec![0.0f32; PIXELS];
        for unit in 0..PIXELS {
            let sign = if unit % 2 == 0 { 1.0f32 } else { -1.0 };
            weight[unit * PIXELS + unit] = sign;
            bias[unit] = -sign * 0.5 + [0.0, epsilon as f32, -epsilon as f32][unit / 2 % 3];
        }
        let a = Tensor::new(&device, [PIXELS, PIXELS], &weight);
        let b = Tensor::new(&device, [1, PIXELS], &bias);
        let c = normal(&device, key, &[PIXELS, FEATURES], 1.0);
        let encode = |x: &Tensor| {
            (&x.matmul(&a.cast(x.dtype())) + &b.cast(x.dtype())).relu().matmul(&c.cast(x.dtype()))
        };
        let network = Network::trace(&encode, &x).unwrap();
        let mut ends = points(&encode, &x, &threat, key);
        for pixel in 0..PIXELS {
            for sign in [1.0, -1.0] {
                let mut end = vec![0.5f64; PIXELS];
                end[pixel] += sign * epsilon;
                ends.push(Tensor::new(&device, [1, PIXELS], &end));
            }
        }
        for config in all_certificates(threat) {
            let found = certify(&network, &x, &config).unwrap().0.remove(0);
            for point in moved(&|x| network.forward(x), &x, &ends) {
                holds(&found, &point, &format!("{config:?}"));
            }
        }
    }
}

/// A batch norm of variance 1e-12 multiplies by a million, and the mean that it subtracts cancels nearly all of its input.
#[test]
fn batch_norms_of_tiny_variance_break_no_certificate() {
    for (norm, epsilon) in BALLS {
        for seed in 0..5u64 {
            let (device, threat) = (device(), Threat::new(norm, epsilon));
            let key = Key::new(seed).fold("variance");
            let x = super::pixels(&device, key.fold("x"), &[1, PIXELS]);
            let a = normal(&device, key.fold("a"), &[PIXELS, 6], 0.5);
            let mean = x.matmul(&a).array().to_f64();
            let scale = [1e6, -1e6, 3e5, 1e3, 1e6, 1e7];
            let shift: Vec<f64> = mean.iter().zip(scale).map(|(m, s)| -m * s).collect();
            let [scale, shift] = [&scale[..], &shift].map(|v| Tensor::new(&device, [6], v));
            let b = normal(&device, key.fold("b"), &[6, FEATURES], 1.0);
            let encode = |x: &Tensor| {
                let [scale, shift] = [&scale, &shift].map(|t| t.cast(x.dtype()));
                let n = x.shape()[0];
                let h = x.matmul(&a.cast(x.dtype())).reshape([n, 1, 1, 6]);
                h.channel_affine(&scale, &shift, true).reshape([n, 6]).matmul(&b.cast(x.dtype()))
            };
            let network = Network::trace(&encode, &x).unwrap();
            let ends = points(&encode, &x, &threat, key);
            for config in all_certificates(threat) {
                let found = certify(&network, &x, &config).unwrap().0.remove(0);
                let double = config.precision == Precision::F64;
                let forward = |x: &Tensor| if double { network.forward(x) } else { encode(x) };
                for point in moved(&forward, &x, &ends) {
                    holds(&found, &point, &format!("seed {seed} {config:?}"));
                }
            }
        }
    }
}

/// Nine layers with weights near ±10³⁸: coefficients of the output in terms of the input overflow and cancel to NaN, while
/// in a ball of radius 10⁻³⁰⁰ all values and displacements are finite.
#[test]
fn coefficients_that_overflow_break_no_certificate() {
    let (device, threat) = (device(), Threat::linf(1e-300));
    let mut moving = 0;
    for seed in 0..20u64 {
        let key = Key::new(seed).fold("overflow");
        let weight = |i: usize| {
            let values: Vec<f32> = normal(&device, key.fold(i), &[9], 5e37).to_vec();
            Tensor::new(&device, [3, 3], &values)
        };
        let layers: Vec<Tensor> = (0..9).map(weight).collect();
        let encode = |x: &Tensor| {
            let (last, rest) = layers.split_last().unwrap();
            rest.iter()
                .fold(x.clone(), |z, w| z.matmul(&w.cast(x.dtype())).relu())
                .matmul(&last.cast(x.dtype()))
        };
        let x = Tensor::new(&device, [1, 3], &[0.0f32; 3]);
        let network = Network::trace(&encode, &x).unwrap();
        let corner = |bits: usize| -> Tensor {
            let end: Vec<f64> = (0..3).map(|i| if bits >> i & 1 == 1 { 1e-300 } else { 0.0 }).collect();
            Tensor::new(&device, [1, 3], &end)
        };
        let ends: Vec<Tensor> = (0..8).map(corner).collect();
        let points = moved(&|x| network.forward(x), &x, &ends);
        moving += usize::from(points.iter().any(|p| length(p) > 0.0));
        for config in all_certificates(threat) {
            let found = certify(&network, &x, &config).unwrap().0.remove(0);
            for point in &points {
                assert!(point.iter().all(|v| v.is_finite()));
                holds(&found, point, &format!("seed {seed} {config:?}"));
            }
        }
    }
    assert!(moving > 5, "{moving} of 20 networks move");
}
