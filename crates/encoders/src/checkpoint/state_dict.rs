//! State dicts: the tensors of a module by name, in PyTorch's layout.

use super::error::{Fault, list};
use super::stored_tensor::{Stored, Tensors};
use crate::module::{Module, Role};
use tarrl_tensor::Tensor;

/// The tensors of a network under their names, in PyTorch's orders.
///
/// Several networks, and the state of an optimizer, may go into one file if their names differ.
pub fn state_dict(module: &dyn Module) -> Tensors {
    let mut tensors = Tensors::new();
    module.visit(&mut |name, role, tensor| {
        let twice = tensors.insert(name.to_string(), Stored::from_tensor(&to_file(role, tensor)));
        assert!(twice.is_none(), "two tensors of one network are called {name}");
    });
    tensors
}

/// Moves the tensors of a network out of `tensors` into it, as constants; the others stay.
///
/// # Errors
/// If one is missing, has another type or shape, or is a negative variance; the network and `tensors` are then as before.
pub fn load_state_dict(module: &mut dyn Module, tensors: &mut Tensors) -> Result<(), Fault> {
    let mut found = Vec::new();
    let mut missing = Vec::new();
    let mut misfit = None;
    module.visit(&mut |name, role, tensor| match tensors.get(name) {
        None => missing.push(name.to_string()),
        Some(stored) => match from_file(role, tensor, stored) {
            Some(value)
                if name.ends_with("running_var") && value.array().to_f64().iter().any(|&v| v < 0.0) =>
            {
                misfit.get_or_insert_with(|| Fault::NegativeVariance(name.to_string()));
            }
            Some(value) => found.push(value),
            None => {
                misfit.get_or_insert_with(|| Fault::Misfit {
                    name: name.to_string(),
                    found: stored.describe(),
                    expected: Stored::from_tensor(&to_file(role, tensor)).describe(),
                });
            }
        },
    });
    if !missing.is_empty() {
        return Err(Fault::Missing(list(missing.iter().map(String::as_str))));
    }
    if let Some(misfit) = misfit {
        return Err(misfit);
    }
    let mut found = found.into_iter();
    module.visit_mut(&mut |name, _, tensor| {
        tensors.remove(name);
        *tensor = found.next().expect("both visits see the same tensors");
    });
    Ok(())
}

/// A tensor of a network in the order of a file.
fn to_file(role: Role, tensor: &Tensor) -> Tensor {
    let tensor = tensor.detach();
    if is_kernel(role, &tensor) { tensor.permute(&[3, 2, 0, 1]) } else { tensor }
}

/// A tensor of a file in the order of the network; `None` if it does not fit in `place`.
fn from_file(role: Role, place: &Tensor, stored: &Stored) -> Option<Tensor> {
    let kernel = is_kernel(role, place);
    let mut shape = place.shape().to_vec();
    if kernel {
        shape = [3, 2, 0, 1].map(|axis| shape[axis]).into();
    }
    let tensor = stored.shape().eq(&shape).then(|| stored.to_tensor(place.device())).flatten()?;
    let tensor = if kernel { tensor.permute(&[2, 3, 1, 0]) } else { tensor };
    (tensor.dtype() == place.dtype()).then_some(tensor)
}

/// `(kh, kw, in, out)` here, `(out, in, kh, kw)` there.
fn is_kernel(role: Role, tensor: &Tensor) -> bool {
    role == Role::Weight && tensor.shape().rank() == 4
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::Values;
    use crate::{Encoder, EncoderConfig};
    use tarrl_tensor::{Key, cpu};

    #[test]
    fn a_negative_variance_is_refused_and_changes_nothing() {
        let config = EncoderConfig { width: 0.02, ..EncoderConfig::default() };
        let mut encoder = Encoder::new(&config, &cpu(), Key::new(1));
        let before = state_dict(&encoder);
        let mut tensors = before.clone();
        let (name, stored) = tensors.iter_mut().find(|(name, _)| name.ends_with("running_var")).unwrap();
        let (name, shape) = (name.clone(), stored.shape().to_vec());
        *stored = Stored::new(&shape, Values::F32(vec![-1e-3; shape[0]]));
        let fault = load_state_dict(&mut encoder, &mut tensors).unwrap_err();
        assert!(matches!(&fault, Fault::NegativeVariance(found) if *found == name), "{fault}");
        assert!(state_dict(&encoder) == before);
    }
}
