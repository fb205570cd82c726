//! The methods, one file each: a configuration, and the state of one sample.

pub(crate) mod alma;
pub(crate) mod apgd_search;
pub(crate) mod ddn;
pub(crate) mod dual_averaging;
pub(crate) mod fmn;
pub(crate) mod greedy;
pub(crate) mod pdgd;
pub(crate) mod pdpgd;
pub(crate) mod polish;
pub(crate) mod primal_dual;
pub(crate) mod random_start;
pub(crate) mod restore;
pub(crate) mod sigma_zero;
pub(crate) mod super_deepfool;
pub(crate) mod trust_region;
