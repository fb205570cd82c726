//! The method that a sample is in: one of all methods.

use crate::method::Method;
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
use crate::plan::NearestMethod;
use serde::{Deserialize, Serialize};

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
    DualAveraging(DualAveragingState),
    TrustRegion(TrustRegionState),
    Polish(PolishState),
    Restore(RestoreState),
    RandomStart(RandomStart),
}

/// The method, by a reference as written.
macro_rules! method_of {
    ($current:expr, $($reference:tt)+) => {
        Some(match $current {
            Current::Clean => return None,
            Current::Ddn(state) => state,
            Current::Fmn(state) => state,
            Current::Alma(state) => state,
            Current::Pdgd(state) => state,
            Current::Pdpgd(state) => state,
            Current::SuperDeepFool(state) => state,
            Current::SigmaZero(state) => state,
            Current::ApgdSearch(state) => $($reference)+ **state,
            Current::Greedy(state) => state,
            Current::DualAveraging(state) => state,
            Current::TrustRegion(state) => state,
            Current::Polish(state) => state,
            Current::Restore(state) => state,
            Current::RandomStart(state) => state,
        })
    };
}

impl Current {
    pub(crate) fn method(&self) -> Option<&dyn Method> {
        method_of!(self, &)
    }

    pub(crate) fn method_mut(&mut self) -> Option<&mut dyn Method> {
        method_of!(self, &mut)
    }

    /// Whether it is the method of a plan with its settings.
    pub(crate) fn is_of(&self, method: &NearestMethod) -> bool {
        match (self, method) {
            (Current::Ddn(state), NearestMethod::Ddn(config)) => state.config == *config,
            (Current::Fmn(state), NearestMethod::Fmn(config)) => state.config == *config,
            (Current::Alma(state), NearestMethod::Alma(config)) => state.config == *config,
            (Current::Pdgd(state), NearestMethod::Pdgd(config)) => state.config == *config,
            (Current::Pdpgd(state), NearestMethod::Pdpgd(config)) => state.config == *config,
            (Current::SuperDeepFool(state), NearestMethod::Sdf(config)) => state.config == *config,
            (Current::SigmaZero(state), NearestMethod::SigmaZero(config)) => state.config == *config,
            (Current::ApgdSearch(state), NearestMethod::ApgdSearch(config)) => state.config == *config,
            (Current::Greedy(state), NearestMethod::Greedy(config)) => state.config == *config,
            (Current::DualAveraging(state), NearestMethod::DualAveraging(config)) => state.config == *config,
            (Current::TrustRegion(state), NearestMethod::TrustRegion(config)) => state.config == *config,
            (Current::Polish(state), NearestMethod::Polish { evaluations }) => state.left <= *evaluations,
            (Current::Restore(state), NearestMethod::Restore { evaluations, exchanges }) => {
                state.left <= *evaluations && state.exchanges == *exchanges
            }
            (Current::RandomStart(state), NearestMethod::RandomStart { tries }) => state.tries == *tries,
            _ => false,
        }
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
            Current::DualAveraging(_) => "dual-averaging",
            Current::TrustRegion(_) => "trust-region",
            Current::Polish(_) => "polish",
            Current::Restore(_) => "restore",
            Current::RandomStart(_) => "random-start",
        }
    }
}
