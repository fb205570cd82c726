//! The task-agnostic robustness bound: divergences, regularizer, constants of heads.
