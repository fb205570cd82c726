//! Bound chains: values of a head of three classes in the plane, worked by hand.

use crate::{AttackedSample, BoundChain, BoundReport, LinearHead, LpNorm};

const CLEAN: [f64; 2] = [1.0, 0.5];
const DELTA: [f64; 2] = [-0.3, 0.4];

fn head() -> LinearHead {
    LinearHead::new(3, 2, vec![1.0, 0.0, 0.0, 1.0, -1.0, 0.0], vec![0.0; 3])
}

fn attacked() -> [f64; 2] {
    [CLEAN[0] + DELTA[0], CLEAN[1] + DELTA[1]]
}

/// Within some thousand roundings of f64, for reference values given with sixteen digits.
fn close(found: f64, golden: f64) {
    assert!((found / golden - 1.0).abs() < 1e-12, "{found} but {golden}");
}

#[test]
fn losses_shifts_and_the_additive_bound_of_a_plane_head() {
    let head = head();
    close(head.loss(&CLEAN, 0), 0.5549569196419907);
    close(head.loss(&attacked(), 0), 0.9034079934425583);
    let shifts = head.shifts(0, &DELTA);
    assert_eq!(shifts[0], 0.0);
    close(shifts[1], 0.7);
    close(shifts[2], 0.6);
    close(head.additive_bound(&CLEAN, 0, &shifts), 1.2549569196419907);
}

/// Each row: the norm, the radius, `‖v_j‖`, and the additive, odds and gap bounds.
#[test]
fn additive_odds_and_gap_bounds_in_three_norms() {
    let head = head();
    type Row = (LpNorm, f64, [f64; 2], [f64; 3]);
    let rows: [Row; 3] = [
        (
            LpNorm::L2,
            0.5,
            [std::f64::consts::SQRT_2, 2.0],
            [1.5549569196419908, 1.1041306053367284, 0.9547393620338855],
        ),
        (LpNorm::Linf, 0.4, [2.0, 2.0], [1.3549569196419906, 0.9749569269138378, 0.9749569269138378]),
        (LpNorm::L1, 0.7, [1.0, 2.0], [1.9549569196419907, 1.388395838281931, 1.0189247158518506]),
    ];
    for (norm, radius, norms, [additive, odds, gap]) in rows {
        close(norm.of(&DELTA), radius);
        let found = head.gap_norms(0, norm);
        assert_eq!(found[0], 0.0);
        close(found[1], norms[0]);
        close(found[2], norms[1]);
        let supports = head.supports(0, norm, radius);
        close(head.additive_bound(&CLEAN, 0, &supports), additive);
        close(head.odds_bound(&CLEAN, 0, &supports), odds);
        close(head.logit_gap_bound(&CLEAN, 0, &supports), gap);
    }
}

#[test]
fn constants_of_a_plane_head() {
    let head = head();
    close(head.constant(LpNorm::L2), 2.0);
    close(head.row_constant(LpNorm::L2), 2.0);
    // The rows sum to (0, 1): centering takes 1/3 from the second column, W_cᵀW_c = diag(2, 2/3).
    close(head.spectral_constant(), 2.0);
    // From the second class: v = (1, −1) and (−1, −1).
    close(head.label_constant(1, LpNorm::Linf), 2.0);
    close(head.label_constant(1, LpNorm::L1), 1.0);
    close(head.label_constant(1, LpNorm::L2), std::f64::consts::SQRT_2);
}

#[test]
fn the_chain_of_a_sample_and_its_report() {
    let attacked = attacked();
    let sample = AttackedSample { clean: &CLEAN, attacked: &attacked, label: 0, radius: 0.5 };
    let chain = BoundChain::of(&head(), &sample);
    let golden = [
        0.5549569196419907,
        0.9034079934425583,
        0.9547393620338855,
        1.1041306053367284,
        1.5549569196419908,
        1.5549569196419908,
    ];
    for (found, golden) in chain.in_order().into_iter().zip(golden) {
        close(found, golden);
    }
    assert!(chain.holds());

    // A radius below the displacement of the attacked point is raised to it.
    assert_eq!(BoundChain::of(&head(), &AttackedSample { radius: 0.1, ..sample }), chain);

    let still = AttackedSample { attacked: &CLEAN, radius: 0.0, ..sample };
    let report = BoundReport::of(&head(), &[sample, still]);
    assert_eq!((report.n, report.violations), (2, 0));
    close(report.radius, 0.25);
    close(report.constant, 2.0);
    close(report.mean.gap, (0.9547393620338855 + 0.5549569196419907) / 2.0);
    close(report.tightness(), report.mean.gap / report.mean.attacked);
    close(report.saturation(), report.mean.additive / report.mean.gap);
}

#[test]
fn a_nan_in_any_input_is_a_violation() {
    let nan = [f64::NAN, 0.5];
    let sample = AttackedSample { clean: &CLEAN, attacked: &CLEAN, label: 0, radius: 0.5 };
    for broken in [
        AttackedSample { attacked: &nan, ..sample },
        AttackedSample { clean: &nan, ..sample },
        AttackedSample { radius: f64::NAN, ..sample },
    ] {
        assert!(!BoundChain::of(&head(), &broken).holds(), "{broken:?}");
        assert_eq!(BoundReport::of(&head(), &[sample, broken]).violations, 1);
    }
}

#[test]
fn a_chain_out_of_order_is_seen() {
    let right =
        BoundChain { clean: 0.1, attacked: 0.2, gap: 0.3, odds: 0.4, label_additive: 0.5, additive: 0.6 };
    assert!(right.holds());
    assert!(!BoundChain { attacked: 0.31, ..right }.holds());
    assert!(!BoundChain { odds: 0.29, ..right }.holds());
}

#[test]
#[should_panic(expected = "label 3 of 3 classes")]
fn a_label_out_of_range_is_refused() {
    head().loss(&CLEAN, 3);
}

#[test]
#[should_panic(expected = "a representation of 3 on 2 features")]
fn a_representation_of_another_width_is_refused() {
    head().loss(&[0.0; 3], 0);
}
