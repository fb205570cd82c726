//! Constants of a linear head that need no data.

use super::linear::LinearHead;
use crate::numerics::LpNorm;
use serde::Serialize;

/// The constants of a linear head, Theorem A3 (docs/theory.md). Each is a factor before a displacement in
/// the norm it is named after; the l2 ones are bounds of each other: `l2 ≤ spectral` and `l2 ≤ rows`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct HeadConstants {
    /// `C` for l1 displacements: the largest l-infinity distance of two rows.
    pub l1: f64,
    /// `C` for l2 displacements: the largest distance of two rows.
    pub l2: f64,
    /// `C` for l-infinity displacements: the largest l1 distance of two rows.
    pub linf: f64,
    /// `√2 ‖W − 1·mean row‖₂`
    pub spectral: f64,
    /// `2 max_j ‖w_j‖₂`
    pub rows: f64,
}

impl LinearHead {
    /// All its constants.
    pub fn constants(&self) -> HeadConstants {
        HeadConstants {
            l1: self.constant(LpNorm::L1),
            l2: self.constant(LpNorm::L2),
            linf: self.constant(LpNorm::Linf),
            spectral: self.spectral_constant(),
            rows: self.row_constant(LpNorm::L2),
        }
    }
}
