//! Attacks on representations: they use no label, and the head predicts the class at every point that they evaluate.

use std::ops::Range;

use tarrl_attacks::{Apgd, Evaluation, Limits, Origin, Problem, Query, apgd, verdicts};
use tarrl_tensor::{Array, Tensor};

use super::goal::Goal;
use super::outcome::of_outcome;
use super::target::Target;
use tarrl_study::attack_state::ImageOutcome;

/// APGD on the images `of`; `clean` are the representations of all images.
pub(super) fn run(
    goal: Goal,
    config: &Apgd,
    target: &Target<'_>,
    clean: &Tensor,
    of: Range<usize>,
) -> Vec<ImageOutcome> {
    let ball = target.ball.keep(&of.clone().collect::<Vec<_>>());
    let evaluate = |u: &Tensor, query: Query<'_>| {
        let z = (target.encode)(u);
        let rows: Vec<usize> = query.rows.iter().map(|row| of.start + row).collect();
        let labels: Vec<u32> = rows.iter().map(|&row| target.labels[row]).collect();
        let verdict = verdicts(&(target.classify)(&z.detach()), &labels);
        Evaluation { value: goal.value(&z, clean, &rows), verdict: Some(verdict) }
    };
    let problem = Problem::new(ball, &evaluate, &target.keys[of.clone()], Limits::default());
    let mut images = of_outcome(&apgd(&problem, config), false);
    let own: Vec<u32> = of.clone().map(|row| row as u32).collect();
    let own = clean.gather(0, &Array::new(clean.device(), [own.len()], &own));
    let before = verdicts(&(target.classify)(&own), &target.labels[of]);
    for (image, before) in images.iter_mut().zip(before) {
        image.forward += 1;
        image.broken |= before.success;
        let attack = if before.success { "clean" } else { goal.name() };
        if let Some(origin) = &mut image.origin {
            origin.attack = attack.to_owned();
        }
        if before.success {
            image.origin = Some(Origin { attack: attack.to_owned(), ..Origin::default() });
        }
    }
    images
}
