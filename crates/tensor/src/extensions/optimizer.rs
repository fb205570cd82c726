//! Optimizer updates of many parameters in one call.

use crate::array::{Array, Buffer};

/// A backend that updates all parameters at once, to the bits of one op after the other.
pub trait OptimizerBackend {
    /// The parameters after one step, in their order; `None` if it does not handle them together (of several types, say):
    /// the caller then updates op by op.
    ///
    /// # Panics
    /// If a parameter, its gradient and its memory differ in length.
    fn update(&self, rule: UpdateRule, parameters: &[ParamUpdate<'_>]) -> Option<Vec<UpdatedParam>>;
}

/// An update rule, element by element: `p` the parameter, `g` its gradient, `m` and `v` its moments. Every product and sum
/// is rounded by itself, in the order of the formulas, so that one launch gives the bits of many; norms are the roots of
/// sums of rounded squares.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum UpdateRule {
    /// `d = g + decay·p`, `m ← momentum·m + d`, `p ← p − lr·m`, or `p ← p − lr·(d + momentum·m)`.
    Sgd {
        /// Learning rate.
        lr: f64,
        /// μ
        momentum: f64,
        /// Whether the step is Nesterov's.
        nesterov: bool,
    },
    /// `d = g + decay·p`, `m ← momentum·m + r·d`, `p ← p − lr·m`, with the trust ratio `r` where the parameter
    /// [adapts](ParamUpdate::adapts), else 1 (You et al. 2017).
    Lars {
        /// Learning rate.
        lr: f64,
        /// μ
        momentum: f64,
        /// η
        trust: f64,
        /// The form of the trust ratio.
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
        /// Learning rate, which the decay is proportional to.
        lr: f64,
        /// Learning rate divided by the bias correction of the first moment.
        rate: f64,
        /// The inverse bias correction of the second moment.
        scale: f64,
    },
}

/// The trust ratio of [`UpdateRule::Lars`]; 1 where a norm is zero.
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
pub struct ParamUpdate<'a> {
    /// Its value.
    pub value: &'a Array,
    /// Its gradient.
    pub gradient: &'a Array,
    /// Its moments: one array, for Adam two.
    pub memory: &'a [Array],
    /// Its weight decay.
    pub decay: f64,
    /// Whether LARS scales its step by a trust ratio.
    pub adapts: bool,
}

/// The same parameter after it.
#[derive(Debug)]
pub struct UpdatedParam {
    /// Its value.
    pub value: Buffer,
    /// As many as before.
    pub memory: Vec<Buffer>,
}
