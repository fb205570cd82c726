//! Methods as states of one sample: a point to evaluate next, what is differentiated there, and a move.

use crate::methods::alma::AlmaState;
use crate::methods::apgd_search::ApgdSearchState;
use crate::methods::ddn::DdnState;
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
use crate::plan::NearestMethod;
use crate::sample::{Found, Sample};
use serde::{Deserialize, Serialize};

/// What was seen at a point.
pub(crate) struct Seen<'a> {
    /// The scores (k).
    pub(crate) z: &'a [f64],
    /// z_y − max_{k≠y} z_k.
    pub(crate) margin: f64,
    /// Whether the point is misclassified.
    pub(crate) mistake: bool,
    pub(crate) distance: f64,
    /// The gradients in the input of what the method named, finite.
    pub(crate) gradients: Vec<Vec<f64>>,
}

/// A minimum-norm method at work on one sample.
pub(crate) trait Method {
    /// The point to evaluate next.
    fn point(&self) -> &[f32];

    /// Whether a gradient may be wanted there.
    fn wants_gradients(&self) -> bool {
        true
    }

    /// The gradients in the scores `z` (k) of what is to be differentiated there, of a sample with label `y`; none: the
    /// point needs its scores alone.
    fn slopes(&self, z: &[f64], y: usize) -> Vec<Vec<f64>> {
        vec![rise(z, y, rival(z, y))]
    }

    /// Takes in what was seen, `found` included, and moves; `false` at the end.
    fn advance(&mut self, sample: &Sample, found: &Found, seen: &Seen<'_>) -> bool;

    /// Whether a stored state can be one of this method on a sample, on a model of so many classes.
    fn fits(&self, method: &NearestMethod, sample: &Sample, classes: usize) -> bool;
}

/// The method that a sample is in.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Current {
    /// The sample itself has still to be evaluated.
    Clean,
    Ddn(DdnState),
    Fmn(FmnState),
    Alma(AlmaState),
    Pdgd(PdgdState),
    Pdpgd(PdpgdState),
    SuperDeepFool(SuperDeepFoolState),
    SigmaZero(SigmaZeroState),
    ApgdSearch(Box<ApgdSearchState>),
    Greedy(GreedyState),
    TrustRegion(TrustRegionState),
    Polish(PolishState),
    Restore(RestoreState),
    RandomStart(RandomStart),
}

impl Current {
    pub(crate) fn method(&self) -> Option<&dyn Method> {
        Some(match self {
            Current::Clean => return None,
            Current::Ddn(state) => state,
            Current::Fmn(state) => state,
            Current::Alma(state) => state,
            Current::Pdgd(state) => state,
            Current::Pdpgd(state) => state,
            Current::SuperDeepFool(state) => state,
            Current::SigmaZero(state) => state,
            Current::ApgdSearch(state) => &**state,
            Current::Greedy(state) => state,
            Current::TrustRegion(state) => state,
            Current::Polish(state) => state,
            Current::Restore(state) => state,
            Current::RandomStart(state) => state,
        })
    }

    pub(crate) fn method_mut(&mut self) -> Option<&mut dyn Method> {
        Some(match self {
            Current::Clean => return None,
            Current::Ddn(state) => state,
            Current::Fmn(state) => state,
            Current::Alma(state) => state,
            Current::Pdgd(state) => state,
            Current::Pdpgd(state) => state,
            Current::SuperDeepFool(state) => state,
            Current::SigmaZero(state) => state,
            Current::ApgdSearch(state) => &mut **state,
            Current::Greedy(state) => state,
            Current::TrustRegion(state) => state,
            Current::Polish(state) => state,
            Current::Restore(state) => state,
            Current::RandomStart(state) => state,
        })
    }

    pub(crate) fn name(&self) -> &'static str {
        match self {
            Current::Clean => "clean",
            Current::Ddn(_) => "ddn",
            Current::Fmn(_) => "fmn",
            Current::Alma(_) => "alma",
            Current::Pdgd(_) => "pdgd",
            Current::Pdpgd(_) => "pdpgd",
            Current::SuperDeepFool(_) => "sdf",
            Current::SigmaZero(_) => "sigma-zero",
            Current::ApgdSearch(_) => "apgd-search",
            Current::Greedy(_) => "greedy",
            Current::TrustRegion(_) => "trust-region",
            Current::Polish(_) => "polish",
            Current::Restore(_) => "restore",
            Current::RandomStart(_) => "random-start",
        }
    }
}

/// The class of the largest score beside the label's, of equals the first.
pub(crate) fn rival(z: &[f64], y: usize) -> usize {
    let others = (0..z.len()).filter(|&k| k != y);
    others.reduce(|best, k| if z[k] > z[best] { k } else { best }).unwrap_or(0)
}

/// The gradient of z_k − z_y in the scores.
pub(crate) fn rise(z: &[f64], y: usize, k: usize) -> Vec<f64> {
    let mut slope = vec![0.0; z.len()];
    slope[k] += 1.0;
    slope[y] -= 1.0;
    slope
}
