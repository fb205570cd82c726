//! Prediction heads on a representation: losses, Lipschitz constants and bounds, in f64 on the host.

mod head_constants;
mod knn;
mod linear;
mod mlp;
mod normalized;
mod regression;
mod scalar_loss;
mod softmax;

pub use head_constants::HeadConstants;
pub use knn::KnnHead;
pub use linear::LinearHead;
pub use mlp::MlpHead;
pub use normalized::{NormalizedHead, angle, cap_support, chord};
pub use regression::{RegressionHead, mean_squared_bound, squared_bound};
pub use scalar_loss::ScalarLoss;
pub use softmax::SoftmaxHead;
