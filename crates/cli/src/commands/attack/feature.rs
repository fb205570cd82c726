//! Attacks on representations, which are told no label; the head says afterwards what became of the image.

use tarrl_attacks::represent::{Distance, away, instance_wise, towards};
use tarrl_attacks::{Apgd, Evaluation, Limits, Origin, Problem, Query, apgd, verdicts};
use tarrl_tensor::{Array, Tensor};

use super::work::{Row, Work, of_outcome};

/// The temperature of the contrastive loss (Kim et al. 2020).
const TEMPERATURE: f64 = 0.5;

/// What an attack on representations ascends.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Goal {
    /// The distance from the representation of the image itself.
    Away(Distance),
    /// The contrastive loss: from itself and towards all others.
    Apart,
    /// The negative distance from the representation of the next image.
    Towards,
}

impl Goal {
    pub(super) fn name(self) -> &'static str {
        match self {
            Goal::Away(Distance::Cosine) => "feature-cosine",
            Goal::Away(Distance::Kl) => "feature-kl",
            Goal::Away(_) => "feature-l2",
            Goal::Apart => "instance-wise",
            Goal::Towards => "feature-match",
        }
    }

    /// The objective `(m)` at representations `z` `(m, d)` of the images `rows` of `clean` `(n, d)`.
    fn value(self, z: &Tensor, clean: &Tensor, rows: &[usize]) -> Tensor {
        let known = |_: &Tensor| z.clone();
        match self {
            Goal::Away(distance) => away(&known, clean, distance)(z, rows),
            Goal::Apart => instance_wise(&known, clean, TEMPERATURE)(z, rows),
            Goal::Towards => {
                let next: Vec<usize> = rows.iter().map(|row| (row + 1) % clean.shape()[0]).collect();
                towards(&known, clean, Distance::SquaredL2)(z, &next)
            }
        }
    }

    /// The attack on some of the images; `clean` are the representations of all.
    pub(super) fn run(
        self,
        config: &Apgd,
        work: &Work<'_>,
        clean: &Tensor,
        of: std::ops::Range<usize>,
    ) -> Vec<Row> {
        let ball = work.ball.keep(&of.clone().collect::<Vec<_>>());
        let evaluate = |u: &Tensor, visit: Query<'_>| {
            let z = (work.encode)(u);
            let rows: Vec<usize> = visit.rows.iter().map(|row| of.start + row).collect();
            let labels: Vec<u32> = rows.iter().map(|&row| work.labels[row]).collect();
            let verdict = verdicts(&(work.classify)(&z.detach()), &labels);
            Evaluation { value: self.value(&z, clean, &rows), verdict: Some(verdict) }
        };
        let problem = Problem::new(ball, &evaluate, &work.keys[of.clone()], Limits::default());
        let mut rows = of_outcome(&apgd(&problem, config), false);
        let own: Vec<u32> = of.clone().map(|row| row as u32).collect();
        let own = clean.gather(0, &Array::new(clean.device(), [own.len()], &own));
        let before = verdicts(&(work.classify)(&own), &work.labels[of]);
        for (row, before) in rows.iter_mut().zip(before) {
            row.forward += 1;
            row.broken |= before.success;
            let attack = if before.success { "clean" } else { self.name() };
            if let Some(origin) = &mut row.origin {
                origin.attack = attack.to_owned();
            }
            if before.success {
                row.origin = Some(Origin { attack: attack.to_owned(), ..Origin::default() });
            }
        }
        rows
    }
}

/// The representations `(n, d)` of all images, in pieces of at most `batch`.
pub(super) fn representations(work: &Work<'_>) -> Tensor {
    let (x, n) = (work.ball.center(), work.labels.len());
    let part = |from: usize| (work.encode)(&x.slice(0, from, work.batch.min(n - from))).detach();
    let parts: Vec<Tensor> = (0..n).step_by(work.batch).map(part).collect();
    Tensor::concat(&parts.iter().collect::<Vec<_>>(), 0)
}
