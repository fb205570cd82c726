//! The terms of the loss, each a function of the step's context.

mod comparisons;
mod distillation;
mod ibp;
mod objective;
mod pseudo_labels;
mod regularizer;
mod spectral_norm;

use super::context::StepContext;
use super::output::TermOutput;

/// A term: its output, or `None` if the method has no such term.
pub(super) type Term = fn(&StepContext<'_>) -> Option<TermOutput>;

/// All terms, in the order in which they are computed and added.
pub(super) const TERMS: [Term; 7] = [
    objective::first_term,
    objective::second_term,
    distillation::term,
    pseudo_labels::term,
    regularizer::term,
    ibp::term,
    spectral_norm::term,
];
