//! How long criterion measures.

use criterion::Criterion;
use std::time::Duration;

/// Ten samples in about a second for each bench: all of them together take a few minutes.
pub(crate) fn settings() -> Criterion {
    Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_millis(800))
        .without_plots()
}
