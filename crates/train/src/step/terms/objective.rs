//! The terms of the objective: on the views, and once more on adversarial views; with λ R where it shares the attack.

use super::comparisons::{Comparison, Row, comparisons};
use crate::model::NetworkOutput;
use crate::step::context::StepContext;
use crate::step::output::{BatchStatistics, Passes, TermKind, TermOutput, gradients, scaled};
use crate::step::scope::Scope;
use crate::step::views::{ViewEmbeddings, objective};
use tarrl_objectives::{adversarial_invariance, invariance};
use tarrl_tensor::Tensor;

/// The objective on the views, some of them attacked where the adversary says so.
pub(super) fn first_term(ctx: &StepContext<'_>) -> Option<TermOutput> {
    comparisons(ctx).first().map(|comparison| term(ctx, comparison))
}

/// The objective on attacked views apart from the first term (`enters = "second"`).
pub(super) fn second_term(ctx: &StepContext<'_>) -> Option<TermOutput> {
    comparisons(ctx).get(1).map(|comparison| term(ctx, comparison))
}

fn term(ctx: &StepContext<'_>, comparison: &Comparison<'_>) -> TermOutput {
    let Forward { views, statistics, reported } = forward(ctx, &comparison.rows);
    let values = comparison.parts.iter().map(|(rows, factor)| {
        let chosen: Vec<&ViewEmbeddings> = rows.iter().map(|&row| &views[row]).collect();
        scaled(objective(ctx, &chosen, Scope::Batch), *factor)
    });
    let mut value = values.reduce(|sum, value| &sum + &value).expect("a term has a part");
    if let (Some(rows), Some(config)) = (comparison.invariance, &ctx.method.invariance) {
        let z = rows.map(|row| views[row].online.embeddings.as_ref().expect("views are projected"));
        let [first, second, moved_first, moved_second, image] = z;
        let (clean, moved) = ([first, second], [moved_first, moved_second]);
        let standard = invariance(clean, image, config.temperature);
        let adversarial = adversarial_invariance(moved, clean, image, config.temperature);
        value = &value + &scaled(standard, config.standard);
        value = &value + &scaled(adversarial, config.adversarial);
    }
    let regularizer = ctx.method.shared_regularizer().filter(|_| !comparison.displaced.is_empty());
    let regularizer = regularizer.map(|regularizer| {
        let features = |row: usize| &views[row].online.features;
        let displaced = comparison.displaced.iter();
        let values = displaced.map(|&[clean, moved]| regularizer.value(features(clean), features(moved)));
        let sum = values.reduce(|sum, value| &sum + &value).expect("an attack moves a view");
        let mean = scaled(sum, 1.0 / comparison.displaced.len() as f64);
        (mean, regularizer.weight() * ctx.input.weight_scale)
    });
    drop(views);
    let objective = value.detach();
    if let Some((displacement, weight)) = &regularizer {
        value = &value + &(displacement * *weight);
    }
    let regularizer = regularizer.map(|(displacement, weight)| (displacement.detach(), weight));
    let images = (comparison.rows.len() * ctx.batch_size()) as u64;
    TermOutput {
        kind: TermKind::Objective,
        scope: Scope::Batch,
        value: objective,
        weight: 1.0,
        gradients: gradients(value, ctx.networks.model),
        gradient_factor: 1.0,
        statistics,
        reported,
        regularizer,
        passes: Passes { forward: images, backward: images },
    }
}

/// The representations of the rows at `places` as the objective sees them: with noise, if the method has some. Rows at one
/// place of two terms share it.
fn noisy(ctx: &StepContext<'_>, features: &Tensor, places: &[usize]) -> Tensor {
    let Some((config, noise)) = ctx.method.noise.zip(ctx.input.initial_points.noise.as_ref()) else {
        return features.clone();
    };
    let n = ctx.batch_size();
    let noise: Vec<Tensor> = places.iter().map(|&place| noise.slice(0, place * n, n)).collect();
    config.apply(features, &crate::method::stack(noise.iter()))
}

/// The rows of a comparison after the model.
struct Forward {
    views: Vec<ViewEmbeddings>,
    statistics: Vec<BatchStatistics>,
    /// Representations and embeddings of the first pass.
    reported: Option<(Tensor, Option<Tensor>)>,
}

/// All rows through the model in training mode, one pass for each group; the heads see those that are compared.
fn forward(ctx: &StepContext<'_>, rows: &[Row<'_>]) -> Forward {
    let mut views: Vec<Option<ViewEmbeddings>> = rows.iter().map(|_| None).collect();
    let (mut statistics, mut reported) = (Vec::new(), None);
    for group in [0, 1] {
        let places: Vec<usize> = (0..rows.len()).filter(|&i| rows[i].group == group).collect();
        let Some(&first) = places.first() else { continue };
        let branch = rows[first].branch;
        let mut context = ctx.train_context(branch);
        let images = crate::method::stack(places.iter().map(|&i| rows[i].image));
        let (model, n) = (ctx.networks.model, ctx.batch_size());
        let features = model.encoder.forward(&images, &mut context);
        let compared = places.iter().filter(|&&i| rows[i].compared).count();
        for (part, &place) in places.iter().enumerate().skip(compared) {
            let features = ctx.gathered(&features.slice(0, part * n, n), 1);
            let online = NetworkOutput { features, embeddings: None, projections: None };
            views[place] = Some(ViewEmbeddings { online, ema: None });
        }
        let features = if compared == places.len() { features } else { features.slice(0, 0, compared * n) };
        let output = model.heads.embed(noisy(ctx, &features, &places[..compared]), &mut context);
        // R and what is reported are of the representations themselves.
        let output = ctx.gathered_output(NetworkOutput { features, ..output }, compared);
        for (part, &place) in places.iter().enumerate().take(compared) {
            views[place] = Some(ViewEmbeddings::new(ctx, &output, part, rows[place].source, Scope::Batch));
        }
        reported.get_or_insert_with(|| (output.features.detach(), output.embeddings.map(|z| z.detach())));
        statistics.push(BatchStatistics { branch, context, heads: true, exclusive: false });
    }
    Forward { views: views.into_iter().flatten().collect(), statistics, reported }
}
