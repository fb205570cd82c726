//! Bound chains: clean loss ≤ attacked loss ≤ the bounds of a linear head, for each sample and in the mean.

use crate::heads::LinearHead;
use crate::numerics::LpNorm;
use crate::numerics::stable::largest;
use serde::Serialize;

/// One labeled sample, clean and attacked.
#[derive(Clone, Copy, Debug)]
pub struct AttackedSample<'a> {
    /// `(d)`: the clean representation.
    pub clean: &'a [f64],
    /// `(d)`: the representation of the point where an attack on this head's loss ended.
    pub attacked: &'a [f64],
    /// The label.
    pub label: usize,
    /// A displacement `‖f(x') − f(x)‖₂` that an attack on the encoder alone reached; or an upper bound over
    /// the ball.
    pub radius: f64,
}

/// The chain of Theorem A2 (docs/theory.md) for one sample, or its mean over samples; each quantity is
/// at most the next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct BoundChain {
    /// L: the clean loss.
    pub clean: f64,
    /// A: the loss at the attacked point, or at the clean one where that is larger.
    pub attacked: f64,
    /// `ln(1 + Σ_{j≠y} e^{m_j + ‖v_j‖ r})`.
    pub gap: f64,
    /// `ln(1 + (eᴸ − 1) e^{C_y r})`.
    pub odds: f64,
    /// `L + C_y r`.
    pub label_additive: f64,
    /// `L + C r`.
    pub additive: f64,
}

impl AttackedSample<'_> {
    fn largest_radius(&self) -> f64 {
        largest([self.radius, LpNorm::L2.distance(self.attacked, self.clean)].into_iter())
    }
}

impl BoundChain {
    /// The chain of one sample in l2.
    ///
    /// Its radius is the larger of `sample.radius` and the displacement of the attacked point: both are
    /// reached in the ball, so that with a radius from attacks the bounds are those of the largest
    /// displacement known, and `A` is within them by the theorem.
    ///
    /// # Panics
    /// If a shape does not fit the head or the label is out of range.
    #[track_caller]
    pub fn of(head: &LinearHead, sample: &AttackedSample<'_>) -> Self {
        let AttackedSample { clean, attacked, label, .. } = *sample;
        let radius = sample.largest_radius();
        let supports = head.supports(label, LpNorm::L2, radius);
        let loss = head.loss(clean, label);
        BoundChain {
            clean: loss,
            attacked: largest([loss, head.loss(attacked, label)].into_iter()),
            gap: head.logit_gap_bound(clean, label, &supports),
            odds: head.odds_bound(clean, label, &supports),
            label_additive: head.additive_bound(clean, label, &supports),
            additive: loss + head.constant(LpNorm::L2) * radius,
        }
    }

    /// The six quantities in their order.
    pub fn in_order(&self) -> [f64; 6] {
        [self.clean, self.attacked, self.gap, self.odds, self.label_additive, self.additive]
    }

    /// Whether each quantity is at most the next, up to rounding (1e-11 of their size). NaN is not.
    pub fn holds(&self) -> bool {
        self.in_order()
            .windows(2)
            .all(|pair| pair[0] <= pair[1] + 1e-11 * (1.0 + pair[0].abs() + pair[1].abs()))
    }

    /// Whether a quantity is above the next one: [`out_of_order`]. A chain with NaN neither holds nor is violated.
    pub fn is_violated(&self) -> bool {
        out_of_order(&self.in_order())
    }
}

/// Whether some loss or bound is above the next one by more than rounding, 1e-11 of their size.
///
/// What is NaN or infinite is left out: where weights are so large that f64 overflows, a bound claims nothing and a loss
/// shows nothing.
pub fn out_of_order(losses: &[f64]) -> bool {
    let numbers: Vec<f64> = losses.iter().copied().filter(|v| v.is_finite()).collect();
    numbers.windows(2).any(|pair| pair[0] > pair[1] + 1e-11 * (1.0 + pair[0].abs() + pair[1].abs()))
}

/// The chains of many samples: means, ratios, and whether the theorem held in each.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct BoundReport {
    /// The number of samples.
    pub n: usize,
    /// The mean of each quantity over the same samples.
    pub mean: BoundChain,
    /// The mean radius.
    pub radius: f64,
    /// C: the constant of the head in l2.
    pub constant: f64,
    /// Samples whose chain does not hold: zero unless the program has an error or an input is NaN.
    pub violations: usize,
}

impl BoundReport {
    /// The report of a head on samples.
    ///
    /// # Panics
    /// If there are no samples, or as [`BoundChain::of`].
    #[track_caller]
    pub fn of(head: &LinearHead, samples: &[AttackedSample<'_>]) -> Self {
        assert!(!samples.is_empty(), "BoundReport: no samples");
        let chains: Vec<BoundChain> = samples.iter().map(|sample| BoundChain::of(head, sample)).collect();
        let n = chains.len();
        let mean = |of: fn(&BoundChain) -> f64| chains.iter().map(of).sum::<f64>() / n as f64;
        BoundReport {
            n,
            mean: BoundChain {
                clean: mean(|c| c.clean),
                attacked: mean(|c| c.attacked),
                gap: mean(|c| c.gap),
                odds: mean(|c| c.odds),
                label_additive: mean(|c| c.label_additive),
                additive: mean(|c| c.additive),
            },
            radius: samples.iter().map(AttackedSample::largest_radius).sum::<f64>() / n as f64,
            constant: head.constant(LpNorm::L2),
            violations: chains.iter().filter(|chain| !chain.holds()).count(),
        }
    }

    /// The gap bound over the attacked loss: at least 1.
    pub fn tightness(&self) -> f64 {
        self.mean.gap / self.mean.attacked
    }

    /// The additive bound over the gap bound: at least 1, and large where points are classified well.
    pub fn saturation(&self) -> f64 {
        self.mean.additive / self.mean.gap
    }
}
