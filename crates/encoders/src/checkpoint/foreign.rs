//! Foreign checkpoints: safetensors files of other programs, of which only the tensors of a module are judged.

use super::error::{CheckpointError, Fault};
use super::file::{check_finite, damaged, read};
use super::state_dict::load_state_dict;
use super::stored_tensor::{Stored, Tensors, Values};
use crate::module::Module;
use safetensors::SafeTensors;
use safetensors::tensor::TensorView;
use std::collections::BTreeMap;
use std::path::Path;

/// Parsed tensors by name, of any type and value.
pub(super) type Views<'a> = BTreeMap<String, TensorView<'a>>;

/// An imported network that is probably not the one that was trained.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ImportWarning {
    /// No batch norm has seen a batch, as in a moving average of parameters alone.
    #[error(
        "all running means are 0: the batch norms have seen no image, as in an average of the parameters alone; import \
         the network that was trained, or compute the running statistics before saving"
    )]
    ZeroRunningMeans,
}

/// Passes the tensors of a safetensors file to `load`. Names that safetensors' `save_model` left out, because they share
/// the memory of another tensor, are there again.
pub(super) fn with_views<R>(
    path: &Path,
    load: impl FnOnce(Views<'_>) -> Result<R, Fault>,
) -> Result<R, CheckpointError> {
    let bytes = read(path)?;
    let parse_and_load = || {
        let (_, header) = SafeTensors::read_metadata(&bytes).map_err(damaged)?;
        let file = SafeTensors::deserialize(&bytes).map_err(damaged)?;
        let mut views: Views<'_> = file.iter().map(|(name, view)| (name.to_string(), view)).collect();
        // `save_model` notes `{name that was left out: name that was kept}`.
        for (alias, kept) in header.metadata().iter().flatten() {
            if let (false, Ok(view)) = (views.contains_key(alias), file.tensor(kept)) {
                views.insert(alias.clone(), view);
            }
        }
        load(views)
    };
    parse_and_load().map_err(|fault: Fault| fault.at(path))
}

/// Replaces the tensors of a network by the views under their names; the other views are not looked at. F16 and BF16
/// become F32, which is exact. A count of batches that is lacking, as in files of before PyTorch 0.4.1, is 0: nothing
/// is computed from it.
pub(super) fn load_views(module: &mut dyn Module, views: &Views<'_>) -> Result<Option<ImportWarning>, Fault> {
    let mut names = Vec::new();
    module.visit(&mut |name, _, _| names.push(name.to_string()));
    let mut tensors = Tensors::new();
    for name in names {
        match views.get(&name) {
            Some(view) => tensors.insert(name.clone(), Stored::from_foreign_view(&name, view)?),
            None if is_batch_count(&name) => tensors.insert(name, Stored::new(&[], Values::I64(vec![0]))),
            None => continue,
        };
    }
    check_finite(&tensors)?;
    let mut means = tensors.iter().filter(|(name, _)| name.ends_with(".running_mean")).peekable();
    let untouched = means.peek().is_some() && means.all(|(_, mean)| mean.is_zero());
    load_state_dict(module, &mut tensors)?;
    Ok(untouched.then_some(ImportWarning::ZeroRunningMeans))
}

/// Whether a tensor counts the batches that its batch norm has seen.
pub(super) fn is_batch_count(name: &str) -> bool {
    name.ends_with(".num_batches_tracked")
}
