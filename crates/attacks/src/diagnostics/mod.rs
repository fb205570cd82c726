//! Diagnostics: whether a robust accuracy can be believed.

mod gradient_masking;
mod gradient_masking_checks;

pub use gradient_masking::{
    Finding, Sign, curve, dead_gradient, is_conclusive, losses_disagree, more_steps, probabilities,
    random_model, saturation, square_wins, unfinished_ascent, unstable_loss, weaker_wins,
};
pub use gradient_masking_checks::{GradientMaskingChecks, gradient_masking_checks};
