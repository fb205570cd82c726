//! The objective of a method as terms: which rows go through the network, and which of them are compared.

use super::Work;
use crate::method::{Against, Enters};
use tarrl_encoders::BnBranch;
use tarrl_tensor::Tensor;

/// A part of the loss that is computed and differentiated by itself.
pub(super) struct Term<'a> {
    /// The views that it needs.
    pub(super) rows: Vec<Row<'a>>,
    /// Rows that the objective compares, and the factor of what it says.
    pub(super) parts: Vec<(Vec<usize>, f64)>,
    /// The rows of the invariance: views, attacked views, the image.
    pub(super) invariance: Option<[usize; 5]>,
}

/// A view on its way through the network.
#[derive(Clone, Copy)]
pub(super) struct Row<'a> {
    /// `(n, h, w, c)`
    pub(super) image: &'a Tensor,
    /// The statistics that it sees and leaves.
    pub(super) branch: BnBranch,
    /// The place in the plan of the view that it was made of.
    pub(super) source: usize,
    /// Rows of one group share a pass.
    pub(super) group: usize,
}

/// The terms of a step, with the `attacked` images in the order of the plan.
pub(super) fn terms<'a>(work: &'a Work<'_>, attacked: &'a [Tensor]) -> Vec<Term<'a>> {
    let Work { method, input, plan, .. } = work;
    if method.objective.is_none() {
        return Vec::new();
    }
    let normal =
        |source: usize| Row { image: &input.views[source], branch: BnBranch::Clean, source, group: 0 };
    let mut rows: Vec<Row<'a>> = (0..plan.views).map(normal).collect();
    let all: Vec<usize> = (0..plan.views).collect();
    let Some(adversary) = &method.adversary else { return vec![Term::new(rows, vec![(all, 1.0)])] };

    let branch = adversary.branch;
    let found: Vec<Row<'a>> = (plan.attacked.iter().zip(attacked))
        .map(|(&source, image)| Row { image, branch, source, group: branch as usize })
        .collect();
    let replaced: Vec<Row<'a>> =
        rows.iter().map(|row| *found.iter().find(|f| f.source == row.source).unwrap_or(row)).collect();
    let [clean, weight] = adversary.weights(input.share);
    // Each attacked row with what it was attacked against.
    let mut own = Vec::new();
    for (i, row) in found.iter().enumerate() {
        let is_against = |view: &usize| (*view == row.source) == (adversary.against == Against::Original);
        own.extend((0..plan.views).filter(is_against).map(|view| vec![view, plan.views + i]));
    }
    let share = weight / own.len().max(1) as f64;
    let pairs = own.into_iter().map(|pair| (pair, share));
    match adversary.enters {
        Enters::Replace => vec![Term::new(replaced, vec![(all, weight)])],
        // The second objective is all on the attack's branch, also the view that nobody attacked.
        Enters::Second => {
            let second = replaced.into_iter().map(|row| Row { branch, group: 1, ..row });
            let Some(image) = plan.invariant else {
                let first = Term::new(rows, vec![(all.clone(), clean)]);
                return vec![first, Term::new(second.collect(), vec![(all, weight)])];
            };
            rows.extend(second);
            rows.push(normal(image));
            let parts = vec![(vec![0, 1], clean), (vec![2, 3], weight)];
            vec![Term { invariance: Some([0, 1, 2, 3, 4]), ..Term::new(rows, parts) }]
        }
        Enters::Third => {
            rows.extend(found);
            let together = (0..rows.len()).collect();
            let parts = [(together, clean)].into_iter().chain(pairs.filter(|(_, factor)| *factor > 0.0));
            vec![Term::new(rows, parts.collect())]
        }
        Enters::Pair => {
            rows.extend(found);
            vec![Term::new(rows, [(all, clean)].into_iter().chain(pairs).collect())]
        }
    }
}

impl<'a> Term<'a> {
    fn new(rows: Vec<Row<'a>>, parts: Vec<(Vec<usize>, f64)>) -> Self {
        Term { rows, parts, invariance: None }
    }
}
