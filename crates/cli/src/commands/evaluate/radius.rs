//! How radii are written.

/// A radius as tables show it.
pub(super) fn radius(epsilon: f64) -> String {
    ((epsilon * 1e6).round() / 1e6).to_string()
}
