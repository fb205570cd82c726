//! Resume of the minimal-norm attacks: interrupted runs end with the same bits.

use super::{keys, network, unit};
use crate::driver::StoredOutcome;
use crate::{
    CarliniWagner, CarliniWagnerRun, Classifier, DeepFool, DeepFoolRun, HopSkipJump, HopSkipJumpRun, Limits,
    MinimalAdversarial, Norm, Outcome, StateError, Threat,
};
use serde::{Serialize, de::DeserializeOwned};
use tarrl_tensor::{DType, Tensor};

const N: usize = 6;

fn with_target<R>(norm: Norm, limits: Limits, f: impl FnOnce(&MinimalAdversarial<'_>) -> R) -> R {
    let (x, z) = (unit(1, N, 10, DType::F32), network(2, 10, 4, DType::F32));
    let logits = |u: &Tensor| z(u);
    let labels: Vec<u32> = z(&x).argmax(1).to_vec();
    let target = Classifier { logits: &logits, labels: &labels };
    target.nearest(&Threat::new(norm, 0.05).around(&x), &keys(3, N), limits, f)
}

fn through_text<T: Serialize + DeserializeOwned>(state: &T) -> T {
    serde_json::from_str(&serde_json::to_string(state).unwrap()).unwrap()
}

const CW: CarliniWagner = CarliniWagner {
    searches: 4,
    steps: 30,
    learning_rate: 0.02,
    initial_c: 0.1,
    confidence: 0.0,
    abort_early: true,
};
const HOP: HopSkipJump = HopSkipJump { steps: 3, tries: 40, initial_queries: 12, most_queries: 30 };

/// Two outcomes of the same bits, with mistakes found for most samples.
#[track_caller]
fn same(whole: &Outcome, pieces: &Outcome) {
    assert_eq!(StoredOutcome::of(whole), StoredOutcome::of(pieces));
    let found = whole.distances().iter().filter(|d| d.is_finite()).count();
    assert!(found > N / 2, "{:?}", whole.distances());
}

#[test]
fn interrupted_runs_end_with_the_same_bits() {
    for budget in [None, Some(41)] {
        let limits = Limits { budget, ..Limits::default() };
        for norm in [Norm::L2, Norm::Linf] {
            with_target(norm, limits, |target| {
                let mut run = DeepFoolRun::new(DeepFool::default(), target);
                while run.step() {
                    run = DeepFoolRun::new(DeepFool::default(), target)
                        .resume(&through_text(&run.state()))
                        .unwrap();
                }
                let mut whole = DeepFoolRun::new(DeepFool::default(), target);
                while whole.step() {}
                same(&whole.finish(), &run.finish());
            });
        }
        with_target(Norm::L2, limits, |target| {
            let mut run = CarliniWagnerRun::new(CW, target);
            while run.step() {
                run = CarliniWagnerRun::new(CW, target).resume(&through_text(&run.state())).unwrap();
            }
            let mut whole = CarliniWagnerRun::new(CW, target);
            while whole.step() {}
            let (whole, pieces) = (whole.finish(), run.finish());
            if budget.is_none() {
                same(&whole, &pieces);
            }
            assert_eq!(StoredOutcome::of(&whole), StoredOutcome::of(&pieces));
        });
    }
    for norm in [Norm::L2, Norm::Linf] {
        with_target(norm, Limits::default(), |target| {
            let mut run = HopSkipJumpRun::new(HOP, target);
            while run.step() {
                run = HopSkipJumpRun::new(HOP, target).resume(&through_text(&run.state())).unwrap();
            }
            let mut whole = HopSkipJumpRun::new(HOP, target);
            while whole.step() {}
            same(&whole.finish(), &run.finish());
        });
    }
}

#[test]
fn states_of_another_problem_or_configuration_are_refused() {
    let (cw, hop) = with_target(Norm::L2, Limits::default(), |target| {
        (CarliniWagnerRun::new(CW, target).state(), HopSkipJumpRun::new(HOP, target).state())
    });
    with_target(Norm::L2, Limits::default(), |target| {
        let other = CarliniWagner { steps: 31, ..CW };
        let refused = CarliniWagnerRun::new(other, target).resume(&cw).err();
        assert!(matches!(refused, Some(StateError::OtherConfig { .. })), "{refused:?}");
        assert!(CarliniWagnerRun::new(CW, target).resume(&cw).is_ok());
    });
    with_target(Norm::Linf, Limits::default(), |target| {
        assert_eq!(HopSkipJumpRun::new(HOP, target).resume(&hop).err(), Some(StateError::OtherProblem));
    });
}
