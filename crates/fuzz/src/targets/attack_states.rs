//! Targets of stored attacks: PGD, Carlini-Wagner, DeepFool, HopSkipJump, AutoAttack and minimum-norm attacks, resumed and
//! run to their end.

use crate::target::Target;
use crate::{repair, scratch::Scratch};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::json;
use tarrl_attacks::{
    AttackRun, AutoAttack, CarliniWagner, CarliniWagnerRun, Classifier, DeepFool, DeepFoolRun, HopSkipJump,
    HopSkipJumpRun, LabelLoss, Limits, MinimalAdversarial, Norm, Origin, Pgd, PgdRun, Problem, Query,
    StepRule, SuiteRun, SuiteState, Threat, Version, classify,
};
use tarrl_nearest::{
    Alma, ApgdSearch, Ddn, Fmn, Greedy, Nearest, NearestMethod, NearestRun, Pdgd, Pdpgd, SigmaZero,
    SuperDeepFool, TrustRegion, with_scores,
};
use tarrl_study::attack_state::{AttackProgress, AttackState, ImageOutcome};
use tarrl_tensor::{DType, Device, Key, Random, Tensor};

const WORDS: &[&str] =
    &["null", "true", "false", "[]", "{}", "\"\"", "\"Clean\"", "Climb", "Walk", "Squares", "\"f32\":[0]"];

const fn target(
    name: &'static str,
    seeds: fn() -> Vec<Vec<u8>>,
    read: fn(&[u8], &Scratch) -> bool,
) -> Target {
    Target { name, seeds, words: WORDS, repair: repair::attack_state, read }
}

pub(super) const PGD: Target =
    target("pgd-state", || states(pgd), |bytes, scratch| pgd(&scratch.device, Some(bytes)).accepted);

pub(super) const CARLINI_WAGNER: Target = target(
    "carlini-wagner-state",
    || states(carlini_wagner),
    |bytes, scratch| carlini_wagner(&scratch.device, Some(bytes)).accepted,
);

pub(super) const DEEPFOOL: Target = target(
    "deepfool-state",
    || states(deepfool),
    |bytes, scratch| deepfool(&scratch.device, Some(bytes)).accepted,
);

pub(super) const HOP_SKIP_JUMP: Target = target(
    "hop-skip-jump-state",
    || states(hop_skip_jump),
    |bytes, scratch| hop_skip_jump(&scratch.device, Some(bytes)).accepted,
);

pub(super) const AUTOATTACK: Target = target(
    "autoattack-state",
    || states(autoattack),
    |bytes, scratch| autoattack(&scratch.device, Some(bytes)).accepted,
);

pub(super) const ATTACK_FILE: Target = Target {
    words: &[
        "null", "true", "[]", "{}", "suite", "rows", "about", "broken", "margin", "distance", "-1", "flags",
    ],
    ..target("attack-file", attack_files, read_attack_file)
};

pub(super) const NEAREST_MISTAKE: Target = target(
    "nearest-mistake-state",
    || [states(dense), states(sparse)].concat(),
    |bytes, scratch| {
        let device = &scratch.device;
        dense(device, Some(bytes)).accepted || sparse(device, Some(bytes)).accepted
    },
);

/// Samples, coordinates and classes.
const N: usize = 2;
const D: usize = 4;
const K: usize = 3;

/// What came of a run.
#[derive(Default)]
struct Run {
    /// Whether it could be resumed.
    accepted: bool,
    /// Its states, if it was not resumed.
    states: Vec<Vec<u8>>,
}

/// The states of a run that is not resumed; every other one of many.
fn states(run: fn(&Device, Option<&[u8]>) -> Run) -> Vec<Vec<u8>> {
    let states = run(&Scratch::new().device, None).states;
    let step = states.len().div_ceil(12);
    states.into_iter().step_by(step).collect()
}

/// State files of `tarrl attack`: a suite in its middle, and the outcomes of a batch.
fn attack_files() -> Vec<Vec<u8>> {
    let about = json!({"attack": "autoattack", "epsilon": 0.05, "seed": 0, "images_blake3": "00ff"});
    let about = about.as_object().expect("it is written as an object");
    let suite = autoattack(&Scratch::new().device, None).states.swap_remove(5);
    let suite: SuiteState = serde_json::from_slice(&suite).expect("it was written");
    let origin = Origin { attack: "cw".into(), target: None, restart: 1, step: 7 };
    let broken = ImageOutcome {
        broken: true,
        margin: Some(-0.25),
        distance: Some(0.5),
        origin: Some(origin),
        forward: 12,
        ..ImageOutcome::default()
    };
    let found = ImageOutcome { found_by: Some("fmn".into()), first_mistake: Some(9), ..broken.clone() };
    let nearest = AttackProgress::Nearest(vec![found, ImageOutcome::default()], None);
    let rows = AttackProgress::Images(vec![broken, ImageOutcome::default()]);
    let write = |progress| AttackState { about: about.clone(), progress }.to_bytes();
    [AttackProgress::Suite(suite), rows, nearest].map(write).into()
}

fn read_attack_file(bytes: &[u8], scratch: &Scratch) -> bool {
    let Ok(state) = AttackState::from_bytes(bytes) else { return false };
    let written = state.to_bytes();
    let again = AttackState::from_bytes(&written).expect("what was written is read");
    assert!(again.to_bytes() == written && again.progress.finished() == state.progress.finished());
    match &state.progress {
        AttackProgress::Suite(suite) => {
            let suite = serde_json::to_vec(suite).expect("a state is JSON");
            autoattack(&scratch.device, Some(&suite)).accepted
        }
        AttackProgress::Images(images) => {
            assert!(images.iter().all(|image| image.distance.is_none_or(|distance| distance >= 0.0)));
            true
        }
        // The batch in progress is a target of its own.
        AttackProgress::Nearest(..) => true,
    }
}

/// Resumes a run from a stored one, and runs it to its end, which comes after `most` steps at the latest. Without a
/// stored one, collects the states of a whole run.
fn go_on<'a, R>(mut run: AttackRun<'a, R>, stored: Option<&[u8]>, most: usize) -> Run
where
    R: StepRule<'a>,
    R::Config: DeserializeOwned + Serialize,
    R::State: DeserializeOwned + Serialize,
{
    let mut states = Vec::new();
    if let Some(bytes) = stored {
        let Ok(state) = serde_json::from_slice(bytes) else { return Run::default() };
        let Ok(resumed) = run.resume(&state) else { return Run::default() };
        run = resumed;
    }
    let mut taken = 0;
    loop {
        if stored.is_none() {
            states.push(serde_json::to_vec(&run.state()).expect("a state is JSON"));
        }
        if !run.step() {
            break;
        }
        taken += 1;
        assert!(taken <= most, "a run of {most} steps goes on");
    }
    let found = run.finish();
    assert_eq!((found.best.shape()[0], found.forward.len()), (N, N));
    Run { accepted: stored.is_some(), states }
}

fn numbers(device: &Device, random: Random, seed: u64, [rows, columns]: [usize; 2]) -> Tensor {
    Tensor::random(device, random, &keys(seed, rows), &[columns], DType::F32)
}

fn keys(seed: u64, n: usize) -> Vec<Key> {
    (0..n).map(|i| Key::new(seed).fold(i)).collect()
}

/// Inputs `(n, d)` in [0, 1).
fn inputs(device: &Device) -> Tensor {
    numbers(device, Random::Uniform, 1, [N, D])
}

/// A network `(m, d)` to `(m, k)`.
fn network(device: &Device) -> impl Fn(&Tensor) -> Tensor + use<> {
    let (first, second) =
        (numbers(device, Random::Normal, 2, [D, 5]), numbers(device, Random::Normal, 3, [5, K]));
    move |u: &Tensor| u.add_scalar(-0.5).matmul(&first).relu().matmul(&second)
}

fn pgd(device: &Device, stored: Option<&[u8]>) -> Run {
    let (x, logits) = (inputs(device), network(device));
    let labels: Vec<u32> = logits(&x).argmax(1).to_vec();
    let evaluate = classify(&logits, &labels, LabelLoss::Margin);
    let config = Pgd { steps: 3, step_size: 0.02, restarts: 2, momentum: 0.5, ..Pgd::default() };
    let limits = Limits { early_stop: true, budget: Some(12), ..Limits::default() };
    let problem = Problem::new(Threat::l2(0.1).around(&x), &evaluate, &keys(4, N), limits);
    go_on(PgdRun::new(config, &problem), stored, 12)
}

fn nearest(device: &Device, norm: Norm, attack: impl FnOnce(&MinimalAdversarial<'_>) -> Run) -> Run {
    let (x, logits) = (inputs(device), network(device));
    let labels: Vec<u32> = logits(&x).argmax(1).to_vec();
    let limits = Limits { budget: Some(100), ..Limits::default() };
    let target = Classifier { logits: &logits, labels: &labels };
    target.nearest(&Threat::new(norm, 0.05).around(&x), &keys(4, N), limits, attack)
}

fn carlini_wagner(device: &Device, stored: Option<&[u8]>) -> Run {
    let config = CarliniWagner { searches: 2, steps: 4, initial_c: 1.0, ..CarliniWagner::default() };
    nearest(device, Norm::L2, |target| go_on(CarliniWagnerRun::new(config, target), stored, 24))
}

fn deepfool(device: &Device, stored: Option<&[u8]>) -> Run {
    let config = DeepFool { steps: 5, overshoot: 0.0, ..DeepFool::default() };
    nearest(device, Norm::L2, |target| go_on(DeepFoolRun::new(config, target), stored, 12))
}

fn hop_skip_jump(device: &Device, stored: Option<&[u8]>) -> Run {
    let config = HopSkipJump { steps: 2, tries: 10, initial_queries: 4, most_queries: 6 };
    nearest(device, Norm::Linf, |target| go_on(HopSkipJumpRun::new(config, target), stored, 6))
}

/// The whole suite in l1, where projections are hardest.
fn autoattack(device: &Device, stored: Option<&[u8]>) -> Run {
    let (x, logits) = (inputs(device), network(device));
    let labels: Vec<u32> = logits(&x).argmax(1).to_vec();
    let config = AutoAttack { version: Version::Standard, steps: 3, queries: 4, ..AutoAttack::default() };
    let (threat, keys) = (Threat::new(Norm::L1, 0.05), keys(4, N));
    let (ball, parts) = (threat.around(&x), config.parts(threat.norm));
    let mut run = match stored {
        None => SuiteRun::new(ball, &labels, &keys, parts, config.run),
        Some(bytes) => {
            let Ok(state) = serde_json::from_slice(bytes) else { return Run::default() };
            match SuiteRun::resume(ball, &labels, &keys, parts, config.run, K, &state) {
                Ok(run) => run,
                Err(_) => return Run::default(),
            }
        }
    };
    let (mut states, mut rounds) = (Vec::new(), 0);
    loop {
        if stored.is_none() {
            states.push(serde_json::to_vec(&run.state()).expect("a state is JSON"));
        }
        if !run.round(&|u: &Tensor, _: Query<'_>| logits(u)) {
            break;
        }
        rounds += 1;
        assert!(rounds <= 500, "a suite goes on");
    }
    assert_eq!(run.finish().success.len(), N);
    Run { accepted: stored.is_some(), states }
}

/// Every method of l2, a few steps of each.
fn dense(device: &Device, stored: Option<&[u8]>) -> Run {
    minimum_norm(
        device,
        stored,
        Norm::L2,
        vec![
            NearestMethod::Sdf(SuperDeepFool { steps: 4, ..SuperDeepFool::default() }),
            NearestMethod::RandomStart { tries: 2 },
            NearestMethod::Ddn(Ddn { steps: 2, ..Ddn::default() }),
            NearestMethod::Fmn(Fmn::new(Norm::L2, 2)),
            NearestMethod::Alma(Alma::new(Norm::L2, 2)),
            NearestMethod::Pdgd(Pdgd { steps: 2, ..Pdgd::default() }),
            NearestMethod::TrustRegion(TrustRegion { steps: 2, ..TrustRegion::default() }),
            NearestMethod::ApgdSearch(ApgdSearch { searches: 2, steps: 2, ..ApgdSearch::new(Norm::L2) }),
            NearestMethod::Polish { evaluations: 6 },
        ],
    )
}

/// The same of l0.
fn sparse(device: &Device, stored: Option<&[u8]>) -> Run {
    minimum_norm(
        device,
        stored,
        Norm::L0,
        vec![
            NearestMethod::Greedy(Greedy { targets: 2, values: 3 }),
            NearestMethod::SigmaZero(SigmaZero { steps: 3, ..SigmaZero::default() }),
            NearestMethod::Pdpgd(Pdpgd { steps: 2, ..Pdpgd::default() }),
            NearestMethod::RandomStart { tries: 2 },
            NearestMethod::Restore { evaluations: 10, exchanges: 2 },
        ],
    )
}

fn minimum_norm(device: &Device, stored: Option<&[u8]>, norm: Norm, methods: Vec<NearestMethod>) -> Run {
    let (x, logits) = (inputs(device), network(device));
    let labels: Vec<u32> = logits(&x).argmax(1).to_vec();
    let most = 150;
    let limits = Limits { budget: Some(most), ..Limits::default() };
    let scores = |u: &Tensor, _: &[usize]| logits(u);
    let ball = Threat::new(norm, 0.05).around(&x);
    with_scores(&scores, &labels, &ball, &keys(4, N), limits, |target| {
        let mut run = NearestRun::new(Nearest { methods }, target);
        if let Some(bytes) = stored {
            let Ok(state) = serde_json::from_slice(bytes) else { return Run::default() };
            let Ok(resumed) = run.resume(&state) else { return Run::default() };
            run = resumed;
        }
        let (mut states, mut rounds) = (Vec::new(), 0);
        loop {
            if stored.is_none() {
                states.push(serde_json::to_vec(&run.state()).expect("a state is JSON"));
            }
            if !run.step() {
                break;
            }
            // Every sample that is not finished has a pass in each.
            rounds += 1;
            assert!(rounds <= most + 1, "a run of {most} passes goes on");
        }
        assert_eq!(run.finish().distance.len(), N);
        Run { accepted: stored.is_some(), states }
    })
}
