//! One case: attack points in f32 and f64, whether each is in the ball, and every certificate against all of them.

use super::exact::leaves;
use super::networks::{Case, PIXELS};
use tarrl_attacks::{Apgd, Evaluation, Limits, Norm, Pgd, Problem, Query, Threat, apgd, pgd};
use tarrl_bound::LinearHead;
use tarrl_certify::{
    Certificate, Certificates, CertifyConfig, Cost, Effort, Evidence, Network, Precision, Provenance, Slopes,
    certify,
};
use tarrl_tensor::{DType, Key, Stream, Tensor};

/// What was counted.
#[derive(Clone, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) networks: usize,
    /// In f32 and in f64.
    pub(crate) points: [usize; 2],
    pub(crate) certificates: usize,
    /// Certificates that claim nothing.
    pub(crate) vacuous: usize,
    /// Claims compared with a point.
    pub(crate) comparisons: usize,
    /// Networks with planted points in balls of 10⁻³ and more, once for each precision; and those where no attack came near.
    pub(crate) planted: usize,
    pub(crate) missed: usize,
    /// Points outside their ball.
    pub(crate) outside: usize,
    /// Claims that a point breaks.
    pub(crate) violations: usize,
    /// The first few of both, in words.
    pub(crate) examples: Vec<String>,
}

impl Counts {
    pub(crate) fn add(&mut self, other: Counts) {
        self.networks += other.networks;
        self.points = [self.points[0] + other.points[0], self.points[1] + other.points[1]];
        self.certificates += other.certificates;
        self.vacuous += other.vacuous;
        self.comparisons += other.comparisons;
        self.planted += other.planted;
        self.missed += other.missed;
        self.outside += other.outside;
        self.violations += other.violations;
        self.examples.extend(other.examples);
        self.examples.truncate(20);
    }

    fn broken(&mut self, what: impl FnOnce() -> String) {
        self.violations += 1;
        if self.examples.len() < 20 {
            self.examples.push(what());
        }
    }

    fn at_most(&mut self, moved: f64, claim: f64, what: impl FnOnce() -> String) {
        self.comparisons += 1;
        // NaN on either side is a violation.
        if moved.partial_cmp(&claim).is_none_or(std::cmp::Ordering::is_gt) {
            self.broken(|| format!("{}: moved {moved:e}, claimed {claim:e}", what()));
        }
    }
}

const EVIDENCE: [Evidence; 5] =
    [Evidence::Radius, Evidence::Box, Evidence::BoxAndBall, Evidence::Zonotope, Evidence::All];

/// Half of `count` points in f32, half in f64.
pub(crate) fn run(case: &Case, count: usize, key: Key) -> Counts {
    let network = Network::trace(&*case.encode, &case.x).expect("the networks have rules");
    let mut counts = Counts { networks: 1, ..Counts::default() };
    for (at, dtype) in [DType::F32, DType::F64].into_iter().enumerate() {
        let key = key.fold(at);
        let mut stream = key.stream();
        let x = center(case, dtype, &mut stream);
        let found = points(case, &x, count / 2, key);
        let planted = case.planted.iter().map(|point| point.cast(dtype));
        let planted: Vec<Tensor> =
            planted.filter(|_| x.array().to_f64() == case.x.array().to_f64()).collect();
        let all = Tensor::concat(&planted.iter().chain([&found]).collect::<Vec<_>>(), 0);
        counts.points[at] += all.shape()[0];
        contained(case, &x, &all, &mut counts);
        let encode = |u: &Tensor| -> Tensor {
            match (dtype, case.floor) {
                (DType::F32, _) => (case.encode)(u),
                (_, None) => network.forward(u),
                (_, Some(floor)) => network.forward(u).l2_normalize(floor),
            }
        };
        // All in one batch; the sample alone.
        let clean = encode(&x).array().to_f64();
        let ends: Vec<Vec<f64>> =
            encode(&all).array().to_f64().chunks(clean.len()).map(<[f64]>::to_vec).collect();
        let moved: Vec<Vec<f64>> =
            ends.iter().map(|z| z.iter().zip(&clean).map(|(a, b)| a - b).collect()).collect();
        // In smaller balls rounding takes the planted units away.
        if !planted.is_empty() && case.threat.epsilon >= 1e-3 {
            let (hidden, reached) = moved.split_at(planted.len());
            let most = |of: &[Vec<f64>]| of.iter().map(|v| length(v)).fold(0.0, f64::max);
            counts.planted += 1;
            counts.missed += usize::from(most(reached) < 0.9 * most(hidden));
        }
        let directions: Vec<Vec<f64>> =
            (0..2).map(|_| clean.iter().map(|_| stream.normal()).collect()).collect();
        let head = head(clean.len(), &mut stream);
        for config in configs(case.threat, if dtype == DType::F32 { Precision::F32 } else { Precision::F64 })
        {
            let (samples, cost) = certify(&network, &x, &config).expect("the samples are pixels");
            counts.certificates += 1;
            counts.vacuous += usize::from(samples[0].is_vacuous());
            let what = || format!("{} {config:?}", case.kind);
            compare(&samples[0], &moved, &directions, &what, &mut counts);
            of_head(&head, samples, (config, cost), &ends, &what, &mut counts);
        }
        if dtype == DType::F64 && case.floor.is_none() {
            lipschitz(&network, &x, &all, &moved, &mut counts, case.kind);
        }
    }
    counts
}

/// The sample; in f64 every other time with digits that f32 does not have, where nothing is planted.
fn center(case: &Case, dtype: DType, stream: &mut Stream) -> Tensor {
    if dtype == DType::F32 || !case.planted.is_empty() || stream.chance(0.5) {
        return case.x.cast(dtype);
    }
    let values: Vec<f64> =
        case.x.array().to_f64().iter().map(|v| (v + 1e-9 * stream.normal()).clamp(0.0, 1.0)).collect();
    Tensor::new(case.x.device(), [1, PIXELS], &values)
}

/// Where attacks end: PGD on the displacement, one step, APGD along a direction; and starts, steps outwards and projections.
fn points(case: &Case, x: &Tensor, count: usize, key: Key) -> Tensor {
    let threat = &case.threat;
    let encode = |u: &Tensor| (case.encode)(u);
    let clean = encode(x).detach();
    let keys = |name: &str, n: usize| -> Vec<Key> { (0..n).map(|i| key.fold(name).fold(i)).collect() };
    let copies = |n: usize| x.broadcast_to([n, PIXELS]);
    let displacement =
        |u: &Tensor, rows: &[usize]| (&encode(u) - &clean).square().sum(1).reshape([rows.len()]);
    let part = (count / 6).max(1);
    let many = Pgd { include_clean: false, ..Pgd::usual(threat, 8) };
    let mut found = vec![pgd(&copies(part), &displacement, threat, &many, &keys("pgd", part)).best];
    let once = Pgd { include_clean: false, ..Pgd::fast(threat.epsilon) };
    found.push(pgd(&copies(part), &displacement, threat, &once, &keys("once", part)).best);
    let mut stream = key.fold("direction").stream();
    let w: Vec<f64> = (0..clean.shape()[1]).map(|_| stream.normal()).collect();
    let w = Tensor::new(x.device(), [w.len(), 1], &w).cast(x.dtype());
    let along =
        |u: &Tensor, query: Query<'_>| Evaluation::of(encode(u).matmul(&w).reshape([query.rows.len()]));
    let of = keys("apgd", part);
    let problem = Problem::new(threat.around(&copies(part)), &along, &of, Limits::default());
    found.push(apgd(&problem, &Apgd { steps: 8, ..Apgd::default() }).best);
    let ball = threat.around(&copies(part));
    let starts = ball.start(&keys("start", part));
    found.push(ball.project(&ball.step(&starts, &(&starts - x), 4.0 * threat.epsilon)));
    found.push(ball.project(&(x + &(&starts - x).mul_scalar(1.0 + 1e-6))));
    let rest = count.saturating_sub(5 * part).max(1);
    found.push(threat.around(&copies(rest)).start(&keys("rest", rest)));
    Tensor::concat(&found.iter().collect::<Vec<_>>(), 0)
}

fn contained(case: &Case, x: &Tensor, points: &Tensor, counts: &mut Counts) {
    let x = x.array().to_f64();
    for u in points.array().to_f64().chunks(PIXELS) {
        if leaves(case.threat.norm, &x, u, case.threat.epsilon) {
            counts.outside += 1;
            if counts.examples.len() < 20 {
                counts
                    .examples
                    .push(format!("{}: {u:?} is outside {:?} around {x:?}", case.kind, case.threat));
            }
        }
    }
}

fn configs(threat: Threat, precision: Precision) -> Vec<CertifyConfig> {
    let with =
        |effort, slopes| CertifyConfig { threat, effort, slopes, precision, ..CertifyConfig::default() };
    let mut configs = vec![with(Effort::Interval, Slopes::Chord)];
    for effort in [Effort::Linear, Effort::Full] {
        configs.extend([Slopes::Chord, Slopes::Sector, Slopes::Best].map(|slopes| with(effort, slopes)));
    }
    configs.push(with(Effort::Optimized, Slopes::Chord));
    configs
}

/// Radius, box, both, zonotope and all of them, along the axes, along directions of any size, and where the points went.
fn compare(
    certificate: &Certificate,
    moved: &[Vec<f64>],
    directions: &[Vec<f64>],
    what: &dyn Fn() -> String,
    counts: &mut Counts,
) {
    if moved.iter().flatten().any(|v| !v.is_finite()) {
        // The deployed arithmetic overflows: nothing may be claimed.
        counts.comparisons += 1;
        if !certificate.is_vacuous() {
            counts.broken(|| format!("{}: a claim although the deployed network overflows", what()));
        }
        return;
    }
    if certificate.is_vacuous() {
        return;
    }
    let d = moved[0].len();
    for point in moved {
        counts.at_most(length(point), certificate.radius(), what);
    }
    let axis = |j: usize, sign: f64| (0..d).map(move |i| if i == j { sign } else { 0.0 }).collect();
    let mut fixed: Vec<Vec<f64>> = (0..d).flat_map(|j| [axis(j, 1.0), axis(j, -1.0)]).collect();
    fixed.extend(directions.iter().cloned());
    for v in &fixed {
        for evidence in EVIDENCE {
            let claim = certificate.support(v, evidence);
            moved.iter().for_each(|point| counts.at_most(dot(v, point), claim, what));
        }
    }
    // Powers of two that are exact, at sizes whose squares are not.
    for scale in [2f64.powi(-600), 2f64.powi(100)] {
        let v: Vec<f64> = fixed[0].iter().map(|v| v * scale).collect();
        let claim = certificate.support(&v, Evidence::All);
        for point in moved.iter().filter(|point| point[0].abs() > 1e-100) {
            counts.at_most(dot(&v, point), claim, what);
        }
    }
    for point in moved.iter().step_by(8) {
        for evidence in [Evidence::Zonotope, Evidence::All] {
            counts.at_most(dot(point, point), certificate.support(point, evidence), what);
        }
    }
}

/// A linear head: no attacked loss above the certified one, nothing certified that falls, the chain in order.
fn of_head(
    head: &LinearHead,
    samples: Vec<Certificate>,
    (config, cost): (CertifyConfig, Cost),
    ends: &[Vec<f64>],
    what: &dyn Fn() -> String,
    counts: &mut Counts,
) {
    let ends: Vec<&[f64]> =
        ends.iter().filter(|z| z.iter().all(|v| v.is_finite())).map(Vec::as_slice).collect();
    let provenance = Provenance { encoder: String::new(), samples: String::new(), config, cost };
    let certificates = Certificates { provenance, samples };
    for label in 0..head.classes() {
        let report = certificates.apply(head, &[label], &ends).expect("the head fits");
        counts.comparisons += ends.len();
        if report.violations() > 0 {
            counts.broken(|| format!("{}: head {:?}", what(), report.chains));
        }
    }
}

fn head(d: usize, stream: &mut Stream) -> LinearHead {
    let k = 2 + stream.below(3);
    let scale = 10f64.powf(stream.uniform(-3.0, 3.0));
    let weight = (0..k * d).map(|_| scale * stream.normal()).collect();
    LinearHead::new(k, d, weight, (0..k).map(|_| stream.normal()).collect())
}

/// The Lipschitz bound, beside the rounding that balls of radius zero certify.
fn lipschitz(
    network: &Network,
    x: &Tensor,
    points: &Tensor,
    moved: &[Vec<f64>],
    counts: &mut Counts,
    kind: &str,
) {
    let threat = Threat::new(Norm::Linf, 0.0);
    let still = CertifyConfig { threat, effort: Effort::Interval, ..CertifyConfig::default() };
    let rounding = |x: &Tensor| certify(network, x, &still).expect("the points are pixels").0[0].radius();
    let (constant, before) = (network.lipschitz(), rounding(x));
    let x64 = x.array().to_f64();
    for (point, moved) in points.array().to_f64().chunks(PIXELS).zip(moved).take(16) {
        let here = rounding(&Tensor::new(x.device(), [1, PIXELS], point));
        let apart: Vec<f64> = point.iter().zip(&x64).map(|(a, b)| a - b).collect();
        // The products here are rounded too.
        let claim = (constant * length(&apart) + before + here) * (1.0 + 1e-12);
        if claim.is_finite() {
            counts.at_most(length(moved), claim, || format!("{kind}: Lipschitz bound"));
        }
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn length(v: &[f64]) -> f64 {
    let top = v.iter().fold(0.0, |top: f64, v| top.max(v.abs()));
    if top > 0.0 { top * v.iter().map(|v| (v / top).powi(2)).sum::<f64>().sqrt() } else { top }
}
