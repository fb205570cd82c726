//! Comparisons of the objective: which images go through the model, and which of their embeddings are compared.

use crate::method::{AdversaryCombine, AdversaryReference};
use crate::step::context::StepContext;
use tarrl_encoders::BnBranch;
use tarrl_tensor::Tensor;

/// A term of the objective, which is computed and differentiated by itself.
pub(super) struct Comparison<'a> {
    /// The images that go through the model.
    pub(super) rows: Vec<Row<'a>>,
    /// Rows that the objective compares, and the factor of its value.
    pub(super) parts: Vec<(Vec<usize>, f64)>,
    /// The rows of the invariance: two views, two attacked views, the image.
    pub(super) invariance: Option<[usize; 5]>,
    /// The clean and the attacked rows between which R is measured, if it shares the attack.
    pub(super) displaced: Vec<[usize; 2]>,
}

/// The images of one view.
#[derive(Clone, Copy)]
pub(super) struct Row<'a> {
    /// `(n, h, w, c)`
    pub(super) image: &'a Tensor,
    /// The set of batch norm that they use.
    pub(super) branch: BnBranch,
    /// The place in the plan of the view that they were made of.
    pub(super) source: usize,
    /// Rows of one group share a pass through the model.
    pub(super) group: usize,
    /// Whether the objective compares them, so that they go through its heads; if not they stand behind all that do.
    pub(super) compared: bool,
}

/// The comparisons of a step: none without an objective, two if attacked views form a term of their own.
pub(super) fn comparisons<'a>(ctx: &'a StepContext<'_>) -> Vec<Comparison<'a>> {
    let StepContext { method, input, plan, .. } = ctx;
    if method.objective.is_none() {
        return Vec::new();
    }
    let clean = |source: usize| Row {
        image: &input.views[source],
        branch: BnBranch::Clean,
        source,
        group: 0,
        compared: true,
    };
    let mut rows: Vec<Row<'a>> = (0..plan.views).map(clean).collect();
    let all: Vec<usize> = (0..plan.views).collect();
    let Some(adversary) = &method.adversary else { return vec![Comparison::new(rows, vec![(all, 1.0)])] };

    let branch = adversary.branch;
    let attacked: Vec<Row<'a>> = (plan.attacked.iter().zip(&ctx.adversarial_views))
        .map(|(&source, image)| Row { image, branch, source, group: branch as usize, compared: true })
        .collect();
    let replaced: Vec<Row<'a>> = rows
        .iter()
        .map(|row| *attacked.iter().find(|other| other.source == row.source).unwrap_or(row))
        .collect();
    let [clean_weight, weight] = adversary.weights(input.share);
    // Each attacked row with the rows that it was attacked against.
    let mut pairs = Vec::new();
    for (i, row) in attacked.iter().enumerate() {
        let original = adversary.against == AdversaryReference::Original;
        let is_reference = |view: &usize| (*view == row.source) == original;
        pairs.extend((0..plan.views).filter(is_reference).map(|view| vec![view, plan.views + i]));
    }
    let share = weight / pairs.len().max(1) as f64;
    let pairs = pairs.into_iter().map(|pair| (pair, share));
    let mut comparisons = match adversary.enters {
        AdversaryCombine::Replace => vec![Comparison::new(replaced, vec![(all, weight)])],
        // The second objective uses the attack's branch for all its views, also for one that is not attacked.
        AdversaryCombine::Second => {
            let second = replaced.into_iter().map(|row| Row { branch, group: 1, ..row });
            let Some(image) = plan.invariant else {
                let first = Comparison::new(rows, vec![(all.clone(), clean_weight)]);
                return vec![first, Comparison::new(second.collect(), vec![(all, weight)])];
            };
            rows.extend(second);
            rows.push(clean(image));
            let parts = vec![(vec![0, 1], clean_weight), (vec![2, 3], weight)];
            vec![Comparison { invariance: Some([0, 1, 2, 3, 4]), ..Comparison::new(rows, parts) }]
        }
        AdversaryCombine::Third => {
            rows.extend(attacked);
            let together = (0..rows.len()).collect();
            let pairs = pairs.filter(|(_, factor)| *factor > 0.0);
            vec![Comparison::new(rows, [(together, clean_weight)].into_iter().chain(pairs).collect())]
        }
        AdversaryCombine::Pair => {
            rows.extend(attacked);
            vec![Comparison::new(rows, [(all, clean_weight)].into_iter().chain(pairs).collect())]
        }
    };
    if method.shared_regularizer().is_some() {
        // One comparison: the objective is not computed apart on attacked views.
        let Comparison { rows, displaced, .. } = &mut comparisons[0];
        let of =
            |rows: &[Row<'_>], image: &Tensor| rows.iter().position(|row| std::ptr::eq(row.image, image));
        rows.extend(
            plan.without_clean(adversary.enters).map(|place| Row { compared: false, ..clean(place) }),
        );
        let pair =
            |(&place, moved): (&usize, &Tensor)| Some([of(rows, &input.views[place])?, of(rows, moved)?]);
        displaced.extend(plan.attacked.iter().zip(&ctx.adversarial_views).filter_map(pair));
    }
    comparisons
}

impl<'a> Comparison<'a> {
    fn new(rows: Vec<Row<'a>>, parts: Vec<(Vec<usize>, f64)>) -> Self {
        Comparison { rows, parts, invariance: None, displaced: Vec::new() }
    }
}
