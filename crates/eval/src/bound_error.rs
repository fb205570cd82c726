//! Errors of bound evaluation.

use tarrl_certify::CertifyError;

/// Why a measurement of the bound has no result. A violated theorem is an error in the program or in the arithmetic, never
/// a finding.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BoundError {
    /// The certificates could not be applied to a head.
    #[error(transparent)]
    Certificates(#[from] CertifyError),
    /// An attack moved representations further than certified.
    #[error(
        "an attack passed the certificates of {images} images at ε = {epsilon}: this is a bug in the program, \
         because the theorem is proved"
    )]
    CertificateViolated {
        /// Images whose certificate was exceeded.
        images: usize,
        /// Radius ε of the ball.
        epsilon: f64,
    },
    /// A loss at an attacked point lies above its bound.
    #[error(
        "`{task}`: bound or certificate is violated by {samples} samples: this is a bug in the program, because the \
         theorems are proved"
    )]
    BoundViolated {
        /// The name of the task.
        task: String,
        /// Samples where the chain of inequalities is out of order.
        samples: usize,
    },
    /// Errors on draws lie above their bound, beyond what draws can do.
    #[error(
        "{predictor}: errors on draws at ε = {epsilon} pass the bound in the mean, and for {images} images by themselves: this \
         is a bug in the program, because the theorem is proved, or a chance smaller than stated"
    )]
    PredictorBoundViolated {
        /// The kind of predictor.
        predictor: &'static str,
        /// Radius ε of the ball.
        epsilon: f64,
        /// Images whose limits are out of order by themselves.
        images: usize,
    },
    /// A predictor cannot be applied.
    #[error(transparent)]
    Predictor(#[from] crate::fit_error::FitError),
    /// A loss is NaN or so large that it stands for no claim, so that there is nothing to compare with its bound.
    #[error("`{task}`: a loss is not below 1e30; the weights of its head are too large, take smaller ones")]
    LossTooLarge {
        /// The name of the task.
        task: String,
    },
    /// All images have one representation, so that displacements have no scale.
    #[error(
        "all images have the same representation, which no displacement can be compared with; check the encoder"
    )]
    Collapsed,
    /// A representation is not finite, so that no displacement can be measured.
    #[error("a representation at ε = {epsilon} is not finite; check the encoder and its training")]
    NotFinite {
        /// Radius ε of the ball.
        epsilon: f64,
    },
}
