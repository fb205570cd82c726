//! Networks made to break certificates: hidden counterexamples, ties, cancellation, numbers at the ends of floating point.

use tarrl_attacks::{Norm, Threat};
use tarrl_tensor::{Arithmetic, Conv, Cpu, DType, Device, Key, Pool, Stream, Tensor};

/// Pixels of an input; one batch axis before them.
pub(crate) const PIXELS: usize = 16;

/// An encoder, a sample, a ball around it and, where one is known, points that attacks do not find.
pub(crate) struct Case {
    pub(crate) kind: &'static str,
    /// `(n, 16)` to `(n, d)`, in the precision of its argument.
    pub(crate) encode: Box<dyn Fn(&Tensor) -> Tensor>,
    /// The floor of the length that outputs are divided by, if they are normalized.
    pub(crate) floor: Option<f64>,
    pub(crate) threat: Threat,
    /// `(1, 16)` in f32.
    pub(crate) x: Tensor,
    /// `(1, 16)` each, in the ball.
    pub(crate) planted: Vec<Tensor>,
}

type Build = fn(&mut Maker) -> Box<dyn Fn(&Tensor) -> Tensor>;

const KINDS: [(&str, Build); 10] = [
    ("planted corners", planted_corners),
    ("planted conjunctions", planted_conjunctions),
    ("random layers", random_layers),
    ("convolutions", convolutions),
    ("tiny variances", tiny_variances),
    ("ties of ReLUs", ties),
    ("subnormal and huge weights", subnormal_and_huge),
    ("underflow in f32", underflow),
    ("cancellation", cancellation),
    ("on the sphere", random_layers),
];

/// The names of the kinds, in their order.
pub(crate) fn kinds() -> impl Iterator<Item = &'static str> {
    KINDS.iter().map(|(name, _)| *name)
}

/// The case of a number: kinds in turn, each with its own numbers.
pub(crate) fn case(number: usize) -> Case {
    let key = Key::new(number as u64).fold("soundness");
    let mut stream = key.stream();
    let (kind, build) = KINDS[number % KINDS.len()];
    let norm = [Norm::Linf, Norm::L2, Norm::L1][number / KINDS.len() % 3];
    let epsilon = [1.0 / 64.0, 8.0 / 255.0, 1e-3, 0.1, 1e-7, 0.5, 0.0, 1e-12][stream.below(8)];
    let device = Cpu { threads: 1, arithmetic: Arithmetic::Direct }.open();
    let pixel = |stream: &mut Stream| match stream.below(6) {
        0 => 0.0,
        1 => 1.0,
        2 => f64::from(1e-42f32),
        3 => stream.below(256) as f64 / 255.0,
        _ => stream.uniform(0.0, 1.0),
    };
    let x: Vec<f32> = (0..PIXELS).map(|_| pixel(&mut stream) as f32).collect();
    let x = Tensor::new(&device, [1, PIXELS], &x);
    let mut maker = Maker { device, stream, threat: Threat::new(norm, epsilon), x, planted: vec![] };
    let encode = build(&mut maker);
    let Maker { threat, x, planted, .. } = maker;
    if kind != "on the sphere" {
        return Case { kind, encode, floor: None, threat, x, planted };
    }
    let floor = 1e-12;
    Case {
        kind,
        encode: Box::new(move |x| encode(x).l2_normalize(floor)),
        floor: Some(floor),
        threat,
        x,
        planted,
    }
}

struct Maker {
    device: Device,
    stream: Stream,
    threat: Threat,
    x: Tensor,
    planted: Vec<Tensor>,
}

impl Maker {
    fn tensor(&self, shape: &[usize], values: &[f64]) -> Tensor {
        let values: Vec<f32> = values.iter().map(|&v| v.clamp(-3.4e38, 3.4e38) as f32).collect();
        Tensor::new(&self.device, shape, &values)
    }

    /// Normal numbers times a factor.
    fn normal(&mut self, shape: &[usize], factor: f64) -> Tensor {
        let values: Vec<f64> = (0..shape.iter().product()).map(|_| factor * self.stream.normal()).collect();
        self.tensor(shape, &values)
    }

    /// An outermost point of the ball, a corner or, in l2 and l1, one that moves four pixels; and the sign of each pixel's move.
    fn outermost(&mut self) -> (Tensor, Vec<f64>) {
        let count = match self.threat.norm {
            Norm::Linf => PIXELS,
            _ => 4,
        };
        let first = self.stream.below(PIXELS);
        let mut signs = vec![0.0; PIXELS];
        for i in 0..count {
            signs[(first + 5 * i) % PIXELS] = if self.stream.chance(0.5) { 1.0 } else { -1.0 };
        }
        let far = &self.x + &self.tensor(&[1, PIXELS], &signs).mul_scalar(2.0 * self.threat.epsilon + 1e-30);
        let end = self.threat.around(&self.x).project(&far);
        (end, signs)
    }
}

/// `z w + b`.
fn dense(z: &Tensor, w: &Tensor, b: &Tensor) -> Tensor {
    &z.matmul(&w.cast(z.dtype())) + &b.cast(z.dtype())
}

/// Units that are active within 1/64 of the way to an outermost point only, beside a random layer whose gradient leads elsewhere.
fn planted_corners(maker: &mut Maker) -> Box<dyn Fn(&Tensor) -> Tensor> {
    let (units, features) = (3, 3);
    let (mut weight, mut bias) = (vec![0.0; PIXELS * units], vec![]);
    for unit in 0..units {
        let (end, signs) = maker.outermost();
        let along = |point: &Tensor| -> f64 {
            point.array().to_f64().iter().zip(&signs).map(|(v, sign)| v * sign).sum()
        };
        let (reach, start) = (along(&end), along(&maker.x));
        signs.iter().enumerate().for_each(|(i, sign)| weight[i * units + unit] = *sign);
        bias.push((reach - start) / 64.0 - reach);
        maker.planted.push(end);
    }
    let height = 10f64.powf(maker.stream.uniform(3.0, 6.0));
    let [a, b] = [maker.tensor(&[PIXELS, units], &weight), maker.tensor(&[1, units], &bias)];
    let c = maker.normal(&[units, features], height);
    let [d, e, f] = [(PIXELS, 8), (1, 8), (8, features)].map(|(n, m)| maker.normal(&[n, m], 0.4));
    Box::new(move |x| {
        let planted = dense(x, &a, &b).relu().matmul(&c.cast(x.dtype()));
        &planted + &dense(x, &d, &e).relu().matmul(&f.cast(x.dtype()))
    })
}

/// One unit of the second layer that is active only where every moved pixel is in the last quarter of its way: without a
/// gradient nearly everywhere, as a counterexample that was hidden by training.
fn planted_conjunctions(maker: &mut Maker) -> Box<dyn Fn(&Tensor) -> Tensor> {
    let (end, signs) = maker.outermost();
    let (x, to) = (maker.x.array().to_f64(), end.array().to_f64());
    let (mut first, mut bias, mut second, mut count) =
        (vec![0.0; PIXELS * PIXELS], vec![0.0; PIXELS], vec![0.0; PIXELS], 0.0);
    for i in 0..PIXELS {
        let way = (to[i] - x[i]).abs();
        if way > 0.0 {
            first[i * PIXELS + i] = signs[i];
            bias[i] = 0.25 * way - signs[i] * to[i];
            second[i] = (4.0 / way).min(1e30);
            count += 1.0;
        }
    }
    maker.planted.push(end);
    let [a, b] = [maker.tensor(&[PIXELS, PIXELS], &first), maker.tensor(&[1, PIXELS], &bias)];
    let [c, d] = [maker.tensor(&[PIXELS, 1], &second), maker.tensor(&[1, 1], &[0.25 - count])];
    let height = 10f64.powf(maker.stream.uniform(2.0, 4.0));
    let e = maker.normal(&[1, 3], height);
    let [f, g] = [(PIXELS, 6), (6, 3)].map(|(n, m)| maker.normal(&[n, m], 0.4));
    Box::new(move |x| {
        let hidden = dense(&dense(x, &a, &b).relu(), &c, &d).relu().matmul(&e.cast(x.dtype()));
        &hidden + &x.matmul(&f.cast(x.dtype())).relu().matmul(&g.cast(x.dtype()))
    })
}

fn random_layers(maker: &mut Maker) -> Box<dyn Fn(&Tensor) -> Tensor> {
    let depth = 2 + maker.stream.below(3);
    let scale = 10f64.powf(maker.stream.uniform(-1.0, 0.5));
    let layers = layers(maker, depth, scale, 0.0);
    Box::new(move |x| apply(&layers, x))
}

/// Weights and biases of `depth` layers; `large` is added to the biases but the last.
fn layers(maker: &mut Maker, depth: usize, scale: f64, large: f64) -> Vec<[Tensor; 2]> {
    let widths = [PIXELS, 12, 10, 8, 4];
    let width = |i: usize| if i == depth { 4 } else { widths[i] };
    (0..depth)
        .map(|i| {
            let weight = maker.normal(&[width(i), width(i + 1)], scale);
            let bias = maker.normal(&[1, width(i + 1)], scale);
            [weight, if i + 1 < depth { bias.add_scalar(large) } else { bias }]
        })
        .collect()
}

fn apply(layers: &[[Tensor; 2]], x: &Tensor) -> Tensor {
    let mut z = x.clone();
    for (i, [w, b]) in layers.iter().enumerate() {
        z = dense(&z, w, b);
        if i + 1 < layers.len() {
            z = z.relu();
        }
    }
    z
}

/// A residual block of convolutions with folded batch norms, a pool and a linear map.
fn convolutions(maker: &mut Maker) -> Box<dyn Fn(&Tensor) -> Tensor> {
    let [a, b, c] = [[3, 3, 1, 3], [3, 3, 3, 3], [1, 1, 3, 3]].map(|shape| maker.normal(&shape, 0.4));
    let [scale, shift] = [0.7, 0.3].map(|factor| maker.normal(&[3], factor));
    let last = maker.normal(&[12, 3], 0.5);
    Box::new(move |x| {
        let n = x.shape()[0];
        let [a, b, c, scale, shift, last] = [&a, &b, &c, &scale, &shift, &last].map(|t| t.cast(x.dtype()));
        let conv = |pad| Conv { stride: 1, pad, groups: 1 };
        let z = x.reshape([n, 4, 4, 1]).conv2d(&a, conv(1)).channel_affine(&scale, &shift, true);
        let branch = z.conv2d(&b, conv(1)).channel_affine(&scale, &shift, false);
        let sum = (&branch + &z.conv2d(&c, conv(0))).relu();
        sum.avg_pool(Pool { window: 2, stride: 2, pad: 0 }).reshape([n, 12]).matmul(&last)
    })
}

/// Factors up to 10⁷ after a mean that cancels nearly all of what it is taken from.
fn tiny_variances(maker: &mut Maker) -> Box<dyn Fn(&Tensor) -> Tensor> {
    let a = maker.normal(&[PIXELS, 6], 0.5);
    let mean = maker.x.matmul(&a).array().to_f64();
    let scale: Vec<f64> = (0..6).map(|_| 10f64.powf(maker.stream.uniform(2.0, 7.0))).collect();
    let shift: Vec<f64> = mean.iter().zip(&scale).map(|(m, s)| -m * s).collect();
    let [scale, shift] = [maker.tensor(&[6], &scale), maker.tensor(&[6], &shift)];
    let b = maker.normal(&[6, 3], 1.0);
    Box::new(move |x| {
        let n = x.shape()[0];
        let [a, scale, shift, b] = [&a, &scale, &shift, &b].map(|t| t.cast(x.dtype()));
        let h = x.matmul(&a).reshape([n, 1, 1, 6]).channel_affine(&scale, &shift, true);
        h.reshape([n, 6]).matmul(&b)
    })
}

/// Pre-activations of exactly zero at the sample, and of zero at an end of their boxes.
fn ties(maker: &mut Maker) -> Box<dyn Fn(&Tensor) -> Tensor> {
    let x = maker.x.array().to_f64();
    let (mut weight, mut bias) = (vec![0.0; PIXELS * PIXELS], vec![0.0; PIXELS]);
    for i in 0..PIXELS {
        let sign = if maker.stream.chance(0.5) { 1.0 } else { -1.0 };
        weight[i * PIXELS + i] = sign;
        bias[i] = -sign * x[i] + [0.0, maker.threat.epsilon, -maker.threat.epsilon][maker.stream.below(3)];
    }
    let [a, b] = [maker.tensor(&[PIXELS, PIXELS], &weight), maker.tensor(&[1, PIXELS], &bias)];
    let (c, d) = (maker.normal(&[PIXELS, 8], 1.0), maker.normal(&[8, 3], 1.0));
    Box::new(move |x| dense(x, &a, &b).relu().matmul(&c.cast(x.dtype())).relu().matmul(&d.cast(x.dtype())))
}

/// Two layers from 10⁻⁴⁵ to 3 · 10³⁸, sometimes each the inverse of the other in size.
fn subnormal_and_huge(maker: &mut Maker) -> Box<dyn Fn(&Tensor) -> Tensor> {
    let first = maker.stream.uniform(-44.5, 38.0);
    let second = if maker.stream.chance(0.7) { -first } else { maker.stream.uniform(-44.5, 38.0) };
    let a = maker.normal(&[PIXELS, 8], 10f64.powf(first));
    let b = maker.normal(&[8, 3], 10f64.powf(second));
    Box::new(move |x| x.matmul(&a.cast(x.dtype())).relu().matmul(&b.cast(x.dtype())))
}

/// Weights of a few least numbers, whose products with pixels jump in f32, and factors that make the jumps visible.
fn underflow(maker: &mut Maker) -> Box<dyn Fn(&Tensor) -> Tensor> {
    let least = f64::from(f32::from_bits(1));
    let values: Vec<f64> = (0..PIXELS * 4).map(|_| least * (maker.stream.below(9) as f64 - 4.0)).collect();
    let a = maker.tensor(&[PIXELS, 4], &values);
    let b = maker.normal(&[4, 3], 1e37);
    Box::new(move |x| x.matmul(&a.cast(x.dtype())).relu().matmul(&b.cast(x.dtype())))
}

/// Biases of up to 10⁶ that the next layer takes away again.
fn cancellation(maker: &mut Maker) -> Box<dyn Fn(&Tensor) -> Tensor> {
    let large = 10f64.powf(maker.stream.uniform(2.0, 6.0));
    let layers = layers(maker, 3, 0.4, large);
    let clean = apply(&layers, &maker.x).cast(DType::F32);
    Box::new(move |x| &apply(&layers, x) - &clean.cast(x.dtype()))
}
