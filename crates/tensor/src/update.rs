//! What a step of an optimizer is for a backend that moves many parameters at once.

use crate::array::{Array, Buffer};

/// A rule, element by element: `p` the parameter, `g` its gradient, `m` and `v` its memory. Every product
/// and sum is rounded by itself, in the order of the formulas, so that one launch gives the bits of many; lengths are the roots of sums of rounded squares.
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
    /// `d = g + decay·p`, `m ← momentum·m + r·d`, `p ← p − lr·m`, with a ratio `r` of lengths where the parameter
    /// [adapts](Update::adapts), else 1 (You et al. 2017).
    Lars {
        /// Step length.
        lr: f64,
        /// μ
        momentum: f64,
        /// η
        trust: f64,
        /// What the ratio is.
        ratio: LarsRatio,
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

/// The ratio of [`Rule::Lars`]; 1 where a length is zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LarsRatio {
    /// `min(η‖p‖ / (‖g‖ + decay·‖p‖ + 1e-8) / lr, 1)`
    Clipped,
    /// `η‖p‖ / (‖g‖ + decay·‖p‖ + 1e-8)`
    Apex,
    /// `η‖p‖ / ‖d‖`
    Official,
}

/// One parameter before a step. All arrays have one shape and type.
#[derive(Clone, Copy, Debug)]
pub struct Update<'a> {
    /// Its value.
    pub value: &'a Array,
    /// Its gradient.
    pub gradient: &'a Array,
    /// One array, for Adam two.
    pub memory: &'a [Array],
    /// Its weight decay.
    pub decay: f64,
    /// Whether LARS gives its step a length of its own.
    pub adapts: bool,
}

/// The same parameter after it.
#[derive(Debug)]
pub struct Updated {
    /// Its value.
    pub value: Buffer,
    /// As many as before.
    pub memory: Vec<Buffer>,
}
