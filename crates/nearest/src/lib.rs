#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]
#![cfg_attr(not(test), deny(clippy::disallowed_methods))]

mod current;
mod measure;
mod method;
mod methods;
mod outcome;
mod plan;
mod run;
mod sample;
mod sample_state;
mod schedule;
mod target;

#[cfg(test)]
mod tests;

pub use measure::{Optimality, optimality};
pub use methods::alma::Alma;
pub use methods::apgd_search::ApgdSearch;
pub use methods::ddn::Ddn;
pub use methods::dual_averaging::DualAveraging;
pub use methods::fmn::Fmn;
pub use methods::greedy::Greedy;
pub use methods::pdgd::Pdgd;
pub use methods::pdpgd::Pdpgd;
pub use methods::sigma_zero::SigmaZero;
pub use methods::super_deepfool::SuperDeepFool;
pub use methods::trust_region::TrustRegion;
pub use outcome::NearestOutcome;
pub use plan::{Nearest, NearestMethod};
pub use run::{NearestRun, NearestState};
pub use target::{Margin, NearestTarget, Scores, with_margin, with_scores};
