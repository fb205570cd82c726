//! Plans: the methods that a sample goes through, each from the nearest mistake that those before it have found.

use crate::methods::alma::Alma;
use crate::methods::apgd_search::ApgdSearch;
use crate::methods::ddn::Ddn;
use crate::methods::dual_averaging::DualAveraging;
use crate::methods::fmn::Fmn;
use crate::methods::greedy::Greedy;
use crate::methods::pdgd::Pdgd;
use crate::methods::pdpgd::Pdpgd;
use crate::methods::sigma_zero::SigmaZero;
use crate::methods::super_deepfool::SuperDeepFool;
use crate::methods::trust_region::TrustRegion;
use serde::{Deserialize, Serialize};
use tarrl_attacks::Norm;

/// A minimum-norm method with its settings.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NearestMethod {
    /// DDN, l2.
    Ddn(Ddn),
    /// FMN, all norms.
    Fmn(Fmn),
    /// ALMA, l2 and l1.
    Alma(Alma),
    /// PDGD, l2.
    Pdgd(Pdgd),
    /// PDPGD, all norms.
    Pdpgd(Pdpgd),
    /// SuperDeepFool, all norms.
    Sdf(SuperDeepFool),
    /// σ-zero, l0.
    SigmaZero(SigmaZero),
    /// The search over ε with APGD; l-infinity, l2 and l1.
    ApgdSearch(ApgdSearch),
    /// Greedy ascent, l0.
    Greedy(Greedy),
    /// Dual averaging over supports, l0.
    DualAveraging(DualAveraging),
    /// Least-norm steps in a trust region; l-infinity, l2 and l1.
    TrustRegion(TrustRegion),
    /// Random points, ever farther, of samples for which nothing has been found; then the methods before once more.
    RandomStart {
        /// The points.
        tries: usize,
    },
    /// The last steps: nearest points of faces, then a bisection of the radius.
    Polish {
        /// Evaluations at most.
        evaluations: usize,
    },
    /// l0: values go back as long as the point stays a mistake; then others may join one by one.
    Restore {
        /// Evaluations at most.
        evaluations: usize,
        /// The values that may join a mistake, one after the other.
        exchanges: usize,
    },
}

impl NearestMethod {
    /// Whether it has steps for a norm.
    pub fn knows(&self, norm: Norm) -> bool {
        match self {
            NearestMethod::Ddn(_) | NearestMethod::Pdgd(_) => norm == Norm::L2,
            NearestMethod::Alma(_) => matches!(norm, Norm::L2 | Norm::L1),
            NearestMethod::SigmaZero(_)
            | NearestMethod::Greedy(_)
            | NearestMethod::DualAveraging(_)
            | NearestMethod::Restore { .. } => norm == Norm::L0,
            NearestMethod::ApgdSearch(_) | NearestMethod::TrustRegion(_) => norm != Norm::L0,
            NearestMethod::Fmn(_)
            | NearestMethod::Pdpgd(_)
            | NearestMethod::Sdf(_)
            | NearestMethod::RandomStart { .. }
            | NearestMethod::Polish { .. } => true,
        }
    }

    /// Whether it only shortens what others have found, so that passes are kept for it.
    pub(crate) fn finishes(&self) -> bool {
        matches!(self, NearestMethod::Polish { .. } | NearestMethod::Restore { .. })
    }
}

/// The methods that a sample goes through. Each hands its nearest mistake on to the next.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Nearest {
    /// The methods in their order.
    pub methods: Vec<NearestMethod>,
}

/// Evaluations of the last steps.
const LAST: usize = 60;
/// Random points of samples for which nothing has been found.
const TRIES: usize = 40;

impl Nearest {
    /// One method, random starts for samples for which it finds nothing, and the last steps.
    pub fn single(method: NearestMethod, norm: Norm) -> Self {
        let mut methods = vec![method, NearestMethod::RandomStart { tries: TRIES }];
        methods.push(NearestMethod::Polish { evaluations: LAST });
        if norm == Norm::L0 {
            methods.push(NearestMethod::Restore { evaluations: 1000, exchanges: 0 });
        }
        Nearest { methods }
    }

    /// The ensemble of a norm, some 2,000 passes of each sample.
    pub fn ensemble(norm: Norm) -> Self {
        let sdf = NearestMethod::Sdf(SuperDeepFool::default());
        let random = NearestMethod::RandomStart { tries: TRIES };
        let polish = NearestMethod::Polish { evaluations: LAST };
        let fmn = |steps| NearestMethod::Fmn(Fmn::new(norm, steps));
        let alma = |steps| NearestMethod::Alma(Alma::new(norm, steps));
        let trust = |steps| NearestMethod::TrustRegion(TrustRegion { steps, ..TrustRegion::default() });
        let search = NearestMethod::ApgdSearch(ApgdSearch::new(norm));
        let short =
            NearestMethod::ApgdSearch(ApgdSearch { searches: 12, targets: 2, ..ApgdSearch::new(norm) });
        let methods = match norm {
            Norm::Linf => vec![sdf, random, polish, trust(200), polish, fmn(350), polish, search, polish],
            Norm::L2 => vec![sdf, random, polish, trust(200), polish, alma(400), polish, search, polish],
            Norm::L1 => vec![short, random, polish, trust(250), polish, sdf, search, polish],
            Norm::L0 => vec![
                NearestMethod::Greedy(Greedy { targets: 3, ..Greedy::default() }),
                random,
                NearestMethod::SigmaZero(SigmaZero { steps: 150, ..SigmaZero::default() }),
                NearestMethod::DualAveraging(DualAveraging { steps: 750, ..DualAveraging::default() }),
                NearestMethod::Restore { evaluations: 1000, exchanges: 80 },
            ],
        };
        Nearest { methods }
    }
}
