//! Batch norm with one or two branches (dual batch norm).

use super::{Activation, BatchNorm};
use crate::config::BatchNormMode;
use crate::forward_context::{BnBranch, ForwardContext};
use crate::module::Role;
use crate::param_builder::ParamBuilder;
use tarrl_tensor::Tensor;

/// What the names of the two sets have beside the name of the layer.
const LIST: &str = "bn_list";

/// The name that the tensor `name` of dual batch norm has where there is one set; every other name as it is.
pub(crate) fn single_name(name: &str) -> String {
    let parts = name.split_once(&format!(".{LIST}."));
    let parts = parts.and_then(|(layer, rest)| Some((layer, rest.split_once('.')?.1)));
    parts.map_or_else(|| name.to_owned(), |(layer, tensor)| format!("{layer}.{tensor}"))
}

/// The batch norm of one place: a single one, called as the layer, or one for each [`BnBranch`], called
/// `layer.bn_list.0` (clean) and `layer.bn_list.1` (adversarial) as in the code of ACL.
#[derive(Clone, Debug)]
pub(crate) struct BranchNorm {
    sets: Vec<BatchNorm>,
}

impl BranchNorm {
    /// γ = 1 and β = 0 in every set.
    pub(crate) fn new(params: &ParamBuilder, channels: usize, norms: BatchNormMode) -> Self {
        BranchNorm::of(params, norms, |params| BatchNorm::new(params, channels))
    }

    /// Without γ and β in any set.
    pub(crate) fn plain(params: &ParamBuilder, channels: usize, norms: BatchNormMode) -> Self {
        BranchNorm::of(params, norms, |params| BatchNorm::plain(params, channels))
    }

    fn of(params: &ParamBuilder, norms: BatchNormMode, norm: impl Fn(&ParamBuilder) -> BatchNorm) -> Self {
        let sets = match norms {
            BatchNormMode::Single => vec![norm(params)],
            BatchNormMode::Dual => (0..2).map(|set| norm(&params.at(&format!("{LIST}.{set}")))).collect(),
        };
        BranchNorm { sets }
    }

    /// Normalizes `(…, c)` with the set of the pass's branch, then applies the activation.
    ///
    /// # Panics
    /// In training, if there is only one value per channel: it has no variance.
    #[track_caller]
    pub(crate) fn forward(&self, x: &Tensor, activation: Activation, pass: &mut ForwardContext) -> Tensor {
        self.at(pass.bn_branch()).forward(x, activation, pass)
    }

    /// `max(forward(x) + skip, 0)`
    #[track_caller]
    pub(crate) fn forward_add_relu(&self, x: &Tensor, skip: &Tensor, pass: &mut ForwardContext) -> Tensor {
        self.at(pass.bn_branch()).forward_add_relu(x, skip, pass)
    }

    /// The set of a branch; the only one, if there is one.
    pub(crate) fn at(&self, branch: BnBranch) -> &BatchNorm {
        match branch {
            BnBranch::Clean => &self.sets[0],
            BnBranch::Adversarial => self.sets.last().expect("there is a set"),
        }
    }

    /// The set of a branch as the only one, under the name of the layer.
    pub(crate) fn only(&self, branch: BnBranch) -> Self {
        let norm = self.at(branch);
        let name = norm.name().split_once(&format!(".{LIST}.")).map_or(norm.name(), |(layer, _)| layer);
        BranchNorm { sets: vec![norm.renamed(name)] }
    }

    /// Calls `f` with every tensor, set by set.
    pub(crate) fn visit(&self, f: &mut dyn FnMut(&str, Role, &Tensor)) {
        self.sets.iter().for_each(|norm| norm.visit(f));
    }

    /// Calls `f` with every tensor, set by set, to replace it.
    pub(crate) fn visit_mut(&mut self, f: &mut dyn FnMut(&str, Role, &mut Tensor)) {
        self.sets.iter_mut().for_each(|norm| norm.visit_mut(f));
    }
}
