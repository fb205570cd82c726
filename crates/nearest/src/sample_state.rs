//! The state of one sample: the clean evaluation, then method after method.

use crate::current::Current;
use crate::method::Seen;
use crate::methods::alma::AlmaState;
use crate::methods::apgd_search::ApgdSearchState;
use crate::methods::ddn::DdnState;
use crate::methods::dual_averaging::DualAveragingState;
use crate::methods::fmn::FmnState;
use crate::methods::greedy::GreedyState;
use crate::methods::pdgd::PdgdState;
use crate::methods::pdpgd::PdpgdState;
use crate::methods::polish::PolishState;
use crate::methods::random_start::RandomStart;
use crate::methods::restore::RestoreState;
use crate::methods::sigma_zero::SigmaZeroState;
use crate::methods::super_deepfool::SuperDeepFoolState;
use crate::methods::trust_region::TrustRegionState;
use crate::plan::{Nearest, NearestMethod};
use crate::sample::{Found, Sample};
use serde::{Deserialize, Serialize};
use tarrl_attacks::{AttackStatus, StateError, bits};

/// Passes that are kept for the last steps.
const RESERVE: u32 = 40;
/// More passes than a sample has had when it is resumed, so that counts do not overflow.
const MOST_PASSES: u32 = u32::MAX / 4;

/// One sample on its way.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SampleState {
    /// The method that it is in; the number of methods at the end.
    part: usize,
    /// Whether the methods are run once more, from a random point.
    again: bool,
    current: Current,
    /// The scores of the sample itself, once it has been evaluated.
    #[serde(with = "bits")]
    clean: Vec<f64>,
    /// The classes, the most promising first.
    order: Vec<u32>,
    pub(crate) found: Found,
    /// Passes, forward and backward together.
    passes: u32,
    pub(crate) done: bool,
}

impl SampleState {
    pub(crate) fn new() -> Self {
        SampleState {
            part: 0,
            again: false,
            current: Current::Clean,
            clean: Vec::new(),
            order: Vec::new(),
            found: Found::nothing(),
            passes: 0,
            done: false,
        }
    }

    /// The point to evaluate next.
    pub(crate) fn point<'a>(&'a self, sample: &'a Sample) -> &'a [f32] {
        self.current.method().map_or(sample.x(), |method| method.point())
    }

    /// Whether a gradient may be wanted there.
    pub(crate) fn wants_gradients(&self) -> bool {
        self.current.method().is_some_and(|method| method.wants_gradients())
    }

    /// The name of the method.
    pub(crate) fn name(&self) -> &'static str {
        self.current.name()
    }

    /// Counts an evaluation and enters what it showed. The gradients in the scores of what is to be differentiated there;
    /// the sample leaves first if the budget has no room for them and an evaluation more. Whether the budget ends something.
    pub(crate) fn enter(
        &mut self,
        plan: &Nearest,
        sample: &Sample,
        z: &[f64],
        status: AttackStatus,
        budget: Option<u32>,
    ) -> (Vec<Vec<f64>>, bool) {
        self.passes += 1;
        if status.success {
            let point = self.point(sample).to_vec();
            let distance = sample.ball.distance(&point);
            self.found.enter(&point, distance, status.margin, self.current.name(), self.passes);
        }
        if matches!(self.current, Current::Clean) {
            self.clean = z.to_vec();
            let mut order: Vec<u32> = (0..z.len() as u32).filter(|&k| k as usize != sample.label).collect();
            order.sort_by(|&a, &b| z[b as usize].total_cmp(&z[a as usize]));
            self.order = order;
        }
        let slopes = self.current.method().map_or_else(Vec::new, |method| method.slopes(z, sample.label));
        let Some(budget) = budget else { return (slopes, false) };
        let finishing = plan.methods.get(self.part).is_some_and(NearestMethod::finishes);
        let reserve = if finishing || !self.found.is_any() { 0 } else { RESERVE };
        let enough =
            u64::from(self.passes) + slopes.len() as u64 + 1 + u64::from(reserve) <= u64::from(budget);
        if enough {
            return (slopes, false);
        }
        let last = plan.methods.iter().rposition(|method| !method.finishes()).map_or(0, |last| last + 1);
        let room = u64::from(self.passes) + 2 <= u64::from(budget);
        if !finishing && room && last < plan.methods.len() {
            // What is left is for the last steps.
            self.begin_from(plan, sample, last);
        } else {
            self.done = true;
        }
        (Vec::new(), true)
    }

    /// Takes in the gradients and moves to the next point that has to be evaluated.
    pub(crate) fn advance(&mut self, plan: &Nearest, sample: &Sample, seen: &Seen<'_>) {
        self.passes += seen.gradients.len() as u32;
        if self.found.distance == 0.0 {
            self.done = true;
            return;
        }
        let Some(method) = self.current.method_mut() else {
            self.begin_from(plan, sample, 0);
            return;
        };
        if method.advance(sample, &self.found, seen) {
            return;
        }
        if let Current::SuperDeepFool(state) = &self.current {
            // Classes beyond those considered keep their order.
            let mut order = state.order.clone();
            order.extend(self.order.iter().copied().filter(|k| !state.order.contains(k)));
            self.order = order;
        }
        if matches!(self.current, Current::RandomStart(_)) && self.found.is_any() {
            self.again = true;
            self.begin_from(plan, sample, 0);
        } else {
            self.begin_from(plan, sample, self.part + 1);
        }
    }

    /// Begins the first method from `part` on that has something to do.
    fn begin_from(&mut self, plan: &Nearest, sample: &Sample, part: usize) {
        self.part = part;
        while let Some(method) = plan.methods.get(self.part) {
            let any = self.found.is_any();
            let skips = match method {
                NearestMethod::RandomStart { .. } => any || self.again,
                NearestMethod::Sdf(_) => self.again,
                // These begin at a mistake.
                NearestMethod::DualAveraging(_) | NearestMethod::TrustRegion(_) => !any,
                method => method.finishes() && !any,
            };
            if !skips {
                self.current = self.begin(method, sample);
                return;
            }
            self.part += 1;
        }
        self.done = true;
    }

    fn begin(&self, method: &NearestMethod, sample: &Sample) -> Current {
        let (found, scale) = (&self.found, self.scale(sample));
        match method {
            NearestMethod::Ddn(config) => Current::Ddn(DdnState::new(config, sample, found, scale)),
            NearestMethod::Fmn(config) => Current::Fmn(FmnState::new(config, sample, found)),
            NearestMethod::Alma(config) => Current::Alma(AlmaState::new(config, sample, found, scale)),
            NearestMethod::Pdgd(config) => Current::Pdgd(PdgdState::new(config, sample, found, scale)),
            NearestMethod::Pdpgd(config) => Current::Pdpgd(PdpgdState::new(config, sample, found, scale)),
            NearestMethod::Sdf(config) => Current::SuperDeepFool(SuperDeepFoolState::new(config, sample)),
            NearestMethod::SigmaZero(config) => {
                Current::SigmaZero(SigmaZeroState::new(config, sample, scale))
            }
            NearestMethod::ApgdSearch(config) => {
                Current::ApgdSearch(Box::new(ApgdSearchState::new(config, sample, found, &self.order)))
            }
            NearestMethod::Greedy(config) => Current::Greedy(GreedyState::new(config, sample, &self.order)),
            NearestMethod::DualAveraging(config) => {
                Current::DualAveraging(DualAveragingState::new(config, sample, found, &self.order))
            }
            NearestMethod::TrustRegion(config) => {
                Current::TrustRegion(TrustRegionState::new(config, sample, found, scale, &self.order))
            }
            NearestMethod::RandomStart { tries } => Current::RandomStart(RandomStart::new(sample, *tries)),
            NearestMethod::Polish { evaluations } => {
                Current::Polish(PolishState::new(sample, found, *evaluations))
            }
            NearestMethod::Restore { evaluations, exchanges } => {
                Current::Restore(RestoreState::new(sample, found, *evaluations, *exchanges))
            }
        }
    }

    /// The margin of the sample itself, by which margins are divided so that the scale of the scores does not matter.
    fn scale(&self, sample: &Sample) -> f64 {
        let z = &self.clean;
        let y = sample.label.min(z.len().saturating_sub(1));
        let others = (0..z.len()).filter(|&k| k != y).map(|k| z[k]);
        let margin = z.get(y).copied().unwrap_or(1.0) - others.fold(f64::NEG_INFINITY, f64::max);
        let largest = z.iter().fold(0.0f64, |m, v| m.max(v.abs()));
        let least = (1e-6 * largest).max(f64::MIN_POSITIVE);
        if margin.is_finite() { margin.max(least) } else { 1.0 }
    }

    /// An error unless a sample of this plan can be in such a state.
    pub(crate) fn validate(&self, plan: &Nearest, sample: &Sample) -> Result<(), StateError> {
        let demand = |holds: bool, what: &str| {
            if holds { Ok(()) } else { Err(StateError::Invalid(what.to_owned())) }
        };
        let (width, classes) = (sample.width(), self.clean.len());
        demand(self.passes < MOST_PASSES, "passes are beyond those of any run")?;
        let point = &self.found.point;
        demand(
            point.len() == if self.found.is_any() { width } else { 0 },
            "the nearest mistake is of another length",
        )?;
        let (lo, hi) = sample.ball.bounds();
        demand(point.iter().all(|v| (lo..=hi).contains(v)), "the nearest mistake is not in the box")?;
        demand(
            !self.found.is_any() || self.found.distance == sample.ball.distance(point),
            "the nearest mistake is at another distance",
        )?;
        if self.done {
            return Ok(());
        }
        let Some(method) = self.current.method() else {
            return demand(
                classes == 0 && self.part == 0,
                "a sample that has been evaluated is at its beginning",
            );
        };
        demand(self.part < plan.methods.len(), "a sample is beyond the last method")?;
        demand(
            classes >= 2 && sample.label < classes && self.order.len() < classes,
            "the classes of a sample are not those of the model",
        )?;
        demand(self.order.iter().all(|&k| (k as usize) < classes), "a class is beyond those of the model")?;
        demand(
            self.current.is_of(&plan.methods[self.part]) && method.fits(sample, classes),
            "a method is not the one of the plan, or at a step or of a shape that is not configured",
        )?;
        demand(method.point().iter().all(|v| (lo..=hi).contains(v)), "a point is not in the box")
    }
}
