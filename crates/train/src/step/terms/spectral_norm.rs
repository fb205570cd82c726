//! The term of the spectral norms of the encoder's layers.

use crate::step::context::StepContext;
use crate::step::output::{Passes, TermKind, TermOutput, gradients, scaled};
use crate::step::scope::Scope;

/// See [`SpectralNorm`](crate::SpectralNorm). It needs the extents of an image alone, so no pass of images is counted.
pub(super) fn term(ctx: &StepContext<'_>) -> Option<TermOutput> {
    let config = ctx.method.spectral_norm?;
    let encoder = &ctx.networks.model.encoder;
    let branch = ctx.method.network.keeps.unwrap_or_default();
    let key = ctx.input.key.fold("spectral norms");
    let norms = encoder.spectral_norms(&ctx.input.views[0], branch, config.iterations, key);
    let squares = norms.into_iter().map(|norm| norm.square());
    let sum = squares.reduce(|sum, square| &sum + &square).expect("an encoder has a layer");
    let value = scaled(sum, 0.5 * config.weight);
    Some(TermOutput {
        kind: TermKind::Objective,
        scope: Scope::Shard,
        value: value.detach(),
        weight: 1.0,
        gradients: gradients(value, encoder),
        gradient_factor: 1.0,
        statistics: Vec::new(),
        reported: None,
        regularizer: None,
        passes: Passes::default(),
    })
}
