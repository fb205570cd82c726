use super::*;
use crate::displacement_attack;
use crate::toy::Toy;
use tarrl_certify::{CertifyConfig, certify};
use tarrl_tensor::{Cpu, DType, Stream};

/// A toy with its network, and predictors of all kinds on draws of its own images.
struct Fixture {
    toy: Toy,
    network: Network,
    noise: RepresentationNoise,
    predictors: Vec<Predictor>,
}

impl Fixture {
    fn new(seed: u64, threads: usize) -> Self {
        let toy = Toy::new(seed, 30, 4, 3, threads);
        let z = toy.encode(&toy.images);
        let noise = RepresentationNoise::relative(&z, 0.4).unwrap();
        let keys: Vec<Key> = (0..30usize).map(|i| Key::new(seed).fold("train").fold(i)).collect();
        let draws = noise.draw(&z, 4, &keys);
        let labels: Vec<u32> = toy.labels.iter().flat_map(|&y| [y; 4]).collect();
        let fit = |kind| Predictor::fit(kind, &draws, &labels, 3, Key::new(1)).unwrap();
        let predictors = PredictorKind::ALL.map(fit).into();
        let network = Network::trace(&|x: &Tensor| toy.encode(x), &toy.images.slice(0, 0, 1)).unwrap();
        Fixture { toy, network, noise, predictors }
    }

    fn moved(&self, epsilon: f64) -> Displacements {
        let config = CertifyConfig { threat: Threat::linf(epsilon), ..CertifyConfig::default() };
        let (samples, _) = certify(&self.network, &self.toy.images, &config).unwrap();
        let (attack, encoder) = (displacement_attack(&config.threat, 10, 1), |x: &Tensor| self.toy.encode(x));
        let key = Key::new(2);
        Displacements::measure(
            &encoder,
            &self.network,
            &self.toy.images,
            &config.threat,
            &samples,
            &attack,
            key,
        )
        .unwrap()
    }

    fn measure(
        &self,
        config: DrawConfig,
        epsilons: &[f64],
        key: Key,
    ) -> Result<Vec<PredictorErrors>, BoundError> {
        let evaluation = PredictorEvaluation {
            encoder: &|x: &Tensor| self.toy.encode(x),
            network: &self.network,
            images: &self.toy.images,
            labels: &self.toy.labels,
            predictors: &self.predictors,
            noise: self.noise,
            config,
            steps: 5,
            key,
        };
        let mut run = evaluation.begin()?;
        epsilons.iter().try_for_each(|&epsilon| run.measure(&self.moved(epsilon)))?;
        Ok(run.finish())
    }
}

const FEW: DrawConfig = DrawConfig { pilot: 30, draws: 200, attack: 4, delta: 1e-3 };

#[test]
fn errors_rise_with_the_radius_and_stay_below_their_bounds() {
    let mut risen = 0;
    for seed in 0..4 {
        let found = Fixture::new(seed, 1).measure(FEW, &[0.0, 0.02, 0.1], Key::new(seed)).unwrap();
        assert_eq!(found.iter().map(|f| f.kind).collect::<Vec<_>>(), PredictorKind::ALL);
        for PredictorErrors { kind, clean, levels } in &found {
            let [zero, near, far] = &levels[..] else { panic!("three radii") };
            // At radius 0 the bound is the clean share and Hoeffding's margin, √(ln 1000 / (2 · 30 · 200)).
            assert!(
                (zero.bound - clean - 0.02399).abs() < 1e-5 && (zero.bound - zero.certified).abs() < 1e-9,
                "{zero:?}"
            );
            for level in levels {
                assert!(
                    level.attacked <= level.bound && level.bound <= level.certified + 1e-12,
                    "{kind:?} {level:?}"
                );
            }
            assert!(near.bound < far.bound, "{kind:?}: {clean} {levels:?}");
            risen += usize::from(far.attacked > clean + 0.05);
        }
    }
    // A predictor of nearly one class, as some of these toys have, answers the same everywhere.
    assert!(risen >= 4, "{risen} of 16 rose");
}

#[test]
fn threads_change_no_bit_of_what_is_counted() {
    let of = |threads| Fixture::new(5, threads).measure(FEW, &[0.05], Key::new(3)).unwrap();
    assert_eq!(of(1), of(3));
}

/// With δ near 1 limits are what was counted, and other draws pass them by chance.
#[test]
fn errors_above_their_bound_are_refused_with_the_predictor_and_the_radius() {
    let fixture = Fixture::new(1, 1);
    let config = DrawConfig { pilot: 2, draws: 2, attack: 1, delta: 1.0 - 1e-12 };
    // Each of twenty keys has about an even chance.
    let error = (0..20usize).find_map(|i| fixture.measure(config, &[0.0], Key::new(7).fold(i)).err());
    let error = error.expect("chance passes a limit").to_string();
    assert!(error.contains(": errors on draws at ε = 0 pass the bound"), "{error}");
}

/// Two random layers of ReLUs, with a point and another one of its ball.
fn random_means(s: &mut Stream, d: usize) -> [Vec<f64>; 2] {
    let normals = |s: &mut Stream, n: usize| -> Vec<f64> { (0..n).map(|_| s.normal()).collect() };
    let (first, second) = (normals(s, 5 * 6), normals(s, 6 * d));
    let f = |x: &[f64]| -> Vec<f64> {
        let unit = |w: &[f64]| w.iter().zip(x).map(|(w, x)| w * x).sum::<f64>().max(0.0);
        let units: Vec<f64> = first.chunks(5).map(unit).collect();
        second.chunks(6).map(|w| w.iter().zip(&units).map(|(w, u)| w * u).sum()).collect()
    };
    let x: Vec<f64> = (0..5).map(|_| f64::from(s.unit())).collect();
    let epsilon = s.uniform(0.0, 0.3);
    let u: Vec<f64> = x.iter().map(|x| (x + s.uniform(-epsilon, epsilon)).clamp(0.0, 1.0)).collect();
    [f(&x), f(&u)]
}

/// C12 on a thousand random networks, points of a ball, and predictors of every kind.
#[test]
fn c12_any_predictor() {
    let device = Cpu { threads: 1, ..Cpu::default() }.open();
    let (trials, delta, pilot_draws, draws, many) = (1000usize, 0.05, 30, 200, 4000);
    let (mut passed, mut without_shift) = ([0; 2], 0);
    for trial in 0..trials {
        let key = Key::new(71).fold(trial);
        let mut s = key.stream();
        let d = 1 + s.below(4);
        let [clean, moved] = random_means(&mut s, d);
        let far = row_distances(&clean, &moved, d)[0];
        // Where nothing moved, any noise does.
        let noise = RepresentationNoise { sigma: if far > 0.0 { far / s.uniform(0.05, 2.0) } else { 1.0 } };
        // A predictor of random labels, around both.
        let centers: Vec<f64> = (0..40 * d)
            .map(|i| 0.5 * (clean[i % d] + moved[i % d]) + 2.0 * noise.sigma * s.normal())
            .collect();
        let labels: Vec<u32> = (0..40).map(|i| if i < 4 { i % 2 } else { s.below(2) as u32 }).collect();
        let centers = Tensor::new(&device, [40, d], &centers).cast(DType::F32);
        let kind = PredictorKind::ALL[trial % 4];
        let predictor = Predictor::fit(kind, &centers, &labels, 2, key).unwrap();
        let label = s.below(2) as u32;
        let errors = |mean: &[f64], draws: usize, name: &str| {
            let z = noise.draw(&Tensor::new(&device, [1, d], mean), draws, &[key.fold(name)]);
            predictor.predict(&z).unwrap().iter().filter(|&&found| found != label).count()
        };
        let sample = DrawnErrors {
            pilot_errors: errors(&clean, pilot_draws, "pilot"),
            pilot_draws,
            errors: errors(&clean, draws, "clean"),
            draws,
            rho: far / noise.sigma,
        };
        // What 4,000 draws say for certain but for one case in ten million.
        let truth = accuracy_lower(errors(&moved, many, "moved"), many, 1e-7);
        for (passed, bound) in
            passed.iter_mut().zip([drawn_bound(&sample, delta), mean_drawn_bound(&[sample], delta)])
        {
            *passed += usize::from(truth > bound);
        }
        without_shift += usize::from(truth > drawn_bound(&DrawnErrors { rho: 0.0, ..sample }, delta));
    }
    // Three standard errors of a thousand trials at δ = 5 % are 21; without the shift the bound is false.
    assert!(passed.iter().all(|&passed| passed <= 50 + 21), "{passed:?} of {trials}");
    assert!(without_shift > 100, "{without_shift} of {trials}");
}
