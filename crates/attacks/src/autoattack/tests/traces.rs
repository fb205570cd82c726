//! Step by step against the published algorithms.
//!
//! The traces in `tests/data` hold every point at which AutoAttack's public code (version of January 2023)
//! evaluates on small frozen networks with dyadic weights, in Python and f64, from given random numbers. Its
//! own rounding residues are taken out: coordinates within 1e-9 of the sample count as not moved. They
//! were written with eight digits; our points are f32, hence the tolerance.

use crate::autoattack::apgd_state::{Apgd, ApgdState};
use crate::autoattack::fab_state::{Fab, FabState};
use crate::autoattack::logit_losses::{LogitLoss, status_of};
use crate::autoattack::sample_ball::SampleBall;
use crate::autoattack::square_state::{Draws, Extents, Square, SquareState};
use crate::classifier::losses::{LabelLoss, TargetLoss, ranks_of};
use crate::threat::{Norm, Threat};
use serde::Deserialize;

const TOLERANCE: f64 = 2e-6;

#[derive(Deserialize)]
struct Net {
    w1: Vec<f64>,
    b1: Vec<f64>,
    w2: Vec<f64>,
    b2: Vec<f64>,
}

impl Net {
    fn hidden(&self, v: &[f32]) -> Vec<f64> {
        let h = self.b1.len();
        let sum =
            |j: usize| v.iter().enumerate().map(|(i, &v)| f64::from(v) * self.w1[i * h + j]).sum::<f64>();
        (0..h).map(|j| sum(j) + self.b1[j]).collect()
    }

    fn logits(&self, v: &[f32]) -> Vec<f64> {
        let (hidden, k) = (self.hidden(v), self.b2.len());
        let sum =
            |c: usize| hidden.iter().enumerate().map(|(j, h)| h.max(0.0) * self.w2[j * k + c]).sum::<f64>();
        (0..k).map(|c| sum(c) + self.b2[c]).collect()
    }

    /// The gradient in `v` of logits weighted with `slope`.
    fn vjp(&self, v: &[f32], slope: &[f64]) -> Vec<f32> {
        let (hidden, k, h) = (self.hidden(v), self.b2.len(), self.b1.len());
        let back = |j: usize| {
            let live = if hidden[j] > 0.0 { 1.0 } else { 0.0 };
            live * (0..k).map(|c| slope[c] * self.w2[j * k + c]).sum::<f64>()
        };
        let back: Vec<f64> = (0..h).map(back).collect();
        (0..v.len()).map(|i| (0..h).map(|j| back[j] * self.w1[i * h + j]).sum::<f64>() as f32).collect()
    }
}

#[derive(Deserialize)]
struct Gradients {
    net: Net,
    x: Vec<f32>,
    y: usize,
    ranks: Vec<u32>,
    apgd: Vec<Ascent>,
    fab: Vec<Boundary>,
}

#[derive(Deserialize)]
struct Ascent {
    norm: String,
    epsilon: f64,
    steps: usize,
    loss: String,
    target: u32,
    large: bool,
    noise: Vec<f64>,
    points: Vec<Vec<f64>>,
    best: f64,
    fooled: bool,
}

#[derive(Deserialize)]
struct Boundary {
    norm: String,
    epsilon: f64,
    steps: usize,
    target: Option<u32>,
    noise: Option<Vec<f64>>,
    points: Vec<Vec<f64>>,
    distance: f64,
}

fn gradients() -> Gradients {
    serde_json::from_str(include_str!("../../tests/data/gradient_traces.json")).unwrap()
}

fn ball(norm: &str, epsilon: f64, x: &[f32]) -> SampleBall {
    SampleBall::new(&Threat::new(norm.parse().unwrap(), epsilon), epsilon, x)
}

#[track_caller]
fn same_point(what: &str, step: usize, ours: &[f32], theirs: &[f64]) {
    let apart = ours
        .iter()
        .zip(theirs)
        .map(|(&a, b)| (f64::from(a) - b).abs())
        .max_by(f64::total_cmp)
        .expect("a point has coordinates");
    assert!(apart < TOLERANCE, "{what}: {apart:e} apart at point {step}\n{ours:?}\n{theirs:?}");
}

#[test]
fn apgd_evaluates_the_points_of_the_reference() {
    let file = gradients();
    assert_eq!(ranks_of(&file.net.logits(&file.x)), file.ranks);
    for trace in &file.apgd {
        let what = format!("apgd {} {} {}", trace.norm, trace.loss, trace.steps);
        let ball = ball(&trace.norm, trace.epsilon, &file.x);
        let config = Apgd { steps: trace.steps, wide_start: trace.large, ..Apgd::default() };
        let loss = match trace.loss.as_str() {
            "ce" => LogitLoss::Label(LabelLoss::CrossEntropy),
            "dlr" => LogitLoss::Label(LabelLoss::Dlr),
            _ => LogitLoss::Target(TargetLoss::Dlr, trace.target),
        };
        // The reference draws from [0, 1) and maps to [−1, 1).
        let uniform = ball.norm == Norm::Linf;
        let noise: Vec<f64> = trace.noise.iter().map(|&t| if uniform { 2.0 * t - 1.0 } else { t }).collect();
        let mut state = ApgdState::new(&ball, &config, &noise);
        let mut fooled = false;
        let mut go_on = true;
        let last_stage = trace.points.len() - (trace.steps - 2 * (3 * trace.steps).div_ceil(10)) - 1;
        for (index, theirs) in trace.points.iter().enumerate() {
            assert!(go_on, "{what} ended after {index} points");
            let u = state.point().to_vec();
            same_point(&what, index, &u, theirs);
            let z = file.net.logits(&u);
            if !trace.large || index >= last_stage {
                fooled |= status_of(&z, file.y).success;
            }
            let (value, slope) = loss.value_and_grad(&z, file.y);
            go_on = state.advance(&ball, value, &file.net.vjp(&u, &slope));
        }
        assert!(!go_on, "{what} goes on");
        assert_eq!(fooled, trace.fooled, "{what}");
        let best = state.best().1;
        assert!((best - trace.best).abs() < 1e-5 * (1.0 + best.abs()), "{what}: {best} {}", trace.best);
    }
}

/// A point that is evaluated as the end of a step and again as the start of the next stands in the traces
/// once: ours is one evaluation.
#[test]
fn fab_evaluates_the_points_of_the_reference() {
    let file = gradients();
    for trace in &file.fab {
        let what = format!("fab {} {:?}", trace.norm, trace.target);
        let ball = ball(&trace.norm, trace.epsilon, &file.x);
        let config = Fab { steps: trace.steps, ..Fab::default() };
        let mut state = FabState::new(&ball, &config, file.y as u32, trace.target);
        if let Some(noise) = &trace.noise {
            state = state.restart(&ball, noise, f64::INFINITY);
        }
        let mut go_on = true;
        for (index, theirs) in trace.points.iter().enumerate() {
            assert!(go_on, "{what} ended after {index} points");
            let u = state.point().to_vec();
            same_point(&what, index, &u, theirs);
            let z = file.net.logits(&u);
            let pull = |slope: &Vec<f64>| file.net.vjp(&u, slope);
            let gradients: Vec<Vec<f32>> = state.cotangents(&z).iter().map(pull).collect();
            go_on = state.advance(&ball, &z, &gradients);
        }
        assert!(!go_on, "{what} goes on");
        assert!(
            (state.nearest - trace.distance).abs() < TOLERANCE,
            "{what}: {} {}",
            state.nearest,
            trace.distance
        );
    }
}

#[derive(Deserialize)]
struct Searches {
    c: usize,
    s: usize,
    net: Net,
    runs: Vec<Run>,
}

#[derive(Deserialize)]
struct Run {
    norm: String,
    epsilon: f64,
    queries: usize,
    x: Vec<f32>,
    y: usize,
    draws: Vec<Draw>,
    points: Vec<Vec<f64>>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Draw {
    Turned(bool),
    Number(usize),
    Signs(Vec<f64>),
}

/// The reference's own draws, in its order.
struct Tape(std::vec::IntoIter<Draw>);

impl Draws for Tape {
    fn below(&mut self, n: usize) -> usize {
        match self.0.next() {
            Some(Draw::Number(number)) if number < n => number,
            _ => panic!("the reference draws no number below {n} here"),
        }
    }
    fn signs(&mut self, n: usize) -> Vec<f64> {
        match self.0.next() {
            Some(Draw::Signs(signs)) if signs.len() == n => signs,
            _ => panic!("the reference draws no {n} signs here"),
        }
    }
    fn turned(&mut self) -> bool {
        match self.0.next() {
            Some(Draw::Turned(turned)) => turned,
            _ => panic!("the reference turns nothing here"),
        }
    }
}

#[test]
fn square_evaluates_the_points_of_the_reference() {
    let file: Searches = serde_json::from_str(include_str!("../../tests/data/square_traces.json")).unwrap();
    let extents = Extents { h: file.s, w: file.s, c: file.c };
    for run in file.runs {
        let what = format!("square {}", run.norm);
        let ball = ball(&run.norm, run.epsilon, &run.x);
        let config = Square { queries: run.queries, ..Square::default() };
        let mut tape = Tape(run.draws.into_iter());
        let mut search = SquareState::from_draws(&ball, &config, extents, &mut tape);
        for (index, theirs) in run.points.iter().enumerate() {
            same_point(&what, index, search.point(), theirs);
            let margin = status_of(&file.net.logits(search.point()), run.y).margin;
            if index < run.queries {
                search.advance_with(&ball, margin, &mut tape);
            }
        }
        assert!(tape.0.next().is_none(), "{what}: draws are left");
    }
}
