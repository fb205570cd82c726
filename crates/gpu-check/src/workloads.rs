//! Workloads that are measured here and in PyTorch: which steps, on how many images.

use tarrl_benches::{Activity, Workload};
use tarrl_encoders::Precision;

/// Images of a step.
pub(crate) const BATCH: usize = 512;
/// The whole steps, the most important first.
pub(crate) const STEPS: [Activity; 4] =
    [Activity::Train, Activity::SslStep, Activity::InputGrad, Activity::Forward];

/// What a row is called.
pub(crate) fn title(workload: Workload, precision: Precision) -> String {
    title_of(workload, BATCH, precision)
}

pub(crate) fn title_of(workload: Workload, images: usize, precision: Precision) -> String {
    let dtype = match precision {
        Precision::F32 => "f32",
        Precision::Bf16 => "bf16",
    };
    format!("{workload}, {images} images, {dtype}")
}
