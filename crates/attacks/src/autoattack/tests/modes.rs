//! Where papers and the reference differ, one difference at a time: [`Mode`].

use super::{Network, samples, threat};
use crate::autoattack::apgd_state::ApgdState;
use crate::autoattack::fab_state::{Fab, FabState};
use crate::autoattack::sample_ball::SampleBall;
use crate::autoattack::square_state::{Extents, Square, SquareState};
use crate::autoattack::{Apgd, AutoAttack, Mode, SuiteRun, Version};
use crate::threat::{Norm, Threat};
use tarrl_tensor::{Key, Tensor};

/// The step of an ascent, in units of the first one, after these values one by one.
fn step_after(mode: Mode, steps: usize, values: impl IntoIterator<Item = f64>) -> f64 {
    let ball = SampleBall::new(&Threat::linf(0.1), 0.1, &[0.5, 0.5]);
    let mut state = ApgdState::new(&ball, &Apgd { steps, mode, ..Apgd::default() }, &[1.0, -0.5]);
    for value in values {
        assert!(state.advance(&ball, value, &[1.0, 1.0]));
    }
    state.size() / 0.2
}

/// The third interval of a hundred steps has sixteen. Twelve rises are as many as ρ = 0.75 asks for: the reference
/// halves at no more than that, the paper at fewer. Eleven are too few for both and thirteen enough.
#[test]
fn apgd_halves_its_step_after_too_few_rises() {
    let history = |rises: usize| {
        let mut value = 1.0;
        (0..=57).map(move |step| {
            // 41 steps that all rise; then so many, and falls which leave the value above what it was at 41.
            let up = step <= 41 || step <= 41 + rises;
            value += if up { 1.0 } else { -0.01 };
            value
        })
    };
    for (rises, reference, paper) in [(11, 0.5, 0.5), (12, 0.5, 1.0), (13, 1.0, 1.0)] {
        assert_eq!(step_after(Mode::Reference, 100, history(rises)), reference, "{rises} rises");
        assert_eq!(step_after(Mode::Paper, 100, history(rises)), paper, "{rises} rises");
    }
}

/// The reference compares the first value after the start with zero. Values below zero that rise: one interval of one
/// step.
#[test]
fn apgd_reference_compares_the_first_value_with_zero() {
    assert_eq!(step_after(Mode::Paper, 4, [-2.0, -1.0]), 1.0);
    assert_eq!(step_after(Mode::Reference, 4, [-2.0, -1.0]), 0.5);
    assert_eq!(step_after(Mode::Reference, 4, [-2.0, 1.0]), 1.0);
}

/// Rises enough in the first interval, but the start stays the best point: condition 2 of the paper, which the
/// reference does not apply at its first checkpoint.
#[test]
fn apgd_reference_skips_condition_two_at_the_first_checkpoint() {
    let history = || std::iter::once(100.0).chain((1..=22).map(f64::from));
    assert_eq!(step_after(Mode::Paper, 100, history()), 0.5);
    assert_eq!(step_after(Mode::Reference, 100, history()), 1.0);
    // At the second checkpoint both do.
    let longer = || history().chain((23..=41).map(f64::from));
    assert_eq!(step_after(Mode::Reference, 100, longer()), 0.5);
}

/// Checkpoints of twenty steps begin at ⌊4.4⌋ and ⌈4.4⌉: values that fall halve the step there.
#[test]
fn apgd_adapts_at_the_checkpoints_of_its_mode() {
    let falling = |points: usize| (0..points).map(|i| -1.0 - i as f64);
    assert_eq!(
        (step_after(Mode::Reference, 20, falling(4)), step_after(Mode::Reference, 20, falling(5))),
        (1.0, 0.5)
    );
    assert_eq!(
        (step_after(Mode::Paper, 20, falling(5)), step_after(Mode::Paper, 20, falling(6))),
        (1.0, 0.5)
    );
}

#[test]
fn fab_restarts_no_farther_than_half_of_what_was_found_in_the_paper() {
    let ball = SampleBall::new(&Threat::l2(0.2), 0.2, &[0.5; 4]);
    let start = |mode, nearest| {
        let fab = FabState::new(&ball, &Fab { mode, ..Fab::default() }, 0, None);
        ball.distance(fab.restart(&ball, &[1.0, -2.0, 0.5, 0.0], nearest).point())
    };
    let close = |a: f64, b: f64| (a - b).abs() < 1e-7;
    for (nearest, paper) in [(f64::INFINITY, 0.1), (0.3, 0.1), (0.06, 0.03)] {
        assert!(close(start(Mode::Reference, nearest), 0.1), "{nearest}");
        assert!(close(start(Mode::Paper, nearest), paper), "{nearest}");
    }
}

/// A model whose slopes are 1e-9: the wall is 0.1 away in l2, and the reference takes all slopes for zero.
#[test]
fn fab_reference_leaves_out_small_slopes() {
    let x = [0.5f32, 0.5];
    let slope = [0.6e-9f32, 0.8e-9];
    let moved = |norm, mode| {
        let ball = SampleBall::new(&Threat::new(norm, 1.0), 1.0, &x);
        let mut fab = FabState::new(&ball, &Fab { mode, ..Fab::default() }, 0, None);
        assert!(fab.advance(&ball, &[1e-10, 0.0], &[slope.to_vec()]));
        ball.distance(fab.point())
    };
    for norm in [Norm::L2, Norm::L1] {
        assert_eq!(moved(norm, Mode::Reference), 0.0, "{norm}");
        assert!(moved(norm, Mode::Paper) > 0.09, "{norm}");
    }
    assert!(moved(Norm::Linf, Mode::Reference) > 0.05 && moved(Norm::Linf, Mode::Paper) > 0.05);
}

/// What proposals of a search change that never succeeds: the numbers of the pixels, proposal by proposal.
fn changes(mode: Mode, queries: usize) -> Vec<Vec<usize>> {
    let ball = SampleBall::new(&Threat::linf(0.1), 0.1, &[0.5; 36]);
    let config = Square { queries, mode, ..Square::default() };
    let key = Key::new(9);
    let mut search = SquareState::new(&ball, &config, Extents { h: 6, w: 6, c: 1 }, key);
    let start = search.point().to_vec();
    let mut all = Vec::new();
    let mut margin = 1.0;
    while search.advance(&ball, margin, key, false) {
        margin = 2.0;
        all.push((0..36).filter(|&i| search.point()[i] != start[i]).collect());
    }
    all
}

#[test]
fn square_leaves_the_last_row_and_column_alone_in_the_reference() {
    let last = |pixels: &Vec<usize>| pixels.iter().any(|&i| i / 6 == 5 || i % 6 == 5);
    assert!(!changes(Mode::Reference, 300).iter().any(last));
    let reached = changes(Mode::Paper, 300);
    assert!(reached.iter().flatten().any(|&i| i / 6 == 5) && reached.iter().flatten().any(|&i| i % 6 == 5));
}

/// Thirty-six pixels, eight tenths of them at first: sides 5, 4, 3, 2 and 1 as the share halves. A search of a hundred
/// ends with single pixels where the schedule is scaled, and within its second halving where it is not.
#[test]
fn square_scales_its_schedule_in_the_paper() {
    let largest = |mode| changes(mode, 100)[60..].iter().map(Vec::len).max().unwrap();
    assert_eq!((largest(Mode::Reference), largest(Mode::Paper)), (9, 1));
}

/// A window that has the drawn sign already changes nothing: the reference spends a query on it.
#[test]
fn square_draws_idle_proposals_again_in_the_paper() {
    let idle = |mode| changes(mode, 300).iter().filter(|pixels| pixels.is_empty()).count();
    assert!(idle(Mode::Reference) > 10, "{}", idle(Mode::Reference));
    assert_eq!(idle(Mode::Paper), 0);
}

/// Of three draws of each evaluation some are lost: the last one decides in the reference, most of them in the paper.
#[test]
fn random_models_are_judged_by_the_last_draw_or_by_most() {
    let network = Network::new(3);
    let (x, labels, keys) = samples(&network, 4);
    let wins = |mode, lost: &dyn Fn(u32) -> bool| {
        let mut config = AutoAttack { steps: 3, mode, ..AutoAttack::new(Version::Rand) };
        config.run.draws = 3;
        let ball = threat(Norm::Linf).around(&x);
        let mut run = SuiteRun::new(ball, &labels, &keys, config.parts(Norm::Linf), config.run);
        let logits = |u: &Tensor, query: crate::Query<'_>| {
            let row = |(&row, &pass): (&usize, &u32)| {
                let predicted = if lost(pass % 3) { (labels[row] + 1) % 3 } else { labels[row] };
                (0..3).map(move |class| f64::from(u8::from(class == predicted)))
            };
            let fixed: Vec<f64> = query.rows.iter().zip(query.passes).flat_map(row).collect();
            let fixed = Tensor::new(u.device(), [query.rows.len(), 3], &fixed).cast(u.dtype());
            &fixed + &network.logits(u).mul_scalar(1e-6)
        };
        while run.round(&logits) {}
        run.finish().success.iter().filter(|&&success| success).count()
    };
    let last = |draw| draw == 2;
    assert_eq!((wins(Mode::Reference, &last), wins(Mode::Paper, &last)), (4, 0));
    let others = |draw| draw != 2;
    assert_eq!((wins(Mode::Reference, &others), wins(Mode::Paper, &others)), (0, 4));
}
