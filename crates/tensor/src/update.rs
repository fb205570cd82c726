//! What a step of an optimiser is for a backend that moves many parameters at once.

use crate::array::{Array, Buffer};

/// A rule that moves every element by itself: `p` the parameter, `g` its gradient, `m` and `v` its memory. Every product
/// and sum is rounded by itself, in the order of the formulas, so that one launch gives the bits of many.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Rule {
    /// `d = g + decay·p`, `m ← momentum·m + d`, `p ← p − lr·m`, or `p ← p − lr·(d + momentum·m)`.
    Sgd {
        /// Step length.
        lr: f64,
        /// μ
        momentum: f64,
        /// Whether the step looks ahead along the momentum.
        nesterov: bool,
    },
    /// `m ← first·m + (1 − first)·g`, `v ← second·v + (1 − second)·g²`,
    /// `p ← keep·p − rate·(m / (√(v·scale) + eps))` with `keep = 1 − lr·decay`.
    Adam {
        /// β₁
        first: f64,
        /// β₂
        second: f64,
        /// Added to the root.
        eps: f64,
        /// The step length, which decay is taken from.
        lr: f64,
        /// The step length with the correction of the first moment.
        rate: f64,
        /// The correction of the second moment, a factor.
        scale: f64,
    },
}

/// One parameter before a step. All arrays have one shape and type.
#[derive(Clone, Copy, Debug)]
pub struct Update<'a> {
    /// Its value.
    pub value: &'a Array,
    /// Its gradient.
    pub gradient: &'a Array,
    /// One array for SGD, two for Adam.
    pub memory: &'a [Array],
    /// Its weight decay.
    pub decay: f64,
}

/// The same parameter after it.
#[derive(Debug)]
pub struct Updated {
    /// Its value.
    pub value: Buffer,
    /// As many as before.
    pub memory: Vec<Buffer>,
}
